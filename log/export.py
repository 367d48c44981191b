"""What is read of a log that stays as it is: a copy up to a time (`copy_until`), plain RESP (`export`), its commands.

1. It never changes the log itself, does not know the keyspace, and prints nothing.
2. It leaves out a torn tail, as a start of the server cuts it off.
3. It raises DamagedLog for corruption; `log/check.py` reads past it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import BinaryIO

from errors import LogError
from log.kept import kept_logs
from log.reader import BLOCK_BYTES, Fault, Kind, Unit, find_batch, is_text_log, linked, units
from log.replay import (
    Apply,
    ApplyMany,
    Player,
    Refused,
    ReplayReport,
    cannot_use,
    damaged,
    may_be_torn,
    not_a_log,
    open_log,
    refuse_other_formats,
    same_mode,
    sync_directory,
    why_corrupt,
)
from protocol import encode_command

Progress = Callable[[int, int], None]


def open_existing(path: str) -> BinaryIO:
    """Open a log for reading. Raises LogError, also if there is none."""
    try:
        return open_log(path)
    except FileNotFoundError as error:
        raise LogError(f"there is no file {path}") from error


def is_text(path: str, log: BinaryIO) -> bool:
    """Return True if an open file is a log of the original program. Raises LogError for Redis's other formats."""
    log.seek(0)
    opening = log.read(BLOCK_BYTES)
    refuse_other_formats(path, opening)
    return is_text_log(opening)


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


def whole_units(path: str, log: BinaryIO, text: bool, progress: Progress) -> Iterator[Unit]:
    """Yield the units of a log up to its end or its torn tail. Raises DamagedLog if it is corrupt."""
    size = os.fstat(log.fileno()).st_size
    counts = ReplayReport()
    next_progress = 0
    try:
        for unit in linked(units(log, size, text)):
            counts.batches += unit.kind is Kind.BATCH
            counts.foreign_commands += unit.kind is Kind.COMMAND
            counts.text_lines += unit.kind is Kind.TEXT
            if unit.end >= next_progress:
                progress(unit.end, size)
                next_progress = unit.end + BLOCK_BYTES
            yield unit
    except Fault as fault:
        reason = why_corrupt(log, size, fault, counts)
        if reason:
            raise damaged(path, fault.offset, reason) from fault
        if not may_be_torn(log, fault, counts):
            raise not_a_log(path, fault.reason) from fault


def log_that_reaches(path: str, until_ms: int) -> str:
    """Return the newest of the log and its kept logs that begins before `until_ms`; the log if none does."""
    try:
        candidates = [path, *reversed(kept_logs(os.path.realpath(path)))]
    except OSError:
        return path
    for candidate in candidates:
        with open_existing(candidate) as log:
            first = find_batch(log, 0, os.fstat(log.fileno()).st_size)
            if is_text(candidate, log) or (first is not None and first[1] < until_ms):
                return candidate
    return path


def units_until(path: str, log: BinaryIO, text: bool, until_ms: float, progress: Progress) -> Iterator[Unit]:
    """Yield the units of a log as it was before `until_ms`. Raises DamagedLog if what is read is corrupt.

    They end before the first batch of that time or later, even if the clock was set back afterwards: so they make a
    state that existed. Commands without a time belong to the batch before them, lines of text to the batch after them.
    """
    undated = text
    for unit in whole_units(path, log, text, progress):
        if unit.kind is Kind.BATCH:
            if unit.time_ms >= until_ms and not undated:
                return
            undated = False
        yield unit


def play_until(
    path: str,
    apply: Apply,
    now_ms: int,
    default_ttl_ms: int,
    progress: Progress = no_progress,
    *,
    until_ms: float = inf,
    apply_many: ApplyMany | None = None,
) -> ReplayReport:
    """Pass the commands of a log as it was before `until_ms` to `apply`, as `replay` does, and leave the file alone.

    The report's `torn_bytes` are those behind them. Raises LogError.
    """
    with open_existing(path) as log:
        size = os.fstat(log.fileno()).st_size
        text = is_text(path, log)
        dated = find_batch(log, 0, size) if text else None
        report = ReplayReport()
        player = Player(apply, report, dated[1] if dated else now_ms, default_ttl_ms, apply_many)
        try:
            for unit in units_until(path, log, text, until_ms, progress):
                player.play(unit)
        except Fault as fault:
            raise damaged(path, fault.offset, fault.reason) from fault
        except Refused as error:
            raise damaged(path, error.start, f"a command there is refused: {error.text}") from error
    report.torn_bytes = size - (player.multi_start if player.multi_start >= 0 else report.bytes)
    return report


def copy_until(path: str, until_ms: int, output: str, progress: Progress = no_progress) -> tuple[int, int]:
    """Write a log as it was before `until_ms` to a new file. Return its size and the time of its last batch.

    Raises LogError, also if the file exists.
    """
    with open_existing(path) as log:
        end = last_ms = 0
        for unit in units_until(path, log, is_text(path, log), until_ms, progress):
            end = unit.end
            if unit.kind is Kind.BATCH:
                last_ms = unit.time_ms
        log.seek(0)
        try:
            with open(output, "xb", opener=same_mode(log)) as copy:
                copy_range(log, end, copy)
                copy.flush()
                os.fsync(copy.fileno())
            sync_directory(output)
        except FileExistsError as error:
            raise LogError(f"{output} is there already: give the name of a new file") from error
        except OSError as error:
            with suppress(OSError):
                os.remove(output)
            raise cannot_use(output, error) from error
    return end, last_ms


def export(
    path: str,
    write: Callable[[bytes], object],
    now_ms: int,
    default_ttl_ms: int,
    progress: Progress = no_progress,
) -> int:
    """Write a log's commands as plain RESP, with a SELECT for each change of the database. Return the torn bytes.

    The output starts with a SELECT, and a transaction is written as its commands, so that any Redis can read it.
    """
    selected = -1

    def apply(database: int, argv: list[bytes]) -> None:
        nonlocal selected
        if database != selected:
            write(encode_command((b"SELECT", b"%d" % database)))
            selected = database
        write(encode_command(argv))

    return play_until(path, apply, now_ms, default_ttl_ms, progress).torn_bytes


def copy_range(log: BinaryIO, end: int, copy: BinaryIO) -> None:
    """Copy the bytes of `log` from its present position up to `end`."""
    while (rest := end - log.tell()) > 0 and (block := log.read(min(rest, BLOCK_BYTES))):
        copy.write(block)
