"""The rooms behind `store.py`: the order of keys, expiry, memory and access accounting, eviction, key locks, views."""
