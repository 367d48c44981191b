"""A pool's snapshot in a file of this machine: a shortcut past etcd for an instance that starts again.

It owns the file: its format, how it comes to be whole or not at all, and whether one may be used. It knows neither etcd
nor the loop. The chunks are those that etcd gets (`archive`):

    GODIS POOL SNAPSHOT 1\\n
    u32 length, a chunk       … as many as there are
    u32 0                     there are no more
    JSON                      what a snapshot tells, and which log it is of (`Identity`)
    u32 length of the JSON, u32 CRC-32 of all before

Nothing depends on it: what cannot be written is told and forgotten, and what is damaged, of another version of Godis
or of another log is told and not used. It is written beside its place, synced, and renamed, so instances that share a
path leave one of theirs there, which is as good for all. All of it is verified before the first chunk is used, since a
store that was half filled could not go back to etcd's.
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
    """There is no snapshot here that could be used; the message says why."""


class LocalSnapshot:
    """The file at a path; with none, nothing is read or written.

    `writer` is a name that no other instance has, `identify` says which log snapshots are of.
    """

    def __init__(self, path: str, writer: str, identify: Callable[[], Identity]) -> None:
        self.path = path
        self._identify = identify
        self._writer = writer.replace("/", "-")

    def read_meta(self) -> Meta:
        """Verify the file, and return what it tells of its snapshot. Raises Unusable."""
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
        """Yield the chunks of a file that was verified."""
        with open_regular(self.path) as file:
            file.seek(len(MAGIC))
            while length := LENGTH.unpack(file.read(LENGTH.size))[0]:
                yield file.read(length)

    def begin(self) -> Copy:
        """Begin to write another one."""
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
    """Open a file that others cannot read, as nobody but the owner and the group reads a log."""
    return os.open(path, flags, 0o640)


class Copy:
    """A snapshot on its way into the file. Without a path, or after an error, nothing happens any more."""

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
        """Write the next chunk."""
        self._write(LENGTH.pack(len(chunk)) + chunk)

    def finish(self, meta: Meta) -> None:
        """Let the snapshot be there, whole and on the disk."""
        told = json.dumps({**meta, "godis": VERSION, "identity": self._identity}).encode()
        self._write(LENGTH.pack(0) + told + LENGTH.pack(len(told)))
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
        """Leave the file as it was; nothing happens after `finish`."""
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
