"""Snapshots of a pool in etcd: written in chunks by the one instance that has the lock, read by one that starts.

It owns their keys, and the trim of the log, which a snapshot is for:

    <prefix>/snapshot/meta            JSON: of which entry, how many chunks, their checksum; and the one before
    <prefix>/snapshot/lock            who writes one now; goes with his lease
    <prefix>/snapshot/chunk/NAME/N    a zlib stream of its own, at most 1 MiB or little more

A snapshot counts when `meta` is put, which is refused if another one was put meanwhile. Then the chunks of all but
this one and the one before go, and etcd is told to forget the revisions before the *previous* snapshot's: so an
instance that has just read the old `meta` still finds its chunks, and all entries after it.
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
BLOCK_BYTES = 1 << 20  # of the stream: compressed it is no larger, or hardly
COMPRESSION = 1  # a third of level 6's time, and 10 % more bytes
SECONDS = 10.0  # for one call
TRIES = 5
SNAPSHOT_BYTES = 64 << 20  # of entries
BYTES_AN_ENTRY = 4096  # of a snapshot: so that a large one is not written all the time
RETRY_SECONDS = 2.0  # and up to three times that, by chance

logger = logging.getLogger("godis")

Ask = Callable[[Callable[[], Any]], Any]


class SnapshotStore:
    """The snapshots of a pool."""

    def __init__(self, channel: Channel, prefix: str) -> None:
        self._channel = channel
        base = prefix.encode() + b"/snapshot/"
        self._instances = prefix.encode() + b"/instances/"
        self._neighbours = Neighbours(channel, prefix)
        self._foreign_revision = 0  # of a description that was told of
        self._meta_key, self._lock_key, self._chunks = base + b"meta", base + b"lock", base + b"chunk/"

    def latest(self) -> tuple[Meta | None, int]:
        """Return what is told of the last snapshot, and the revision of that; None where nothing readable is told."""
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
        """Let other pools of this etcd keep what this one needs: since its last snapshot but one, or all."""
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
        """Fill a store from the last snapshot; None if there is none. Asks by `ask`, which may repeat it.

        What is read goes into `copy`, too. Raises PoolError.
        """
        for _ in range(TRIES):
            meta, _ = ask(self.latest)
            if meta is None:
                return None
            blocks = self._read_chunks(meta, ask, copy)
            first = next(blocks, b"")  # missing: it was replaced since `latest`; after it the others are safe for long
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
        """Take the lock, unless somebody has it, or put a snapshot since `revision`."""
        free = {"key": text64(self._lock_key), "target": "CREATE", "create_revision": 0}
        return self._channel.put_if([self._unchanged(revision), free], self._lock_key, name.encode(), SECONDS, lease)

    def unlock(self, name: str) -> None:
        """Give the lock back, if it still is ours."""
        mine = {"key": text64(self._lock_key), "target": "VALUE", "value": text64(name.encode())}
        self._channel.delete_if([mine], self._lock_key, SECONDS)

    def drop_lock_of_nobody(self) -> None:
        """Delete a lock that belongs to no instance: one's lock goes with its lease, and so does its own key."""
        for held in self._channel.range(self._lock_key, SECONDS):
            same = {"key": text64(self._lock_key), "target": "MOD", "mod_revision": held.mod_revision}
            gone = {"key": text64(self._instances + held.value), "target": "CREATE", "create_revision": 0}
            if self._channel.delete_if([same, gone], self._lock_key, SECONDS):
                logger.warning("etcd's key %s was no instance's lock and is deleted", self._lock_key.decode())

    def _unchanged(self, revision: int) -> dict[str, Any]:
        return {"key": text64(self._meta_key), "target": "MOD", "mod_revision": revision}

    def write(
        self, name: str, described: Meta, snapshot: Snapshot, pause_if_due: Callable[[], None], copy: Copy
    ) -> Meta:
        """Write the chunks of a snapshot, into `copy`, too; return what to say of it. Raises Refused, Unreachable."""

        def take(number: int, chunk: bytes) -> None:
            self._channel.put(self._chunk_key(name, number), chunk, SECONDS)
            gevent.get_hub().threadpool.apply(copy.add, (chunk,))

        return {**described, "format": FORMAT, "name": name, **pack(snapshot, take, pause_if_due)}

    def publish(self, meta: Meta, previous: Meta | None, revision: int) -> bool:
        """Let a snapshot count; False if another one was put meanwhile."""
        meta["previous"] = previous and {"name": previous["name"], "index": previous["index"]}
        return self._channel.put_if([self._unchanged(revision)], self._meta_key, json.dumps(meta).encode(), SECONDS)

    def trim(self, meta: Meta) -> None:
        """Delete the chunks that nobody needs, and let etcd forget the entries before the previous snapshot."""
        kept = {each["name"].encode() for each in (meta, meta["previous"]) if each}
        end = after_prefix(self._chunks)
        found = self._channel.range(self._chunks, SECONDS, end, keys_only=True)
        for name in {each.key[len(self._chunks) :].partition(b"/")[0] for each in found} - kept:
            start = self._chunks + name + b"/"
            self._channel.delete(start, SECONDS, after_prefix(start))
        if meta["previous"]:
            self._forget_before(meta["previous"]["index"])

    def _forget_before(self, revision: int) -> None:
        """Let etcd forget the history before a revision, except for what another pool needs."""
        with suppress(Refused):  # etcd is full, perhaps
            self._neighbours.need(revision)
        with suppress(Refused):  # this user may not look there; `register` has said so
            revision = self._neighbours.compactable(revision)
        try:
            self._channel.compact(revision, SECONDS)
        except Refused as error:
            if "compacted" not in str(error):
                raise


def _has_known_shape(meta: Meta) -> bool:
    """Return True if what a description holds beside numbers and names is as `publish` and `Replica` make it."""
    previous = meta.get("previous") or {"name": "", "index": 0}
    return (
        isinstance(previous, dict)
        and isinstance(previous.get("name"), str)
        and isinstance(previous.get("index"), int)
        and all(isinstance(each, list) and [*map(type, each)] == [int] * 4 for each in meta["seen"])
    )


class Snapshotter:
    """Writes snapshots when they are due; of all instances the one that has the lock."""

    def __init__(
        self,
        archive: SnapshotStore,
        replica: Replica,
        state: PoolState,
        config: Config,
        between_entries: BoundedSemaphore,
        pause_if_due: Callable[[], None],
        begin_copy: Callable[[], Copy],
    ) -> None:
        self.bytes_since = 0  # of entries, since the last snapshot
        self._archive = archive
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
        """Note the last snapshot that there is."""
        self._meta = meta
        state = self._state
        state.snapshot_index, state.snapshot_entries = meta["index"], meta["version"]
        state.snapshot_bytes = meta["packed_bytes"]

    def is_due(self, now: float) -> bool:
        """Return True if it is time for another one; the larger the last one was, the later."""
        if self._state.snapshot_running or now < self._retry_at:
            return False
        known_bytes = self._meta["bytes"] if self._meta else 0
        entries = self._replica.version - (self._meta["version"] if self._meta else 0)
        enough = max(self._config.pool_snapshot_entries, known_bytes // BYTES_AN_ENTRY)
        return entries >= enough or self.bytes_since >= max(SNAPSHOT_BYTES, known_bytes // 2)

    def run(self, lease: int) -> None:
        """Write one, unless another instance does; a failure is tried again later."""
        self._state.snapshot_running = True
        try:
            self._write(lease)
        except (Unreachable, Refused, MemoryError) as error:
            logger.warning("no snapshot was written: %s", str(error) or "not enough memory")
            self._retry_at = monotonic() + RETRY_SECONDS * (1 + 2 * self._chance.random())
        finally:
            self._state.snapshot_running = False

    def _write(self, lease: int) -> None:
        archive, name = self._archive, self._state.id
        previous, revision = archive.latest()
        if previous is not None and (self._meta is None or previous["version"] > self._meta["version"]):
            self.take_meta(previous)  # another instance was faster
            self.bytes_since = 0
        elif archive.lock(name, lease, revision):
            try:
                self._write_locked(name, previous, revision)
            finally:
                archive.unlock(name)
        else:
            self._retry_at = monotonic() + RETRY_SECONDS  # somebody is at it
            archive.drop_lock_of_nobody()

    def _write_locked(self, name: str, previous: Meta | None, revision: int) -> None:
        start = monotonic()
        with self._taken() as (described, snapshot), self._begin_copy() as copy:
            self.bytes_since = 0
            meta = self._archive.write(f"{described['index']}-{name}", described, snapshot, self._pause_if_due, copy)
            gevent.get_hub().threadpool.apply(copy.finish, (meta,))
        if self._archive.publish(meta, previous, revision):
            self.take_meta(meta)
            self._archive.trim(meta)
            logger.info(
                "snapshot of entry %d: %d MB in %d chunks, %.1f s",
                meta["version"],
                meta["packed_bytes"] >> 20,
                meta["chunks"],
                monotonic() - start,
            )

    @contextmanager
    def _taken(self) -> Iterator[tuple[Meta, Snapshot]]:
        """Begin a snapshot as of the last entry, and let go of it in the end."""
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
        """Write the local copy alone, as of the last entry: for an instance that ends."""
        with self._taken() as (described, snapshot), self._begin_copy() as copy:
            packed = pack(snapshot, lambda _number, chunk: copy.add(chunk), self._pause_if_due)
            copy.finish({**described, "format": FORMAT, **packed})


def pack(snapshot: Snapshot, take: Callable[[int, bytes], None], pause_if_due: Callable[[], None]) -> Meta:
    """Hand a snapshot on as numbered chunks; return how many they are, how large, and their checksum."""
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
    """Cut a stream into blocks, none of which is larger than BLOCK_BYTES."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        pause_if_due()
        if size >= BLOCK_BYTES:
            data = b"".join(held)
            cut = size - size % BLOCK_BYTES
            for start in range(0, cut, BLOCK_BYTES):
                yield data[start : start + BLOCK_BYTES]
            held, size = [data[cut:]], size - cut
    if size:
        yield b"".join(held)
