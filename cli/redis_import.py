"""A log out of the files of a Redis: `godis.py import`, and a start that finds such files and no log yet.

1. The new log is written beside the place of the log, and takes its name when it is complete and on the disk. A log
   that was there gets the name of one that a rewrite replaced, so that `check --until` finds it.
2. Each command is run as a start would run it. So a log that was made can be loaded.
3. Redis's files are only read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import time

from aof import AppendOnlyLog
from cli.log_tools import WHOLE, Keys
from cli.progress import Progress
from config import Config
from errors import LogError
from log.effects import LARGE_BYTES
from log.export import is_text, no_progress, open_existing, whole_units
from log.kept import keep
from log.lock import newest_claimed, written_at
from log.redis_files import RedisFiles, RedisReport, find, read
from log.replay import Apply, ApplyMany, Player, ReplayReport, cannot_use
from net.rate_limit import printable
from values.entry import NO_DEADLINE

BATCH_PIECES = 512
LOG_NAME = "log.txt"

logger = logging.getLogger("godis")


def import_redis(config: Config, path: str, replace: bool) -> int:
    """Make a log of a Redis's files, print what it holds, and return the exit code. Raises LogError."""
    files = find(path)
    if files is None:
        raise LogError(f"{path} is neither a file of Redis (a snapshot, an AOF or its manifest) nor its directory")
    was_there = os.path.lexists(config.log)
    log = AppendOnlyLog(config.log, "import")
    log.open()
    try:
        if not replace:
            _require_no_keys(config)
        now_ms = int(time() * 1000)
        keys = Keys(config, now_ms)
        progress = Progress(f"reading {path}")
        try:
            report = make_log(log, files, keys.apply, keys.apply_many, now_ms, progress.show)
        finally:
            progress.clear()
    except BaseException:
        if not was_there:
            with suppress(OSError):
                os.unlink(log.real_path)
        raise
    finally:
        log.close()
    for part in files.parts:
        print(printable(f"read       {part}"))
    for line in remarks(files, report):
        print(printable(f"           {line}"))
    print(printable(f"{config.log}: {log.size_bytes} bytes"))
    print(f"commands   {report.commands}")
    print(f"keys       {keys.describe()}")
    if report.highest_database >= config.databases:
        print(f"           start with --databases {report.highest_database + 1} or more")
    return WHOLE


def files_beside(config: Config) -> RedisFiles | None:
    """Return the files of a Redis that a start takes over: beside its log, or in --data-dir. Raises LogError.

    None if there are none, or if a log is there already.
    """
    if written_at(config.log) or (config.data_dir and newest_claimed(config.data_dir)[0]):
        return None
    return find(config.data_dir or os.path.dirname(config.log) or ".")


def remarks(files: RedisFiles, report: RedisReport) -> list[str]:
    """Return what a user should know of an import: what was left out."""
    lines = [f"left out: {what} ({count})" for what, count in sorted(report.left_out.items())]
    if report.torn_bytes:
        lines.append(f"left out: the last {report.torn_bytes} bytes, which are no whole command")
    if files.unread:
        lines.append(f"not read: {files.unread}, because a Redis that has an AOF does not read it")
    return lines


def _require_no_keys(config: Config) -> None:
    """Raise LogError if the log holds keys."""
    if not written_at(config.log):
        return
    keys = Keys(config, int(time() * 1000))
    with open_existing(config.log) as log:
        player = Player(keys.apply, ReplayReport(), 0, 0)
        for unit in whole_units(config.log, log, is_text(config.log, log), no_progress):
            player.play(unit)
    if keys.count():
        raise LogError(
            f"the log {config.log} holds {keys.count()} keys: give another one with --log, or --replace to keep it "
            "aside and put the new one in its place"
        )


def make_log(
    log: AppendOnlyLog,
    files: RedisFiles,
    apply: Apply,
    apply_many: ApplyMany,
    now_ms: int,
    progress: Callable[[int, int], None],
) -> RedisReport:
    """Apply all commands of a Redis's files, and put a log of them in the place of an open one. Raises LogError."""
    try:
        reader = log.open_to_read()
        successor = log.start_successor()
    except OSError as error:
        raise cannot_use(log.path, error) from error

    def run(database: int, argv: list[bytes]) -> None:
        apply(database, argv)
        successor.append(database, argv)
        if len(successor.pieces) >= BATCH_PIECES or len(successor.pieces[-1]) > LARGE_BYTES:
            _write(successor, now_ms)

    def run_sets(database: int, batch: Sequence[list[bytes]]) -> bool:
        if not apply_many(database, batch):
            return False
        _, names, values = zip(*batch, strict=True)
        successor.append_sets(database, names, values, NO_DEADLINE)
        _write(successor, now_ms)
        return True

    try:
        report = read(files, run, run_sets, progress)
        _write(successor, now_ms)
        successor.fsync()
        if successor.failure is not None:
            raise LogError(f"the log {log.path} cannot be written: {successor.failure.decode(errors='replace')}")
        log.measure()
        if log.written_bytes:
            keep(log.real_path, now_ms)
        log.succeed(successor, reader)
        log.link = successor.link
        log.fsync()
        if log.failure is not None:
            raise LogError(f"the log {log.path} cannot be written: {log.failure.decode(errors='replace')}")
    except OSError as error:
        raise cannot_use(log.path, error) from error
    finally:
        reader.close()
        successor.close_removed()
        with suppress(OSError):
            os.unlink(successor.path)
    return report


def _write(log: AppendOnlyLog, now_ms: int) -> None:
    for _ in log.write_records(log.take_records(), now_ms, b""):
        pass
