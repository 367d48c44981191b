"""The index of hashes of which some fields have deadlines: it finds those with a field that has expired.

It holds keys only. The deadlines are in the hashes (`values/hashes.py`), and the keyspace asks each of them again when
it comes due. A key is in the bucket of the second of its earliest deadline, or in an earlier one.

    note, forget, take    O(1), and O(log seconds) for the first and the last key of a second

A database has such an index from the first deadline of a field on: before that, writes pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any
from zlib import crc32


class FieldExpiry:
    """The keys of such hashes, by second of Unix time."""

    __slots__ = ("_buckets", "_second_of", "_seconds")

    def __init__(self) -> None:
        self._second_of: dict[bytes, int] = {}
        self._buckets: dict[int, dict[bytes, None]] = {}
        self._seconds: list[int] = []  # a heap of the seconds that have a bucket

    def note(self, key: bytes, deadline_ms: int) -> None:
        """Let a key come due at this deadline, unless it comes due before."""
        second = deadline_ms // 1000
        known = self._second_of.get(key)
        if known is not None:
            if known <= second:
                return
            del self._buckets[known][key]
        self._second_of[key] = second
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = {}
            heappush(self._seconds, second)
        bucket[key] = None

    def forget(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        second = self._second_of.pop(key, None)
        if second is not None:
            del self._buckets[second][key]

    def take(self, last_second: int) -> bytes | None:
        """Remove a key that came due in `last_second` or before, and return it; None if there is none."""
        while self._seconds and self._seconds[0] <= last_second:
            bucket = self._buckets[self._seconds[0]]
            if bucket:
                key, _ = bucket.popitem()
                del self._second_of[key]
                return key
            del self._buckets[heappop(self._seconds)]
        return None

    def has_due(self, last_second: int) -> bool:
        """Return True if a key may have come due in `last_second` or before."""
        return bool(self._seconds) and self._seconds[0] <= last_second

    def take_alike(self, last_second: int) -> Iterator[bytes | None]:
        """Remove all such keys, and yield them in an order that they alone decide; None between two steps.

        Groups by hash are sorted on their own, because to sort a million keys would take too long.
        """
        groups: dict[int, list[bytes]] = {}
        while (key := self.take(last_second)) is not None:
            groups.setdefault(crc32(key) & 0xFF, []).append(key)
            yield None
        for group in sorted(groups):
            yield from sorted(groups[group])

    def tables(self) -> list[Any]:
        """Return what takes memory, for the caller to free in slices."""
        return [self._second_of, *self._buckets.values(), self._seconds]

    def check(self, deadlines: dict[bytes, int], until_ms: int) -> None:
        """Assert that each of these keys comes due in time: in the second of its deadline, or now. O(keys)."""
        assert sum(map(len, self._buckets.values())) == len(self._second_of), "a key is in two buckets"
        assert sorted(self._seconds) == sorted(self._buckets), "the seconds are not those of the buckets"
        assert all(key in self._buckets[second] for key, second in self._second_of.items()), "a key is in no bucket"
        for key, deadline_ms in deadlines.items():
            second = self._second_of.get(key)
            assert second is not None, f"fields of {key!r} will never be expired"
            assert second <= max(deadline_ms, until_ms) // 1000, f"fields of {key!r} will be expired too late"
