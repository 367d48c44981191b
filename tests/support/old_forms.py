"""Packed collections as older versions of Redis wrote them, made from the description of the format.

redis-server 7.0 reads them and writes none, so no server here can make them.
"""

from __future__ import annotations

from collections.abc import Sequence

from rdb.crc64 import crc64


def length(number: int) -> bytes:
    """Return a length in the shortest of its four forms."""
    if number < 64:
        return bytes([number])
    if number < 16384:
        return bytes([0x40 | number >> 8, number & 255])
    if number < 2**32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def string(data: bytes) -> bytes:
    """Return a string with its length."""
    return length(len(data)) + data


def payload(kind: int, body: bytes, version: int = 9) -> bytes:
    """Return a payload for RESTORE, with its checksum."""
    data = bytes([kind]) + body + version.to_bytes(2, "little")
    return data + crc64(data).to_bytes(8, "little")


def snapshot(body: bytes, version: int = 9) -> bytes:
    """Return a whole file; its checksum is there from version 5 on."""
    data = b"REDIS%04d" % version + body + b"\xff"
    return data + (crc64(data).to_bytes(8, "little") if version >= 5 else b"")


def ziplist(elements: Sequence[bytes | int]) -> bytes:
    """Return a ziplist: an int becomes the shortest integer, bytes become a string."""
    body, last, before = b"", 10, 0
    for element in elements:
        last = 10 + len(body)
        entry = bytes([before]) if before < 254 else b"\xfe" + before.to_bytes(4, "little")
        entry += _ziplist_integer(element) if isinstance(element, int) else _ziplist_string(element)
        body, before = body + entry, len(entry)
    size = 10 + len(body) + 1
    count = min(len(elements), 65535)
    return size.to_bytes(4, "little") + last.to_bytes(4, "little") + count.to_bytes(2, "little") + body + b"\xff"


def _ziplist_string(data: bytes) -> bytes:
    if len(data) < 64:
        return bytes([len(data)]) + data
    if len(data) < 16384:
        return bytes([0x40 | len(data) >> 8, len(data) & 255]) + data
    return b"\x80" + len(data).to_bytes(4, "big") + data


def _ziplist_integer(number: int) -> bytes:
    if 0 <= number <= 12:
        return bytes([0xF1 + number])
    for head, width in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -(2 ** (8 * width - 1)) <= number < 2 ** (8 * width - 1):
            return bytes([head]) + number.to_bytes(width, "little", signed=True)
    raise ValueError(number)


def listpack(elements: Sequence[bytes | int]) -> bytes:
    """Return a listpack of strings, and of integers of each width."""
    body = b""
    for element in elements:
        entry = _listpack_integer(element) if isinstance(element, int) else _listpack_string(element)
        size = len(entry)
        behind = [size & 127]
        for most in (127, 16382, 2097150, 268435454):
            if size > most:
                behind.insert(0, size >> 7 * len(behind) & 127)
        body += entry + bytes([behind[0], *[digit | 128 for digit in behind[1:]]])
    size, count = 6 + len(body) + 1, min(len(elements), 65535)
    return size.to_bytes(4, "little") + count.to_bytes(2, "little") + body + b"\xff"


def _listpack_string(data: bytes) -> bytes:
    if len(data) < 64:
        return bytes([0x80 | len(data)]) + data
    if len(data) < 4096:
        return bytes([0xE0 | len(data) >> 8, len(data) & 255]) + data
    return b"\xf0" + len(data).to_bytes(4, "little") + data


def _listpack_integer(number: int) -> bytes:
    if 0 <= number < 128:
        return bytes([number])
    if -4096 <= number < 4096:
        return bytes([0xC0 | (number & 0x1FFF) >> 8, number & 255])
    for head, width in ((0xF1, 2), (0xF2, 3), (0xF3, 4), (0xF4, 8)):
        if -(2 ** (8 * width - 1)) <= number < 2 ** (8 * width - 1):
            return bytes([head]) + number.to_bytes(width, "little", signed=True)
    raise ValueError(number)


def intset(numbers: Sequence[int], width: int) -> bytes:
    """Return an intset of numbers of 2, 4 or 8 bytes."""
    head = width.to_bytes(4, "little") + len(numbers).to_bytes(4, "little")
    return head + b"".join(number.to_bytes(width, "little", signed=True) for number in sorted(numbers))


def zipmap(pairs: Sequence[tuple[bytes, bytes]], unused: int = 0) -> bytes:
    """Return a zipmap with so many unused bytes behind each value."""
    body = bytes([min(len(pairs), 254)])
    for field, value in pairs:
        body += _zipmap_length(field) + field
        body += _zipmap_length(value) + bytes([unused]) + value + b"?" * unused
    return body + b"\xff"


def _zipmap_length(data: bytes) -> bytes:
    return bytes([len(data)]) if len(data) < 254 else b"\xfe" + len(data).to_bytes(4, "little")


def compressed(data: bytes) -> bytes:
    """Return a string compressed with LZF, by the simplest search for repetitions."""
    out = lzf(data)
    return b"\xc3" + length(len(out)) + length(len(data)) + out


def lzf(data: bytes) -> bytes:
    """Compress with LZF."""
    seen: dict[bytes, int] = {}
    out, literals, place = bytearray(), bytearray(), 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            part = literals[start : start + 32]
            out.extend([len(part) - 1, *part])
        literals.clear()

    while place < len(data):
        head = data[place : place + 3]
        origin = seen.get(head, -1)
        seen[head] = place
        distance = place - origin - 1
        if origin < 0 or len(head) < 3 or distance >= 8192:
            literals.append(data[place])
            place += 1
            continue
        size = 3
        while size < 264 and place + size < len(data) and data[origin + size] == data[place + size]:
            size += 1
        flush()
        code = size - 2
        if code < 7:
            out.extend([code << 5 | distance >> 8, distance & 255])
        else:
            out.extend([7 << 5 | distance >> 8, code - 7, distance & 255])
        place += size
    flush()
    return bytes(out)
