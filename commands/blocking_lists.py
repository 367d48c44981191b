"""The commands of lists that wait for an element: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP.

Each does what its kin in `commands/lists.py` does, and is logged as that. Where that finds nothing, the client waits.
"""

from __future__ import annotations

from commands import BLOCKING, DENYOOM, FIRST_TWO, NOSCRIPT, WRITE, Counted, Keys, command
from commands.arguments import check_read_words
from commands.blocking import parse_timeout, wait_for
from commands.lists import lmpop, move, parse_side, pop_first
from replies import NULL_ARRAY, Reply
from session import Session
from values import LIST

ALL_BUT_LAST = Keys(1, -2, 1)
POP = WRITE | NOSCRIPT | BLOCKING


@command("BLPOP", "key [key ...] timeout", arity=-3, flags=POP, keys=ALL_BUT_LAST, since="2.0.0")
def blpop(session: Session, argv: list[bytes]) -> Reply:
    """Remove the first element of the first list that is not empty; wait for one if all are."""
    return _pop(session, argv, from_left=True)


@command("BRPOP", "key [key ...] timeout", arity=-3, flags=POP, keys=ALL_BUT_LAST, since="2.0.0")
def brpop(session: Session, argv: list[bytes]) -> Reply:
    """Remove the last element of the first list that is not empty; wait for one if all are."""
    return _pop(session, argv, from_left=False)


def _pop(session: Session, argv: list[bytes], from_left: bool) -> Reply:
    check_read_words(argv)
    name, *keys, timeout = argv
    seconds = parse_timeout(timeout)
    popped = pop_first(session.db, keys, 1, from_left)
    if popped is None:
        return wait_for(session, keys, LIST, seconds, NULL_ARRAY, lambda key: [name, key, timeout])
    key, elements = popped
    assert isinstance(elements, list)  # one element is no long reply
    return [key, *elements]


@command(
    "BLMOVE",
    "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
    arity=6,
    flags=WRITE | DENYOOM | NOSCRIPT | BLOCKING,
    keys=FIRST_TWO,
    since="6.2.0",
)
def blmove(session: Session, argv: list[bytes]) -> Reply:
    """Move an element from an end of a list to an end of another list; wait for one if the first is empty."""
    _, source, destination, wherefrom, whereto, timeout = argv
    return _move(session, argv, source, destination, parse_side(wherefrom), parse_side(whereto), timeout)


@command(
    "BRPOPLPUSH",
    "source destination timeout",
    arity=4,
    flags=WRITE | DENYOOM | NOSCRIPT | BLOCKING,
    keys=FIRST_TWO,
    since="2.2.0",
)
def brpoplpush(session: Session, argv: list[bytes]) -> Reply:
    """Move the last element of a list before the first one of another list; wait for one if the first is empty."""
    _, source, destination, timeout = argv
    return _move(session, argv, source, destination, from_left=False, to_left=True, timeout=timeout)


def _move(
    session: Session,
    argv: list[bytes],
    source: bytes,
    destination: bytes,
    from_left: bool,
    to_left: bool,
    timeout: bytes,
) -> Reply:
    seconds = parse_timeout(timeout)
    element = move(session.db, source, destination, from_left, to_left)
    if element is not None:
        return element
    if session.is_executing:
        return None
    return wait_for(session, [source], LIST, seconds, NULL_ARRAY, lambda _: argv)


@command(
    "BLMPOP",
    "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    arity=-5,
    flags=WRITE | BLOCKING,
    keys=Counted(2),
    since="7.0.0",
)
def blmpop(session: Session, argv: list[bytes]) -> Reply:
    """Remove elements from the first list that is not empty, and return them with its key; wait if all are empty."""
    check_read_words(argv)
    seconds = parse_timeout(argv[1])
    reply = lmpop(session, argv[1:])
    if reply is not NULL_ARRAY:
        return reply
    keys = Counted(2).find(argv)
    words = argv[3 + len(keys) :]
    return wait_for(session, keys, LIST, seconds, NULL_ARRAY, lambda key: [*argv[:2], b"1", key, *words])
