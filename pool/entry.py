"""The format of an entry of the pool's log, and the division of a large one into parts.

It knows neither etcd nor the keyspace. A body may be of many megabytes, so it is divided, and read, in steps. All
numbers are big-endian:

    u8 format | u64 instance | u64 seq | u64 now_ms | u64 default_ttl_ms | u16 part | u16 parts | u32 n | body

    instance        a random number of the process; with `seq` it identifies the entry, however often it arrives
    now_ms          the instance's time; the log's clock is the greatest of all entries so far
    default_ttl_ms  the instance's setting: the TTL of a string that is set without one; 0: no expiry
    part, parts     a body larger than PART_BYTES has several entries, and is run when the last one is there
    n               the number of commands in the whole body; 0: a tick, which only moves the clock
    body            commands as in the log file: RESP, and each SELECT changes the database (0 at the start)
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

import hiredis

from errors import PoolError
from protocol import encode_command

FORMAT = 1
MOST_FORMAT = 31  # of any version ever: bytes that begin with a printable character are no entry
PART_BYTES = 1 << 20  # etcd takes 1.5 MiB
MOST_PARTS = 64
FEED_BYTES = 1 << 16  # of a body, parsed in one step
STEP_WORDS = 1 << 14
MOST_BYTES = PART_BYTES * MOST_PARTS  # of one body, and so of one command
HEAD = struct.Struct(">BQQQQHHI")
SELECT = b"SELECT"
_UNFINISHED = object()


class NotAnEntry(Exception):
    """These bytes are no entry. All instances see the same bytes, so all pass over them."""


class Entry(NamedTuple):
    """One entry; `body` is one part of the whole."""

    instance: int
    seq: int
    now_ms: int
    default_ttl_ms: int
    part: int
    parts: int
    commands: int
    body: bytes


class Body:
    """The commands of one entry, while they are collected."""

    def __init__(self) -> None:
        self.commands = 0
        self.size = 0
        self._database = 0
        self._pieces: list[bytes] = []

    def add(self, db: int, commands: int, pieces: Sequence[bytes]) -> None:
        """Append `commands` commands of a database, as pieces of RESP."""
        if db != self._database:
            self._put([encode_command((SELECT, b"%d" % db))])
            self._database = db
        self._put(pieces)
        self.commands += commands

    def _put(self, pieces: Sequence[bytes]) -> None:
        self._pieces += pieces
        self.size += sum(map(len, pieces))

    @property
    def parts(self) -> int:
        """The number of parts that the body is divided into."""
        return max(1, -(-self.size // PART_BYTES))

    def cut(self) -> Iterator[bytes]:
        """Yield the parts; only the present one is copied."""
        if self.parts == 1:
            yield b"".join(self._pieces)
            return
        part: list[memoryview] = []
        missing = PART_BYTES
        for piece in self._pieces:
            rest = memoryview(piece)
            while len(rest) >= missing:
                yield b"".join([*part, rest[:missing]])
                part, rest, missing = [], rest[missing:], PART_BYTES
            part.append(rest)
            missing -= len(rest)
        if missing < PART_BYTES:
            yield b"".join(part)


def pack(instance: int, seq: int, now_ms: int, default_ttl_ms: int, body: Body) -> Iterator[bytes]:
    """Yield the entries that hold a body, numbered from `seq` on. They must be appended in this order."""
    for number, part in enumerate(body.cut()):
        head = HEAD.pack(FORMAT, instance, seq + number, now_ms, default_ttl_ms, number, body.parts, body.commands)
        yield head + part


def unpack(data: bytes) -> Entry:
    """Return an entry. Raises NotAnEntry if no Godis wrote it, PoolError if a later version did."""
    if not data or not 0 < data[0] <= MOST_FORMAT:
        raise NotAnEntry("it does not begin as an entry does")
    if data[0] != FORMAT:
        raise PoolError(f"an entry of format {data[0]}, and this Godis knows only {FORMAT}")
    if len(data) < HEAD.size:
        raise NotAnEntry("it is too short")
    _, *fields = HEAD.unpack_from(data)
    entry = Entry._make((*fields, data[HEAD.size :]))
    if not entry.part < entry.parts <= MOST_PARTS:
        raise NotAnEntry(f"it is part {entry.part + 1} of {entry.parts}")
    return entry


def digest_of(data: bytes) -> str:
    """Return a hash of an entry's bytes, to recognise another entry with the same index."""
    return sha256(data).hexdigest()


def commands_of(parts: Sequence[bytes], count: int) -> Generator[None, None, list[tuple[int, list[bytes]]]]:
    """Return the commands of a whole body, each with its database, in steps of FEED_BYTES. Raises PoolError."""
    reader = hiredis.Reader(notEnoughData=_UNFINISHED)
    found: list[tuple[int, list[bytes]]] = []
    db = 0
    try:
        for part in parts:
            for start in range(0, len(part), FEED_BYTES):
                reader.feed(part[start : start + FEED_BYTES])
                for argv in iter(reader.gets, _UNFINISHED):
                    yield from _require_bytes(argv)
                    if argv[0] == SELECT:
                        db = int(argv[1])
                    else:
                        found.append((db, argv))
                yield
    except (hiredis.HiredisError, TypeError, ValueError, IndexError) as error:
        raise PoolError(f"an entry whose commands cannot be read: {error}") from None
    if len(found) != count or reader.has_data():
        raise PoolError(f"an entry of {len(found)} commands that should be {count}")
    return found


def _require_bytes(argv: list[bytes]) -> Iterator[None]:
    """Raise TypeError if an argument is not bytes, in steps of STEP_WORDS."""
    for start in range(0, len(argv), STEP_WORDS):
        if set(map(type, argv[start : start + STEP_WORDS])) != {bytes}:
            raise TypeError("a word that is no string")
        if start:
            yield
