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
from time import monotonic
from typing import Any

import gevent

from errors import PoolError
from etcd import Channel, Refused, after_prefix, text64
from pool_snapshot import Loader, Snapshot

FORMAT = 1
BLOCK_BYTES = 1 << 20  # of the stream: compressed it is no larger, or hardly
COMPRESSION = 1  # a third of level 6's time, and 10 % more bytes
SECONDS = 10.0  # for one call
TRIES = 5

logger = logging.getLogger("godis")

Meta = dict[str, Any]
Ask = Callable[[Callable[[], Any]], Any]


class Archive:
    """The snapshots of a pool."""

    def __init__(self, channel: Channel, prefix: str) -> None:
        self._channel = channel
        base = prefix.encode() + b"/snapshot/"
        self._meta_key, self._lock_key, self._chunks = base + b"meta", base + b"lock", base + b"chunk/"

    def latest(self) -> tuple[Meta | None, int]:
        """Return what is told of the last snapshot, and the revision of that."""
        found = self._channel.range(self._meta_key, SECONDS)
        if not found:
            return None, 0
        meta = json.loads(found[0].value)
        if meta["format"] != FORMAT:
            raise PoolError(f"a snapshot of format {meta['format']}, and this Godis knows only {FORMAT}")
        return meta, found[0].mod_revision

    # ---- reading

    def load(self, begin: Callable[[Meta], Loader], ask: Ask) -> tuple[Meta, Loader] | None:
        """Fill a store from the last snapshot; None if there is none. Asks by `ask`, which may repeat it.

        Raises PoolError.
        """
        for _ in range(TRIES):
            meta, _ = ask(self.latest)
            if meta is None:
                return None
            blocks = self._read_chunks(meta, ask)
            first = next(blocks, b"")  # missing: it was replaced since `latest`; after it the others are safe for long
            if first is not None:
                return meta, self._fill(meta, begin(meta), first, blocks)
        raise PoolError("the snapshot's chunks are not there")

    def _fill(self, meta: Meta, loader: Loader, first: bytes, blocks: Iterator[bytes | None]) -> Loader:
        loader.feed(first)
        shown = monotonic()
        for number, block in enumerate(blocks, 2):
            if block is None:
                raise PoolError("a chunk of the snapshot is missing")
            loader.feed(block)
            if monotonic() - shown >= 1:
                shown = monotonic()
                logger.info("reading the snapshot: %d of %d chunks", number, meta["chunks"])
        return loader

    def _read_chunks(self, meta: Meta, ask: Ask) -> Iterator[bytes | None]:
        checksum = 0
        for number in range(meta["chunks"]):
            key = self._chunk_key(meta["name"], number)
            found = ask(lambda key=key: self._channel.range(key, SECONDS))  # type: ignore[misc]
            if not found:
                yield None
                return
            checksum = zlib.crc32(found[0].value, checksum)
            yield zlib.decompress(found[0].value)
        if checksum != meta["crc"]:
            raise PoolError("the snapshot's checksum is wrong")

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

    def _unchanged(self, revision: int) -> dict[str, Any]:
        return {"key": text64(self._meta_key), "target": "MOD", "mod_revision": revision}

    def write(self, name: str, described: Meta, snapshot: Snapshot, breathe: Callable[[], None]) -> Meta:
        """Write the chunks of a snapshot; return what to say of it. Raises Refused, Unreachable."""
        checksum = raw_bytes = packed_bytes = chunks = 0
        compress = gevent.get_hub().threadpool.apply
        for block in _blocks(snapshot.walk(), breathe):
            chunk = compress(zlib.compress, (block, COMPRESSION))
            self._channel.put(self._chunk_key(name, chunks), chunk, SECONDS)
            checksum = zlib.crc32(chunk, checksum)
            raw_bytes += len(block)
            packed_bytes += len(chunk)
            chunks += 1
        return {
            **described,
            "format": FORMAT,
            "name": name,
            "chunks": chunks,
            "crc": checksum,
            "bytes": raw_bytes,
            "packed_bytes": packed_bytes,
        }

    def publish(self, meta: Meta, previous: Meta | None, revision: int) -> bool:
        """Let a snapshot count; False if another one was put meanwhile."""
        meta["previous"] = previous and {"name": previous["name"], "index": previous["index"]}
        return self._channel.put_if([self._unchanged(revision)], self._meta_key, json.dumps(meta).encode(), SECONDS)

    def trim(self, meta: Meta) -> None:
        """Delete the chunks that nobody needs, and let etcd forget the entries before the previous snapshot."""
        kept = {meta["name"], (meta["previous"] or meta)["name"]}
        end = after_prefix(self._chunks)
        found = self._channel.range(self._chunks, SECONDS, end, keys_only=True)
        for name in {each.key[len(self._chunks) :].decode().partition("/")[0] for each in found} - kept:
            start = self._chunks + name.encode() + b"/"
            self._channel.delete(start, SECONDS, after_prefix(start))
        if meta["previous"]:
            try:
                self._channel.compact(meta["previous"]["index"], SECONDS)
            except Refused as error:
                if "compacted" not in str(error):
                    raise


def _blocks(pieces: Iterator[bytes], breathe: Callable[[], None]) -> Iterator[bytes]:
    """Cut a stream into blocks, none of which is larger than BLOCK_BYTES."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        breathe()
        if size >= BLOCK_BYTES:
            data = b"".join(held)
            cut = size - size % BLOCK_BYTES
            for start in range(0, cut, BLOCK_BYTES):
                yield data[start : start + BLOCK_BYTES]
            held, size = [data[cut:]], size - cut
    if size:
        yield b"".join(held)
