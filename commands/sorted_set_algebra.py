"""Commands that make one sorted set of several: union, intersection, difference. Plain sets are sources, too.

1. An operation on few members is run at once, on many in slices: a read works on copies of its sources, which are cheap
   (`values/table.py`), a write locks its keys.
2. What stores logs itself, because it is as deterministic, and shorter than its result: see `scored.store_in_slices`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Union

from commands import DENYOOM, FIRST, READONLY, WRITE, Counted, command, fold
from commands.arguments import MAX_INTEGER, parse_bounded, parse_integer
from commands.keyspace_walk import run_at_once
from commands.long_commands import PART_WORDS, copies_in_slices, is_long
from commands.scored import (
    AT_ONCE_MEMBERS,
    members_between,
    parse_score,
    store_in_slices,
    store_result,
)
from errors import INVALID_WEIGHT, LIMIT_NEGATIVE, NO_INPUT_KEYS, SYNTAX, WRONG_TYPE, CommandError
from replies import HELD_BACK, Reply, Work
from session import Session
from values.sets import SET_TYPE, Set
from values.sorted_sets import (
    SORTED_SET,
    Aggregate,
    SortedSet,
    Source,
    Steps,
    add,
    count_common,
    difference,
    intersection,
    larger,
    smaller,
    union,
)

Operand = Union[SortedSet, Set]
AGGREGATES: dict[bytes, Aggregate] = {b"SUM": add, b"MIN": smaller, b"MAX": larger}
KINDS = (SORTED_SET, SET_TYPE)
EMPTY = SortedSet()
SCORES = frozenset((b"WEIGHTS", b"AGGREGATE"))
READ = frozenset((b"WITHSCORES",))
COUNT = frozenset((b"LIMIT",))


class Options(NamedTuple):
    """The options of an operation."""

    weights: list[float] | None = None
    aggregate: Aggregate = add
    with_scores: bool = False
    limit: int = 0


class Operation(NamedTuple):
    """An operation on sources, the options that it takes, and how many members it looks at."""

    run: Callable[[Sequence[Source], Options], Steps]
    options: frozenset[bytes]
    cost: Callable[[Sequence[Operand]], int]


def _cost_of_common(tables: Sequence[Operand]) -> int:
    return min(map(len, tables)) * len(tables)


UNION = Operation(
    lambda sources, options: union(sources, options.aggregate), SCORES, lambda tables: sum(map(len, tables))
)
INTERSECTION = Operation(lambda sources, options: intersection(sources, options.aggregate), SCORES, _cost_of_common)
DIFFERENCE = Operation(lambda sources, _: difference(sources), frozenset(), lambda tables: len(tables[0]) * len(tables))


# ---- the commands


@command(
    "ZUNION",
    "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    arity=-3,
    flags=READONLY,
    keys=Counted(1),
    since="6.2.0",
)
def zunion(session: Session, argv: list[bytes]) -> Reply:
    """Return the members of any of the sets; of scores the sum, or what AGGREGATE says."""
    return _read(session, argv, UNION)


@command(
    "ZINTER",
    "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    arity=-3,
    flags=READONLY,
    keys=Counted(1),
    since="6.2.0",
)
def zinter(session: Session, argv: list[bytes]) -> Reply:
    """Return the members that are in all sets; of scores the sum, or what AGGREGATE says."""
    return _read(session, argv, INTERSECTION)


@command("ZDIFF", "numkeys key [key ...] [WITHSCORES]", arity=-3, flags=READONLY, keys=Counted(1), since="6.2.0")
def zdiff(session: Session, argv: list[bytes]) -> Reply:
    """Return the members of the first set that are in none of the others."""
    return _read(session, argv, DIFFERENCE)


@command("ZINTERCARD", "numkeys key [key ...] [LIMIT limit]", arity=-3, flags=READONLY, keys=Counted(1), since="7.0.0")
def zintercard(session: Session, argv: list[bytes]) -> Reply:
    """Count the members that are in all sets; stop at the limit, unless it is 0."""
    numkeys = _parse_numkeys(argv, 1)
    if is_long(argv):
        return _count_long(session, argv, numkeys)
    tables = _tables(session, argv[2 : 2 + numkeys])
    options = run_at_once(_parse_options(argv[2 + numkeys :], numkeys, COUNT))
    if _cost_of_common(tables) <= AT_ONCE_MEMBERS:
        return run_at_once(count_common(list(map(Source, tables)), options.limit))
    return count_common([Source(table.copy()) for table in tables], options.limit)


@command(
    "ZUNIONSTORE",
    "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    arity=-4,
    flags=WRITE | DENYOOM,
    keys=Counted(2, FIRST),
    since="2.0.0",
)
def zunionstore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members of any of the sets, and count them."""
    return _store(session, argv, UNION)


@command(
    "ZINTERSTORE",
    "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    arity=-4,
    flags=WRITE | DENYOOM,
    keys=Counted(2, FIRST),
    since="2.0.0",
)
def zinterstore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members that are in all sets, and count them."""
    return _store(session, argv, INTERSECTION)


@command(
    "ZDIFFSTORE",
    "destination numkeys key [key ...]",
    arity=-4,
    flags=WRITE | DENYOOM,
    keys=Counted(2, FIRST),
    since="6.2.0",
)
def zdiffstore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members of the first set that are in none of the others, and count them."""
    return _store(session, argv, DIFFERENCE)


# ---- arguments


def _parse_numkeys(argv: list[bytes], position: int) -> int:
    numkeys = parse_integer(argv[position])
    if numkeys < 1:
        raise CommandError(NO_INPUT_KEYS % argv[0].lower())
    if numkeys > len(argv) - position - 1:
        raise CommandError(SYNTAX)
    return numkeys


def _parse_options(words: list[bytes], numkeys: int, allowed: frozenset[bytes]) -> Generator[None, None, Options]:
    """Parse the options of an operation, in steps, because there may be as many weights as keys."""
    options, position = Options(), 0
    while position < len(words):
        option = fold(words[position])
        if option not in allowed:
            raise CommandError(SYNTAX)
        position += 1
        values = words[position : position + (numkeys if option == b"WEIGHTS" else option != b"WITHSCORES")]
        position += len(values)
        if option == b"WITHSCORES":
            options = options._replace(with_scores=True)
        elif option == b"WEIGHTS":
            if len(values) < numkeys:
                raise CommandError(SYNTAX)
            weights: list[float] = []
            for start in range(0, numkeys, PART_WORDS):
                weights += [parse_score(text, INVALID_WEIGHT) for text in values[start : start + PART_WORDS]]
                yield
            options = options._replace(weights=weights)
        elif not values:
            raise CommandError(SYNTAX)
        elif option == b"LIMIT":
            options = options._replace(limit=parse_bounded(values[0], 0, MAX_INTEGER, LIMIT_NEGATIVE))
        elif (aggregate := AGGREGATES.get(fold(values[0]))) is not None:
            options = options._replace(aggregate=aggregate)
        else:
            raise CommandError(SYNTAX)
        yield
    return options


def _tables(session: Session, keys: Sequence[bytes], *, again: bool = False) -> list[Operand]:
    """Return the set at each key; with `again` count no hit or miss. Raises WRONGTYPE."""
    read = session.db.get if again else session.db.read
    return [_table(value) for value in map(read, keys)]


def _table(value: Any) -> Operand:
    if value is None:
        return EMPTY
    if type(value) not in (SORTED_SET.python_type, SET_TYPE.python_type):
        raise CommandError(WRONG_TYPE)
    operand: Operand = value
    return operand


def _sources(tables: Sequence[Operand], options: Options) -> list[Source]:
    if options.weights is None:
        return list(map(Source, tables))
    return list(map(Source, tables, options.weights))


# ---- reading


def _read(session: Session, argv: list[bytes], operation: Operation) -> Reply:
    numkeys = _parse_numkeys(argv, 1)
    if is_long(argv):
        return _read_long(session, argv, numkeys, operation)
    tables = _tables(session, argv[2 : 2 + numkeys])
    options = run_at_once(_parse_options(argv[2 + numkeys :], numkeys, operation.options | READ))
    if operation.cost(tables) <= AT_ONCE_MEMBERS:
        return _members(session, run_at_once(operation.run(_sources(tables, options), options)), options)
    copies = [table.copy() for table in tables]
    return _read_in_slices(session, copies, operation.run(_sources(copies, options), options), options)


def _members(session: Session, result: SortedSet, options: Options) -> Reply:
    order = result.by_rank
    return members_between(session, order, 0, len(order), reverse=False, with_scores=options.with_scores)


def _read_in_slices(session: Session, copies: list[Operand], steps: Steps, options: Options) -> Work:
    try:
        result = yield from steps
    finally:
        session.store.garbage += copies
    reply = _members(session, result, options)
    session.store.garbage.append(result)
    if isinstance(reply, Generator):
        reply = yield from reply
    return reply


def _read_long(session: Session, argv: list[bytes], numkeys: int, operation: Operation) -> Work:
    """Do what `_read` does for thousands of keys."""
    if session.store.key_lock is not None:  # in a pool an entry began to run after this request was admitted
        return HELD_BACK
    copies = yield from copies_in_slices(session, argv[1 : 2 + numkeys], KINDS, missing=EMPTY)
    options = yield from _parse_options(argv[2 + numkeys :], numkeys, operation.options | READ)
    steps = operation.run(_sources(copies, options), options)
    reply = yield from _read_in_slices(session, copies, steps, options)
    return reply


def _count_long(session: Session, argv: list[bytes], numkeys: int) -> Work:
    """Do what `zintercard` does for thousands of keys."""
    if session.store.key_lock is not None:  # as in `_read_long`
        return HELD_BACK
    copies = yield from copies_in_slices(session, argv[1 : 2 + numkeys], KINDS, missing=EMPTY)
    try:
        options = yield from _parse_options(argv[2 + numkeys :], numkeys, COUNT)
        count = yield from count_common(list(map(Source, copies)), options.limit)
    finally:
        session.store.garbage += copies
    return count


# ---- storing


def _store(session: Session, argv: list[bytes], operation: Operation) -> Reply:
    numkeys = _parse_numkeys(argv, 2)
    effect = [argv[0].upper(), *argv[1:]]
    if not is_long(argv):
        tables = _tables(session, argv[3 : 3 + numkeys])
        options = run_at_once(_parse_options(argv[3 + numkeys :], numkeys, operation.options))
        if operation.cost(tables) <= AT_ONCE_MEMBERS:
            result = run_at_once(operation.run(_sources(tables, options), options))
            return store_result(session.db, argv[1], result, effect)
    return store_in_slices(session, effect, effect[1], _combine(session, effect, numkeys, operation))


def _combine(session: Session, argv: list[bytes], numkeys: int, operation: Operation) -> Steps:
    """Run an operation on copies of sets whose keys are locked."""
    copies: list[Operand] = []
    end, again = 3 + numkeys, not is_long(argv)
    try:
        for start in range(3, end, PART_WORDS):
            keys = argv[start : min(start + PART_WORDS, end)]
            copies += [table.copy() for table in _tables(session, keys, again=again)]
            yield
        options = yield from _parse_options(argv[end:], numkeys, operation.options)
        result = yield from operation.run(_sources(copies, options), options)
    finally:
        session.store.garbage += copies
    return result
