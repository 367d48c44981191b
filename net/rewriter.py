"""Decides when the log is rewritten, and drives the rewrite from the event loop.

1. A rewrite begins at the end of a turn: on a client's request, when the log has grown as the settings say, or when
   another process has damaged the log's file.
2. The loop walks the keyspace in slices. Threads write, copy and sync (`log/rewrite.py`).
3. If a rewrite fails, the error is logged and the old log stays in use. The rewrite of a damaged log is tried again
   each second, and writes are refused until it succeeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aof import AppendOnlyLog, NullLog
from log.kept import kept_bytes, remove_but
from log.rewrite import Phase, Rewrite, reason_of
from session import Instance

RETRY_MS = 60_000  # pause after a rewrite that failed, unless the log is damaged

logger = logging.getLogger("godis")


class Rewriter:
    """Begins a rewrite when one is requested or due, and runs it to its end."""

    def __init__(
        self,
        log: AppendOnlyLog | NullLog,
        instance: Instance,
        in_thread: Callable[[Callable[[], None], Callable[[], None]], None],
        start_fsync: Callable[[], None],
    ) -> None:
        self._log = log
        self._instance = instance
        self._state = instance.rewrite
        self._in_thread = in_thread
        self._start_fsync = start_fsync
        self._run: Rewrite | None = None
        self._retry_ms = 0  # Unix time; no rewrite begins before it because of the log's size
        self._ending = False
        if isinstance(log, AppendOnlyLog):
            log.measure()
            self._state.base_bytes = log.size_bytes
            self._state.kept_bytes = kept_bytes(log.real_path)

    @property
    def needs_fsync(self) -> bool:
        """Return True if the rewrite waits for an fsync: see `fsync`."""
        return self._run is not None and self._run.phase is Phase.SETTLE

    def consider(self) -> None:
        """Request a rewrite if the log has grown as much as the settings say, or if its file is damaged."""
        state, log = self._state, self._log
        known = log.damage
        log.inspect()
        if log.damage and log.damage != known:
            logger.error("somebody has changed the log's file: %s; it is written anew from memory", log.damage)
        wait_ms = self._retry_ms - self._instance.store.now_ms  # above RETRY_MS if the clock was set back
        if state.in_progress or log.disk_failure is not None:
            return
        state.requested = bool(log.damage) or (not 0 < wait_ms <= RETRY_MS and self._has_grown())

    def _has_grown(self) -> bool:
        config, size_bytes, base_bytes = self._instance.config, self._log.size_bytes, self._state.base_bytes
        if not config.rewrite_percentage or size_bytes < max(1, config.rewrite_min_bytes):
            return False
        return (size_bytes - base_bytes) * 100 >= max(1, base_bytes) * config.rewrite_percentage

    def begin(self) -> None:
        """Begin a requested rewrite. Called at the end of a turn, when all effects are written."""
        state, log, store = self._state, self._log, self._instance.store
        if store.key_lock is not None:
            return  # a long command has made half of its changes; the rewrite stays requested
        state.requested = False
        if self._ending or not isinstance(log, AppendOnlyLog):
            return
        state.running, state.started_ms = True, store.now_ms
        state.keys_total, state.keys_written = sum(map(len, store.databases)), 0
        try:
            if log.disk_failure is not None or log.pieces:
                raise OSError("the log cannot be written")
            self._run = Rewrite(log, store)
        except OSError as error:
            self._fail(error)
            return
        logger.info("rewriting the log: %d keys, %d MB", state.keys_total, log.size_bytes >> 20)

    def step(self, out_of_time: Callable[[], bool]) -> bool:
        """Walk a slice of the keyspace; return True if the loop has nothing more to do now."""
        run = self._run
        if run is None or run.phase is not Phase.WALK:
            return True
        try:
            done = run.walk(out_of_time)
            self._state.keys_written = min(run.keys_written, self._state.keys_total)
            self._go_on(run)
        except Exception as error:  # even a bug must not end the rewrite without `_fail`
            self._fail(error)
            return True
        return done or run.full

    def _go_on(self, run: Rewrite) -> None:
        """Start a thread for the next step, unless one runs."""
        if run.writing:
            return
        if run.walked:
            self._in_thread(run.copy_tail, self._copied)
            run.phase = Phase.COPY
        elif run.has_batches:
            self._in_thread(run.write_out, lambda: self._wrote_out(run))
            run.writing = True

    def _wrote_out(self, run: Rewrite) -> None:
        run.writing = False
        if self._run is not run:
            if not self._ending:  # the rewrite failed meanwhile
                self._close(run)
            return
        try:
            self._go_on(run)
        except (MemoryError, RuntimeError) as error:  # no thread can be used
            self._fail(error)

    def _copied(self) -> None:
        run = self._run
        if run is not None:
            run.phase = Phase.SETTLE
            self._start_fsync()

    def fsync(self) -> None:
        """Sync the log, or settle a rewrite that waits for that, which syncs as well. Runs in a thread."""
        run = self._run
        if run is not None and run.phase is Phase.SETTLE:
            run.settle()
        else:
            self._log.fsync()

    def follow_fsync(self) -> None:
        """Replace the log by the new one if the fsync that just ended has settled the rewrite. No fsync may run."""
        run = self._run
        if run is None or not run.settled or self._log.in_steps:  # in the last case: settle again
            return
        try:
            run.replace_log(self._instance.config.keep_rewritten > 0)
        except (OSError, MemoryError) as error:
            self._fail(error)
            return
        state = self._state
        state.last_failure = ""
        state.base_bytes = self._log.size_bytes
        self._end(run)
        self._start_fsync()  # of the new file and its directory: until it ends nothing more counts as synced
        self._in_thread(self._remove_old, _nothing)
        logger.info("the log is rewritten: %d MB, in %d s", state.base_bytes >> 20, state.last_seconds)

    def _remove_old(self) -> None:
        """Remove the replaced logs beyond `keep-rewritten`. Runs in a thread."""
        if isinstance(self._log, AppendOnlyLog):
            remove_but(self._log.real_path, self._instance.config.keep_rewritten)
            self._state.kept_bytes = kept_bytes(self._log.real_path)

    def _fail(self, error: Exception) -> None:
        reason, run, log = reason_of(error), self._run, self._log
        if reason != self._state.last_failure or not log.damage:  # a damaged log is tried again each second
            logger.error("the rewrite of the log failed (%s): the old log stays in use", reason)
        self._state.last_failure = reason
        self._retry_ms = self._instance.store.now_ms + RETRY_MS
        if isinstance(log, AppendOnlyLog) and log.damage and (run is None or run.damage == log.damage):
            log.fail_damaged(reason)
            self._instance.gate("log", closed=True)
        if run is not None:
            run.abandon()
            self._end(run)
        self._state.running = False

    def _end(self, run: Rewrite) -> None:
        state = self._state
        state.running = False
        state.last_seconds = max(0, self._instance.store.now_ms - state.started_ms) // 1000
        self._run = None
        if not run.writing:  # else after the write: another file could get the descriptor amid it
            self._close(run)

    def _close(self, run: Rewrite) -> None:
        """Close the rewrite's files in a thread, or here if no thread can be used."""
        try:
            self._in_thread(run.close, _nothing)
        except (MemoryError, RuntimeError):
            run.close()

    def abandon(self) -> None:
        """Abandon a running rewrite, because the process ends. No rewrite begins after it."""
        self._ending = True
        run, self._run = self._run, None
        if run is not None:
            run.abandon()
            self._state.running = False
            logger.warning("the rewrite of the log is given up: the log stays as it is")


def _nothing() -> None:
    """Do nothing: the `done` of a job without a next step."""
