"""The order of one database's keys, for SCAN, RANDOMKEY and all walks through the keyspace in slices.

    places        [key]    every key once, in order of creation
    tombstones    {key}    deleted keys that still have a place

1. A new key gets the last place. A deleted key leaves a tombstone; if it is created again, it keeps its old place.
2. When there are many tombstones, a compaction moves the keys towards the start, a few places with each deletion, from
   `read` to `write`. The places between the two are None meanwhile.
3. SCAN visits the places from the end to the start. Its cursor is the number of places still to visit. Compaction moves
   keys only towards the start, so a key that a cursor has yet to visit stays in front of it: every key that exists
   throughout a scan is returned. A cursor needs no memory, so an abandoned one costs nothing.
4. A walk waits for the end of a compaction, and the next compaction waits for the end of all walks.

(Refused: a copy of the keys for each scan, because its first call is O(keys). A dict iterator, because the first write
invalidates it.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Set
from random import Random

from keyspace.expiry import SLICE

RANDOM_TRIES = 100  # draws of a random key; enough because tombstones are few
COMPACTED_A_DELETION = 8  # places
FEW_TOMBSTONES = 64  # not worth a compaction


class KeyOrder:
    """The places of one database's keys."""

    __slots__ = ("places", "read", "tombstones", "walks", "write")

    def __init__(self) -> None:
        self.places: list[bytes | None] = []
        self.tombstones: set[bytes] = set()
        self.read = self.write = -1  # -1: no compaction is running
        self.walks: set[object] = set()  # the running walks

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self.places)

    # ---- changing

    def add(self, key: bytes) -> None:
        """Give a new key a place: the one of its tombstone, or the last one."""
        if key in self.tombstones:
            self.tombstones.discard(key)
        else:
            self.places.append(key)

    def remove(self, key: bytes) -> None:
        """Leave a tombstone in the place of a key, and compact a few places. O(1)."""
        tombstones = self.tombstones
        tombstones.add(key)
        if self.read >= 0:
            self.compact()
        elif 5 * len(tombstones) > len(self.places) + 4 * FEW_TOMBSTONES and not self.walks:  # a quarter of the keys
            self.read = self.write = 0

    def compact(self) -> None:
        """Take the next few steps of the running compaction."""
        places, tombstones = self.places, self.tombstones
        for _ in range(COMPACTED_A_DELETION):
            if self.read >= len(places):
                del places[self.write :]
                self.read = self.write = -1
                return
            key = places[self.read]
            places[self.read] = None
            self.read += 1
            if key in tombstones:
                tombstones.discard(key)
            else:
                places[self.write] = key
                self.write += 1

    # ---- rebuilding, from a snapshot

    def add_holes(self, count: int) -> None:
        """Add places that a compaction has emptied; `resume_compaction` then continues it."""
        self.places += [None] * count

    def add_tombstones(self, keys: list[bytes]) -> None:
        """Add places of deleted keys."""
        self.places += keys
        self.tombstones.update(keys)

    def resume_compaction(self, read: int, write: int) -> None:
        """Continue a compaction at these positions."""
        self.read, self.write = read, write

    # ---- reading

    def random_key(self, random: Random, is_live: Callable[[bytes], bool]) -> bytes | None:
        """Return a random live key, all equally likely; None if nearly none is live. There must be a place."""
        places = self.places
        for _ in range(RANDOM_TRIES):
            key = places[random.randrange(len(places))]
            if key is not None and is_live(key):
                return key
        return None

    def scan(self, cursor: int, count: int, is_live: Callable[[bytes], bool]) -> tuple[int, list[bytes]]:
        """Visit `count` places from `cursor` (0: start); return the next cursor (0: done) and the live keys found."""
        places = self.places
        end = min(cursor, len(places)) if cursor else len(places)
        start = max(0, end - count)
        return start, [key for key in places[start:end] if key is not None and is_live(key)]

    def walk(self) -> Generator[list[bytes], None, None]:
        """Visit all places in small steps, and yield the keys of each step. The keyspace may change between two steps.

        No key is visited twice. Each key that exists throughout is visited, because no place moves during a walk.
        Tombstones are yielded, too.
        """
        while self.read >= 0:
            self.compact()
            yield []
        walks = self.walks
        walks.add(walk := object())
        try:
            for start in range(0, len(self.places), SLICE):
                yield self.places[start : start + SLICE]  # type: ignore[misc]  # None only during a compaction
        finally:
            walks.discard(walk)

    # ---- for tests

    def check(self, keys: Set[bytes]) -> None:
        """Assert the invariants that hold between any two commands. O(keys)."""
        places = [key for key in self.places if key is not None]
        assert len(places) == len(set(places)), "a key has two places"
        assert set(places) == keys | self.tombstones, "the places are not those of the keys and the tombstones"
        assert not keys & self.tombstones, "an existing key has a tombstone"
        assert None not in self.places or self.read >= 0, "a place was lost"
