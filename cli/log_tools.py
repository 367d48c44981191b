"""The subcommands for logs: `check`, with --repair or --until, and `export`.

1. This module owns their output and exit codes: WHOLE; FAULTY for a damaged log; UNUSABLE for a request that cannot be
   carried out, because the file is missing or in use.
2. It does not know the log's format. `log/check.py` examines and repairs, `log/export.py` copies. A keyspace in memory
   counts the keys.
3. Only a repair takes the log's lock. A log in use may be checked, copied and exported; a write may then be in progress
   at its end.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from time import time
from typing import BinaryIO

from aof import LogLock, NullLog
from cli.progress import Progress
from commands import TABLE
from config import Config
from engine import Engine
from errors import DamagedLog, LogError
from log.check import Examiner, Findings, Loss, repair
from log.export import copy_until, export, log_that_reaches, no_progress, open_existing
from log.lock import in_use, lock_log
from log.reader import SOME_COMMAND, Damage, Incomplete, read_command
from log.replay import DATABASE, not_a_log
from net.rate_limit import printable
from session import Instance
from store import Keyspace, Store

WHOLE, FAULTY, UNUSABLE = 0, 1, 2
MOST_DATABASES = 100_000
MOST_LOST_BYTES = 16 << 20  # of a loss, searched for the names of its keys
MOST_LOST_KEYS = 1000  # named for each loss
LONGEST_KEY = 200  # a damaged length can make a key of any size
MOST_FAULTS = 100  # described in the output
CUT_COMMAND = re.compile(rb"\*[0-9]+\r\n\$[0-9]+\r\n([A-Za-z]{1,30})\r\n\$([0-9]{1,10})\r\n")


class Keys:
    """The keyspace at the end of a log. It grows by databases as the log names them."""

    def __init__(self, config: Config, now_ms: int) -> None:
        self._now_ms = now_ms
        self._store = Store(config.databases, NullLog())
        self._engine = Engine(Instance(self._store, NullLog(), config, "check", run_id="", started_ms=now_ms))
        self._store.begin_replay(now_ms)

    def apply(self, db: int, argv: list[bytes]) -> None:
        """Run an effect. Raises CommandError if it is refused."""
        swaps = argv[0] == b"SWAPDB" and all(map(DATABASE.fullmatch, argv[1:]))
        highest = max(db, *map(int, argv[1:])) if swaps else db
        databases = self._store.databases
        while len(databases) <= min(highest, MOST_DATABASES):
            databases.append(Keyspace(self._store, len(databases)))
        self._engine.apply(db, argv)

    def apply_many(self, db: int, batch: Sequence[list[bytes]]) -> bool:
        """Run many effects at once. Return False, and do nothing, if they must be run one by one."""
        return db < len(self._store.databases) and self._engine.apply_many(db, batch)

    def count(self) -> int:
        """Return the number of keys, expired or not."""
        return sum(map(len, self._store.databases))

    def describe(self) -> str:
        """Return the number of keys, and how many of them have expired."""
        keys = self.count()
        self._store.tick(self._now_ms)
        expired = keys - sum(database.live_count() for database in self._store.databases)
        return f"{keys} at the end of the log" + (f"; {expired} of them have expired since" if expired else "")


def check(config: Config, path: str, do_repair: bool) -> int:
    """Print the contents and faults of a log, repair it if asked to, and return the exit code. Raises LogError."""
    open_existing(path).close()  # so that no lock file is created for a missing log
    lock = LogLock(path, "check --repair")
    if do_repair:
        lock.take()
    try:
        with open_existing(path) as log:
            if do_repair and not lock_log(log.fileno()):
                raise in_use(path, f"another process, whose {path}.lock was removed")
            found, keys = _examine(config, path, log)
            _describe(path, log, found, keys)
        if not found.losses:
            return WHOLE
        if not do_repair or not found.is_log:
            return FAULTY
        kept = repair(path, found, partial(_examine_copy, config))
        print(printable(f"repaired; the original is {kept}"))
        return WHOLE
    finally:
        lock.release()


def _examine(config: Config, path: str, log: BinaryIO) -> tuple[Findings, Keys]:
    now_ms = int(time() * 1000)
    keys = Keys(config, now_ms)
    progress = Progress(f"reading {path}")
    try:
        return Examiner(path, log, keys.apply, now_ms, config.default_ttl_seconds * 1000).examine(progress.show), keys
    finally:
        progress.clear()


def _examine_copy(config: Config, path: str) -> Findings:
    with open_existing(path) as log:
        return _examine(config, path, log)[0]


def _describe(path: str, log: BinaryIO, found: Findings, keys: Keys) -> None:
    counts = found.counts
    print(printable(f"{path}: {found.size} bytes"))
    print(f"batches    {counts.batches}")
    print(f"commands   {counts.commands}")
    if counts.text_lines:
        print(
            f"lines      {counts.text_lines} of the original program, {counts.skipped_lines} of which are no commands"
        )
    print(f"keys       {keys.describe()}")
    if found.first_ms:
        print(f"first      {show_time(found.first_ms)}")
        print(f"last       {show_time(found.last_ms)}")
    if not found.is_log:
        print(printable(f"fault      {not_a_log(path, found.losses[-1].reason)}"))
        return
    for loss in found.losses[:MOST_FAULTS]:
        for line in _describe_loss(log, loss):
            print(printable(line))
    if len(found.losses) > MOST_FAULTS:
        print(f"           and {len(found.losses) - MOST_FAULTS} faults more")
    if not found.losses:
        print("whole")
    elif found.only_torn:
        print("torn tail: a start cuts it off, too, and keeps it aside")
        if holder := _holder(path):
            print(printable(f"           or a write that was going on: {holder}"))
    else:
        print("corrupt: a start refuses it; these counts are of what --repair keeps")


def _describe_loss(log: BinaryIO, loss: Loss) -> Iterator[str]:
    yield f"fault      at byte {loss.start}: {loss.reason}"
    if loss.dropped:
        yield f"           lost: the refused commands alone, {len(loss.dropped)} of them"
        lines = [line for db, argv in loss.dropped for line in keys_of(f"db {db}", argv)]
        unread = 0
    else:
        if loss.start == loss.end:
            yield "           nothing of what is there is lost"
            return
        what = "the torn end" if loss.torn else "lost"
        yield f"           {what}: bytes {loss.start} to {loss.end} ({loss.end - loss.start})"
        log.seek(loss.start)
        data = log.read(min(loss.end - loss.start, MOST_LOST_BYTES))
        lines, unread = lost_keys(data)
        unread += loss.end - loss.start - len(data)
    for line in list(dict.fromkeys(lines))[:MOST_LOST_KEYS]:
        yield f"           may have touched {line}"
    if len(lines) > MOST_LOST_KEYS:
        yield f"           and more: only the first {MOST_LOST_KEYS} are named"
    if unread:
        yield f"           {unread} bytes of it cannot be read: they may have touched others"


def lost_keys(data: bytes) -> tuple[list[str], int]:
    """Return the keys that damaged bytes may name, each with its database, and the number of unreadable bytes."""
    lines: list[str] = []
    place = "db 0" if data[:1] == b"#" else "db ?"
    position, known = 0, data.find(b"\n") + 1 if data[:1] == b"#" else 0
    while (match := SOME_COMMAND.search(data, position)) is not None:
        try:
            argv, position = read_command(data, match.start())
            known += position - match.start()
        except (Incomplete, Damage):
            position = match.end()
            cut = CUT_COMMAND.match(data, match.start())
            key = data[cut.end() : cut.end() + int(cut[2])] if cut else b""
            argv = [cut[1], key] if cut and key else []
        if argv and argv[0].upper() == b"SELECT":
            place = f"db {argv[-1].decode('ascii', 'replace')}"
        elif argv:
            lines += keys_of(place, argv)
    return lines, len(data) - known


def keys_of(place: str, argv: list[bytes]) -> list[str]:
    """Return a line for each key that a command may change."""
    row = TABLE.get(argv[0].upper())
    row = row and row.of(argv)
    if row is None or row.name in (b"MULTI", b"EXEC"):  # None: the name is damaged
        keys = argv[1:2]
    elif not row.has_keys:
        return [f"{place}: all that {row.name.decode()} changes"]
    else:
        keys = row.key_arguments(argv) or argv[1:2]
    return [f"{place}: {str(key[:LONGEST_KEY])[1:]}{'…' * (len(key) > LONGEST_KEY)}" for key in keys]


def _holder(path: str) -> str:
    """Return a sentence about the process that uses a log, or an empty string."""
    if os.path.exists(os.path.realpath(path) + ".lock"):
        lock = LogLock(path, "check")
        try:
            lock.take()
        except LogError as error:
            return str(error).partition(": ")[0]
        lock.release()
    with open_existing(path) as log:
        return "" if lock_log(log.fileno()) else f"the log {path} is in use by another process"


def cut(path: str, text: str, output: str) -> int:
    """Write the log as it was just before a time to a new file. Raises LogError."""
    until_ms = parse_moment("--until", text)
    source = log_that_reaches(path, until_ms)
    progress = Progress(f"reading {source}")
    try:
        size, last_ms = copy_until(source, until_ms, output, progress.show)
    finally:
        progress.clear()
    print(printable(f"{output}: {size} bytes, as of {show_time(until_ms)}"))
    print(f"last       {show_time(last_ms)}" if last_ms else "           no batch is that old")
    if source != path:
        print(printable(f"from       {source}, which a rewrite replaced"))
    return WHOLE


def parse_moment(flag: str, text: str) -> int:
    """Do what `parse_time` does for the value of a flag. Raises LogError."""
    try:
        return parse_time(text)
    except (ValueError, OverflowError, OSError) as error:  # the latter two for years out of the system's range
        raise LogError(f"{flag}: {text!r} is no time: give Unix seconds or ms, or 2026-11-23T15:04:05") from error


def parse_time(text: str) -> int:
    """Parse Unix seconds, Unix ms (12 digits or more) or ISO 8601, by default in local time; return Unix ms."""
    if re.fullmatch(r"[0-9]{12,14}", text):
        return int(text)
    if re.fullmatch(r"[0-9]{1,11}(\.[0-9]+)?", text):
        return round(float(text) * 1000)
    return round(datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text)).timestamp() * 1000)


def show_time(unix_ms: int) -> str:
    """Format a time in ISO 8601 and local time, as --until accepts it."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000).astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # a batch's time may have 14 digits, a year out of range
        return f"{unix_ms} (Unix ms)"


def export_log(config: Config, path: str) -> int:
    """Write a log's commands to stdout as plain RESP. Raises LogError."""
    progress = Progress(f"exporting {path}")
    show = no_progress if sys.stdout.isatty() else progress.show  # on a terminal it would mix with the commands
    try:
        torn_bytes = export(path, sys.stdout.buffer.write, int(time() * 1000), config.default_ttl_seconds * 1000, show)
        sys.stdout.buffer.flush()
    finally:
        progress.clear()
    if torn_bytes:
        text = f"godis: the last {torn_bytes} bytes of {path} are no whole batch and are left out"
        print(printable(text), file=sys.stderr)
    return WHOLE


def silence_stdout() -> None:
    """Redirect stdout to the null device, so that the exit flush does not fail after a broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(error: LogError) -> int:
    """Return FAULTY for a damaged log, and UNUSABLE for any other error."""
    return FAULTY if isinstance(error, DamagedLog) else UNUSABLE
