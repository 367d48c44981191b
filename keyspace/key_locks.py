"""The keys of a long command, which are its own until it is done.

A command that writes thousands of keys is executed in slices, so that others are served in between
(`commands/many.py`). Yet nobody may see half of it: until it is done, whoever asks for one of its keys, or for the
keyspace as a whole, waits. All others go on. (One that only reads claims nothing: see `point_in_time.py`.) What it has
to log is set aside meanwhile, and comes into the log at once when it is done: so it is whole or not there, whenever the
process ends.

The keys lie in sets of bounded size, since a set that outgrows its table is rebuilt at once: 30 ms for a million keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SET_KEYS = 16384


class Claim:
    """Which keys, and what is to be logged for them."""

    def __init__(self, effects: Any) -> None:
        self.effects = effects  # an `EffectLog`
        self.sets: list[set[bytes]] = [set()]

    def add(self, keys: Sequence[bytes]) -> None:
        """Claim more keys."""
        if len(self.sets[-1]) > SET_KEYS:
            self.sets.append(set())
        self.sets[-1].update(keys)

    def holds_any(self, keys: Sequence[bytes]) -> bool:
        """Say whether one of these keys is claimed."""
        return not all(claimed.isdisjoint(keys) for claimed in self.sets)
