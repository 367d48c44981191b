"""Hashes."""

from __future__ import annotations

from random import Random

from comparing import each_close_in_ms, each_close_in_seconds, same_items, same_pairs, same_shape

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
! HSCAN key 0 NOVALUES hscan_option*
! HSCAN key hash_cursor novalues_option*
! HEXPIRE key short_seconds fields_option
! HEXPIRE key short_seconds condition fields_option
! HPEXPIRE key short_ms fields_option
! HPEXPIRE key short_ms fields_option
! HPEXPIRE key short_ms condition fields_option
! HPEXPIRE key short_ms numbered
! HPEXPIRE key short_ms numbered
! HEXPIREAT key at_seconds fields_option
! HPEXPIREAT key at_ms fields_option
! HPEXPIREAT key at_ms condition numbered
! HPERSIST key fields_option
! HPERSIST key numbered
! HTTL key fields_option
! HPTTL key fields_option
! HEXPIRETIME key fields_option
! HPEXPIRETIME key numbered
! HGETDEL key fields_option
! HGETDEL key numbered
! HGETEX key fields_option
! HGETEX key PX short_ms fields_option
! HGETEX key hgetex_option fields_option
! HSETEX key items_option
! HSETEX key PX short_ms items_option
! HSETEX key hsetex_option* items_option
"""

OFTEN = """
HSET key one value one value one value
HSET key one number
HSET key many
HGET key one
HMGET key one one
HSTRLEN key one
HEXISTS key one
HDEL key one
HDEL key one one
HINCRBY key counter small
HINCRBYFLOAT key counter small
HRANDFIELD key 3 WITHVALUES
HGETALL key
"""


def numbered(random: Random) -> list[bytes]:
    """Make up FIELDS, a number, and so many fields."""
    numbers = random.sample(range(400), random.randint(1, 200))
    return [b"FIELDS", b"%d" % len(numbers), *(b"field%d" % number for number in numbers)]


SLOTS: dict[str, Slot] = {
    "one": words("a|b|c|d|e|1|2|3"),
    "counter": words("n|m"),
    "small": words("1|-2|30|100"),
    "field": [*words("f|g|h||1|2|-3|a b|\x00\xff\r\n|hello"), b"x" * 64, b"x" * 65],
    "many": make_many("field", 200, pair="value"),
    "fields": make_many("field", 200),
    "random_count": words(
        "0|1|2|3|-1|-3|100|-100|1000|9223372036854775807|-9223372036854775808|9223372036854775808|abc|"
        "4611686018427387904"
    ),
    "hash_cursor": words("0|0|0|0|abc||1.5"),
    "numbered": numbered,
    "short_seconds": words("1|2|2|100000|0|-1|abc|9223372036854775807"),
    "short_ms": words("1|500|1500|60000|100000000|0|-5|abc"),
    "condition": words("NX|XX|GT|LT|nx|junk"),
    "fields_option": words(
        "FIELDS 1 field|FIELDS 2 field field|FIELDS 3 field field field|FIELDS 1 field field|FIELDS 0 field|field|"
        "fields 1 field|FIELDS x field"
    ),
    "items_option": words(
        "FIELDS 1 field value|FIELDS 2 field value field value|FIELDS 1 field number|FIELDS 2 field value|field value|"
        "FIELDS x field value|FIELDS 1 field"
    ),
    "hgetex_option": words("EX short_seconds|PX short_ms|EXAT at_seconds|PXAT at_ms|PERSIST|PERSIST|junk|EX"),
    "hsetex_option": words(
        "EX short_seconds|PX short_ms|EXAT at_seconds|PXAT at_ms|KEEPTTL|KEEPTTL|FNX|FXX|fnx|PX|junk"
    ),
    "novalues_option": words("NOVALUES|novalues|MATCH pattern|COUNT 2000|COUNT"),
    "hscan_option": words("MATCH pattern|COUNT count|COUNT 2000|MATCH|TYPE hash|junk"),
}
LENIENT = {
    b"HGETALL": (same_pairs, "no order is promised"),
    b"HKEYS": (same_items, "no order is promised"),
    b"HVALS": (same_items, "no order is promised"),
    b"HRANDFIELD": (same_shape, "chance"),
    b"HTTL": (each_close_in_seconds, "the clock goes on between the two"),
    b"HEXPIRETIME": (each_close_in_seconds, "the clock goes on between the two"),
    b"HPTTL": (each_close_in_ms, "the clock goes on between the two"),
    b"HPEXPIRETIME": (each_close_in_ms, "the clock goes on between the two"),
}
REPEATS = [b"HSET", b"HMSET", b"HSETEX", b"HEXPIRE", b"HPEXPIRE", b"HEXPIREAT", b"HPEXPIREAT", b"HGETEX"]
