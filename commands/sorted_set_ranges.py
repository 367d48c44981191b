"""Commands on ranges of sorted sets: by rank, by score, by member."""

from __future__ import annotations

from commands import DENYOOM, FAST, FIRST, FIRST_TWO, READONLY, WRITE, command, fold
from commands.arguments import check_option_words, parse_integer
from commands.scored import (
    Find,
    by_lex,
    by_rank,
    by_score,
    members_between,
    remove_between,
    store_between,
)
from errors import RANGE_LIMIT, RANGE_WITHSCORES, SYNTAX, CommandError
from replies import Reply
from session import Session
from values.score_order import ScoreOrder
from values.sorted_sets import SORTED_SET, SortedSet

UNLIMITED = -1


class Options:
    """The options of a range: what it goes by, its direction, and what of it is wanted."""

    __slots__ = ("by", "limit", "offset", "reverse", "with_scores")

    def __init__(self, by: bytes = b"", reverse: bool = False) -> None:
        self.by = by  # BYSCORE, BYLEX, or by rank
        self.reverse = reverse
        self.offset = 0
        self.limit = UNLIMITED
        self.with_scores = False

    def parse(self, words: list[bytes], is_free: bool, is_read: bool = True) -> None:
        """Parse the words behind a range. BYSCORE, BYLEX and REV are options if `is_free`."""
        rest = iter(words)
        for word in rest:
            option = fold(word)
            if option == b"WITHSCORES" and is_read:
                self.with_scores = True
            elif option == b"LIMIT":
                offset, limit = next(rest, None), next(rest, None)
                if offset is None or limit is None:
                    raise CommandError(SYNTAX)
                self.offset, self.limit = parse_integer(offset), parse_integer(limit)
            elif is_free and option == b"REV" and not self.reverse:
                self.reverse = True
            elif is_free and option in (b"BYSCORE", b"BYLEX") and not self.by:
                self.by = option
            else:
                raise CommandError(SYNTAX)
        if self.limit != UNLIMITED and not self.by:
            raise CommandError(RANGE_LIMIT)
        if self.with_scores and self.by == b"BYLEX":
            raise CommandError(RANGE_WITHSCORES)

    def find(self, first: bytes, last: bytes) -> Find:
        """Return the range from one bound to another. Raises CommandError."""
        if not self.by:
            return by_rank(first, last, self.reverse)
        low, high = (last, first) if self.reverse else (first, last)
        return self._limited((by_score if self.by == b"BYSCORE" else by_lex)(low, high))

    def _limited(self, find: Find) -> Find:
        """Return the range without what LIMIT leaves out."""
        if not self.offset and self.limit < 0:
            return find

        def find_limited(order: ScoreOrder) -> tuple[int, int]:
            start, stop = find(order)
            if self.offset < 0:
                return 0, 0
            if self.reverse:
                stop -= self.offset
                return (start if self.limit < 0 else max(start, stop - self.limit)), stop
            start += self.offset
            return start, (stop if self.limit < 0 else min(stop, start + self.limit))

        return find_limited


def _read(session: Session, argv: list[bytes], options: Options, is_free: bool = False) -> Reply:
    """Return the members of a range."""
    if len(argv) > 4:
        check_option_words(argv)
        options.parse(argv[4:], is_free)
    find = options.find(argv[2], argv[3])
    members: SortedSet | None = session.db.value(argv[1], SORTED_SET)
    if members is None:
        return []
    order = members.by_rank
    return members_between(session, order, *find(order), options.reverse, options.with_scores)


def _count(session: Session, key: bytes, find: Find) -> Reply:
    members: SortedSet | None = session.db.value(key, SORTED_SET)
    if members is None:
        return 0
    start, stop = find(members.by_rank)
    return max(0, stop - start)


# ---- reading


@command(
    "ZRANGE",
    "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
    arity=-4,
    flags=READONLY,
    keys=FIRST,
    since="1.2.0",
)
def zrange(session: Session, argv: list[bytes]) -> Reply:
    """Return the members of a range of a sorted set: by rank, by score or by member."""
    return _read(session, argv, Options(), is_free=True)


@command("ZREVRANGE", "key start stop [WITHSCORES]", arity=-4, flags=READONLY, keys=FIRST, since="1.2.0")
def zrevrange(session: Session, argv: list[bytes]) -> Reply:
    """Return the members of a range by rank, counted from the highest score."""
    return _read(session, argv, Options(reverse=True))


@command(
    "ZRANGEBYSCORE",
    "key min max [WITHSCORES] [LIMIT offset count]",
    arity=-4,
    flags=READONLY,
    keys=FIRST,
    since="1.0.5",
)
def zrangebyscore(session: Session, argv: list[bytes]) -> Reply:
    """Return the members whose scores are in a range."""
    return _read(session, argv, Options(b"BYSCORE"))


@command(
    "ZREVRANGEBYSCORE",
    "key max min [WITHSCORES] [LIMIT offset count]",
    arity=-4,
    flags=READONLY,
    keys=FIRST,
    since="2.2.0",
)
def zrevrangebyscore(session: Session, argv: list[bytes]) -> Reply:
    """Return the members whose scores are in a range, from the highest score on."""
    return _read(session, argv, Options(b"BYSCORE", reverse=True))


@command("ZRANGEBYLEX", "key min max [LIMIT offset count]", arity=-4, flags=READONLY, keys=FIRST, since="2.8.9")
def zrangebylex(session: Session, argv: list[bytes]) -> Reply:
    """Return the members from one string to another, of a sorted set whose scores are all equal."""
    return _read(session, argv, Options(b"BYLEX"))


@command("ZREVRANGEBYLEX", "key max min [LIMIT offset count]", arity=-4, flags=READONLY, keys=FIRST, since="2.8.9")
def zrevrangebylex(session: Session, argv: list[bytes]) -> Reply:
    """Return the members from one string down to another, of a sorted set whose scores are all equal."""
    return _read(session, argv, Options(b"BYLEX", reverse=True))


@command("ZCOUNT", "key min max", arity=4, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def zcount(session: Session, argv: list[bytes]) -> Reply:
    """Count the members whose scores are in a range."""
    return _count(session, argv[1], by_score(argv[2], argv[3]))


@command("ZLEXCOUNT", "key min max", arity=4, flags=READONLY | FAST, keys=FIRST, since="2.8.9")
def zlexcount(session: Session, argv: list[bytes]) -> Reply:
    """Count the members from one string to another, of a sorted set whose scores are all equal."""
    return _count(session, argv[1], by_lex(argv[2], argv[3]))


# ---- writing


@command(
    "ZRANGESTORE",
    "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
    arity=-5,
    flags=WRITE | DENYOOM,
    keys=FIRST_TWO,
    since="6.2.0",
)
def zrangestore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members of a range of a sorted set, and count them."""
    check_option_words(argv)
    options = Options()
    options.parse(argv[5:], is_free=True, is_read=False)
    return store_between(session, argv, options.find(argv[3], argv[4]))


@command("ZREMRANGEBYRANK", "key start stop", arity=4, flags=WRITE, keys=FIRST, since="2.0.0")
def zremrangebyrank(session: Session, argv: list[bytes]) -> Reply:
    """Remove the members of a range by rank, and count them."""
    return remove_between(session, argv, by_rank(argv[2], argv[3]))


@command("ZREMRANGEBYSCORE", "key min max", arity=4, flags=WRITE, keys=FIRST, since="1.2.0")
def zremrangebyscore(session: Session, argv: list[bytes]) -> Reply:
    """Remove the members whose scores are in a range, and count them."""
    return remove_between(session, argv, by_score(argv[2], argv[3]))


@command("ZREMRANGEBYLEX", "key min max", arity=4, flags=WRITE, keys=FIRST, since="2.8.9")
def zremrangebylex(session: Session, argv: list[bytes]) -> Reply:
    """Remove the members from one string to another, of a sorted set whose scores are all equal, and count them."""
    return remove_between(session, argv, by_lex(argv[2], argv[3]))
