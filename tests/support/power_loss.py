"""A disk that can lose power: what it may hold after a crash, and the recording of what the program did to it.

It owns the rules of what survives. It knows nothing of the log: a test records real calls, takes the states that a
crash at that moment may leave, and lets the real program start on each.

    os.write, os.fsync, os.replace ... -> Recorder -> Disk -> states() -> {path: bytes} -> a directory -> replay

**What is on the disk for sure** is what an fsync that returned was begun after: of a file its bytes and its size, of
a directory its names. Of all else:
    pages   each page may be there as it was after any write since, in any mixture; one that never got there reads as
            zeros (or as `garbage`, on a file system that shows what the block held before)
    size    any that the file has had since, and any in the middle of a write
    names   any subset of the creations, renames and removals since; a rename alone is whole
    failure after an fsync that failed the pages count as clean, so that the next one does not write them

Real file systems keep more order than that, each in its own way; what is right here is right on all of them.
Refused: dm-flakey and a file system in user space, which need root or a module, and show one state in a run.
"""

from __future__ import annotations

import _pyio  # type: ignore[import-not-found]  # the io module in Python, whose calls can be seen
import builtins
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

import aof

Choose = Callable[[int], int]  # picks one of so many; 0 is what happens when the power stays on
State = dict[str, bytes | None]  # path below the root -> content; None: a directory
SECTOR_BYTES = 512


class StoredFile:
    """A file: what the system shows of it, and what the disk may hold."""

    def __init__(self, page_bytes: int, content: bytes = b"") -> None:
        self.shown = bytearray(content)
        self._page_bytes = page_bytes
        self._sizes = [len(content)]  # that the disk may know, oldest first
        self._sizes_forgotten = 0
        self._versions: dict[int, list[bytes]] = {}  # of a page that may be there in another form, oldest first
        self._dirty: set[int] = set()  # pages that the next fsync writes

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at a place, perhaps behind the end."""
        end = offset + len(data)
        self._change(min(offset, len(self.shown)), end, lambda: self._put(offset, end, data))

    def _put(self, offset: int, end: int, data: bytes) -> None:
        self.shown.extend(bytes(max(0, end - len(self.shown))))
        self.shown[offset:end] = data

    def truncate(self, size: int) -> None:
        """Cut the file off, or lengthen it by zeros."""
        old = len(self.shown)
        self._change(min(size, old), max(size, old), lambda: self._resize(size))

    def _resize(self, size: int) -> None:
        del self.shown[size:]
        self.shown.extend(bytes(size - len(self.shown)))

    def _change(self, start: int, end: int, change: Callable[[], None]) -> None:
        pages = range(start // self._page_bytes, -(-end // self._page_bytes))
        for page in pages:
            self._versions.setdefault(page, [self._page(page)])
        change()
        for page in pages:
            self._versions[page].append(self._page(page))
        self._dirty.update(pages)
        self._sizes.append(len(self.shown))

    def _page(self, page: int) -> bytes:
        return bytes(self.shown[page * self._page_bytes : (page + 1) * self._page_bytes])

    def begin_sync(self) -> Callable[[], None]:
        """Begin an fsync, and return what is to be done when it succeeds: never, if it fails."""
        synced = {page: self._versions[page][-1] for page in self._dirty}
        sizes = self._sizes_forgotten + len(self._sizes) - 1
        self._dirty.clear()

        def succeed() -> None:
            for page, version in synced.items():
                versions = self._versions.get(page, [])
                number = next((n for n, other in enumerate(versions) if other is version), 0)
                del versions[:number]
                if len(versions) == 1:
                    del self._versions[page]
            del self._sizes[: max(0, sizes - self._sizes_forgotten)]
            self._sizes_forgotten = max(sizes, self._sizes_forgotten)

        return succeed

    def content(self, choose: Choose, garbage: bool = False) -> bytes:
        """Return what the disk may hold."""
        sizes = self._sizes
        number = len(sizes) - 1 - choose(len(sizes))
        size = sizes[number]
        if number and size > sizes[number - 1]:
            size -= choose(size - sizes[number - 1] + 1)
        held = bytearray(self.shown[:size].ljust(size, b"\0"))
        for page, versions in sorted(self._versions.items()):
            start = page * self._page_bytes
            if start < size:
                version = versions[len(versions) - 1 - choose(len(versions))]
                lost = b"\xa5" if garbage and not version else b"\0"
                held[start : start + self._page_bytes] = version.ljust(self._page_bytes, lost)
        return bytes(held[:size])


DIRECTORY = StoredFile(1)  # an entry that is a directory
Change = dict[str, StoredFile | None]  # what a call does to names: all of it or nothing


@dataclass
class Disk:
    """Files and names below one directory, which itself lasts."""

    root: str
    page_bytes: int = SECTOR_BYTES
    shown: dict[str, StoredFile] = field(default_factory=dict)
    _kept: dict[str, StoredFile] = field(default_factory=dict)
    _pending: list[Change] = field(default_factory=list)

    def load(self) -> None:
        """Take over what is there now, as being on the disk."""
        for path in sorted(Path(self.root).rglob("*")):
            if not path.is_symlink():
                file = StoredFile(self.page_bytes, path.read_bytes()) if path.is_file() else DIRECTORY
                self.shown[str(path)] = self._kept[str(path)] = file

    def holds(self, path: str) -> bool:
        """Return True if a path belongs to this disk."""
        return path.startswith(self.root + "/")

    def create(self, path: str) -> StoredFile:
        """Make an empty file."""
        file = StoredFile(self.page_bytes)
        self.name({path: file})
        return file

    def name(self, change: Change) -> None:
        """Create, rename and remove."""
        self._pending.append(change)
        _apply(change, self.shown)

    def begin_sync(self, directory: str) -> Callable[[], None]:
        """Begin an fsync of a directory, and return what is to be done when it succeeds."""
        changes = [change for change in self._pending if any(os.path.dirname(path) == directory for path in change)]

        def succeed() -> None:
            for change in changes:
                _apply(change, self._kept)
            self._pending = [change for change in self._pending if all(change is not other for other in changes)]

        return succeed

    def state(self, choose: Choose, garbage: bool = False) -> State:
        """Return what the disk may hold after a crash now."""
        names = dict(self._kept)
        for change in self._pending:
            if choose(2) == 0:
                _apply(change, names)
        state: State = {}
        for path, file in sorted(names.items()):
            if os.path.dirname(path) == self.root or os.path.dirname(path) in state:
                state[path] = None if file is DIRECTORY else file.content(choose, garbage)
        return state

    def states(self, most: int, random: Random, garbage: bool = False) -> Iterator[State]:
        """Yield the states that a crash now may leave: all of them, or as many by chance where there are more."""
        plan: list[int] = []
        for _ in range(most):
            taken: list[tuple[int, int]] = []

            def choose(count: int, plan: list[int] = plan, taken: list[tuple[int, int]] = taken) -> int:
                pick = plan[len(taken)] if len(taken) < len(plan) else 0
                taken.append((pick, count))
                return pick

            yield self.state(choose, garbage)
            while taken and taken[-1][0] + 1 == taken[-1][1]:
                taken.pop()
            if not taken:
                return
            plan = [pick for pick, _ in taken]
            plan[-1] += 1
        for _ in range(most):
            yield self.state(random.randrange, garbage)


def _apply(change: Change, names: dict[str, StoredFile]) -> None:
    for path, file in change.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def put(state: State, old_root: str, new_root: str) -> None:
    """Make a state of a disk a directory, to start on."""
    os.mkdir(new_root)
    for path, content in state.items():
        target = new_root + path.removeprefix(old_root)
        if content is None:
            os.mkdir(target)
        else:
            with open(target, "xb") as file:
                file.write(content)


class Recorder:
    """Does to the model what this process does to the files below a directory. No fsync is really made meanwhile."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, page_bytes: int = SECTOR_BYTES) -> None:
        self.disk = Disk(os.path.realpath(root), page_bytes)
        self.disk.load()
        self.failing_syncs = 0  # so many of the next fsyncs fail
        self.after_call: Callable[[], None] = lambda: None
        self._open_files: dict[int, StoredFile | str] = {}  # by descriptor; a directory by its path
        self._appending: set[int] = set()
        self._real = {name: getattr(os, name) for name in ("open", "write", "close", "ftruncate", "replace", "link")}
        self._real_unlink, self._real_mkdir, self._real_open = os.unlink, os.mkdir, builtins.open
        for name in (*self._real, "unlink", "mkdir"):
            patch.setattr(os, name, getattr(self, "_" + name))
        patch.setattr(os, "remove", self._unlink)
        patch.setattr(os, "fsync", self.sync)
        patch.setattr(aof, "_sync", self.sync)
        patch.setattr(builtins, "open", self._open_file)

    def _open_file(self, path: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
        """Open by way of the os module what may be written: the io module's own calls cannot be seen."""
        if isinstance(path, int) or not set(mode) & set("wxa+") or not self.disk.holds(os.path.realpath(path)):
            return self._real_open(path, mode, *args, **named)
        return _pyio.open(path, mode, *args, **named)

    def _open(self, path: Any, flags: int, *args: Any, **named: Any) -> int:
        real_path = os.path.realpath(path)
        new = not os.path.exists(real_path)
        descriptor: int = self._real["open"](path, flags, *args, **named)
        self._open_files.pop(descriptor, None)  # what had this number may have been closed unseen, by the io module
        if not self.disk.holds(real_path) and real_path != self.disk.root:
            return descriptor
        if os.path.isdir(real_path):
            self._open_files[descriptor] = real_path
        else:
            file = self.disk.create(real_path) if new else self.disk.shown[real_path]
            self._open_files[descriptor] = file
            (self._appending.add if flags & os.O_APPEND else self._appending.discard)(descriptor)
            if flags & os.O_TRUNC and not new:
                file.truncate(0)
            self.after_call()
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._open_files.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        file = self._open_files.get(descriptor)
        at = os.fstat(descriptor).st_size if descriptor in self._appending else None
        if isinstance(file, StoredFile) and at is None:
            at = os.lseek(descriptor, 0, os.SEEK_CUR)
        written: int = self._real["write"](descriptor, data)
        if isinstance(file, StoredFile) and at is not None:
            file.write(at, bytes(data[:written]))
            self.after_call()
        return written

    def _ftruncate(self, descriptor: int, size: int) -> None:
        self._real["ftruncate"](descriptor, size)
        file = self._open_files.get(descriptor)
        if isinstance(file, StoredFile):
            file.truncate(size)
            self.after_call()

    def sync(self, descriptor: int) -> None:
        """Do what an fsync does."""
        file = self._open_files.get(descriptor)
        if file is None:
            return
        succeed = file.begin_sync() if isinstance(file, StoredFile) else self.disk.begin_sync(file)
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        succeed()
        self.after_call()

    def _replace(self, source: Any, target: Any) -> None:
        self._real["replace"](source, target)
        old, new = self._resolve(source), self._resolve(target)
        if self.disk.holds(new):
            self.disk.name({old: None, new: self.disk.shown[old]})
            self.after_call()

    def _link(self, source: Any, target: Any) -> None:
        self._real["link"](source, target)
        if self.disk.holds(self._resolve(target)):
            self.disk.name({self._resolve(target): self.disk.shown[self._resolve(source)]})
            self.after_call()

    def _unlink(self, path: Any, **named: Any) -> None:
        self._real_unlink(path, **named)
        if not named and self._resolve(path) in self.disk.shown:
            self.disk.name({self._resolve(path): None})
            self.after_call()

    def _mkdir(self, path: Any, *args: Any) -> None:
        self._real_mkdir(path, *args)
        if self.disk.holds(self._resolve(path)):
            self.disk.name({self._resolve(path): DIRECTORY})
            self.after_call()

    @staticmethod
    def _resolve(path: str) -> str:
        """Name the entry itself, not what a link leads to."""
        directory, name = os.path.split(os.path.abspath(path))
        return os.path.join(os.path.realpath(directory), name)
