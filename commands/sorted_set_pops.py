"""Commands that remove the members with the lowest or the highest scores, and return them.

1. They log a ZREM of the members. More than AT_ONCE_MEMBERS are removed in slices, and logged as a ZREMRANGEBYRANK.
2. BZPOPMIN, BZPOPMAX and BZMPOP are to wait where `pop_first` returns None.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from commands import FAST, FIRST, WRITE, Counted, command, fold
from commands.arguments import MAX_INTEGER, check_read_words, parse_bounded
from commands.scored import AT_ONCE_MEMBERS, pairs, take_in_slices
from errors import COUNT_NEGATIVE, COUNT_NOT_POSITIVE, NUMKEYS_NOT_POSITIVE, SYNTAX, CommandError
from replies import NULL_ARRAY, LongArray, LongPairs, Reply, Work
from session import Session
from values.score_order import Part
from values.sorted_sets import SORTED_SET, SortedSet


@command("ZPOPMIN", "key [count]", arity=-2, flags=WRITE | FAST, keys=FIRST, since="5.0.0")
def zpopmin(session: Session, argv: list[bytes]) -> Reply:
    """Remove the members with the lowest scores from a sorted set, and return them with their scores."""
    return _pop(session, argv, highest=False)


@command("ZPOPMAX", "key [count]", arity=-2, flags=WRITE | FAST, keys=FIRST, since="5.0.0")
def zpopmax(session: Session, argv: list[bytes]) -> Reply:
    """Remove the members with the highest scores from a sorted set, and return them with their scores."""
    return _pop(session, argv, highest=True)


def _pop(session: Session, argv: list[bytes], highest: bool) -> Reply:
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    has_count = len(argv) == 3
    count = parse_bounded(argv[2], 0, MAX_INTEGER, COUNT_NEGATIVE) if has_count else 1
    members: SortedSet | None = session.db.change(argv[1], SORTED_SET)
    if members is None or not count:
        return []
    if min(count, len(members)) > AT_ONCE_MEMBERS:
        return _pop_in_slices(session, argv[1], count, highest)
    popped = pairs(_take(session, argv[1], members, count, highest))
    return popped if has_count else list(popped)


def _take(session: Session, key: bytes, members: SortedSet, count: int, highest: bool) -> Part:
    """Remove up to `count` members, which are few, log it, and return them in the order of their removal."""
    taken = members.take(*_ends(len(members), count, highest))
    if highest:
        _reverse(taken)
    session.db.done(key, members, b"ZREM", key, *taken[1])
    return taken


def _ends(size: int, count: int, highest: bool) -> tuple[int, int]:
    return (max(0, size - count), size) if highest else (0, min(size, count))


def _reverse(part: Part) -> None:
    for column in part:
        column.reverse()


def _pop_in_slices(session: Session, key: bytes, count: int, highest: bool) -> Generator[None, None, LongPairs]:
    chunks: list[tuple[bytes | float, ...]] = []
    ranks = (-count, -1) if highest else (0, count - 1)
    effect = [b"ZREMRANGEBYRANK", key, *(b"%d" % rank for rank in ranks)]

    def receive(part: Part) -> None:
        if highest:
            _reverse(part)
        chunks.append(tuple(pairs(part)))

    yield from take_in_slices(session, key, lambda order: _ends(len(order), count, highest), effect, receive)
    if not highest:
        chunks.reverse()
    return LongPairs(chunks)


@command(
    "ZMPOP",
    "numkeys key [key ...] <MIN | MAX> [COUNT count]",
    arity=-4,
    flags=WRITE,
    keys=Counted(1),
    since="7.0.0",
)
def zmpop(session: Session, argv: list[bytes]) -> Reply:
    """Pop members of the first sorted set that is not empty, and return its key and the members with their scores."""
    check_read_words(argv)
    keys, highest, count = parse_mpop(argv[1:])
    return pop_first(session, keys, highest, count) or NULL_ARRAY


def parse_mpop(words: list[bytes]) -> tuple[list[bytes], bool, int]:
    """Parse numkeys, keys, MIN or MAX, and COUNT; return the keys, True for MAX, and the count."""
    numkeys = parse_bounded(words[0], 1, MAX_INTEGER, NUMKEYS_NOT_POSITIVE)
    where = fold(words[numkeys + 1]) if numkeys + 1 < len(words) else b""
    if where not in (b"MIN", b"MAX"):
        raise CommandError(SYNTAX)
    options = words[numkeys + 2 :]
    if options and (len(options) == 1 or fold(options[0]) != b"COUNT"):
        raise CommandError(SYNTAX)
    count = parse_bounded(options[1], 1, MAX_INTEGER, COUNT_NOT_POSITIVE) if options else 1
    if len(options) > 2:
        raise CommandError(SYNTAX)
    return words[1 : numkeys + 1], where == b"MAX", count


def pop_first(session: Session, keys: Sequence[bytes], highest: bool, count: int) -> Reply:
    """Pop members of the first key that exists; return it and them, or None if there is no such key."""
    for key in keys:
        members: SortedSet | None = session.db.change(key, SORTED_SET)
        if members is None:
            continue
        if min(count, len(members)) > AT_ONCE_MEMBERS:
            return _pop_first_in_slices(session, key, keys, highest, count)
        scores, names = _take(session, key, members, count, highest)
        return [key, list(map(list, zip(names, scores, strict=True)))]
    return None


def _pop_first_in_slices(session: Session, key: bytes, keys: Sequence[bytes], highest: bool, count: int) -> Work:
    popped = yield from _pop_in_slices(session, key, count, highest)
    if popped.size:
        chunks = []
        for chunk in popped.chunks:
            chunks.append(tuple(zip(chunk[::2], chunk[1::2], strict=True)))
            yield
        return LongArray(chunks).behind(key)
    reply = pop_first(session, keys, highest, count)  # the key has ended before it was locked
    if isinstance(reply, Generator):
        reply = yield from reply
    return reply or NULL_ARRAY
