"""Checking and mending a log: what of it is sound, what is lost, a copy without what is lost.

It owns the way on after a fault, which replay refuses. It must not know the keyspace (it is handed an `apply`), nor
what is printed. The format is log.reader's; whether a fault is a torn tail or corruption is log.replay's to judge.

    sound | lost | sound | lost, but for some commands | sound | torn tail
            `Loss`         `Loss` with what stays of it          `Loss`, torn

**Where it goes on after a fault.** Behind a batch whose head can be read and leads to a next head or to the end: at
that place, so that nothing inside the batch is taken for a batch. Otherwise at the next whole batch, unless what
follows that one shows that it stands inside a value. Never at a command outside a batch: those have no checksum, and
the lost bytes may have held a SELECT or a MULTI; redis-check-aof gives up there, too.

**Losing a batch may make a later command fail**: a RENAME whose key is gone. A replay would refuse the log, so such a
command is taken out of its batch, and the copy is checked before it takes the log's place.

**Where a batch does not follow the one before it**, both hold, and nobody can tell which is in the wrong place: nothing
is dropped. There, and where a batch was dropped, the copy has a batch that changes nothing and joins the two.

Bounded memory: a block, the largest unit and the list of losses. Refused: mending bits by the checksum. It would find
a bit that fits, not the one that was there.
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
    """Bytes of a log that a replay cannot take, and what stays of them."""

    start: int
    end: int
    reason: str
    torn: bool = False
    dropped: list[tuple[int, list[bytes]]] = field(default_factory=list)  # only these, of a sound batch; else all
    stays: bytes = b""


@dataclass
class Findings:
    """What a log holds, its losses left out."""

    size: int
    counts: ReplayReport = field(default_factory=ReplayReport)
    first_ms: int = 0
    last_ms: int = 0
    losses: list[Loss] = field(default_factory=list)
    is_log: bool = True

    @property
    def only_torn(self) -> bool:
        """Return True if all that is wrong is what a start repairs by itself."""
        return all(loss.torn for loss in self.losses)


# Reading past faults


class Examiner:
    """Reads all that is whole in a log, through `apply`, and notes what is not."""

    def __init__(self, path: str, file: BinaryIO, apply: Apply, now_ms: int, default_ttl_ms: int) -> None:
        self._file = file
        self._apply = apply
        self._default_ttl_ms = default_ttl_ms
        self._refused: list[tuple[int, list[bytes]]] = []  # by `apply`, in this unit
        self._refusal = ""
        self._link = FIRST_LINK  # of the last batch that stays
        self._has_gap = False  # the last loss took what stood behind that batch
        size = os.fstat(file.fileno()).st_size
        self._text = is_text(path, file)
        dated = find_batch(file, 0, size) if self._text else None
        self._text_ms = dated[1] if dated else now_ms
        self.found = Findings(size)

    def examine(self, progress: Progress = no_progress) -> Findings:
        """Read to the end."""
        position = 0
        while position < self.found.size:
            position = self._read_from(position, progress)
        return self.found

    def _read_from(self, start: int, progress: Progress) -> int:
        """Read up to the next loss and note it; return where to go on."""
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
                    return self._note(loss)
                if unit.kind is Kind.BATCH:
                    self._join(unit, known)
                if unit.end >= next_progress:
                    progress(unit.end, found.size)
                    next_progress = unit.end + BLOCK_BYTES
            player.finish()
        except Fault as fault:
            return self._note(self._lose(fault, player.multi_start))
        return found.size

    def _join(self, unit: Unit, known: int) -> None:
        """Join a batch to the last one that stays, if it does not follow that one; with no loss between, note a fault.

        There were `known` losses before it; one more is of commands in it.
        """
        losses = self.found.losses
        if len(losses) > known and not losses[-1].stays:
            self._has_gap = True
            return
        if unit.previous and unit.previous != self._link:
            if not self._has_gap:
                losses.insert(known, Loss(unit.start, unit.start, UNLINKED))
                known += 1
            losses[known - 1].stays = frame(SELECT_0, unit.time_ms, self._link, unit.previous)
        self._link = unit.link
        self._has_gap = False

    def _note(self, loss: Loss) -> int:
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
        """Apply a unit; return the loss after which reading must start anew, if any."""
        began = player.multi_start if player.multi_start >= 0 else unit.start
        unit = unit._replace(commands=list(unit.commands))  # so that what is refused can be found in it
        self._refused.clear()
        try:
            player.play(unit)
        except Fault as fault:  # a MULTI without EXEC, which ends where the batch begins or is in it
            if fault.offset == unit.start:
                return Loss(unit.start, unit.end, fault.reason)
            return Loss(fault.offset, unit.start, fault.reason)
        except Refused as error:  # SELECT, MULTI, EXEC: what follows in this batch, or outside of one, hangs on them
            reason = f"a command there is refused: {error.text}"
            return Loss(began, unit.end if unit.kind is Kind.BATCH else self._next_batch(unit.end), reason)
        if self._refused:
            self._drop_refused(unit, began)
        return None

    def _drop_refused(self, unit: Unit, began: int) -> None:
        """Take what was refused out of its batch. Of a transaction that a Redis wrote nothing stays."""
        refused = {id(argv) for _, argv in self._refused}
        stays = b""
        if unit.kind is Kind.BATCH:
            kept = [argv for argv in unit.commands if id(argv) not in refused]
            if any(argv[0].upper() not in CONTROL for argv in kept):
                payload = b"".join(map(encode_command, kept))
                stays = frame(payload, unit.time_ms, unit.previous or self._link, unit.link)
        reason = f"a command there is refused: {self._refusal}"
        self.found.losses.append(Loss(began, unit.end, reason, dropped=[*self._refused], stays=stays))

    # After a fault

    def _lose(self, fault: Fault, multi_start: int) -> Loss:
        """Find what a fault takes with it."""
        counts = self.found.counts
        start = multi_start if multi_start >= 0 else fault.offset
        reason = why_corrupt(self._file, self.found.size, fault, counts)
        if not reason:
            self.found.is_log = may_be_torn(self._file, fault, counts)
            return Loss(start, self.found.size, fault.reason, torn=True)
        return Loss(start, self._behind(fault.offset), reason)

    def _behind(self, offset: int) -> int:
        """Find where to go on behind the damaged unit at `offset`."""
        head = self._head(offset)
        if head is not None:
            end = offset + head.end() + int(head[1])
            if end == self.found.size or self._head(end) is not None:
                return end
        return self._next_batch(offset + 1)

    def _next_batch(self, start: int) -> int:
        """Find the next whole batch that does not stand in a value, or the end."""
        while (batch := find_batch(self._file, start, self.found.size)) is not None:
            end = batch[0]
            while (head := self._head(end)) is not None:
                end += head.end() + int(head[1])
            if self._read(end, 2) != b"\r\n":  # as a value that ends with batches is followed by
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
    """Put a copy without its losses in a log's place; return where the original is. The caller holds the lock.

    `examine` reads a copy as the log itself was read: only one that is whole takes its place.
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
            copy.write(loss.stays)
            log.seek(loss.end)
        copy_range(log, found.size, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _exchange(path: str, copy: str) -> str:
    """Keep the file at `path` under the first free name, and let the copy take its place."""
    status = os.stat(path)
    if hasattr(os, "chown"):
        with suppress(OSError):  # who may not give files away has made it as the log's server would
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
    """Give a file a second name, or copy it where the file system has no links. Raises FileExistsError."""
    try:
        os.link(path, kept)
    except FileExistsError:
        raise
    except OSError:
        with open(path, "rb") as log, open(kept, "xb", opener=same_mode(log)) as copy:
            shutil.copyfileobj(log, copy, BLOCK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
