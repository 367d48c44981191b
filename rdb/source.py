"""Bytes of a snapshot, read in order: numbers and strings, from memory or from a file.

1. Every read is checked against what is there. A length that lies allocates nothing.
2. Bad bytes raise BadFormat, and nothing else.
3. A long compressed string is decompressed in steps: `string` returns None for it, and `expand` does the work.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import BinaryIO

from rdb import lzf
from rdb.crc64 import crc64

BLOCK_BYTES = 1 << 20
LONG_BYTES = 1 << 14  # of compressed bytes; so many are decompressed in a step of about a millisecond
INTEGERS = {0xC0: 1, 0xC1: 2, 0xC2: 4}  # bytes
COMPRESSED = 0xC3
MOST_EXPANSION = 88  # 3 compressed bytes become 264 at most


class BadFormat(Exception):
    """The bytes are not what the format says; the message says why."""


class Source:
    """Bytes in memory, from `start` to `end`, and the position up to which they are read."""

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._position = start
        self._end = len(data) if end is None else end
        self._compressed: tuple[bytes, int] = (b"", 0)

    @property
    def position(self) -> int:
        """The number of bytes that are read."""
        return self._position

    def take(self, size: int) -> bytes:
        """Read `size` bytes."""
        start = self._position
        end = start + size
        if end > self._end:
            self._load(size)
            start = self._position
            end = start + size
        self._position = end
        return self._data[start:end]

    def _load(self, size: int) -> None:
        """Make `size` more bytes available at the position."""
        raise BadFormat("it ends too early")

    def byte(self) -> int:
        """Read a byte."""
        return self.take(1)[0]

    def number(self, size: int) -> int:
        """Read a little-endian number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def milliseconds(self) -> int:
        """Read a time in Unix ms."""
        return int.from_bytes(self.take(8), "little", signed=True)

    def length(self) -> int:
        """Read a length: 6, 14, 32 or 64 bits."""
        first = self.take(1)[0]
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.take(1)[0]
        if first == 0x80:
            return int.from_bytes(self.take(4), "big")
        if first == 0x81:
            return int.from_bytes(self.take(8), "big")
        raise BadFormat(f"byte {first:#04x} begins no length")

    def string(self) -> bytes | None:
        """Read a string. If it is long and compressed, return None: `expand` returns it then."""
        first = self.take(1)[0]
        if first < 0x40:
            return self.take(first)
        if first < 0xC0:
            self._position -= 1
            return self.take(self.length())
        width = INTEGERS.get(first)
        if width is not None:
            return b"%d" % int.from_bytes(self.take(width), "little", signed=True)
        if first != COMPRESSED:
            raise BadFormat(f"byte {first:#04x} begins no string")
        compressed_size, size = self.length(), self.length()
        if size > MOST_EXPANSION * compressed_size:
            raise BadFormat("a compressed string cannot become that long")
        compressed = self.take(compressed_size)
        if compressed_size > LONG_BYTES:
            self._compressed = compressed, size
            return None
        return _decompress(compressed, size)

    def string_size(self) -> int:
        """Return the size that the string here will have."""
        if self._data[self._position : self._position + 1] != bytes((COMPRESSED,)):
            string = self.string()
            return 0 if string is None else len(string)
        self.byte()
        compressed_size, size = self.length(), self.length()
        return min(size, MOST_EXPANSION * compressed_size)

    def expand(self) -> Generator[None, None, bytes]:
        """Decompress the string for which `string` returned None, in steps."""
        (compressed, size), self._compressed = self._compressed, (b"", 0)
        try:
            return (yield from lzf.decompress_in_steps(compressed, size, LONG_BYTES))
        except lzf.Damaged:
            raise _damaged() from None

    def whole_string(self) -> bytes:
        """Read a string of any length at once."""
        string = self.string()
        if string is None:
            compressed, size = self._compressed
            return _decompress(compressed, size)
        return string


class FileSource(Source):
    """Bytes of a file, of which a block is in memory, and their checksum."""

    def __init__(self, file: BinaryIO, size: int, start: int = 0) -> None:
        super().__init__(b"")
        self._file = file
        self._size = size
        self._base = start  # the position in the file of the bytes in memory
        self._checksum = 0
        file.seek(start)

    @property
    def position(self) -> int:
        """The position in the file."""
        return self._base + self._position

    def _load(self, size: int) -> None:
        rest = self._data[self._position :]
        if self.position + size > self._size:
            raise BadFormat("the file ends too early")
        self._checksum = crc64(memoryview(self._data)[: self._position], self._checksum)
        self._base += self._position
        fresh = self._file.read(max(BLOCK_BYTES, size - len(rest)))
        self._data, self._position = rest + fresh, 0
        self._end = len(self._data)
        if self._end < size:
            raise BadFormat("the file became shorter while it was read")

    def checksum(self) -> int:
        """Return the checksum of all bytes that are read."""
        return crc64(memoryview(self._data)[: self._position], self._checksum)


def _decompress(compressed: bytes, size: int) -> bytes:
    try:
        return lzf.decompress(compressed, size)
    except lzf.Damaged:
        raise _damaged() from None


def _damaged() -> BadFormat:
    return BadFormat("a compressed string is damaged")
