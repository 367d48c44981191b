"""The network's side of a pool: an instance whose clients' writes go through the log.

It owns what differs from an instance alone, and nothing of how the log is kept (`pool`):

- The engine has two tables more. In `local`, a command that writes does not run but answers SUBMIT; in `linearizable`,
  one that reads answers CONFIRM as well. Both make a connection leave its fast loop, so a GET in the local mode runs
  the very code that it runs on an instance alone.
- A connection gathers the writes of a pipeline that stand side by side into one submission, parks until their entry
  comes back, and answers. What stands behind them runs after them, so each client sees its own writes.
- The time of a turn is the later one of the log's clock and the wall's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from aof import NullLog
from commands import READONLY, TABLE, WRITE, Command, fold
from commands.many import is_long, words_of
from connection import Connection
from engine import Engine
from errors import POOL_STALE, POOL_TOO_LARGE, CommandError
from pool.entry import MOST_BYTES
from pool.pool import UNCONFIRMED_SECONDS, Pool
from protocol import HugeRequest, command_pieces, encode_command
from replies import CONFIRM, SUBMIT, WAIT, Reply, Work
from server import Server, clock_ahead_ms
from session import Instance, Session
from turn import TURN_SECONDS, Turn

if TYPE_CHECKING:
    from tls import ServerTls

JOINED_BYTES = 1 << 16
CHOOSE_MODE = (b"READMODE", b"RESET")


def table_of(waiting: int, careful: bool) -> Mapping[bytes, Command]:
    """Return the table of commands, of which those with one of these flags do not run but say what they wait for.

    In the fast loop all of them say WAIT, which is what makes a connection leave it.
    """
    table = {name: _waiting(row, waiting, careful) for name, row in TABLE.items()}
    if not careful:
        for name in CHOOSE_MODE:  # another table holds behind them
            table[name] = replace(table[name], run=lambda _session, _argv: WAIT)
    return table


def _waiting(row: Command, waiting: int, careful: bool) -> Command:
    if row.flags & waiting:
        reply = _reason(row) if careful else WAIT
        return replace(row, run=lambda _session, _argv: reply, run_many=None)
    if any(child.flags & waiting for child in row.subcommands.values()):
        return replace(row, run=partial(_run_subcommand, row, waiting, careful))
    return row


def _run_subcommand(row: Command, waiting: int, careful: bool, session: Session, argv: list[bytes]) -> Reply:
    child = row.subcommands.get(fold(argv[1])) if len(argv) > 1 else None
    if child is None or not child.flags & waiting or not child.accepts(len(argv)):
        return row.run(session, argv)
    return _reason(child) if careful else WAIT


def _reason(row: Command) -> Reply:
    return SUBMIT if row.flags & WRITE else CONFIRM


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


class Mode:
    """What reads see, as ways from argv to reply: in the fast loop, and with care."""

    def __init__(self, instance: Instance, waiting: int) -> None:
        self.fast = Engine(instance, table_of(waiting, careful=False))
        self.careful = Engine(instance, table_of(waiting, careful=True))


class Modes:
    """All of them."""

    def __init__(self, instance: Instance) -> None:
        self.plain = Engine(instance)
        self.local = Mode(instance, WRITE)
        self.linearizable = Mode(instance, WRITE | READONLY)


class PoolTurn(Turn):
    """A round of the loop of a pool's instance."""

    def __init__(self, instance: Instance, log: NullLog, pool: Pool) -> None:
        super().__init__(instance, log)
        self.pool = pool

    def _begin(self) -> None:
        now = time()
        self.late = now + TURN_SECONDS
        self.pool.replica.tick(int(now * 1000))
        # A process that was stopped for a while must notice it before it answers anybody.
        if self.instance.pool.confirmed and monotonic() - self.pool.confirmed_at > UNCONFIRMED_SECONDS:  # type: ignore[union-attr]
            self.pool.follow_health()


class PoolConnection(Connection):
    """A client of a pool's instance."""

    __slots__ = ("_confirmed", "_mode", "_modes", "_pool", "_spelt", "_writes")

    def __init__(self, turn: Turn, modes: Modes, sock: Any, session: Session, pool: Pool) -> None:
        self._mode = modes.linearizable if session.linearizable else modes.local
        super().__init__(turn, self._mode.fast, sock, session)
        self._modes = modes
        self._pool = pool
        self._confirmed = False  # reads of this pipeline may see what is here
        self._writes: list[list[bytes]] = []  # that stand side by side, not submitted yet
        self._spelt: list[bytes] = []  # the same as RESP

    def _follow_mode(self) -> None:
        mode = self._modes.linearizable if self.session.linearizable else self._modes.local
        if mode is not self._mode:
            self._mode = mode
            self.engine = mode.fast
            self.execute = partial(Engine.execute, mode.fast, self.session)
            self.execute_many = mode.fast.execute_many

    def _run_with_care(self, requests: Iterable[list[bytes]], pieces: list[bytes]) -> list[bytes]:
        """Execute requests one by one, those that write together."""
        self._confirmed = False
        pieces = super()._run_with_care(requests, pieces)
        return self._submit(pieces) if self._writes else pieces

    def _carry_out(self, argv: list[bytes], pieces: list[bytes]) -> tuple[list[bytes], Reply]:
        """Execute a request or put it to the writes before it, which whatever is no write waits for."""
        if self._writes and not self._is_write(argv):
            pieces = self._submit(pieces)
        while True:
            self.session.work = None  # of the first try, in the fast loop
            reply = self._mode.careful.execute(self.session, argv)
            if reply is SUBMIT:
                pieces, reply = self._put_to_writes(argv, pieces)
                if reply is SUBMIT:
                    return pieces, reply
            if self._writes:
                pieces = self._submit(pieces)
            if reply is CONFIRM:
                if not self._confirmed:
                    pieces = self._confirm(pieces)
                reply = self._modes.plain.execute(self.session, argv) if self._confirmed else CommandError(POOL_STALE)
            if self.session.work is not None:
                pieces, reply = self._work(pieces, argv)
            if reply is not WAIT:
                self._follow_mode()
                return pieces, reply
            pieces = self._wait(pieces)

    def _put_to_writes(self, argv: list[bytes], pieces: list[bytes]) -> tuple[list[bytes], Reply]:
        """Spell a request as the log has it, and return SUBMIT; or the error that it is too large."""
        if type(argv) is HugeRequest or is_long(argv):
            self.session.work = spelling(argv)
            pieces, spelt = self._work(pieces, argv)
            if not isinstance(spelt, list):
                return pieces, spelt
        else:
            spelt = [encode_command(argv)]
        if (size := sum(map(len, spelt))) > MOST_BYTES:
            return pieces, CommandError(POOL_TOO_LARGE % (size, MOST_BYTES))
        self._writes.append(argv)
        self._spelt += spelt
        return pieces, SUBMIT

    def _is_write(self, argv: list[bytes]) -> bool:
        row = self.engine.table.get(argv[0]) or self.engine.table.get(fold(argv[0]))
        return row is not None and bool(row.flags & WRITE)

    def _submit(self, pieces: list[bytes]) -> list[bytes]:
        """Send what there is, bring the writes into the log, and return the pieces of their replies."""
        session = self.session
        writes, spelt = self._writes, self._spelt
        self._writes, self._spelt = [], []
        if pieces:
            self.turn.replies.append((self, pieces, False))
        self.stop_reading()
        replies = self._pool.writer.submit(session.db.index, len(writes), spelt)
        pieces = self._go_on()
        for argv, reply in zip(writes, replies, strict=True):
            if isinstance(reply, CommandError):
                self.turn.instance.statistics.count_error(reply.text)
            pieces = self._answer(argv, reply, pieces)
        return pieces

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
        self._modes = Modes(instance)
        self._null_log = log
        self._quiet_rounds = 0
        super().__init__(instance, self._modes.local.fast, log, tls)

    def _make_turn(self) -> Turn:
        return PoolTurn(self.instance, self._null_log, self._pool)

    def _connect(self, sock: Any, session: Session) -> Connection:
        return PoolConnection(self.turn, self._modes, sock, session, self._pool)

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
