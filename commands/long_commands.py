"""Commands with thousands of arguments, executed in slices so that other clients are served in between.

It owns what such a command does between its slices, and when it is worth it; how often it is woken is the server's
business (`slices` says how). Few arguments are executed at once: a part of them is what a slice does, too.

    lock the keys, part by part      nothing is done yet, nobody waits
    write, part by part              as requests of few words; whoever would see half of it waits (`lock`)
    log all of it at once            what the parts logged was collected; the reply follows in that turn

    read, part by part               as it was when that began (`point_in_time`); nobody waits

So it is as atomic as any other, for clients and in the log: one batch holds all its effects, in as many records as it
had parts. A million keys take a second or two in which who asks for one of them waits, and nobody else.

In a pool one that writes is executed when its entry is applied, with the same pauses; the entries behind it wait.
Where a log is replayed it runs from start to end.

Refused: to make such a command fast enough to be run at once. A look into a dict of a million keys is waiting for
memory, 0.3 µs each, whatever is done with what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from commands.keyspace_walk import at_once
from errors import CommandError
from keyspace.key_locks import KeyLock
from keyspace.point_in_time import PointInTimeView
from replies import HELD_BACK, LongArray, Reply, Work
from session import Session
from values.entry import Entry, value_of

T = TypeVar("T")
Run = Callable[[Session, "list[bytes]"], Reply]

HUGE_BYTES = 4 << 20  # of a value: a copy of more is made in slices
AT_ONCE_WORDS = 2048  # of a request; some milliseconds
PART_WORDS = 256  # an even number, since some come in pairs


def is_long(argv: list[bytes]) -> bool:
    """Return True if a request is to be executed in slices."""
    return len(argv) > AT_ONCE_WORDS


def word_by_word(argv: list[bytes], work: Work, most_words: int = AT_ONCE_WORDS) -> Reply:
    """Do a work that has nothing to do with keys, at once where a request has few words."""
    return work if len(argv) > most_words else at_once(work)


def counting(session: Session, argv: list[bytes], is_use: bool) -> Work:
    """Count the keys that are there."""
    if session.store.key_lock is not None:  # in a pool an entry has begun since somebody looked
        return HELD_BACK
    count = 0
    with PointInTimeView(session.db) as view:
        for keys in words_of(argv):
            count += len(keys) - _look(session, view, keys, is_use).count(None)
            yield
    return count


def getting(session: Session, argv: list[bytes]) -> Work:
    """List the strings at keys."""
    if session.store.key_lock is not None:  # as above
        return HELD_BACK
    chunks: list[tuple[Any, ...]] = []
    held_bytes = 0
    try:
        with PointInTimeView(session.db) as view:
            for keys in words_of(argv):
                entries = _look(session, view, keys, is_use=not session.no_touch)
                chunks.append(tuple(map(_string_of, entries)))
                held_bytes += sum(map(len, filter(None, chunks[-1])))
                yield
    except GeneratorExit:
        session.store.garbage.append(chunks)
        raise
    return LongArray(chunks, held_bytes)


def _look(session: Session, view: PointInTimeView, keys: list[bytes], is_use: bool) -> list[Entry | None]:
    """Return the entries of keys, counted as hits and misses, and perhaps as uses of the keys."""
    found = view.live_entries(keys)
    db, misses = session.db, found.count(None)
    db.store.misses += misses
    db.store.hits += len(found) - misses
    if is_use and db.usage is not None and db.usage.uses is not None:
        db.usage.uses.note_many(filter(db.entries.__contains__, keys))
    return found


def _string_of(entry: Entry | None) -> bytes | None:
    value = None if entry is None else value_of(entry)
    return value if type(value) is bytes else None


def in_parts(session: Session, argv: list[bytes], run: Run, step: int = 1) -> Generator[None, None, list[Reply]]:
    """Run a command that writes as requests of PART_WORDS words; return their replies.

    Its keys, each first one of `step` words, are locked meanwhile, and all that it logs is logged as one.
    """
    lock = yield from lock_keys(session, argv, step)
    replies = yield from writing(session, lock, run_parts(session, lock, argv, run))
    return replies


def run_parts(session: Session, lock: KeyLock, argv: list[bytes], run: Run) -> Generator[None, None, list[Reply]]:
    """Run a command part by part, and collect what it logs; return the replies of the parts."""
    name, replies = argv[0], []
    for words in words_of(argv):
        with session.store.collecting(lock.effects):
            replies.append(run(session, [name, *words]))
        yield
    return replies


def lock_keys(session: Session, argv: list[bytes], step: int = 1) -> Generator[None, None, KeyLock]:
    """Gather the keys of a request, each first one of `step` words; `writing` locks them."""
    lock = KeyLock(session.store.log.begin())
    for start in range(1, len(argv), PART_WORDS):
        lock.add(argv[start : start + PART_WORDS : step])
        yield
    return lock


def words_of(argv: list[bytes]) -> Iterator[list[bytes]]:
    """Take the words out of a request, in order and in parts, so that they are freed bit by bit; its name stays."""
    name = argv[0]
    argv.reverse()
    argv.pop()
    try:
        while argv:
            words = argv[-PART_WORDS:]
            del argv[-PART_WORDS:]
            words.reverse()
            yield words
    finally:
        argv[:] = [name]


def logging_in_slices(session: Session, keys: list[bytes], run: Callable[[], Reply]) -> Work:
    """Run a command in one go, and log it in slices; its keys are its own meanwhile."""
    lock = KeyLock(session.store.log.begin())
    lock.add(keys)
    refusal = None
    try:
        with session.store.collecting(lock.effects):
            reply = run()
    except CommandError as error:
        refusal = error
    yield from writing(session, lock, _nothing())  # also where it is refused: a key may have expired
    if refusal is not None:
        raise refusal
    return reply


def _nothing() -> Work:
    """Do nothing more."""
    yield from ()
    return None


def writing(session: Session, lock: KeyLock, work: Generator[None, None, T]) -> Generator[None, None, T]:
    """Let nobody see the claimed keys, then log what was done: all, and where that failed, as much as was done.

    It is given up half-way only where the process ends: then nothing of it is logged, and nothing was ever seen.
    """
    store = session.store
    with session.instance.locking_keys(lock):
        try:
            reply = yield from work
        except Exception:
            store.log.commit(lock.effects, lock.sets, store.garbage)
            raise
        yield from store.log.commit_in_slices(lock.effects, lock.sets, store.garbage, lambda: store.now_ms)
    return reply
