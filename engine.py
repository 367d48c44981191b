"""Run a command for a session: look it up, check it, run it. And apply the effects of a log.

It owns the way from argv to reply and nothing else: it does not read bytes, wait, or know the dialect. `execute` never
yields and never raises: whatever goes wrong inside a command is a reply. `apply` is the same run without a client, and
lets a CommandError through, since a log that holds a refused command is corrupt.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import commands.clients
import commands.connection
import commands.info
import commands.introspection
import commands.keys
import commands.pool
import commands.server
import commands.strings  # noqa: F401  (the modules fill the table when imported)
from claim import Claim
from columns import Columns, columns_of
from commands import DENYOOM, LONGEST_NAME_BYTES, NO_AUTH, READONLY, TABLE, WRITE, Command, RunMany, fold
from commands.many import AT_ONCE_WORDS, leave, logging_in_slices
from commands.slices import at_once
from errors import INTERNAL, LOG_FAILED, NAMED_BYTES, NO_MEMORY, OUT_OF_MEMORY, UNKNOWN_COMMAND, CommandError
from errors import NO_AUTH as NO_AUTH_TEXT
from eviction import Making
from replies import WAIT, Reply, Work
from session import Instance, Session

logger = logging.getLogger("godis")


class Engine:
    """The way from argv to reply."""

    def __init__(self, instance: Instance, table: Mapping[bytes, Command] = TABLE) -> None:
        self.instance = instance
        # Clients send a name in upper or lower case: both are looked up as they are, any other mixture is folded.
        self.table = {**table, **{name.lower(): row for name, row in table.items()}}
        self.replaying = Session(instance, 0)
        self.replaying.authenticated = True

    def lookup(self, argv: list[bytes]) -> Command:
        """Return the row of a request. Raises CommandError as Redis words it."""
        row = self.table.get(argv[0]) or self.table.get(fold(argv[0]))
        if row is None:
            raise unknown_command(argv)
        return row

    def execute(self, session: Session, argv: list[bytes]) -> Reply:
        """Run a request and return its reply; WAIT if it is to be run again when the pause is over."""
        try:
            row = self.table.get(argv[0]) or self.lookup(argv)
            arity = row.arity
            if len(argv) != arity and (arity > 0 or len(argv) < -arity):
                raise row.wrong_arity()
            if (self.instance.gated or not session.authenticated) and self._must_wait(session, row, argv):
                return WAIT
            return row.run(session, argv)
        except CommandError as error:
            return self.refuse(error)
        except MemoryError:
            return self.no_memory(argv[0])
        except Exception:
            return self.internal_error(argv[0])

    def refuse(self, error: CommandError) -> CommandError:
        """Count an error that is a reply."""
        self.instance.statistics.count_error(error.text)
        # It would hold the frames it came through, and they hold it: a cycle, which only the collector frees.
        error.__traceback__ = error.__context__ = None
        return error

    def execute_huge(self, session: Session, argv: list[bytes]) -> Reply:
        """Run a request of many megabytes: what it logs is written in slices, unless it waits for something else."""
        if len(argv[0]) > LONGEST_NAME_BYTES:  # to look it up takes long
            return self.refuse(unknown_command(argv))
        row = self.table.get(argv[0]) or self.table.get(fold(argv[0]))
        if row is None or not row.flags & WRITE or not row.accepts(len(argv)) or self.instance.pool is not None:
            return self.execute(session, argv)
        return leave(session, self._work_on_huge(row, session, argv))

    def _work_on_huge(self, row: Command, session: Session, argv: list[bytes]) -> Work:
        """Run a request in one go, and log it in slices; its keys are its own meanwhile."""
        if (self.instance.gated or not session.authenticated) and self._must_wait(session, row, argv):
            return WAIT
        reply = yield from logging_in_slices(session, row.key_arguments(argv), partial(row.run, session, argv))
        if reply is WAIT and session.work is not None:  # it copies in slices, too
            work, session.work = session.work, None
            reply = yield from work
        return reply

    def execute_many(self, session: Session, requests: Sequence[list[bytes]]) -> Sequence[Reply] | None:
        """Run a pipeline at once; None, and nothing is done, if some of its requests may take long, or have to wait.

        Of one command it runs by column: a layer what it costs once a pipeline instead of once a
        request. A SET at P=16 takes 2.0 µs between its bytes and its reply, and 2.8 one by one.
        """
        row = self.table.get(requests[0][0])
        if row is None or row.run_many is None or self.instance.one_by_one or not session.authenticated:
            return None
        try:
            if type(requests) is Columns or requests[0][0] == requests[-1][0]:
                replies = self._run_many(row, row.run_many, session, requests)
                if replies is not None:
                    return replies
        except Exception:
            return [self.internal_error(row.name)] * len(requests)
        return self._run_brief(session, requests)

    @staticmethod
    def _run_many(
        row: Command, run_many: RunMany, session: Session, requests: Sequence[list[bytes]]
    ) -> Sequence[Reply] | None:
        """Run requests of one command by column; None, and nothing is done, if that cannot be."""
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

    def _run_brief(self, session: Session, requests: Sequence[list[bytes]]) -> list[Reply] | None:
        """Run requests one after another, whose commands have a form for many; None, and nothing is done, for others.

        Such a command takes some microseconds, so that its caller need not wait or look at the clock. The plain way is
        `execute` for each; to look at all before the first runs takes a fifth of the engine's time off.
        """
        names = {argv[0] for argv in requests}
        rows = {name: row for name in names if (row := self.table.get(name)) is not None and row.run_many is not None}
        if len(rows) != len(names) or max(map(len, requests)) > AT_ONCE_WORDS:
            return None
        witness = self.instance.witness
        replies: list[Reply] = []
        for argv in requests:
            row = rows[argv[0]]
            arity = row.arity
            try:
                if len(argv) != arity and (arity > 0 or len(argv) < -arity):
                    raise row.wrong_arity()
                if witness is not None:
                    witness.note(session, row, argv)
                replies.append(row.run(session, argv))
            except CommandError as error:
                replies.append(self.refuse(error))
            except MemoryError:
                replies.append(self.no_memory(argv[0]))
            except Exception:
                replies.append(self.internal_error(argv[0]))
        return replies

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

    def _must_wait(self, session: Session, row: Command, argv: list[bytes]) -> bool:
        """Say whether a pause holds a command back. Raises CommandError if it may not run at all."""
        instance = self.instance
        witness = instance.witness
        if witness is not None and session.authenticated and not instance.one_by_one:
            witness.note(session, row, argv)
            return False
        if not session.authenticated and not row.flags & NO_AUTH:
            if row.subcommands and len(argv) > 1:
                row.subcommand(argv)  # Redis too finds a command before it asks who wants it
            raise CommandError(NO_AUTH_TEXT)
        claim = instance.store.claim
        if claim is not None and self._is_claimed(claim, row, argv):
            return True
        writes = bool(row.flags & WRITE)
        if writes and instance.log.failure is not None:
            raise CommandError(LOG_FAILED % instance.log.failure)
        if instance.paused and (writes or not instance.pause.writes_only) and row.name != b"CLIENT":
            return True
        if instance.pool is not None:
            instance.pool.check(row.name, row.flags & WRITE, row.flags & READONLY)
        if row.flags & DENYOOM and not self._has_room(session, argv):
            return True
        instance.store.noting = not session.no_touch or row.name == b"TOUCH"
        if witness is not None:
            witness.note(session, row, argv)
        return False

    def _has_room(self, session: Session, argv: list[bytes]) -> bool:
        """Say whether there is memory for a request, or leave it to be made in slices. Raises CommandError."""
        room = self.instance.eviction.make_room(argv)
        if not room:
            raise CommandError(OUT_OF_MEMORY)
        if room is True:
            return True
        session.work = _waiting_for(room)
        return False

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
        """Run a logged effect against a database. Raises CommandError if it is refused."""
        session = self.replaying
        if db >= len(session.store.databases):
            raise CommandError(b"ERR DB index is out of range (start with a greater --databases)")
        session.db = session.store.databases[db]
        row = self.lookup(argv)
        if not row.flags & WRITE or not row.accepts(len(argv)):
            raise CommandError(b"ERR '%b' is no command that a log holds" % argv[0][:64])
        reply = self._run_whole(row, argv)
        if isinstance(reply, CommandError):
            raise reply

    def _run_whole(self, row: Command, argv: list[bytes]) -> Reply:
        """Run a command from start to end, whatever it would leave to be done in slices."""
        session = self.replaying
        reply = row.run(session, argv)
        while reply is WAIT and session.work is not None:
            work, session.work = session.work, None
            reply = at_once(work)
            if reply is WAIT:  # the request was only made shorter
                reply = row.run(session, argv)
        return reply

    def answer(self, db: int, argv: list[bytes]) -> Reply:
        """Run a command of a pool's log; what it refuses is a reply. Raises whatever nobody expects.

        WAIT where it takes long: then `answer_at_length` is due.
        """
        session = self.replaying
        session.db = session.store.databases[db]
        try:
            row = self.lookup(argv)
            return row.run(session, argv) if row.accepts(len(argv)) else row.wrong_arity()
        except CommandError as error:
            return error

    def answer_at_length(self, db: int, argv: list[bytes]) -> Work:
        """Do what `answer` left to be done in slices; the keys are its own meanwhile."""
        reply: Reply = WAIT
        while reply is WAIT:
            work, self.replaying.work = self.replaying.work, None
            assert work is not None
            try:
                reply = yield from work
            except CommandError as error:
                reply = error
            if reply is WAIT:  # the request was only made shorter
                reply = self.answer(db, argv)
        return reply

    def apply_many(self, db: int, batch: Sequence[list[bytes]]) -> bool:
        """Run the effects of a batch at once; False, and nothing is done, where they are to be applied one by one."""
        session = self.replaying
        row = self.table.get(batch[0][0])
        if row is None or row.run_many is None or not row.flags & WRITE or db >= len(session.store.databases):
            return False
        session.db = session.store.databases[db]
        return self._run_many(row, row.run_many, session, batch) is not None


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
    return WAIT
