"""Reads that look at a whole keyspace, made in slices so that other clients are served in between.

It owns what such a read does between its slices, and when it is worth it; how often it is woken is the server's
business. A small keyspace is read at once, and exactly. Of a large one the command leaves its work in `session.work`
and answers WAIT: the server does it a millisecond a turn, then sends what came out.

    work = listing(db, None)      a generator: each `next` looks at some places, and its end brings the reply
    at_once(work)                 the same reply without a pause: for a small keyspace, and inside a transaction

**It is not a moment's picture.** A key that is there from start to end is met, and none is met twice; one that comes,
goes or expires meanwhile may be met or not. Only reads may be so: whatever writes runs from start to end. Refused: a
copy of the keyspace's keys at the start, which alone stalls the loop (20 ms a million), and a set of the keys that were
met, which takes more memory than the reply.
"""

from __future__ import annotations

from collections.abc import Callable

from replies import WAIT, LongArray, Reply, Work
from session import Session
from store import Keyspace

AT_ONCE_PLACES = 2048  # of a keyspace; about two milliseconds


def in_slices(session: Session, work: Work) -> Reply:
    """Leave the work to the server, or do it at once where that takes no time."""
    if len(session.db.order) <= AT_ONCE_PLACES:
        return at_once(work)
    session.work = work
    return WAIT


def at_once(work: Work) -> Reply:
    """Do all of the work and return its reply."""
    try:
        while True:
            next(work)
    except StopIteration as end:
        reply: Reply = end.value
    return reply.members() if isinstance(reply, LongArray) else reply


def listing(db: Keyspace, matches: Callable[[bytes], object] | None) -> Work:
    """List all keys, or those that match."""
    chunks = []
    try:
        for keys in db.walk():
            if chunk := keys if matches is None else tuple(filter(matches, keys)):
                chunks.append(chunk)
            yield
    except GeneratorExit:
        db.store.garbage.append(chunks)  # to free it takes as long as to make it
        raise
    return LongArray(chunks)


def any_live(db: Keyspace) -> Work:
    """Choose one of the live keys where they are so few that chance does not find them; None if there is none."""
    found: list[bytes] = []
    for keys in db.walk():
        found += keys
        yield
    return db.store.random.choice(found) if found else None
