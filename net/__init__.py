"""The network: listeners, connections, the turn of the event loop, its log and its long work.

Only this folder, `cli.ping` and the pool import gevent and sockets.
"""
