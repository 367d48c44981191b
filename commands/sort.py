"""SORT and SORT_RO: the elements of a list, set or sorted set in order, or other keys in their place.

1. The work is a generator of parts of the result. A few elements are sorted at once. Many are read, sorted in runs,
   merged, and looked up in slices.
2. In slices, all is read as it was when the work began, from a point-in-time view, and no client waits. STORE locks its
   destination meanwhile. So it takes effect when it begins: who asks for the destination waits for the result.
3. STORE logs what it stored, as DEL and RPUSH.

    SORT key BY weight_* GET name_*->field

The first `*` of a pattern stands for the element. A `->field` behind it names a field of a hash. A pattern without `*`
names no key: with BY nothing is sorted, and with GET all is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

from commands import DENYOOM, READONLY, WRITE, command, fold
from commands.arguments import check_option_words, parse_integer
from commands.key_positions import StoreOption
from commands.long_commands import look_up, with_keys_locked
from errors import NOT_SORTABLE, SYNTAX, WRONG_TYPE, CommandError
from keyspace.point_in_time import PointInTimeView
from replies import HELD_BACK, LongArray, Reply, Work
from session import Session
from store import EffectLog, Keyspace
from values import is_string
from values.chunks import elements_of
from values.entry import value_of
from values.hashes import Hash
from values.lists import List
from values.sets import Set, parts_of
from values.sorted_sets import SortedSet
from wire.doubles import parse_float

AT_ONCE_LOOKUPS = 2048  # and elements: to sort so many takes some milliseconds
RUN = 1024  # elements that are sorted in one step
PART = 256  # elements of another step
ELEMENT_BYTES = 64  # of an element of a list beside its own bytes
SPACES = b" \t\n\v\f\r"

Elements = Sequence[bytes]
Found = Sequence[Any]  # strings, or None
Fetch = Callable[["Pattern", Elements], Found]
Parts = Iterator["tuple[Any, ...] | None"]  # None: a pause


class Pattern(NamedTuple):
    """The key, and the field of a hash, that stands for an element."""

    is_element: bool  # the element itself: `#`
    names_key: bool  # it has a `*`
    before: bytes
    behind: bytes
    field: bytes  # none if it is empty


@dataclass(eq=False, repr=False)
class Options:
    """The options of a request."""

    by: Pattern | None = None  # None: the elements themselves
    gets: list[Pattern] = field(default_factory=list)
    descending: bool = False
    alpha: bool = False
    offset: int = 0
    count: int = -1
    store: bytes | None = None

    @property
    def sorts(self) -> bool:
        """Return False if the elements stay in their order."""
        return self.by is None or self.by.names_key

    def bounds(self, size: int) -> tuple[int, int]:
        """Return the part of so many elements that LIMIT leaves."""
        start = min(max(self.offset, 0), size)
        return start, size if self.count < 0 else min(size, start + self.count)


def parse_pattern(text: bytes) -> Pattern:
    """Parse what follows BY or GET."""
    before, star, behind = text.partition(b"*")
    name, arrow, hash_field = behind.partition(b"->")
    if not arrow or not hash_field:
        name, hash_field = behind, b""
    return Pattern(text == b"#", bool(star), before, name, hash_field)


def parse_options(words: list[bytes], may_store: bool) -> Options:
    """Parse what follows the key. Raises CommandError."""
    options, rest = Options(), iter(words)
    for word in rest:
        name = fold(word)
        if name in (b"ASC", b"DESC"):
            options.descending = name == b"DESC"
        elif name == b"ALPHA":
            options.alpha = True
        elif name == b"LIMIT":
            offset, count = _next(rest, 2)
            options.offset, options.count = parse_integer(offset), parse_integer(count)
        elif name == b"STORE" and may_store:
            [options.store] = _next(rest, 1)
        elif name == b"BY":
            options.by = parse_pattern(*_next(rest, 1))
        elif name == b"GET":
            options.gets.append(parse_pattern(*_next(rest, 1)))
        else:
            raise CommandError(SYNTAX)
    return options


def _next(rest: Iterator[bytes], count: int) -> list[bytes]:
    words = list(islice(rest, count))
    if len(words) < count:
        raise CommandError(SYNTAX)
    return words


# ---- the parts of the result


def _parts(options: Options, value: List | Set | SortedSet, fetch: Fetch, garbage: list[Any]) -> Parts:
    """Yield the result in parts, with pauses. The value must not change meanwhile. Raises CommandError.

    What would take long to free is added to `garbage`.
    """
    for elements in _sorted(options, value, fetch, garbage) if options.sorts else _as_is(options, value):
        if elements is None:
            yield None
        elif not options.gets:
            yield tuple(elements)
        else:
            yield tuple(chain.from_iterable(zip(*(fetch(each, elements) for each in options.gets), strict=True)))


def _as_is(options: Options, value: List | Set | SortedSet) -> Iterator[Elements]:
    """Yield the elements that LIMIT leaves in the order of the value, which DESC turns round where there is one."""
    size, backward = len(value), options.descending
    start, stop = options.bounds(size)
    if isinstance(value, Set):
        position = 0
        for part in value.parts():
            yield part[max(0, start - position) : max(0, stop - position)]
            position += len(part)
    elif isinstance(value, SortedSet):
        order = value.by_rank
        for begin in range(start, stop, PART):
            end = min(stop, begin + PART)
            members = order.slice(*((size - end, size - begin) if backward else (begin, end)))[1]
            yield members[::-1] if backward else members
    elif start < stop:
        parts = value.parts_between(*((size - stop, size - start) if backward else (start, stop)))
        for chunk in reversed(parts) if backward else parts:
            elements = elements_of(chunk)
            yield elements[::-1] if backward else elements


def _sorted(
    options: Options, value: List | Set | SortedSet, fetch: Fetch, garbage: list[Any]
) -> Iterator[Elements | None]:
    """Yield the elements that LIMIT leaves in order."""
    runs: list[list[tuple[Any, bytes]]] = []
    garbage.append(runs)
    for elements in parts_of(value, RUN):
        pairs = list(zip(_sort_keys(options, elements, fetch), elements, strict=True))
        pairs.sort(key=itemgetter(0), reverse=options.descending)
        runs.append(pairs)
        yield None
    ordered = (element for _, element in merge(*runs, key=itemgetter(0), reverse=options.descending))
    start, stop = options.bounds(len(value))
    for begin in range(0, stop, PART):
        yield tuple(islice(ordered, PART))[max(0, start - begin) : stop - begin]


def _sort_keys(options: Options, elements: Elements, fetch: Fetch) -> Iterable[Any]:
    """Return what the elements are sorted by. Elements with equal numbers are sorted by themselves."""
    found = elements if options.by is None else fetch(options.by, elements)
    if not options.alpha:
        return zip(map(_number, found), elements, strict=True)
    return elements if options.by is None else [(text is not None, text or b"") for text in found]


def _number(text: bytes | None) -> float:
    """Return the number that C's strtod reads: spaces may come first, and nothing is 0. Raises CommandError."""
    text = (text or b"").split(b"\0", 1)[0]
    try:
        return parse_float(text.lstrip(SPACES)) if text else 0.0
    except ValueError:
        raise CommandError(NOT_SORTABLE) from None


# ---- looking keys up


def _fetching(look: Callable[[list[bytes]], list[Any]]) -> Fetch:
    """Return the function that finds the strings that a pattern means for elements. `look` finds values of keys."""

    def fetch(pattern: Pattern, elements: Elements) -> Found:
        if pattern.is_element:
            return elements
        if not pattern.names_key:
            return [None] * len(elements)
        _, _, before, behind, hash_field = pattern
        values = look([before + element + behind for element in elements])
        if hash_field:
            return [value.get(hash_field) if type(value) is Hash else None for value in values]
        return [value if type(value) is bytes else bytes(value) if is_string(value) else None for value in values]

    return fetch


def _sortable(value: Any) -> List | Set | SortedSet:
    """Return a value that can be sorted; an empty one for None. Raises WRONGTYPE."""
    if value is None:
        return List()
    if not isinstance(value, (List, Set, SortedSet)):
        raise CommandError(WRONG_TYPE)
    return value


# ---- the commands


@command(
    "SORT",
    "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
    arity=-2,
    flags=WRITE | DENYOOM,
    keys=StoreOption((b"STORE",), 2, patterns=(b"BY", b"GET")),
)
def sort(session: Session, argv: list[bytes]) -> Reply:
    """Return the elements of a list, set or sorted set in order, or store them as a list."""
    return _sort(session, argv, may_store=True)


@command(
    "SORT_RO",
    "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
    arity=-2,
    flags=READONLY,
    keys=StoreOption((), 2, patterns=(b"BY", b"GET")),
    since="7.0.0",
)
def sort_ro(session: Session, argv: list[bytes]) -> Reply:
    """Return the elements of a list, set or sorted set in order."""
    return _sort(session, argv, may_store=False)


def _sort(session: Session, argv: list[bytes], may_store: bool) -> Reply:
    check_option_words(argv)
    key, options = argv[1], parse_options(argv[2:], may_store)
    db = session.db
    value = _sortable(db.read(key))
    if isinstance(value, Set) and not options.sorts and (options.store is not None or session.runs_script):
        options.by, options.alpha = None, True  # as in Redis, lest the outcome depend on the order of a set
    if len(value) * max(1, len(options.gets)) > AT_ONCE_LOOKUPS:
        if options.store is None:
            return _read_in_slices(session, key, options, is_write=may_store)
        return _store_in_slices(session, key, options, options.store)
    parts = _parts(options, value, _fetching(lambda keys: list(map(db.read, keys))), [])
    found = [member for part in parts if part is not None for member in part]
    if options.store is None:
        return found
    return _put(db, options.store, List(member or b"" for member in found))


def _put(db: Keyspace, destination: bytes, result: List) -> int:
    """Store a result, and log it."""
    if db.remove(destination) is not None:
        db.effect(b"DEL", destination)
    if result:
        for words in _pushes(destination, result):
            db.effect(*words)
        db.done(destination, result)
    return len(result)


def _pushes(destination: bytes, result: List) -> Iterator[list[bytes]]:
    for part in parts_of(result, PART):
        yield [b"RPUSH", destination, *part]


def _as_it_was(session: Session, view: PointInTimeView, key: bytes, options: Options, garbage: list[Any]) -> Parts:
    """Return the parts of a result, all of which are read from a view."""

    def look(keys: list[bytes]) -> list[Any]:
        entries = look_up(session, view, keys, is_use=not session.no_touch)
        return [None if entry is None else value_of(entry) for entry in entries]

    [entry] = view.live_entries([key])
    value = _sortable(None if entry is None else value_of(entry))
    return _parts(options, value.copy(), _fetching(look), garbage)  # a copy takes microseconds


def _read_in_slices(session: Session, key: bytes, options: Options, is_write: bool) -> Work:
    if session.store.key_lock is not None and not is_write:  # as in `long_commands.count_in_slices`
        return HELD_BACK
    chunks: list[tuple[Any, ...]] = []
    garbage: list[Any] = []
    try:
        with PointInTimeView(session.db) as view:
            for part in _as_it_was(session, view, key, options, garbage):
                if part:
                    chunks.append(part)
                yield
    except GeneratorExit:
        garbage.append(chunks)
        raise
    finally:
        session.store.garbage += garbage
    return LongArray(chunks)


def _store_in_slices(session: Session, key: bytes, options: Options, destination: bytes) -> Work:
    return with_keys_locked(
        session, [destination], lambda effects: _store_locked(session, effects, key, options, destination)
    )


def _store_locked(session: Session, all_effects: EffectLog, key: bytes, options: Options, destination: bytes) -> Work:
    """Make the result in slices; store it, and log it, in one step."""
    db, result, effects = session.db, List(), session.store.log.begin()
    garbage: list[Any] = []
    try:
        with PointInTimeView(db) as view:
            for part in _as_it_was(session, view, key, options, garbage):
                if part:
                    words = [member or b"" for member in part]
                    result.push_right(words)
                    for start in range(0, len(words), PART):
                        effects.append(db.index, (b"RPUSH", destination, *words[start : start + PART]))
                yield
    finally:
        session.store.garbage += garbage
    with session.store.collecting(all_effects):
        if db.remove(destination) is not None:
            db.effect(b"DEL", destination)
        db.done(destination, result)
    if result:
        all_effects.commit(effects, [{destination}], session.store.garbage)
    return len(result)


def stored_bytes(db: Keyspace, argv: list[bytes]) -> int:
    """Return an upper bound of the bytes that a SORT with STORE takes. O(elements) with GET."""
    try:
        options = parse_options(argv[2:], may_store=True)
        value = _sortable(db.peek(argv[1]))
    except CommandError:
        return 0
    if options.store is None:
        return 0
    own_bytes = value.size_bytes()
    fetch = _fetching(lambda keys: list(map(db.peek, keys)))
    size = own_bytes if not options.gets else 0
    for pattern in options.gets:
        size += own_bytes if pattern.is_element else _sum_of(fetch(pattern, part) for part in parts_of(value, PART))
    return size + ELEMENT_BYTES * len(value) * max(1, len(options.gets))


def _sum_of(parts: Iterable[Found]) -> int:
    return sum(len(member) for part in parts for member in part if member)
