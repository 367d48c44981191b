"""Scripts that run: the calls of redis.call, the limit on time, and what a script has changed.

1. `Scripts` owns the scripts of an instance, by SHA-1, and its runtime of Lua. It is made for the first script.
2. A script is one command: nothing else runs between two of its calls. Its effects go into the batch of its turn. Those
   of one that takes long are collected, and logged as one when it ends. So the log holds all or none of them.
3. The network runs a script apart, on a stack of its own (`Instance.apart`). A script that is at it for longer than
   `busy-reply-threshold` pauses now and then, and goes on in the next round of the loop. Meanwhile the gate "script"
   answers BUSY, all keys are locked, nothing expires, and the script's clock stands still. Without a network it runs
   to its end.
4. In a pool the script of an entry runs in a new runtime (see `scripts/runtime.py`), and ends with an error after
   MOST_TICKS, on all instances alike: an instance must not be killed out of step with the others.

redis.call is the hot path: `call` looks a command up by the name as it was written, and goes straight to its row.

The module has more than 400 lines because a run, its pauses and its calls share one state (`Run`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import copysign, isnan
from types import GeneratorType
from typing import Any

from commands import (
    ALL,
    DENYOOM,
    EVERYWHERE,
    FIRST,
    LONGEST_NAME_BYTES,
    MAY_REPLICATE,
    NOSCRIPT,
    NOT_COUNTED,
    TABLE,
    WRITE,
    Command,
    fold,
    measured,
)
from commands.execution import internal_error, no_memory, refuse
from commands.keyspace_walk import at_once
from commands.permissions import check_patterns, denial_of
from commands.permissions import log as log_denial
from errors import (
    BUSY,
    BUSY_FUNCTION,
    FUNCTION_LOAD_TIMEOUT,
    LOG_FAILED,
    NO_SCRIPT_RUNS,
    OUT_OF_MEMORY,
    READ_ONLY,
    SCRIPT_ARGUMENTS,
    SCRIPT_ARITY,
    SCRIPT_BLOCKS,
    SCRIPT_CANNOT_BE_KILLED,
    SCRIPT_COMMAND_REFUSED,
    SCRIPT_DENIED,
    SCRIPT_ENDED,
    SCRIPT_ERROR,
    SCRIPT_IS_READ_ONLY,
    SCRIPT_KILLED,
    SCRIPT_MEMORY,
    SCRIPT_NO_ARGUMENTS,
    SCRIPT_TOO_LONG,
    SCRIPT_UNKNOWN_COMMAND,
    SCRIPT_UNKNOWN_TO_CHECK,
    CommandError,
)
from keyspace.key_locks import KeyLock
from measuring.command_counts import CommandCount
from replies import Reply, Work
from scripts.conversion import TooLarge, boolean, from_lua, integer, to_lua
from scripts.runtime import Runtime, sha_of
from scripts.shebang import Script, parse
from session import PAUSED, Instance, Session, Stack
from store import EffectLog

LOG_LEVELS = (logging.DEBUG, logging.DEBUG, logging.INFO, logging.WARNING)
MOST_TICKS = 10_000  # in a pool; a tick is 100 000 instructions, so it is some seconds
LOAD_TICKS = 500  # to load a library of functions; as many as half a second has, which Redis allows
TICKS_A_SLICE = 10  # in a pool
CALLS_A_TICK = 1000  # in a pool: to call redis.call takes as long as some hundred instructions
MOST_SPELLINGS = 4096  # of names of commands: a script may write GET, get, GeT
WAITS = (b"XREAD", b"XREADGROUP")  # with an option

logger = logging.getLogger("godis")


class Run:
    """One script that runs."""

    request: list[bytes] | None = None  # of a function
    resp3 = False
    has_written = False
    is_keyless = False  # a command writes keys that it does not name
    is_lost = False  # its effects are not to be logged
    reason: bytes | None = None  # to end the script
    ticks = calls = 0
    began = 0.0
    runtime: Runtime | None = None
    stack: Stack | None = None  # that it runs on, if it may pause
    outcome: Any = PAUSED
    effects: EffectLog | None = None  # of one that has paused; until then they go into the log
    time = (0, 0, 0)  # when it paused first

    def __init__(self, session: Session, name: bytes, read_only: bool, allow_oom: bool) -> None:
        self.session = session
        self.db = session.db  # SELECT in a script ends with it
        self.user = session.user
        self.name = name
        self.read_only = read_only
        self.allow_oom = allow_oom
        self.log = session.store.log
        self.position = self.log.position()
        self.keys: set[bytes] = set()  # that its commands write

    def collect(self) -> None:
        """Collect the effects from now on, and those so far: the script has paused, and others may run."""
        store = self.session.store
        self.effects = self.log.cut(self.position)
        self.time = store.now_ms, store.expired_until_ms, store.default_deadline_ms


class Scripts:
    """The scripts of an instance, and the one that runs. It is the host of its runtime: see `scripts.runtime.Host`."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.texts: dict[bytes, Script] = {}
        self.runtime: Runtime | None = None
        self.run: Run | None = None  # what runs now
        self.busy: Run | None = None  # what takes long: it runs again in the next round of the loop
        self.is_abandoned = False  # the process ends while a script takes long
        self._rows: dict[bytes, tuple[Command, CommandCount]] = {}
        self._load_ticks: int | None = None  # left to a library that is loaded

    # ---- scripts by their names

    def load(self, text: bytes) -> Script:
        """Compile and remember a script, and return it. Raises CommandError if it is none."""
        sha = sha_of(text)
        script = self.texts.get(sha)
        if script is None:
            script = parse(sha, text)
            self._shared_runtime().compile(sha, script.body)
            self.texts[sha] = script
        return script

    def flush(self) -> None:
        """Forget all scripts."""
        self.texts.clear()
        self.runtime = None

    def _shared_runtime(self) -> Runtime:
        if self.runtime is None:
            self.runtime = Runtime(self)
        return self.runtime

    # ---- a run

    def start(self, script: Script, key_count: int, words: Sequence[bytes], run: Run) -> Reply:
        """Run a script; return its reply, or the work that waits for it. Raises CommandError."""
        is_entry = self.instance.pool is not None and not run.session.id
        runtime = Runtime(self, is_pool=True) if is_entry else self._shared_runtime()
        function = runtime.compile(script.sha, script.body)
        return self.begin(run, runtime, partial(runtime.run, function, key_count, words))

    def begin(self, run: Run, runtime: Runtime, job: Callable[[], Any]) -> Reply:
        """Run what `job` runs in a runtime, as `start` does."""
        apart, run.runtime = self.instance.apart, runtime
        if apart is not None:
            run.began, run.stack = apart.now(), apart.stack()
        self._go_on(run, job)
        if run.outcome is not PAUSED:
            return self._reply(run)
        run.collect()
        return self._in_slices(run) if not run.session.id else self._watched(run)

    def _go_on(self, run: Run, job: Callable[[], Any] | None) -> None:
        """Run a script until it ends or pauses; None: go on with it. Its outcome may be an exception."""
        session = run.session
        db, was_executing, outer = session.db, session.is_executing, self.run
        session.db, session.is_executing, session.runs_script = run.db, True, True
        self.run = run
        try:
            run.outcome = job() if run.stack is None else run.stack.run(job)  # type: ignore[misc]
        except BaseException as error:
            run.outcome = error
        finally:
            self.run = outer
            session.is_executing, session.runs_script = was_executing, False
            run.db, session.db = session.db, db

    def _commit(self, run: Run) -> None:
        """Log what a script that had paused has changed."""
        if run.effects is not None and not run.is_lost:
            observer = self.instance.read_observer
            if run.is_keyless and observer is not None:
                observer.hide_everything()
            run.log.commit(run.effects, [run.keys], run.session.store.garbage)

    def _reply(self, run: Run) -> Reply:
        outcome = run.outcome
        kind = type(outcome)
        if kind is bytes or outcome is None:
            return outcome  # type: ignore[no-any-return]
        if kind is bool:
            return boolean(outcome, run.resp3)
        if kind is int or kind is float:
            return integer(outcome)
        if isinstance(outcome, BaseException):
            raise outcome
        what, *values = outcome
        if what == b"error":
            text, source, line, is_counted = values
            if source is not False:
                text = SCRIPT_ERROR % (text, run.name, source, line)
            error = CommandError(text)
            return error if is_counted else refuse(self.instance, error)
        return from_lua(list(values[0].values()) if what == b"table" else values, run.resp3)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Limit the time in which a library of functions is loaded."""
        self._load_ticks = LOAD_TICKS
        try:
            yield
        finally:
            self._load_ticks = None

    # ---- a run that takes long

    def _in_slices(self, run: Run) -> Work:
        """Run the rest of a script of a log, in slices, with all keys locked."""
        with self.instance.locking_keys(self._lock(run)):
            while run.outcome is PAUSED:
                yield
                self._resume(run)
        self._commit(run)
        return self._reply(run)

    @staticmethod
    def _lock(run: Run) -> KeyLock:
        assert run.effects is not None
        lock = KeyLock(run.effects)
        lock.all_keys = True
        return lock

    def _resume(self, run: Run) -> None:
        store = run.session.store
        assert run.effects is not None
        lock, store.key_lock = store.key_lock, None  # the script passes its own lock
        with store.collecting(run.effects):
            self._go_on(run, None)
        store.key_lock = lock

    def _watched(self, run: Run) -> Work:
        """Let the network go on with a script that takes long; return the work that waits for its reply.

        In a pool it is one that reads, and entries of the log are applied meanwhile.
        """
        instance, store = self.instance, self.instance.store
        assert instance.apart is not None
        stack = ExitStack()
        stack.callback(instance.gate, "script", closed=False)
        instance.gate("script", closed=True)
        self.busy = run
        if instance.pool is None:
            stack.enter_context(instance.locking_keys(self._lock(run)))
        may_delete, store.may_delete = store.may_delete, False
        logger.warning(
            "a script takes long: others get BUSY until it ends, or is ended by SCRIPT KILL (%s)", run.name.decode()
        )

        def go_on() -> bool:
            """Run the script a little; return True at its end."""
            turn = store.now_ms, store.expired_until_ms, store.default_deadline_ms
            store.now_ms, store.expired_until_ms, store.default_deadline_ms = run.time
            store.may_delete = may_delete
            self._resume(run)
            store.now_ms, store.expired_until_ms, store.default_deadline_ms = turn
            store.may_delete = False
            if run.outcome is PAUSED:
                return False
            store.may_delete = may_delete
            self.busy = None
            self._commit(run)
            stack.close()
            return True

        instance.apart.drive(go_on)
        return self._reply_later(run)

    def _reply_later(self, run: Run) -> Work:
        while run.outcome is PAUSED:
            yield
        run.session.logged_elsewhere = True
        return self._reply(run)

    @property
    def is_busy(self) -> bool:
        """Return True if a script has paused, because it takes long."""
        return self.busy is not None

    @property
    def busy_text(self) -> bytes:
        """What others are told while a script or a function takes long."""
        return BUSY if self.busy is None or self.busy.request is None else BUSY_FUNCTION

    def kill(self, *, is_function: bool) -> None:
        """End the script or function that takes long, at its next tick. Raises CommandError."""
        run = self.busy
        if run is None:
            raise CommandError(NO_SCRIPT_RUNS)
        if is_function != (run.request is not None):
            raise CommandError(self.busy_text)
        if run.has_written:
            raise CommandError(SCRIPT_CANNOT_BE_KILLED)
        run.reason = SCRIPT_KILLED

    def abandon(self) -> None:
        """End the script that takes long, because the process ends. Nothing of it or its transaction is logged."""
        if self.busy is not None:
            self.busy.reason = SCRIPT_KILLED
            self.busy.is_lost = self.is_abandoned = True

    # ---- what scripts call; nothing of it raises

    def tick(self) -> bytes | None:
        """Pause the script if it takes long; return the error that ends it, or None."""
        run, apart = self.run, self.instance.apart
        if run is None:
            if self._load_ticks is None:  # a script is compiled
                return None
            self._load_ticks -= 1
            return None if self._load_ticks > 0 else FUNCTION_LOAD_TIMEOUT
        try:
            run.ticks += 1
            if not run.session.id:
                if self.instance.pool is not None and run.ticks + run.calls // CALLS_A_TICK > MOST_TICKS:
                    return SCRIPT_TOO_LONG
                if run.stack is not None and run.ticks % TICKS_A_SLICE == 0:
                    run.stack.pause()
            elif apart is not None and (apart.now() - run.began) * 1000 >= self.instance.config.busy_ms:
                assert run.stack is not None
                run.stack.pause()
            return run.reason
        except BaseException:
            return SCRIPT_ENDED

    def random(self) -> int:
        """Return a number of 32 bits, in a pool the same on each instance."""
        return self.instance.store.random.getrandbits(32)

    def setresp(self, version: int) -> None:
        """Set the protocol of the replies that the script gets."""
        if self.run is not None:
            self.run.resp3 = version == 3

    def log(self, level: int, text: bytes) -> None:
        """Log a line."""
        logger.log(LOG_LEVELS[int(level)], "%s", text.decode(errors="backslashreplace"))

    def may_run(self, *argv: Any) -> Any:
        """Return whether the user may run a command; None and an error if there is no such command."""
        try:
            words = self._as_words(argv)
        except CommandError as error:
            return None, error.text.removeprefix(b"ERR ")
        row = TABLE.get(fold(words[0]))
        if row is None or self.run is None:
            return None, SCRIPT_UNKNOWN_TO_CHECK
        user = self.run.user
        return not user.is_restricted or denial_of(user, row.of(words), words) is None

    def call(self, *words: Any) -> Any:
        """Run a command for a script; return its reply as lupa is to pass it on."""
        run = self.run
        if run is None:
            return SCRIPT_ENDED, b"err"
        argv: list[bytes] = [*words]
        try:
            for word in argv:
                if type(word) is not bytes:
                    argv = self._as_words(words)
                    break
            try:
                row, count = self._rows[argv[0]]
            except LookupError:
                row, count = self._look_up(argv)
            if len(argv) != row.arity and not row.accepts(len(argv)):
                raise CommandError(SCRIPT_ARITY)
            if row.flags & WRITE:
                if not run.has_written or self.instance.log.failure is not None:
                    self._check_write(run, row)
                if row.keys is FIRST or (row.keys is ALL and len(argv) == 2):
                    run.keys.add(argv[1])
                else:
                    self._note_keys(run, row, argv)
            session = run.session
            if run.user.is_restricted:
                self._check_user(run, row, argv)
            count.left -= 1
            run.calls += 1
            if count.left <= 0 or self.instance.is_observed:
                reply = measured.run(session, row, argv, count)
            else:
                reply = row.run(session, argv)
            kind = type(reply)
            if kind is int or (kind is bytes and len(reply) < 4096):  # type: ignore[arg-type]
                return reply
            if reply is None:
                return None if run.resp3 else False
            while type(reply) is GeneratorType:
                reply = at_once(reply)
            assert run.runtime is not None
            return to_lua(reply, run.resp3, run.runtime.table_from, run.runtime.free_bytes)
        except CommandError as error:
            return refuse(self.instance, error).text, b"err"
        except TooLarge:
            return SCRIPT_MEMORY, b"err"
        except MemoryError:
            return no_memory(self.instance, argv[0]).text, b"err"
        except BaseException:
            return internal_error(self.instance, argv[0] if argv else b"").text, b"err"

    @staticmethod
    def _check_user(run: Run, row: Command, argv: list[bytes]) -> None:
        denial = denial_of(run.user, row.of(argv), argv)
        if denial is not None:
            if run.session.id:
                log_denial(run.session, denial)
            raise CommandError(SCRIPT_DENIED[denial.reason])
        check_patterns(run.user, row, argv)

    @staticmethod
    def _note_keys(run: Run, row: Command, argv: list[bytes]) -> None:
        row = row.of(argv)
        run.keys.update(row.key_arguments(argv))
        run.is_keyless |= not row.names_keys(argv)

    @staticmethod
    def _as_words(argv: Sequence[Any]) -> list[bytes]:
        """Return the words of a call as bytes: a number as C's %.17g prints it."""
        words = []
        for word in argv:
            if type(word) is bytes:
                words.append(word)
            elif type(word) is int and -(10**17) < word < 10**17:
                words.append(b"%d" % word)
            elif type(word) in (int, float):
                words.append(b"-nan" if isnan(word) and copysign(1, word) < 0 else b"%.17g" % word)
            else:
                raise CommandError(SCRIPT_ARGUMENTS)
        return words

    def _look_up(self, argv: list[bytes]) -> tuple[Command, CommandCount]:
        """Return the row of a call, and its count. Raises CommandError if scripts must not call it."""
        if not argv:
            raise CommandError(SCRIPT_NO_ARGUMENTS)
        row = TABLE.get(fold(argv[0]))
        if row is None or (row.subcommands and len(argv) > 1 and fold(argv[1]) not in row.subcommands):
            raise CommandError(SCRIPT_UNKNOWN_COMMAND)
        if not row.accepts(len(argv)) or not row.of(argv).accepts(len(argv)):
            raise CommandError(SCRIPT_ARITY)
        if row.of(argv).flags & NOSCRIPT:
            raise CommandError(SCRIPT_COMMAND_REFUSED)
        if row.name in WAITS and b"BLOCK" in map(fold, argv):
            raise CommandError(SCRIPT_BLOCKS % argv[0])
        is_special = row.subcommands or row.flags & (MAY_REPLICATE | EVERYWHERE) or row.name in WAITS
        count = NOT_COUNTED if row.subcommands else self.instance.measures.counts.of(row.name, row.swift)
        if not is_special and len(argv[0]) < LONGEST_NAME_BYTES and len(self._rows) < MOST_SPELLINGS:
            self._rows[argv[0]] = row, count
        elif row.of(argv).flags & (WRITE | MAY_REPLICATE | EVERYWHERE):
            assert self.run is not None
            self._check_write(self.run, row.of(argv))
        return row, count

    def _check_write(self, run: Run, row: Command) -> None:
        """Raise CommandError if a script must not write now. Memory is checked until its first write."""
        if run.read_only:
            raise CommandError(SCRIPT_IS_READ_ONLY)
        if self.instance.config.read_only:
            raise CommandError(READ_ONLY)
        failure = self.instance.log.failure
        if failure is not None:
            raise CommandError(LOG_FAILED % failure)
        is_limited = run.session.id and self.instance.eviction.limit_bytes and not run.allow_oom
        if is_limited and not run.has_written and row.flags & DENYOOM and not self.instance.script_has_room:
            raise CommandError(OUT_OF_MEMORY)
        if row.flags & WRITE:
            run.has_written = True


def scripts_of(instance: Instance) -> Scripts:
    """Return the scripts of an instance."""
    if instance.scripts is None:
        instance.scripts = Scripts(instance)
    found: Scripts = instance.scripts
    return found
