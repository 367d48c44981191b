"""The type of sorted sets: members with scores, in the order of the scores.

    Table         member -> score, and the scan
    ScoreOrder    the elements by (score, member), of a set with more than SMALL members

1. A small set has no `ScoreOrder`: its elements are sorted when someone asks for a rank or a range. So a set of a few
   short members is one `bytes` (see `table.py`).
2. Both parts are copied in O(chunks), and none of their steps is long. So a set of any size is copied, and changed,
   without a pause.

    score O(1); add, remove, rank O(log n); a range O(log n + m); scan as in `table.py`

The module has the algebra of sorted sets, too. A plain set counts as one whose scores are all 1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from math import isnan
from typing import NamedTuple

from values.row import Commands, ValueType, made_anew
from values.score_order import Part, ScoreOrder
from values.sets import Set
from values.table import Table
from wire.doubles import format_float

SMALL = 16  # members; to sort so many takes some microseconds
PART = 24  # members of a command that rebuilds a set
STEP = 256  # members of a step of long work
AT_ONCE = 2048  # members that are sorted in one step
LARGE_BYTES = 1 << 16
LISTPACK_ENTRIES, LISTPACK_BYTES = 128, 64  # a set with more members, or longer ones, is a skiplist in Redis


class SortedSet(Table):
    """Members and their scores, which are floats and never nan."""

    __slots__ = ("_order",)

    def __init__(self) -> None:
        super().__init__()
        self._order: ScoreOrder | None = None

    def copy(self) -> SortedSet:
        """Return an independent copy. O(chunks)."""
        copied: SortedSet = super().copy()
        copied._order = None if self._order is None else self._order.copy()
        return copied

    def free_some(self) -> None:
        """Remove some elements of a set that nobody uses any more, so that it can be freed in slices."""
        if self._order is not None:
            self._order.free_some()
        super().free_some()

    def size_bytes(self) -> int:
        """Return the memory of the set, its members included. O(1)."""
        return super().size_bytes() + (0 if self._order is None else self._order.size_bytes())

    # ---- changing

    def put(self, member: bytes, score: float, known: float | None) -> None:
        """Set the score of a member; `known` is the one that it has, None if it is new."""
        if known == score:
            return
        order = self._order
        if order is None or known is None:
            self.set(member, score)
        else:
            self.replace(member, score)
        if order is None:
            if self._length > SMALL:
                self._order = self._sorted()
        elif known is None:
            order.insert(score, member)
        else:
            order.insert(score, order.remove(known, member))

    def exchange(self, member: bytes, score: float) -> float | None:
        """Set the score of a member, and return the one that it had, None if it is new.

        In a large set one search of the table does what `get` and `put` do with two: 0.6 µs of a ZADD.
        """
        known: float | None
        if self._order is None or not self.is_large:
            known = self.get(member)
            self.put(member, score, known)
            return known
        known = self.swap(member, score)
        if known is None:
            self._order.insert(score, member)
        elif known == score:
            self.replace(member, known)  # which may be 0 where `score` is -0
        else:
            self._order.insert(score, self._order.remove(known, member))
        return known

    def remove(self, member: bytes) -> bool:
        """Remove a member. Return True if it was there."""
        score = self.pop(member)
        if score is None:
            return False
        if self._order is not None:
            self._order.remove(score, member)
            self._forget_order()
        return True

    def take(self, start: int, stop: int) -> Part:
        """Remove the elements from one rank up to another; return their scores and members. O(log n + m)."""
        taken = self.by_rank.take(start, stop)
        for member in taken[1]:
            self.pop(member)
        self._forget_order()
        return taken

    def _forget_order(self) -> None:
        if self._length <= SMALL:
            self._order = None

    # ---- the order

    @property
    def by_rank(self) -> ScoreOrder:
        """Return the elements in order, for reading. O(1), and O(SMALL log SMALL) for a small set."""
        return self._sorted() if self._order is None else self._order

    def _sorted(self) -> ScoreOrder:
        elements = sorted([(score, member) for member, score in self.items()])
        return ScoreOrder([score for score, _ in elements], [member for _, member in elements])

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, float]]]:
        """Do what a table does, but return a set that is not large in its order, on which users of Redis rely."""
        if self.is_large:
            return super().scan(cursor, count)
        scores, members = self.by_rank.slice(0, self._length)
        return 0, list(zip(members, scores, strict=True))

    def arrange(self) -> Generator[None, None, SortedSet]:
        """Put the elements in order, in steps, after they were added with `set`; return the set."""
        if self._length <= AT_ONCE:
            if self._length > SMALL:
                self._order = self._sorted()
            return self
        items = self.items()
        order = ScoreOrder(*_columns(sorted([(score, member) for member, score in islice(items, STEP)])))
        yield
        while part := list(islice(items, STEP)):
            for member, score in part:
                order.insert(score, member)
            yield
        self._order = order
        return self

    # ---- for tests

    def check(self) -> None:
        """Assert all invariants. O(n)."""
        super().check()
        assert (self._order is not None) == (self._length > SMALL), "a small set has no order"
        if self._order is not None:
            self._order.check()
            scores, members = self._order.slice(0, self._length + 1)
            assert len(members) == self._length, "the order has another length"
            assert all(self.get(member) == score for member, score in zip(members, scores, strict=True))


def _columns(elements: list[tuple[float, bytes]]) -> Part:
    return [score for score, _ in elements], [member for _, member in elements]


# ---- the row


def encoding(members: SortedSet) -> bytes:
    """Return the encoding that Redis uses for a set that was just made."""
    if len(members) > LISTPACK_ENTRIES or any(len(member) > LISTPACK_BYTES for member in members):
        return b"skiplist"
    return b"listpack"


def rebuild(key: bytes, members: SortedSet, deadline_ms: int) -> Commands:
    """Return the commands that make a sorted set."""
    return made_anew(key, _parts(key, members), deadline_ms)


def _parts(key: bytes, members: SortedSet) -> Iterator[Sequence[bytes]]:
    rest = members.items()  # in the order of the table, so that the copy of a pool's instance scans alike
    while part := tuple(islice(rest, PART)):
        yield (b"ZADD", key, *(word for member, score in part for word in (format_float(score), member)))


def _is_large(members: SortedSet) -> bool:
    return members.size_bytes() > LARGE_BYTES


SORTED_SET = ValueType(
    name=b"zset",
    python_type=SortedSet,
    encoding=encoding,
    rebuild=rebuild,
    copy=SortedSet.copy,
    size_bytes=SortedSet.size_bytes,
    is_large=_is_large,
)


# ---- algebra


class Source(NamedTuple):
    """A set of an operation, and its weight: a sorted set, or a set, whose members all have the score 1."""

    table: SortedSet | Set
    weight: float = 1.0

    def getter(self) -> Callable[[bytes], float | None]:
        """Return a function from a member to its score, None if it is not there; the set must not change meanwhile."""
        if isinstance(self.table, SortedSet):
            return self.table.getter()
        is_there = self.table.finder()
        return lambda member: 1.0 if is_there(member) else None

    def parts(self) -> Iterator[list[tuple[bytes, float]]]:
        """Yield all members with their scores, STEP at a time."""
        items = self.table.items()
        has_scores = isinstance(self.table, SortedSet)
        while part := list(islice(items, STEP)):
            yield part if has_scores else [(member, 1.0) for member, _ in part]


Aggregate = Callable[[float, float], float]
Steps = Generator[None, None, SortedSet]


def add(known: float, score: float) -> float:
    """Return the sum, or 0 if it is not a number."""
    return _number(known + score)


def smaller(known: float, score: float) -> float:
    """Return the smaller score."""
    return score if score < known else known


def larger(known: float, score: float) -> float:
    """Return the larger score."""
    return score if score > known else known


def _number(score: float) -> float:
    """Return a score, or 0 in place of nan: infinity times 0, and infinity minus infinity."""
    return 0.0 if isnan(score) else score


def _by_size(sources: Sequence[Source]) -> Sequence[Source]:
    """Return the smallest source first: few members are looked up, and sums are made in Redis's order."""
    return sorted(sources, key=lambda source: len(source.table)) if len(sources) <= AT_ONCE else sources


def union(sources: Sequence[Source], aggregate: Aggregate) -> Steps:
    """Return the members of all sources, in steps."""
    ordered = _by_size(sources)
    largest = ordered[-1].table
    if len(ordered) == 2 and ordered[-1].weight == 1 and isinstance(largest, SortedSet):
        result = yield from _merge(largest.copy(), ordered[0], aggregate)
        return result
    result = SortedSet()
    for source in ordered:
        weight = source.weight
        for part in source.parts():
            for member, own in part:
                score = _number(own * weight)
                known = result.get(member)
                result.set(member, score if known is None else aggregate(known, score))
            yield
        yield
    result = yield from result.arrange()
    return result


def _merge(result: SortedSet, source: Source, aggregate: Aggregate) -> Steps:
    """Add the members of a smaller source to a set that is in order already: O(those members)."""
    for part in source.parts():
        for member, own in part:
            score = _number(own * source.weight)
            known = result.get(member)
            result.put(member, score if known is None else aggregate(score, known), known)
        yield
    return result


def intersection(sources: Sequence[Source], aggregate: Aggregate) -> Steps:
    """Return the members that are in all sources, in steps."""
    first, *others = _by_size(sources)
    getters = [(source.getter(), source.weight) for source in others]
    yield
    result = SortedSet()
    for part in first.parts():
        for member, own in part:
            score = _number(own * first.weight)
            for get, weight in getters:
                found = get(member)
                if found is None:
                    break
                score = aggregate(score, found * weight)
            else:
                result.set(member, score)
        yield
    result = yield from result.arrange()
    return result


def difference(sources: Sequence[Source]) -> Steps:
    """Return the members of the first source that are in no other one, in steps."""
    first, *others = sources
    if isinstance(first.table, SortedSet) and sum(len(source.table) for source in others) < len(first.table):
        result = yield from _without(first.table.copy(), others)
        return result
    getters = [source.getter() for source in others]
    yield
    result = SortedSet()
    for part in first.parts():
        for member, score in part:
            if all(get(member) is None for get in getters):
                result.set(member, score)
        yield
    result = yield from result.arrange()
    return result


def _without(result: SortedSet, others: Sequence[Source]) -> Steps:
    """Remove the members of other sources from a set that is in order already: O(those members)."""
    for source in others:
        for part in source.parts():
            for member, _ in part:
                result.remove(member)
            yield
        yield
    return result


def count_common(sources: Sequence[Source], limit: int) -> Generator[None, None, int]:
    """Count the members that are in all sources, in steps; stop at the limit, unless it is 0."""
    first, *others = _by_size(sources)
    getters = [source.getter() for source in others]
    yield
    count = 0
    for part in first.parts():
        for member, _ in part:
            count += all(get(member) is not None for get in getters)
            if limit and count >= limit:
                return count
        yield
    return count
