"""Check and repair of a log: it finds all damage, and writes a copy without the damaged parts.

1. It continues after a fault, where replay refuses the log.
2. It does not know the keyspace (the caller passes an `apply`) and prints nothing.
3. Its memory is bounded by a block, the largest unit and the list of losses.

The format is in `log/reader.py`; `log/replay.py` distinguishes a torn tail from corruption.

    sound | lost | sound | lost, except some commands | sound | torn tail
            `Loss`         `Loss` that `keeps` a batch          `Loss`, torn

**Where it continues after a fault.** If the head of the damaged batch is readable and its length leads to another head
or to the end of the file, it continues there, so that no part of the batch's payload is read as a batch. Otherwise it
continues at the next whole batch, unless the bytes after that batch show that it is inside a value. It never continues
at a command outside a batch: such commands have no checksum, and the lost bytes may have held a SELECT or a MULTI.
redis-check-aof stops there, too.

**The loss of a batch may make a later command fail**, such as a RENAME whose key is missing. A replay would refuse the
log. So the command is removed from its batch, and the copy is checked before it replaces the log.

**If a batch does not follow the one before it**, nothing is dropped: both batches are whole, and nothing shows which of
them is in the wrong place. The copy gets an empty batch between the two that joins the chain. It also gets one where a
batch was dropped.

(Refused: to repair bits by the checksum. It would find some bit that fits, not the right one.)
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import BinaryIO

from errors import CommandError
from log.export import Progress, copy_range, is_text, no_progress
from log.reader import (
    BLOCK_BYTES,
    FIRST_LINK,
    HEAD,
    LONGEST_HEAD,
    SELECT_0,
    UNLINKED,
    Fault,
    Kind,
    Unit,
    find_batch,
    frame,
    units,
)
from log.replay import (
    CONTROL,
    Apply,
    Player,
    Refused,
    ReplayReport,
    cannot_use,
    may_be_torn,
    same_mode,
    sync_directory,
    why_corrupt,
)
from protocol import encode_command


@dataclass
class Loss:
    """Bytes of a log that a replay rejects, and the batch that replaces them, if any."""

    start: int
    end: int
    reason: str
    torn: bool = False
    dropped: list[tuple[int, list[bytes]]] = field(default_factory=list)  # of a sound batch; empty if all is lost
    keeps: bytes = b""  # a batch with the commands that are not lost, or one that joins the chain


@dataclass
class Findings:
    """The result of a check: the counts of what is sound, and the losses."""

    size: int
    counts: ReplayReport = field(default_factory=ReplayReport)
    first_ms: int = 0
    last_ms: int = 0
    losses: list[Loss] = field(default_factory=list)
    is_log: bool = True

    @property
    def only_torn(self) -> bool:
        """Return True if a start of the server would repair all faults by itself."""
        return all(loss.torn for loss in self.losses)


# Reading past faults


class Examiner:
    """Passes all whole units of a log to `apply`, and lists the losses."""

    def __init__(self, path: str, file: BinaryIO, apply: Apply, now_ms: int, default_ttl_ms: int) -> None:
        self._file = file
        self._apply = apply
        self._default_ttl_ms = default_ttl_ms
        self._refused: list[tuple[int, list[bytes]]] = []  # by `apply`, in this unit
        self._refusal = ""
        self._link = FIRST_LINK  # of the last batch that is kept
        self._has_gap = False  # the last loss followed that batch
        size = os.fstat(file.fileno()).st_size
        self._text = is_text(path, file)
        dated = find_batch(file, 0, size) if self._text else None
        self._text_ms = dated[1] if dated else now_ms
        self.found = Findings(size)

    def examine(self, progress: Progress = no_progress) -> Findings:
        """Read the log to its end."""
        position = 0
        while position < self.found.size:
            position = self._read_from(position, progress)
        return self.found

    def _read_from(self, start: int, progress: Progress) -> int:
        """Read up to the next loss and add it to the list. Return the position at which to continue."""
        found = self.found
        player = Player(self._try, found.counts, self._text_ms, self._default_ttl_ms)
        next_progress = start
        text = self._text and start == 0
        try:
            for unit in units(self._file, found.size, text, start=start):
                known = len(found.losses)
                loss = self._play(player, unit)
                if unit.kind is Kind.BATCH:
                    found.first_ms = found.first_ms or unit.time_ms
                    found.last_ms = unit.time_ms
                if loss is not None:
                    return self._add_loss(loss)
                if unit.kind is Kind.BATCH:
                    self._join(unit, known)
                if unit.end >= next_progress:
                    progress(unit.end, found.size)
                    next_progress = unit.end + BLOCK_BYTES
            player.finish()
        except Fault as fault:
            return self._add_loss(self._loss_of(fault, player.multi_start))
        return found.size

    def _join(self, unit: Unit, known: int) -> None:
        """Join a batch to the last one that is kept, if it does not follow it. If no loss is between the two, add one.

        `known` is the number of losses before the batch. If there is one more, it is of commands in the batch.
        """
        losses = self.found.losses
        if len(losses) > known and not losses[-1].keeps:
            self._has_gap = True
            return
        if unit.previous and unit.previous != self._link:
            if not self._has_gap:
                losses.insert(known, Loss(unit.start, unit.start, UNLINKED))
                known += 1
            losses[known - 1].keeps = frame(SELECT_0, unit.time_ms, self._link, unit.previous)
        self._link = unit.link
        self._has_gap = False

    def _add_loss(self, loss: Loss) -> int:
        self._has_gap = True
        losses = self.found.losses
        if losses and losses[-1].end == loss.start and not (losses[-1].dropped or loss.dropped or loss.torn):
            losses[-1].end = loss.end
        else:
            losses.append(loss)
        return loss.end

    def _try(self, database: int, argv: list[bytes]) -> None:
        try:
            self._apply(database, argv)
        except CommandError as error:
            self._refused.append((database, argv))
            self._refusal = error.text.decode("utf-8", "replace")
            self.found.counts.commands -= 1

    def _play(self, player: Player, unit: Unit) -> Loss | None:
        """Apply a unit. Return a loss if reading must start anew after it."""
        start = player.multi_start if player.multi_start >= 0 else unit.start
        unit = unit._replace(commands=list(unit.commands))  # so that a refused command keeps its identity
        self._refused.clear()
        try:
            player.play(unit)
        except Fault as fault:  # a MULTI without EXEC, before this batch or in it
            if fault.offset == unit.start:
                return Loss(unit.start, unit.end, fault.reason)
            return Loss(fault.offset, unit.start, fault.reason)
        except Refused as error:  # SELECT, MULTI, EXEC: the meaning of the commands after it depends on it
            reason = f"a command there is refused: {error.text}"
            return Loss(start, unit.end if unit.kind is Kind.BATCH else self._next_batch(unit.end), reason)
        if self._refused:
            self._drop_refused(unit, start)
        return None

    def _drop_refused(self, unit: Unit, start: int) -> None:
        """Remove refused commands from their batch. A transaction outside a batch, by a Redis, is lost as a whole."""
        refused = {id(argv) for _, argv in self._refused}
        keeps = b""
        if unit.kind is Kind.BATCH:
            kept = [argv for argv in unit.commands if id(argv) not in refused]
            if any(argv[0].upper() not in CONTROL for argv in kept):
                payload = b"".join(map(encode_command, kept))
                keeps = frame(payload, unit.time_ms, unit.previous or self._link, unit.link, unit.client)
        reason = f"a command there is refused: {self._refusal}"
        self.found.losses.append(Loss(start, unit.end, reason, dropped=[*self._refused], keeps=keeps))

    # After a fault

    def _loss_of(self, fault: Fault, multi_start: int) -> Loss:
        """Return the loss that a fault causes."""
        counts = self.found.counts
        start = multi_start if multi_start >= 0 else fault.offset
        reason = why_corrupt(self._file, self.found.size, fault, counts)
        if not reason:
            self.found.is_log = may_be_torn(self._file, fault, counts)
            return Loss(start, self.found.size, fault.reason, torn=True)
        return Loss(start, self._next_position(fault.offset), reason)

    def _next_position(self, offset: int) -> int:
        """Return the position at which to continue after the damaged unit at `offset`."""
        head = self._head(offset)
        if head is not None:
            end = offset + head.end() + int(head[1])
            if end == self.found.size or self._head(end) is not None:
                return end
        return self._next_batch(offset + 1)

    def _next_batch(self, start: int) -> int:
        """Return the position of the next whole batch that is not inside a value, or the end of the file."""
        while (batch := find_batch(self._file, start, self.found.size)) is not None:
            end = batch[0]
            while (head := self._head(end)) is not None:
                end += head.end() + int(head[1])
            if self._read(end, 2) != b"\r\n":  # which would follow a value that ends with batches
                return batch[0]
            start = end
        return self.found.size

    def _head(self, offset: int) -> re.Match[bytes] | None:
        return HEAD.match(self._read(offset, LONGEST_HEAD))

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)


# Copies


def repair(path: str, found: Findings, examine: Callable[[str], Findings]) -> str:
    """Replace a log by a copy without its losses. Return the new path of the original. The caller holds the lock.

    `examine` checks a copy in the same way as the log: only a copy without losses replaces it. Raises LogError.
    """
    path = os.path.realpath(path)
    copies = [f"{path}.repairing", f"{path}.repairing-again"]
    source = path
    try:
        while found.losses:
            copy = copies[source == copies[0]]
            _copy_sound(source, found, copy)
            source = copy
            found = examine(copy)
        return _exchange(path, source)
    except OSError as error:
        raise cannot_use(error.filename or path, error) from error
    finally:
        for copy in copies:
            with suppress(FileNotFoundError):
                os.remove(copy)


def _copy_sound(source: str, found: Findings, target: str) -> None:
    with open(source, "rb") as log, open(target, "wb", opener=same_mode(log)) as copy:
        for loss in found.losses:
            copy_range(log, loss.start, copy)
            copy.write(loss.keeps)
            log.seek(loss.end)
        copy_range(log, found.size, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _exchange(path: str, copy: str) -> str:
    """Keep the file at `path` under the first free name, and rename the copy to `path`. Return the kept name."""
    status = os.stat(path)
    if hasattr(os, "chown"):
        with suppress(OSError):  # only root may change the owner
            os.chown(copy, status.st_uid, status.st_gid)
    for number in count(1):
        kept = f"{path}.before-repair-{number}"
        try:
            _keep(path, kept)
            break
        except FileExistsError:
            continue
    sync_directory(path)
    os.replace(copy, path)
    sync_directory(path)
    return kept


def _keep(path: str, kept: str) -> None:
    """Give a file a second name, or copy it if the file system has no links. Raises FileExistsError."""
    try:
        os.link(path, kept)
    except FileExistsError:
        raise
    except OSError:
        with open(path, "rb") as log, open(kept, "xb", opener=same_mode(log)) as copy:
            shutil.copyfileobj(log, copy, BLOCK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
