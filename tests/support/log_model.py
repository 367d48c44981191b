"""What the tests of the log share: a keyspace as a dict, and logs made as the server makes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from aof import AppendOnlyLog, ReplayReport, replay
from errors import CommandError
from protocol import encode_command

FAR_MS = 4_102_444_800_000  # 2100: a deadline that no test lives to see
NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
# For directories that are made by the thousand, where the disk is not the point: None is the usual place for them.
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None

Record = tuple[int, list[bytes]]


class Model:
    """The keyspace as replay must leave it: (database, key) -> (value, deadline or None)."""

    def __init__(self) -> None:
        self.data: dict[tuple[int, bytes], tuple[bytes, int | None]] = {}
        self.history: list[Record] = []

    def apply(self, db: int, argv: list[bytes]) -> None:
        assert type(argv) is list
        assert {type(word) for word in argv} == {bytes}
        self.history.append((db, argv))
        match [argv[0].upper(), *argv[1:]]:
            case [b"SET", key, value]:
                self.data[db, key] = value, None
            case [b"SET", key, value, b"PXAT", deadline]:
                self.data[db, key] = value, int(deadline)
            case [b"MSET", *words]:
                self.data |= {(db, key): (value, None) for key, value in zip(words[::2], words[1::2], strict=True)}
            case [b"PEXPIREAT", key, deadline]:
                self.data[db, key] = self.data[db, key][0], int(deadline)
            case [b"INCRBY", key, amount]:
                value, deadline_ms = self.data.get((db, key), (b"0", None))
                self.data[db, key] = b"%d" % (int(value) + int(amount)), deadline_ms
            case [b"INCR", key]:
                self.apply(db, [b"INCRBY", key, b"1"])
            case [b"DEL", *keys]:
                for key in keys:
                    self.data.pop((db, key), None)
            case _:
                raise CommandError(b"ERR unknown command '%b'" % argv[0])


def set_(key: bytes, value: bytes, db: int = 0, deadline_ms: int = FAR_MS) -> Record:
    return db, [b"SET", key, value, b"PXAT", b"%d" % deadline_ms]


def write_log(path: Path, batches: Iterable[Sequence[Record]], now_ms: int = NOW_MS) -> list[int]:
    """Append batches to a log as a server does; return the file's size after each."""
    log = AppendOnlyLog(str(path))
    log.open()
    log.link = replay(str(path), lambda _db, _argv: None, NOW_MS, 0).link
    sizes = []
    for number, batch in enumerate(batches):
        for db, argv in batch:
            log.append(db, argv)
        assert log.write(now_ms + number)
        sizes.append(log.written_bytes)
    log.close()
    return sizes


def read_log(path: Path, now_ms: int = NOW_MS, default_ttl_ms: int = 6 * HOUR_MS) -> tuple[Model, ReplayReport]:
    model = Model()
    return model, replay(str(path), model.apply, now_ms, default_ttl_ms)


def resp(*commands: bytes) -> bytes:
    """Write commands as redis-server's own AOF has them."""
    return b"".join(encode_command(command.split(b" ")) for command in commands)
