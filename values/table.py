"""A map from bytes to values that grows, shrinks and is copied without a pause: the core of hashes, sets, sorted sets.

1. What it does next depends on its content only: on its keys, their values, and the order in which keys of one chunk
   were added. It never depends on Python's hash seed. A table that is built by `set`, in the order of `items`, goes on
   exactly like the one whose items these were. So instances of a pool choose the same members and scan the same way.
2. No step moves more than CAP entries, however large the table is. A copy takes O(chunks): a millisecond a million.
3. It has three forms, and the content decides which one it has:

    packed    the `marshal` bytes of a dict      at most PACKED_ENTRIES, and no key or value longer than PACKED_BYTES
    small     a dict                             at most CAP entries
    large     `_Chunks`: dicts of at most CAP entries, each with an interval of the hashes, zlib.crc32 of the key

A chunk of more than CAP entries is split in the middle of its interval. Two chunks that come of one split are joined as
soon as both together have at most CAP entries. Both keep the order in which the keys were added.

A packed table of five short fields takes a fifth of the memory of a dict, because no field is an object. Each access
unpacks it, which takes 0.1 µs an entry.

A copy shares the chunks. Whoever changes a shared chunk copies this chunk first.

The module has more than 400 lines because the two classes are one structure.

(Refused: one dict, whose copy takes 32 ms a million, and which holds the loop for as long when it doubles. A directory
of 2**depth chunks: keys with equal hashes, which are easy to find for CRC-32, would double it without end. A secret in
the hash: the instances of a pool would have to share it. Chunks of 85 entries: they save 0.35 of the 3.7 µs in which a
random key is popped, and cost 0.2 of the 1.35 of a new key in a pipeline.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from marshal import dumps, loads
from random import Random
from sys import getsizeof
from typing import Any
from zlib import crc32

CAP = 341  # entries of a chunk: as many as a dict has room for in a table of 512 places
PACKED_ENTRIES = 16
PACKED_BYTES = 64
FORMAT = 2  # of marshal: the newer ones write references, which depend on who else refers to an object
HASHES = 1 << 32
RANDOM_TRIES = 64  # of `random_item`; each finds an item in two cases of three
SIMPLE = frozenset((type(None), float, int))  # types beside `bytes` that a packed table can hold
EMPTY = dumps({}, FORMAT)
MISSING: Any = object()
EMPTY_OWNED_BYTES = getsizeof(bytearray()) + 1


def memory_bytes(element: Any) -> int:
    """Return the memory that malloc gives to a key or a value."""
    if type(element) is bytes:
        return len(element) + 48 & -16
    return 0 if element is None else getsizeof(element) + 15 & -16


def _is_short(element: Any) -> bool:
    kind = type(element)
    return len(element) <= PACKED_BYTES if kind is bytes else kind in SIMPLE


def _content_bytes(entries: dict[bytes, Any]) -> int:
    return sum(map(memory_bytes, entries)) + sum(map(memory_bytes, entries.values()))


class Table:
    """A map from bytes to values. The order of its items is a function of its history, not of Python's hashes."""

    __slots__ = ("_bytes", "_data", "_length")

    _data: Any  # packed: bytes, small: a dict, large: _Chunks

    def __init__(self, items: Iterable[tuple[bytes, Any]] = ()) -> None:
        self._data = EMPTY
        self._length = 0
        self._bytes = 0  # memory of all keys and values; 0 if packed, because an int of each table would cost 32 bytes
        if items:
            self.update(items)

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        """Return True if the other one has equal items, in the same order, and the same form."""
        if type(other) is not type(self):
            return NotImplemented
        return type(self._data) is type(other._data) and list(self.items()) == list(other.items())

    __hash__ = None  # type: ignore[assignment]

    _unpacked = staticmethod(loads)  # packed entries -> a dict of them

    @staticmethod
    def _packed(entries: dict[bytes, Any]) -> bytes:
        """Return entries in the packed form."""
        return dumps(entries, FORMAT)

    # ---- one entry

    def __contains__(self, key: bytes) -> bool:
        data = self._data
        return key in (self._unpacked(data) if type(data) is bytes else data)

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return the value of a key. O(1)."""
        data = self._data
        return (self._unpacked(data) if type(data) is bytes else data).get(key, default)

    def getter(self) -> Callable[[bytes], Any]:
        """Return a function that does what `get` does, for many keys; the table must not change meanwhile."""
        data = self._data
        getter: Callable[[bytes], Any] = (self._unpacked(data) if type(data) is bytes else data).get
        return getter

    def set(self, key: bytes, value: Any) -> bool:
        """Set the value of a key. Return True if the key is new. O(1); at most CAP entries move."""
        data = self._data
        if type(data) is bytes:
            entries = self._unpacked(data)
            entries[key] = value
            known_length, self._length = self._length, len(entries)
            if (  # `_is_short` of both, inline: 0.2 µs of a SADD
                len(entries) <= PACKED_ENTRIES
                and len(key) <= PACKED_BYTES
                and (len(value) <= PACKED_BYTES if type(value) is bytes else type(value) in SIMPLE)
            ):
                self._data = self._packed(entries)
            else:
                self._data = entries
                self._bytes = _content_bytes(entries)
            return self._length != known_length
        known = data.set(key, value) if type(data) is _Chunks else self._set_in_dict(data, key, value)
        if known is MISSING:
            self._length += 1
            self._bytes += memory_bytes(key) + memory_bytes(value)
            return True
        if known is not value:
            self._bytes += memory_bytes(value) - memory_bytes(known)
            if self._length <= PACKED_ENTRIES and not _is_short(known):
                self._pack(self._data)
        return False

    def swap(self, key: bytes, value: Any) -> Any:
        """Set the value of a key of a large table, and return the one that it had, which takes as much; None: no."""
        known = self._data.set(key, value)
        if known is not MISSING:
            return known
        self._length += 1
        self._bytes += memory_bytes(key) + memory_bytes(value)
        return None

    def replace(self, key: bytes, value: Any) -> None:
        """Replace the value of a key that is there by one that takes as much memory; the table is not packed."""
        data = self._data
        if type(data) is _Chunks:
            index = bisect_right(data.starts, crc32(key)) - 1
            data = data.chunks[index] if data.owned[index] else data._own(index)
        data[key] = value

    def set_each(self, keys: Iterable[bytes], values: Iterable[Any]) -> list[int]:
        """Do what `set` does for each key. Return 1 for each new key, 0 for the others.

        In a large table it takes half the time, because no function is called for a key that is there.
        """
        data, news = self._data, []
        if type(data) is not _Chunks:
            return [1 if self.set(key, value) else 0 for key, value in zip(keys, values, strict=True)]
        starts, chunks, owned = data.starts, data.chunks, data.owned  # `set` changes them in place
        for key, value in zip(keys, values, strict=True):
            index = bisect_right(starts, crc32(key)) - 1
            chunk = chunks[index] if owned[index] else data._own(index)
            known = chunk.get(key, MISSING)
            if known is MISSING:
                data.add(index, chunk, key, value)
                self._length += 1
                self._bytes += memory_bytes(key) + memory_bytes(value)
                news.append(1)
                continue
            news.append(0)
            if known is not value:
                chunk[key] = value
                if not (type(known) is type(value) is bytes and len(known) == len(value)):
                    self._bytes += memory_bytes(value) - memory_bytes(known)
        return news

    def get_each(self, keys: Iterable[bytes]) -> list[Any]:
        """Return the value of each key, None for one that is not there."""
        data = self._data
        if type(data) is not _Chunks:
            return list(map((self._unpacked(data) if type(data) is bytes else data).get, keys))
        starts, chunks = data.starts, data.chunks  # no call for each key: 0.1 µs of the 1.9 of an HGET in a pipeline
        return [chunks[bisect_right(starts, crc32(key)) - 1].get(key) for key in keys]

    def _set_in_dict(self, entries: dict[bytes, Any], key: bytes, value: Any) -> Any:
        known = entries.get(key, MISSING)
        entries[key] = value
        if len(entries) > CAP:
            self._data = _Chunks(entries)
        return known

    def update(self, items: Iterable[tuple[bytes, Any]]) -> int:
        """Set the values of some keys. Return how many keys are new."""
        if type(self._data) is not bytes:
            return sum([self.set(key, value) for key, value in items])
        entries = self._unpacked(self._data)
        entries.update(items)
        known_length, self._length = self._length, len(entries)
        if len(entries) > PACKED_ENTRIES or not self._pack(entries):
            self._data = entries if len(entries) <= CAP else _Chunks(entries)
            self._bytes = _content_bytes(entries)
        return self._length - known_length

    def pop(self, key: bytes, default: Any = None) -> Any:
        """Remove a key and return its value. O(1); at most CAP entries move."""
        data = self._data
        if type(data) is bytes:
            entries = self._unpacked(data)
            value = entries.pop(key, MISSING)
            if value is MISSING:
                return default
            self._length -= 1
            self._data = self._packed(entries)
            return value
        value = data.pop(key, MISSING)
        if value is MISSING:
            return default
        self._length -= 1
        self._bytes -= memory_bytes(key) + memory_bytes(value)
        if type(data) is _Chunks:
            if len(data.chunks) == 1:
                self._data = data.chunks[0]
        elif self._length <= PACKED_ENTRIES and not (
            self._length < PACKED_ENTRIES and _is_short(key) and _is_short(value)
        ):
            self._pack(data)
        return value

    def _pack(self, entries: dict[bytes, Any]) -> bool:
        """Pack at most PACKED_ENTRIES entries if all of them are short. Return True if they are."""
        if not (all(map(_is_short, entries)) and all(map(_is_short, entries.values()))):
            return False
        self._data = self._packed(entries)
        self._bytes = 0
        return True

    # ---- all entries

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the keys: by chunk, and in a chunk in the order of insertion."""
        data = self._data
        return iter(self._unpacked(data)) if type(data) is bytes else iter(data)

    def items(self) -> Iterator[tuple[bytes, Any]]:
        """Iterate over the items, in the order of `__iter__`. The table must not change meanwhile; a copy may."""
        data = self._data
        return iter((self._unpacked(data) if type(data) is bytes else data).items())

    def values(self) -> Iterator[Any]:
        """Iterate over the values, in the order of `__iter__`."""
        data = self._data
        return iter((self._unpacked(data) if type(data) is bytes else data).values())

    def random_item(self, random: Random) -> tuple[bytes, Any]:
        """Return a random item, all equally likely. The table must not be empty. O(CAP)."""
        data = self._data
        if type(data) is _Chunks:
            return data.random_item(random, self._length)
        entries = self._unpacked(data) if type(data) is bytes else data
        return _item_at(entries, int(random.random() * len(entries)))

    def pop_random(self, random: Random) -> bytes:
        """Remove a random key, all equally likely, and return it. The table must not be empty. O(CAP)."""
        data = self._data
        if type(data) is _Chunks:
            key, value = data.pop_random(random, self._length)
            self._length -= 1
            self._bytes -= memory_bytes(key) + memory_bytes(value)
            if len(data.chunks) == 1:
                self._data = data.chunks[0]
        else:
            key, _ = self.random_item(random)
            self.pop(key)
        return key

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, Any]]]:
        """Return the next cursor (0: done) and some items, about `count` of a large table, all of a small one.

        A key that is there from the first call (with cursor 0) to the last one is returned at least once, whatever
        happens to other keys. A cursor is a hash: the items with smaller ones were returned. It needs no memory.
        """
        data = self._data
        return data.scan(cursor % HASHES, count) if type(data) is _Chunks else (0, list(self.items()))

    def copy(self) -> Any:
        """Return an independent copy, of the same class. O(chunks)."""
        copied = type(self)()
        data = self._data
        copied._data = data if type(data) is bytes else data.copy()
        copied._length = self._length
        copied._bytes = self._bytes
        return copied

    def free_some(self) -> None:
        """Remove at most CAP entries of a table that nobody uses any more, so that it can be freed in slices."""
        data = self._data
        if type(data) is _Chunks and len(data.chunks) > 1:
            self._length -= data.drop_last()
        else:
            self._data = EMPTY
            self._length = 0

    # ---- memory, tests

    @property
    def is_large(self) -> bool:
        """Return True if the entries are in chunks."""
        return type(self._data) is _Chunks

    def size_bytes(self) -> int:
        """Return the memory of the table, with its keys and values. O(1)."""
        data = self._data
        return (
            getsizeof(self) + self._bytes + (data.size_bytes() if type(data) is _Chunks else getsizeof(data) + 15 & -16)
        )

    def check(self) -> None:
        """Assert all invariants. O(n)."""
        entries = dict(self.items())
        assert len(entries) == self._length, "the length is wrong"
        short = all(map(_is_short, entries)) and all(map(_is_short, entries.values()))
        packed = len(entries) <= PACKED_ENTRIES and short
        kind: type = bytes if packed else dict if len(entries) <= CAP else _Chunks
        assert type(self._data) is kind, f"{len(entries)} entries are in the form {type(self._data)}"
        assert self._bytes == (0 if packed else _content_bytes(entries)), "the count of bytes is wrong"
        if type(self._data) is _Chunks:
            self._data.check()


def _key_at(entries: dict[bytes, Any], index: int) -> bytes:
    """Return the key with an index, found from the nearer end, because each step reads a key's memory."""
    if 2 * index < len(entries):
        return next(islice(entries, index, None))
    return next(islice(reversed(entries), len(entries) - 1 - index, None))


def _item_at(entries: dict[bytes, Any], index: int) -> tuple[bytes, Any]:
    key = _key_at(entries, index)
    return key, entries[key]


class _Chunks:
    """Chunks by intervals of hashes: each is as wide as a power of two, and begins at a multiple of its width."""

    __slots__ = ("chunks", "crowded", "dicts_bytes", "owned", "starts")

    def __init__(self, entries: dict[bytes, Any] | None = None) -> None:
        self.starts = [0]  # the first hash of each chunk, ascending
        self.chunks: list[dict[bytes, Any]] = [entries or {}]
        self.owned = bytearray(b"\1")  # for each chunk 1 if no copy of this object may refer to it
        self.crowded = 0  # number of chunks with more than CAP entries, because all have one hash
        self.dicts_bytes = 0
        if entries:
            self._split(0)

    # ---- as of a dict

    def __contains__(self, key: bytes) -> bool:
        return key in self.chunks[bisect_right(self.starts, crc32(key)) - 1]

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return the value of a key."""
        return self.chunks[bisect_right(self.starts, crc32(key)) - 1].get(key, default)

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.chunks)

    def items(self) -> Iterator[tuple[bytes, Any]]:
        """Iterate over the items."""
        return chain.from_iterable(map(dict.items, self.chunks))

    def values(self) -> Iterator[Any]:
        """Iterate over the values."""
        return chain.from_iterable(map(dict.values, self.chunks))

    def set(self, key: bytes, value: Any) -> Any:
        """Set the value of a key, and return the one that it had, or MISSING."""
        index = bisect_right(self.starts, crc32(key)) - 1
        chunk = self.chunks[index] if self.owned[index] else self._own(index)
        known = chunk.get(key, MISSING)
        if known is not MISSING:
            chunk[key] = value
            return known
        self.add(index, chunk, key, value)
        return known

    def add(self, index: int, chunk: dict[bytes, Any], key: bytes, value: Any) -> None:
        """Add a new key to a chunk that is owned, and that is the one of the key."""
        before = getsizeof(chunk)
        chunk[key] = value
        self.dicts_bytes += getsizeof(chunk) - before
        if len(chunk) > CAP:
            self.dicts_bytes -= getsizeof(chunk)
            self.crowded -= len(chunk) > CAP + 1
            self._split(index)

    def pop(self, key: bytes, default: Any) -> Any:
        """Remove a key and return its value, or the default."""
        index = bisect_right(self.starts, crc32(key)) - 1
        chunk = self.chunks[index]
        if key not in chunk:
            return default
        if not self.owned[index]:
            chunk = self._own(index)
        value = chunk.pop(key)
        self._shrunk(index, len(chunk))
        return value

    def pop_random(self, random: Random, length: int) -> tuple[bytes, Any]:
        """Remove a random item and return it."""
        index, place = self._random_place(random, length)
        chunk = self.chunks[index] if self.owned[index] else self._own(index)
        key = _key_at(chunk, place)
        value = chunk.pop(key)
        self._shrunk(index, len(chunk))
        return key, value

    def _shrunk(self, index: int, length: int) -> None:
        """Update the shape after a chunk has lost an entry."""
        self.crowded -= length == CAP
        # The other half of an interval is a neighbour. Usually neither has room; then `_join` would take 0.5 µs.
        chunks = self.chunks
        if length + min(len(chunks[index - 1]), len(chunks[index + 1 - len(chunks)])) <= CAP:
            self._join(index)

    def copy(self) -> _Chunks:
        """Return a copy that shares all chunks."""
        copied = _Chunks()
        copied.starts = self.starts.copy()
        copied.chunks = self.chunks.copy()
        self.owned = bytearray(len(self.chunks))
        copied.owned = bytearray(len(self.chunks))
        copied.crowded = self.crowded
        copied.dicts_bytes = self.dicts_bytes
        return copied

    # ---- the shape

    def _own(self, index: int) -> dict[bytes, Any]:
        """Replace a shared chunk by a copy of it."""
        shared = self.chunks[index]
        chunk = self.chunks[index] = shared.copy()
        self.owned[index] = 1
        self.dicts_bytes += getsizeof(chunk) - getsizeof(shared)
        return chunk

    def _end(self, index: int) -> int:
        """Return the first hash behind a chunk."""
        return self.starts[index + 1] if index + 1 < len(self.starts) else HASHES

    def _split(self, index: int) -> None:
        """Split a chunk, whose size is not counted, until no part has more than CAP entries."""
        chunk, start, end = self.chunks[index], self.starts[index], self._end(index)
        if len(chunk) <= CAP or end - start == 1:
            self.crowded += len(chunk) > CAP
            self.dicts_bytes += getsizeof(chunk)
            return
        middle = (start + end) // 2
        low: dict[bytes, Any] = {}
        high: dict[bytes, Any] = {}
        for key, value in chunk.items():
            (low if crc32(key) < middle else high)[key] = value
        self.chunks[index : index + 1] = low, high
        self.starts.insert(index + 1, middle)
        self.owned[index : index + 1] = b"\1\1"
        self._split(index + 1)
        self._split(index)

    def _join(self, index: int) -> None:
        """Join a chunk with the other half of its interval while both together have at most CAP entries."""
        starts, chunks = self.starts, self.chunks
        while len(chunks) > 1:
            start = starts[index]
            width = self._end(index) - start
            if start & width:
                index -= 1
                start -= width
            if starts[index] != start or self._end(index + 1) - start != 2 * width:
                return  # the other half is split
            low, high = chunks[index], chunks[index + 1]
            if len(low) + len(high) > CAP:
                return
            joined = low | high
            self.dicts_bytes += getsizeof(joined) - getsizeof(low) - getsizeof(high)
            chunks[index : index + 2] = (joined,)
            self.owned[index : index + 2] = b"\1"
            del starts[index + 1]

    def drop_last(self) -> int:
        """Remove the last chunk, and return how many entries it had. It is for what nobody uses any more."""
        self.starts.pop()
        self.owned.pop()
        return len(self.chunks.pop())

    # ---- chance and scan

    def random_item(self, random: Random, length: int) -> tuple[bytes, Any]:
        """Return a random item."""
        index, place = self._random_place(random, length)
        return _item_at(self.chunks[index], place)

    def _random_place(self, random: Random, length: int) -> tuple[int, int]:
        """Return a random chunk and a random place in it, drawn again if no item is there."""
        chunks, chance = self.chunks, random.random
        for _ in range(0 if self.crowded else RANDOM_TRIES):
            drawn = chance() * len(chunks)
            index = int(drawn)
            place = int((drawn - index) * CAP)  # from the bits behind the point: a second number takes longer
            if place < len(chunks[index]):
                return index, place
        index, place = 0, int(chance() * length)
        while place >= len(chunks[index]):
            place -= len(chunks[index])
            index += 1
        return index, place

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, Any]]]:
        """Return the next cursor and the items from `cursor` to it: whole chunks, or a part of one."""
        found: list[tuple[bytes, Any]] = []
        index = bisect_right(self.starts, cursor) - 1
        for chunk in islice(self.chunks, index, index + count):
            start, end = self.starts[index], self._end(index)
            wanted = count - len(found)
            if len(chunk) <= wanted and cursor == start:
                found += chunk.items()
            else:
                stop = min(end, cursor + max(1, (end - start) * wanted // max(1, len(chunk))))
                found += [item for item in chunk.items() if cursor <= crc32(item[0]) < stop]
                if stop < end:
                    return stop, found
            index += 1
            cursor = end
            if len(found) >= count:
                break
        return cursor % HASHES, found

    # ---- memory, tests

    def size_bytes(self) -> int:
        """Return the memory of the chunks, without keys and values."""
        parts = (self, self.starts, self.chunks)
        owned_bytes = EMPTY_OWNED_BYTES + len(self.owned)  # a copy of this table replaces it, which is no change
        return self.dicts_bytes + 32 * len(self.starts) + owned_bytes + sum(map(getsizeof, parts))

    def check(self) -> None:
        """Assert all invariants. O(n)."""
        assert len(self.starts) == len(self.chunks) == len(self.owned) > 1, "the lists differ in length"
        assert self.starts[0] == 0, "the first hash has no chunk"
        assert self.dicts_bytes == sum(map(getsizeof, self.chunks)), "the count of bytes is wrong"
        assert self.crowded == sum(len(chunk) > CAP for chunk in self.chunks), "the count of crowded chunks is wrong"
        for index, chunk in enumerate(self.chunks):
            start, end = self.starts[index], self._end(index)
            width = end - start
            assert width > 0, "an interval is empty"
            assert width & (width - 1) == start % width == 0, "an interval is wrong"
            assert all(start <= crc32(key) < end for key in chunk), "a key is in a wrong chunk"
            assert len(chunk) <= CAP or width == 1, "a chunk should have been split"
            if not start & width and self._end(index + 1) == start + 2 * width:
                assert len(chunk) + len(self.chunks[index + 1]) > CAP, "two chunks should have been joined"
