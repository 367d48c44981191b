"""Commands on positions: a sorted set with geohashes as scores (`values/geohash.py`).

1. GEOADD logs a ZADD. What stores the result of a search logs the result, because the result depends on sines, whose
   last digit may differ from one machine to another.
2. A search is run at once if its cells have few members, else in slices: a read on a copy of the order, a write with
   its keys locked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any

from commands import DENYOOM, FIRST, FIRST_TWO, READONLY, WRITE, StoreOption, command, fold
from commands.arguments import check_option_words
from commands.geo_query import Query, parse_position, parse_unit
from commands.keyspace_walk import run_at_once
from commands.long_commands import PART_WORDS, is_long
from commands.scored import (
    AT_ONCE_MEMBERS,
    SLICE_MEMBERS,
    store_in_slices,
    store_result,
)
from commands.sorted_sets import zadd
from errors import (
    GEO_ONE_AREA,
    GEO_ONE_CENTER,
    SYNTAX,
    CommandError,
)
from replies import NULL_ARRAY, LongArray, Plain, Reply, Work
from session import Session
from values.entry import NO_DEADLINE
from values.geohash import Area, decode, distance_m, encode, to_text
from values.score_order import ScoreOrder
from values.sorted_sets import SORTED_SET, SortedSet, Steps, rebuild
from wire.doubles import format_float

GEOADD_OPTIONS = frozenset((b"NX", b"XX", b"CH"))


# ---- positions


@command(
    "GEOADD",
    "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
    arity=-5,
    flags=WRITE | DENYOOM,
    keys=FIRST,
    since="3.2.0",
)
def geoadd(session: Session, argv: list[bytes]) -> Reply:
    """Set the positions of members, and count the new ones."""
    start = 2
    while start < len(argv) and fold(argv[start]) in GEOADD_OPTIONS:
        start += 1
    if (len(argv) - start) % 3 or {b"NX", b"XX"} <= set(map(fold, argv[2:start])):
        raise CommandError(SYNTAX)
    work = _add(session, argv, start)
    return work if is_long(argv) else run_at_once(work)


def _add(session: Session, argv: list[bytes], start: int) -> Work:
    """Turn positions into scores, in steps, then run ZADD."""
    words = [b"ZADD", *argv[1:start]]
    for begin in range(start, len(argv), 3 * PART_WORDS):
        part = argv[begin : begin + 3 * PART_WORDS]
        for longitude, latitude, member in zip(part[::3], part[1::3], part[2::3], strict=True):
            words += format_float(encode(parse_position(longitude, latitude))), member
        yield
    reply = zadd(session, words)
    if isinstance(reply, Generator):
        reply = yield from reply
    return reply


@command("GEOPOS", "key [member [member ...]]", arity=-2, flags=READONLY, keys=FIRST, since="3.2.0")
def geopos(session: Session, argv: list[bytes]) -> Reply:
    """Return the longitude and the latitude of each member; null for one that is not there."""
    return _of_each(session, argv, lambda score: list(map(Plain, decode(score))), NULL_ARRAY)


@command("GEOHASH", "key [member [member ...]]", arity=-2, flags=READONLY, keys=FIRST, since="3.2.0")
def geohash(session: Session, argv: list[bytes]) -> Reply:
    """Return the position of each member as a standard geohash of 11 characters; null for one that is not there."""
    return _of_each(session, argv, to_text, None)


def _of_each(session: Session, argv: list[bytes], spell: Callable[[float], Any], missing: Any) -> Reply:
    _, key, *names = argv
    members: SortedSet = session.db.value(key, SORTED_SET) or SortedSet()
    if len(names) <= SLICE_MEMBERS:
        return run_at_once(_spell_in_slices(members, names, spell, missing)).members()
    return _spell_in_slices(members.copy(), names, spell, missing)


def _spell_in_slices(
    members: SortedSet, names: list[bytes], spell: Callable[[float], Any], missing: Any
) -> Generator[None, None, LongArray]:
    chunks: list[tuple[Any, ...]] = []
    for start in range(0, len(names), SLICE_MEMBERS):
        scores = map(members.get, names[start : start + SLICE_MEMBERS])
        chunks.append(tuple(missing if score is None else spell(score) for score in scores))
        yield
    return LongArray(chunks)


@command("GEODIST", "key member1 member2 [M | KM | FT | MI]", arity=-4, flags=READONLY, keys=FIRST, since="3.2.0")
def geodist(session: Session, argv: list[bytes]) -> Reply:
    """Return the distance of two members; null if one of them is not there."""
    if len(argv) > 5:
        raise CommandError(SYNTAX)
    unit_m = parse_unit(argv[4]) if len(argv) == 5 else 1.0
    members: SortedSet = session.db.value(argv[1], SORTED_SET) or SortedSet()
    one, other = map(members.get, argv[2:4])
    return None if one is None or other is None else _spell(distance_m(decode(one), decode(other)) / unit_m)


def _spell(distance: float) -> bytes:
    """Return a distance with four digits behind the point, rounded as in Redis: half a digit to an even one."""
    return b"%d.%04d" % divmod(round(distance * 10000.0), 10000)


# ---- the commands that search


@command(
    "GEOSEARCH",
    "key <FROMMEMBER member | FROMLONLAT longitude latitude>"
    " <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>>"
    " [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
    arity=-7,
    flags=READONLY,
    keys=FIRST,
    since="6.2.0",
)
def geosearch(session: Session, argv: list[bytes]) -> Reply:
    """Return the members in a circle or a box."""
    return _search_area(session, argv, argv[1], Query(), argv[2:])


@command(
    "GEOSEARCHSTORE",
    "destination source <FROMMEMBER member | FROMLONLAT longitude latitude>"
    " <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>>"
    " [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
    arity=-8,
    flags=WRITE | DENYOOM,
    keys=FIRST_TWO,
    since="6.2.0",
)
def geosearchstore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members in a circle or a box, with their positions or distances, and count them."""
    return _search_area(session, argv, argv[2], Query(destination=argv[1]), argv[3:])


def _search_area(session: Session, argv: list[bytes], key: bytes, query: Query, words: list[bytes]) -> Reply:
    check_option_words(argv)
    members: SortedSet | None = session.db.value(key, SORTED_SET)
    while words:
        if not (query.take_area(words, members) or query.take_option(words, may_store=False)):
            raise CommandError(SYNTAX)
    query.check_store(b"GEOSEARCHSTORE")
    if not (query.has_member or query.has_position):
        raise CommandError(GEO_ONE_CENTER % argv[0])
    if query.width is None:
        raise CommandError(GEO_ONE_AREA % argv[0])
    query.check_any()
    return _search(session, argv, key, members, query)


RADIUS_OPTIONS = " [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]"


@command(
    "GEORADIUS",
    f"key longitude latitude radius <M | KM | FT | MI>{RADIUS_OPTIONS} [STORE key] [STOREDIST key]",
    arity=-6,
    flags=WRITE | DENYOOM,
    keys=StoreOption((b"STORE", b"STOREDIST"), 6),
    since="3.2.0",
)
def georadius(session: Session, argv: list[bytes]) -> Reply:
    """Return the members in a circle, or set a key to them and count them."""
    return _search_radius(session, argv, may_store=True, by_member=False)


@command(
    "GEORADIUS_RO",
    f"key longitude latitude radius <M | KM | FT | MI>{RADIUS_OPTIONS}",
    arity=-6,
    flags=READONLY,
    keys=FIRST,
    since="3.2.10",
)
def georadius_ro(session: Session, argv: list[bytes]) -> Reply:
    """Return the members in a circle."""
    return _search_radius(session, argv, may_store=False, by_member=False)


@command(
    "GEORADIUSBYMEMBER",
    f"key member radius <M | KM | FT | MI>{RADIUS_OPTIONS} [STORE key] [STOREDIST key]",
    arity=-5,
    flags=WRITE | DENYOOM,
    keys=StoreOption((b"STORE", b"STOREDIST"), 5),
    since="3.2.0",
)
def georadiusbymember(session: Session, argv: list[bytes]) -> Reply:
    """Return the members in a circle around a member, or set a key to them and count them."""
    return _search_radius(session, argv, may_store=True, by_member=True)


@command(
    "GEORADIUSBYMEMBER_RO",
    f"key member radius <M | KM | FT | MI>{RADIUS_OPTIONS}",
    arity=-5,
    flags=READONLY,
    keys=FIRST,
    since="3.2.10",
)
def georadiusbymember_ro(session: Session, argv: list[bytes]) -> Reply:
    """Return the members in a circle around a member."""
    return _search_radius(session, argv, may_store=False, by_member=True)


def _search_radius(session: Session, argv: list[bytes], may_store: bool, by_member: bool) -> Reply:
    check_option_words(argv)
    members: SortedSet | None = session.db.value(argv[1], SORTED_SET)
    query = Query()
    if by_member:
        query.set_center(members, argv[2])
        if members is not None:  # as in Redis, which reads no radius without a set
            query.set_radius(argv[3], argv[4])
        words = argv[5:]
    else:
        query.center = parse_position(argv[2], argv[3])
        query.set_radius(argv[4], argv[5])
        words = argv[6:]
    while words:
        if not query.take_option(words, may_store):
            raise CommandError(SYNTAX)
    query.check_store(b"STORE option in GEORADIUS")
    query.check_any()
    return _search(session, argv, argv[1], members, query)


# ---- searching

# Distance in meters, score, member. Python's garbage collector does not track a plain tuple of such values.
Found = tuple[float, float, bytes]


def _search(session: Session, argv: list[bytes], key: bytes, members: SortedSet | None, query: Query) -> Reply:
    """Run a search at once, or in slices."""
    destination = query.destination
    if members is None:
        return [] if destination is None else store_result(session.db, destination, SortedSet(), ())
    order = members.by_rank
    is_quick = sum(stop - start for start, stop in _spans(order, query.area)) <= AT_ONCE_MEMBERS // 2
    if destination is None:
        if is_quick:
            return _spell_all(run_at_once(_find(order, query)), query)
        return _read_in_slices(session, order.copy(), query)
    if not is_quick:
        work = _gather(session, key, query)
        return store_in_slices(session, argv, destination, work, logs_itself=False)
    result = run_at_once(_collect(run_at_once(_find(order, query)), query))
    effects = list(rebuild(destination, result, NO_DEADLINE))[1:]
    if session.db.remove(destination) is not None:
        session.db.effect(b"DEL", destination)
    if result:
        session.db.done(destination, result)
        for words in effects:
            session.db.effect(*words)
    return len(result)


def _spans(order: ScoreOrder, area: Area) -> list[tuple[int, int]]:
    """Return the ranks of the members in the cells of an area."""
    return [tuple(order.rank_of_score(bound, behind=False) for bound in cell) for cell in area.cells()]  # type: ignore[misc]


def _find(order: ScoreOrder, query: Query) -> Generator[None, None, list[Found]]:
    """Return the members that a search asks for, in steps."""
    area, limit = query.area, query.count if query.any else 0
    found: list[Found] = []
    for start, stop in _spans(order, area):
        for begin in range(start, stop, SLICE_MEMBERS):
            for score, member in zip(*order.slice(begin, min(stop, begin + SLICE_MEMBERS)), strict=True):
                distance = area.distance_m(decode(score))
                if distance is not None:
                    found.append((distance, score, member))
                    if len(found) == limit:
                        break
            yield
            if len(found) == limit > 0:
                break
        if len(found) == limit > 0:
            break
    by = query.order or (b"ASC" if query.count and not query.any else b"")
    if by:
        found = yield from _sort(found, by == b"DESC")
    return found[: query.count] if query.count else found


def _sort(found: list[Found], descending: bool) -> Generator[None, None, list[Found]]:
    """Sort by distance; where distances are equal, what was found first comes first."""
    if len(found) <= AT_ONCE_MEMBERS:
        return sorted(found, key=lambda each: each[0], reverse=descending)
    order = ScoreOrder([0.0], [b""])  # the number of each as a member; the first element is removed again
    for index, each in enumerate(found):
        order.insert(-each[0] if descending else each[0], b"%016x" % index)
        if not index % SLICE_MEMBERS:
            yield
    order.remove(0.0, b"")
    result: list[Found] = []
    for start in range(0, len(order), SLICE_MEMBERS):
        result += [found[int(number, 16)] for number in order.slice(start, start + SLICE_MEMBERS)[1]]
        yield
    return result


def _spell_row(each: Found, query: Query) -> Any:
    """Return what the reply has of a member."""
    distance, score, member = each
    if not query.shown:
        return member
    row: list[Any] = [member]
    if b"WITHDIST" in query.shown:
        row.append(_spell(distance / query.unit_m))
    if b"WITHHASH" in query.shown:
        row.append(int(score))
    if b"WITHCOORD" in query.shown:
        row.append(list(map(Plain, decode(score))))
    return row


def _spell_all(found: Sequence[Found], query: Query) -> list[Any]:
    return [_spell_row(each, query) for each in found]


def _read_in_slices(session: Session, order: ScoreOrder, query: Query) -> Work:
    """Search in a copy of the order."""
    try:
        found = yield from _find(order, query)
    finally:
        session.store.garbage.append(order)
    rest, chunks = iter(found), []
    while part := list(islice(rest, SLICE_MEMBERS)):
        chunks.append(tuple(_spell_all(part, query)))
        yield
    session.store.garbage.append(found)
    return LongArray(chunks)


def _gather(session: Session, key: bytes, query: Query) -> Steps:
    """Search in a set that has a locked key, and return the result as a set."""
    members: SortedSet = session.db.value(key, SORTED_SET) or SortedSet()
    order = members.by_rank.copy()
    try:
        found = yield from _find(order, query)
        result = yield from _collect(found, query)
    finally:
        session.store.garbage.append(order)
    return result


def _collect(found: Sequence[Found], query: Query) -> Steps:
    result = SortedSet()
    for number, (distance, score, member) in enumerate(found):
        result.set(member, distance / query.unit_m if query.stores_distance else score)
        if not number % SLICE_MEMBERS:
            yield
    result = yield from result.arrange()
    return result
