"""A member of a pool: its greenlets, which bring writes into the one log, and what is in the log into the store.

The log is one key of etcd: each put on it is an entry (`entry`), etcd's history of the key is the log, its
revision is the entry's index, the key's version counts entries without a gap. This module owns how an instance joins,
what it hears of the log, and when it must leave; what an entry does is `replica`'s business.

    writer -> post ------> etcd     `writes`, `post`: what clients write, as entries, until they are there
    replica <- _follow <----+       a watch: each entry of any instance, applied in order; ours are answered
    readers <- _confirm <---+       `reads`: how far the log goes now, for reads that must see it; a sign of life
    membership <--> etcd            `members`: who is there
    snapshotter --> etcd            `archive`: the keys as of an entry, and the trim of the log
    recovery <----- etcd or a file  `recovery`, `local_snapshot`: what an instance begins with
    _watch_over, `watchdog`         answers who waits too long; a tick where keys are due; a snapshot when it is time

**Trouble.** `confirmed_at` is when the log last answered. After UNCONFIRMED_SECONDS without, writes are refused at once
(POOLDOWN), and so are those that wait unsent. Those that were sent are answered POOLUNKNOWN after UNKNOWN_SECONDS.
Whatever would let this instance differ from the others ends it: a bug in a command, a gap, another log than before.

It is a little long since all of these greenlets tell from what they hear together whether the log can be reached.
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
HEALTH_SECONDS = 1.0  # between two signs of life
UNCONFIRMED_SECONDS = 3.0
LAG_SECONDS = 0.4  # of a watch that shows nothing though there is more; each time in a row it is twice as much
MOST_LAG_SECONDS = 6.0  # a watch from far back may take its time
LATE_SECONDS = 0.25  # of a put: is there a leader?
WATCH_OVER_SECONDS = 0.1
FROZEN_SECONDS = 15.0
LEAST_ROOM_BYTES = 1 << 20  # for keys; with less the operator is warned
NEARLY_ENTRIES = 100  # behind: what comes now may come while we serve
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
    """Return for how many seconds not to ask again: to check a password takes etcd a tenth of a second of a core."""
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
        self._post = Appender(etcd, self.state, self._note_confirmed, self._spawn)
        self.writer = Writer(self._post, self._log_key, self.id, self.state, instance.store, self.clock)
        self._membership = Membership(etcd.channel(), config.pool.prefix, self.state, self._describe)
        self._archive = SnapshotStore(etcd.channel(), config.pool.prefix)
        self._local = LocalSnapshot(config.pool_local_snapshot, instance.id, self._identity)
        self._snapshotter = Snapshotter(
            self._archive,
            self.replica,
            self.state,
            config,
            self._between_entries,
            self._pace.breathe,
            self._local.begin,
        )
        self._recovery = Recovery(
            self._reads,
            self._log_key,
            self._archive,
            self._local,
            self._snapshotter,
            self.replica,
            self._until_answered,
        )
        self.readers = Readers()
        # the log
        self._range_body = json.dumps({"key": text64(self._log_key), "keys_only": True}).encode()
        self._cluster = ""
        self._first_revision = 1
        self._term = 0  # of etcd's leader
        self._verified = 0  # the connection of `_reads` whose etcd has the last entry that was applied here
        self._lag_seconds = LAG_SECONDS
        self._progress_at = monotonic()
        self._taking = False  # an entry, which may take long
        self._gap_at = 0  # the index at which a gap was seen once
        # watching over it
        self._default_limit_bytes = default_limit_bytes(instance.eviction.base_bytes)
        self._tick_at = 0.0
        self._chance = Random()
        self._watchdog = Watchdog(FROZEN_SECONDS, self.leave)
        self._follow_settings()
        instance.settings_changed.append(self._follow_settings)

    # ---- the life

    def join(self) -> None:
        """Wait for etcd, and take over all that the pool has. Raises StartError, PoolError."""
        start = monotonic()
        self._read_head()
        self._until_answered(partial(agree_on_settings, self._reads, self.config))
        try:
            self._recovery.run()
        except MemoryError:
            raise PoolError("there is not enough memory for the pool's keys") from None
        self._until_answered(lambda: self._archive.register(self._first_revision))
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
        """Name the log: another one under the same name began with another revision."""
        assert self.config.pool is not None
        return {"cluster": self._cluster, "prefix": self.config.pool.prefix, "first": self._first_revision}

    def start(self) -> None:
        """Serve: from now on writes go into the log."""
        for job in (self.writer.run, self._confirm, self._membership.run, self._watch_over):
            self._spawn(job)
        self._watchdog.start()

    def stop(self) -> None:
        """Do nothing more, and let the others know at once that this instance is gone."""
        with self._between_entries:  # none is half applied
            self._jobs.kill()
        self._membership.leave()
        if self._local.path and self.replica.index:
            start = monotonic()
            self._snapshotter.keep()
            logger.info("local snapshot of entry %d: %.2f s", self.replica.version, monotonic() - start)

    def _spawn(self, job: Callable[[], None]) -> None:
        self._jobs.spawn(self._guarded, job)

    def _guarded(self, job: Callable[[], None]) -> None:
        """Run a greenlet's job; what it raises ends the process."""
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
        """End the process at once: it must answer nothing more."""
        logger.error("this instance cannot go on as a member of the pool: %s; started again, it catches up", reason)
        logging.shutdown()
        sys.stderr.flush()
        os._exit(LEFT_POOL)

    def _until_answered(self, ask: Callable[[], T]) -> T:
        """Ask etcd until it answers: who starts has nothing better to do. Raises StartError."""
        told = monotonic() if self._cluster else 0.0
        while True:
            try:
                return ask()
            except Refused as error:
                raise StartError(f"etcd at {self.config.get('pool')} refuses us: {error}") from None
            except Unreachable as error:
                if monotonic() - told > 5:
                    told = monotonic()
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
        """Tell what the other instances may know of this one. One that listens everywhere is where etcd sees it."""
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
        """Return how much this instance's keys may take; 0: it has no limit."""
        limit_bytes = self.config.maxmemory or self._default_limit_bytes
        return limit_bytes and max(1, limit_bytes - self.instance.eviction.base_bytes)

    def _follow_memory_limit(self) -> None:
        """Refuse writes at the smallest limit of all instances, since each of them must hold all keys."""
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

    # ---- how far the log goes

    def _head(self, channel: Channel, seconds: float = MOST_CONFIRM_SECONDS) -> KeyValue | None:
        """Ask for the log's last entry, without its bytes. Raises PoolError if it is not the log that we know."""
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
        self._note_head(head.version if head else 0)
        return head

    def _require_last_entry(self, channel: Channel, seconds: float) -> None:
        """Raise PoolError unless etcd has the entry that was applied here last.

        Due on each new connection: while there was none, etcd may have been restored from a backup and written past
        this instance's index.
        """
        index, digest = self.replica.index, self.replica.digest
        if not digest:
            return
        try:
            found = channel.range(self._log_key, seconds, revision=index)
        except Refused as error:
            if "compacted" in str(error):
                return  # the watch needs what follows, and tells whether that is gone, too
            if "future revision" not in str(error):
                raise
            found = []
        if [(each.mod_revision, digest_of(each.value)) for each in found] != [(index, digest)]:
            raise PoolError(LOST)

    def _follow_term(self, term: int) -> None:
        """Note who leads etcd: what was under way to the one before may be lost, without anybody's saying so."""
        if term > self._term > 0:
            self._post.send_again()
        self._term = max(self._term, term)

    def _note_head(self, entries: int) -> None:
        if self.state.head_entries <= self.replica.version:
            self._progress_at = monotonic()  # until now there was nothing to wait for
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
                self._note_confirmed(start)
                readers.answer(head.mod_revision if head else 0, self.replica.index)

    def _note_confirmed(self, at: float) -> None:
        self.confirmed_at = max(self.confirmed_at, at)
        self.follow_health()

    def follow_health(self) -> None:
        """Note whether the log is known to be there, and tell the operator of a change."""
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
            reason = self.state.trouble or f"nothing was heard of it for {UNCONFIRMED_SECONDS:.0f} s"
            logger.error("the pool's log cannot be reached (%s): writes are refused until it can", reason)

    def _follow_gate(self) -> None:
        self.instance.gate("pool", closed=not self.state.confirmed or self.state.clock_wrong)

    def _follow_clock(self) -> None:
        """Note whether this instance's clock is too far ahead, and tell the operator of a change."""
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

    # ---- from the log

    def _follow(self) -> None:
        while True:
            try:
                start = self.replica.index + 1 if self.replica.index else self._first_revision
                self._require_last_entry(self._watch, MOST_CONFIRM_SECONDS)
                for found in self._watch.watch(self._log_key, start, APPEND_SECONDS, lambda: None):
                    self._take(found)
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

    def _take(self, found: KeyValue) -> None:
        if not found.version:
            raise PoolError("the log was deleted from etcd")
        self._first_revision = found.create_revision
        with self._between_entries:
            self._taking = True
            try:
                self._take_next(found)
            finally:
                self._taking, self._progress_at = False, monotonic()
        self._pace.breathe()

    def _take_next(self, found: KeyValue) -> None:
        replica, pace = self.replica, self._pace
        applied = pace.go(replica.apply(found.mod_revision, found.version, found.value, pace.is_late))
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
        pace.go(replica.expire())

    # ---- watching over it

    def _watch_over(self) -> None:
        while True:
            gevent.sleep(WATCH_OVER_SECONDS)
            now = monotonic()
            self._watchdog.beat(now)
            self.follow_health()
            self._follow_clock()
            self._follow_memory_limit()
            self.writer.answer_who_waits_too_long(now)
            self.readers.fail_who_waits_too_long(now, UNCONFIRMED_SECONDS)
            if self._post.under_way_seconds(now) > LATE_SECONDS:
                self.readers.wanted.set()  # the answer shows whether another leads now
            if self._is_watch_silent(now):
                self._progress_at = now
                self._lag_seconds = min(2 * self._lag_seconds, MOST_LAG_SECONDS)
                self._watch.close()  # its member may be cut off from the others
            self._tick_if_due(now)
            if self._membership.lease and self._snapshotter.is_due(now):
                self._spawn(partial(self._snapshotter.run, self._membership.lease))

    def _is_watch_silent(self, now: float) -> bool:
        """Return True if the log is known to be longer than what the watch has shown for a while."""
        if self._taking:
            return False
        last = self._progress_at
        if self.replica.version >= self.state.head_entries:  # as far as etcd was asked; but it may have told of a put
            last = max(last, self.writer.missing_since)
        return now - last > self._lag_seconds

    def _tick_if_due(self, now: float) -> None:
        """Let the log's clock go on where keys are due and nobody writes; of all instances one does, most likely."""
        wall_ms = self.clock.entry_ms()
        if self.state.clock_wrong or wall_ms - self.replica.clock_ms < 1000 or not self.replica.has_due_keys(wall_ms):
            self._tick_at = 0.0
        elif not self._tick_at:
            self._tick_at = now + self._chance.random()
        elif now >= self._tick_at and not self.writer.is_busy():
            self._tick_at = 0.0
            self.writer.add_tick()
