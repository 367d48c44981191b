"""Reads that look at a whole keyspace, made in slices so that other clients are served in between.

It owns what such a read does between its slices, and when it is worth it; how often it is woken is the server's
business. A small keyspace is read at once, and exactly. Of a large one the command returns its work: the
server does it a millisecond a turn, then sends what came out.

    work = listing(db, b"*")     a generator: each `next` looks at some places, and its end brings the reply
    at_once(work)                 the same reply without a pause: for a small keyspace, and inside a transaction

**It is not a moment's picture.** A key that is there from start to end is met, and none is met twice; one that comes,
goes or expires meanwhile may be met or not. Only reads may be so: whatever writes runs from start to end. Refused: a
copy of the keyspace's keys at the start, which alone stalls the loop (20 ms a million), and a set of the keys that were
met, which takes more memory than the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from replies import LongArray, Reply, Work
from session import Session
from store import Keyspace
from values.glob import Pattern, is_quick

AT_ONCE_PLACES = 2048  # of a keyspace; about two milliseconds
SHORT_PATTERN_BYTES = 32  # matched in some microseconds at most with a key of some ten bytes


def places_at_once(pattern: bytes) -> int:
    """Return how many keys may be matched without a pause: fewer with a pattern that may take long."""
    return AT_ONCE_PLACES // (1 + len(pattern) // SHORT_PATTERN_BYTES)


def in_slices(session: Session, work: Work, is_quick: bool = True) -> Reply:
    """Leave the work to the server, or do it at once where the keyspace is small and that takes no time."""
    return at_once(work) if is_quick and len(session.db.key_order) <= AT_ONCE_PLACES else work


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
    return _listing(db, pattern, None if pattern == b"*" else Pattern(pattern).matches)


def _listing(db: Keyspace, pattern: bytes, matches: Callable[[bytes], bool] | None) -> Work:
    chunks: list[tuple[bytes, ...]] = []
    try:
        for keys in db.walk():
            if matches is None:
                chunks.append(keys)
            elif not is_quick(pattern, keys):
                if found := (yield from matching(matches, keys)):
                    chunks.append(tuple(found))
            elif chunk := tuple(filter(matches, keys)):
                chunks.append(chunk)
            yield
    except GeneratorExit:
        db.store.garbage.append(chunks)  # to free it takes as long as to make it
        raise
    return LongArray(chunks)


def matching(matches: Callable[[bytes], bool], keys: Iterable[bytes]) -> Generator[None, None, list[bytes]]:
    """List which of some keys match, one after the other: for long keys and patterns."""
    found = []
    for key in keys:
        if matches(key):
            found.append(key)
        yield
    return found


def any_live(db: Keyspace) -> Work:
    """Choose one of the live keys where they are so few that chance does not find them; None if there is none."""
    found: list[bytes] = []
    for keys in db.walk():
        found += keys
        yield
    return db.store.random.choice(found) if found else None
