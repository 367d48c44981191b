"""A snapshot of a whole Redis, `dump.rdb`, read as commands.

    file     = "REDIS" version (4 digits)  *(aux / database / key / other)  EOF (0xFF)  [checksum, from version 5 on]
    key      = [deadline]  [idle time or use count]  type  string  value

1. Keys are yielded with their deadlines as they are, expired or not.
2. What is not a key and cannot be kept is named in `warnings`: data of modules, the uses of keys, and functions of a
   release candidate of Redis 7.0. The libraries of functions are yielded as commands.
3. BadFormat says at which byte the file is not what the format says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from rdb.objects import STRING, EmptyValue, ModuleValue, commands, is_value, module_name
from rdb.source import BadFormat, FileSource

MAGIC = b"REDIS"
HEAD_BYTES = 9
NEWEST_VERSION = 12
CHECKED_SINCE = 5  # the version
CHECKSUM_BYTES = 8
LATEST_MS = 10**14 - 1
SLOT_INFO, FUNCTION_2, FUNCTION, MODULE_AUX = 244, 245, 246, 247
IDLE, FREQUENCY, AUX, RESIZE, DEADLINE_MS, DEADLINE, SELECT, EOF = range(248, 256)


def is_snapshot(opening: bytes) -> bool:
    """Return True if a file with this beginning is a snapshot."""
    return opening[: len(MAGIC)] == MAGIC and opening[len(MAGIC) : HEAD_BYTES].isdigit()


class Snapshot:
    """A snapshot in the first `size` bytes of a file. Other bytes may follow it, as in an AOF with a preamble."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._source = FileSource(file, size)
        self.version = 0
        self.keys = 0
        self.empty_keys = 0
        self.written_by = ""  # the version of Redis
        self.warnings: dict[str, int] = {}  # what was left out, and how often

    @property
    def position(self) -> int:
        """The number of bytes that are read; after `commands` the end of the snapshot."""
        return self._source.position

    def commands(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the commands that make all keys, each with its database. Raises BadFormat."""
        try:
            yield from self._commands()
        except ModuleValue as error:
            raise BadFormat(f"byte {self.position}: {error}") from error
        except BadFormat as error:
            raise BadFormat(f"byte {self.position}: {error}") from error

    def _commands(self) -> Iterator[tuple[int, list[bytes]]]:
        source = self._source
        self._read_head()
        database, deadline_ms = 0, -1
        while True:
            kind = source.byte()
            if is_value(kind):
                yield from self._read_key(kind, database, deadline_ms)
                deadline_ms = -1
            elif kind == DEADLINE_MS:
                deadline_ms = self._deadline(source.milliseconds())
            elif kind == DEADLINE:
                deadline_ms = self._deadline(1000 * source.number(4))
            elif kind == SELECT:
                database = source.length()
            elif kind == FUNCTION_2:
                yield 0, [b"FUNCTION", b"LOAD", b"REPLACE", source.whole_string()]
            elif kind == EOF:
                break
            else:
                self._skip(kind)
        self._read_checksum()

    def _read_head(self) -> None:
        head = self._source.take(HEAD_BYTES)
        if not is_snapshot(head):
            raise BadFormat("the file is no snapshot of Redis")
        self.version = int(head[len(MAGIC) :])
        if not 1 <= self.version <= NEWEST_VERSION:
            raise BadFormat(f"the snapshot has version {self.version}; versions 1 to {NEWEST_VERSION} can be read")

    def _read_key(self, kind: int, database: int, deadline_ms: int) -> Iterator[tuple[int, list[bytes]]]:
        source = self._source
        key = source.whole_string()
        self.keys += 1
        if kind == STRING:  # the usual case, in half the time
            words = [b"SET", key, source.whole_string()]
            yield database, words if deadline_ms < 0 else [*words, b"PXAT", b"%d" % deadline_ms]
            return
        try:
            for command in commands(kind, source, key):
                if command is not None:
                    yield database, command
        except EmptyValue:
            self.keys -= 1
            self.empty_keys += 1
            return
        except ModuleValue as error:
            raise ModuleValue(f"the key {str(key[:200])[1:]} has {error}; delete such keys in Redis first") from error
        if deadline_ms >= 0:
            yield database, [b"PEXPIREAT", key, b"%d" % deadline_ms]

    @staticmethod
    def _deadline(unix_ms: int) -> int:
        return min(max(unix_ms, 1), LATEST_MS)

    def _skip(self, kind: int) -> None:
        """Read what is not a key."""
        source = self._source
        if kind == AUX:
            name, value = source.whole_string(), source.whole_string()
            if name == b"redis-ver":
                self.written_by = value[:40].decode("ascii", "replace")
        elif kind == RESIZE:
            source.length(), source.length()
        elif kind == SLOT_INFO:
            source.length(), source.length(), source.length()
        elif kind == IDLE:
            source.length()
        elif kind == FREQUENCY:
            source.byte()
        elif kind == FUNCTION:
            self._skip_old_function()
            self._warn("functions (FUNCTION LOAD)")
        elif kind == MODULE_AUX:
            self._warn(f"data of the module {self._skip_module_data()}")
        else:
            raise BadFormat(f"byte {kind:#04x} begins nothing that is known")

    def _warn(self, what: str) -> None:
        self.warnings[what] = self.warnings.get(what, 0) + 1

    def _skip_old_function(self) -> None:
        source = self._source
        source.whole_string(), source.whole_string()  # the name, the engine
        if source.length():
            source.whole_string()  # a description
        source.whole_string()

    def _skip_module_data(self) -> str:
        source = self._source
        name = module_name(source.length())
        source.length(), source.length()  # when the data is to be loaded
        while True:
            kind = source.length()
            if kind == 0:
                return name
            if kind in (1, 2):
                source.length()
            elif kind == 3:
                source.take(4)
            elif kind == 4:
                source.take(8)
            elif kind == 5:
                source.whole_string()
            else:
                raise BadFormat("the data of a module is damaged")

    def _read_checksum(self) -> None:
        if self.version < CHECKED_SINCE:
            return
        checksum = self._source.checksum()
        expected = self._source.number(CHECKSUM_BYTES)
        if expected and expected != checksum:  # 0: Redis wrote none
            raise BadFormat("the checksum of the snapshot is wrong")
