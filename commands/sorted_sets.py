"""Commands of sorted sets: members, scores, ranks, chance. Ranges, pops and algebra have modules of their own.

ZADD logs the members whose score has changed, with their new scores. So do ZINCRBY and ZADD INCR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import commands.sorted_set_algebra
import commands.sorted_set_pops
import commands.sorted_set_ranges  # noqa: F401  (the modules fill the table when imported)
from commands import DENYOOM, FAST, FIRST, READONLY, WRITE, command, fold, for_many
from commands.arguments import (
    MAX_INTEGER,
    MIN_INTEGER,
    MOST_OPTION_WORDS,
    parse_integer,
)
from commands.long_commands import PART_WORDS, in_parts_of_key, is_long
from commands.scanning import Items, scan_table
from commands.scored import (
    AT_ONCE_MEMBERS,
    SLICE_MEMBERS,
    members_between,
    pairs,
    parse_score,
)
from errors import (
    COUNT_OUT_OF_RANGE,
    OUT_OF_RANGE,
    SCORE_NAN,
    SYNTAX,
    TOO_MANY_REPEATED,
    TOO_MANY_WORDS,
    WRONG_ARITY,
    ZADD_GT_LT_AND_NX,
    ZADD_INCR_ONE,
    ZADD_XX_AND_NX,
    CommandError,
)
from replies import NULL_ARRAY, LongArray, LongPairs, Pairs, Reply, Work
from session import Session
from values.score_order import ScoreOrder
from values.sorted_sets import SORTED_SET, SortedSet
from wire.columns import all_alike
from wire.doubles import format_float, parse_float

MOST_REPEATED = 1 << 20  # members of a reply that may name one more than once
NO_OPTIONS: frozenset[bytes] = frozenset()
ZADD_OPTIONS = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))


# ---- adding, removing


@command(
    "ZADD",
    "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
    arity=-4,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="1.2.0",
)
def zadd(session: Session, argv: list[bytes]) -> Reply:
    """Set the scores of members of a sorted set, and count the new ones."""
    if len(argv) != 4:
        return _add(session, argv, NO_OPTIONS)
    _, key, text, member = argv  # the most frequent request has the shortest way
    try:
        score = parse_float(text)
    except ValueError:
        return _add(session, argv, NO_OPTIONS)
    db = session.db
    members: SortedSet = db.create(key, SORTED_SET)
    known = members.exchange(member, score)
    if known != score:
        db.done(key, members, b"ZADD", key, text, member)
    return 1 if known is None else 0


@for_many("ZADD")
def zadd_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run ZADDs of one member each to one sorted set. They are logged as one ZADD."""
    db, key = session.db, keys[0]
    if len(columns) != 2 or not all_alike(keys) or db.usage is not None or db.listener is not None:
        return None  # a client may wait for the first member
    texts, names = columns
    try:
        scores = list(map(parse_float, texts))
        members: SortedSet = db.create(key, SORTED_SET)
    except (ValueError, CommandError):
        return None
    replies: list[int] = []
    changed: list[bytes] = []
    for score, name, text in zip(scores, names, texts, strict=True):
        known = members.exchange(name, score)
        replies.append(1 if known is None else 0)
        if known != score:
            changed += text, name
    if changed:
        db.done(key, members, b"ZADD", key, *changed)
    return replies


@command("ZINCRBY", "key increment member", arity=4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="1.2.0")
def zincrby(session: Session, argv: list[bytes]) -> Reply:
    """Add an increment to the score of a member, and return the new score."""
    return _add(session, argv, frozenset((b"INCR",)))


def _add(session: Session, argv: list[bytes], options: frozenset[bytes]) -> Reply:
    start = 2
    while start < len(argv) and (option := fold(argv[start])) in ZADD_OPTIONS:
        options |= {option}
        start += 1
        if start > MOST_OPTION_WORDS:
            raise CommandError(TOO_MANY_WORDS % (argv[0].lower(), MOST_OPTION_WORDS))
    if options:
        _check_options(options, len(argv) - start)
    if (len(argv) - start) % 2 or start == len(argv):
        raise CommandError(SYNTAX)
    if is_long(argv):
        return _add_in_slices(session, argv, start, options)
    scores = list(map(parse_score, argv[start::2]))
    if b"INCR" in options:
        return _increment(session, argv[1], argv[start + 1], scores[0], options)
    added, changed = _set_scores(session, argv[1], scores, argv[start:], options)
    return changed if b"CH" in options else added


def _check_options(options: frozenset[bytes], words: int) -> None:
    if words % 2 or not words:
        raise CommandError(SYNTAX)
    if {b"NX", b"XX"} <= options:
        raise CommandError(ZADD_XX_AND_NX)
    if len(options & {b"NX", b"GT", b"LT"}) > 1:
        raise CommandError(ZADD_GT_LT_AND_NX)
    if b"INCR" in options and words > 2:
        raise CommandError(ZADD_INCR_ONE)


def _may_set(known: float | None, score: float, options: frozenset[bytes]) -> bool:
    """Return True if the options allow a member to get this score."""
    if known is None:
        return b"XX" not in options
    return not (b"NX" in options or (b"GT" in options and score <= known) or (b"LT" in options and score >= known))


def _set_scores(
    session: Session, key: bytes, scores: Sequence[float], words: list[bytes], options: frozenset[bytes]
) -> tuple[int, int]:
    """Set scores, which `words` has as texts, each before its member. Return how many are new, and how many changed."""
    db = session.db
    members: SortedSet = db.create(key, SORTED_SET)
    before, effect = len(members), []
    for index, score in enumerate(scores):
        member = words[2 * index + 1]
        known = members.get(member)
        if known != score and not (options and not _may_set(known, score, options)):
            members.put(member, score, known)
            effect += words[2 * index : 2 * index + 2]
    if effect:
        db.done(key, members, b"ZADD", key, *effect)
    return len(members) - before, len(effect) // 2


def _increment(session: Session, key: bytes, member: bytes, increment: float, options: frozenset[bytes]) -> Reply:
    db = session.db
    members: SortedSet = db.create(key, SORTED_SET)
    known = members.get(member)
    score = increment if known is None else known + increment
    if isnan(score):
        raise CommandError(SCORE_NAN)
    if not _may_set(known, score, options):
        return None
    if score != known:
        members.put(member, score, known)
        db.done(key, members, b"ZADD", key, format_float(score), member)
    return score


def _add_in_slices(session: Session, argv: list[bytes], start: int, options: frozenset[bytes]) -> Work:
    """Parse all scores, which may be wrong, then set them in parts with the key locked."""
    for begin in range(start, len(argv), PART_WORDS):
        for text in argv[begin : begin + PART_WORDS : 2]:
            parse_score(text)
        yield
    totals = [0, 0]

    def run(session: Session, words: list[bytes]) -> Reply:
        scores = list(map(parse_score, words[2::2]))
        for index, count in enumerate(_set_scores(session, words[1], scores, words[2:], options)):
            totals[index] += count
        return None

    del argv[2:start]
    yield from in_parts_of_key(session, argv, run)
    return totals[b"CH" in options]


@command("ZREM", "key member [member ...]", arity=-3, flags=WRITE | FAST, keys=FIRST, since="1.2.0")
def zrem(session: Session, argv: list[bytes]) -> Reply:
    """Remove members from a sorted set, and count those that were there."""
    if is_long(argv):
        return _remove_in_slices(session, argv)
    _, key, *names = argv
    db = session.db
    members: SortedSet | None = db.change(key, SORTED_SET)
    if members is None:
        return 0
    removed = list(filter(members.remove, names))
    if removed:
        db.done(key, members, b"ZREM", key, *removed)
    return len(removed)


def _remove_in_slices(session: Session, argv: list[bytes]) -> Work:
    counts = yield from in_parts_of_key(session, argv, zrem)
    return sum(counts)  # type: ignore[arg-type]


# ---- scores, ranks


@command("ZCARD", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="1.2.0")
def zcard(session: Session, argv: list[bytes]) -> Reply:
    """Count the members of a sorted set."""
    _, key = argv
    return len(session.db.value(key, SORTED_SET) or ())


@command("ZSCORE", "key member", arity=3, flags=READONLY | FAST, keys=FIRST, since="1.2.0")
def zscore(session: Session, argv: list[bytes]) -> Reply:
    """Return the score of a member of a sorted set."""
    _, key, member = argv
    members: SortedSet | None = session.db.value(key, SORTED_SET)
    return None if members is None else members.get(member)


def _read_many(session: Session, keys: Sequence[bytes], columns: Sequence[Sequence[bytes]]) -> SortedSet | None:
    """Return the sorted set of which each request of a pipeline reads a member, and count the hits; else None."""
    db = session.db
    if len(columns) != 1 or db.usage is not None or not all_alike(keys):
        return None
    members = db.peek(keys[0])
    if type(members) is not SortedSet:
        return None
    db.store.hits += len(keys)
    return members


@for_many("ZSCORE")
def zscore_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run ZSCOREs of one sorted set."""
    members = _read_many(session, keys, columns)
    return None if members is None else members.get_each(columns[0])


@command("ZMSCORE", "key member [member ...]", arity=-3, flags=READONLY | FAST, keys=FIRST, since="6.2.0")
def zmscore(session: Session, argv: list[bytes]) -> Reply:
    """Return the score of each member; null for one that is not there."""
    _, key, *names = argv
    members: SortedSet = session.db.value(key, SORTED_SET) or SortedSet()
    if is_long(argv):
        return _scores_in_slices(session, members.copy(), names)
    return members.get_each(names)


def _scores_in_slices(session: Session, members: SortedSet, names: list[bytes]) -> Work:
    chunks = []
    for start in range(0, len(names), PART_WORDS):
        chunks.append(tuple(map(members.get, names[start : start + PART_WORDS])))
        yield
    session.store.garbage.append(members)
    return LongArray(chunks)


@command("ZRANK", "key member [WITHSCORE]", arity=-3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def zrank(session: Session, argv: list[bytes]) -> Reply:
    """Return the index of a member of a sorted set, counted from the lowest score."""
    return _rank(session, argv, reverse=False)


@for_many("ZRANK")
def zrank_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run ZRANKs of one sorted set."""
    members = _read_many(session, keys, columns)
    if members is None:
        return None
    rank, scores = members.by_rank.rank, members.get_each(columns[0])
    return [None if score is None else rank(score, name) for score, name in zip(scores, columns[0], strict=True)]


@command("ZREVRANK", "key member [WITHSCORE]", arity=-3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def zrevrank(session: Session, argv: list[bytes]) -> Reply:
    """Return the index of a member of a sorted set, counted from the highest score."""
    return _rank(session, argv, reverse=True)


def _rank(session: Session, argv: list[bytes], reverse: bool) -> Reply:
    with_score = len(argv) == 4
    if len(argv) > 4:
        raise CommandError(WRONG_ARITY % argv[0].lower())
    if with_score and fold(argv[3]) != b"WITHSCORE":
        raise CommandError(SYNTAX)
    members: SortedSet | None = session.db.value(argv[1], SORTED_SET)
    score = None if members is None else members.get(argv[2])
    if members is None or score is None:
        return NULL_ARRAY if with_score else None
    rank = members.by_rank.rank(score, argv[2])
    if reverse:
        rank = len(members) - 1 - rank
    return [rank, score] if with_score else rank


# ---- chance, scan


@command("ZRANDMEMBER", "key [count [WITHSCORES]]", arity=-2, flags=READONLY, keys=FIRST, since="6.2.0")
def zrandmember(session: Session, argv: list[bytes]) -> Reply:
    """Return a random member of a sorted set, or `count` different ones, or -`count` that may be equal.

    Differs from Redis: at most 1048576 members that may be equal are returned at once.
    """
    count = _parse_random_count(argv) if len(argv) > 2 else None
    members: SortedSet | None = session.db.value(argv[1], SORTED_SET)
    if members is None:
        return None if count is None else []
    order, random, size = members.by_rank, session.store.random, len(members)
    if count is None:
        return order.at(int(random.random() * size))[1]
    with_scores = len(argv) == 4
    if count >= size:
        return members_between(session, order, 0, size, reverse=False, with_scores=with_scores)
    if abs(count) > AT_ONCE_MEMBERS:
        return _choose_in_slices(session, order.copy(), count, with_scores)
    ranks = random.sample(range(size), count) if count > 0 else [int(random.random() * size) for _ in range(-count)]
    return _at_ranks(order, ranks, with_scores)


def _parse_random_count(argv: list[bytes]) -> int:
    count = parse_integer(argv[2])
    if count == MIN_INTEGER:
        raise CommandError(COUNT_OUT_OF_RANGE)
    if len(argv) > 4 or (len(argv) == 4 and fold(argv[3]) != b"WITHSCORES"):
        raise CommandError(SYNTAX)
    if len(argv) == 4 and abs(count) > MAX_INTEGER // 2:
        raise CommandError(OUT_OF_RANGE)
    if count < -MOST_REPEATED:
        raise CommandError(TOO_MANY_REPEATED % MOST_REPEATED)
    return count


def _at_ranks(order: ScoreOrder, ranks: Sequence[int], with_scores: bool) -> list[bytes] | Pairs:
    elements = list(map(order.at, ranks))
    names = [member for _, member in elements]
    return pairs(([score for score, _ in elements], names)) if with_scores else names


def _choose_in_slices(session: Session, order: ScoreOrder, count: int, with_scores: bool) -> Work:
    """Choose among all ranks, in slices: each with the chance that makes all choices equally likely."""
    random, size = session.store.random, len(order)
    chunks: list[tuple[bytes | float, ...]] = []
    rank, missing = 0, abs(count)
    while missing:
        ranks = []
        for _ in range(min(SLICE_MEMBERS, missing if count < 0 else size - rank)):
            if count < 0:
                ranks.append(int(random.random() * size))
                missing -= 1
            else:
                if random.random() * (size - rank) < missing:
                    ranks.append(rank)
                    missing -= 1
                rank += 1
        chunks.append(tuple(_at_ranks(order, ranks, with_scores)))
        yield
    session.store.garbage.append(order)
    return (LongPairs if with_scores else LongArray)(chunks)


@command("ZSCAN", "key cursor [MATCH pattern] [COUNT count]", arity=-3, flags=READONLY, keys=FIRST, since="2.8.0")
def zscan(session: Session, argv: list[bytes]) -> Reply:
    """List some members of a sorted set with their scores, and the cursor to continue with.

    Differs from Redis: COUNT is limited to 2048, and to less with a long pattern, so that no call delays other clients.
    """
    return scan_table(session, argv, SORTED_SET, _spell)


def _spell(items: Items) -> list[bytes]:
    return [word for member, score in items for word in (member, format_float(score))]
