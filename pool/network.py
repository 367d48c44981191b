"""The network's side of a pool: an instance whose clients' writes go through the log.

It owns what differs from an instance alone, and nothing of how the log is kept (`pool`):

- The engine's table differs: a command that writes does not run but answers SUBMIT, and one that reads answers CONFIRM
  where the client asked for linearizable reads. So a GET in the local mode runs the same loop as on an instance alone.
- A connection gathers the writes of a pipeline that stand side by side into one submission, parks until their entry
  comes back, and answers. What stands behind them runs after them, so each client sees its own writes.
- The time of a turn is the later one of the log's clock and the wall's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from aof import NullLog
from commands import READONLY, TABLE, WRITE, Command, RunMany, fold
from commands.long_commands import is_long, words_of
from engine import Engine
from errors import POOL_STALE, POOL_TOO_LARGE, CommandError
from net.connection import Connection
from net.listener import Server, clock_ahead_ms
from net.turn import TURN_SECONDS, Turn
from pool.entry import MOST_BYTES
from pool.pool import UNCONFIRMED_SECONDS, Pool
from pool.room import GROWTH, require_room, taken_bytes
from protocol import HugeRequest, command_pieces, encode_command
from replies import CONFIRM, SUBMIT, Reply, Work
from session import Instance, Session

if TYPE_CHECKING:
    from net.tls import ServerTls

JOINED_BYTES = 1 << 16


def pool_table() -> Mapping[bytes, Command]:
    """Return the table for a pool's clients, in which writes and linearizable reads answer what they wait for."""
    return {name: _pool_row(row) for name, row in TABLE.items()}


def _pool_row(row: Command) -> Command:
    if row.flags & WRITE:
        return replace(row, run=_grow if row.name in GROWTH else lambda _session, _argv: SUBMIT, run_many=None)
    if row.flags & READONLY:
        return replace(row, run=partial(_read, row), run_many=row.run_many and partial(_read_many, row.run_many))
    if any(child.flags & (WRITE | READONLY) for child in row.subcommands.values()):
        return replace(row, run=partial(_run_subcommand, row))
    return row


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


def spelling(argv: list[bytes]) -> Work:
    """Spell a long request as RESP, in steps and in pieces; let go of its words, if they are many."""
    if not is_long(argv):
        return list(command_pieces(argv))
    found = [b"*%d\r\n" % len(argv), *command_pieces(argv[:1])[1:]]
    for words in words_of(argv):
        pieces = command_pieces(words)[1:]
        found += [b"".join(pieces)] if sum(map(len, pieces)) <= JOINED_BYTES else pieces
        yield
    return found


class PoolTurn(Turn):
    """A round of the loop of a pool's instance."""

    def __init__(self, instance: Instance, log: NullLog, pool: Pool) -> None:
        super().__init__(instance, log)
        self.pool = pool

    def _begin(self) -> None:
        now = time()
        self.instance.turn_ends = now + TURN_SECONDS
        self.pool.replica.tick(int(now * 1000))
        # A process that was stopped for a while must notice it before it answers anybody.
        if self.instance.pool.confirmed and monotonic() - self.pool.confirmed_at > UNCONFIRMED_SECONDS:  # type: ignore[union-attr]
            self.pool.follow_health()


class PoolConnection(Connection):
    """A client of a pool's instance."""

    __slots__ = ("_confirmed", "_plain", "_pool")

    def __init__(self, turn: Turn, engine: Engine, plain: Engine, sock: Any, session: Session, pool: Pool) -> None:
        super().__init__(turn, engine, sock, session)
        self._plain = plain  # it runs commands as an instance alone does
        self._pool = pool
        self._confirmed = False  # reads of this pipeline may see what is here

    def _answer_all(self, requests: Iterable[list[bytes]], replies: Sequence[Reply] | None) -> list[bytes]:
        self._confirmed = False
        return super()._answer_all(requests, replies)

    def _settle(self, requests: Sequence[list[bytes]], deferred: Reply, pieces: list[bytes]) -> tuple[int, list[bytes]]:
        """Settle the first request; one that writes, together with all writes that stand beside it."""
        if deferred is SUBMIT:
            return self._submit(requests, pieces)
        if deferred is CONFIRM:
            if not self._confirmed:
                pieces = self._confirm(pieces)
            deferred = self._plain.run(self.session, requests[:1])[0] if self._confirmed else CommandError(POOL_STALE)
        return super()._settle(requests, deferred, pieces)

    def _submit(self, requests: Sequence[list[bytes]], pieces: list[bytes]) -> tuple[int, list[bytes]]:
        """Bring the writes that the requests begin with into the log; return their number and their replies' pieces.

        The first is known to be one. The next ones are run to find out, which nothing but a write may be.
        """
        writes: list[list[bytes]] = []
        spelt: list[bytes] = []
        refused: Reply = None
        eviction = self.turn.instance.eviction
        pending_bytes = 0
        for argv in requests:
            if writes and not (self._is_write(argv) and self.run(self.session, [argv])[0] is SUBMIT):
                break
            pieces, refused = self._spell_write(argv, spelt, pieces)
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
                pieces = self._bring(writes, spelt, pieces)
            finally:
                eviction.pending_bytes -= pending_bytes
        if refused is None:
            return len(writes), pieces
        return len(writes) + 1, self._spell([argv], [refused], pieces)

    def _spell_write(
        self, argv: list[bytes], spelt: list[bytes], pieces: list[bytes]
    ) -> tuple[list[bytes], CommandError | None]:
        """Put a request behind `spelt` as the log has it; the error, and nothing is put there, if it is too large."""
        if type(argv) is HugeRequest or is_long(argv):
            pieces, words = self._work(pieces, argv, spelling(argv))
            if isinstance(words, CommandError):
                return pieces, words
            assert isinstance(words, list)
        else:
            words = [encode_command(argv)]
        if (size := sum(map(len, words))) > MOST_BYTES:
            return pieces, CommandError(POOL_TOO_LARGE % (size, MOST_BYTES))
        spelt += words
        return pieces, None

    def _is_write(self, argv: list[bytes]) -> bool:
        row = self.engine.table.get(argv[0]) or self.engine.table.get(fold(argv[0]))
        return row is not None and bool(row.flags & WRITE)

    def _bring(self, writes: list[list[bytes]], spelt: list[bytes], pieces: list[bytes]) -> list[bytes]:
        """Send what there is, bring writes into the log, and return the pieces of their replies."""
        if pieces:
            self.turn.replies.append((self, pieces, False))
        self.stop_reading()
        replies = self._pool.writer.submit(self.session.db.index, len(writes), spelt)
        pieces = self._go_on()
        for reply in replies:
            if isinstance(reply, CommandError):
                self.turn.instance.statistics.count_error(reply.text)
        return self._spell(writes, replies, pieces)

    def _confirm(self, pieces: list[bytes]) -> list[bytes]:
        """Send what there is, and wait until this instance has all that was acknowledged anywhere before now."""
        if pieces:
            self.turn.replies.append((self, pieces, False))
        self.stop_reading()
        self._confirmed = self._pool.readers.wait_until_confirmed()
        return self._go_on()


class PoolServer(Server):
    """The event loop's side of a pool's instance."""

    def __init__(self, instance: Instance, log: NullLog, pool: Pool, tls: ServerTls | None) -> None:
        self._pool = pool
        self._plain = Engine(instance)
        self._null_log = log
        self._quiet_rounds = 0
        super().__init__(instance, Engine(instance, pool_table()), log, tls)

    def _make_turn(self) -> Turn:
        return PoolTurn(self.instance, self._null_log, self._pool)

    def _connect(self, sock: Any, session: Session) -> Connection:
        return PoolConnection(self.turn, self.engine, self._plain, sock, session, self._pool)

    def _follow_clock(self) -> None:
        if clock_ahead_ms() > self._clock_ahead_ms:
            super()._follow_clock()
        else:  # set back, or not at all: the log's clock, which never goes back, is the time for a while
            self._clock_ahead_ms = clock_ahead_ms()

    def _is_busy(self) -> bool:
        if super()._is_busy() or self._pool.writer.is_busy():
            self._quiet_rounds = 0
        self._quiet_rounds += 1
        return self._quiet_rounds < 3  # whoever was answered last has yet to send it
