"""Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.

1. After MULTI the engine queues a client's requests (`queue`), except those of NOT_QUEUED. A request that is refused
   then makes EXEC refuse all of them. A transaction that came whole need not be queued (`can_run_whole`).
2. EXEC runs the queued requests, one after another. No other client's request runs between two of them, and the log
   has all of their effects in one batch: after a crash it holds all or none.
3. WATCH remembers whether a key has changed since. If one has, EXEC runs nothing and returns null.

    EXEC of few requests and words    runs at once, within a turn, and the effects of a turn are one batch
    EXEC of many                      runs in slices, with all of its keys locked; its effects are committed as one

In a pool EXEC is one command of one entry of the log: see `as_entry`. There WATCH compares what a key holds, by a
digest, with what it held: every instance finds the same answer in its store. (Refused: the number of the entry that
last changed a key. It would have to be kept for each key, and in each snapshot. A counter of a key's changes while it
is watched: the other instances learn of a WATCH by an entry only, and would have to forget it when a client or its
instance dies.)
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import values
from commands import (
    ALL,
    ALLOW_BUSY,
    EVERYWHERE,
    FAST,
    FIRST,
    HIDDEN,
    LOADING,
    NO_KEYS,
    NO_MULTI,
    NOSCRIPT,
    NOT_QUEUED,
    QUICK,
    READONLY,
    SCRIPT,
    SKIP_SLOWLOG,
    STALE,
    TABLE,
    WRITE,
    Command,
    command,
    fold,
)
from commands.arguments import parse_database
from commands.execution import in_slices, refuse
from commands.key_positions import Listed
from commands.long_commands import AT_ONCE_WORDS, PART_WORDS, Abandoned, run_locked, word_by_word
from commands.measured import execute, execute_counted
from commands.script_runs import scripts_of
from commands.scripting import with_permissions
from errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_ABANDONED,
    EXEC_ABORTED,
    EXEC_REFUSED,
    EXEC_WITHOUT_MULTI,
    NESTED_MULTI,
    NOT_IN_TRANSACTION,
    TOO_MANY_WATCHED,
    TRANSACTION_TOO_LARGE,
    UNKNOWN_COMMAND,
    WATCH_IN_MULTI,
    CommandError,
)
from keyspace.key_listeners import Watch
from keyspace.key_locks import KeyLock
from protocol import encode_command
from replies import NULL_ARRAY, OK, QUEUED, NoReply, Replies, Reply, Work
from session import Session, Transaction
from store import Keyspace

ANYTIME = NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY | NOT_QUEUED
MOST_WATCHED = 1 << 16  # keys of a client: to forget them takes 20 ms
REQUEST_BYTES = 64  # of a queued request, besides its words
AT_ONCE_REQUESTS = 64  # each may take some hundred microseconds
SLICE_REQUESTS = 16
ENTRY = b"EXEC-ENTRY"


# ---- queueing


def queue(session: Session, row: Command, argv: list[bytes]) -> Reply:
    """Queue a request of a client that has sent MULTI. Raises CommandError if it may not be part of a transaction."""
    transaction = session.transaction
    assert transaction is not None
    if row.subcommands:
        row = row.resolved(argv)
    if row.flags & NO_MULTI:
        raise CommandError(NOT_IN_TRANSACTION)
    transaction.size_bytes += sum(map(len, argv)) + REQUEST_BYTES * len(argv)
    if transaction.size_bytes > session.instance.config.query_buffer_bytes:
        session.closing = True
        raise CommandError(TRANSACTION_TOO_LARGE)
    _add(transaction, row, argv)
    return QUEUED


def _add(transaction: Transaction, row: Command, argv: list[bytes]) -> None:
    transaction.requests.append(argv)
    transaction.words += len(argv)
    transaction.flags |= row.flags
    if row.keys is FIRST:
        transaction.keys.append(argv[1])
    elif row.names_keys(argv):
        transaction.keys += row.key_arguments(argv)
    elif row.flags & (READONLY | WRITE):
        transaction.has_keyless = True
    if row.flags & SCRIPT:
        transaction.has_keyless = True  # it may touch keys that it does not name


def as_one_request(transaction: Transaction, row: Command) -> tuple[Command, list[bytes]]:
    """Return EXEC as the row and the words that the engine's gates look at: those of all that is queued."""
    keys = NO_KEYS if transaction.has_keyless or not transaction.keys else Listed(transaction.keys)
    return replace(row, flags=row.flags | transaction.flags, keys=keys), transaction.all_words()


def refuse_queued(session: Session, argv: list[bytes], error: CommandError) -> CommandError:
    """Record that a request was refused in a transaction, or that EXEC was; return the error to reply."""
    if fold(argv[0]) == b"EXEC":
        session.drop_transaction()
        return CommandError(EXEC_REFUSED % error.text.removeprefix(b"ERR "))
    if session.transaction is not None:
        session.transaction.failed = True
    return error


def can_run_whole(session: Session, rows: Sequence[Command | None], requests: Sequence[list[bytes]]) -> bool:
    """Return True if requests that came between MULTI and EXEC can run without being queued.

    `rows`: the row of each request, None if it is not known. Each must be one that would be queued, and run at once.
    """
    if len(requests) > AT_ONCE_REQUESTS or sum(map(len, requests)) > AT_ONCE_WORDS:
        return False
    for row, argv in zip(rows, requests, strict=True):
        if row is None or row.flags & (NO_MULTI | NOT_QUEUED | SCRIPT) or row.subcommands or not row.accepts(len(argv)):
            return False
    return session.watch is None or not session.watch.has_changed()


# ---- the commands


@command("MULTI", arity=1, flags=ANYTIME, since="1.2.0")
def multi(session: Session, argv: list[bytes]) -> Reply:
    """Start a transaction: the requests that follow are queued until EXEC."""
    if session.transaction is not None:
        return _refuse(session, b"MULTI", NESTED_MULTI)  # raised, it would make EXEC fail
    session.begin_transaction()
    return OK


@command("DISCARD", arity=1, flags=ANYTIME, since="2.0.0")
def discard(session: Session, argv: list[bytes]) -> Reply:
    """Drop the queued requests and end the transaction."""
    if session.transaction is None:
        raise CommandError(DISCARD_WITHOUT_MULTI)
    session.drop_transaction()
    return OK


@command("WATCH", "key [key ...]", arity=-2, flags=ANYTIME, keys=ALL, since="2.2.0")
def watch(session: Session, argv: list[bytes]) -> Reply:
    """Let the next EXEC run only if none of these keys changes before it.

    Differs from Redis: a client watches at most 65536 keys. In a pool EXEC compares what the keys hold, so a key that
    was changed and changed back may count as unchanged.
    """
    if session.transaction is not None:
        return _refuse(session, b"WATCH", WATCH_IN_MULTI)  # as in `multi`
    if session.watch is None:
        session.watch = Watch(session.instance.key_listeners)
    if len(session.watch) + len(argv) > MOST_WATCHED:
        raise CommandError(TOO_MANY_WATCHED)
    return word_by_word(argv, _watch_each(session, session.watch, argv[1:]))


def _watch_each(session: Session, watch: Watch, keys: list[bytes]) -> Work:
    for key in keys:
        value = session.db.peek(key)
        seen = digest(session.db, key) if session.instance.pool is not None else b""
        watch.add(session.db, key, value is not None, seen)
        yield
    return OK


@command("UNWATCH", arity=1, flags=ANYTIME & ~NOT_QUEUED, since="2.2.0")
def unwatch(session: Session, argv: list[bytes]) -> Reply:
    """Forget all watched keys."""
    session.unwatch()
    return OK


@command("EXEC", arity=1, flags=NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG | NOT_QUEUED | QUICK, since="1.2.0")
def exec_(session: Session, argv: list[bytes]) -> Reply:
    """Run the queued requests as one, and return their replies; null if a watched key has changed."""
    transaction = take(session)
    return run(session, transaction) if isinstance(transaction, Transaction) else transaction


def _refuse(session: Session, name: bytes, text: bytes) -> CommandError:
    """Count an error that a command returns, and return it."""
    session.instance.measures.counts.of(name, swift=False).failed += 1
    return refuse(session.instance, CommandError(text))


def take(session: Session) -> Transaction | Reply:
    """End the transaction of a client and return it; or the reply to EXEC, if it must not run."""
    transaction, watched = session.transaction, session.watch
    if transaction is None:
        return _refuse(session, b"EXEC", EXEC_WITHOUT_MULTI)
    is_stale = watched is not None and watched.has_changed()
    if not (transaction.failed or is_stale):
        return session.end_transaction()
    session.drop_transaction()
    return _refuse(session, b"EXEC", EXEC_ABORTED) if transaction.failed else NULL_ARRAY


def run(session: Session, transaction: Transaction) -> Reply:
    """Run the requests of a transaction; return their replies, or the work that returns them."""
    is_short = transaction.words <= AT_ONCE_WORDS and len(transaction.requests) <= AT_ONCE_REQUESTS
    if is_short and not transaction.flags & SCRIPT:  # a script may take long
        return Replies(_execute(session, transaction.requests))
    return _run_in_slices(session, transaction)


def _execute(session: Session, requests: Sequence[list[bytes]], may_take_slices: bool = False) -> list[Reply]:
    session.is_executing = True
    try:
        replies = [execute(session, argv, may_take_slices) for argv in requests]
    finally:
        session.is_executing = False
    # CLIENT REPLY has none, but counts in the array; the reply to EXEC may be muted as a whole.
    return [OK if isinstance(reply, NoReply) else reply for reply in replies]


def run_each(session: Session, rows: Sequence[Command | None], requests: Sequence[list[bytes]]) -> list[Reply]:
    """Run requests for which `can_run_whole` is True, and return their replies. `rows` are those of an engine."""
    session.is_executing = True
    try:
        return [execute_counted(session, row, argv, row.count) for row, argv in zip(rows, requests, strict=True) if row]
    finally:
        session.is_executing = False


def _run_in_slices(session: Session, transaction: Transaction) -> Work:
    lock = KeyLock(session.store.log.begin())
    for start in range(0, len(transaction.keys), PART_WORDS):
        lock.add(transaction.keys[start : start + PART_WORDS])
        yield
    lock.all_keys = transaction.has_keyless
    replies = yield from run_locked(session, lock, _run_parts(session, transaction, lock))
    session.store.garbage.append(transaction.requests)
    if session.is_gone:
        session.end()
    return replies


def _run_parts(session: Session, transaction: Transaction, lock: KeyLock) -> Generator[None, None, list[Reply]]:
    replies: list[Reply] = Replies()
    for start in range(0, len(transaction.requests), SLICE_REQUESTS):
        for argv in transaction.requests[start : start + SLICE_REQUESTS]:
            with session.store.collecting(lock.effects):
                (reply,) = _execute(session, [argv], may_take_slices=True)
            if isinstance(reply, Generator):  # a script that takes long; it collects its effects itself
                reply = yield from in_slices(session.instance, argv, reply)
                if scripts_of(session.instance).is_abandoned:
                    raise Abandoned(EXEC_ABANDONED)
            replies.append(reply)
        yield
    return replies


# ---- in a pool


def as_entry(
    session: Session, transaction: Transaction, watched: list[tuple[int, bytes, bytes]]
) -> tuple[list[bytes], list[bool]]:
    """Return a transaction as one command for the log of a pool, and which of its requests are in it.

    It holds what EXEC compares (`watched`: see `Watch.seen`), and the requests that read or write keys or publish, each
    with its database and the number of its words. The others are about the connection: `merge` runs them.

        EXEC-ENTRY  watched  [db key digest ...]  [db words word ...] ...
    """
    entry = [ENTRY, b"%d" % len(watched)]
    for index, key, digest_seen in watched:
        entry += (b"%d" % index, key, digest_seen)
    index, included = session.db.index, [_belongs_in_entry(argv) for argv in transaction.requests]
    for argv, is_included in zip(transaction.requests, included, strict=True):
        if is_included:
            logged = with_permissions(session, argv)
            entry += (b"%d" % index, b"%d" % len(logged), *logged)
        elif fold(argv[0]) == b"SELECT":
            with suppress(CommandError):
                index = parse_database(argv[1], session.store).index
    return entry, included


def merge(session: Session, transaction: Transaction, included: list[bool], reply: Reply) -> Reply:
    """Return the reply to EXEC: what the entry's requests replied, and the others, which run now."""
    if not isinstance(reply, list):
        return reply
    rest = iter(reply)
    return Replies(
        next(rest) if is_included else _execute(session, [argv])[0]
        for argv, is_included in zip(transaction.requests, included, strict=True)
    )


def _belongs_in_entry(argv: list[bytes]) -> bool:
    row = TABLE.get(fold(argv[0]))
    return row is not None and bool(row.of(argv).flags & (READONLY | WRITE | EVERYWHERE))


def digest(db: Keyspace, key: bytes) -> bytes:
    """Return a hash of the value and the deadline of a key; empty if there is no such key. O(elements)."""
    value = db.peek(key)
    if value is None:
        return b""
    from hashlib import sha256  # noqa: PLC0415

    made = sha256()
    for argv in values.rebuild(key, value, db.deadline_ms(key)):
        made.update(encode_command(argv))
    return made.digest()


@command(ENTRY.decode(), arity=-2, flags=WRITE, hidden=True)
def exec_entry(session: Session, argv: list[bytes]) -> Reply:
    """Run the transaction of an entry; a client that sends this command is refused."""
    if session.id:
        raise CommandError(UNKNOWN_COMMAND % (ENTRY, b""))
    words = iter(argv[1:])
    for _ in range(int(next(words))):
        index, key, seen = islice(words, 3)
        if digest(session.store.databases[int(index)], key) != seen:
            return NULL_ARRAY
    transaction = Transaction()
    for index in words:
        transaction.requests.append([b"SELECT", index])
        request = list(islice(words, int(next(words))))
        name = fold(request[0])
        _add(transaction, (TABLE.get(name) or HIDDEN[name]).of(request), request)
    reply = run(session, transaction)
    return _without_selects(reply) if isinstance(reply, Generator) else reply[1::2]  # type: ignore[index]


def _without_selects(work: Generator[None, None, list[Reply]]) -> Work:
    replies = yield from work
    return replies[1::2]
