"""Hashes."""

from __future__ import annotations

from comparing import same_items, same_pairs, same_shape

from grammars import Slot, make_many, words

GRAMMAR = """
HSET key field value
HSET key field value
HSET key field number
HSET key field value field value
HSET key field value field value field number
HSET key field value field
HSET key many
HSET key many
HMSET key field value field value
HMSET key field value field
HSETNX key field value
HGET key field
HMGET key field+
HMGET key fields
HGETALL key
HGETALL key
HKEYS key
HVALS key
HLEN key
HSTRLEN key field
HEXISTS key field
HDEL key field
HDEL key field+
HDEL key fields
HDEL key fields
HINCRBY key field number
HINCRBY key field number
HINCRBYFLOAT key field float
HINCRBYFLOAT key field float
HRANDFIELD key
HRANDFIELD key random_count
HRANDFIELD key random_count WITHVALUES
HRANDFIELD key random_count junk
HSCAN key hash_cursor hscan_option*
HSCAN key 0 COUNT count
"""

SLOTS: dict[str, Slot] = {
    "field": [*words("f|g|h||1|2|-3|a b|\x00\xff\r\n|hello"), b"x" * 64, b"x" * 65],
    "many": make_many("field", 200, pair="value"),
    "fields": make_many("field", 200),
    "random_count": words(
        "0|1|2|3|-1|-3|100|-100|1000|9223372036854775807|-9223372036854775808|9223372036854775808|abc|"
        "4611686018427387904"
    ),
    "hash_cursor": words("0|0|0|0|abc||1.5"),
    "hscan_option": words("MATCH pattern|COUNT count|COUNT 2000|MATCH|TYPE hash|junk"),
}
LENIENT = {
    b"HGETALL": (same_pairs, "no order is promised"),
    b"HKEYS": (same_items, "no order is promised"),
    b"HVALS": (same_items, "no order is promised"),
    b"HRANDFIELD": (same_shape, "chance"),
}
REPEATS = [b"HSET", b"HMSET"]
