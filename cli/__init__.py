"""The command line, and the commands of `godis.py` that do not serve: ping, check, export."""
