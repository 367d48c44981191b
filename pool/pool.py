"""A member of a pool: the greenlets that append clients' writes to the log in etcd and apply its entries to the store.

1. The log is one key of etcd. Each put on it is an entry (`entry`). The put's revision is the entry's index, and the
   key's version counts the entries without a gap.
2. This module owns how an instance joins, follows the log, confirms its length, and leaves. `replica` owns what an
   entry does.
3. An instance that could differ from the others ends its process: after a bug in a command, a gap in the log, or the
   loss of an entry that it has applied.

    writer -> appender --> etcd     `writes`, `appender`: clients' writes become entries of the log
    replica <- _follow <----+       a watch: entries of all instances are applied in order; our clients are answered
    readers <- _confirm <---+       `reads`: the log's last index, for linearizable reads and as a health check
    membership <--> etcd            `members`: the list of instances
    snapshotter --> etcd            `snapshot_store`: the keys as of an entry, and the trim of the log
    recovery <----- etcd or a file  `recovery`, `snapshot_file`: the keys that an instance starts with
    _supervise, `watchdog`          timeouts; ticks that expire keys; snapshots that are due

**Failure of etcd.** `confirmed_at` is when the log last answered. UNCONFIRMED_SECONDS later, writes are refused at once
(POOLDOWN), those in the queue included. A write that was sent is answered POOLUNKNOWN after UNKNOWN_SECONDS.

The module is long because each of these greenlets learns from its own calls whether the log can be reached, and they
share that state.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from random import Random, SystemRandom
from time import monotonic
from typing import Any, TypeVar

import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Group

from config import Config, Endpoint
from engine import Engine
from errors import PoolError, StartError
from pool.appender import APPEND_SECONDS, Appender
from pool.clock import PoolClock
from pool.entry import digest_of
from pool.etcd import Channel, Compacted, Etcd, KeyValue, Refused, Unreachable, key_value, text64, tls_context
from pool.members import Membership, agree_on_settings
from pool.pace import Pace
from pool.reads import Readers
from pool.recovery import Recovery
from pool.replica import Gap, Replica
from pool.room import default_limit_bytes
from pool.snapshot_file import Identity, LocalSnapshot
from pool.snapshot_store import SnapshotStore, Snapshotter
from pool.watchdog import Watchdog
from pool.writes import Writer
from session import Instance, PoolState

CONFIRM_SECONDS = 0.5  # twice as much after each time in a row that it was not enough
MOST_CONFIRM_SECONDS = 2.0
RETRY_SECONDS = 0.05
REFUSED_SECONDS = 0.5
HEALTH_SECONDS = 1.0  # between two health checks, if no read asks
UNCONFIRMED_SECONDS = 3.0
LAG_SECONDS = 0.4  # a watch that shows no entry for so long though there are more is replaced; doubled each time
MOST_LAG_SECONDS = 6.0  # a watch from far back may take long
LATE_SECONDS = 0.25  # a put that takes longer lets us ask etcd whether it has a new leader
SUPERVISE_SECONDS = 0.1
FROZEN_SECONDS = 15.0
LEAST_ROOM_BYTES = 1 << 20  # for keys; with less the operator is warned
NEARLY_ENTRIES = 100  # an instance that is less far behind is caught up: the rest is applied while it serves
LEFT_POOL = 70  # exit code: EX_SOFTWARE
NO_BEGINNING = (
    "the log's first entries are gone from etcd, and there is no snapshot of them that can be read. If an instance "
    "runs, let it write one (CONFIG SET pool-snapshot-entries 1, and a write); else restore etcd from a backup, or "
    "begin with an empty pool: etcdctl del --prefix %s/"
)
LOST = "etcd has lost entries that were applied here"

logger = logging.getLogger("godis")

T = TypeVar("T")


def pause_after(error: Exception) -> float:
    """Return the seconds to wait before the next call; long if refused: a password check costs etcd 0.1 s of CPU."""
    return REFUSED_SECONDS if isinstance(error, Refused) else RETRY_SECONDS


class Pool:
    """The instance as a member of its pool."""

    def __init__(self, instance: Instance, config: Config) -> None:
        assert config.pool is not None
        self.instance = instance
        self.config = config
        self.replica = Replica(instance.store, Engine(instance))
        self.id = SystemRandom().getrandbits(63) | 1
        self.state = instance.pool = PoolState(
            f"{self.id:016x}", config.pool.prefix, list(map(str, config.pool.endpoints)), config.pool_stale_reads
        )
        self.confirmed_at = monotonic()
        prefix = config.pool.prefix.encode()
        self._log_key = prefix + b"/log"
        context = None
        if config.pool.tls:
            context = tls_context(config.pool_ca_file, config.pool_cert_file, config.pool_key_file)
        etcd = Etcd(config.pool, context)
        self._jobs = Group()
        self._watch, self._reads = etcd.channel(), etcd.channel()
        self._between_entries = BoundedSemaphore()
        self._pace = Pace()
        self.clock = PoolClock(etcd.time)
        self.readers = Readers()
        read_to_end = self.readers.wait_until_confirmed
        self._appender = Appender(etcd, self.state, self._set_confirmed, self._spawn, read_to_end)
        self.writer = Writer(self._appender, self._log_key, self.id, self.state, instance.store, self.clock)
        self._membership = Membership(etcd.channel(), config.pool.prefix, self.state, self._describe)
        self._snapshot_store = SnapshotStore(etcd.channel(), config.pool.prefix)
        self._snapshot_file = LocalSnapshot(config.pool_local_snapshot, instance.id, self._identity)
        pause_if_due, begin_copy = self._pace.pause_if_due, self._snapshot_file.begin
        self._snapshotter = Snapshotter(
            self._snapshot_store, self.replica, self.state, config, self._between_entries, pause_if_due, begin_copy
        )
        self._recovery = Recovery(
            self._reads,
            self._log_key,
            self._snapshot_store,
            self._snapshot_file,
            self._snapshotter,
            self.replica,
            self._until_answered,
        )
        # the log
        self._range_body = json.dumps({"key": text64(self._log_key), "keys_only": True}).encode()
        self._cluster = ""
        self._first_revision = 1
        self._term = 0  # of etcd's leader
        self._verified = 0  # the connection of `_reads` whose etcd has the last entry that was applied here
        self._lag_seconds = LAG_SECONDS
        self._progress_at = monotonic()
        self._applying = False  # an entry, which may take long
        self._gap_at = 0  # the index after which the watch showed a gap once
        # supervision
        self._default_limit_bytes = default_limit_bytes(instance.eviction.base_bytes)
        self._tick_at = 0.0
        self._chance = Random()
        self._watchdog = Watchdog(FROZEN_SECONDS, self.leave)
        self._follow_settings()
        instance.settings_changed.append(self._follow_settings)

    # ---- joining and leaving

    def join(self) -> None:
        """Wait for etcd, load the pool's keys and apply the log to its end. Raises StartError, PoolError."""
        start = monotonic()
        self._read_head()
        self._until_answered(partial(agree_on_settings, self._reads, self.config))
        try:
            self._recovery.run()
        except MemoryError:
            raise PoolError("there is not enough memory for the pool's keys") from None
        self._until_answered(lambda: self._snapshot_store.register(self._first_revision))
        self._read_head()
        self._spawn(self._follow)
        self._wait_until_caught_up()
        self.confirmed_at = monotonic()
        self._follow_clock()
        self._follow_memory_limit()
        keys = sum(map(len, self.instance.store.databases))
        logger.info(
            "pool %s: %d entries of its log, %d keys, ready in %.2f s",
            self.config.get("pool"),
            self.replica.version,
            keys,
            monotonic() - start,
        )

    def _identity(self) -> Identity:
        """Return what identifies the log: a later log with the same prefix has another first revision."""
        assert self.config.pool is not None
        return {"cluster": self._cluster, "prefix": self.config.pool.prefix, "first": self._first_revision}

    def start(self) -> None:
        """Start the greenlets that serve clients' writes and linearizable reads."""
        for job in (self.writer.run, self._confirm, self._membership.run, self._supervise):
            self._spawn(job)
        self._watchdog.start()

    def stop(self) -> None:
        """Stop all greenlets, revoke the lease, and write the local snapshot if one is configured."""
        with self._between_entries:  # no entry is half applied
            self._jobs.kill()
        self._membership.leave()
        if self._snapshot_file.path and self.replica.index:
            start = monotonic()
            self._snapshotter.keep()
            logger.info("local snapshot of entry %d: %.2f s", self.replica.version, monotonic() - start)

    def _spawn(self, job: Callable[[], None]) -> None:
        self._jobs.spawn(self._guarded, job)

    def _guarded(self, job: Callable[[], None]) -> None:
        """Run a greenlet's job; an exception in it ends the process."""
        try:
            job()
        except PoolError as error:
            self.leave(str(error))
        except MemoryError:
            self.leave(f"there was not enough memory for what follows entry {self.replica.version}: give it more")
        except Exception:
            logger.exception("a bug in the pool, or in a command that its log holds")
            self.leave("what was applied may differ from what the others have")

    def leave(self, reason: str) -> None:
        """Log the reason and end the process at once, without another reply to a client."""
        logger.error("this instance cannot go on as a member of the pool: %s; started again, it catches up", reason)
        logging.shutdown()
        sys.stderr.flush()
        os._exit(LEFT_POOL)

    def _until_answered(self, ask: Callable[[], T]) -> T:
        """Ask etcd until it answers, because an instance that starts cannot go on without. Raises StartError."""
        warned_at = monotonic() if self._cluster else 0.0
        while True:
            try:
                return ask()
            except Refused as error:
                raise StartError(f"etcd at {self.config.get('pool')} refuses us: {error}") from None
            except Unreachable as error:
                if monotonic() - warned_at > 5:
                    warned_at = monotonic()
                    logger.warning("waiting for etcd: %s", error)
                gevent.sleep(0.2)

    def _wait_until_caught_up(self) -> None:
        shown = monotonic()
        while True:
            while self.replica.version < self.state.head_entries:
                if monotonic() - shown >= 1:
                    shown = monotonic()
                    logger.info("reading the log: entry %d of %d", self.replica.version, self.state.head_entries)
                gevent.sleep(0.005)
            reached = self.state.head_entries
            self._read_head()
            if self.state.head_entries - reached < NEARLY_ENTRIES:
                break
        target = self.state.head_entries
        while self.replica.version < target:
            gevent.sleep(0.002)

    def _describe(self, local_host: str) -> dict[str, Any]:
        """Return this instance's member document, with the address that etcd sees if it listens on all addresses."""
        host = self.config.hosts[0].name if self.config.hosts else ""
        if host in ("", "*", "0.0.0.0", "::", "::*"):
            host = local_host or host
        return {
            "name": self.instance.id,
            "address": str(Endpoint(host, self.config.port or self.config.tls_port)),
            "index": self.replica.index,
            "entries": self.replica.version,
            "started_ms": self.instance.started_ms,
            "room_bytes": self._room_bytes(),
        }

    def _room_bytes(self) -> int:
        """Return how many bytes this instance's keys may take; 0: no limit."""
        limit_bytes = self.config.maxmemory or self._default_limit_bytes
        return limit_bytes and max(1, limit_bytes - self.instance.eviction.base_bytes)

    def _follow_memory_limit(self) -> None:
        """Adopt the smallest memory limit of all instances, because each of them must hold all keys."""
        others = [each for each in self.state.members if each.room_bytes and each.id != self.state.id]
        rooms = [(each.room_bytes, f"instance {each.name} has no room for more") for each in others]
        if own_bytes := self._room_bytes():
            rooms.append((own_bytes, "this instance has no room for more"))
        room_bytes, reason = min(rooms, default=(0, ""))
        limit_bytes = room_bytes and self.instance.eviction.base_bytes + room_bytes
        if limit_bytes != self.state.limit_bytes:
            self.state.limit_bytes = limit_bytes
            self.instance.follow_memory_limit()
            if limit_bytes and room_bytes < LEAST_ROOM_BYTES:
                logger.warning("keys may take %d bytes: writes are refused (OOM), since %s", room_bytes, reason)
            elif limit_bytes:
                logger.info("keys may take %d MB: %s (--maxmemory)", room_bytes >> 20, reason)
            else:
                logger.info("keys may take what they need: no instance has a limit on memory")

    def _follow_settings(self) -> None:
        self.state.stale_reads = self.config.pool_stale_reads
        self.clock.limit_ms = self.config.pool_clock_limit_seconds * 1000

    # ---- the length of the log

    def _head(self, channel: Channel, seconds: float = MOST_CONFIRM_SECONDS) -> KeyValue | None:
        """Ask etcd for the log's last entry, without its value. Raises PoolError if this is not the log we followed."""
        known = self.replica.index
        found = channel.call("kv/range", self._range_body, seconds)
        cluster = found["header"]["cluster_id"]
        if self._cluster and cluster != self._cluster:
            raise PoolError("etcd is another cluster than before")
        self._cluster = cluster
        self._follow_term(int(found["header"].get("raft_term", 0)))
        head = key_value(found["kvs"][0]) if found.get("kvs") else None
        if (head.mod_revision if head else 0) < known:
            raise PoolError(LOST)
        if channel.connections != self._verified:
            self._require_last_entry(channel, seconds)
            self._verified = channel.connections
        if not self.replica.index:
            self._first_revision = head.create_revision if head else int(found["header"]["revision"]) + 1
        self._set_head(head.version if head else 0)
        return head

    def _require_last_entry(self, channel: Channel, seconds: float) -> None:
        """Raise PoolError unless etcd has the entry that was applied here last.

        Called on each new connection: before it, etcd may have been restored from a backup, and other instances may
        have written past this instance's index. Raises Unreachable, Refused.
        """
        index, digest = self.replica.index, self.replica.digest
        if not digest:
            return
        try:
            found = channel.range(self._log_key, seconds, revision=index)
        except Refused as error:
            if "compacted" in str(error):
                return  # the watch needs the next entry, and raises Compacted if that one is gone, too
            if "future revision" not in str(error):
                raise
            found = []
        if [(each.mod_revision, digest_of(each.value)) for each in found] != [(index, digest)]:
            raise PoolError(LOST)

    def _follow_term(self, term: int) -> None:
        """Send the current put again if etcd has a new leader: the old one may have lost it without an answer."""
        if term > self._term > 0:
            self._appender.send_again()
        self._term = max(self._term, term)

    def _set_head(self, entries: int) -> None:
        if self.state.head_entries <= self.replica.version:
            self._progress_at = monotonic()  # until now there was no entry to wait for
        self.state.head_entries = max(self.state.head_entries, entries)

    def _read_head(self) -> KeyValue | None:
        return self._until_answered(lambda: self._head(self._reads))

    def _confirm(self) -> None:
        readers, seconds = self.readers, CONFIRM_SECONDS
        while True:
            readers.wanted.wait(HEALTH_SECONDS)
            readers.ask()
            start = monotonic()
            try:
                head = self._head(self._reads, seconds)
            except (Unreachable, Refused) as error:
                seconds = min(2 * seconds, MOST_CONFIRM_SECONDS)
                self.state.trouble = str(error)
                readers.ask_again()
                gevent.sleep(pause_after(error))
                readers.wanted.set()
            else:
                seconds = max(CONFIRM_SECONDS, min(2 * (monotonic() - start), MOST_CONFIRM_SECONDS))
                self._set_confirmed(start)
                readers.answer(head.mod_revision if head else 0, self.replica.index)

    def _set_confirmed(self, at: float) -> None:
        self.confirmed_at = max(self.confirmed_at, at)
        self.follow_health()

    def follow_health(self) -> None:
        """Update whether the log can be reached, and log a change."""
        confirmed = monotonic() - self.confirmed_at < UNCONFIRMED_SECONDS
        if confirmed == self.state.confirmed:
            return
        self.state.confirmed = confirmed
        self._follow_gate()
        if confirmed:
            self.state.trouble = ""
            self._lag_seconds = LAG_SECONDS
            logger.warning("the pool's log answers again")
        else:
            reason = self.state.trouble or f"no answer for {UNCONFIRMED_SECONDS:.0f} s"
            logger.error("the pool's log cannot be reached (%s): writes are refused until it can", reason)

    def _follow_gate(self) -> None:
        self.instance.gate("pool", closed=not self.state.confirmed or self.state.clock_wrong)

    def _follow_clock(self) -> None:
        """Update whether this instance's clock is too far ahead, and log a change."""
        self.state.clock_ahead_ms, is_wrong = self.clock.ahead_ms(), self.clock.is_wrong
        if is_wrong == self.state.clock_wrong:
            return
        self.state.clock_wrong = is_wrong
        self._follow_gate()
        if is_wrong:
            ahead = f"{self.state.clock_ahead_ms // 1000} s ahead of etcd's"
            logger.error("this instance's clock is %s: clients are refused until it is set right", ahead)
        else:
            logger.warning("this instance's clock is within the limit again")

    # ---- entries

    def _follow(self) -> None:
        while True:
            try:
                start = self.replica.index + 1 if self.replica.index else self._first_revision
                self._require_last_entry(self._watch, MOST_CONFIRM_SECONDS)
                for found in self._watch.watch(self._log_key, start, APPEND_SECONDS, lambda: None):
                    self._apply(found)
            except (Unreachable, Refused) as error:
                logger.debug("watching again: %s", error)
                self.state.rewatched += 1
                gevent.sleep(pause_after(error))
            except Gap:
                if self._gap_at == self.replica.index:
                    raise PoolError(f"the entry after {self.replica.version} is missing in etcd") from None
                self._gap_at = self.replica.index
            except Compacted as error:
                if not self.replica.index:
                    raise PoolError(NO_BEGINNING % self.state.prefix) from None
                raise PoolError(f"it was away for too long, and entries that it needs are gone: {error}") from None

    def _apply(self, found: KeyValue) -> None:
        if not found.version:
            raise PoolError("the log was deleted from etcd")
        self._first_revision = found.create_revision
        with self._between_entries:
            self._applying = True
            try:
                self._apply_next(found)
            finally:
                self._applying, self._progress_at = False, monotonic()
        self._pace.pause_if_due()

    def _apply_next(self, found: KeyValue) -> None:
        replica, pace = self.replica, self._pace
        applied = pace.run(replica.apply(found.mod_revision, found.version, found.value, pace.is_pause_due))
        if applied is None:
            return
        self._lag_seconds = LAG_SECONDS
        self._snapshotter.bytes_since += len(found.value)
        if applied.instance == self.id:
            self.writer.take_own(applied.seq, applied.replies, applied.repeated)
        state = self.state
        state.index, state.entries, state.clock_ms = replica.index, replica.version, replica.clock_ms
        state.head_entries = max(state.head_entries, state.entries)
        self.readers.follow(replica.index)
        pace.run(replica.expire())

    # ---- supervision

    def _supervise(self) -> None:
        while True:
            gevent.sleep(SUPERVISE_SECONDS)
            now = monotonic()
            self._watchdog.beat(now)
            self.follow_health()
            self._follow_clock()
            self._follow_memory_limit()
            self.writer.fail_overdue(now)
            self.readers.fail_overdue(now, UNCONFIRMED_SECONDS)
            if self._appender.under_way_seconds(now) > LATE_SECONDS:
                self.readers.wanted.set()  # the answer names the leader's term
            if self._is_watch_silent(now):
                self._progress_at = now
                self._lag_seconds = min(2 * self._lag_seconds, MOST_LAG_SECONDS)
                self._watch.close()  # its endpoint may be cut off from the other members of etcd
            self._tick_if_due(now)
            if self._membership.lease and self._snapshotter.is_due(now):
                self._spawn(partial(self._snapshotter.run, self._membership.lease))

    def _is_watch_silent(self, now: float) -> bool:
        """Return True if the log has entries that the watch has not shown for `_lag_seconds`."""
        if self._applying:
            return False
        last = self._progress_at
        if (
            self.replica.version >= self.state.head_entries
        ):  # no query showed more, but a put may have been acknowledged
            last = max(last, self.writer.missing_since)
        return now - last > self._lag_seconds

    def _tick_if_due(self, now: float) -> None:
        """Append a tick if keys are due and no write moves the log's clock.

        A random delay makes it likely that only one instance does it.
        """
        wall_ms = self.clock.entry_ms()
        if self.state.clock_wrong or wall_ms - self.replica.clock_ms < 1000 or not self.replica.has_due_keys(wall_ms):
            self._tick_at = 0.0
        elif not self._tick_at:
            self._tick_at = now + self._chance.random()
        elif now >= self._tick_at and not self.writer.is_busy():
            self._tick_at = 0.0
            self.writer.add_tick()
