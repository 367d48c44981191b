"""What a start finds on a disk that lost power."""

from __future__ import annotations

import tempfile

from instances import Replay, State, state_of
from log_model import IN_MEMORY
from power_loss import put
from rewrite_rig import DATABASES

from aof import AppendOnlyLog, replay


class Lost(AssertionError):
    """A state of the disk on which something is missing that was promised, or something is there that never was."""


def recover(path: str) -> State:
    """Start on a log as the program does, and return what it finds. Raises LogError."""
    log = AppendOnlyLog(path)
    log.open()
    found = Replay(DATABASES)
    try:
        replay(path, found.engine.apply, found.store.now_ms, 0, apply_many=found.engine.apply_many)
    finally:
        log.close()
    return state_of(found.store)


def start_on(state: dict[str, bytes | None], root: str) -> State:
    """Start on what a crash left of a disk, and return what is found. Raises LogError."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        put(state, root, directory + "/disk")
        return recover(directory + "/disk/log.txt")
