"""The keys that a long command has locked until it is done.

1. A command that writes thousands of keys runs in slices, so that other clients are served in between
   (`commands/long_commands.py`). No client may observe a partial result, so any request that touches a locked key,
   or the keyspace as a whole, waits (`Engine.admit`). A command that only reads locks nothing: see `point_in_time.py`.
2. The effects of the command are collected in `effects` and committed to the log as one unit when the command is done.
   So the log holds all of them or none, whenever the process ends.
3. There is at most one lock at a time.

The keys are in sets of bounded size, because a set that outgrows its table is rebuilt at once: 30 ms for a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SET_KEYS = 16384


class KeyLock:
    """The keys that are locked, and the effects that are to be logged for them."""

    def __init__(self, effects: Any) -> None:
        self.effects = effects  # an `EffectLog`
        self.sets: list[set[bytes]] = [set()]
        self.ended_keys = 0  # how many of the keys have expired or were evicted meanwhile
        self.all_keys = False  # the command may touch any key

    def add(self, keys: Sequence[bytes]) -> None:
        """Lock more keys."""
        if len(self.sets[-1]) > SET_KEYS:
            self.sets.append(set())
        self.sets[-1].update(keys)

    def holds_any(self, keys: Sequence[bytes]) -> bool:
        """Return True if one of these keys is locked."""
        return self.all_keys or not all(locked.isdisjoint(keys) for locked in self.sets)
