"""A member of a pool: its greenlets, which bring writes into the one log, and what is in the log into the store.

The log is one key of etcd: each put on it is an entry (`pool_entry`), etcd's history of the key is the log, its
revision is the entry's index, the key's version counts entries without a gap. This module owns the talk with etcd and
who waits for what; what an entry does is `replica`'s business, what a client sees of it `pool_server`'s.

    submit -> queue -> _flush    all that waits, as one entry; one is under way at a time, until etcd has it
                         etcd
    waiters <- _follow  <-+      a watch: each entry of any instance, applied in order; ours are answered
    readers <- _confirm <-+      how far the log goes now: for reads that must see all of it, and as sign of life
               _announce  <-     a key with a lease: who is there; the list of all instances
               _watch_over       answers what waits for too long; a tick if keys are due; a snapshot after many entries

**A put whose outcome is open is repeated**, the same bytes, at the next endpoint, until etcd says that it has them or
the entry comes back. Repetitions are known by instance and seq, and applied once. Nothing else of this instance is sent
before.

**Trouble.** `confirmed_at` is when the log last answered. After UNCONFIRMED_SECONDS without, writes are refused at once
(POOLDOWN), and so are those that wait unsent. Those that were sent are answered POOLUNKNOWN after UNKNOWN_SECONDS.
Whatever would let this instance differ from the others ends it: a bug in a command, a gap, another log than before.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from random import Random, SystemRandom
from threading import Thread
from time import monotonic, sleep, time
from typing import TypeVar

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Group

from config import Config
from engine import Engine
from errors import (
    POOL_DOWN,
    POOL_ENTRY_REFUSED,
    POOL_FULL,
    POOL_UNKNOWN,
    CommandError,
    PoolError,
    StartError,
)
from etcd import Channel, Compacted, Etcd, KeyValue, Refused, Unreachable, after_prefix, key_value, text64, tls_context
from pool_archive import Archive, Meta
from pool_entry import Body, pack
from pool_snapshot import Loader
from replica import Gap, Replica
from replies import Reply
from session import Instance, PoolMember, PoolState

BATCH_COMMANDS = 1000
BATCH_BYTES = 512 << 10
APPEND_SECONDS = 1.5  # less than etcd's own 7, since a member without a leader just lets one wait
CONFIRM_SECONDS = 1.0
GATHER_SECONDS = 0.001
HEALTH_SECONDS = 1.0  # between two signs of life
UNCONFIRMED_SECONDS = 3.0
UNKNOWN_SECONDS = 10.0
LAG_SECONDS = 2.0  # of a watch that shows nothing though there is more
WATCH_OVER_SECONDS = 0.25
FROZEN_SECONDS = 15.0
ANNOUNCE_SECONDS = 2.0
LEASE_SECONDS = 10
SLICE_SECONDS = 0.001
SNAPSHOT_BYTES = 64 << 20
NEARLY_ENTRIES = 100  # behind: what comes now may come while we serve
BYTES_AN_ENTRY = 4096  # of a snapshot: so that a large one is not written all the time
SNAPSHOT_RETRY_SECONDS = 2.0  # and up to three times that, by chance
LEFT_POOL = 70  # exit code: EX_SOFTWARE

logger = logging.getLogger("godis")

T = TypeVar("T")


class Submission:
    """Writes of one client, and who waits for their replies."""

    __slots__ = ("db", "done", "failure", "replies", "requests", "since", "size")

    def __init__(self, db: int, requests: Sequence[list[bytes]]) -> None:
        self.db = db
        self.requests = requests
        self.size = sum([sum(map(len, argv)) for argv in requests])
        self.since = monotonic()
        self.replies: list[Reply] = []
        self.failure: CommandError | None = None
        self.done = Event()

    def fail(self, text: bytes) -> None:
        """Answer all of it with an error."""
        if not self.done.is_set():
            self.replies = [CommandError(text)] * len(self.requests)
            self.done.set()


class Flight:
    """An entry of ours that was sent and not applied yet."""

    def __init__(self, submissions: list[Submission], commands: int, size: int) -> None:
        self.submissions = submissions
        self.commands = commands
        self.size = size
        self.since = monotonic()
        self.progress = self.since  # when the last part of it was taken
        self.over = Event()

    def answer(self, replies: list[Reply]) -> None:
        """Hand the replies out."""
        self.over.set()
        start = 0
        for submission in self.submissions:
            end = start + len(submission.requests)
            if not submission.done.is_set():
                submission.replies = replies[start:end]
                submission.done.set()
            start = end

    def fail(self, text: bytes) -> None:
        """Answer all of it with an error."""
        self.over.set()
        for submission in self.submissions:
            submission.fail(text)


class Confirmation:
    """A reader that waits until the instance has all that the log held when it asked."""

    __slots__ = ("done", "failed", "index", "since")

    def __init__(self) -> None:
        self.since = monotonic()
        self.index = -1
        self.failed = False
        self.done = Event()


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
        self._log_key, self._settings_key = prefix + b"/log", prefix + b"/settings"
        self._members_key = prefix + b"/instances/"
        self._member_key = self._members_key + b"%016x" % self.id
        context = None
        if config.pool.tls:
            context = tls_context(config.pool_ca_file, config.pool_cert_file, config.pool_key_file)
        etcd = Etcd(config.pool, context)
        self._appends, self._watch, self._reads = etcd.channel(), etcd.channel(), etcd.channel()
        self._announcements, self._snapshots = etcd.channel(), etcd.channel()
        self._archive = Archive(self._snapshots, config.pool.prefix)
        # writes
        self._seq = 0
        self._queue: deque[Submission] = deque()
        self._queued = Event()  # as many as are waited for
        self._enough = 1
        self._expected = 1  # as many as the last entry answered
        self._flights: dict[int, Flight] = {}  # by the seq of their last part
        self._own_seq = 0  # of our last entry that was applied
        # reads
        self._readers: list[Confirmation] = []
        self._behind: list[Confirmation] = []  # these know the index that they wait for
        self._asked = Event()
        # the log
        self._range_body = json.dumps({"key": text64(self._log_key), "keys_only": True}).encode()
        self._cluster = ""
        self._first_revision = 1
        self._between_entries = BoundedSemaphore()
        self._slice_began = monotonic()
        self._progress_at = monotonic()
        self._gap_at = 0  # the index at which a gap was seen once
        # snapshots
        self._lease = 0
        self._meta: Meta | None = None
        self._bytes_since = 0
        self._snapshot_retry_at = 0.0
        self._tick_at = 0.0
        self._chance = Random()
        self._beat = monotonic()
        self._jobs = Group()
        instance.settings_changed.append(self._follow_settings)

    # ---- the life

    def join(self) -> None:
        """Wait for etcd, and take over all that the pool has. Raises StartError, PoolError."""
        start = monotonic()
        self._read_head()
        self._until_answered(self._agree_on_settings)
        loaded = self._archive.load(self._begin_load, self._until_answered)
        if loaded is not None:
            meta, loader = loaded
            self.replica.restore(meta, loader)
            self._take_meta(meta)
            logger.info("snapshot of entry %d read in %.2f s", meta["version"], monotonic() - start)
        self._read_head()
        self._spawn(self._follow)
        self._wait_until_caught_up()
        self.confirmed_at = monotonic()
        keys = sum(map(len, self.instance.store.databases))
        logger.info(
            "pool %s: %d entries of its log, %d keys, ready in %.2f s",
            self.config.get("pool"),
            self.replica.version,
            keys,
            monotonic() - start,
        )

    def start(self) -> None:
        """Serve: from now on writes go into the log."""
        for job in (self._flush, self._confirm, self._announce, self._watch_over):
            self._spawn(job)
        Thread(target=self._end_if_frozen, daemon=True).start()

    def stop(self) -> None:
        """Do nothing more, and let the others know at once that this instance is gone."""
        self._jobs.kill()
        try:
            if self._lease:
                self._announcements.revoke_lease(self._lease, 1.0)
        except (Unreachable, Refused):
            pass  # it ends by itself

    def _spawn(self, job: Callable[[], None]) -> None:
        self._jobs.spawn(self._guarded, job)

    def _guarded(self, job: Callable[[], None]) -> None:
        """Run a greenlet's job; what it raises ends the process."""
        try:
            job()
        except PoolError as error:
            self.leave(str(error))
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

    def _agree_on_settings(self) -> None:
        """Refuse to join a pool that has other databases: its entries would mean something else here."""
        mine = {"format": 1, "databases": self.config.databases}
        absent = {"key": text64(self._settings_key), "target": "CREATE", "create_revision": 0}
        if not self._reads.put_if([absent], self._settings_key, json.dumps(mine).encode(), 5.0):
            theirs = json.loads(self._reads.range(self._settings_key, 5.0)[0].value)
            if theirs != mine:
                raise StartError(
                    f"the pool has the settings {theirs}, and this instance {mine}: --databases must be alike"
                )

    def _begin_load(self, meta: Meta) -> Loader:
        logger.info("reading a snapshot: %d chunks, %d MB", meta["chunks"], meta["bytes"] >> 20)
        return self.replica.loader(meta["clock_ms"])

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

    def _follow_settings(self) -> None:
        self.state.stale_reads = self.config.pool_stale_reads

    # ---- how far the log goes

    def _head(self, channel: Channel) -> KeyValue | None:
        """Ask for the log's last entry, without its bytes. Raises PoolError if it is not the log that we know."""
        known = self.replica.index
        found = channel.call("kv/range", self._range_body, CONFIRM_SECONDS)
        cluster = found["header"]["cluster_id"]
        if self._cluster and cluster != self._cluster:
            raise PoolError("etcd is another cluster than before")
        self._cluster = cluster
        head = key_value(found["kvs"][0]) if found.get("kvs") else None
        if (head.mod_revision if head else 0) < known:
            raise PoolError("etcd has lost entries that were applied here")
        if not self.replica.index:
            self._first_revision = head.create_revision if head else int(found["header"]["revision"]) + 1
        self.state.head_entries = max(self.state.head_entries, head.version if head else 0)
        return head

    def _read_head(self) -> KeyValue | None:
        return self._until_answered(lambda: self._head(self._reads))

    def wait_until_confirmed(self) -> bool:
        """Wait until all that the log holds now is applied; False if that cannot be known."""
        reader = Confirmation()
        self._readers.append(reader)
        self._asked.set()
        reader.done.wait()
        return not reader.failed

    def _confirm(self) -> None:
        while True:
            self._asked.wait(HEALTH_SECONDS)
            self._asked.clear()
            readers, self._readers = self._readers, []
            start = monotonic()
            try:
                head = self._head(self._reads)
            except (Unreachable, Refused) as error:
                self.state.trouble = str(error)
                self._readers += readers
                gevent.sleep(0.05)
                self._asked.set()
                continue
            self._note_confirmed(start)
            index = head.mod_revision if head else 0
            for reader in readers:
                reader.index = index
            self._behind += readers
            self._wake_readers()

    def _wake_readers(self) -> None:
        index = self.replica.index
        for reader in self._behind:
            if reader.index <= index:
                reader.done.set()
        self._behind = [reader for reader in self._behind if reader.index > index]

    def _note_confirmed(self, at: float) -> None:
        self.confirmed_at = max(self.confirmed_at, at)
        self.follow_health()

    def follow_health(self) -> None:
        """Note whether the log is known to be there, and tell the operator of a change."""
        confirmed = monotonic() - self.confirmed_at < UNCONFIRMED_SECONDS
        if confirmed == self.state.confirmed:
            return
        self.state.confirmed = confirmed
        self.instance.update_gate()
        if confirmed:
            self.state.trouble = ""
            self._progress_at = monotonic() - LAG_SECONDS  # a watch from before may never hear of anything again
            logger.warning("the pool's log answers again")
        else:
            reason = self.state.trouble or f"nothing was heard of it for {UNCONFIRMED_SECONDS:.0f} s"
            logger.error("the pool's log cannot be reached (%s): writes are refused until it can", reason)

    # ---- from the log

    def _follow(self) -> None:
        while True:
            try:
                start = self.replica.index + 1 if self.replica.index else self._first_revision
                for found in self._watch.watch(self._log_key, start, APPEND_SECONDS, lambda: None):
                    self._take(found)
            except (Unreachable, Refused) as error:
                logger.debug("watching again: %s", error)
                self.state.rewatched += 1
                gevent.sleep(0.05)
            except Gap:
                if self._gap_at == self.replica.index:
                    raise PoolError(f"the entry after {self.replica.version} is missing in etcd") from None
                self._gap_at = self.replica.index
            except Compacted as error:
                raise PoolError(f"it was away for too long, and entries that it needs are gone: {error}") from None

    def _take(self, found: KeyValue) -> None:
        if not found.version:
            raise PoolError("the log was deleted from etcd")
        with self._between_entries:
            applied = self.replica.apply(found.mod_revision, found.version, found.value)
            if applied is None:
                return
            self._progress_at = monotonic()
            self._bytes_since += len(found.value)
            if applied.instance == self.id:
                self._take_own(applied.seq, applied.replies, applied.repeated)
            state = self.state
            state.index, state.entries, state.clock_ms = self.replica.index, self.replica.version, self.replica.clock_ms
            state.head_entries = max(state.head_entries, state.entries)
            if self._behind:
                self._wake_readers()
            for _ in self.replica.expire():
                self._breathe()
        self._breathe()

    def _take_own(self, seq: int, replies: list[Reply] | None, repeated: bool) -> None:
        if repeated:
            self.state.duplicates += 1
            return
        self._own_seq = seq
        flight = self._flights.pop(seq, None)
        if flight is None or replies is None:
            return
        flight.answer(replies)
        took_ms = (monotonic() - flight.since) * 1000
        state = self.state
        state.append_ms += (took_ms - state.append_ms) / 16
        state.append_max_ms = max(state.append_max_ms, took_ms)

    def _breathe(self) -> None:
        """Let others have the loop if this greenlet had it for long."""
        if monotonic() - self._slice_began > SLICE_SECONDS:
            gevent.sleep(0)
            self._slice_began = monotonic()

    # ---- into the log

    def submit(self, db: int, requests: Sequence[list[bytes]]) -> list[Reply]:
        """Bring writes into the log, wait until they are applied here, and return their replies."""
        submission = Submission(db, requests)
        self._enqueue(submission)
        submission.done.wait()
        return submission.replies

    def _enqueue(self, submission: Submission) -> None:
        self._queue.append(submission)
        if len(self._queue) >= self._enough:
            self._queued.set()

    def is_busy(self) -> bool:
        """Say whether writes wait for their replies."""
        return bool(self._queue or self._flights)

    def _flush(self) -> None:
        while True:
            self._gather()
            submissions, body = self._next_batch()
            if submissions:
                flight = Flight(submissions, body.commands, body.size)
                self._append(flight, body)
                flight.over.wait(
                    APPEND_SECONDS
                )  # else half of the clients would wait for this entry, half for the next
                self._expected = len(submissions)

    def _gather(self) -> None:
        """Wait for writes; if many were answered a moment ago, for those clients' next ones, but not for long.

        Two thirds more commands an entry with 50 clients that send one write after another, and so fewer entries.
        """
        for enough, seconds in ((self._expected, GATHER_SECONDS), (1, None)):
            self._enough = enough
            if len(self._queue) < enough:
                self._queued.clear()
                self._queued.wait(seconds)
            if self._queue:
                break
        self._enough = 1

    def _next_batch(self) -> tuple[list[Submission], Body]:
        body = Body()
        taken: list[Submission] = []
        queue = self._queue
        while queue and body.commands < BATCH_COMMANDS:
            if taken and body.size + queue[0].size > BATCH_BYTES:
                break
            submission = queue.popleft()
            if not submission.done.is_set():
                taken.append(submission)
                body.add(submission.db, submission.requests)
        return taken, body

    def _append(self, flight: Flight, body: Body) -> None:
        """Bring one entry into the log, part by part; returns when etcd has it, or has refused it."""
        entries = pack(self.id, self._seq + 1, int(time() * 1000), self.instance.store.default_ttl_ms, body)
        self._seq += len(entries)
        self._flights[self._seq] = flight
        state = self.state
        for seq, entry in enumerate(entries, self._seq - len(entries) + 1):
            if not self._put(seq, entry, flight):
                return
            state.appended += 1
            state.appended_bytes += len(entry)
            flight.progress = monotonic()
        state.appended_commands += flight.commands

    def _put(self, seq: int, entry: bytes, flight: Flight) -> bool:
        """Put one entry, again and again while its outcome is open; False if it was refused."""
        data = b'{"key":"%b","value":"%b"}' % (text64(self._log_key).encode(), text64(entry).encode())
        is_open = False
        while self._own_seq < seq:
            start = monotonic()
            try:
                self._appends.call("kv/put", data, APPEND_SECONDS)
            except Unreachable as error:
                self.state.trouble = str(error)
                is_open = True
                gevent.sleep(0.02)
            except Refused as error:
                self.state.trouble = str(error)
                if not is_open:
                    self._flights.pop(self._seq, None)
                    flight.fail(self._refusal(error))
                    return False
                gevent.sleep(0.5)
            else:
                self._note_confirmed(start)
                return True
        return True

    @staticmethod
    def _refusal(error: Refused) -> bytes:
        logger.error("etcd refused an entry: %s", error)
        if error.is_full:
            return POOL_FULL
        return POOL_ENTRY_REFUSED % str(error).encode().replace(b"\r\n", b" ")[:200]

    # ---- watching over it

    def _watch_over(self) -> None:
        while True:
            gevent.sleep(WATCH_OVER_SECONDS)
            self._beat = now = monotonic()
            self.follow_health()
            self._answer_who_waits_too_long(now)
            if self.replica.version < self.state.head_entries and now - self._progress_at > LAG_SECONDS:
                self._progress_at = now
                self._watch.move()  # its member may be cut off from the others
            self._tick_if_due(now)
            self._snapshot_if_due(now)

    def _answer_who_waits_too_long(self, now: float) -> None:
        for flight in self._flights.values():
            if now - flight.progress > UNKNOWN_SECONDS:
                flight.fail(POOL_UNKNOWN)
        for submission in self._queue:
            if not self.state.confirmed or now - submission.since > UNKNOWN_SECONDS:
                submission.fail(POOL_DOWN)
        while self._queue and self._queue[0].done.is_set():
            self._queue.popleft()
        for readers in (self._readers, self._behind):
            for reader in readers:
                if now - reader.since > UNCONFIRMED_SECONDS:
                    reader.failed = True
                    reader.done.set()
            readers[:] = [reader for reader in readers if not reader.done.is_set()]

    def _tick_if_due(self, now: float) -> None:
        """Let the log's clock go on where keys are due and nobody writes; of all instances one does, most likely."""
        wall_ms = int(time() * 1000)
        if wall_ms - self.replica.clock_ms < 1000 or not self.replica.has_due_keys(wall_ms):
            self._tick_at = 0.0
        elif not self._tick_at:
            self._tick_at = now + self._chance.random()
        elif now >= self._tick_at and not self._queue and not self._flights:
            self._tick_at = 0.0
            self._enqueue(Submission(0, []))

    def _end_if_frozen(self) -> None:
        """Run in a thread: a loop that does not turn answers nobody, and whoever balances must not think it lives."""
        while True:
            before = monotonic()
            sleep(1)
            if monotonic() - before > 3:  # the process was stopped: the loop has yet to have a chance
                self._beat = monotonic()
            elif monotonic() - self._beat > FROZEN_SECONDS:
                logger.error("the event loop has not turned for %d s", FROZEN_SECONDS)
                self.leave("it is frozen")

    # ---- who is there

    def _announce(self) -> None:
        while True:
            try:
                self._put_member()
                found = self._announcements.range(self._members_key, 2.0, after_prefix(self._members_key))
                self.state.members = [self._member(each) for each in found]
            except (Unreachable, Refused, ValueError, KeyError) as error:
                logger.debug("not announced: %s", error)
            gevent.sleep(ANNOUNCE_SECONDS)

    def _put_member(self) -> None:
        if not self._lease or not self._announcements.keep_alive(self._lease, 2.0):
            self._lease = self._announcements.grant_lease(LEASE_SECONDS, 2.0)
        me = {
            "name": self.instance.id,
            "address": f"{self.config.host.split()[0]}:{self.config.port}",
            "index": self.replica.index,
            "entries": self.replica.version,
            "started_ms": self.instance.started_ms,
        }
        self._announcements.put(self._member_key, json.dumps(me).encode(), 2.0, self._lease)

    def _member(self, found: KeyValue) -> PoolMember:
        told = json.loads(found.value)
        name = found.key[len(self._members_key) :].decode()
        return PoolMember(name, told["name"], told["address"], told["index"], told["entries"], told["started_ms"])

    # ---- snapshots

    def _take_meta(self, meta: Meta) -> None:
        self._meta = meta
        state = self.state
        state.snapshot_index, state.snapshot_entries = meta["index"], meta["version"]
        state.snapshot_bytes = meta["packed_bytes"]

    def _snapshot_if_due(self, now: float) -> None:
        known_bytes = self._meta["bytes"] if self._meta else 0
        entries = self.replica.version - (self._meta["version"] if self._meta else 0)
        enough = max(self.config.pool_snapshot_entries, known_bytes // BYTES_AN_ENTRY)
        if entries < enough and self._bytes_since < max(SNAPSHOT_BYTES, known_bytes // 2):
            return
        if self.state.snapshot_running or now < self._snapshot_retry_at or not self._lease:
            return
        self.state.snapshot_running = True
        self._spawn(self._write_snapshot)

    def _write_snapshot(self) -> None:
        try:
            self._try_to_write_snapshot()
        except (Unreachable, Refused) as error:
            logger.warning("no snapshot was written: %s", error)
            self._snapshot_retry_at = monotonic() + SNAPSHOT_RETRY_SECONDS * (1 + 2 * self._chance.random())
        finally:
            self.state.snapshot_running = False

    def _try_to_write_snapshot(self) -> None:
        archive = self._archive
        previous, revision = archive.latest()
        if previous is not None and (self._meta is None or previous["version"] > self._meta["version"]):
            self._take_meta(previous)  # another instance was faster
            self._bytes_since = 0
            return
        if not archive.lock(self.state.id, self._lease, revision):
            self._snapshot_retry_at = monotonic() + SNAPSHOT_RETRY_SECONDS  # somebody is at it
            return
        start = monotonic()
        try:
            with self._between_entries:
                described = self.replica.describe()
                snapshot = self.replica.snapshot()
                for _ in snapshot.begin():
                    self._breathe()
                self._bytes_since = 0
            try:
                meta = archive.write(f"{described['index']}-{self.state.id}", described, snapshot, self._breathe)
            finally:
                snapshot.end()
            if archive.publish(meta, previous, revision):
                self._take_meta(meta)
                archive.trim(meta)
                logger.info(
                    "snapshot of entry %d: %d MB in %d chunks, %.1f s",
                    meta["version"],
                    meta["packed_bytes"] >> 20,
                    meta["chunks"],
                    monotonic() - start,
                )
        finally:
            archive.unlock(self.state.id)
