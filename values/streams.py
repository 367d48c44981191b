"""The type of streams: entries ordered by ID, and the consumer groups that read them (`consumer_groups.py`).

1. The fields of an entry are one tuple: name, value, name, value, … It never changes.
2. Entries are in chunks of at most CHUNK. The last chunk is open: two lists, to which an entry is appended in O(1).
   All others are sealed: one `bytes` (`stream_chunks.py`). A sealed chunk never changes, so copies share it: the copy
   of a million entries takes 0.3 ms. To delete an entry makes its chunk anew.
3. Entries that are trimmed off the first chunk stay in it (`_skip`) until the chunk goes. So a stream that keeps its
   last thousand entries drops one a command, in O(1).

    append                       O(1); a chunk is sealed every CHUNK entries, 0.1 ms
    an ID, the start of a range  O(log chunks + CHUNK)
    a range                      O(log chunks + its entries)
    delete                       O(CHUNK) a chunk, and O(chunks) if a chunk goes
    trim                         O(chunks)

Refused: the chunks of Redis, whose limits count deleted entries, too: approximate trimming would then depend on a past
that a rewritten log and a pool's snapshot do not tell. A cache of the chunk that was unpacked last: 20 KB a stream that
no account knows of.

The module has more than 400 lines because every method works on the chunks and on what is not in one yet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from replies import Block
from values.consumer_groups import GROUP_BYTES, UNKNOWN, Group, Totals
from values.stream_chunks import (
    ENTRY_BYTES,
    FIELD_BYTES,
    MOST_ID,
    SEQUENCE_BITS,
    Chunk,
    block_of,
    bytes_of,
    format_id,
    open_bytes_of,
    pack,
    unpack,
)

Entry = tuple[bytes, "tuple[bytes, ...]"]  # its ID as text, and its fields
Span = tuple[int, int, int]  # a chunk, and the part of it from one index to before another

CHUNK = 64  # entries
CHUNK_BYTES = 1 << 14  # an open chunk of more is sealed
LARGE = 1000  # entries, or pending ones
LARGE_BYTES = 1 << 16
STREAM_BYTES = 560  # an empty one, measured
CHUNK_SHARE_BYTES = 100  # a sealed chunk beside its own size
FREED_CHUNKS = 16  # in one step


class Stream:
    """Entries by ID, and consumer groups by name."""

    __slots__ = (
        "_chunks",
        "_counts",
        "_firsts",
        "_ids",
        "_open_bytes",
        "_rows",
        "_sealed_bytes",
        "_skip",
        "entries_added",
        "groups",
        "last_id",
        "length",
        "max_deleted_id",
        "totals",
    )

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []  # the sealed ones
        self._firsts: list[int] = []  # of each: no ID in it is smaller
        self._counts: list[int] = []  # of each: its entries, without those that are trimmed
        self._skip = 0  # entries of the first sealed chunk that are trimmed
        self._ids: list[int] = []  # of the open chunk
        self._rows: list[tuple[bytes, ...]] = []
        self._open_bytes = 0
        self._sealed_bytes = 0
        self.length = 0
        self.last_id = 0  # the greatest that was ever added, or that was set
        self.max_deleted_id = 0
        self.entries_added = 0  # ever
        self.groups: dict[bytes, Group] = {}
        self.totals = Totals()

    def __len__(self) -> int:
        """Return the number of parts to free: entries and pending entries. `length` is that of the entries."""
        return self.length + self.totals.pending

    def __eq__(self, other: object) -> bool:
        """Compare all that commands can set; so not the times of consumers."""
        if not isinstance(other, Stream):
            return NotImplemented
        return (
            self._numbers() == other._numbers()
            and self.groups == other.groups
            and list(self.entries()) == list(other.entries())
        )

    __hash__ = None  # type: ignore[assignment]

    def _numbers(self) -> tuple[int, ...]:
        return self.length, self.last_id, self.max_deleted_id, self.entries_added

    # ---- reading

    def first_id(self) -> int:
        """Return the ID of the first entry; 0 if there is none."""
        for ids, _ in self.parts():
            return ids[0]
        return 0

    def newest_id(self) -> int:
        """Return the ID of the last entry that is there; 0 if there is none."""
        for ids, _ in self.parts(is_reverse=True):
            return ids[0]
        return 0

    def _load(self, place: int) -> tuple[Sequence[int], Sequence[tuple[bytes, ...]]]:
        """Return the IDs and the fields of a chunk; that behind the sealed ones is the open one."""
        if place == len(self._chunks):
            return self._ids, self._rows
        chunk = self._chunks[place]
        ids, rows = unpack(chunk) if isinstance(chunk, bytes) else chunk
        return (ids[self._skip :], rows[self._skip :]) if place == 0 and self._skip else (ids, rows)

    def _places(self, start: int, end: int, is_reverse: bool) -> Iterable[int]:
        """Return the chunks that may have entries of a range."""
        if start > end:
            return ()
        behind = bisect_right(self._firsts, end)
        if behind == len(self._chunks):
            behind += 1  # the open chunk
        places = range(max(bisect_right(self._firsts, start) - 1, 0), behind)
        return reversed(places) if is_reverse else places

    def parts(
        self, start: int = 0, end: int = MOST_ID, is_reverse: bool = False
    ) -> Iterator[tuple[Sequence[int], Sequence[tuple[bytes, ...]]]]:
        """Yield the entries of a range, both ends included, in parts: their IDs and their fields, at most CHUNK.

        The stream must not change meanwhile: who needs that walks a copy.
        """
        for place in self._places(start, end, is_reverse):
            ids, rows = self._load(place)
            low, high = bisect_left(ids, start), bisect_right(ids, end)
            if low < high:
                ids, rows = ids[low:high], rows[low:high]
                yield (ids[::-1], rows[::-1]) if is_reverse else (ids, rows)

    def blocks(self, start: int, end: int, count: int, is_reverse: bool) -> Iterator[Block]:
        """Yield the first `count` entries of a range, both ends included, chunk by chunk.

        A chunk that is in the range as a whole takes a third of the time, because its entries are not made.
        """
        for place in self._places(start, end, is_reverse):
            chunk = self._chunks[place] if place + 1 < len(self._chunks) else ()
            is_whole = isinstance(chunk, bytes) and self._firsts[place] >= start and self._firsts[place + 1] <= end
            if isinstance(chunk, bytes) and is_whole and (place or not self._skip):
                block = block_of(chunk, count, is_reverse)
            else:
                ids, rows = self._load(place)
                low, high = bisect_left(ids, start), bisect_right(ids, end)
                low, high = (max(low, high - count), high) if is_reverse else (low, min(high, low + count))
                step = -1 if is_reverse else 1
                block = Block(list(map(format_id, ids[low:high][::step])), None, rows[low:high][::step])
            if block.ids:
                yield block
            count -= len(block.ids)
            if not count:
                return

    def spans(self, start: int, end: int, count: int, is_reverse: bool) -> tuple[list[Span], int]:
        """Return where the first `count` entries of a range are, chunk by chunk, and how many these are. O(chunks)."""
        found: list[Span] = []
        left = count
        for place in self._places(start, end, is_reverse):
            if place + 1 < len(self._chunks) and self._firsts[place] >= start and self._firsts[place + 1] <= end:
                low, high = 0, self._counts[place]
            else:
                ids, _ = self._load(place)
                low, high = bisect_left(ids, start), bisect_right(ids, end)
            low, high = (max(low, high - left), high) if is_reverse else (low, min(high, low + left))
            if low < high:
                found.append((place, low, high))
                left -= high - low
        return found, count - left

    def read_span(self, span: Span, is_reverse: bool) -> list[Entry]:
        """Return the entries of a part that `spans` has found, with their IDs as text."""
        place, low, high = span
        ids, rows = self._load(place)
        entries = list(zip(map(format_id, ids[low:high]), rows[low:high]))  # noqa: B905
        return entries[::-1] if is_reverse else entries

    def entries(
        self, start: int = 0, end: int = MOST_ID, is_reverse: bool = False
    ) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        """Yield the entries of a range one by one."""
        for ids, rows in self.parts(start, end, is_reverse):
            yield from zip(ids, rows, strict=True)

    def find(self, ids: Iterable[int]) -> dict[int, tuple[bytes, ...]]:
        """Return the fields of those IDs that exist. A chunk is unpacked once."""
        found = {}
        for place, wanted in self._by_chunk(ids).items():
            present, rows = self._load(place)
            for entry_id in wanted:
                index = bisect_left(present, entry_id)
                if index < len(present) and present[index] == entry_id:
                    found[entry_id] = rows[index]
        return found

    def _by_chunk(self, ids: Iterable[int]) -> dict[int, list[int]]:
        """Return IDs by the chunk in which each would be."""
        by_chunk: dict[int, list[int]] = {}
        open_from = self._ids[0] if self._ids else MOST_ID + 1
        for entry_id in ids:
            place = len(self._chunks) if entry_id >= open_from else bisect_right(self._firsts, entry_id) - 1
            if place >= 0:
                by_chunk.setdefault(place, []).append(entry_id)
        return by_chunk

    def count_from(self, start: int, most: int) -> int:
        """Return the number of entries from an ID on; if it is greater than `most`, a number greater than `most`."""
        count = 0
        for ids, _ in self.parts(start):
            count += len(ids)
            if count > most:
                break
        return count

    def count_below(self, entry_id: int) -> int:
        """Return the number of entries whose ID is smaller."""
        if self._ids and self._ids[0] < entry_id:
            return sum(self._counts) + bisect_left(self._ids, entry_id)
        place = bisect_left(self._firsts, entry_id) - 1
        return sum(self._counts[:place]) + bisect_left(self._load(place)[0], entry_id) if place >= 0 else 0

    # ---- changing

    def next_id(self, now_ms: int) -> int:
        """Return the ID that an entry gets now: greater than all before. It must not be exhausted."""
        first_of_now = now_ms << SEQUENCE_BITS
        return first_of_now if first_of_now > self.last_id else self.last_id + 1

    def append(self, entry_id: int, fields: tuple[bytes, ...]) -> None:
        """Add an entry, whose ID must be greater than `last_id`."""
        ids = self._ids
        ids.append(entry_id)
        self._rows.append(fields)
        self.last_id = entry_id
        self.length += 1
        self.entries_added += 1
        self._open_bytes += ENTRY_BYTES + FIELD_BYTES * len(fields) + len(b"".join(fields))
        if len(ids) >= CHUNK or self._open_bytes > CHUNK_BYTES:
            self._seal()

    def _seal(self) -> None:
        chunk = pack(self._ids, self._rows, self._open_bytes)
        self._chunks.append(chunk)
        self._firsts.append(self._ids[0])
        self._counts.append(len(self._ids))
        self._sealed_bytes += bytes_of(chunk)
        self._ids, self._rows, self._open_bytes = [], [], 0

    def delete(self, ids: Iterable[int]) -> list[int]:
        """Delete entries. Return the IDs of those that existed, in order."""
        deleted: list[int] = []
        for place, wanted in sorted(self._by_chunk(ids).items(), reverse=True):
            present, rows = self._load(place)
            gone = set(wanted).intersection(present)
            if gone:
                kept = [(each, row) for each, row in zip(present, rows, strict=True) if each not in gone]
                self._replace(place, [each for each, _ in kept], [row for _, row in kept])
                self.max_deleted_id = max(self.max_deleted_id, *gone)
                deleted += gone
        self.length -= len(deleted)
        return sorted(deleted)

    def _replace(self, place: int, ids: list[int], rows: list[tuple[bytes, ...]]) -> None:
        """Give a chunk other entries, some of those that it has."""
        if place == len(self._chunks):
            self._ids, self._rows, self._open_bytes = ids, rows, sum(map(open_bytes_of, rows))
            return
        self._sealed_bytes -= bytes_of(self._chunks[place])
        if place == 0:
            self._skip = 0
        if ids:
            self._chunks[place] = chunk = pack(ids, rows, sum(map(open_bytes_of, rows)))
            self._counts[place] = len(ids)
            self._sealed_bytes += bytes_of(chunk)
        else:
            del self._chunks[place], self._firsts[place], self._counts[place]

    def trim(self, excess: int) -> list[Chunk]:
        """Delete the first `excess` entries, as many as there are at most. Return what the caller has to free."""
        self.length -= excess
        counts, whole = self._counts, 0
        if counts and excess < counts[0]:
            self._skip += excess
            counts[0] -= excess
            return []
        while whole < len(counts) and counts[whole] <= excess:
            excess -= counts[whole]
            whole += 1
        dropped = self._chunks[:whole]
        if whole:
            self._sealed_bytes -= sum(map(bytes_of, dropped))
            self._skip = 0
            del self._chunks[:whole], self._firsts[:whole], counts[:whole]
        if excess and counts:
            self._skip += excess
            counts[0] -= excess
        elif excess:
            self._open_bytes -= sum(map(open_bytes_of, self._rows[:excess]))
            del self._ids[:excess], self._rows[:excess]
        return dropped

    def free_some(self) -> None:
        """Remove some hundred entries: for one who frees a stream in slices."""
        if self._chunks:
            del self._chunks[-FREED_CHUNKS:], self._firsts[-FREED_CHUNKS:]
            self.length -= sum(self._counts[-FREED_CHUNKS:])
            del self._counts[-FREED_CHUNKS:]
        elif self._ids:
            self.length -= len(self._ids)
            self._ids, self._rows = [], []
        elif self.groups:
            name, group = self.groups.popitem()
            group.free_some()
            if group:
                self.groups[name] = group

    # ---- groups

    def add_group(self, name: bytes, last_id: int, entries_read: int) -> Group:
        """Add a consumer group, whose name must be new."""
        self.groups[name] = group = Group(self.totals, last_id, entries_read)
        self.totals.held_bytes += GROUP_BYTES + len(name)
        return group

    def remove_group(self, name: bytes) -> Group:
        """Remove a group and return it: the caller has to free it."""
        group = self.groups.pop(name)
        self.totals.held_bytes -= group.size_bytes() + len(name)
        self.totals.pending -= len(group.pending)
        group.leave()
        return group

    def _has_hole_from(self, start: int) -> bool:
        """Return True if an entry of an ID from `start` on was deleted, one that trimming did not come to since."""
        return bool(self.length) and 0 < self.max_deleted_id >= start and self.first_id() <= self.max_deleted_id

    def _number_of(self, entry_id: int, first_id: int) -> int:
        """Return how many entries were added up to an ID, or UNKNOWN. `first_id` is that of the first entry."""
        if not self.entries_added:
            return 0
        if entry_id == self.last_id or (not self.length and entry_id < self.last_id):
            return self.entries_added
        if entry_id < self.last_id and not 0 < self.max_deleted_id >= first_id and entry_id <= first_id:
            return self.entries_added - self.length + (entry_id == first_id)
        return UNKNOWN

    def entries_read(self, group: Group, ids: Sequence[int]) -> int:
        """Return how many entries a group has read after it is given the entries of these IDs, or UNKNOWN."""
        read, first_id = group.entries_read, -1
        last_hole = self.max_deleted_id if self._has_hole_from(ids[0]) else 0
        for entry_id in ids:
            if read != UNKNOWN and entry_id > last_hole:
                read += 1
            elif self.entries_added:
                first_id = self.first_id() if first_id < 0 else first_id
                read = self._number_of(entry_id, first_id)
        return read

    def lag(self, group: Group) -> int | None:
        """Return how many entries a group has not read yet; None if nobody knows."""
        if not self.entries_added:
            return 0
        if group.entries_read != UNKNOWN and not self._has_hole_from(group.last_id):
            return self.entries_added - group.entries_read
        read = self._number_of(group.last_id, self.first_id())
        return None if read == UNKNOWN else self.entries_added - read

    # ---- the row

    def size_bytes(self) -> int:
        """Return the bytes of memory. O(1)."""
        shares = CHUNK_SHARE_BYTES * len(self._chunks)
        return STREAM_BYTES + self._open_bytes + self._sealed_bytes + shares + self.totals.held_bytes

    def is_large(self) -> bool:
        """Return True if to write or free the stream may take longer than a millisecond."""
        return self._sealed_bytes > LARGE_BYTES or len(self) > LARGE

    def copy(self) -> Stream:
        """Return an independent copy. O(chunks + consumers)."""
        copied = Stream()
        copied._chunks = self._chunks[:]
        copied._firsts = self._firsts[:]
        copied._counts = self._counts[:]
        copied._skip = self._skip
        copied._ids = self._ids[:]
        copied._rows = self._rows[:]
        copied._open_bytes = self._open_bytes
        copied._sealed_bytes = self._sealed_bytes
        copied.length, copied.last_id, copied.max_deleted_id, copied.entries_added = self._numbers()
        copied.totals.held_bytes, copied.totals.pending = self.totals.held_bytes, self.totals.pending
        copied.groups = {name: group.copy(copied.totals) for name, group in self.groups.items()}
        return copied

    def check(self) -> None:
        """Assert that the stream is consistent."""
        places = range(len(self._chunks))
        assert len(self._chunks) == len(self._firsts) == len(self._counts)
        assert [len(self._load(place)[0]) for place in places] == self._counts
        assert all(self._counts)
        assert self._skip == 0 or self._chunks
        ids = [entry_id for entry_id, _ in self.entries()]
        assert ids == sorted(set(ids))
        assert self.length == len(ids)
        assert all(first <= self._load(place)[0][0] for place, first in enumerate(self._firsts))
        assert self._firsts == sorted(self._firsts)
        assert len(self._ids) == len(self._rows) < CHUNK
        assert self._open_bytes == sum(map(open_bytes_of, self._rows))
        assert self._sealed_bytes == sum(map(bytes_of, self._chunks))
        assert not ids or ids[-1] <= self.last_id
        assert self.totals.pending == sum(len(group.pending) for group in self.groups.values())
        assert self.totals.held_bytes == sum(len(name) + group.size_bytes() for name, group in self.groups.items())
        for group in self.groups.values():
            group.check()
