"""The parts of `store.py`: key order, expiry, accounting of access and memory, eviction, key locks, views, listeners.

Who waits for keys, and who has subscribed to channels, is kept here, too.
"""
