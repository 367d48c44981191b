"""The second form of the type string: a long string in chunks, so that a part of it is written without a copy of all.

1. A string is `bytes` until a command writes a part of it (SETBIT, SETRANGE, APPEND, BITFIELD) and it is then longer
   than CHUNK_BYTES. From then on it is a `LongString`, until a SET replaces it. Nothing turns it back into `bytes`.
2. Copies share their chunks. A string writes in place only the chunks that it owns, and copies another one first. So a
   copy takes 10 µs for 512 MB, and a reply that is being sent is a copy.
3. All chunks have CHUNK_BYTES; the last one ends in zeros, which do not count. A chunk that was never written is the
   constant ZEROS: a bitmap with a bit at 2**32-1 takes 150 KB.
4. `bytes` become a `LongString` without a copy: the chunks are views of them at first. Each write to a view copies
   MOVED_CHUNKS of them, so the `bytes` are freed after a while.

(Refused: one bytearray, which a view of the keyspace, a reply or COPY would have to copy: 0.1 s for 512 MB.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Union

from replies import LongBulk
from values.row import Commands, ValueType, made_anew

CHUNK_BYTES = 1 << 16
ZEROS = bytes(CHUNK_BYTES)
MOVED_CHUNKS = 4
LARGE_CHUNKS = FREED_CHUNKS = 16
HEAD_BYTES = 200  # of the object, and of its lists
PLACE_BYTES = 9  # of a chunk in the two lists

Chunk = Union[bytes, bytearray, memoryview]


class LongString(LongBulk):
    """A string that can be written in place. It may only grow."""

    __slots__ = ("_chunks", "_held", "_moved", "_own", "_size", "_viewed_bytes")

    def __init__(self, value: bytes = b"") -> None:
        self._size = size = len(value)
        view = memoryview(value)
        self._chunks: list[Chunk] = [view[at : at + CHUNK_BYTES] for at in range(0, size, CHUNK_BYTES)]
        self._own = bytearray(len(self._chunks))  # 1: the chunk is a bytearray that no copy shares
        self._held = 0  # chunks that are neither ZEROS nor a view
        self._moved = 0  # no chunk before this place is a view
        self._viewed_bytes = size  # of the `bytes` that chunks are views of; 0: there are none
        if size % CHUNK_BYTES:
            self._move(len(self._chunks) - 1)
        self._move_some(0)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: Any) -> Any:
        """Return the byte at a place, or the `bytes` of a slice without a step."""
        if type(place) is int:
            return self._chunks[place >> 16][place & 0xFFFF]
        start, end, _ = place.indices(self._size)
        return b"".join(self.pieces(start, end))

    def __setitem__(self, place: int, byte: int) -> None:
        """Set the byte at a place that exists."""
        index = place >> 16
        chunk = self._chunks[index] if self._own[index] else self._owned(index)
        chunk[place & 0xFFFF] = byte  # type: ignore[index]

    def exchange_bit(self, offset: int, bit: int) -> int:
        """Set the bit with a number, which exists, and return what it was."""
        index, place, mask = offset >> 19, offset >> 3 & 0xFFFF, 128 >> (offset & 7)
        byte = self._chunks[index][place]
        known = 1 if byte & mask else 0
        if known != bit:
            chunk = self._chunks[index] if self._own[index] else self._owned(index)
            chunk[place] = byte ^ mask  # type: ignore[index]
        return known

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces())

    def __eq__(self, other: object) -> bool:
        """Return True if the other one, `bytes` or a LongString, has the same bytes."""
        return isinstance(other, (bytes, LongString)) and len(other) == len(self) and bytes(other) == bytes(self)

    __hash__ = None  # type: ignore[assignment]

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end` in pieces of a chunk at most. A write may change them until a copy."""
        end = self._size if end is None else end
        while start < end:
            index, first = divmod(start, CHUNK_BYTES)
            size = min(CHUNK_BYTES - first, end - start)
            chunk = self._chunks[index]
            yield chunk if size == CHUNK_BYTES else memoryview(chunk)[first : first + size]  # type: ignore[misc]
            start += size

    def write(self, start: int, patch: bytes) -> None:
        """Overwrite a part. A string that is too short grows; a gap before `start` becomes zero bytes."""
        if not patch:
            return
        known_size, known_chunks = self._size, len(self._chunks)
        self._size = max(known_size, start + len(patch))
        more = -(-self._size // CHUNK_BYTES) - known_chunks
        view = memoryview(patch)
        try:
            self._chunks += [ZEROS] * more
            self._own += bytes(more)
            begin, first = divmod(start, CHUNK_BYTES)
            chunks = [self._owned(index) for index in range(begin, (start + len(patch) - 1) // CHUNK_BYTES + 1)]
        except MemoryError:
            self._shrink(known_size, known_chunks)
            raise
        at = 0
        for chunk in chunks:
            size = min(CHUNK_BYTES - first, len(patch) - at)
            chunk[first : first + size] = view[at : at + size]
            at, first = at + size, 0

    def _shrink(self, size: int, chunks: int) -> None:
        """Undo a growth that failed."""
        self._size = size
        for index in range(chunks, len(self._chunks)):
            self._replace(index, ZEROS)
        del self._chunks[chunks:], self._own[chunks:]

    def own(self, places: Iterable[int]) -> None:
        """Copy what writes of bytes at these places will have to copy."""
        for index in {place // CHUNK_BYTES for place in places}:
            self._owned(index)

    def _owned(self, index: int) -> bytearray:
        """Return the chunk at a place, for writing."""
        chunk = self._chunks[index]
        if self._own[index]:
            return chunk  # type: ignore[return-value]
        owned = bytearray(chunk)
        self._replace(index, owned)
        self._own[index] = 1
        if type(chunk) is memoryview:
            self._move_some(MOVED_CHUNKS)
        return owned

    def _replace(self, index: int, chunk: Chunk) -> None:
        known = self._chunks[index]
        self._held += (chunk is not ZEROS) - (known is not ZEROS and type(known) is not memoryview)
        self._chunks[index] = chunk
        self._own[index] = 0

    def _move(self, index: int) -> None:
        """Copy a chunk out of the `bytes` that it is a view of."""
        chunk = bytes(self._chunks[index]).ljust(CHUNK_BYTES, b"\0")
        self._replace(index, ZEROS if chunk == ZEROS else chunk)

    def _move_some(self, most: int) -> None:
        """Copy up to `most` views, the first ones first."""
        chunks = self._chunks
        while self._viewed_bytes:
            while self._moved < len(chunks) and type(chunks[self._moved]) is not memoryview:
                self._moved += 1
            if self._moved == len(chunks):
                self._viewed_bytes = 0
            elif most:
                self._move(self._moved)
                most -= 1
            else:
                break

    def copy(self) -> LongString:
        """Return an independent copy. O(chunks), which it shares."""
        copied = LongString.__new__(LongString)
        copied._chunks = self._chunks.copy()
        copied._size, copied._held = self._size, self._held
        copied._moved, copied._viewed_bytes = self._moved, self._viewed_bytes
        copied._own, self._own = bytearray(len(self._chunks)), bytearray(len(self._chunks))
        return copied

    def free_some(self) -> None:
        """Remove the last chunks, to free a long string in slices."""
        del self._chunks[-FREED_CHUNKS:]
        self._size = min(self._size, len(self._chunks) * CHUNK_BYTES)

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return len(self._chunks)

    @property
    def size_bytes(self) -> int:
        """The memory of the string; a copy counts what it shares."""
        return HEAD_BYTES + len(self._chunks) * PLACE_BYTES + self._held * CHUNK_BYTES + self._viewed_bytes

    def parts(self) -> Iterator[tuple[int, bytes]]:
        """Yield the parts that are not zero, with their places, and whatever shows how long the string is."""
        for index, chunk in enumerate(self._chunks):
            start = index * CHUNK_BYTES
            is_last = start + CHUNK_BYTES >= self._size
            part = bytes(chunk)
            if part != ZEROS:
                yield start, part[: self._size - start] if is_last else part
            elif is_last:
                yield self._size - 1, b"\0"

    def check(self) -> None:
        """Assert all invariants. O(bytes)."""
        assert len(self._chunks) == len(self._own) == -(-self._size // CHUNK_BYTES)
        assert all(len(chunk) == CHUNK_BYTES for chunk in self._chunks)
        assert all(type(chunk) is bytearray for chunk, own in zip(self._chunks, self._own, strict=True) if own)
        views = [index for index, chunk in enumerate(self._chunks) if type(chunk) is memoryview]
        assert self._held == sum(chunk is not ZEROS for chunk in self._chunks) - len(views)
        assert not views or (self._viewed_bytes and self._moved <= views[0])
        assert views or not self._viewed_bytes, "the bytes are kept for nothing"
        if self._size % CHUNK_BYTES:
            assert not any(self._chunks[-1][self._size % CHUNK_BYTES :]), "the end of the last chunk is not zero"


def overwritten(value: bytes | LongString, start: int, patch: bytes) -> bytes | LongString:
    """Return a string with a part overwritten: other `bytes`, or a LongString, which is the same if it was one.

    A gap before `start` becomes zero bytes.
    """
    end = start + len(patch)
    if type(value) is bytes:
        if max(end, len(value)) <= CHUNK_BYTES:
            return value[:start].ljust(start, b"\0") + patch + value[end:]
        value = LongString(value)
    value.write(start, patch)  # type: ignore[union-attr]
    return value


def most_growth(known: int, end: int, writes: int, written: int = 0) -> int:
    """Return how many more bytes of memory a string may take when parts of it are written.

    `known` is its length, `end` that of its last part; there are so many `writes` of altogether `written` bytes.
    """
    size = max(known, end)
    if size <= CHUNK_BYTES:
        return size - known
    chunks = size // CHUNK_BYTES + 1
    copied = min(chunks, (2 * writes + written // CHUNK_BYTES) * (1 + MOVED_CHUNKS))
    return HEAD_BYTES + chunks * PLACE_BYTES + copied * CHUNK_BYTES


def encoding(_value: LongString) -> bytes:
    """Return Redis's name for the encoding of a long string."""
    return b"raw"


def rebuild(key: bytes, value: LongString, deadline_ms: int) -> Commands:
    """Return the commands that write each chunk that is not zero."""
    writes = ((b"SETRANGE", key, b"%d" % start, part) for start, part in value.parts())
    return made_anew(key, writes, deadline_ms)


LONG_STRING = ValueType(
    name=b"string",
    python_type=LongString,
    encoding=encoding,
    rebuild=rebuild,
    copy=LongString.copy,
    size_bytes=lambda value: value.size_bytes,
    is_large=lambda value: value.chunks > LARGE_CHUNKS,
    may_be_empty=True,
)
