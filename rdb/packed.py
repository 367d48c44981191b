"""The packed forms in which Redis keeps small collections: a ziplist, listpack, intset or zipmap is one string.

1. Each function yields the elements as strings; an integer in its decimal form.
2. Every function raises BadFormat unless the string is exactly one whole packed collection. It may yield elements
   before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rdb.primitives import backward_bytes
from rdb.source import BadFormat

END = 0xFF
UNKNOWN_COUNT = 0xFFFF


def ziplist(data: bytes) -> Iterator[bytes]:
    """Yield the elements of a ziplist (Redis up to 6)."""
    return _checked(data, "ziplist", _ziplist)


def listpack(data: bytes) -> Iterator[bytes]:
    """Yield the elements of a listpack (Redis 7, and streams)."""
    return _checked(data, "listpack", _listpack)


def intset(data: bytes) -> Iterator[bytes]:
    """Yield the members of an intset."""
    return _checked(data, "intset", _intset)


def zipmap(data: bytes) -> Iterator[bytes]:
    """Yield the fields and values of a zipmap (Redis up to 2.4), by turns."""
    return _checked(data, "zipmap", _zipmap)


def _checked(data: bytes, name: str, elements: Callable[[bytes], Iterator[bytes]]) -> Iterator[bytes]:
    try:
        yield from elements(data)
    except (IndexError, ValueError):
        raise BadFormat(f"a {name} is damaged") from None


def _little(data: bytes, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "little", signed=True)


def _require(condition: bool) -> None:
    """Raise ValueError unless a condition holds."""
    if not condition:
        raise ValueError


def _listpack(data: bytes) -> Iterator[bytes]:
    size, expected = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:6], "little")
    _require(size == len(data) and size >= 7 and data[-1] == END)
    count, position, end = 0, 6, size - 1
    while position < end:
        start = position
        head = data[position]
        if head < 0x80:
            element = b"%d" % head
            position += 1
        elif head < 0xC0:
            position += 1 + (head & 0x3F)
            element = data[start + 1 : position]
        elif head < 0xE0:
            number = (head & 0x1F) << 8 | data[position + 1]
            element = b"%d" % (number - (1 << 13) if number >> 12 else number)
            position += 2
        elif head < 0xF0:
            position += 2 + ((head & 0x0F) << 8 | data[position + 1])
            element = data[start + 2 : position]
        elif head == 0xF0:
            position += 5 + int.from_bytes(data[position + 1 : position + 5], "little")
            element = data[start + 5 : position]
        elif head <= 0xF4:
            width = (2, 3, 4, 8)[head - 0xF1]
            element = b"%d" % _little(data, start + 1, width)
            position += 1 + width
        else:
            raise ValueError
        position += backward_bytes(position - start)
        _require(position <= end)
        count += 1
        yield element
    _require(position == end and expected in (count, UNKNOWN_COUNT))


def _ziplist(data: bytes) -> Iterator[bytes]:
    size, expected = int.from_bytes(data[:4], "little"), int.from_bytes(data[8:10], "little")
    _require(size == len(data) and size >= 11 and data[-1] == END)
    count, position, end = 0, 10, size - 1
    while position < end:
        position += 1 if data[position] < 254 else 5  # the length of the element before
        head = data[position]
        kind = head >> 6
        position += 1
        if kind == 3:
            width = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}.get(head)
            if width is not None:
                element = b"%d" % _little(data, position, width)
                position += width
            else:
                _require(0xF1 <= head <= 0xFD)
                element = b"%d" % (head - 0xF1)
        else:
            length = head & 0x3F
            if kind == 1:
                length = length << 8 | data[position]
                position += 1
            elif kind == 2:
                length = int.from_bytes(data[position : position + 4], "big")
                position += 4
            element = data[position : position + length]
            position += length
        _require(position <= end)
        count += 1
        yield element
    _require(position == end and expected in (count, UNKNOWN_COUNT))


def _intset(data: bytes) -> Iterator[bytes]:
    width, count = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    _require(width in (2, 4, 8) and len(data) == 8 + width * count)
    for start in range(8, len(data), width):
        yield b"%d" % _little(data, start, width)


def _zipmap(data: bytes) -> Iterator[bytes]:
    position, is_value = 1, False  # the first byte counts the fields, if they are few
    while data[position] != END:
        length = data[position]
        position += 1
        if length == 254:
            length = int.from_bytes(data[position : position + 4], "little")
            position += 4
        unused = data[position] if is_value else 0
        position += is_value
        _require(position + length + unused < len(data))
        yield data[position : position + length]
        position += length + unused
        is_value = not is_value
    _require(position == len(data) - 1 and not is_value)
