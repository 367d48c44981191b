"""What an instance of a pool begins with when it starts: this machine's snapshot if there is one to use, or etcd's.

It owns the choice, and fills the replica. It must not know how the log goes on from there.

    the local file: whole? of this log? does etcd still have what follows it?   else etcd's last snapshot   else nothing
"""

from __future__ import annotations

import logging
import zlib
from functools import partial
from time import monotonic

from pool.entry import digest_of
from pool.etcd import Channel, Refused
from pool.replica import Replica
from pool.snapshot_file import LocalSnapshot, Meta, Unusable
from pool.snapshot_format import Loader
from pool.snapshot_store import Ask, SnapshotStore, Snapshotter

SECONDS = 5.0  # for one call

logger = logging.getLogger("godis")


class Recovery:
    """Fills an empty replica. `ask` asks etcd, again and again until it answers."""

    def __init__(
        self,
        channel: Channel,
        log_key: bytes,
        archive: SnapshotStore,
        local: LocalSnapshot,
        snapshotter: Snapshotter,
        replica: Replica,
        ask: Ask,
    ) -> None:
        self._channel = channel
        self._log_key = log_key
        self._archive = archive
        self._local = local
        self._snapshotter = snapshotter
        self._replica = replica
        self._ask = ask

    def run(self) -> None:
        """Load a snapshot, if there is any. Raises PoolError."""
        if not self._local.path or not self._load_local():
            self._load_from_etcd()

    def _load_from_etcd(self) -> None:
        start = monotonic()
        with self._local.begin() as copy:
            loaded = self._archive.load(self._begin, self._ask, copy)
        if loaded is not None:
            meta, loader = loaded
            self._replica.restore(meta, loader)
            self._snapshotter.take_meta(meta)
            logger.info("snapshot of entry %d read in %.2f s", meta["version"], monotonic() - start)

    def _begin(self, meta: Meta) -> Loader:
        logger.info("reading a snapshot: %d chunks, %d MB", meta["chunks"], meta["bytes"] >> 20)
        return self._replica.loader(meta["clock_ms"])

    def _load_local(self) -> bool:
        """Load the file, if the log still has what follows it; say why not."""
        start = monotonic()
        try:
            meta = self._local.read_meta()
            self._ask(partial(self._require_what_follows, meta))
        except Unusable as reason:
            logger.warning("the local snapshot %s is not used: %s", self._local.path, reason)
            return False
        loader = self._replica.loader(meta["clock_ms"])
        for chunk in self._local.chunks():
            loader.feed(zlib.decompress(chunk))
        self._replica.restore(meta, loader)
        published, _ = self._ask(self._archive.latest)
        if published is not None:
            self._snapshotter.take_meta(published)
        logger.info("local snapshot of entry %d read in %.2f s", meta["version"], monotonic() - start)
        return True

    def _require_what_follows(self, meta: Meta) -> None:
        """Raise Unusable unless etcd has the very entry that a snapshot was taken at, and so all after it."""
        try:
            found = self._channel.range(self._log_key, SECONDS, revision=meta["index"])
        except Refused as refusal:
            raise Unusable(f"etcd: {refusal}") from None
        same = [(each.mod_revision, each.version, digest_of(each.value)) for each in found]
        if same != [(meta["index"], meta["version"], meta.get("digest"))]:
            raise Unusable("the log has another entry at its place")
