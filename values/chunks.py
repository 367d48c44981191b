"""The chunks of a list (`lists.py`): packed elements, and a long list without its right end.

1. A chunk never changes, so lists that are copies share it.
2. A chunk is one `bytes` with all its elements, in the format of `marshal`, which reads and writes it at C's speed:
   0.03 us an element. Packed bytes never leave the process.
3. A chunk of long elements is a tuple, because to pack them would only copy them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from marshal import dumps, loads
from typing import Union

CHUNK = 128  # elements
MOST_LOOSE = 160  # elements at an end, and of a chunk; more than CHUNK, or pushes and pops in turn would pack each time
MOST_PACKED_BYTES = 1 << 15  # elements of 256 bytes on average; longer ones are not packed
FORMAT = 2  # the last version of marshal's format without references between objects
HEAD_BYTES = 5  # of a packed chunk, and of each element in it

Chunk = Union[bytes, "tuple[bytes, ...]"]
Part = Union[bytes, Sequence[bytes]]  # a chunk, or elements


def pack(elements: list[bytes]) -> bytes:
    """Return elements as a packed chunk."""
    return dumps(elements, FORMAT)


def unpack(packed: bytes) -> list[bytes]:
    """Return the elements of a packed chunk."""
    return loads(packed)  # type: ignore[no-any-return]


def elements_of(part: Part) -> Sequence[bytes]:
    """Return the elements of a part."""
    return loads(part) if type(part) is bytes else part  # type: ignore[return-value]


def payload_of(chunk: Part, count: int) -> int:
    """Return the bytes of the elements of a chunk, without what it takes to keep them."""
    return len(chunk) - HEAD_BYTES * (1 + count) if type(chunk) is bytes else sum(map(len, chunk))  # type: ignore[arg-type]


def holds(part: Part, element: bytes, needle: bytes) -> bool:
    """Return False if a part does not hold an element. `needle` is its `needle_of`."""
    return needle in part if type(part) is bytes else element in part


def needle_of(element: bytes) -> bytes:
    """Return what stands in a packed chunk for an element; it may stand there by chance, too."""
    return b"s%b%b" % (len(element).to_bytes(4, "little"), element)


class Front:
    """All of a long list but its right end: the left end, `head`, and the chunks."""

    __slots__ = ("chunks", "counts", "head", "loose", "starts")

    def __init__(self, head: list[bytes]) -> None:
        self.head = head
        self.chunks: list[Chunk] = []
        self.counts: list[int] = []  # of the elements of each chunk
        self.loose = 0  # elements in chunks that are not packed
        # how many elements stand before each chunk, without `head`; the last: in all chunks
        self.starts: list[int] | None = None

    def copy(self) -> Front:
        copied = Front(self.head.copy())
        copied.chunks, copied.counts = self.chunks.copy(), self.counts.copy()
        copied.loose, copied.starts = self.loose, self.starts
        return copied

    def locate(self, index: int) -> tuple[int, int]:
        """Return the chunk with an element, counted from behind the head, and the element's index in it."""
        if self.starts is None:
            self.starts = list(accumulate(self.counts, initial=0))
        number = bisect_right(self.starts, index) - 1
        return number, index - self.starts[number]

    def put(self, number: int, end: int, elements: list[bytes]) -> None:
        """Put a chunk of elements in the place of the chunks from `number` to `end`; no elements, no chunk."""
        if self.counts[number:end] != [len(elements)]:
            self.starts = None
        self.loose -= sum(self.counts[at] for at in range(number, end) if type(self.chunks[at]) is tuple)
        if not elements:
            del self.chunks[number:end], self.counts[number:end]
        else:
            if sum(map(len, elements)) <= MOST_PACKED_BYTES:
                self.chunks[number:end] = [pack(elements)]
            else:
                self.chunks[number:end] = [tuple(elements)]
                self.loose += len(elements)
            self.counts[number:end] = [len(elements)]

    def append(self, part: Part, count: int) -> None:
        """Add elements, or a chunk as it is, behind the last chunk."""
        if type(part) is list:
            self.put(len(self.chunks), len(self.chunks), part)
        elif count:
            self.starts = None
            self.chunks.append(part)  # type: ignore[arg-type]
            self.counts.append(count)
            if type(part) is tuple:
                self.loose += count

    def drop(self) -> tuple[Chunk, int]:
        """Take the last chunk out, and return it and its count."""
        self.starts = None
        chunk, count = self.chunks.pop(), self.counts.pop()
        if type(chunk) is tuple:
            self.loose -= count
        return chunk, count

    def check(self) -> None:
        """Assert the invariants."""
        assert 0 < len(self.head) <= MOST_LOOSE
        assert list(map(len, map(elements_of, self.chunks))) == self.counts
        assert all(0 < count <= MOST_LOOSE for count in self.counts)
        assert self.loose == sum(len(chunk) for chunk in self.chunks if type(chunk) is tuple)
        assert self.starts is None or self.starts == list(accumulate(self.counts, initial=0))

    def take(self, number: int) -> list[bytes]:
        """Take a chunk out, the first (0) or the last (-1), and return its elements."""
        self.starts = None
        chunk, count = self.chunks.pop(number), self.counts.pop(number)
        if type(chunk) is bytes:
            return unpack(chunk)
        self.loose -= count
        return list(chunk)  # type: ignore[arg-type]


def less(elements: Sequence[bytes], element: bytes, most: int, backward: bool) -> list[bytes]:
    """Return the elements without the first, or the last, `most` that are equal to this."""
    if most >= len(elements):
        return [each for each in elements if each != element]
    left = list(elements)
    if backward:
        left.reverse()
    while most and element in left:
        left.remove(element)
        most -= 1
    if backward:
        left.reverse()
    return left
