"""The type of hashes: fields and their values in a table.

1. A field is a key of the table (`values/table.py`): to get, set, remove, and choose one at random takes O(1).
2. The order of the fields depends only on what was set and removed.
3. A hash of which some fields have deadlines keeps them in a sorted set, whose scores they are. Other hashes pay one
   reference for it. Nothing here knows the time: a field whose deadline has passed stays until it is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any

from values.entry import NO_DEADLINE
from values.row import Commands, ValueType, made_anew
from values.sorted_sets import SortedSet
from values.table import Table

PART_FIELDS = 128  # of a step of long work
REBUILT_FIELDS = 24  # of a command that rebuilds a hash
LARGE_FIELDS = 1000
LARGE_BYTES = 1 << 16
LISTPACK_FIELDS, LISTPACK_BYTES = 512, 64  # a hash with more fields, or longer ones, is a hashtable in Redis

Item = tuple[bytes, bytes]  # a field and its value


class Hash(Table):
    """The fields of a hash."""

    __slots__ = ("deadlines",)

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.deadlines: SortedSet | None = None  # field -> deadline in Unix ms, of the fields that have one
        super().__init__(items)

    def __eq__(self, other: object) -> bool:
        """Return True if the other one has equal fields, in the same order, with equal deadlines."""
        if type(other) is not Hash or not super().__eq__(other):
            return False
        return list(self._deadlines_by_time()) == list(other._deadlines_by_time())

    __hash__ = None

    def pop(self, field: bytes, default: Any = None) -> Any:
        """Remove a field and its deadline, and return its value. `set` keeps the deadline."""
        if self.deadlines is not None:
            self.persist(field)
        return super().pop(field, default)

    def copy(self) -> Hash:
        """Return an independent copy. O(chunks)."""
        copied: Hash = super().copy()
        if self.deadlines is not None:
            copied.deadlines = self.deadlines.copy()
        return copied

    def free_some(self) -> None:
        """Remove some fields of a hash that nobody uses any more, so that it can be freed in slices."""
        if self.deadlines:
            self.deadlines.free_some()
        super().free_some()

    def size_bytes(self) -> int:
        """Return the memory of the hash, with its fields and values. O(1)."""
        return super().size_bytes() + (0 if self.deadlines is None else self.deadlines.size_bytes())

    # ---- deadlines: O(log n)

    def set_deadline(self, field: bytes, deadline_ms: int) -> None:
        """Set the deadline of a field that exists."""
        if self.deadlines is None:
            self.deadlines = SortedSet()
        self.deadlines.put(field, float(deadline_ms), self.deadlines.get(field))

    def persist(self, field: bytes) -> bool:
        """Remove the deadline of a field. Return True if it had one."""
        if self.deadlines is None or not self.deadlines.remove(field):
            return False
        if not self.deadlines:
            self.deadlines = None
        return True

    def deadline_ms(self, field: bytes) -> int:
        """Return the deadline of a field, or NO_DEADLINE."""
        return NO_DEADLINE if self.deadlines is None else int(self.deadlines.get(field, NO_DEADLINE))

    def first_deadline_ms(self) -> int:
        """Return the earliest deadline, or NO_DEADLINE."""
        return NO_DEADLINE if self.deadlines is None else int(self.deadlines.by_rank.at(0)[0])

    def due_count(self, until_ms: int) -> int:
        """Return the number of fields whose deadline is not after `until_ms`."""
        return 0 if self.deadlines is None else self.deadlines.by_rank.rank_of_score(until_ms, behind=True)

    def due(self, until_ms: int, most: int) -> list[bytes]:
        """Return fields whose deadline is not after `until_ms`, the earliest ones first, `most` at most."""
        if self.deadlines is None:
            return []
        return self.deadlines.by_rank.slice(0, min(most, self.due_count(until_ms)))[1]

    def _deadlines_by_time(self) -> Iterator[tuple[float, bytes]]:
        """Yield deadlines and fields in order. The hash must not change meanwhile."""
        if self.deadlines is not None:
            order = self.deadlines.by_rank
            for start in range(0, len(order), PART_FIELDS):
                yield from zip(*order.slice(start, start + PART_FIELDS), strict=True)

    def parts(self, size: int = PART_FIELDS) -> Iterator[list[Item]]:
        """Yield all fields with their values, `size` at a time. The hash must not change meanwhile."""
        items = self.items()
        while part := list(islice(items, size)):
            yield part

    # ---- for tests

    def check(self) -> None:
        """Assert all invariants. O(n)."""
        super().check()
        if self.deadlines is not None:
            self.deadlines.check()
            assert self.deadlines, "no deadlines, and yet a sorted set of them"
            assert all(field in self for field in self.deadlines), "a deadline of a field that does not exist"


def encoding(fields: Hash) -> bytes:
    """Return the encoding that Redis uses for a hash of these fields that was just made."""
    is_short = len(fields) <= LISTPACK_FIELDS and all(
        len(word) <= LISTPACK_BYTES for item in fields.items() for word in item
    )
    if not is_short:
        return b"hashtable"
    return b"listpack" if fields.deadlines is None else b"listpackex"


def rebuild(key: bytes, fields: Hash, deadline_ms: int) -> Commands:
    """Return the commands that make a hash."""
    parts = ((b"HSET", key, *chain.from_iterable(part)) for part in fields.parts(REBUILT_FIELDS))
    return made_anew(key, chain(parts, _expiring(key, fields)), deadline_ms)


def _expiring(key: bytes, fields: Hash) -> Iterator[Sequence[bytes]]:
    """Yield the commands that set the deadlines of fields."""
    for deadline_ms, items in groupby(fields._deadlines_by_time(), itemgetter(0)):
        names = map(itemgetter(1), items)
        while part := tuple(islice(names, REBUILT_FIELDS)):
            yield deadline_effect(key, int(deadline_ms), part)


def deadline_effect(key: bytes, deadline_ms: int, names: Sequence[bytes]) -> Sequence[bytes]:
    """Return the command that gives fields a deadline."""
    return (b"HPEXPIREAT", key, b"%d" % deadline_ms, b"FIELDS", b"%d" % len(names), *names)


HASH = ValueType(
    name=b"hash",
    python_type=Hash,
    encoding=encoding,
    rebuild=rebuild,
    copy=Hash.copy,
    size_bytes=Hash.size_bytes,
    is_large=lambda fields: len(fields) > LARGE_FIELDS or fields.size_bytes() > LARGE_BYTES,
)
