"""The type of lists: a list of chunks, the inner ones packed.

1. At each end stands a plain Python list of at most MOST_LOOSE elements, so a push or a pop at an end is O(1).
2. Between them stand chunks of about CHUNK elements (`chunks.py`). A chunk never changes: a change in the middle puts a
   new one in its place. So a copy shares all chunks, and copies no more than the two ends.
3. A chunk of short elements is packed: an element of ten bytes takes 15, instead of the 64 of an object of its own.
4. A list of at most SMALL short elements is one packed chunk and nothing else.

    short     _front None, _tail b"[..."                        all elements, packed
    middling  _front None, _tail [a, b, ...]                    at most MOST_LOOSE elements
    long      _front Front(head, chunks), _tail [y, z]          neither end is empty

n is the number of elements:

    push, pop                  O(1)        an element that comes out of a chunk: 30 ns more
    index, set, insert         O(n / CHUNK) at C's speed if the chunks have changed since the last one, else O(log n);
                               and O(CHUNK) for the chunk itself
    a range of m               O(m / CHUNK): the chunks themselves; who reads them unpacks them
    search, removal            O(n), a packed chunk without the element in 0.2 us
    copy, trim, join           O(n / CHUNK)

Measured against a deque, with a million elements of 14 bytes, on a busy machine: a deque takes 57 bytes an element, the
list 20. A copy takes 28 ms there and 0.12 here, an element in the middle 23 us and 6, an insertion there 630 us and
300, a search 19 ms and 24. A push takes 0.1 us there and 0.7 here. Memory in ratio to redis-server: 1.23 for this list,
and 1.43 for 200 000 lists of 5 elements.

The module is longer than most because each operation has to deal with these three forms.

(Refused: a balanced tree of chunks. Its steps are Python's, and the flat list of chunks is C's up to 100 million
elements. Chunks that change in place, with an owner each: a copy has to mark them, and the collector of cycles walks
through them.)
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from values.chunks import (
    CHUNK,
    HEAD_BYTES,
    MOST_LOOSE,
    Chunk,
    Front,
    Part,
    elements_of,
    holds,
    less,
    needle_of,
    pack,
    payload_of,
    unpack,
)
from values.row import Commands, ValueType, made_anew

SMALL = 16  # elements of a list that is packed as a whole
SMALL_BYTES = 512
BYTES_BYTES = 33 + 8  # the head of a `bytes`, and its rounding
PLAIN_LIST_BYTES = 80  # of a Python list beside its pointers
LOOSE_BYTES = BYTES_BYTES + 9  # of an element outside a packed chunk, with a pointer to it
CHUNK_BYTES = BYTES_BYTES + HEAD_BYTES + 17  # of a chunk, with a pointer to it and its count
LIST_BYTES = 64
FRONT_BYTES = 400  # the object, its four lists
PART = 48  # elements of a command that rebuilds a list
PART_BYTES = 1 << 16
LARGE = 1000  # elements
LARGE_BYTES = 1 << 16
EMPTY = pack([])
EMPTY_FRONT = Front([])


class List:
    """A list of `bytes`."""

    __slots__ = ("_front", "_tail", "length", "payload_bytes")

    def __init__(self, elements: Iterable[bytes] = ()) -> None:
        self.length = 0
        self.payload_bytes = 0  # the sum of the elements' lengths
        self._tail: Any = EMPTY  # the right end, a list of elements; without `_front` all of them, perhaps packed
        self._front: Front | None = None
        if elements:
            self.push_right(list(elements))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(map(elements_of, self.parts()))

    def __reversed__(self) -> Iterator[bytes]:
        return chain.from_iterable(reversed(elements_of(part)) for part in reversed(self.parts()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, List) and self.length == other.length and all(map(bytes.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"List({list(self)!r})"

    # ---- reading

    def parts(self) -> list[Part]:
        """Return all elements in parts, in order. The parts stay as they are when the list changes. O(chunks)."""
        front, tail = self._front, self._tail
        last: Part = tail if type(tail) is bytes else tuple(tail)
        if front is None:
            return [last] if self.length else []
        return [tuple(front.head), *front.chunks, last]

    def parts_between(self, start: int, stop: int) -> list[Part]:
        """Return the elements from `start` up to and without `stop`, in parts, as `parts` does."""
        front = self._front
        if front is None:
            return [tuple(elements_of(self._tail)[start:stop])]
        head, tail = front.head, self._tail
        in_head, before_tail = len(head), self.length - len(tail)
        found: list[Part] = [tuple(head[start:stop])] if start < in_head else []
        first, last = max(start, in_head) - in_head, min(stop, before_tail) - in_head
        if first < last:
            begin, skipped = front.locate(first)
            end, kept = front.locate(last)
            if begin == end:
                found.append(tuple(elements_of(front.chunks[begin])[skipped:kept]))
            else:
                found.append(tuple(elements_of(front.chunks[begin])[skipped:]) if skipped else front.chunks[begin])
                found += front.chunks[begin + 1 : end]
                if kept:
                    found.append(tuple(elements_of(front.chunks[end])[:kept]))
        if stop > before_tail:
            found.append(tuple(tail[max(0, start - before_tail) : stop - before_tail]))
        return found

    def between(self, start: int, stop: int) -> list[bytes]:
        """Return the elements from `start` up to and without `stop`."""
        front = self._front
        if front is None:
            return list(elements_of(self._tail)[start:stop])
        if stop <= len(front.head):
            return front.head[start:stop]
        return list(chain.from_iterable(map(elements_of, self.parts_between(start, stop))))

    def __getitem__(self, index: int) -> bytes:
        """Return an element by its index, which must be from 0 to the length less 1."""
        front, tail = self._front, self._tail
        if front is None:
            return elements_of(tail)[index]
        from_tail = index - self.length + len(tail)
        if from_tail >= 0:
            return tail[from_tail]  # type: ignore[no-any-return]
        from_head = index - len(front.head)
        if from_head < 0:
            return front.head[index]
        number, at = front.locate(from_head)
        return elements_of(front.chunks[number])[at]

    def search(self, element: bytes, backward: bool = False, most: int | None = None) -> Iterator[int | None]:
        """Yield the index of each element equal to this, and None after each part: a place to pause.

        It searches the list as it is now, and in it the first (`backward`: the last) `most` elements.
        """
        parts = list(zip(self.parts(), self._counts(), strict=True))
        most = self.length if most is None else min(most, self.length)
        if backward:
            return _search_backward(parts[::-1], element, self.length, self.length - most)
        return _search(parts, element, most)

    def _counts(self) -> list[int]:
        """Return how many elements each of `parts` has."""
        front = self._front
        if front is None:
            return [self.length] if self.length else []
        return [len(front.head), *front.counts, len(self._tail)]

    # ---- the ends

    def push_right(self, elements: Sequence[bytes]) -> None:
        """Add elements behind the last one."""
        tail = self._tail
        if type(tail) is bytes:
            self._tail = tail = unpack(tail)
        tail += elements
        self.length += len(elements)
        self.payload_bytes += len(elements[0]) if len(elements) == 1 else sum(map(len, elements))
        if len(tail) > MOST_LOOSE:
            self._move_from_tail()
        elif self.length <= SMALL:
            self._settle()

    def push_left(self, elements: Sequence[bytes]) -> None:
        """Add elements before the first one, one after another: the last of them becomes the first of the list."""
        front = self._front
        if front is not None:
            head = front.head
        else:
            if type(self._tail) is bytes:
                self._tail = unpack(self._tail)
            head = self._tail
        if len(elements) == 1:
            head.insert(0, elements[0])
            self.payload_bytes += len(elements[0])
        else:
            head[:0] = elements[::-1]
            self.payload_bytes += sum(map(len, elements))
        self.length += len(elements)
        if len(head) > MOST_LOOSE:
            self._move_from_head()
        elif self.length <= SMALL:
            self._settle()

    def _move_from_tail(self) -> None:
        """Move what is too much at the right end into chunks."""
        tail: list[bytes] = self._tail
        front = self._front
        if front is None:
            self._front = front = Front(tail[:CHUNK])
            del tail[:CHUNK]
        done = 0
        while len(tail) - done > MOST_LOOSE:
            front.append(tail[done : done + CHUNK], CHUNK)
            done += CHUNK
        del tail[:done]

    def _move_from_head(self) -> None:
        """Move what is too much at the left end into chunks."""
        front = self._front
        if front is None:
            tail: list[bytes] = self._tail
            self._front = front = Front(tail[:-CHUNK])
            self._tail = tail[-CHUNK:]
        head = front.head
        left = len(head)
        if left > MOST_LOOSE:
            made = Front([])
            while left > MOST_LOOSE:
                left -= CHUNK
                made.put(0, 0, head[left : left + CHUNK])
            del head[left:]
            front.chunks[:0], front.counts[:0] = made.chunks, made.counts
            front.loose += made.loose
            front.starts = None

    def pop_left(self) -> bytes:
        """Take the first element out. The list must not be empty."""
        front = self._front
        if front is None:
            if type(self._tail) is bytes:
                self._tail = unpack(self._tail)
            element: bytes = self._tail.pop(0)
        else:
            element = front.head.pop(0)
            if not front.head:
                self._refill_head()
        self.length -= 1
        self.payload_bytes -= len(element)
        if self.length <= SMALL:
            self._settle()
        return element

    def pop_right(self) -> bytes:
        """Take the last element out. The list must not be empty."""
        if type(self._tail) is bytes:
            self._tail = unpack(self._tail)
        element: bytes = self._tail.pop()
        if not self._tail and self._front is not None:
            self._refill_tail()
        self.length -= 1
        self.payload_bytes -= len(element)
        if self.length <= SMALL:
            self._settle()
        return element

    def _refill_head(self) -> None:
        front = self._front
        assert front is not None
        if front.chunks:
            front.head = front.take(0)
        else:
            self._front = None

    def _refill_tail(self) -> None:
        front = self._front
        assert front is not None
        if front.chunks:
            self._tail = front.take(-1)
        else:
            self._tail, self._front = front.head, None

    def _settle(self) -> None:
        """Pack the list as a whole if it is short."""
        if type(self._tail) is bytes:
            return
        if self._front is not None:  # its chunks have a few elements each
            self._tail, self._front = list(self), None
        if self.payload_bytes <= SMALL_BYTES:
            self._tail = pack(self._tail)

    def free_some(self) -> None:
        """Drop some elements, a chunk at most, to free a large list step by step. An empty list stays as it is."""
        if self._front is not None and self._front.chunks:
            chunk, count = self._front.drop()
            self.length -= count
            self.payload_bytes -= payload_of(chunk, count)
            if self.length <= SMALL:
                self._settle()
        else:
            self.trim(0, 0)

    def trim(self, start: int, stop: int) -> list[Chunk]:
        """Remove all elements before `start`, and those from `stop` on; return the chunks that are dropped."""
        start = min(start, stop)
        if stop <= start:
            dropped = self._front.chunks if self._front is not None else []
            self.length = self.payload_bytes = 0
            self._tail, self._front = [], None
            self._settle()
            return dropped
        dropped = self._drop_right(self.length - stop)
        dropped += self._drop_left(start)
        if self.length <= SMALL:
            self._settle()
        return dropped

    def _drop_left(self, count: int) -> list[Chunk]:
        """Remove elements from the left; fewer than there are."""
        front = self._front
        self.length -= count
        if front is None:
            if count:
                self._tail = tail = list(elements_of(self._tail))
                self.payload_bytes -= sum(map(len, tail[:count]))
                del tail[:count]
            return []
        in_head = len(front.head)
        if count < in_head:
            self.payload_bytes -= sum(map(len, front.head[:count]))
            del front.head[:count]
            return []
        self.payload_bytes -= sum(map(len, front.head))
        number, at = front.locate(count - in_head)
        dropped, counts = front.chunks[:number], front.counts[:number]
        self._count_out(front, dropped, counts)
        del front.chunks[:number], front.counts[:number]
        front.starts = None
        if front.chunks:
            front.head = front.take(0)
            self.payload_bytes -= sum(map(len, front.head[:at]))
            del front.head[:at]
        else:
            self.payload_bytes -= sum(map(len, self._tail[:at]))
            del self._tail[:at]
            self._front = None
        return dropped

    def _drop_right(self, count: int) -> list[Chunk]:
        """Remove elements from the right; fewer than there are."""
        front = self._front
        if front is None or count < len(self._tail):
            if count:
                self._tail = tail = list(elements_of(self._tail))
                self.length -= count
                self.payload_bytes -= sum(map(len, tail[-count:]))
                del tail[-count:]
            return []
        self.payload_bytes -= sum(map(len, self._tail))
        self.length -= count
        left = self.length - len(front.head)  # of the elements in chunks
        number, at = front.locate(left) if left > 0 else (0, 0)
        end = number + (at > 0)
        dropped = front.chunks[end:]
        self._count_out(front, dropped, front.counts[end:])
        del front.chunks[end:], front.counts[end:]
        front.starts = None
        if at:
            self._tail = tail = front.take(-1)
            self.payload_bytes -= sum(map(len, tail[at:]))
            del tail[at:]
            return dropped
        if left < 0:
            self.payload_bytes -= sum(map(len, front.head[left:]))
            del front.head[left:]
        self._refill_tail()
        return dropped

    def _count_out(self, front: Front, chunks: list[Chunk], counts: list[int]) -> None:
        if not front.loose:  # ten times as quick as below
            self.payload_bytes -= sum(map(len, chunks)) - HEAD_BYTES * (len(chunks) + sum(counts))
        else:
            self.payload_bytes -= sum(map(payload_of, chunks, counts))
            front.loose -= sum(count for chunk, count in zip(chunks, counts, strict=True) if type(chunk) is tuple)

    def join_right(self, other: List) -> None:
        """Move all elements of another list behind the last one; the other list must not be used any more."""
        if other._front is None:
            self.push_right(elements_of(other._tail))
        elif self._front is None:
            before = elements_of(self._tail)[::-1]
            self._become(other)
            self.push_left(before)
        else:
            front, tail, added = self._front, elements_of(self._tail), other._front
            front.append(list(tail), len(tail))
            front.append(added.head, len(added.head))
            front.chunks += added.chunks
            front.counts += added.counts
            front.loose += added.loose
            self._tail = other._tail
            self.length += other.length
            self.payload_bytes += other.payload_bytes

    def join_left(self, other: List) -> None:
        """Move all elements of another list before the first one; the other list must not be used any more."""
        if other._front is None:
            self.push_left(elements_of(other._tail)[::-1])
        else:
            behind = List()
            behind._become(self)
            self._become(other)
            self.join_right(behind)

    def _become(self, other: List) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    # ---- the middle

    def __setitem__(self, index: int, element: bytes) -> None:
        """Replace an element by its index, which must be from 0 to the length less 1."""
        self._splice(index, 1, [element])

    def insert(self, index: int, element: bytes) -> None:
        """Insert an element before the one that has this index, which must be from 0 to the length less 1."""
        self._splice(index, 0, [element])

    def __delitem__(self, index: int) -> None:
        """Remove an element by its index, which must be from 0 to the length less 1."""
        self._splice(index, 1, [])

    def _splice(self, index: int, gone: int, added: list[bytes]) -> None:
        """Put elements, at most one, in the place of `gone` others, 0 or 1."""
        front, tail = self._front, self._tail
        if front is None:
            self._tail = tail = list(elements_of(tail))
            front = EMPTY_FRONT
        from_tail = index - self.length + len(tail)
        known: Sequence[bytes]
        if from_tail >= 0:
            known = tail[from_tail : from_tail + gone]
            tail[from_tail : from_tail + gone] = added
        elif index < len(front.head):
            known = front.head[index : index + gone]
            front.head[index : index + gone] = added
        else:
            known = self._splice_chunk(front, index, gone, added)
        self.length += len(added) - gone
        self.payload_bytes += sum(map(len, added)) - sum(map(len, known))
        if len(tail) > MOST_LOOSE:
            self._move_from_tail()
        elif len(front.head) > MOST_LOOSE:
            self._move_from_head()
        elif self._front is not None and not tail:
            self._refill_tail()
        elif self._front is not None and not front.head:
            self._refill_head()
        if self.length <= SMALL:
            self._settle()

    def _splice_chunk(self, front: Front, index: int, gone: int, added: list[bytes]) -> list[bytes]:
        number, at = front.locate(index - len(front.head))
        elements = list(elements_of(front.chunks[number]))
        known = elements[at : at + gone]
        elements[at : at + gone] = added
        following = front.counts[number + 1 : number + 2]
        if len(elements) + sum(following) <= CHUNK // 2:  # both are small
            elements += chain.from_iterable(map(elements_of, front.chunks[number + 1 : number + 2]))
            front.put(number, number + 1 + len(following), elements)
            return known
        half = len(elements) // 2 if len(elements) > MOST_LOOSE else 0
        front.put(number, number + 1, elements[half:])
        if half:
            front.put(number, number, elements[:half])
        return known

    def without(self, element: bytes, most: int, backward: bool = False) -> Generator[None, None, List]:
        """Make a list without the first `most` elements equal to this, or the last, in steps: a part each.

        The list must not change meanwhile.
        """
        needle = needle_of(element)
        kept: list[tuple[Part, int]] = []
        parts = list(zip(self.parts(), self._counts(), strict=True))
        for part, count in reversed(parts) if backward else parts:
            if most and holds(part, element, needle):
                elements = less(elements_of(part), element, most, backward)
                most -= count - len(elements)
                kept.append((elements, len(elements)))
            else:
                kept.append((part, count))
            yield
        return (yield from _assembled(reversed(kept) if backward else kept))

    # ---- the whole

    def copy(self) -> List:
        """Return an independent copy, which shares the chunks."""
        copied = List.__new__(List)
        copied.length, copied.payload_bytes = self.length, self.payload_bytes
        copied._tail = self._tail if type(self._tail) is bytes else self._tail.copy()
        copied._front = None if self._front is None else self._front.copy()
        return copied

    def size_bytes(self) -> int:
        """Return the memory of the list, its elements included. O(1)."""
        front, tail = self._front, self._tail
        if type(tail) is bytes:
            return LIST_BYTES + BYTES_BYTES + len(tail)
        size = LIST_BYTES + PLAIN_LIST_BYTES + self.payload_bytes
        if front is None:
            return size + LOOSE_BYTES * self.length
        loose = len(front.head) + len(tail) + front.loose
        size += FRONT_BYTES + CHUNK_BYTES * len(front.chunks)
        return size + LOOSE_BYTES * loose + HEAD_BYTES * (self.length - loose)

    def check(self) -> None:
        """Assert all invariants. O(n)."""
        front, tail = self._front, self._tail
        elements = list(self)
        assert len(elements) == self.length, "the length is wrong"
        assert all(type(element) is bytes for element in elements)
        assert sum(map(len, elements)) == self.payload_bytes, "the bytes are wrong"
        is_small = self.length <= SMALL and self.payload_bytes <= SMALL_BYTES
        assert (type(tail) is bytes) == is_small, "a list is packed as a whole exactly if it is small"
        assert front is None or self.length > SMALL
        if not is_small:
            assert 0 < len(tail) <= MOST_LOOSE
        if front is not None:
            front.check()


def _search(parts: Iterable[tuple[Part, int]], element: bytes, stop: int) -> Iterator[int | None]:
    needle, at = needle_of(element), 0
    for part, count in parts:
        if holds(part, element, needle):
            for index, found in enumerate(elements_of(part), at):
                if found == element and index < stop:
                    yield index
        at += count
        if at >= stop:
            return
        yield None


def _search_backward(parts: Iterable[tuple[Part, int]], element: bytes, end: int, start: int) -> Iterator[int | None]:
    needle = needle_of(element)
    for part, count in parts:
        if holds(part, element, needle):
            for index, found in zip(range(end - 1, -1, -1), reversed(elements_of(part))):  # noqa: B905 - ends earlier
                if found == element and index >= start:
                    yield index
        end -= count
        if end <= start:
            return
        yield None


def _assembled(parts: Iterable[tuple[Part, int]]) -> Generator[None, None, List]:
    """Make a list of parts and their counts, in steps. Small parts are put together."""
    front, gathered = Front([]), list[bytes]()
    for part, count in parts:
        if len(gathered) + count <= CHUNK and (gathered or count < CHUNK // 2):
            gathered += elements_of(part)
        else:
            front.append(gathered, len(gathered))
            gathered = list(elements_of(part)) if count < CHUNK // 2 else []
            if not gathered:
                front.append(part, count)
        yield
    front.append(gathered, len(gathered))
    made = List()
    made.length = sum(front.counts)
    made.payload_bytes = sum(map(payload_of, front.chunks, front.counts))
    if front.chunks:
        made._tail = front.take(-1)
    if front.chunks:
        front.head, made._front = front.take(0), front
    if made.length <= SMALL:
        made._settle()
    return made


# ---- the row


def rebuild(key: bytes, items: List, deadline_ms: int) -> Commands:
    """Return the commands that make a list."""
    return made_anew(key, _pushes(key, items), deadline_ms)


def _pushes(key: bytes, items: List) -> Iterator[Sequence[bytes]]:
    words, size = [b"RPUSH", key], 0
    for part in items.parts():
        for element in elements_of(part):
            if len(words) == PART + 2 or size > PART_BYTES:
                yield words
                words, size = [b"RPUSH", key], 0
            words.append(element)
            size += len(element)
    yield words


LIST = ValueType(
    name=b"list",
    python_type=List,
    encoding=lambda _items: b"quicklist",
    rebuild=rebuild,
    copy=List.copy,
    size_bytes=List.size_bytes,
    is_large=lambda items: items.length > LARGE or items.payload_bytes > LARGE_BYTES,
)
