"""Replay: it passes the commands of a log to `apply` in order, and distinguishes a torn tail from corruption.

1. It changes the file in two ways only: it cuts off a torn tail, which it moves to a file of its own, and it adds a
   batch with the time to an old text log that has none.
2. It does not know the keyspace. The format is in `log/reader.py`.

**Torn tail or corruption?** A crash leaves an unfinished unit and nothing whole after it. So a fault without a whole
batch after it is a torn tail; one with a whole batch after it is corruption, and the log is refused. An unfinished
batch with a value that looks like a batch is refused, too, which is safe. (Refused: a checksum of the head alone, to
distinguish a cut batch from a wrong length. The search for a whole batch is needed anyway.)

If the checksum of a batch is right but its payload is not a list of commands, or `apply` rejects one of them, this is
always corruption: a crash cannot cause it.

The module has more than 400 lines because what tells a torn tail from corruption has to be read together.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from errors import CommandError, DamagedLog, LogError
from log.reader import (
    BLOCK_BYTES,
    FIRST_LINK,
    HEAD,
    LONGEST_HEAD,
    SELECT_0,
    Fault,
    Kind,
    Unit,
    find_batch,
    find_command,
    frame,
    is_hole,
    is_text_log,
    link_of,
    linked,
    strictly,
    units,
)
from wire.files import NotRegular, open_regular

STARTED = re.compile(rb"[#*](?:[1-9]|\Z)")  # a first batch or command of which only the start was written
Link = bytes  # an alias, because the report has a field `bytes`
DATABASE = re.compile(rb"[0-9]{1,9}")
NUMBER = re.compile(rb"[+-]?[0-9]{1,15}")
Apply = Callable[[int, "list[bytes]"], None]
ApplyMany = Callable[[int, "Sequence[list[bytes]]"], bool]
MANY = 4  # commands; those of a smaller batch are applied one by one, which is faster
CONTROL = frozenset((b"SELECT", b"MULTI", b"EXEC"))


@dataclass
class ReplayReport:
    """The numbers of units that a replay has read, cut off or skipped."""

    commands: int = 0
    batches: int = 0
    bytes: int = 0
    foreign_commands: int = 0
    text_lines: int = 0
    skipped_lines: int = 0
    torn_bytes: int = 0
    torn_path: str = ""
    link: Link = FIRST_LINK  # the `previous` of the next batch


class Refused(Exception):
    """`apply` rejected a command: number `number` of the unit at `start`."""

    def __init__(self, start: int, number: int, text: str) -> None:
        super().__init__(text)
        self.start = start
        self.number = number
        self.text = text


class Player:
    """Applies units: it follows SELECT, queues the commands of a MULTI until its EXEC, and converts lines of text."""

    def __init__(
        self,
        apply: Apply,
        report: ReplayReport,
        text_ms: int,
        default_ttl_ms: int,
        apply_many: ApplyMany | None = None,
    ) -> None:
        self.multi_start = -1  # position of the open transaction
        self._apply = apply
        self._apply_many = apply_many
        self._report = report
        self._text_ms = text_ms
        self._default_ttl_ms = default_ttl_ms
        self._database = 0
        self._queue: list[tuple[int, int, int, list[bytes]]] = []

    def play(self, unit: Unit) -> None:
        """Apply the commands of a unit. Raises Fault or Refused."""
        if unit.kind is Kind.BATCH:
            self._play_batch(unit)
        elif unit.kind is Kind.COMMAND:
            self._report.foreign_commands += 1
            self._play_commands(unit)
        elif unit.kind is Kind.TEXT:
            self._play_line(unit)
        self._report.bytes = unit.end

    def finish(self) -> None:
        """Raise Fault if a transaction is open at the end of the log."""
        if self.multi_start >= 0:
            raise Fault(self._report.bytes, "the file ends inside a MULTI", incomplete=True)

    def _play_batch(self, unit: Unit) -> None:
        """Apply a batch. It starts in database 0 and must have an EXEC for each MULTI."""
        if self.multi_start >= 0:
            raise Fault(self.multi_start, "MULTI without EXEC before a batch", certain=True)
        self._report.batches += 1
        self._report.link = unit.link
        self._database = 0
        many = len(unit.commands) >= MANY
        if many and self._apply_many is not None and self._apply_many(0, unit.commands):
            self._report.commands += len(unit.commands)
        else:
            self._play_commands(unit)
        if self.multi_start >= 0:
            raise Fault(unit.start, "MULTI without EXEC in a batch", certain=True)

    def _play_line(self, unit: Unit) -> None:
        effect = text_effect(unit.commands[0], self._text_ms, self._default_ttl_ms)
        self._report.text_lines += 1
        if effect is None:
            self._report.skipped_lines += 1
        else:
            self._run(0, unit.start, 0, effect)

    def _play_commands(self, unit: Unit) -> None:
        for number, argv in enumerate(unit.commands):
            if argv[0].upper() in CONTROL:
                self._control(argv, unit, number)
            elif self.multi_start >= 0:
                self._queue.append((self._database, unit.start, number, argv))
            else:
                self._run(self._database, unit.start, number, argv)

    def _run(self, database: int, start: int, number: int, argv: list[bytes]) -> None:
        try:
            self._apply(database, argv)
        except CommandError as error:
            raise Refused(start, number, error.text.decode("utf-8", "replace")) from error
        self._report.commands += 1

    def _control(self, argv: list[bytes], unit: Unit, number: int) -> None:
        match [argv[0].upper(), *argv[1:]]:
            case [b"SELECT", database] if DATABASE.fullmatch(database):
                self._database = int(database)
            case [b"MULTI"] if self.multi_start < 0:
                self.multi_start = unit.start
            case [b"EXEC"] if self.multi_start >= 0:
                queue, self._queue, self.multi_start = self._queue, [], -1
                for queued in queue:
                    self._run(*queued)
            case _:
                text = b" ".join(argv)[:100].decode("utf-8", "replace")
                raise Refused(unit.start, number, f"{text!r} makes no sense here")


def text_effect(words: list[bytes], now_ms: int, default_ttl_ms: int) -> list[bytes] | None:
    """Return the effect of a line of the original program's log as a command; None if it had no effect.

    The original cut a value at its first space and read a missing one as empty. It logged `SETEX key value seconds`
    but documented `SETEX key seconds value`. So the word that is a number is the seconds; of two numbers, the first.
    """
    match words:
        case [b"DEL", key, *_]:
            return [b"DEL", key]
        case [b"SET", key, *rest]:
            value = rest[0] if rest else b""
            if not default_ttl_ms:
                return [b"SET", key, value]
            return [b"SET", key, value, b"PXAT", b"%d" % (now_ms + default_ttl_ms)]
        case [b"SETEX", key, first, second, *_]:
            seconds, value = (first, second) if NUMBER.fullmatch(first) else (second, first)
            if not NUMBER.fullmatch(seconds):
                return None
            if int(seconds) <= 0:  # the original stored a value that had expired already
                return [b"DEL", key]
            return [b"SET", key, value, b"PXAT", b"%d" % (now_ms + int(seconds) * 1000)]
    return None


def replay(
    path: str,
    apply: Apply,
    now_ms: int,
    default_ttl_ms: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    apply_many: ApplyMany | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> ReplayReport:
    """Pass every command of a log to `apply(database, argv)`, and cut off a torn tail. The caller holds the log's lock.

    A batch of many commands is passed to `apply_many` first. It returns True if it has applied the batch, and False if
    it has changed nothing. Raises DamagedLog for corruption, and LogError if the file cannot be used.

    Lines of text have no time. They get the time of the first batch after them. If there is none, they get `now_ms`,
    and a batch with that time is added, so that every later replay computes the same deadlines.
    """
    report = ReplayReport()
    try:
        file = open_log(path)
    except FileNotFoundError:
        return report
    with file:
        size = os.fstat(file.fileno()).st_size
        opening = file.read(BLOCK_BYTES)
        refuse_other_formats(path, opening)
        text = is_text_log(opening)
        dated = find_batch(file, 0, size) if text else None
        player = Player(apply, report, dated[1] if dated else now_ms, default_ttl_ms, apply_many)
        try:
            next_progress = 0
            for unit in linked(units(file, size, text, block_bytes)):
                player.play(unit)
                if progress is not None and unit.end >= next_progress:
                    progress(unit.end, size)
                    next_progress = unit.end + BLOCK_BYTES
            player.finish()
        except Refused as error:
            offset = error.start + _place(file, error)
            raise damaged(path, offset, f"the command there is refused: {error.text}") from error
        except OSError as error:
            raise cannot_use(path, error) from error
        except Fault as fault:
            _refuse_unless_torn(path, file, size, fault, report)
            cut = player.multi_start if player.multi_start >= 0 else fault.offset
            report.torn_path = _cut_off(path, file, cut)
            report.torn_bytes, report.bytes = size - cut, cut
    if text and not dated:
        batch = frame(SELECT_0, now_ms, report.link)
        _append(path, batch)
        report.link = link_of(batch)
    return report


def open_log(path: str) -> BinaryIO:
    """Open a log for reading. Raises FileNotFoundError if there is none, LogError if it cannot be used."""
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise
    except NotRegular:
        raise not_regular(path) from None
    except OSError as error:
        raise cannot_use(path, error) from error


def cannot_use(path: str, error: OSError) -> LogError:
    """Return the error that says what is wrong with a log's path, and what to do."""
    advice = {
        errno.EISDIR: "give a file, or the data directory of a Redis",
        errno.ENOENT: "create its directory first",
        errno.ENOTDIR: "a part of its path is a file; give another path",
        errno.EACCES: "let this user read and write it and its directory, or give another path",
        errno.EROFS: "give a path on a file system that can be written",
        errno.ENOSPC: "free some space there, or give another path",
    }.get(error.errno or 0, "give another path, or repair the disk")
    return LogError(f"the log {path} cannot be used: {error.strerror}; {advice}")


def not_regular(path: str) -> LogError:
    """Return the error that says that a log's path is a pipe or a device."""
    return LogError(f"the log {path} cannot be used: it is not a regular file; give another path")


def refuse_other_formats(path: str, opening: bytes) -> None:
    """Raise LogError for the files of Redis that are not a log of commands."""
    is_manifest = opening.startswith(b"file ") and b" type " in opening.partition(b"\n")[0]
    if is_manifest or opening.startswith(b"REDIS0"):
        what = "is the manifest of a Redis multi-part AOF" if is_manifest else "starts with a Redis snapshot (RDB)"
        raise LogError(f"{path} {what}; make a log of it: python godis.py import {path} --log log.txt")


def _refuse_unless_torn(path: str, file: BinaryIO, size: int, fault: Fault, report: ReplayReport) -> None:
    """Raise DamagedLog unless a fault is a torn tail of a log."""
    reason = why_corrupt(file, size, fault, report)
    if reason:
        raise damaged(path, fault.offset, reason)
    if not may_be_torn(file, fault, report):
        raise not_a_log(path, fault.reason)


def why_corrupt(file: BinaryIO, size: int, fault: Fault, report: ReplayReport) -> str:
    """Return the reason why a fault cannot be a torn tail; "" if it may be one. `report` counts the units before it."""
    if fault.certain:
        return fault.reason
    if find_batch(file, fault.offset + 1, size) and not is_hole(file, fault.offset, size):
        return f"{fault.reason}, and whole batches follow"
    file.seek(fault.offset)
    first = file.read(1)
    # After the head of a torn batch there are commands that belong to the batch; they do not count.
    outside = first == b"*" or (first != b"#" and report.foreign_commands > 0)
    if outside and find_command(file, fault.offset + 1, size):
        return f"{fault.reason}, and whole commands follow"
    return ""


def may_be_torn(file: BinaryIO, fault: Fault, report: ReplayReport) -> bool:
    """Return True if a fault with nothing whole after it is the end of a log and not of another kind of file."""
    if report.batches or report.foreign_commands or report.text_lines:
        return True
    file.seek(fault.offset)
    start = file.read(LONGEST_HEAD)
    return not start.strip(b"\0") or (STARTED if fault.incomplete else HEAD).match(start) is not None


def not_a_log(path: str, reason: str) -> DamagedLog:
    """Return the error that says that a file is not a log."""
    return DamagedLog(f"{path} is not a log ({reason}): nothing was changed; give another path")


def damaged(path: str, offset: int, reason: str) -> DamagedLog:
    """Return the error that says where a log is corrupt, and what to do."""
    return DamagedLog(
        f"the log {path} is damaged at byte {offset}: {reason}. Nothing was changed. Restore a backup; or run "
        f"`python godis.py check --repair {path}`, which drops what is damaged, says which keys that may change, and "
        "keeps the original"
    )


def _place(file: BinaryIO, refused: Refused) -> int:
    """Return the position of a refused command within its unit."""
    file.seek(refused.start)
    match = HEAD.match(file.read(LONGEST_HEAD))
    if match is None:
        return 0
    file.seek(refused.start + match.end())
    starts = [start for start, _ in strictly(file.read(int(match[1])))]
    return match.end() + starts[refused.number]


def _cut_off(path: str, file: BinaryIO, offset: int) -> str:
    """Move the bytes of a log from `offset` on to a new file. Return its path. Raises LogError."""
    torn_path = f"{path}.torn-{offset}"
    number = 0
    while os.path.lexists(torn_path):
        number += 1
        torn_path = f"{path}.torn-{offset}.{number}"
    try:
        with open(torn_path, "xb", opener=same_mode(file)) as torn:
            file.seek(offset)
            while block := file.read(BLOCK_BYTES):
                torn.write(block)
            torn.flush()
            os.fsync(torn.fileno())
        sync_directory(path)
        with open(path, "r+b") as log:
            log.truncate(offset)
            os.fsync(log.fileno())
    except OSError as error:
        raise LogError(
            f"cannot cut the torn end off {path} and keep it as {torn_path}: {error.strerror}; "
            "see that this user may write there and that there is space"
        ) from error
    return torn_path


def _append(path: str, data: bytes) -> None:
    try:
        with open(path, "ab") as log:
            log.write(data)
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise cannot_use(path, error) from error


def same_mode(file: BinaryIO) -> Callable[[str, int], int]:
    """Return an opener for `open` that gives a new file the mode of this one, without the umask.

    So a user who cannot read the log cannot read a copy of it.
    """
    mode = os.fstat(file.fileno()).st_mode & 0o777

    def create(path: str, flags: int) -> int:
        descriptor = os.open(path, flags, mode)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        return descriptor

    return create


def sync_directory(path: str) -> None:
    """Make a file's new name durable: fsync its directory, except on Windows."""
    if os.name == "nt":
        return
    descriptor = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
