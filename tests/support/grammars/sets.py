"""Sets."""

from __future__ import annotations

from random import Random

from comparing import same_items, same_length, same_shape, settle_pop

from grammars import Slot, make_many, words

GRAMMAR = """
SADD key member
SADD key member+
SADD key member+
SADD key member+
SADD key number+
SADD key many
SADD key many
SADD key integers
SREM key member
SREM key member+
SREM key many
SREM key many
SREM key integers
SMOVE key key member
SMOVE key key member
SISMEMBER key member
SMISMEMBER key member+
SMISMEMBER key many
SCARD key
SMEMBERS key
SMEMBERS key
SPOP key
SPOP key
SPOP key pop_count
SRANDMEMBER key
SRANDMEMBER key random_count
SINTER key+
SINTER key key
SUNION key+
SUNION key key
SDIFF key+
SDIFF key key
SINTERSTORE key key+
SINTERSTORE key key key
SUNIONSTORE key key+
SDIFFSTORE key key+
SDIFFSTORE key key key
SINTERCARD 1 key limit_option*
SINTERCARD 2 key key
SINTERCARD 2 key key limit_option*
SINTERCARD numkeys key+ limit_option*
SSCAN key set_cursor sscan_option*
SSCAN key 0 COUNT count
"""


def integers(random: Random) -> list[bytes]:
    """Make up many integers, for an intset."""
    return [b"%d" % random.randrange(-2000, 2000) for _ in range(random.randint(2, 700))]


OFTEN = """
SADD key one one one one
SADD key one one one
SADD key integers
SADD key many
SREM key one
SREM key one one
SMOVE key key one
SISMEMBER key one
SMISMEMBER key one one
SINTER key key
SINTERCARD 2 key key
SINTERSTORE key key key
SDIFF key key
SRANDMEMBER key 5
SPOP key
SPOP key 3
SMEMBERS key
"""
SLOTS: dict[str, Slot] = {
    "one": words("a|b|c|d|e|1|2|3"),
    "member": [*words("a|b|c|d||1|2|-3|007|9223372036854775807|a b|\x00\xff\r\n|hello"), b"x" * 64, b"x" * 65],
    "many": make_many("member", 400),
    "integers": integers,
    "pop_count": words("0|1|2|3|100|1000|9223372036854775807|-1|abc|9223372036854775808"),
    "random_count": words("0|1|2|3|-1|-3|100|-100|2000|-9223372036854775808|9223372036854775808|abc"),
    "limit_option": words("LIMIT limit|limit|LIMIT|junk"),
    "limit": words("0|1|2|100|-1|abc|9223372036854775807"),
    "numkeys": words("1|2|3|0|-1|4|abc|9223372036854775807"),
    "set_cursor": words("0|0|0|0|abc||1.5"),
    "sscan_option": words("MATCH pattern|COUNT count|COUNT 2000|MATCH|TYPE set|junk"),
}
LENIENT = {
    **dict.fromkeys((b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF"), (same_items, "no order is promised")),
    b"SPOP": (same_length, "chance"),
    b"SRANDMEMBER": (same_shape, "chance"),
}
SETTLES = {b"SPOP": settle_pop}
REPEATS = [b"SUNIONSTORE", b"SINTERSTORE", b"SDIFFSTORE"]
