"""The type of sets: members in a table, and the algebra of sets in small steps.

1. A member is a key of the table (`values/table.py`), so adding, removing, finding, and choosing at random take O(1).
   The order of the members depends only on what was added and removed.
2. `union`, `intersection` and `difference` are generators, because they may take long: each step works on PART_MEMBERS
   members at most. They change none of their sets. The result is a set of its own.
3. Each of them looks at the fewest members that it can. A copy of a set is cheap, so the union begins with a copy of
   the largest set, and the difference with a copy of the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from marshal import dumps, loads
from random import Random
from typing import Any

from values.row import Commands, ValueType, made_anew
from values.strings import is_integer
from values.table import FORMAT, Table

PART_MEMBERS = 256  # of a step
FEW_SETS = 2048  # to sort so many takes a millisecond
DRAWN_PART = 3  # to draw a third of the members takes as long as to pass all of them
REBUILT_MEMBERS = 48  # of a command that rebuilds a set
LARGE_MEMBERS = 1000
LARGE_BYTES = 1 << 16
# the default limits of Redis 7.2: set-max-intset-entries, set-max-listpack-entries, set-max-listpack-value
MOST_INTEGERS = 512
MOST_LISTPACK_MEMBERS = 128
LONGEST_LISTPACK_BYTES = 64

Parts = Iterable[Sequence[bytes]]


class Set(Table):
    """The members of a set. Each method takes O(1), or O(members that it is given or returns)."""

    __slots__ = ()

    @classmethod
    def of(cls, members: Iterable[bytes]) -> Set:
        """Return a set of these members."""
        return cls(dict.fromkeys(members).items())

    # A packed set of integers is a list of ints. It saves 48 of the 380 bytes that a key with five of them takes, and
    # costs 2 µs of an SADD.

    @staticmethod
    def _packed(entries: dict[bytes, Any]) -> bytes:
        """Return members in the packed form."""
        if entries and all(map(bytes.isdigit, entries)):
            numbers = list(map(int, entries))
            if repr(numbers)[1:-1].encode() == b", ".join(entries):  # no zeros before them
                return dumps(numbers, FORMAT)
        return dumps(entries, FORMAT)

    @staticmethod
    def _unpacked(data: bytes) -> Any:  # type: ignore[override]  # that of Table is a function in C
        """Return a dict of the members of the packed form."""
        members = loads(data)
        # The text of all at once takes half as long as the text of each.
        return dict.fromkeys(repr(members)[1:-1].encode().split(b", ")) if type(members) is list else members

    def add(self, member: bytes) -> bool:
        """Add a member. Return True if it is new."""
        return self.set(member, None)

    def add_all(self, members: Sequence[bytes]) -> list[bytes]:
        """Add members, and return the new ones."""
        is_there = self.finder()
        added = {member: None for member in members if not is_there(member)}
        self.update(added.items())
        return list(added)

    def discard(self, member: bytes) -> bool:
        """Remove a member. Return True if it was there."""
        return self.pop(member, True) is None

    def finder(self) -> Callable[[bytes], bool]:
        """Return a function that tells of many members whether they are there; the set must not change meanwhile."""
        data = self._data
        found: Callable[[bytes], bool] = (self._unpacked(data) if type(data) is bytes else data).__contains__
        return found

    def random_member(self, random: Random) -> bytes:
        """Return a member, all equally likely. There is at least one."""
        member, _ = self.random_item(random)
        return member

    def parts(self) -> Iterator[tuple[bytes, ...]]:
        """Yield all members, PART_MEMBERS at a time. The set must not change meanwhile."""
        return parts_of(self, PART_MEMBERS)


def parts_of(members: Iterable[bytes], size: int) -> Iterator[tuple[bytes, ...]]:
    """Yield members, `size` at a time."""
    rest = iter(members)
    while part := tuple(islice(rest, size)):
        yield part


# ---- random members, of any table


def repeated(members: Table, count: int, random: Random) -> Iterator[tuple[bytes, ...]]:
    """Yield `count` random members, each of which may come more than once, in parts."""
    return parts_of((members.random_item(random)[0] for _ in range(count)), PART_MEMBERS)


def distinct(members: Table, count: int, random: Random) -> Iterator[tuple[bytes, ...]]:
    """Yield `count` different random members, all choices equally likely, in parts. There are as many, or more."""
    if count * DRAWN_PART <= len(members):
        return parts_of(_drawn(members, count, random), PART_MEMBERS)
    return _selected(members, count, random)


def _drawn(members: Table, count: int, random: Random) -> Iterator[bytes]:
    """Draw members until enough of them are different."""
    drawn: set[bytes] = set()
    while len(drawn) < count:
        member, _ = members.random_item(random)
        if member not in drawn:
            drawn.add(member)
            yield member


def _selected(members: Table, wanted: int, random: Random) -> Iterator[tuple[bytes, ...]]:
    """Pass all members once, and take each with the chance that it must have given how many are still wanted."""
    left = len(members)
    for part in parts_of(members, PART_MEMBERS):
        taken = []
        for member in part:
            if random.random() * left < wanted:
                taken.append(member)
                wanted -= 1
            left -= 1
        yield tuple(taken)


# ---- algebra


def union(sets: Sequence[Set]) -> Steps:
    """Return the members of all sets."""
    base = max(sets, key=len) if len(sets) <= FEW_SETS else sets[0]
    result: Set = base.copy()
    is_new = _Met(base).is_new
    for other in sets:
        if is_new(other):
            for part in other.parts():
                result.add_all(part)
                yield
        yield
    return result


def difference(sets: Sequence[Set]) -> Steps:
    """Return the members of the first set that are in none of the others."""
    result: Set = sets[0].copy()
    is_new = _Met().is_new
    for other in islice(sets, 1, None):
        if not is_new(other):
            pass
        elif len(other) <= len(result):
            for part in other.parts():
                for member in part:
                    result.discard(member)
                yield
        else:
            is_there, cursor, begun = other.finder(), 0, False
            while cursor or not begun:
                begun = True
                cursor, items = result.scan(cursor, PART_MEMBERS)
                for member, _ in items:
                    if is_there(member):
                        result.discard(member)
                yield
        if not result:
            break
        yield
    return result


def intersection(sets: Sequence[Set]) -> Steps:
    """Return the members that are in all sets. Takes O(members of the smallest set * number of sets)."""
    result = Set()
    for part in _consume((yield from _common(_smallest_first(sets)))):
        result.add_all(part)
        yield
    return result


def count_common(sets: Sequence[Set], limit: int) -> Generator[None, None, int]:
    """Count the members that are in all sets; stop at `limit`, unless it is 0."""
    *smaller, largest = _smallest_first(sets)
    is_there = largest.finder()
    count = 0
    for part in _consume((yield from _common(smaller)) if smaller else largest.parts()):
        count += sum(map(is_there, part))
        if 0 < limit <= count:
            return limit
        yield
    return count


def _smallest_first(sets: Sequence[Set]) -> Sequence[Set]:
    return sorted(sets, key=len) if len(sets) <= FEW_SETS else sets


def _common(sets: Sequence[Set]) -> Generator[None, None, Parts]:
    """Return the members that are in all sets, in parts."""
    parts: Parts = sets[0].parts()
    is_new = _Met(sets[0]).is_new
    for other in islice(sets, 1, None):
        if is_new(other):
            parts = yield from _filtered(parts, other.finder())
            if not parts:
                break
        yield
    return parts


class _Met:
    """The large sets that an operation has met, because a request may name one a million times."""

    def __init__(self, *sets: Set) -> None:
        self._ids = set(map(id, sets))

    def is_new(self, members: Set) -> bool:
        """Return True at the first call with a set, and for each small set."""
        if len(members) <= PART_MEMBERS:
            return True
        if id(members) in self._ids:
            return False
        self._ids.add(id(members))
        return True


def _filtered(parts: Parts, is_wanted: Callable[[bytes], bool]) -> Generator[None, None, Parts]:
    found = []
    for part in _consume(parts):
        if wanted := tuple(filter(is_wanted, part)):
            found.append(wanted)
        yield
    return found


def _consume(parts: Parts) -> Parts:
    """Yield the parts, and free each of a list with its step, because to free all at once takes long."""
    if isinstance(parts, list):
        parts.reverse()
        while parts:
            yield parts.pop()
    else:
        yield from parts


Steps = Generator[None, None, Set]


# ---- the row


def encoding(members: Set) -> bytes:
    """Return the encoding that Redis uses for a set of these members that was just made."""
    if len(members) <= MOST_INTEGERS and all(map(is_integer, members)):
        return b"intset"
    if len(members) <= MOST_LISTPACK_MEMBERS and max(map(len, members)) <= LONGEST_LISTPACK_BYTES:
        return b"listpack"
    return b"hashtable"


def rebuild(key: bytes, members: Set, deadline_ms: int) -> Commands:
    """Return the commands that make a set."""
    return made_anew(key, ((b"SADD", key, *part) for part in parts_of(members, REBUILT_MEMBERS)), deadline_ms)


SET_TYPE = ValueType(
    name=b"set",
    python_type=Set,
    encoding=encoding,
    rebuild=rebuild,
    copy=Set.copy,
    size_bytes=Set.size_bytes,
    is_large=lambda members: len(members) > LARGE_MEMBERS or members.size_bytes() > LARGE_BYTES,
)
