"""The network: listeners, connections, the turn of the event loop, and what waits for it.

Only this folder, `cli.ping` and the pool import gevent and sockets.
"""
