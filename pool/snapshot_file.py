"""A pool's snapshot in a local file, from which an instance starts again without reading one from etcd.

1. The file is complete or not there: it is written under another name, synced, and renamed.
2. Nothing depends on it. A write that fails is logged and given up. A file that is damaged, of another version of
   Godis, or of another log is logged and not used.
3. All of it is verified before the first chunk is used, because a store that is half filled cannot be filled from etcd.
4. Instances may share a path. The last one that writes leaves its file there, which all of them can use.

It knows neither etcd nor the event loop. The chunks are the same as in etcd (`snapshot_store`):

    GODIS POOL SNAPSHOT 1\\n
    u32 length, a chunk       … repeated
    u32 0                     the end of the chunks
    JSON                      the snapshot's description, and the identity of its log (`Identity`)
    u32 length of the JSON, u32 CRC-32 of all before
"""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

from log.replay import sync_directory
from version import VERSION
from wire.files import open_regular

MAGIC = b"GODIS POOL SNAPSHOT 1\n"
LENGTH = struct.Struct(">I")
END = struct.Struct(">II")  # the length of the JSON, the checksum
PIECE_BYTES = 1 << 20

logger = logging.getLogger("godis")

Meta = dict[str, Any]
Identity = dict[str, Any]  # the cluster's id, the prefix, the revision that the log began with


class Unusable(Exception):
    """The file cannot be used; the message says why."""


class LocalSnapshot:
    """The file at a path; with an empty path, nothing is read or written.

    `writer` is a name that no other instance has. `identify` returns the identity of this instance's log.
    """

    def __init__(self, path: str, writer: str, identify: Callable[[], Identity]) -> None:
        self.path = path
        self._identify = identify
        self._writer = writer.replace("/", "-")

    def read_meta(self) -> Meta:
        """Verify the file, and return its description. Cost: it reads the whole file. Raises Unusable."""
        try:
            with open_regular(self.path) as file:
                meta = _verified(file)
        except OSError as error:
            raise Unusable(error.strerror) from None
        if meta["godis"] != VERSION:
            raise Unusable(f"it was written by Godis {meta['godis']}")
        if meta["identity"] != self._identify():
            raise Unusable("it is of another pool")
        return meta

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks of a file that `read_meta` has verified. Raises OSError."""
        with open_regular(self.path) as file:
            file.seek(len(MAGIC))
            while length := LENGTH.unpack(file.read(LENGTH.size))[0]:
                yield file.read(length)

    def begin(self) -> Copy:
        """Begin to write another file. The caller closes the copy (it is a context manager)."""
        return Copy(self.path, self._writer, self._identify())


def _verified(file: IO[bytes]) -> Meta:
    size = file.seek(0, os.SEEK_END)
    if size < len(MAGIC) + LENGTH.size + END.size:
        raise Unusable("it is too short")
    file.seek(size - END.size)
    length, checksum = END.unpack(file.read(END.size))
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise Unusable("it is no snapshot of a pool")
    file.seek(0)
    found, left = 0, size - LENGTH.size
    while left > 0:
        piece = file.read(min(left, PIECE_BYTES))
        found = zlib.crc32(piece, found)
        left -= len(piece)
    if found != checksum:
        raise Unusable("its checksum is wrong")
    file.seek(size - END.size - length)
    meta: Meta = json.loads(file.read(length))
    return meta


def _private(path: str, flags: int) -> int:
    """Open a file that only the owner and the group can read, as a log."""
    return os.open(path, flags, 0o640)


class Copy:
    """A snapshot that is being written. Without a path, or after an error, its methods do nothing."""

    def __init__(self, path: str, writer: str, identity: Identity) -> None:
        self._path = path
        self._new = f"{path}.{writer}.new"
        self._identity = identity
        self._checksum = 0
        self._file: IO[bytes] | None = None
        if path:
            try:
                self._file = open(self._new, "wb", opener=_private)  # noqa: SIM115 - `finish` or `abandon` close it
            except OSError as error:
                self._fail(error)
            self._write(MAGIC)

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def add(self, chunk: bytes) -> None:
        """Write the next chunk. An error is logged, not raised."""
        self._write(LENGTH.pack(len(chunk)) + chunk)

    def finish(self, meta: Meta) -> None:
        """Write the description, sync the file, and put it in its place. An error is logged, not raised."""
        description = json.dumps({**meta, "godis": VERSION, "identity": self._identity}).encode()
        self._write(LENGTH.pack(0) + description + LENGTH.pack(len(description)))
        self._write(LENGTH.pack(self._checksum))
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._new, self._path)
            sync_directory(self._path)
        except OSError as error:
            self._fail(error)
        self._file = None

    def abandon(self) -> None:
        """Remove the new file and keep the old one; after `finish` it does nothing."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
            with suppress(OSError):
                os.unlink(self._new)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            return
        self._checksum = zlib.crc32(data, self._checksum)
        try:
            self._file.write(data)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        logger.warning("no local snapshot was written to %s: %s", self._path, error.strerror)
        self.abandon()
