"""Commands with thousands of arguments, executed in slices so that other clients are served in between.

It owns what such a command does between its slices, and when it is worth it; how often it is woken is the server's
business (`slices` says how). Few arguments are executed at once: a part of them is what a slice does, too.

    claim the keys, part by part     nothing is done yet, nobody waits
    write, part by part              who would see half of it waits: see `claim`
    log all of it at once            the reply follows in that turn

    read, part by part               as it was when that began: see `sight`; nobody waits

So it is as atomic as any other, for clients and in the log: one batch holds all its effects, in as many records as it
had parts. A million keys take a second or two in which who asks for one of them waits, and nobody else.

In a pool one that writes is executed when its entry is applied, with the same pauses; the entries behind it wait.
Where a log is replayed it runs from start to end.

Refused: to make such a command fast enough to be run at once. A look into a dict of a million keys is waiting for
memory, 0.3 µs each, whatever is done with what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from claim import Claim
from commands.sight import Sight
from commands.slices import at_once
from entries import value_of
from errors import CommandError
from replies import HELD_BACK, OK, Deleted, LongArray, Reply, Work
from session import Session

HUGE_BYTES = 4 << 20  # of a value: a copy of more is made in slices
AT_ONCE_WORDS = 2048  # of a request; some milliseconds
PART_WORDS = 256  # an even number, since some come in pairs
MOST_TEXT_WORDS = 32768  # a line of text holds no more


def is_long(argv: list[bytes]) -> bool:
    """Say whether a request is to be executed in slices."""
    return len(argv) > AT_ONCE_WORDS


def word_by_word(argv: list[bytes], work: Work, most_words: int = AT_ONCE_WORDS) -> Reply:
    """Do a work that has nothing to do with keys, at once where a request has few words."""
    return work if len(argv) > most_words else at_once(work)


def counting(session: Session, argv: list[bytes], is_use: bool) -> Work:
    """Count the keys that are there."""
    if session.store.claim is not None:  # in a pool an entry has begun since somebody looked
        return HELD_BACK
    count = 0
    with Sight(session.db) as sight:
        for keys in words_of(argv):
            count += len(keys) - sight.look(keys, is_use).count(None)
            yield
    return count


def getting(session: Session, argv: list[bytes]) -> Work:
    """List the strings at keys."""
    if session.store.claim is not None:  # as above
        return HELD_BACK
    chunks: list[tuple[Any, ...]] = []
    held_bytes = 0
    try:
        with Sight(session.db) as sight:
            for keys in words_of(argv):
                chunks.append(tuple(sight.strings(keys, is_use=not session.no_touch)))
                held_bytes += sum(map(len, filter(None, chunks[-1])))
                yield
    except GeneratorExit:
        session.store.garbage.append(chunks)
        raise
    return LongArray(chunks, held_bytes)


def deleting(session: Session, argv: list[bytes]) -> Work:
    """Delete keys."""
    claim = yield from _claim(argv, session.store.log.aside())
    reply = yield from writing(session, claim, _delete(session, argv, claim))
    return reply


def _delete(session: Session, argv: list[bytes], claim: Claim) -> Work:
    db = session.db
    listed = len(argv) <= MOST_TEXT_WORDS  # only text is answered with the values
    values: list[Any] = []
    count = 0
    for keys in words_of(argv):
        entries = db.remove_many(keys)
        gone = [key for key, entry in zip(keys, entries, strict=True) if entry is not None]
        if gone:
            claim.effects.append(db.index, (b"DEL", *gone))
            count += len(gone)
        if listed:
            values += [None if entry is None else value_of(entry) for entry in entries]
        yield
    reply = Deleted(count)
    reply.values = values
    return reply


def unlinking(session: Session, argv: list[bytes]) -> Work:
    """Delete keys, whatever was there."""
    reply = yield from deleting(session, argv)
    assert isinstance(reply, Deleted)
    return int(reply)


def setting(session: Session, argv: list[bytes]) -> Work:
    """Set whole strings."""
    claim = yield from _claim(argv, session.store.log.aside(), 2)
    reply = yield from writing(session, claim, _set(session, argv, claim))
    return reply


def setting_new(session: Session, argv: list[bytes]) -> Work:
    """Set whole strings if none of the keys is there."""
    claim = yield from _claim(argv, session.store.log.aside(), 2)
    is_new = yield from writing(session, claim, _set_new(session, argv, claim))
    for _ in words_of(argv):
        yield
    return is_new


def _set_new(session: Session, argv: list[bytes], claim: Claim) -> Work:
    get = session.db.get
    for start in range(1, len(argv), PART_WORDS):
        if any(get(key) is not None for key in argv[start : start + PART_WORDS : 2]):
            return 0
        yield
    yield from _set(session, argv, claim)
    return 1


def _set(session: Session, argv: list[bytes], claim: Claim) -> Work:
    db, deadline_ms = session.db, session.store.default_deadline_ms
    for words in words_of(argv):
        keys, values = words[::2], words[1::2]
        db.put_many(keys, values, deadline_ms)
        claim.effects.append_sets(db.index, keys, values, deadline_ms)
        yield
    return OK


def _claim(argv: list[bytes], effects: Any, step: int = 1) -> Generator[None, None, Claim]:
    """Gather the keys of a request: each first one of `step` words."""
    claim = Claim(effects)
    for start in range(1, len(argv), PART_WORDS):
        claim.add(argv[start : start + PART_WORDS : step])
        yield
    return claim


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
    store = session.store
    log, claim = store.log, Claim(store.log.aside())
    claim.add(keys)
    store.log = claim.effects
    refusal = None
    try:
        reply = run()
    except CommandError as error:
        refusal = error
    finally:
        store.log = log
    yield from writing(session, claim, _nothing())  # also where it is refused: a key may have expired
    if refusal is not None:
        raise refusal
    return reply


def _nothing() -> Work:
    """Do nothing more."""
    yield from ()
    return None


def writing(session: Session, claim: Claim, work: Work) -> Work:
    """Let nobody see the claimed keys, then log what was done: all, and where that failed, as much as was done.

    It is given up half-way only where the process ends: then nothing of it is logged, and nothing was ever seen.
    """
    store = session.store
    with session.instance.claiming(claim):
        try:
            reply = yield from work
        except Exception:
            store.log.take_in(claim.effects, claim.sets, store.garbage)
            raise
        yield from store.log.take_in_slices(claim.effects, claim.sets, store.garbage, lambda: store.now_ms)
    return reply
