"""What the commands of sorted sets have in common: scores, ranges, and replies of members with their scores.

1. A range is parsed before its key is read. It is a function from a sorted set to two ranks.
2. Up to AT_ONCE_MEMBERS members are read or removed at once. More are read in slices from a copy of the order, which is
   cheap (`values/score_order.py`), and removed in slices with the key locked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import inf
from typing import TypeVar

from commands.arguments import parse_integer
from commands.keyspace_walk import run_at_once
from commands.long_commands import lock_keys, run_locked, with_keys_locked
from errors import INVALID_LEX_RANGE, INVALID_SCORE_RANGE, NOT_A_FLOAT, CommandError
from keyspace.key_locks import KeyLock
from replies import LongArray, LongPairs, Pairs, Reply, Strings, Work
from session import Session
from store import EffectLog, Keyspace
from values.entry import NO_DEADLINE
from values.score_order import Part, ScoreOrder
from values.sorted_sets import SORTED_SET, SortedSet, Steps, rebuild
from wire.doubles import parse_bound, parse_float

AT_ONCE_MEMBERS = 2048  # to handle so many takes a millisecond or two
SLICE_MEMBERS = 256
T = TypeVar("T")

Find = Callable[[ScoreOrder], "tuple[int, int]"]  # the rank of the first member of a range, and the one behind the last


def parse_score(text: bytes, error: bytes = NOT_A_FLOAT) -> float:
    """Parse a score, an increment or a weight. Raises CommandError with the text `error`."""
    try:
        return parse_float(text)
    except ValueError:
        raise CommandError(error) from None


# ---- ranges


def by_rank(first: bytes, last: bytes, reverse: bool = False) -> Find:
    """Return the range from one index to another, both included; negative ones count from the end."""
    begin, end = parse_integer(first), parse_integer(last)

    def find(order: ScoreOrder) -> tuple[int, int]:
        size = len(order)
        start = max(0, begin + size if begin < 0 else begin)
        stop = min(size, (end + size if end < 0 else end) + 1)
        return (size - stop, size - start) if reverse else (start, stop)

    return find


def by_score(low: bytes, high: bytes) -> Find:
    """Return the range from one score to another; `(` before one excludes it."""
    lowest, low_open = INFINITE.get(low) or _score_bound(low)
    highest, high_open = INFINITE.get(high) or _score_bound(high)

    def find(order: ScoreOrder) -> tuple[int, int]:
        start = 0 if lowest == -inf and not low_open else order.rank_of_score(lowest, behind=low_open)
        stop = len(order) if highest == inf and not high_open else order.rank_of_score(highest, behind=not high_open)
        return start, stop

    return find


INFINITE = {b"-inf": (-inf, False), b"+inf": (inf, False), b"inf": (inf, False)}


def _score_bound(text: bytes) -> tuple[float, bool]:
    is_open = text.startswith(b"(")
    try:
        return parse_bound(text[1:] if is_open else text), is_open
    except ValueError:
        raise CommandError(INVALID_SCORE_RANGE) from None


def by_lex(low: bytes, high: bytes) -> Find:
    """Return the range from one member to another, of members that all have one score.

    `[` before a member includes it, and `(` excludes it; `-` is before and `+` behind all members.
    """
    lowest, highest = _lex_bound(low), _lex_bound(high)

    def find(order: ScoreOrder) -> tuple[int, int]:
        return _rank_of_member(order, lowest, False), _rank_of_member(order, highest, True)

    return find


def _lex_bound(text: bytes) -> bytes:
    if text[:1] not in (b"[", b"(") and text not in (b"-", b"+"):
        raise CommandError(INVALID_LEX_RANGE)
    return text


def _rank_of_member(order: ScoreOrder, bound: bytes, is_end: bool) -> int:
    if bound == b"-":
        return 0
    if bound == b"+":
        return len(order)
    return order.rank_of_member(bound[1:], behind=is_end == bound.startswith(b"["))


# ---- replies


def pairs(part: Part) -> Pairs:
    """Return members, each with its score behind it."""
    scores, members = part
    reply = Pairs(members * 2)
    reply[::2] = members
    reply[1::2] = scores
    return reply


def members_between(
    session: Session, order: ScoreOrder, start: int, stop: int, reverse: bool, with_scores: bool
) -> Reply:
    """Return the members from one rank up to another, in slices if they are many."""
    if stop - start > AT_ONCE_MEMBERS:
        return _in_slices(session, order.copy(), start, stop, reverse, with_scores)
    part = _slice(order, start, stop, reverse, with_scores)
    return pairs(part) if with_scores else Strings(part[1])


def _slice(order: ScoreOrder, start: int, stop: int, reverse: bool, with_scores: bool) -> Part:
    part = order.slice(start, stop, with_scores)
    if reverse:
        for column in part:
            column.reverse()
    return part


def _in_slices(session: Session, order: ScoreOrder, start: int, stop: int, reverse: bool, with_scores: bool) -> Work:
    """Read a copy of the order, which nobody changes."""
    chunks, members_bytes = [], 0
    try:
        while start < stop:
            step = min(SLICE_MEMBERS, stop - start)
            if reverse:
                stop -= step
                part = _slice(order, stop, stop + step, reverse, with_scores)
            else:
                start += step
                part = _slice(order, start - step, start, reverse, with_scores)
            chunks.append(tuple(pairs(part)) if with_scores else tuple(part[1]))
            members_bytes += sum(map(len, part[1]))
            yield
    except GeneratorExit:
        session.store.garbage.append(chunks)
        raise
    finally:
        session.store.garbage.append(order)
    return (LongPairs if with_scores else LongArray)(chunks, members_bytes)


# ---- storing


def store_result(db: Keyspace, destination: bytes, result: SortedSet, effect: Sequence[bytes]) -> int:
    """Set a key to a sorted set, delete it if the set is empty, and log it; return the number of members."""
    existed = db.remove(destination) is not None
    if result:
        db.done(destination, result, *effect)
    elif existed:
        db.effect(b"DEL", destination)
    return len(result)


def store_in_slices(
    session: Session, argv: list[bytes], destination: bytes, work: Steps, logs_itself: bool = True
) -> Generator[None, None, int]:
    """Do work with all words of a request locked, and store its result; log the request, or its result.

    Though a source is locked, it may expire or be evicted meanwhile. Then its DEL is in the log before the effects of
    this request, so the result is logged in any case.
    """
    lock = yield from lock_keys(session, argv)
    count = yield from run_locked(session, lock, _store_locked(session, lock, argv, destination, work, logs_itself))
    return count


def _store_locked(
    session: Session, lock: KeyLock, argv: list[bytes], destination: bytes, work: Steps, logs_itself: bool
) -> Generator[None, None, int]:
    db, store = session.db, session.store
    before = store.expired_keys, store.evicted_keys
    result = yield from work
    effect: Sequence[bytes] = argv
    if not logs_itself or before != (store.expired_keys, store.evicted_keys):
        effect = ()
        for words in rebuild(destination, result, NO_DEADLINE) if result else ():
            lock.effects.append(db.index, words)
            yield
    with store.collecting(lock.effects):
        return store_result(db, destination, result, effect)


def store_between(session: Session, argv: list[bytes], find: Find) -> Reply:
    """Set the key argv[1] to the members of a range of the sorted set at argv[2], and return their number."""
    members: SortedSet | None = session.db.value(argv[2], SORTED_SET)
    if members is None:
        return store_result(session.db, argv[1], SortedSet(), argv)
    order = members.by_rank
    start, stop = find(order)
    if stop - start > AT_ONCE_MEMBERS:
        return store_in_slices(session, argv, argv[1], _gather(session, argv[2], find))
    return store_result(session.db, argv[1], run_at_once(_take_over(order, start, stop)), argv)


def _gather(session: Session, source: bytes, find: Find) -> Steps:
    """Read a range of a set that has a locked key."""
    members: SortedSet = session.db.value(source, SORTED_SET) or SortedSet()
    order = members.by_rank.copy()
    try:
        result = yield from _take_over(order, *find(order))
    finally:
        session.store.garbage.append(order)
    return result


def _take_over(order: ScoreOrder, start: int, stop: int) -> Steps:
    result = SortedSet()
    for begin in range(start, stop, SLICE_MEMBERS):
        for score, member in zip(*order.slice(begin, min(stop, begin + SLICE_MEMBERS)), strict=True):
            result.set(member, score)
        yield
    result = yield from result.arrange()
    return result


# ---- removing


def remove_between(session: Session, argv: list[bytes], find: Find) -> Reply:
    """Remove the members of a range from the sorted set of a request, which is logged; return their number."""
    key, db, effect = argv[1], session.db, [argv[0].upper(), *argv[1:]]
    members: SortedSet | None = db.change(key, SORTED_SET)
    if members is None:
        return 0
    start, stop = find(members.by_rank)
    if stop - start > AT_ONCE_MEMBERS:
        return take_in_slices(session, key, find, effect, lambda _: None)
    if stop <= start:
        return 0
    members.take(start, stop)
    db.done(key, members, *effect)
    return stop - start


def take_in_slices(
    session: Session, key: bytes, find: Find, effect: list[bytes], receive: Callable[[Part], object]
) -> Generator[None, None, int]:
    """Remove the members of a range, with the key locked; hand them to `receive`, the last ones first.

    Return their number. The effect is logged when all of them are removed.
    """
    return with_keys_locked(
        session, [key], lambda effects: _take_locked(session.db, effects, key, find, effect, receive)
    )


def _take_locked(
    db: Keyspace, effects: EffectLog, key: bytes, find: Find, effect: list[bytes], receive: Callable[[Part], object]
) -> Generator[None, None, int]:
    count, start, stop = 0, -1, 0
    while start < stop:
        members: SortedSet | None = db.change(key, SORTED_SET)
        if members is None:  # it has expired
            break
        if start < 0:
            start, stop = find(members.by_rank)
        taken = members.take(max(start, stop - SLICE_MEMBERS), stop)
        db.done(key, members)
        receive(taken)
        count += len(taken[1])
        stop -= SLICE_MEMBERS
        yield
    if count:
        effects.append(db.index, effect)
    return count
