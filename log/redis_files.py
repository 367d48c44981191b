"""The files that a Redis leaves in its data directory, found and read as commands. Nothing here changes them.

    appendonlydir/*.manifest     Redis 7: names a base, which is a snapshot or commands, and the commands since then
    appendonly.aof               before Redis 7: commands, behind a snapshot or not
    dump.rdb                     a snapshot

Where there are several, the first of these counts: a Redis that has an AOF reads nothing else. A part is read as a
snapshot if it begins as one, and the rest as commands. The last part may end inside a command, as a crash leaves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from glob import escape, glob
from typing import BinaryIO, NamedTuple

from errors import CommandError, DamagedLog, LogError
from log.reader import BLOCK_BYTES, Fault, Kind, units
from log.replay import Apply, ApplyMany, Player, Refused, ReplayReport
from rdb.snapshot import HEAD_BYTES, Snapshot, is_snapshot
from rdb.source import BadFormat
from wire.files import NotRegular, open_regular

AOF_DIRECTORY, OLD_AOF, SNAPSHOT = "appendonlydir", "appendonly.aof", "dump.rdb"
MANIFEST_LINE = re.compile(rb'file ("(?:[^"\\]|\\.)*"|\S+) seq [0-9]+ type ([bhi])(?: .*)?')
ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})|\\(.)", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
MOST_MANIFEST_BYTES = 1 << 20
BASE, PART = b"b", b"i"  # the types of a manifest; the third, history, is not read
FUNCTION = b"FUNCTION"
SET, SET_WORDS = b"SET", 3  # without a deadline
MOST_SETS = 256  # run together
LONG_BYTES = 1 << 12  # a longer value is run alone

Progress = Callable[[int, int], None]


class RedisFiles(NamedTuple):
    """The files of a Redis: those to read, in order, and the snapshot that an AOF makes superfluous, or ""."""

    parts: list[str]
    unread: str = ""

    def size_bytes(self) -> int:
        """Return the size of all parts. Raises LogError."""
        try:
            return sum(map(os.path.getsize, self.parts))
        except OSError as error:
            raise _cannot_read(os.fsdecode(error.filename), error) from error


class RedisReport:
    """What was read, and what was left out, and how often."""

    def __init__(self) -> None:
        self.commands = 0
        self.left_out: dict[str, int] = {}
        self.torn_bytes = 0
        self.highest_database = 0

    def leave_out(self, what: str, count: int = 1) -> None:
        """Count something that is not kept."""
        self.left_out[what] = self.left_out.get(what, 0) + count


# ---- finding


def find(path: str) -> RedisFiles | None:
    """Return the files of the Redis whose data directory, or one of whose files, is at `path`. Raises LogError."""
    if not os.path.isdir(path):
        return _of_file(path)
    for directory in (os.path.join(path, AOF_DIRECTORY), path):
        manifests = sorted(glob(os.path.join(escape(directory), "*.aof.manifest")))
        if len(manifests) > 1:
            raise LogError(f"{directory} has {len(manifests)} manifests: give the one that counts")
        if manifests:
            return RedisFiles(read_manifest(manifests[0]), _if_there(path, SNAPSHOT))
    if found := _if_there(path, OLD_AOF):
        return RedisFiles([found], _if_there(path, SNAPSHOT))
    if found := _if_there(path, SNAPSHOT):
        return RedisFiles([found])
    return None


def _if_there(directory: str, name: str) -> str:
    path = os.path.join(directory, name)
    return path if os.path.isfile(path) else ""


def _of_file(path: str) -> RedisFiles | None:
    with _open(path) as file:
        opening = file.read(BLOCK_BYTES)
    if is_manifest(opening):
        return RedisFiles(read_manifest(path))
    return RedisFiles([path]) if is_snapshot(opening) or opening[:1] in (b"*", b"#") else None


def is_manifest(opening: bytes) -> bool:
    """Return True if a file with this beginning is the manifest of an AOF in parts."""
    return opening.startswith(b"file ") and b" type " in opening.partition(b"\n")[0]


def read_manifest(path: str) -> list[str]:
    """Return the paths of a manifest's base and of the parts after it. Raises LogError."""
    with _open(path) as file:
        text = file.read(MOST_MANIFEST_BYTES)
    parts: dict[bytes, list[str]] = {BASE: [], PART: []}
    for line in text.splitlines():
        if not line or line.startswith(b"#"):
            continue
        match = MANIFEST_LINE.fullmatch(line)
        name = os.fsdecode(_unquoted(match[1])) if match else ""
        if match is None or os.path.basename(name) != name:
            raise DamagedLog(
                f"{path} is no manifest of Redis: it has the line {line[:200].decode('utf-8', 'replace')!r}"
            )
        parts.get(match[2], []).append(os.path.join(os.path.dirname(path), name))
    return parts[BASE] + parts[PART]


def _unquoted(word: bytes) -> bytes:
    if not word.startswith(b'"'):
        return word
    return ESCAPE.sub(
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else ESCAPED.get(found[2], found[2]), word[1:-1]
    )


# ---- reading


def read(files: RedisFiles, apply: Apply, apply_many: ApplyMany, progress: Progress) -> RedisReport:
    """Pass every command of all parts to `apply(database, argv)`. Raises DamagedLog and LogError.

    Many SETs of a snapshot are passed to `apply_many` first, which returns False if it has done nothing.
    """
    report, total, before = RedisReport(), files.size_bytes(), 0
    for path in files.parts:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            part = _Part(path, file, size, apply, apply_many, report)
            try:
                part.read(partial(_shift, progress, before, total), is_last=path == files.parts[-1])
            except OSError as error:
                raise _cannot_read(path, error) from error
            before += size
    return report


def _shift(progress: Progress, before: int, total: int, done: int) -> None:
    """Show the progress of one part as that of all."""
    progress(before + done, total)


class _Part:
    """One file."""

    def __init__(
        self, path: str, file: BinaryIO, size: int, apply: Apply, apply_many: ApplyMany, report: RedisReport
    ) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._apply = apply
        self._apply_many = apply_many
        self._report = report

    def read(self, progress: Callable[[int], None], is_last: bool) -> None:
        """Pass all commands of the file to `apply`."""
        start = 0
        if is_snapshot(self._file.read(HEAD_BYTES)):
            start = self._read_snapshot(progress)
        self._read_commands(start, progress, is_last)

    def _run(self, database: int, argv: list[bytes]) -> None:
        if argv[0].upper() == FUNCTION:
            self._keep_functions(database, argv)
            return
        self._report.commands += 1
        self._report.highest_database = max(self._report.highest_database, database)
        self._apply(database, argv)

    def _keep_functions(self, database: int, argv: list[bytes]) -> None:
        """Keep a library of functions, unless it is of another engine."""
        try:
            self._apply(database, argv)
            self._report.commands += 1
        except CommandError:
            self._report.leave_out("functions (FUNCTION LOAD)")

    def _run_sets(self, database: int, batch: list[list[bytes]]) -> None:
        """Run SETs without a deadline together: most keys of most snapshots."""
        if len(batch) > 1 and self._apply_many(database, batch):
            self._report.commands += len(batch)
            self._report.highest_database = max(self._report.highest_database, database)
        else:
            for argv in batch:
                self._run(database, argv)
        batch.clear()

    def _read_snapshot(self, progress: Callable[[int], None]) -> int:
        snapshot = Snapshot(self._file, self._size)
        sets: list[list[bytes]] = []
        sets_database = 0
        try:
            for database, argv in snapshot.commands():
                is_set = argv[0] == SET and len(argv) == SET_WORDS and len(argv[2]) <= LONG_BYTES
                if sets and (not is_set or database != sets_database or len(sets) == MOST_SETS):
                    self._run_sets(sets_database, sets)
                    progress(snapshot.position)
                if is_set:
                    sets_database = database
                    sets.append(argv)
                else:
                    self._run(database, argv)
            self._run_sets(sets_database, sets)
        except BadFormat as error:
            raise DamagedLog(f"the snapshot {self._path} cannot be read: {error}") from error
        except CommandError as error:
            reason = f"a command there is refused: {error.text.decode('utf-8', 'replace')}"
            raise self._damaged(snapshot.position, reason) from error
        for what, count in snapshot.warnings.items():
            self._report.leave_out(what, count)
        if snapshot.empty_keys:
            self._report.leave_out("keys without a value", snapshot.empty_keys)
        return snapshot.position

    def _read_commands(self, start: int, progress: Callable[[int], None], is_last: bool) -> None:
        counts = ReplayReport()
        player = Player(self._run, counts, 0, 0)
        next_progress = start
        end = start
        try:
            for unit in units(self._file, self._size, start=start):
                if unit.kind is Kind.TEXT:
                    raise Fault(unit.start, "neither a snapshot nor commands", certain=True)
                player.play(unit)
                end = unit.end
                if unit.end >= next_progress:
                    progress(unit.end)
                    next_progress = unit.end + BLOCK_BYTES
            player.finish()
        except Refused as error:
            raise self._damaged(error.start, f"the command there is refused: {error.text}") from error
        except Fault as fault:
            if not is_last or not fault.incomplete or fault.certain:
                raise self._damaged(fault.offset, fault.reason) from fault
            end = player.multi_start if player.multi_start >= 0 else fault.offset
        self._report.torn_bytes = self._size - end

    def _damaged(self, offset: int, reason: str) -> DamagedLog:
        return DamagedLog(f"{self._path} cannot be read at byte {offset}: {reason}. No log was made of it")


def _open(path: str) -> BinaryIO:
    try:
        return open_regular(path)
    except NotRegular:
        raise LogError(f"{path} cannot be read: it is not a regular file") from None
    except OSError as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: str, error: OSError) -> LogError:
    return LogError(f"{path} cannot be read: {error.strerror}")
