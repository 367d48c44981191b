"""Connections and turns of an instance in a pool, whose clients' writes go through the log.

It owns the differences from an instance that runs alone, and knows nothing of how the log is kept (`pool`):

1. The engine's table differs. A command that writes does not run and returns SUBMIT. A command that reads returns
   CONFIRM if the client asked for linearizable reads. So a GET in the local mode takes the same path as on an instance
   alone.
2. A connection puts adjacent writes of a pipeline into one submission, parks until their entry is applied, and replies.
   Requests behind them run later, so each client sees its own writes.
3. A transaction that writes or publishes is one submission. A command that blocks is submitted again after each change
   of one of its keys. A command with the flag EVERYWHERE (PUBLISH) is submitted as a write is.
4. The time of a turn is the later one of the log's clock and the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from aof import NullLog
from commands import BLOCKING, EVERYWHERE, READONLY, SCRIPT, TABLE, WRITE, Command, RunMany, fold
from commands.long_commands import is_long, words_of
from commands.measured import row_of, uncount
from commands.permissions import check
from commands.scripting import require_room_for_script, text_of, with_permissions
from commands.transactions import as_entry, merge, refuse_queued, take
from engine import Engine
from errors import POOL_STALE, POOL_TOO_LARGE, CommandError
from net.connection import Connection
from net.listener import Server, clock_ahead_ms
from net.turn import TURN_SECONDS, Turn
from pool.entry import MOST_BYTES
from pool.pool import UNCONFIRMED_SECONDS, Pool
from pool.room import GROWTH, require_room, taken_bytes
from protocol import HugeRequest, command_pieces, encode_command
from replies import CONFIRM, SUBMIT, Blocked, Reply, Work
from session import Instance, Session, Transaction

if TYPE_CHECKING:
    from net.tls import ServerTls

JOINED_BYTES = 1 << 16


def pool_table() -> Mapping[bytes, Command]:
    """Return the table for a pool's clients, in which writes return SUBMIT and linearizable reads return CONFIRM."""
    return {name: _pool_row(row) for name, row in TABLE.items()}


def _pool_row(row: Command) -> Command:
    if row.name == b"EXEC":
        return replace(row, run=_exec)
    if row.flags & SCRIPT and row.flags & EVERYWHERE:
        return replace(row, run=_submit_script)
    if row.flags & (WRITE | EVERYWHERE):
        grows = row.name.partition(b"|")[0] in GROWTH
        return replace(row, run=_grow if grows else lambda _session, _argv: SUBMIT, run_many=None)
    if row.flags & READONLY:
        return replace(row, run=partial(_read, row), run_many=row.run_many and partial(_read_many, row.run_many))
    if any(child.flags & (WRITE | READONLY | EVERYWHERE) for child in row.subcommands.values()):
        return replace(row, run=partial(_run_subcommand, row))
    return row


def _exec(session: Session, argv: list[bytes]) -> Reply:
    """Submit a transaction that writes, as one command of the log; run one that only reads, as `_read` does."""
    transaction = session.transaction
    if transaction is not None and transaction.flags & (WRITE | EVERYWHERE) and not transaction.failed:
        for request in transaction.requests:
            if session.user.is_restricted:  # the user may have changed
                check(session, row_of(request), request)
            if fold(request[0]) in GROWTH:
                require_room(session, request)
            if fold(request[0]) == b"EVALSHA":
                with suppress(CommandError):  # then EVALSHA is refused when the entry is applied
                    _submit_script(session, request)
        return SUBMIT
    if transaction is not None and transaction.flags & READONLY and not transaction.failed and session.linearizable:
        return CONFIRM
    return TABLE[b"EXEC"].run(session, argv)


def _submit_script(session: Session, argv: list[bytes]) -> Reply:
    """Submit a script as EVAL: another instance may not know it by its SHA-1. Raises CommandError if this one does not.

    The request itself is changed, because it is what is submitted.
    """
    if fold(argv[0]) == b"EVALSHA":
        argv[0], argv[1] = b"EVAL", text_of(session, argv)
    require_room_for_script(session)
    return SUBMIT


def _grow(session: Session, argv: list[bytes]) -> Reply:
    require_room(session, argv)
    return SUBMIT


def _read(row: Command, session: Session, argv: list[bytes]) -> Reply:
    return CONFIRM if session.linearizable else row.run(session, argv)


def _read_many(run_many: RunMany, session: Session, *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    return None if session.linearizable else run_many(session, *columns)


def _run_subcommand(row: Command, session: Session, argv: list[bytes]) -> Reply:
    child = row.subcommands.get(fold(argv[1])) if len(argv) > 1 else None
    if child is None or not child.accepts(len(argv)):
        return row.run(session, argv)
    return _pool_row(child).run(session, argv)


def encoding(argv: list[bytes]) -> Work:
    """Return a request as pieces of RESP, in steps; its words are freed on the way if they are many."""
    if not is_long(argv):
        return list(command_pieces(argv))
    found = [b"*%d\r\n" % len(argv), *command_pieces(argv[:1])[1:]]
    for words in words_of(argv):
        pieces = command_pieces(words)[1:]
        found += [b"".join(pieces)] if sum(map(len, pieces)) <= JOINED_BYTES else pieces
        yield
    return found


class PoolTurn(Turn):
    """One turn of the event loop of a pool's instance."""

    def __init__(self, instance: Instance, log: NullLog, pool: Pool) -> None:
        super().__init__(instance, log)
        self.pool = pool

    def _begin(self) -> None:
        now = time()
        self.instance.turn_ends = now + TURN_SECONDS
        self.pool.replica.tick(int(now * 1000))
        # A process that was stopped (SIGSTOP) must detect that before it replies to any client.
        if self.instance.pool.confirmed and monotonic() - self.pool.confirmed_at > UNCONFIRMED_SECONDS:  # type: ignore[union-attr]
            self.pool.follow_health()


class PoolConnection(Connection):
    """A client of a pool's instance."""

    __slots__ = ("_confirmed", "_plain", "_pool")

    def __init__(self, turn: Turn, engine: Engine, plain: Engine, sock: Any, session: Session, pool: Pool) -> None:
        super().__init__(turn, engine, sock, session)
        self._plain = plain  # with the table of an instance alone
        self._pool = pool
        self._confirmed = False  # linearizable reads of this pipeline may run

    def _answer_all(self, requests: Iterable[list[bytes]], replies: Sequence[Reply] | None) -> list[bytes]:
        self._confirmed = False
        return super()._answer_all(requests, replies)

    def _settle(self, requests: Sequence[list[bytes]], deferred: Reply, pieces: list[bytes]) -> tuple[int, list[bytes]]:
        """Settle the first request, and if it is a write, the writes directly behind it, too."""
        if deferred is SUBMIT and self.session.transaction is not None:
            return 1, self._exec(requests[0], pieces)
        if deferred is SUBMIT and self._row(requests[0]).flags & BLOCKING:
            pieces, reply = self._submit_blocking(requests[0], pieces)
            return 1, self._spell(requests[:1], [reply], pieces)
        if deferred is SUBMIT:
            return self._submit(requests, pieces)
        if deferred is CONFIRM:
            if not self._confirmed:
                pieces = self._confirm(pieces)
            if self._confirmed:
                uncount(self.session, requests[0])
                deferred = self._plain.run(self.session, requests[:1])[0]
            else:
                deferred = refuse_queued(self.session, requests[0], CommandError(POOL_STALE))
        return super()._settle(requests, deferred, pieces)

    def _submit(self, requests: Sequence[list[bytes]], pieces: list[bytes]) -> tuple[int, list[bytes]]:
        """Submit the writes at the beginning of the requests; return their number and their replies' pieces.

        The first request is known to be a write. A later one that its row marks as a write is run, because only its
        gates and its row show whether it returns SUBMIT.
        """
        writes: list[list[bytes]] = []
        encoded: list[bytes] = []
        refused: Reply = None
        eviction = self.turn.instance.eviction
        pending_bytes = 0
        for argv in requests:
            if writes and not (self._is_write(argv) and self.run(self.session, [argv])[0] is SUBMIT):
                break
            pieces, refused = self._encode_write(argv, encoded, pieces)
            if refused is not None:
                break
            writes.append(argv)
            if eviction.limit_bytes:
                taken = taken_bytes(self.session.db, argv)
                eviction.pending_bytes += taken
                pending_bytes += taken
            if self.session.muted:
                break
        if writes:
            try:
                pieces = self._submit_all(writes, encoded, pieces)
            finally:
                eviction.pending_bytes -= pending_bytes
        if refused is None:
            return len(writes), pieces
        return len(writes) + 1, self._spell([argv], [refused], pieces)

    def _exec(self, argv: list[bytes], pieces: list[bytes]) -> list[bytes]:
        """Submit a transaction, and return the pieces of its reply."""
        session = self.session
        watched = None if session.watch is None else session.watch.seen()
        transaction = take(session)
        if not isinstance(transaction, Transaction):
            return self._spell([argv], [transaction], pieces)
        request, included = as_entry(session, transaction, watched or [])
        eviction = self.turn.instance.eviction
        encoded: list[bytes] = []
        pieces, refused = self._encode_write(request, encoded, pieces)
        reply: Reply = refused
        if refused is None:
            taken = sum(taken_bytes(session.db, each) for each in transaction.requests)
            eviction.pending_bytes += taken
            try:
                pieces, (reply,) = self._wait_for_entry(1, encoded, pieces)
            finally:
                eviction.pending_bytes -= taken
            reply = merge(session, transaction, included, reply)
        if isinstance(reply, CommandError):
            self.turn.instance.statistics.count_error(reply.text)
        return self._spell([argv], [reply], pieces)

    def _encode_write(
        self, argv: list[bytes], encoded: list[bytes], pieces: list[bytes]
    ) -> tuple[list[bytes], CommandError | None]:
        """Append a request to `encoded` as RESP; return the error, and append nothing, if it is too large."""
        argv = with_permissions(self.session, argv)
        if type(argv) is HugeRequest or is_long(argv):
            pieces, words = self._work(pieces, argv, encoding(argv))
            if isinstance(words, CommandError):
                return pieces, words
            assert isinstance(words, list)
        else:
            words = [encode_command(argv)]
        if (size := sum(map(len, words))) > MOST_BYTES:
            return pieces, CommandError(POOL_TOO_LARGE % (size, MOST_BYTES))
        encoded += words
        return pieces, None

    def _submit_blocking(self, argv: list[bytes], pieces: list[bytes]) -> tuple[list[bytes], Reply]:
        """Submit a request that may wait, again after each change of one of its keys; return pieces and its reply.

        Each attempt is an entry. The clients of all instances compete, and the log decides who gets an element.
        """
        db, row = self.session.db, self._row(argv)
        keys = row.key_arguments(argv) if row.names_keys(argv) else []
        try:
            return self._submit_until_served(argv, pieces)
        finally:
            self.turn.instance.blocked.try_again(db, keys)

    def _submit_until_served(self, argv: list[bytes], pieces: list[bytes]) -> tuple[list[bytes], Reply]:
        end = seconds = 0.0
        while True:
            encoded: list[bytes] = []
            pieces, refused = self._encode_write(argv, encoded, pieces)
            if refused is not None:
                return pieces, refused
            pieces, (reply,) = self._wait_for_entry(1, encoded, pieces)
            if not isinstance(reply, Blocked):
                return pieces, reply
            if reply.timeout_seconds:
                end = end or monotonic() + reply.timeout_seconds
                seconds = max(0.001, end - monotonic())
            pieces, reply = self._block(pieces, reply, seconds)
            if reply is not SUBMIT:
                return pieces, reply

    def retry(self, argv: list[bytes]) -> Reply:
        return SUBMIT if self._row(argv).flags & WRITE else super().retry(argv)

    def _row(self, argv: list[bytes]) -> Command:
        return self.engine.table.get(argv[0]) or self.engine.lookup(argv)

    def _is_write(self, argv: list[bytes]) -> bool:
        """Return True if a request may be submitted together with those before it."""
        row = self.engine.find(argv[0])
        return row is not None and bool(row.of(argv).flags & (WRITE | EVERYWHERE)) and not row.flags & BLOCKING

    def _wait_for_entry(
        self, commands: int, encoded: list[bytes], pieces: list[bytes]
    ) -> tuple[list[bytes], list[Reply]]:
        """Send earlier replies, submit commands, and wait until they are applied; return pieces and their replies."""
        if pieces:
            self.turn.replies.append((self, pieces, False))
        self.stop_reading()
        replies = self._pool.writer.submit(self.session.db.index, commands, encoded)
        return self._go_on(), replies

    def _submit_all(self, writes: list[list[bytes]], encoded: list[bytes], pieces: list[bytes]) -> list[bytes]:
        """Send earlier replies, submit writes to the log, and return the pieces of their replies."""
        pieces, replies = self._wait_for_entry(len(writes), encoded, pieces)
        for reply in replies:
            if isinstance(reply, CommandError):
                self.turn.instance.statistics.count_error(reply.text)
        return self._spell(writes, replies, pieces)

    def _confirm(self, pieces: list[bytes]) -> list[bytes]:
        """Send earlier replies, and wait until this instance has all writes that were acknowledged before now."""
        if pieces:
            self.turn.replies.append((self, pieces, False))
        self.stop_reading()
        self._confirmed = self._pool.readers.wait_until_confirmed()
        return self._go_on()


class PoolServer(Server):
    """The server of a pool's instance."""

    def __init__(self, instance: Instance, log: NullLog, pool: Pool, tls: ServerTls | None) -> None:
        self._pool = pool
        self._plain = Engine(instance)
        self._null_log = log
        self._quiet_rounds = 0
        super().__init__(instance, Engine(instance, pool_table()), log, tls)
        instance.blocked.is_pool = True

    def _make_turn(self) -> Turn:
        return PoolTurn(self.instance, self._null_log, self._pool)

    def _connect(self, sock: Any, session: Session) -> Connection:
        return PoolConnection(self.turn, self.engine, self._plain, sock, session, self._pool)

    def _follow_clock(self) -> None:
        if clock_ahead_ms() > self._clock_ahead_ms:
            super()._follow_clock()
        else:  # not ahead of before: until it is, the time is the log's clock, which never goes back
            self._clock_ahead_ms = clock_ahead_ms()

    def _is_busy(self) -> bool:
        if super()._is_busy() or self._pool.writer.is_busy():
            self._quiet_rounds = 0
        self._quiet_rounds += 1
        return self._quiet_rounds < 3  # the replies of the last writes are yet to be sent
