"""HyperLogLogs, in both of Redis's representations.

Nothing is written behind a head. A PFADD that finds the runs of a sparse one corrupt is an error, and changes nothing
here; redis-server then keeps what it did up to that element.
"""

from __future__ import annotations

from random import Random

from comparing import Compare

from grammars import Slot, words

GRAMMAR = """
PFADD key element
PFADD key element
PFADD key element+
PFADD key element+
PFADD key
PFADD key many
PFADD key many
PFADD key thousands
PFCOUNT key
PFCOUNT key
PFCOUNT key key+
PFMERGE key key+
PFMERGE key key
PFMERGE key
GET key
GET key
STRLEN key
GETRANGE key place place
SET key head
SETRANGE key place byte
COPY key key REPLACE
RENAME key key
DEL key
"""


def _elements(least: int, most: int) -> Slot:
    def slot(random: Random) -> list[bytes]:
        first = random.randrange(100_000)
        return [b"element%d" % number for number in range(first, first + random.randint(least, most))]

    return slot


SLOTS: dict[str, Slot] = {
    "element": [*words("a|b|c|d||1|2|12345678|123456789012345|\x00"), b"x" * 7, b"y" * 100, b"z" * 300],
    "many": _elements(10, 150),
    "thousands": _elements(1500, 1900),
    "value": [b""],  # for APPEND
    "place": words("0|1|4|8|14|15"),
    "byte": words("\x00|\x01|\x80|H"),
    "head": [
        b"HYLL\x01\0\0\0" + bytes(8) + b"\x7f\xff",
        b"HYLL\x00\0\0\0" + bytes(8 + 12288),
        b"HYLL\x02\0\0\0" + bytes(8) + b"\x7f\xff",
        b"HYLL\x01\0\0\0" + bytes(7),
        b"not one",
    ],
}

LENIENT: dict[bytes, tuple[Compare, str]] = {}
REPEATS = {b"SETRANGE"}
NEVER_SPOILT = {b"SETRANGE", b"APPEND"}
