"""Snapshots of a pool in etcd: the instance that has the lock writes one in chunks; an instance that starts reads it.

It owns their keys, and the trim of the log, which snapshots make possible:

    <prefix>/snapshot/meta            JSON: the entry, the number of chunks, their checksum, the previous snapshot
    <prefix>/snapshot/lock            the instance that writes a snapshot; it belongs to that instance's lease
    <prefix>/snapshot/chunk/NAME/N    a separate zlib stream, of 1 MiB at most or slightly more

1. A snapshot is valid from the put of `meta` on. That put is refused if another snapshot was put meanwhile.
2. Then the chunks of all snapshots but this one and the previous one are deleted, and etcd compacts the revisions
   before the *previous* snapshot. So an instance that has just read the old `meta` still finds its chunks, and all
   entries after it.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from time import monotonic
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore

from config import Config
from errors import PoolError
from pool.documents import NotOurs, read_document
from pool.etcd import Channel, Refused, Unreachable, after_prefix, text64
from pool.neighbours import Neighbours
from pool.replica import Replica
from pool.snapshot_file import Copy, Meta
from pool.snapshot_format import Loader, Snapshot
from session import PoolState

FORMAT = 1
META: dict[str, type] = {
    **dict.fromkeys(("index", "version", "clock_ms", "chunks", "crc", "bytes", "packed_bytes"), int),
    **{"seen": list, "name": str},
}
BLOCK_BYTES = 1 << 20  # of the stream; a chunk is a compressed block, and at most slightly larger
COMPRESSION = 1  # takes a third of level 6's time, for 10 % more bytes
SECONDS = 10.0  # for one call
TRIES = 5
SNAPSHOT_BYTES = 64 << 20  # of entries, after which a snapshot is due
BYTES_AN_ENTRY = 4096  # of the last snapshot: the larger it is, the more entries until the next one
RETRY_SECONDS = 2.0  # at random up to three times that

logger = logging.getLogger("godis")

Ask = Callable[[Callable[[], Any]], Any]


class SnapshotStore:
    """The snapshots of a pool in etcd. All methods may raise Unreachable and Refused."""

    def __init__(self, channel: Channel, prefix: str) -> None:
        self._channel = channel
        base = prefix.encode() + b"/snapshot/"
        self._instances = prefix.encode() + b"/instances/"
        self._neighbours = Neighbours(channel, prefix)
        self._foreign_revision = 0  # of a foreign description that is in the program's log
        self._meta_key, self._lock_key, self._chunks = base + b"meta", base + b"lock", base + b"chunk/"

    def latest(self) -> tuple[Meta | None, int]:
        """Return the description of the last snapshot, or None if there is no readable one, and its key's revision."""
        found = self._channel.range(self._meta_key, SECONDS)
        if not found:
            return None, 0
        try:
            meta = read_document(found[0].value, {"format": int})
            if meta["format"] != FORMAT:
                raise PoolError(f"a snapshot of format {meta['format']}, and this Godis knows only {FORMAT}")
            meta = read_document(found[0].value, META)
            if not _has_known_shape(meta):
                raise NotOurs("its fields are of another form")
        except NotOurs as reason:
            if found[0].mod_revision != self._foreign_revision:
                self._foreign_revision = found[0].mod_revision
                key = self._meta_key.decode()
                logger.error("etcd's key %s describes no snapshot and is passed over: %s", key, reason)
            return None, found[0].mod_revision
        return meta, found[0].mod_revision

    def register(self, first_revision: int) -> None:
        """Ask other pools of this etcd to keep the history since this pool's last snapshot but one, or all of it."""
        meta, _ = self.latest()
        needed = (meta.get("previous") or meta)["index"] if meta else first_revision
        try:
            self._neighbours.need(needed)
        except Refused as error:
            logger.warning(
                "other pools of this etcd cannot be told what this one needs of the history (%s): "
                "grant etcd's user the keys that begin with /godis-pools/",
                error,
            )

    # ---- reading

    def load(self, begin: Callable[[Meta], Loader], ask: Ask, copy: Copy) -> tuple[Meta, Loader] | None:
        """Fill a store from the last snapshot, and write its chunks to `copy`, too; return None if there is none.

        `ask` makes each call to etcd, and may repeat it. Raises PoolError.
        """
        for _ in range(TRIES):
            meta, _ = ask(self.latest)
            if meta is None:
                return None
            blocks = self._read_chunks(meta, ask, copy)
            first = next(blocks, b"")  # None if the snapshot was replaced since `latest`; else the other chunks stay
            if first is not None:
                return meta, self._fill(meta, begin(meta), first, blocks)
        raise PoolError(self._unusable("its chunks are not there"))

    def _fill(self, meta: Meta, loader: Loader, first: bytes, blocks: Iterator[bytes | None]) -> Loader:
        loader.feed(first)
        shown = monotonic()
        for number, block in enumerate(blocks, 2):
            if block is None:
                raise PoolError(self._unusable("a chunk of it is missing"))
            loader.feed(block)
            if monotonic() - shown >= 1:
                shown = monotonic()
                logger.info("reading the snapshot: %d of %d chunks", number, meta["chunks"])
        return loader

    def _read_chunks(self, meta: Meta, ask: Ask, copy: Copy) -> Iterator[bytes | None]:
        checksum = 0
        for number in range(meta["chunks"]):
            key = self._chunk_key(meta["name"], number)
            found = ask(lambda key=key: self._channel.range(key, SECONDS))  # type: ignore[misc]
            if not found:
                yield None
                return
            checksum = zlib.crc32(found[0].value, checksum)
            copy.add(found[0].value)
            try:
                block = zlib.decompress(found[0].value)
            except zlib.error:
                raise PoolError(self._unusable("a chunk of it is damaged")) from None
            yield block
        if checksum != meta["crc"]:
            raise PoolError(self._unusable("its checksum is wrong"))
        copy.finish(meta)

    def _unusable(self, reason: str) -> str:
        return (
            f"the snapshot in etcd cannot be used: {reason}. If an instance runs, let it write another one "
            "(CONFIG SET pool-snapshot-entries 1, and a write); else restore etcd from a backup"
        )

    def _chunk_key(self, name: str, number: int) -> bytes:
        return self._chunks + f"{name}/{number:06d}".encode()

    # ---- writing

    def lock(self, name: str, lease: int, revision: int) -> bool:
        """Take the lock; return False if an instance has it, or a snapshot was put since `revision`."""
        free = {"key": text64(self._lock_key), "target": "CREATE", "create_revision": 0}
        return self._channel.put_if([self._unchanged(revision), free], self._lock_key, name.encode(), SECONDS, lease)

    def unlock(self, name: str) -> None:
        """Release the lock if this instance still has it."""
        mine = {"key": text64(self._lock_key), "target": "VALUE", "value": text64(name.encode())}
        self._channel.delete_if([mine], self._lock_key, SECONDS)

    def drop_stale_lock(self, name: str) -> None:
        """Delete a lock that this instance could not release, or one of no instance.

        An instance's lock and its key in `members` have the same lease.
        """
        self.unlock(name)
        for lock in self._channel.range(self._lock_key, SECONDS):
            same = {"key": text64(self._lock_key), "target": "MOD", "mod_revision": lock.mod_revision}
            gone = {"key": text64(self._instances + lock.value), "target": "CREATE", "create_revision": 0}
            if self._channel.delete_if([same, gone], self._lock_key, SECONDS):
                logger.warning("etcd's key %s was no instance's lock and is deleted", self._lock_key.decode())

    def _unchanged(self, revision: int) -> dict[str, Any]:
        return {"key": text64(self._meta_key), "target": "MOD", "mod_revision": revision}

    def write(
        self, name: str, described: Meta, snapshot: Snapshot, pause_if_due: Callable[[], None], copy: Copy
    ) -> Meta:
        """Write the chunks of a snapshot to etcd and to `copy`; return its description. Raises Refused, Unreachable."""

        def take(number: int, chunk: bytes) -> None:
            self._channel.put(self._chunk_key(name, number), chunk, SECONDS)
            gevent.get_hub().threadpool.apply(copy.add, (chunk,))

        return {**described, "format": FORMAT, "name": name, **pack(snapshot, take, pause_if_due)}

    def publish(self, meta: Meta, previous: Meta | None, revision: int) -> bool:
        """Make a snapshot valid; return False if another one was put meanwhile."""
        meta["previous"] = previous and {"name": previous["name"], "index": previous["index"]}
        return self._channel.put_if([self._unchanged(revision)], self._meta_key, json.dumps(meta).encode(), SECONDS)

    def trim(self, meta: Meta) -> None:
        """Delete the chunks of older snapshots, and compact the entries before the previous snapshot."""
        kept = {each["name"].encode() for each in (meta, meta["previous"]) if each}
        end = after_prefix(self._chunks)
        found = self._channel.range(self._chunks, SECONDS, end, keys_only=True)
        for name in {each.key[len(self._chunks) :].partition(b"/")[0] for each in found} - kept:
            start = self._chunks + name + b"/"
            self._channel.delete(start, SECONDS, after_prefix(start))
        if meta["previous"]:
            self._compact_before(meta["previous"]["index"])

    def _compact_before(self, revision: int) -> None:
        """Compact etcd's history before a revision, or as much of it as no other pool needs."""
        with suppress(Refused):  # etcd may be full
            self._neighbours.need(revision)
        with suppress(Refused):  # etcd's user may not read those keys; `register` has logged that
            revision = self._neighbours.compactable(revision)
        try:
            self._channel.compact(revision, SECONDS)
        except Refused as error:
            if "compacted" not in str(error):
                raise


def _has_known_shape(meta: Meta) -> bool:
    """Return True if the nested fields of a description are as `publish` and `Replica.describe` make them."""
    previous = meta.get("previous") or {"name": "", "index": 0}
    return (
        isinstance(previous, dict)
        and isinstance(previous.get("name"), str)
        and isinstance(previous.get("index"), int)
        and all(isinstance(each, list) and [*map(type, each)] == [int] * 4 for each in meta["seen"])
    )


class Snapshotter:
    """Writes a snapshot when one is due and this instance gets the lock."""

    def __init__(
        self,
        snapshot_store: SnapshotStore,
        replica: Replica,
        state: PoolState,
        config: Config,
        between_entries: BoundedSemaphore,
        pause_if_due: Callable[[], None],
        begin_copy: Callable[[], Copy],
    ) -> None:
        self.bytes_since = 0  # of entries, since the last snapshot
        self._snapshot_store = snapshot_store
        self._replica = replica
        self._state = state
        self._config = config
        self._between_entries = between_entries
        self._pause_if_due = pause_if_due
        self._begin_copy = begin_copy
        self._meta: Meta | None = None
        self._retry_at = 0.0
        self._chance = Random()

    def take_meta(self, meta: Meta) -> None:
        """Record the description of the last snapshot."""
        self._meta = meta
        state = self._state
        state.snapshot_index, state.snapshot_entries = meta["index"], meta["version"]
        state.snapshot_bytes = meta["packed_bytes"]

    def is_due(self, now: float) -> bool:
        """Return True if another snapshot is due. After a larger one it is due later."""
        if self._state.snapshot_running or now < self._retry_at:
            return False
        known_bytes = self._meta["bytes"] if self._meta else 0
        entries = self._replica.version - (self._meta["version"] if self._meta else 0)
        enough = max(self._config.pool_snapshot_entries, known_bytes // BYTES_AN_ENTRY)
        return entries >= enough or self.bytes_since >= max(SNAPSHOT_BYTES, known_bytes // 2)

    def run(self, lease: int) -> None:
        """Write a snapshot unless another instance does. A failure is logged and retried later."""
        self._state.snapshot_running = True
        try:
            self._write(lease)
        except (Unreachable, Refused, MemoryError) as error:
            logger.warning("no snapshot was written: %s", str(error) or "not enough memory")
            self._retry_at = monotonic() + RETRY_SECONDS * (1 + 2 * self._chance.random())
        finally:
            self._state.snapshot_running = False

    def _write(self, lease: int) -> None:
        snapshot_store, name = self._snapshot_store, self._state.id
        previous, revision = snapshot_store.latest()
        if previous is not None and (self._meta is None or previous["version"] > self._meta["version"]):
            self.take_meta(previous)  # another instance was faster
            self.bytes_since = 0
        elif snapshot_store.lock(name, lease, revision):
            try:
                self._write_locked(name, previous, revision)
            finally:
                snapshot_store.unlock(name)
        else:
            self._retry_at = monotonic() + RETRY_SECONDS  # another instance writes one
            snapshot_store.drop_stale_lock(name)

    def _write_locked(self, name: str, previous: Meta | None, revision: int) -> None:
        start = monotonic()
        with self._snapshot() as (described, snapshot), self._begin_copy() as copy:
            self.bytes_since = 0
            meta = self._snapshot_store.write(
                f"{described['index']}-{name}", described, snapshot, self._pause_if_due, copy
            )
            gevent.get_hub().threadpool.apply(copy.finish, (meta,))
        if self._snapshot_store.publish(meta, previous, revision):
            self.take_meta(meta)
            self._snapshot_store.trim(meta)
            logger.info(
                "snapshot of entry %d: %d MB in %d chunks, %.1f s",
                meta["version"],
                meta["packed_bytes"] >> 20,
                meta["chunks"],
                monotonic() - start,
            )

    @contextmanager
    def _snapshot(self) -> Iterator[tuple[Meta, Snapshot]]:
        """Begin a snapshot as of the last entry, and end it on exit."""
        with self._between_entries:
            described = self._replica.describe()
            snapshot = self._replica.snapshot()
            for _ in snapshot.begin():
                self._pause_if_due()
        try:
            yield described, snapshot
        finally:
            snapshot.end()

    def keep(self) -> None:
        """Write the local file alone, as of the last entry, when an instance stops."""
        with self._snapshot() as (described, snapshot), self._begin_copy() as copy:
            packed = pack(snapshot, lambda _number, chunk: copy.add(chunk), self._pause_if_due)
            copy.finish({**described, "format": FORMAT, **packed})


def pack(snapshot: Snapshot, take: Callable[[int, bytes], None], pause_if_due: Callable[[], None]) -> Meta:
    """Pass a snapshot to `take` as numbered chunks; return their number, sizes in bytes, and checksum."""
    checksum = raw_bytes = packed_bytes = chunks = 0
    compress = gevent.get_hub().threadpool.apply
    for block in _blocks(snapshot.walk(), pause_if_due):
        chunk = compress(zlib.compress, (block, COMPRESSION))
        take(chunks, chunk)
        checksum = zlib.crc32(chunk, checksum)
        raw_bytes += len(block)
        packed_bytes += len(chunk)
        chunks += 1
    return {"chunks": chunks, "crc": checksum, "bytes": raw_bytes, "packed_bytes": packed_bytes}


def _blocks(pieces: Iterator[bytes], pause_if_due: Callable[[], None]) -> Iterator[bytes]:
    """Divide a stream into blocks of BLOCK_BYTES; the last one is smaller."""
    pending: list[bytes] = []
    size = 0
    for piece in pieces:
        pending.append(piece)
        size += len(piece)
        pause_if_due()
        if size >= BLOCK_BYTES:
            data = b"".join(pending)
            cut = size - size % BLOCK_BYTES
            for start in range(0, cut, BLOCK_BYTES):
                yield data[start : start + BLOCK_BYTES]
            pending, size = [data[cut:]], size - cut
    if size:
        yield b"".join(pending)
