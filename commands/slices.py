"""Reads that look at a whole keyspace, made in slices so that other clients are served in between.

It owns what such a read does between its slices, and when it is worth it; how often it is woken is the server's
business. A small keyspace is read at once, and exactly. Of a large one the command leaves its work in `session.work`
and answers WAIT: the server does it a millisecond a turn, then sends what came out.

    work = listing(db, b"*")     a generator: each `next` looks at some places, and its end brings the reply
    at_once(work)                 the same reply without a pause: for a small keyspace, and inside a transaction

**It is not a moment's picture.** A key that is there from start to end is met, and none is met twice; one that comes,
goes or expires meanwhile may be met or not. Only reads may be so: whatever writes runs from start to end. Refused: a
copy of the keyspace's keys at the start, which alone stalls the loop (20 ms a million), and a set of the keys that were
met, which takes more memory than the reply.
"""

from __future__ import annotations

from collections.abc import Callable

from commands.patterns import compile_pattern
from replies import WAIT, LongArray, Reply, Work
from session import Session
from store import Keyspace

AT_ONCE_PLACES = 2048  # of a keyspace; about two milliseconds
SHORT_PATTERN_BYTES = (
    32  # matched in less than a microsecond; at worst it takes a nanosecond a byte of it and of the key
)


def places_at_once(pattern: bytes) -> int:
    """Return how many keys may be matched without a pause: fewer with a pattern that may take long."""
    return AT_ONCE_PLACES // (1 + (len(pattern) // SHORT_PATTERN_BYTES) ** 2)


def in_slices(session: Session, work: Work, most_places: int = AT_ONCE_PLACES) -> Reply:
    """Leave the work to the server, or do it at once where that takes no time."""
    if len(session.db.order) <= most_places:
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


def listing(db: Keyspace, pattern: bytes) -> Work:
    """List all keys that match a pattern. Raises CommandError if it is too long."""
    return _listing(db, len(pattern) > SHORT_PATTERN_BYTES, None if pattern == b"*" else compile_pattern(pattern))


def _listing(db: Keyspace, slow: bool, matches: Callable[[bytes], object] | None) -> Work:
    chunks: list[tuple[bytes, ...]] = []
    try:
        for keys in db.walk():
            if matches is None:
                chunks.append(keys)
            elif slow:
                for key in keys:
                    if matches(key):
                        chunks.append((key,))
                    yield
            elif chunk := tuple(filter(matches, keys)):
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
