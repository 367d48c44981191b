"""Run commands: look a request up, check it, run it, and return its reply.

1. `run` is the only way of a client's requests. It never yields and never raises: what goes wrong inside a command is a
   reply. `admit` decides whether a request may run now.
2. `apply` is the only way of a logged effect. It knows no client, so nothing holds it back, and it runs from start to
   end. It raises CommandError, because a log that holds a refused command is corrupt.
3. The engine reads no bytes, never waits, and does not know the dialect.

A reply that is not ready is an object, and the caller settles it: a `Deferred` says what the request waits for, a
generator is work to be done in slices.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from time import time
from types import GeneratorType

import commands.clients
import commands.connection
import commands.info
import commands.introspection
import commands.keys
import commands.pool
import commands.refused
import commands.server
import commands.strings  # noqa: F401  (the modules fill the table when imported)
from claim import Claim
from columns import Columns, columns_of
from commands import DENYOOM, HIDDEN, LONGEST_NAME_BYTES, NO_AUTH, READONLY, TABLE, WRITE, Command, RunMany, fold
from commands.many import AT_ONCE_WORDS, logging_in_slices
from commands.slices import at_once
from errors import INTERNAL, LOG_FAILED, NAMED_BYTES, NO_MEMORY, OUT_OF_MEMORY, UNKNOWN_COMMAND, CommandError
from errors import NO_AUTH as NO_AUTH_TEXT
from eviction import Making
from replies import HELD_BACK, OK, Deferred, Reply, Work
from session import Instance, Session

logger = logging.getLogger("godis")

PART_REQUESTS = 64  # that run before their caller looks at the clock
PART_REPLY_BYTES = 1 << 20  # of replies that are kept in memory before their caller sends them
SHORT_BYTES = 4096
BRIEF_KINDS = frozenset({int, type(None)})


class Engine:
    """The way from argv to reply."""

    def __init__(self, instance: Instance, table: Mapping[bytes, Command] = TABLE) -> None:
        self.instance = instance
        table = {**HIDDEN, **table}
        # Clients send a name in upper or lower case: both are looked up as they are, any other mixture is folded.
        self.table = {**table, **{name.lower(): row for name, row in table.items()}}
        self.replaying = Session(instance, 0)
        self.replaying.authenticated = True

    def lookup(self, argv: list[bytes]) -> Command:
        """Return the row of a request. Raises CommandError as Redis words it."""
        row = self.table.get(fold(argv[0]))
        if row is None:
            raise unknown_command(argv)
        return row

    def run(self, session: Session, requests: Sequence[list[bytes]], until: float = 0.0) -> Sequence[Reply]:
        """Run the first requests of a pipeline, in order, and return their replies: at least one.

        The caller handles these replies before it runs the rest. The run ends
        1. behind a reply that is not ready: a `Deferred`, or work to be done in slices (a generator);
        2. behind a command that closes or mutes the connection, and before one that changes how replies are spelled;
        3. behind a command that may have taken long, when it is later than `until` and than the turn's end;
        4. behind a megabyte of replies, and behind PART_REQUESTS requests.

        A command is said to be quick where its reply is OK, a short string, or, of a command flagged FAST that touches
        nothing but keys, an integer or null. To look at the clock behind these as well costs 4 % of a GET at P=16.
        """
        if self.instance.untouching:
            self.instance.store.noting = not session.no_touch
        if len(requests) > 1:
            replies_by_column = self._run_by_column(session, requests)
            if replies_by_column is not None:
                return replies_by_column
            if len(requests) > PART_REQUESTS:
                requests = requests[:PART_REQUESTS]
        instance, table = self.instance, self.table
        replies: list[Reply] = []
        reply_bytes = 0
        for argv in requests:
            try:
                row = table.get(argv[0]) or self.lookup(argv)
                arity = row.arity
                if len(argv) != arity and (arity > 0 or len(argv) < -arity):
                    raise row.wrong_arity()
                if row.alone and replies:
                    break
                if (instance.gated or not session.authenticated) and (held_back := self.admit(session, row, argv)):
                    replies.append(held_back)
                    break
                reply = row.run(session, argv)
            except CommandError as error:
                reply = self.refuse(error)
            except MemoryError:
                reply = self.no_memory(argv[0])
            except Exception:
                reply = self.internal_error(argv[0])
            replies.append(reply)
            kind = type(reply)
            if reply is OK or (kind is bytes and len(reply) < SHORT_BYTES) or (kind in BRIEF_KINDS and row.brief):  # type: ignore[arg-type]
                continue
            if kind is bytes or kind is memoryview:
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

    def run_huge(self, session: Session, argv: list[bytes]) -> Reply:
        """Run a request of many megabytes: what it logs is written in slices, unless it waits for something else."""
        if len(argv[0]) > LONGEST_NAME_BYTES:  # to look it up takes long
            return self.refuse(unknown_command(argv))
        row = self.table.get(argv[0]) or self.table.get(fold(argv[0]))
        if row is None or not row.flags & WRITE or not row.accepts(len(argv)) or self.instance.pool is not None:
            return self.run(session, [argv])[0]
        return self._work_on_huge(row, session, argv)

    def _work_on_huge(self, row: Command, session: Session, argv: list[bytes]) -> Work:
        """Run a request in one go, and log it in slices; its keys are its own meanwhile."""
        if (self.instance.gated or not session.authenticated) and (held_back := self.admit(session, row, argv)):
            return (yield from held_back) if isinstance(held_back, Generator) else held_back
        reply = yield from logging_in_slices(session, row.key_arguments(argv), partial(row.run, session, argv))
        return (yield from reply) if isinstance(reply, Generator) else reply  # it copies in slices, too

    def _run_by_column(self, session: Session, requests: Sequence[list[bytes]]) -> Sequence[Reply] | None:
        """Run a pipeline of one command at once; None, and nothing is done, where that cannot be.

        A layer costs what it costs once a pipeline instead of once a request. A SET at P=16 takes 2.0 µs between its
        bytes and its reply, and 2.8 one by one.
        """
        row = self.table.get(requests[0][0])
        if row is None or row.run_many is None or self.instance.one_by_one or not session.authenticated:
            return None
        if type(requests) is not Columns and requests[0][0] != requests[-1][0]:
            return None
        try:
            return self._run_columns(row, row.run_many, session, requests)
        except Exception:
            return [self.internal_error(row.name)] * len(requests)

    @staticmethod
    def _run_columns(
        row: Command, run_many: RunMany, session: Session, requests: Sequence[list[bytes]]
    ) -> Sequence[Reply] | None:
        all_columns = columns_of(requests)
        if all_columns is None:
            return None
        names, *columns = all_columns
        if names.count(names[0]) != len(names) or not row.accepts(1 + len(columns)):
            return None
        witness = session.instance.witness
        if witness is not None:
            witness.note_keys(session, columns[0])  # the only keys, but for MSET, whose replies wait as it writes
        return run_many(session, *columns)

    def refuse(self, error: CommandError) -> CommandError:
        """Count an error that is a reply."""
        self.instance.statistics.count_error(error.text)
        # It would hold the frames it came through, and they hold it: a cycle, which only the collector frees.
        error.__traceback__ = error.__context__ = None
        return error

    def internal_error(self, name: bytes) -> CommandError:
        """Note our own bug, while it is handled. The values are the user's and stay out of the log."""
        logger.exception("internal error in %s", name[:64].decode(errors="backslashreplace"))
        self.instance.statistics.count_error(INTERNAL)
        return CommandError(INTERNAL)

    def no_memory(self, name: bytes) -> CommandError:
        """Note that the system had no memory for a command, such as for a copy of a huge value; it changed nothing."""
        logger.warning("not enough memory for a %s", name[:64].decode(errors="backslashreplace"))
        self.instance.statistics.count_error(NO_MEMORY)
        return CommandError(NO_MEMORY)

    def admit(self, session: Session, row: Command, argv: list[bytes]) -> Deferred | Work | None:
        """Return what holds a command back, if anything. Raises CommandError if it may not run at all."""
        instance = self.instance
        witness = instance.witness
        if witness is not None and session.authenticated and not instance.one_by_one:
            witness.note(session, row, argv)
            return None
        if not session.authenticated and not row.flags & NO_AUTH:
            if row.subcommands and len(argv) > 1:
                row.subcommand(argv)  # Redis too finds a command before it asks who wants it
            raise CommandError(NO_AUTH_TEXT)
        claim = instance.store.claim
        if claim is not None and self._is_claimed(claim, row, argv):
            return HELD_BACK
        writes = bool(row.flags & WRITE)
        if writes and instance.log.failure is not None:
            raise CommandError(LOG_FAILED % instance.log.failure)
        if instance.paused and (writes or not instance.pause.writes_only) and row.name != b"CLIENT":
            return HELD_BACK
        if instance.pool is not None:
            instance.pool.check(row.name, row.flags & WRITE, row.flags & READONLY)
        if row.flags & DENYOOM and (making := self._make_room(argv)):
            return making
        if witness is not None:
            witness.note(session, row, argv)
        return None

    def _make_room(self, argv: list[bytes]) -> Work | None:
        """Make memory for a request; return what is left to be done for it, if anything. Raises CommandError."""
        room = self.instance.eviction.make_room(argv)
        if not room:
            raise CommandError(OUT_OF_MEMORY)
        return None if room is True else _waiting_for(room)

    def _is_claimed(self, claim: Claim, row: Command, argv: list[bytes]) -> bool:
        """Say whether a long command is at work where a request would read or write."""
        if row.subcommands and len(argv) > 1:
            row = row.subcommands.get(fold(argv[1]), row)
        if self.instance.pool is not None and row.flags & WRITE:
            return False  # it changes nothing before its entry is applied
        if not row.flags & (WRITE | READONLY):
            return False
        if row.flags & WRITE and self.instance.log.is_busy:
            return True
        return not row.keys.first or len(argv) > AT_ONCE_WORDS or claim.holds_any(row.key_arguments(argv))

    def apply(self, db: int, argv: list[bytes]) -> None:
        """Run a logged effect from start to end. Raises CommandError if it is refused."""
        if db >= len(self.replaying.store.databases):
            raise CommandError(b"ERR DB index is out of range (start with a greater --databases)")
        row = self.lookup(argv)
        if not row.flags & WRITE or not row.accepts(len(argv)):
            raise CommandError(b"ERR '%b' is no command that a log holds" % argv[0][:64])
        reply = self.run_logged(db, argv)
        while isinstance(reply, Generator):
            reply = at_once(reply)
            if reply is HELD_BACK:  # the request was only made shorter
                reply = self.run_logged(db, argv)
        if isinstance(reply, CommandError):
            raise reply

    def run_logged(self, db: int, argv: list[bytes]) -> Reply:
        """Run a command of a log, whatever holds clients back; work where it takes long. Raises CommandError."""
        session = self.replaying
        session.db = session.store.databases[db]
        row = self.lookup(argv)
        if not row.accepts(len(argv)):
            raise row.wrong_arity()
        return row.run(session, argv)

    def apply_many(self, db: int, batch: Sequence[list[bytes]]) -> bool:
        """Run the effects of a batch at once; False, and nothing is done, where they are to be applied one by one."""
        session = self.replaying
        row = self.table.get(batch[0][0])
        if row is None or row.run_many is None or not row.flags & WRITE or db >= len(session.store.databases):
            return False
        session.db = session.store.databases[db]
        return self._run_columns(row, row.run_many, session, batch) is not None


def unknown_command(argv: list[bytes]) -> CommandError:
    """Return the error for a request of a command that is not there, with the beginning of its arguments."""
    listed = b""
    for argument in argv[1:NAMED_BYTES]:
        if len(listed) >= NAMED_BYTES:
            break
        listed += b"'%b' " % argument[: NAMED_BYTES - len(listed)]
    return CommandError(UNKNOWN_COMMAND % (argv[0][:NAMED_BYTES], listed))


def _waiting_for(room: Making) -> Work:
    """Make room, then let the request be executed again."""
    has_room = yield from room
    if not has_room:
        raise CommandError(OUT_OF_MEMORY)
    return HELD_BACK
