"""The parts of `store.py`: key order, expiry, accounting of access and memory, eviction, key locks, views."""
