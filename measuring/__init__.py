"""What the server did, for those who operate it: counts and times of commands, the slow log, latency, monitors.

The folder knows no commands, sessions or sockets. The engine measures, and the network measures its own steps. What
nobody asked for costs nothing but the counts and times of commands, which are always kept.
"""
