"""The layout of an entry: how a key's value and its deadline are held together.

It owns this layout and nothing else; whoever reads or makes an entry asks here, or says that it is inline and why.

    bytes    b"hello" + b"........"    a string, and behind it its deadline: 8 bytes of Unix ms, signed, big-endian
    tuple    (value, deadline_ms)      a string of LONG_BYTES or more, or a value of another type

One object a key, where a deadline in a dict of its own costs 42 bytes and a second search, which is waiting for memory:
0.3 µs of a SET among 100 000 keys. What it costs is a copy: 40 ns of a GET, which takes the tail off, and about nothing
of a SET. A long string is held as it is, since to copy it would cost more than its tuple.

(Refused: a tuple for each string: 64 bytes more a key, and each a thing that the collector of cycles looks at.)
"""

from __future__ import annotations

from typing import Any, Union

Entry = Union[bytes, "tuple[Any, int]"]

NO_DEADLINE = -1
TAIL_BYTES = 8
LONG_BYTES = 4096


def tail(deadline_ms: int) -> bytes:
    """Return what stands behind a string that ends then, or at NO_DEADLINE."""
    return deadline_ms.to_bytes(TAIL_BYTES, "big", signed=True)


def entry_of(value: Any, deadline_ms: int) -> Entry:
    """Hold a value and its deadline, or NO_DEADLINE, together."""
    if type(value) is bytes and len(value) < LONG_BYTES:
        return value + tail(deadline_ms)
    return value, deadline_ms


def value_of(entry: Entry) -> Any:
    """Return the value of an entry."""
    return entry[:-TAIL_BYTES] if type(entry) is bytes else entry[0]


def deadline_of(entry: Entry | None) -> int:
    """Return the deadline of an entry; NO_DEADLINE if it has none, or if there is no entry."""
    if type(entry) is bytes:
        return int.from_bytes(entry[-TAIL_BYTES:], "big", signed=True)
    return NO_DEADLINE if entry is None else entry[1]
