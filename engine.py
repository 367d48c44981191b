"""Run commands: look a request up, check it, run it, and return its reply.

1. `run` executes the requests of clients. It never yields and never raises: an error inside a command becomes a reply.
   `admit` decides whether a request may run now.
2. `apply` and `apply_many` execute logged effects. No gate applies to them, and they run from start to end. `apply`
   raises CommandError, because a log that holds a refused command is corrupt.
3. The engine reads no bytes, never waits, and does not know the dialect of a client.

A reply that is not ready is an object that the caller settles. A `Deferred` stands for a request that has to wait or
for a write of a pool. A generator is work that the caller runs in slices.

The module has more than 400 lines because the checks of the gates stand beside `admit`, which runs them in their order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from time import time
from types import GeneratorType

import commands.acl
import commands.bitmaps
import commands.blocking_lists
import commands.blocking_sorted_sets
import commands.clients
import commands.connection
import commands.dump
import commands.functions
import commands.geo
import commands.hash_deadlines
import commands.hashes
import commands.help
import commands.hyperloglog
import commands.info
import commands.introspection
import commands.keys
import commands.lists
import commands.monitoring
import commands.numbers
import commands.pool
import commands.pubsub
import commands.refused
import commands.scripting
import commands.server
import commands.sets
import commands.sort
import commands.sorted_sets
import commands.streams
import commands.string_parts
import commands.strings
import commands.tracking
import commands.transactions
import commands.waits  # noqa: F401  (the modules fill the table when imported)
from commands import (
    ALLOW_BUSY,
    DENYOOM,
    EVERYWHERE,
    HIDDEN,
    LONGEST_NAME_BYTES,
    MAY_REPLICATE,
    NO_AUTH,
    NOT_QUEUED,
    READONLY,
    SCRIPT,
    TABLE,
    WRITE,
    Command,
    RunMany,
    execution,
    fold,
    measured,
    observing,
)
from commands.execution import run_row
from commands.functions import may_write
from commands.keyspace_walk import at_once
from commands.long_commands import AT_ONCE_WORDS, logging_in_slices
from commands.permissions import check
from commands.transactions import as_one_request, can_run_whole, exec_, multi, queue, refuse_queued, run_each
from errors import (
    LOG_FAILED,
    MONITOR_ASKS_FOR_KEYS,
    NAMED_BYTES,
    ONLY_SUBSCRIBE,
    OUT_OF_MEMORY,
    READ_ONLY,
    UNKNOWN_COMMAND,
    CommandError,
)
from errors import NO_AUTH as NO_AUTH_TEXT
from keyspace.eviction import Making
from replies import HELD_BACK, OK, QUEUED, Deferred, Replies, Reply, Work
from session import Instance, Session
from users.user import User
from values import LongString
from wire.columns import Columns, all_alike, columns_of

logger = logging.getLogger("godis")

PART_REQUESTS = 64  # one call of `run` executes at most this many; then its caller reads the clock
PART_REPLY_BYTES = 1 << 20  # `run` ends after this many bytes of replies; then its caller sends them
SAMPLED_PIPELINE = 16  # a pipeline is measured if its command has at most so many calls until the next measured one
SHORT_BYTES = 4096  # `run` does not read the clock after a shorter string
WHILE_SUBSCRIBED = frozenset(
    b"SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE PING QUIT EXIT RESET".split()
)
BRIEF_KINDS = frozenset({int, type(None)})
NOT_YET = Deferred()  # the request did not run: the replies to those before it have to be encoded first
BULK_KINDS = frozenset({bytes, memoryview, LongString})


class Engine:
    """Executes requests and logged effects against one instance."""

    def __init__(self, instance: Instance, table: Mapping[bytes, Command] = TABLE) -> None:
        self.instance = instance
        self.may_be_late = False  # a command has run that may take long
        self._rows = {**HIDDEN, **table}
        self.table: dict[bytes, Command] = {}  # what was asked for, in upper and lower case
        self.replaying = Session(instance, 0)
        self.replaying.user = User.unrestricted(b"")
        self.replaying.authenticated = True
        observing.attach(instance)

    def find(self, name: bytes) -> Command | None:
        """Return the row of a command, in whatever case its name is, or None.

        An instance counts its calls, so it has rows of its own. Each is made when it is first asked for: all of them
        would take 1.7 ms of a start.
        """
        folded = fold(name)
        row = self.table.get(folded)
        if row is None and folded in self._rows:
            row = measured.counted(self._rows[folded], self.instance.measures.counts)
            self.table[folded] = self.table[folded.lower()] = row
        return row

    def lookup(self, argv: list[bytes]) -> Command:
        """Return the table's row for a request. Raises CommandError, with Redis's text, for an unknown command."""
        row = self.find(argv[0])
        if row is None:
            raise unknown_command(argv)
        return row

    def run(self, session: Session, requests: Sequence[list[bytes]], until: float = 0.0) -> Sequence[Reply]:
        """Run the first requests of a pipeline, in order, and return their replies: at least one.

        The caller handles these replies before it runs the rest. The run ends
        1. after a reply that is not ready: a `Deferred`, or work for slices (a generator);
        2. after a command that closes or mutes the connection, and before one that changes how replies are encoded;
        3. after a command that may have taken long, if the time is past `until` (Unix seconds) and past the turn's end;
        4. after PART_REPLY_BYTES of replies, and after PART_REQUESTS requests.

        The clock is not read after a quick command, because that costs 4 % of a GET at P=16.
        """
        instance = self.instance
        if instance.is_observed and instance.measures.counts.measures_each:
            return [self.run_one(session, requests[0])]
        by_column = self._run_by_column(session, requests)
        if by_column is not None:
            return by_column
        if len(requests[0]) == 1 == len(requests[-1]) and len(requests) > 1:
            answered = self._run_transaction(session, requests)
            if answered is not None:
                return answered
        replies: list[Reply] = []
        reply_bytes = 0
        self.may_be_late = False
        for argv in requests if len(requests) <= PART_REQUESTS else requests[:PART_REQUESTS]:
            reply = self.run_one(session, argv, not replies)
            if reply is NOT_YET:
                break
            replies.append(reply)
            kind = type(reply)
            if kind is bytes:
                if len(reply) < SHORT_BYTES and not self.may_be_late:  # type: ignore[arg-type]
                    continue
            elif (reply is OK or kind in BRIEF_KINDS or reply is QUEUED) and not self.may_be_late:
                continue
            self.may_be_late = False
            if kind in BULK_KINDS:
                reply_bytes += len(reply)  # type: ignore[arg-type]
            if (
                kind is GeneratorType
                or isinstance(reply, Deferred)
                or session.closing
                or session.muted
                or instance.shutdown
                or reply_bytes > PART_REPLY_BYTES
                or ((now := time()) > instance.turn_ends and now > until)
            ):
                break
        return replies

    def run_one(self, session: Session, argv: list[bytes], is_first: bool = True) -> Reply:
        """Run one request and return its reply; NOT_YET if it has to be the first of those that are run at once."""
        count = None
        try:
            row = self.table.get(argv[0]) or self.lookup(argv)
            if len(argv) != row.arity and len(argv) < row.least_words:
                raise row.wrong_arity()
            if row.alone and not is_first:
                return NOT_YET
            if (self.instance.needs_checks or session.restricted) and (waits := self.admit(session, row, argv)):
                return waits
            count = row.count
            count.left = left = count.left - 1
            if left > 0:
                return row.run(session, argv)
            if not row.swift:
                self.may_be_late = True
            return measured.run(session, row, argv, count)
        except CommandError as error:
            measured.count_refused(session, self.find(argv[0]), argv, ran=count is not None)
            observing.end_caching(session, argv)
            return self.refuse(refuse_queued(session, argv, error))
        except MemoryError:
            return self.no_memory(argv[0])
        except Exception:
            return self.internal_error(argv[0])

    def run_huge(self, session: Session, argv: list[bytes]) -> Reply:
        """Run a request of many megabytes; return its reply, or work that writes its effects to the log in slices."""
        if len(argv[0]) > LONGEST_NAME_BYTES:  # hashing a name of many megabytes takes long
            return self.refuse(unknown_command(argv))
        row = self.find(argv[0])
        row = row and row.of(argv)
        if row is None or not row.flags & WRITE or not row.accepts(len(argv)) or self.instance.pool is not None:
            return self.run(session, [argv])[0]
        return self._work_on_huge(row, session, argv)

    def _work_on_huge(self, row: Command, session: Session, argv: list[bytes]) -> Work:
        """Run a request from start to end, and log its effects in slices, during which its keys are locked."""
        if (self.instance.needs_checks or session.restricted) and (waits := self.admit(session, row, argv)):
            return (yield from waits) if isinstance(waits, Generator) else waits
        self.instance.measures.counts.of(row.name, row.swift).left -= 1
        reply = yield from logging_in_slices(session, row.key_arguments(argv), partial(run_row, session, row, argv))
        return (yield from reply) if isinstance(reply, Generator) else reply  # the command itself takes slices, too

    def _run_by_column(self, session: Session, requests: Sequence[list[bytes]]) -> Sequence[Reply] | None:
        """Run a pipeline of one command by column. Return None, and do nothing, if the pipeline is of another form.

        Each layer is then paid for once a pipeline instead of once a request. A SET at P=16 takes 2.0 µs from its bytes
        to its reply, and 2.8 µs request by request.
        """
        columns = requests.columns if type(requests) is Columns else None
        name = columns[0][0] if columns is not None else requests[0][0]
        row = self.table.get(name) or self.find(name)
        if row is None or row.run_many is None or self.instance.closed_gates or session.restricted:
            return None
        if columns is None and (name != requests[-1][0] or len(requests) == 1):
            return None
        if self.instance.is_observed:
            self.instance.store.tracks_access = not session.no_touch
        count = row.count
        clock = self.instance.measures.clock
        began = clock() if count.left <= SAMPLED_PIPELINE else 0.0
        try:
            replies = self._run_columns(row, row.run_many, session, columns or columns_of(requests))
        except Exception:
            return [self.internal_error(row.name)] * len(requests)
        if replies is not None:
            count.left -= len(replies)
            if began and count.left <= 0:
                measured.book_columns(session, row, requests, len(replies), clock() - began)
        return replies

    @staticmethod
    def _run_columns(
        row: Command, run_many: RunMany, session: Session, all_columns: Sequence[Sequence[bytes]] | None
    ) -> Sequence[Reply] | None:
        if all_columns is None:
            return None
        names, *columns = all_columns
        if not all_alike(names) or not row.accepts(1 + len(columns)):
            return None
        observer = session.instance.read_observer
        if observer is not None:
            observer.observe_keys(session, columns[0])
        return run_many(session, *columns)

    def _run_transaction(self, session: Session, requests: Sequence[list[bytes]]) -> list[Reply] | None:
        """Run a transaction that came whole, MULTI to EXEC. Return None, and do nothing, if it has to be queued.

        The first and the last request have one word. The pipelines of redis-py and others send it so. Nobody can see
        the queue then, so none is made.
        """
        begin, end = self.table.get(requests[0][0]), self.table.get(requests[-1][0])
        if begin is None or begin.run is not multi or end is None or end.run is not exec_:
            return None  # in a pool EXEC is another function
        queued = requests[1:-1]
        rows = [self.table.get(argv[0]) for argv in queued]
        if self.instance.needs_checks or session.restricted or not can_run_whole(session, rows, queued):
            return None
        if begin.count.left == 1 or end.count.left == 1:
            return None  # it is to be measured
        begin.count.left -= 1
        end.count.left -= 1
        session.unwatch()
        replies = self._run_by_column(session, queued) if queued else []
        if replies is None:
            replies = run_each(session, rows, queued)
        return [OK, *[QUEUED] * len(queued), Replies(replies)]

    def refuse(self, error: CommandError) -> CommandError:
        """Count an error that becomes a reply, and return it."""
        return execution.refuse(self.instance, error)

    def internal_error(self, name: bytes) -> CommandError:
        """Report the bug whose exception is being handled, and return the reply."""
        return execution.internal_error(self.instance, name)

    def no_memory(self, name: bytes) -> CommandError:
        """Report that the system had no memory for a command, and return the reply."""
        return execution.no_memory(self.instance, name)

    def admit(self, session: Session, row: Command, argv: list[bytes]) -> Reply:
        """Return None if a request may run now, else what it waits for, or QUEUED. Raises CommandError if refused.

        A request passes authentication, its user's permissions, then the closed gates in the order of `session.GATES`.
        After MULTI it is then queued. EXEC passes the gates with the flags and keys of all that is queued. A request
        that may run is reported to the read observer.
        """
        instance = self.instance
        if session.is_limited:
            self._check_client(session, row, argv)
        is_queued = session.transaction is not None and not row.flags & NOT_QUEUED
        if instance.needs_checks:
            if instance.is_observed:
                instance.store.tracks_access = not session.no_touch
            if session.transaction is not None and row.name == b"EXEC":
                row, argv = as_one_request(session.transaction, row)
            checked = row.of(argv)
            for name in instance.closed_gates:
                held_back = CHECKS[name](session, checked, argv)
                if held_back is not None:
                    return held_back
        if is_queued:
            return queue(session, row, argv)
        if instance.read_observer is not None:
            instance.read_observer.observe(session, row, argv)
        return None

    @staticmethod
    def _check_client(session: Session, row: Command, argv: list[bytes]) -> None:
        """Raise CommandError if the client may not run a request, in whatever state the instance is."""
        if not session.authenticated and not row.flags & NO_AUTH:
            row.resolved(argv)
            raise CommandError(NO_AUTH_TEXT)
        if session.user.is_restricted:
            check(session, row.resolved(argv), argv)
        if session.must_only_subscribe and row.name not in WHILE_SUBSCRIBED:
            raise CommandError(ONLY_SUBSCRIBE % row.resolved(argv).name.lower())
        if session.is_monitor and row.of(argv).flags & (READONLY | WRITE | MAY_REPLICATE):
            raise CommandError(MONITOR_ASKS_FOR_KEYS)

    def apply(self, db: int, argv: list[bytes]) -> None:
        """Run a logged effect from start to end. Raises CommandError if the command refuses it."""
        if db >= len(self.replaying.store.databases):
            raise CommandError(b"ERR DB index is out of range (start with a greater --databases)")
        row = self.lookup(argv).of(argv)
        if not row.flags & (WRITE | MAY_REPLICATE) or not row.accepts(len(argv)):
            raise CommandError(b"ERR '%b' is no command that a log holds" % argv[0][:64])
        reply = self.run_logged(db, argv)
        while isinstance(reply, Generator):
            reply = at_once(reply)
        if isinstance(reply, CommandError):
            raise reply

    def run_logged(self, db: int, argv: list[bytes]) -> Reply:
        """Run a command of a log, past all gates; return its reply, or work for slices. Raises CommandError."""
        session = self.replaying
        session.db = session.store.databases[db]
        row = self.lookup(argv)
        if not row.accepts(len(argv)):
            raise row.wrong_arity()
        return run_row(session, row, argv)

    def apply_many(self, db: int, batch: Sequence[list[bytes]]) -> bool:
        """Run a batch of effects by column. Return False, and do nothing, if they must be applied one by one."""
        session = self.replaying
        row = self.find(batch[0][0])
        if row is None or row.run_many is None or not row.flags & WRITE or db >= len(session.store.databases):
            return False
        session.db = session.store.databases[db]
        return self._run_columns(row, row.run_many, session, columns_of(batch)) is not None


def unknown_command(argv: list[bytes]) -> CommandError:
    """Return the error for a command that does not exist; it quotes the beginning of the arguments."""
    listed = b""
    for argument in argv[1:NAMED_BYTES]:
        if len(listed) >= NAMED_BYTES:
            break
        listed += b"'%b' " % argument[: NAMED_BYTES - len(listed)]
    return CommandError(UNKNOWN_COMMAND % (argv[0][:NAMED_BYTES], listed))


# ---- gates: return None if a request may pass, else what it waits for; raise CommandError if it is refused


def _check_blocked_clients(session: Session, row: Command, argv: list[bytes]) -> Deferred | None:
    """Serve the clients that wait for keys that have changed, before the next request can take what they wait for."""
    blocked, store = session.instance.blocked, session.store
    blocked.serve()
    if not blocked.is_ready or store.key_lock is not None or not row.flags & (WRITE | READONLY):
        return None
    is_free = len(argv) <= AT_ONCE_WORDS and row.names_keys(argv)
    return None if is_free and not blocked.holds_any(session.db, row.key_arguments(argv)) else HELD_BACK


def _check_key_locks(session: Session, row: Command, argv: list[bytes]) -> Deferred | None:
    """Defer a request that may touch a key that a long command has locked."""
    instance = session.instance
    lock = instance.store.key_lock
    if lock is None or not row.flags & (WRITE | READONLY | SCRIPT):
        return None
    if row.flags & SCRIPT and not (row.flags & EVERYWHERE and instance.pool is not None):
        return HELD_BACK  # it may touch keys that it does not name
    if row.flags & (WRITE | EVERYWHERE):
        if instance.pool is not None:
            return None  # in a pool a write changes nothing before its entry is applied
        if instance.log.is_busy:
            return HELD_BACK
    is_free = len(argv) <= AT_ONCE_WORDS and row.names_keys(argv) and not lock.holds_any(row.key_arguments(argv))
    return None if is_free else HELD_BACK


def _check_read_only(session: Session, row: Command, argv: list[bytes]) -> None:
    """Refuse writes to a log that is served as it is."""
    if row.flags & WRITE:
        raise CommandError(READ_ONLY)


def _check_log(session: Session, row: Command, argv: list[bytes]) -> None:
    """Refuse writes while the log cannot be written."""
    failure = session.instance.log.failure
    if failure is not None and row.flags & WRITE:
        raise CommandError(LOG_FAILED % failure)


def _check_pause(session: Session, row: Command, argv: list[bytes]) -> Deferred | None:
    """Defer a request that CLIENT PAUSE stops."""
    instance = session.instance
    if not instance.paused:
        instance.gate("pause", closed=False)
        return None
    writes = row.flags & WRITE or (
        row.flags & SCRIPT and row.flags & MAY_REPLICATE and may_write(session, row.name, argv)
    )
    waits = not row.name.startswith(b"CLIENT") and (writes or not instance.pause.writes_only)
    return HELD_BACK if waits else None


def _check_pool(session: Session, row: Command, argv: list[bytes]) -> None:
    """Refuse a request that cannot be executed correctly while the pool's log does not answer."""
    pool = session.instance.pool
    assert pool is not None
    pool.check(row.name, row.flags & WRITE, row.flags & READONLY)


def _check_memory(session: Session, row: Command, argv: list[bytes]) -> Work | None:
    """Evict keys for a request that needs memory: at once, or in slices where that takes long."""
    if not row.flags & DENYOOM:
        return _check_memory_of_script(session, argv) if row.flags & SCRIPT else None
    session.instance.script_has_room = True  # of a script in a transaction that is let through
    room = session.instance.eviction.make_room(argv)
    if not room:
        raise CommandError(OUT_OF_MEMORY)
    return None if room is True else _waiting_for(room)


def _check_memory_of_script(session: Session, argv: list[bytes]) -> Work | None:
    """Evict keys for a script. If there is no room, its writes are refused, unless it has a flag that allows them."""
    room = session.instance.eviction.make_room(argv)
    session.instance.script_has_room = bool(room)
    return None if type(room) is bool else _waiting_for_script(session, room)


def _waiting_for_script(session: Session, room: Making) -> Work:
    session.instance.script_has_room = yield from room
    return HELD_BACK


def _waiting_for(room: Making) -> Work:
    """Evict in slices, then let the request run again."""
    has_room = yield from room
    if not has_room:
        raise CommandError(OUT_OF_MEMORY)
    return HELD_BACK


def _check_script(session: Session, row: Command, argv: list[bytes]) -> None:
    """Refuse a request while a script takes long, unless it may end the script."""
    if not row.flags & ALLOW_BUSY:
        raise CommandError(session.instance.scripts.busy_text)


CHECKS: dict[str, Callable[[Session, Command, list[bytes]], Deferred | Work | None]] = {
    "script": _check_script,
    "blocked clients": _check_blocked_clients,
    "key locks": _check_key_locks,
    "read only": _check_read_only,
    "log": _check_log,
    "pause": _check_pause,
    "pool": _check_pool,
    "memory": _check_memory,
}
