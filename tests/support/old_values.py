"""A value of every type and encoding, by hand, and the commands as which it is read."""

from __future__ import annotations

from struct import pack

import old_forms
from old_forms import compressed, length, string

WIDE = [7, -300, 70_000, 2**40]
NODE = old_forms.listpack(
    [
        *(3, 1, 2, b"f", b"g", 0),  # three entries, one deleted, two fields
        *(2, 0, 0, b"1", b"2", 5),  # the same fields
        *(3, 0, 1, b"3", b"4", 5),  # deleted
        *(0, 1, -1, 1, b"h", b"5", 6),  # other fields; a smaller number in a later millisecond
        *(2, 2, 0, b"6", b"7", 5),
    ]
)
NODE_ID = (1000).to_bytes(8, "big") + (5).to_bytes(8, "big")
RAW_ID = (1001).to_bytes(8, "big") + (4).to_bytes(8, "big")
ENTRIES = length(1) + string(NODE_ID) + string(NODE) + length(3) + length(1003) + length(0)
OLD_GROUP = string(b"g") + length(1001) + length(4)
PENDING = length(1) + RAW_ID + pack("<q", 99) + length(2)
OLD_CONSUMER = string(b"c") + pack("<q", 98)
ADDED = [[b"XADD", b"k", *entry] for entry in (
    [b"1000-5", b"f", b"1", b"g", b"2"], [b"1001-4", b"h", b"5"], [b"1002-5", b"f", b"6", b"g", b"7"],
)]  # fmt: skip
CLAIM = [b"XCLAIM", b"k", b"g", b"c", b"0", b"1001-4", b"TIME", b"99", b"RETRYCOUNT", b"2", b"FORCE", b"JUSTID"]


def stream(added: int, deleted: bytes, *read: bytes) -> list[list[bytes]]:
    """Return the commands of the stream above."""
    return [
        *ADDED,
        [b"XSETID", b"k", b"1003-0", b"ENTRIESADDED", b"%d" % added, b"MAXDELETEDID", deleted],
        [b"XGROUP", b"CREATE", b"k", b"g", b"1001-4", *read],
        [b"XGROUP", b"CREATECONSUMER", b"k", b"g", b"c"],
        CLAIM,
    ]


NEW_IDS = length(1000) + length(5) + length(1000) + length(6) + length(9)  # first, greatest deleted, ever added
# type, value -> its commands; redis-server 7.0 knows all types but the marked ones
HAND_MADE: list[tuple[int, bytes, list[list[bytes]]]] = [
    (0, string(b"text"), [[b"SET", b"k", b"text"]]),
    (0, b"\xc0\xff", [[b"SET", b"k", b"-1"]]),
    (0, b"\xc1\x00\x80", [[b"SET", b"k", b"-32768"]]),
    (0, b"\xc2\xff\xff\xff\x7f", [[b"SET", b"k", b"2147483647"]]),
    (0, compressed(b"ab" * 500), [[b"SET", b"k", b"ab" * 500]]),
    (1, length(2) + string(b"x") + b"\xc0\x05", [[b"RPUSH", b"k", b"x", b"5"]]),
    (2, length(2) + string(b"x") + string(b"y"), [[b"SADD", b"k", b"x", b"y"]]),
    (
        3,
        length(4) + string(b"a") + b"\x031.5" + string(b"b") + b"\xfe"
        + string(b"c") + b"\xff" + string(b"d") + b"\x013",
        [[b"ZADD", b"k", b"1.5", b"a", b"inf", b"b", b"-inf", b"c", b"3", b"d"]],
    ),
    (4, length(1) + string(b"f") + string(b"v"), [[b"HSET", b"k", b"f", b"v"]]),
    (
        5,
        length(2) + string(b"a") + pack("<d", -2.5) + string(b"b") + pack("<d", 1e300),
        [[b"ZADD", b"k", b"-2.5", b"a", b"1e+300", b"b"]],
    ),
    (
        9,
        string(old_forms.zipmap([(b"f", b"v" * 260), (b"g", b"")], unused=2)),
        [[b"HSET", b"k", b"f", b"v" * 260, b"g", b""]],
    ),
    (10, string(old_forms.ziplist([b"x", *WIDE])), [[b"RPUSH", b"k", b"x", *[b"%d" % number for number in WIDE]]]),
    (11, string(old_forms.intset([-3, 70_000], 4)), [[b"SADD", b"k", b"-3", b"70000"]]),
    (12, string(old_forms.ziplist([b"a", 1, b"b", b"2.5"])), [[b"ZADD", b"k", b"1", b"a", b"2.5", b"b"]]),
    (13, string(old_forms.ziplist([b"f", b"v", b"g", 12])), [[b"HSET", b"k", b"f", b"v", b"g", b"12"]]),
    (
        14,
        length(2) + string(old_forms.ziplist([b"x", 1])) + compressed(old_forms.ziplist([b"ab" * 300])),
        [[b"RPUSH", b"k", b"x", b"1", b"ab" * 300]],
    ),
    (15, ENTRIES + length(1) + OLD_GROUP + PENDING + length(1) + OLD_CONSUMER + length(1) + RAW_ID, stream(3, b"0-0")),
    (16, string(old_forms.listpack([b"f", b"v", b"g", -4096])), [[b"HSET", b"k", b"f", b"v", b"g", b"-4096"]]),
    (17, string(old_forms.listpack([b"b", b"-inf", b"a", 1])), [[b"ZADD", b"k", b"-inf", b"b", b"1", b"a"]]),
    (
        18,
        length(2) + length(2) + string(old_forms.listpack([b"x", 2**40])) + length(1) + string(b"plain"),
        [[b"RPUSH", b"k", b"x", b"1099511627776", b"plain"]],
    ),
    (
        19,
        ENTRIES + NEW_IDS + length(1) + OLD_GROUP + length(7) + PENDING + length(1) + OLD_CONSUMER + length(1) + RAW_ID,
        stream(9, b"1000-6", b"ENTRIESREAD", b"7"),
    ),
]  # fmt: skip
# of Redis 7.2 and 7.4
NEWER: list[tuple[int, bytes, list[list[bytes]]]] = [
    (20, string(old_forms.listpack([b"x", 5])), [[b"SADD", b"k", b"x", b"5"]]),
    (
        21,
        ENTRIES + NEW_IDS + length(1) + OLD_GROUP + length(2**64 - 1) + PENDING
        + length(1) + OLD_CONSUMER + pack("<q", 97) + length(1) + RAW_ID,
        stream(9, b"1000-6"),
    ),
    (
        24,
        pack("<q", 5000) + length(3) + length(1) + string(b"f") + string(b"v") + length(0) + string(b"g") + string(b"w")
        + length(101) + string(b"h") + string(b"x"),
        [
            [b"HSET", b"k", b"f", b"v", b"g", b"w", b"h", b"x"],
            [b"HPEXPIREAT", b"k", b"5000", b"FIELDS", b"1", b"f"],
            [b"HPEXPIREAT", b"k", b"5100", b"FIELDS", b"1", b"h"],
        ],
    ),
    (
        25,
        pack("<q", 5000) + string(old_forms.listpack([b"f", b"v", 5000, b"g", 7, 0])),
        [[b"HSET", b"k", b"f", b"v", b"g", b"7"], [b"HPEXPIREAT", b"k", b"5000", b"FIELDS", b"1", b"f"]],
    ),
]  # fmt: skip
