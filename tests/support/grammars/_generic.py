"""What is mixed into the commands of every family: wrong types, ends of keys, other names, other databases."""

from __future__ import annotations

from comparing import close_in_ms, close_in_seconds, same_items, same_shape

GRAMMAR = """
GET key
DEL key
DEL key+
UNLINK key
EXISTS key+
TOUCH key
TYPE key
TTL key
PTTL key
PEXPIRETIME key
EXPIRE key seconds expire_option*
PEXPIRE key ms
PEXPIREAT key at_ms XX
PERSIST key
PERSIST key
RENAME key key
RENAME key key
RENAMENX key key
COPY key key copy_option*
COPY key key REPLACE
OBJECT object key
OBJECT ENCODING key
KEYS pattern
SCAN cursor scan_option*
RANDOMKEY
DBSIZE
"""
# One generic command in six is one of these, or makes a value of another type.
RARE = """
SET key value
SET key number
SET key value PX ms
APPEND key value
MOVE key db
SELECT db
SELECT 0
SELECT 0
FLUSHDB flush?
SWAPDB db db
MEMORY USAGE nokey
"""
# A value of each type, for the families of the others.
OTHER_TYPES = [
    ("lists", "RPUSH key value+"),
    ("hashes", "HSET key value value"),
    ("sets", "SADD key value+"),
    ("sorted_sets", "ZADD key number value"),
    ("streams", "XADD key 1-* value value"),
]
LENIENT = {
    b"KEYS": (same_items, "no order is promised"),
    b"SCAN": (same_items, "no order is promised; both are collected from cursor 0 to 0"),
    b"RANDOMKEY": (same_shape, "chance"),
    b"TTL": (close_in_seconds, "the clock goes on between the two"),
    b"EXPIRETIME": (close_in_seconds, "the clock goes on between the two"),
    b"PTTL": (close_in_ms, "the clock goes on between the two"),
    b"PEXPIRETIME": (close_in_ms, "the clock goes on between the two"),
    b"OBJECT ENCODING": (same_shape, "ours follows from the value, Redis's also from how it came to be"),
    b"OBJECT REFCOUNT": (same_shape, "Redis shares small integers"),
    b"OBJECT IDLETIME": (same_shape, "ours notes uses from the first such question on"),
    b"MEMORY USAGE": (same_shape, "the memory of each"),
}
STORES = ("SINTER", "SUNION", "SDIFF", "ZINTER", "ZUNION", "ZDIFF", "ZRANGE", "GEOSEARCH")
REPEATS = set(b"SET MSET HSET HMSET RENAME COPY EXPIRE PEXPIRE EXPIREAT PEXPIREAT SORT GEORADIUS RESTORE".split())
REPEATS |= {f"{name}STORE".encode() for name in STORES}
