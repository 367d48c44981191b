"""DUMP and RESTORE, with payloads of every type that the program has."""

from __future__ import annotations

from struct import pack

import old_forms
from comparing import same_shape

from grammars import FAMILIES, words

PAYLOADS = {
    "strings": [
        old_forms.payload(0, old_forms.string(b"text")),
        old_forms.payload(0, b"\xc1\x00\x80", 10),
        old_forms.payload(0, old_forms.compressed(b"ab" * 3000), 6),
    ],
    "lists": [old_forms.payload(10, old_forms.string(old_forms.ziplist([b"x", 5, b"y" * 70])))],
    "sets": [
        old_forms.payload(11, old_forms.string(old_forms.intset([-3, 70_000], 4))),
        old_forms.payload(2, old_forms.length(2) + old_forms.string(b"x") + old_forms.string(b"y")),
    ],
    "sorted_sets": [old_forms.payload(5, old_forms.length(1) + old_forms.string(b"a") + pack("<d", 2.5))],
    "streams": [
        old_forms.payload(
            15,
            old_forms.length(1)
            + old_forms.string((1000).to_bytes(8, "big") + (5).to_bytes(8, "big"))
            + old_forms.string(old_forms.listpack([2, 0, 1, b"f", 0, 2, 0, 0, b"v", 4, 2, 7, 0, b"w", 4]))
            + b"".join(map(old_forms.length, (2, 1007, 5, 1)))
            + old_forms.string(b"g")
            + b"".join(map(old_forms.length, (1000, 5, 0, 0))),
            9,
        )
    ],
    "hashes": [old_forms.payload(16, old_forms.string(old_forms.listpack([b"f", b"v", b"5", b"w"])))],
}
GOOD = [payload for family, payloads in PAYLOADS.items() if family in FAMILIES for payload in payloads]
BAD = [
    b"",
    b"junk",
    GOOD[0][:-1] + b"?",
    old_forms.payload(0, old_forms.string(b"text"), 99),
    old_forms.payload(8, old_forms.string(b"text")),
    old_forms.payload(0, b"\x3ftext"),
    old_forms.payload(1, old_forms.length(0)),
    old_forms.payload(1, old_forms.length(60) + old_forms.string(b"x")),
    old_forms.payload(14, b"\x81" + b"\x7f" * 8),
    old_forms.payload(11, old_forms.string(b"\xff" * 16)),
]

GRAMMAR = """
DUMP key
DUMP nokey
RESTORE key 0 payload
RESTORE key 0 payload REPLACE
RESTORE key life payload REPLACE restore_option*
RESTORE key at_ms payload ABSTTL REPLACE
RESTORE key 0 payload restore_option*
RESTORE key ttl payload restore_option*
RESTORE key 0 bad restore_option*
"""
SLOTS = {
    "payload": GOOD,
    "bad": BAD,
    "ttl": words("0|-1|abc||1.5|100000000000|4611686018427387904|9223372036854775808"),  # Redis lets a sum overflow
    "at_ms": words("4000000000000|4000000000001|1600000000000|0|-1|abc"),
    "life": lambda random: b"%d" % random.randrange(10**8, 10**11),
    "restore_option": words("REPLACE|ABSTTL|IDLETIME 100|FREQ 5|IDLETIME ttl|FREQ count|replace|idletime|junk"),
}
LENIENT = {
    b"DUMP": (same_shape, "Redis compresses, and chooses other forms"),
    b"OBJECT ENCODING": (same_shape, "a small set is a listpack, as since Redis 7.2"),
}
REPEATS = {b"RESTORE"}
