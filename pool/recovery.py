"""Fills an empty replica at the start: from the local snapshot if it can be used, or else from the one in etcd.

It owns the choice. It must not know how the log is followed from there.

    the local file, if it is whole, of this log, and etcd still has the entries after it
      else the last snapshot in etcd
        else nothing: the log is applied from its first entry
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
    """Fills an empty replica. `ask` makes a call to etcd, and repeats it until etcd answers."""

    def __init__(
        self,
        channel: Channel,
        log_key: bytes,
        snapshot_store: SnapshotStore,
        snapshot_file: LocalSnapshot,
        snapshotter: Snapshotter,
        replica: Replica,
        ask: Ask,
    ) -> None:
        self._channel = channel
        self._log_key = log_key
        self._snapshot_store = snapshot_store
        self._snapshot_file = snapshot_file
        self._snapshotter = snapshotter
        self._replica = replica
        self._ask = ask

    def run(self) -> None:
        """Load a snapshot if there is one. Raises PoolError."""
        if not self._snapshot_file.path or not self._load_local():
            self._load_from_etcd()

    def _load_from_etcd(self) -> None:
        start = monotonic()
        with self._snapshot_file.begin() as copy:
            loaded = self._snapshot_store.load(self._begin, self._ask, copy)
        if loaded is not None:
            meta, loader = loaded
            self._replica.restore(meta, loader)
            self._snapshotter.take_meta(meta)
            logger.info("snapshot of entry %d read in %.2f s", meta["version"], monotonic() - start)

    def _begin(self, meta: Meta) -> Loader:
        logger.info("reading a snapshot: %d chunks, %d MB", meta["chunks"], meta["bytes"] >> 20)
        return self._replica.loader(meta["clock_ms"])

    def _load_local(self) -> bool:
        """Load the file if the log still has the entries after it; return False and log the reason if not."""
        start = monotonic()
        try:
            meta = self._snapshot_file.read_meta()
            self._ask(partial(self._require_entry_of, meta))
        except Unusable as reason:
            logger.warning("the local snapshot %s is not used: %s", self._snapshot_file.path, reason)
            return False
        loader = self._replica.loader(meta["clock_ms"])
        for chunk in self._snapshot_file.chunks():
            loader.feed(zlib.decompress(chunk))
        self._replica.restore(meta, loader)
        published, _ = self._ask(self._snapshot_store.latest)
        if published is not None:
            self._snapshotter.take_meta(published)
        logger.info("local snapshot of entry %d read in %.2f s", meta["version"], monotonic() - start)
        return True

    def _require_entry_of(self, meta: Meta) -> None:
        """Raise Unusable unless etcd has the entry of the snapshot, and therefore all entries after it."""
        try:
            found = self._channel.range(self._log_key, SECONDS, revision=meta["index"])
        except Refused as refusal:
            raise Unusable(f"etcd: {refusal}") from None
        same = [(each.mod_revision, each.version, digest_of(each.value)) for each in found]
        if same != [(meta["index"], meta["version"], meta.get("digest"))]:
            raise Unusable("the log has another entry at its place")
