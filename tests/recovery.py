"""What a start finds on a disk that lost power."""

from __future__ import annotations

import tempfile

from log_model import IN_MEMORY
from power_loss import put
from rewrite_rig import DATABASES, START_MS, State, state_of

from aof import AppendOnlyLog, NullLog, replay
from config import Config
from engine import Engine
from session import Instance
from store import Store


class Lost(AssertionError):
    """A state of the disk on which something is missing that was promised, or something is there that never was."""


def recover(path: str) -> State:
    """Start on a log as the program does, and return what it finds. Raises LogError."""
    log = AppendOnlyLog(path)
    log.open()
    store = Store(DATABASES, NullLog())
    engine = Engine(Instance(store, NullLog(), Config({"--databases": str(DATABASES)}, {}), "replay", "", START_MS))
    store.begin_replay(START_MS)
    try:
        replay(path, engine.apply, START_MS, 0, apply_many=engine.apply_many)
    finally:
        log.close()
    return state_of(store)


def start_on(state: dict[str, bytes | None], root: str) -> State:
    """Start on what a crash left of a disk, and return what is found. Raises LogError."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        put(state, root, directory + "/disk")
        return recover(directory + "/disk/log.txt")
