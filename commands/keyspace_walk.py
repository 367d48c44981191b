"""Reads of a whole keyspace, run in slices so that other clients are served in between.

1. A small keyspace is read at once, and exactly.
2. For a large keyspace the command returns its work, and `net/scheduler.py` runs a slice of a millisecond a turn.
3. Such a read is not a point-in-time view. A key that exists from start to end is listed exactly once. A key that is
   created, deleted or expires meanwhile may be listed or not. Only reads may behave so.

    work = list_in_slices(db, b"*")    a generator: each `next` reads some places of the key order; it returns the reply
    at_once(work)                      the same reply without a pause

Refused: a copy of all keys at the start, which alone stalls the loop (20 ms a million); a set of the keys already
listed, which takes more memory than the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from replies import LongArray, Reply, Work
from session import Session
from store import Keyspace
from values.glob import Pattern, is_quick

T = TypeVar("T")

AT_ONCE_PLACES = 2048  # of the key order; to read them takes about two milliseconds
SHORT_PATTERN_BYTES = 32  # a match with a key of some ten bytes takes some microseconds at most


def places_at_once(pattern: bytes) -> int:
    """Return how many keys may be matched without a pause: the longer the pattern, the fewer."""
    return AT_ONCE_PLACES // (1 + len(pattern) // SHORT_PATTERN_BYTES)


def in_slices(session: Session, work: Work, is_quick: bool = True) -> Reply:
    """Return the work, or, if `is_quick` and the keyspace is small, its reply."""
    return at_once(work) if is_quick and len(session.db.key_order) <= AT_ONCE_PLACES else work


def at_once(work: Work) -> Reply:
    """Run work to its end without a pause and return its reply."""
    reply = run_at_once(work)
    return reply.members() if isinstance(reply, LongArray) else reply


def run_at_once(steps: Generator[Any, None, T]) -> T:
    """Run steps to their end without a pause, and return the result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def list_in_slices(db: Keyspace, pattern: bytes) -> Work:
    """List all keys that match a pattern, in slices. Raises CommandError if the pattern is too long."""
    return _list_in_slices(db, pattern, None if pattern == b"*" else Pattern(pattern).matches)


def _list_in_slices(db: Keyspace, pattern: bytes, matches: Callable[[bytes], bool] | None) -> Work:
    chunks: list[tuple[bytes, ...]] = []
    try:
        for keys in db.walk():
            if matches is None:
                chunks.append(keys)
            elif not is_quick(pattern, keys):
                if found := (yield from match_in_slices(matches, keys)):
                    chunks.append(tuple(found))
            elif chunk := tuple(filter(matches, keys)):
                chunks.append(chunk)
            yield
    except GeneratorExit:
        db.store.garbage.append(chunks)  # to free it at once would take as long as to build it
        raise
    return LongArray(chunks)


def match_in_slices(matches: Callable[[bytes], bool], keys: Iterable[bytes]) -> Generator[None, None, list[bytes]]:
    """List the keys that match, with a pause after each: for long keys and patterns."""
    found = []
    for key in keys:
        if matches(key):
            found.append(key)
        yield
    return found


def random_live_key(db: Keyspace) -> Work:
    """Choose a random live key after a walk of the whole keyspace; None if there is none. Takes O(n)."""
    found: list[bytes] = []
    for keys in db.walk():
        found += keys
        yield
    return db.store.random.choice(found) if found else None
