"""Commands with thousands of arguments, run in slices so that other clients are served in between.

1. A command with more than AT_ONCE_WORDS words returns its work: a generator of small steps. `net/scheduler.py` gives
   it slices.
2. It is as atomic as any other command, for clients and in the log: one batch holds all its effects, one record a part.

    a write:  collect the keys, part by part   nothing is changed yet, and no client waits
              run the parts                    each as a request of few words; a client that needs a locked key waits
              log all effects at once          the reply follows in the same turn
    a read:   read, part by part               from a point-in-time view; no client waits

A write of a million keys takes a second or two. Only requests for one of these keys, or for the whole keyspace, wait.

In a pool, a long write runs in slices when its entry is applied; the entries behind it wait. Replay of a log runs it
without a pause.

Refused: one go, made fast enough. A lookup in a dict of a million keys waits 0.3 µs for memory, and nothing in the
loop around it can change that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from typing import Any, TypeVar

from commands.keyspace_walk import at_once
from errors import WRONG_TYPE, CommandError
from keyspace.key_locks import KeyLock
from keyspace.point_in_time import PointInTimeView
from replies import HELD_BACK, LongArray, Reply, Work
from session import Session
from store import EffectLog
from values import LongString, ValueType, type_of
from values.entry import Entry, value_of

T = TypeVar("T")
Run = Callable[[Session, "list[bytes]"], Reply]

HUGE_BYTES = 4 << 20  # a longer value is copied in slices
AT_ONCE_WORDS = 2048  # a request of so many words takes some milliseconds
PART_WORDS = 256  # an even number, because MSET's words are pairs


def is_long(argv: list[bytes]) -> bool:
    """Return True if a request runs in slices."""
    return len(argv) > AT_ONCE_WORDS


def word_by_word(argv: list[bytes], work: Work, most_words: int = AT_ONCE_WORDS) -> Reply:
    """Return work that touches no keys; do it at once if the request has at most `most_words` words."""
    return work if len(argv) > most_words else at_once(work)


def count_in_slices(session: Session, argv: list[bytes], is_use: bool) -> Work:
    """Count the keys that exist, in slices; with `is_use` each counts as accessed."""
    if session.store.key_lock is not None:  # in a pool an entry began to run after this request was admitted
        return HELD_BACK
    count = 0
    with PointInTimeView(session.db) as view:
        for keys in words_of(argv):
            count += len(keys) - look_up(session, view, keys, is_use).count(None)
            yield
    return count


def get_in_slices(session: Session, argv: list[bytes]) -> Work:
    """Return the string values of keys, in slices; None for a key without a string."""
    if session.store.key_lock is not None:  # as in `count_in_slices`
        return HELD_BACK
    chunks: list[tuple[Any, ...]] = []
    value_bytes = 0
    try:
        with PointInTimeView(session.db) as view:
            for keys in words_of(argv):
                entries = look_up(session, view, keys, is_use=not session.no_touch)
                chunks.append(tuple(map(_string_of, entries)))
                value_bytes += sum(map(len, filter(None, chunks[-1])))
                yield
    except GeneratorExit:
        session.store.garbage.append(chunks)
        raise
    return LongArray(chunks, value_bytes)


def copies_in_slices(
    session: Session, argv: list[bytes], kinds: Collection[ValueType], missing: T
) -> Generator[None, None, list[Any | T]]:
    """Return a copy of the value of each key, in slices; `missing` for a key that does not exist. Raises WRONGTYPE.

    All are of one moment. It is for types whose copies are cheap. The caller gives the list to `store.garbage`.
    """
    copies: list[Any | T] = []
    copy = Copies().of
    with PointInTimeView(session.db) as view:
        for keys in words_of(argv):
            for entry in look_up(session, view, keys, is_use=not session.no_touch):
                if entry is None:
                    copies.append(missing)
                elif type_of(value_of(entry)) in kinds:
                    copies.append(copy(value_of(entry)))
                else:
                    raise CommandError(WRONG_TYPE)
            yield
    return copies


class Copies:
    """Copies of values, one of each large value, because a request may name a key a million times."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}  # id -> the value, which must not be freed meanwhile, and its copy

    def of(self, value: Any) -> Any:
        """Return a copy of a value."""
        kind = type_of(value)
        if not kind.is_large(value):
            return kind.copy(value)
        if id(value) not in self._made:
            self._made[id(value)] = value, kind.copy(value)
        return self._made[id(value)][1]


def look_up(session: Session, view: PointInTimeView, keys: list[bytes], is_use: bool) -> list[Entry | None]:
    """Return the entries of keys, and count hits, misses and, with `is_use`, accesses."""
    found = view.live_entries(keys)
    db, misses = session.db, found.count(None)
    db.store.misses += misses
    db.store.hits += len(found) - misses
    if misses and db.listener is not None:
        for key, entry in zip(keys, found, strict=True):
            if entry is None:
                db.event(key, b"keymiss")
    if is_use and db.usage is not None and db.usage.uses is not None:
        db.usage.uses.record_uses(filter(db.entries.__contains__, keys))
    return found


def _string_of(entry: Entry | None) -> bytes | LongString | None:
    return None if entry is None else string_or_none(value_of(entry))


def string_or_none(value: Any) -> bytes | LongString | None:
    """Return a value if it is a string, to be kept: a copy of a LongString. None for another type."""
    return value.copy() if type(value) is LongString else value if type(value) is bytes else None


def in_parts(session: Session, argv: list[bytes], run: Run, step: int = 1) -> Generator[None, None, list[Reply]]:
    """Run a write in parts of PART_WORDS words, with its keys locked; return the replies of the parts.

    The first of each `step` words is a key. All effects are logged at once when the last part has run.
    """
    lock = yield from lock_keys(session, argv, step)
    replies = yield from run_locked(session, lock, run_parts(session, lock.effects, argv, run))
    return replies


def in_parts_of_key(session: Session, argv: list[bytes], run: Run) -> Generator[None, None, list[Reply]]:
    """Do what `in_parts` does for a command with one key, which comes before all other words."""
    key = argv.pop(1)  # not before the work begins: the request is shown to monitors

    def run_on_key(session: Session, words: list[bytes]) -> Reply:
        return run(session, [words[0], key, *words[1:]])

    return (yield from with_keys_locked(session, [key], lambda effects: run_parts(session, effects, argv, run_on_key)))


def run_parts(session: Session, effects: EffectLog, argv: list[bytes], run: Run) -> Generator[None, None, list[Reply]]:
    """Run a command part by part, collect its effects, and return the replies of the parts."""
    name, replies = argv[0], []
    for words in words_of(argv):
        with session.store.collecting(effects):
            replies.append(run(session, [name, *words]))
        yield
    return replies


def lock_keys(session: Session, argv: list[bytes], step: int = 1) -> Generator[None, None, KeyLock]:
    """Collect the keys of a request, the first of each `step` words. `run_locked` makes the lock effective."""
    lock = KeyLock(session.store.log.begin())
    for start in range(1, len(argv), PART_WORDS):
        lock.add(argv[start : start + PART_WORDS : step])
        yield
    return lock


def words_of(argv: list[bytes]) -> Iterator[list[bytes]]:
    """Remove the words of a request in parts, in order, so that each part is freed on its own; the name stays."""
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
    """Run a command at once, and log its effects in slices with its keys locked."""
    lock = KeyLock(session.store.log.begin())
    lock.add(keys)
    refusal = None
    try:
        with session.store.collecting(lock.effects):
            reply = run()
    except CommandError as error:
        refusal = error
    yield from run_locked(session, lock, _nothing())  # also after a refusal: the DEL of an expired key may be an effect
    if refusal is not None:
        raise refusal
    return reply


def _nothing() -> Work:
    """Do nothing: the work of a command that has already run."""
    yield from ()
    return None


class Abandoned(CommandError):
    """Work ends because the process does, and nothing of it is to be logged."""


def with_keys_locked(
    session: Session, keys: Sequence[bytes], begin: Callable[[EffectLog], Generator[None, None, T]]
) -> Generator[None, None, T]:
    """Run the work that `begin` returns as `run_locked` does, with some keys locked.

    `begin` takes what the work is to collect its effects in.
    """
    lock = KeyLock(session.store.log.begin())
    lock.add(keys)
    return (yield from run_locked(session, lock, begin(lock.effects)))


def collected(session: Session, effects: EffectLog, steps: Generator[None, None, T]) -> Generator[None, None, T]:
    """Do steps, of which each is a write of its own, and collect their effects."""
    while True:
        with session.store.collecting(effects):
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
        yield


def run_locked(session: Session, lock: KeyLock, work: Generator[None, None, T]) -> Generator[None, None, T]:
    """Run work with its keys locked, then log its effects. If it raises, log those made so far, or none: `Abandoned`.

    The work is abandoned only when the process ends: then nothing of it is logged, and no client has seen any of it.
    """
    store = session.store
    with session.instance.locking_keys(lock):
        try:
            reply = yield from work
        except Abandoned:
            raise
        except Exception:
            store.log.commit(lock.effects, lock.sets, store.garbage)
            raise
        yield from store.log.commit_in_slices(lock.effects, lock.sets, store.garbage, lambda: store.now_ms)
    return reply
