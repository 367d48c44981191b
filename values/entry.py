"""The layout of an entry: one object that holds a key's value and its deadline.

1. Only this module knows the layout. Code that reads or makes an entry calls it, or does so inline and says why.
2. A short string is followed by its deadline, in the same `bytes`. Long strings and other types are in a tuple.

    bytes    b"hello" + b"........"    a string, then its deadline: 8 bytes of Unix ms, signed, big-endian
    tuple    (value, deadline_ms)      a string of LONG_BYTES or more, or a value of another type

The price is a copy: 40 ns of a GET, which removes the tail, and almost nothing of a SET. A long string is not copied,
because the copy would cost more than its tuple.

(Refused: a dict of deadlines. It costs 42 bytes a key and a second search, with a cache miss: 0.3 µs of a SET among
100 000 keys. A tuple for each string: 64 bytes more a key, and one more object for the garbage collector to traverse.)
"""

from __future__ import annotations

from typing import Any, Union

Entry = Union[bytes, "tuple[Any, int]"]

NO_DEADLINE = -1
TAIL_BYTES = 8
VALUE, TAIL = slice(-TAIL_BYTES), slice(-TAIL_BYTES, None)  # made once, because a GET makes a slice in 40 ns
LONG_BYTES = 4096


def tail(deadline_ms: int) -> bytes:
    """Return the 8 bytes that follow a string with this deadline, or NO_DEADLINE."""
    return deadline_ms.to_bytes(TAIL_BYTES, "big", signed=True)


def entry_of(value: Any, deadline_ms: int) -> Entry:
    """Return the entry of a value and its deadline, or NO_DEADLINE."""
    if type(value) is bytes and len(value) < LONG_BYTES:
        return value + tail(deadline_ms)
    return value, deadline_ms


def value_of(entry: Entry) -> Any:
    """Return the value of an entry."""
    return entry[VALUE] if type(entry) is bytes else entry[0]


def deadline_of(entry: Entry | None) -> int:
    """Return the deadline of an entry; NO_DEADLINE if it has none, or if there is no entry."""
    if type(entry) is bytes:
        return int.from_bytes(entry[TAIL], "big", signed=True)
    return NO_DEADLINE if entry is None else entry[1]
