"""The commands of the toy list. Whoever imports this has them in the table, until `installed` takes them out."""

from __future__ import annotations

from toy_list import LIST

from commands import DENYOOM, FAST, FIRST, READONLY, WRITE, command
from commands.arguments import parse_integer
from replies import Reply
from session import Session


@command("LPUSH", "key element [element ...]", arity=-3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def lpush(session: Session, argv: list[bytes]) -> Reply:
    """Add elements before the first one of a list."""
    _, key, *elements = argv
    items = session.db.create(key, LIST)
    items.push_left(elements)
    session.db.done(key, items, b"LPUSH", key, *elements)
    return len(items)


@command("RPUSH", "key element [element ...]", arity=-3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def rpush(session: Session, argv: list[bytes]) -> Reply:
    """Add elements behind the last one of a list."""
    _, key, *elements = argv
    items = session.db.create(key, LIST)
    items.push_right(elements)
    session.db.done(key, items, b"RPUSH", key, *elements)
    return len(items)


@command("LPOP", "key", arity=2, flags=WRITE | FAST, keys=FIRST)
def lpop(session: Session, argv: list[bytes]) -> Reply:
    """Take the first element out of a list."""
    _, key = argv
    items = session.db.change(key, LIST)
    if items is None:
        return None
    element: bytes = items.pop_left()
    session.db.done(key, items, b"LPOP", key)
    return element


@command("LRANGE", "key start stop", arity=4, flags=READONLY, keys=FIRST)
def lrange(session: Session, argv: list[bytes]) -> Reply:
    """List the elements from start to stop."""
    _, key, first, last = argv
    start, stop = parse_integer(first), parse_integer(last)
    items = list(session.db.value(key, LIST) or ())
    return items[start : None if stop == -1 else stop + 1]


@command("LLEN", "key", arity=2, flags=READONLY | FAST, keys=FIRST)
def llen(session: Session, argv: list[bytes]) -> Reply:
    """Count the elements of a list."""
    _, key = argv
    return len(session.db.value(key, LIST) or ())
