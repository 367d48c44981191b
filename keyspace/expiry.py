"""The index of deadlines: it finds the expired keys of a database without looking at live keys.

It orders the keys of one database by their deadlines. The deadlines are in the keyspace's entries, which it reads. It
deletes no key itself; it calls `delete`.

    due      second -> [key]   buckets: the keys whose deadline is in that second
    is_due   bool              some key may have expired and not be deleted yet

1. A key with a deadline is in the bucket of its deadline's second or of an earlier second. When a bucket comes due,
   keys whose deadline was extended are moved to a later bucket. So extending a deadline, as each SET with the default
   TTL does, costs nothing here.
2. An entry of `due` is stale if its key was deleted or got another deadline. The number of stale entries is bounded by
   about the number of keys with a deadline: when they exceed it, each `add` cleans a few entries (`_cleaning`).
3. The bucket of a deadline more than a day ahead is wider than a second, but at most 1/64 of the time until then. So
   there are at most some 90 000 buckets, however far apart the deadlines are.
4. While `is_due` is False no key has expired, so a read does not look at the deadline. That saves 0.08 µs of a
   pipelined GET. (Refused: a set of all keys that are due. It made reads of other keys 0.05 µs faster while keys were
   due, and cost 1.4 µs for each due key.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from zlib import crc32

from values.entry import NO_DEADLINE, Entry, deadline_of

FAR_SECONDS = 86400
FAR_BUCKETS = 64  # the least number of buckets between now and a deadline beyond FAR_SECONDS
SLICE = 64  # keys that one step of slow work handles before it checks the time again
FEW_STALE = 1000  # stale entries that are not worth cleaning
CLEANED_AN_ADD = 4  # entries: more than the two that an `add` may leave stale


class ExpiryIndex:
    """The keys of one database by deadline. Seconds and milliseconds are Unix time."""

    __slots__ = (
        "_cleaner",
        "_done_until",
        "_entries",
        "_second",
        "due",
        "entries",
        "is_due",
        "latest_ms",
        "volatile_count",
    )

    def __init__(self, entries: dict[bytes, Entry], now_ms: int) -> None:
        self.entries = entries
        self.volatile_count = 0  # the number of keys with a deadline; the keyspace updates it
        self.due: dict[int, list[bytes]] = {}
        self.is_due = False
        self.latest_ms = 0  # the latest deadline that was ever added
        self._entries = 0  # the number of entries in `due`, stale ones included
        self._done_until = 0  # every bucket before this second has been emptied
        self._second = now_ms // 1000  # the running second
        self._cleaner: Iterator[int] | None = None

    def add(self, key: bytes, deadline_ms: int) -> None:
        """Add a deadline that is new or earlier than the key's last one."""
        self.add_many([key], deadline_ms)

    def add_many(self, keys: list[bytes], deadline_ms: int) -> None:
        """Do what `add` does for each key. The list belongs to the index from now on."""
        if self._entries > 2 * self.volatile_count + FEW_STALE:
            due = CLEANED_AN_ADD * len(keys)
            while due > 0 and (looked_at := self._clean_slice()):
                due -= looked_at
        self._insert(keys, deadline_ms)

    def _insert(self, keys: list[bytes], deadline_ms: int) -> None:
        second = self._bucket_of(deadline_ms)
        bucket = self.due.get(second)
        if bucket is None:
            self.due[second] = keys
        else:
            bucket += keys
        self._entries += len(keys)
        self.latest_ms = max(self.latest_ms, deadline_ms)
        if deadline_ms // 1000 <= self._second:
            self.is_due = True

    def begin_second(self, second: int) -> None:
        """Set the time. O(1) if the clock has advanced by a few seconds."""
        passed = range(self._second + 1, second + 1)
        self._second = second
        if second < self._done_until:  # the clock was set back: new deadlines may be before `_done_until`
            early = self.due.pop(self._done_until, None)  # may hold keys of any earlier second
            if early is not None:
                self.due[second] = early
            self._done_until = second
            self.is_due = bool(self.due)
        elif len(passed) > 10:
            self.is_due = bool(self.due)
        elif not self.is_due:
            self.is_due = any(begun in self.due for begun in passed)

    def dead_keys(self, until_ms: int) -> set[bytes]:
        """Return the keys that have expired and are not deleted yet. O(keys that are due)."""
        entry_of = self.entries.get
        dead: set[bytes] = set()
        for bucket in self._due_buckets(until_ms):
            dead.update(key for key in bucket if NO_DEADLINE < deadline_of(entry_of(key)) <= until_ms)
        return dead

    def keys(self) -> Iterator[bytes]:
        """Iterate over the keys with a deadline; a key may come twice. The keyspace must not change meanwhile."""
        keys = chain.from_iterable(self.due.values())
        return (key for key in keys if deadline_of(self.entries.get(key)) != NO_DEADLINE)

    def due_count(self, until_ms: int) -> int:
        """Return an upper bound of the number of expired keys; it counts stale entries as well."""
        return sum(map(len, self._due_buckets(until_ms)))

    def dead_count(self, until_ms: int) -> int:
        """Return the number of keys that have expired and are not deleted yet. O(keys that are due)."""
        return len(self.dead_keys(until_ms))

    def _due_buckets(self, until_ms: int) -> list[list[bytes]]:
        """Return the buckets that hold all expired keys."""
        # The bucket of `_done_until` also holds the keys whose deadlines are earlier than that second.
        return [self.due[second] for second in self._seconds(max(until_ms // 1000, self._done_until))]

    def expire(self, until_ms: int, delete: Callable[[bytes], None], out_of_time: Callable[[], bool]) -> bool:
        """Delete keys whose deadline has passed, oldest second first. Return True if none is left."""
        last = until_ms // 1000 - 1  # the running second is left to lazy expiry
        for second in self._seconds(last):
            bucket = self.due[second]
            while bucket:
                taken = bucket[-SLICE:]
                del bucket[-SLICE:]
                self._entries -= len(taken)
                try:
                    for key in taken:
                        deadline_ms = deadline_of(self.entries.get(key))
                        if deadline_ms > until_ms:
                            self._insert([key], deadline_ms)
                        elif deadline_ms != NO_DEADLINE:
                            delete(key)
                except MemoryError:  # the next call handles these keys again
                    bucket += taken
                    self._entries += len(taken)
                    raise
                if out_of_time():
                    return False
            del self.due[second]
            self._done_until = second + 1
        self._done_until = max(self._done_until, last + 1)
        if self._second == self._done_until:  # else the clock was set back to before `_done_until`
            self.is_due = self._second in self.due
        return self._clean(out_of_time)

    def expire_alike(self, last: int, delete: Callable[[bytes], None]) -> Iterator[None]:
        """Delete the keys that expired in second `last` or before, in many steps, in an order that they alone decide.

        `delete` must delete each key that it gets.
        """
        groups: dict[int, set[bytes]] = {}  # a group is sorted in one step; one of a million keys would take too long
        for keys in self._find_due(last):
            for key in keys:
                groups.setdefault(crc32(key) & 0xFF, set()).add(key)
            yield
        for group in sorted(groups):
            for key in sorted(groups[group]):
                delete(key)
                yield
        while not self._forget_due(last):
            yield

    def _find_due(self, last: int) -> Iterator[list[bytes]]:
        """Yield, slice by slice, the keys that expired in second `last` or before; a key may come twice."""
        end_ms = (last + 1) * 1000
        for second in self._seconds(last):
            bucket = self.due[second]
            for start in range(0, len(bucket), SLICE):
                taken = bucket[start : start + SLICE]
                yield [key for key in taken if NO_DEADLINE < deadline_of(self.entries.get(key)) < end_ms]

    def _forget_due(self, last: int) -> bool:
        """Remove a slice of entries that `_find_due` found; their keys are deleted. Return True if none is left."""
        end_ms = (last + 1) * 1000
        return self.expire(end_ms, lambda key: self._insert([key], end_ms), lambda: True)

    def has_due(self, last: int) -> bool:
        """Return True if there may be keys that expired in second `last` or before."""
        return bool(self._seconds(last))

    def begin_at(self, second: int) -> None:
        """Set the second before which all buckets count as emptied. Only while `due` is empty."""
        self._done_until = second

    def _bucket_of(self, deadline_ms: int) -> int:
        """Return the second of the bucket that a deadline belongs in at the present time."""
        second = deadline_ms // 1000
        ahead = second - self._second
        if ahead > FAR_SECONDS:
            second -= second % (1 << (ahead // FAR_BUCKETS).bit_length() - 1)  # moved again when this one comes due
        return second if second > self._done_until else self._done_until

    def _seconds(self, last: int) -> list[int]:
        """Return the seconds up to `last` that have a bucket, in order."""
        first = self._done_until
        if last - first > len(self.due):  # after a start or a jump of the clock there are fewer buckets than seconds
            return sorted(second for second in self.due if second <= last)
        return [second for second in range(first, last + 1) if second in self.due]

    def _clean(self, out_of_time: Callable[[], bool]) -> bool:
        """Clean all of `due` if most of its entries are stale. Return False if `out_of_time()` came first."""
        while self._clean_slice():
            if out_of_time():
                return False
        return True

    def _clean_slice(self) -> int:
        """Clean some entries if most of all are stale. Return the number of entries examined; 0 means done."""
        if self._cleaner is None:
            if self._entries <= 2 * self.volatile_count + FEW_STALE:
                return 0
            self._cleaner = self._cleaning()
        looked_at = next(self._cleaner, 0)
        if not looked_at:
            self._cleaner = None
        return looked_at

    def _cleaning(self) -> Iterator[int]:
        """Remove entries that are stale or duplicate, and move entries that are in a wrong bucket.

        It yields the number of entries that each step has examined. The keyspace may change between two steps. An entry
        that is moved may become a duplicate in its new bucket; the next round removes it.
        """
        for second in list(self.due):
            bucket = self.due.get(second, [])
            kept: dict[bytes, None] = {}
            moved: set[bytes] = set()
            start = 0
            while part := bucket[start : start + SLICE]:
                start += len(part)
                for key in part:
                    deadline_ms = deadline_of(self.entries.get(key))
                    if deadline_ms == NO_DEADLINE or second > max(deadline_ms // 1000, self._done_until):
                        continue  # the key has no deadline, or is in an earlier bucket as well
                    if self._bucket_of(deadline_ms) == second:
                        kept[key] = None
                    elif key not in moved:
                        moved.add(key)
                        self._insert([key], deadline_ms)
                yield len(part)
            if bucket and self.due.get(second) is bucket:
                self._entries -= len(bucket) - len(kept)
                if kept:
                    self.due[second] = list(kept)
                else:
                    del self.due[second]

    # ---- for tests

    def check(self, until_ms: int) -> None:
        """Assert the invariants that hold between any two commands. O(keys)."""
        assert not self.due or min(self.due) >= self._done_until, "a bucket will never be examined"
        assert self._entries == sum(map(len, self.due.values())), "the count of entries is wrong"
        earliest: dict[bytes, int] = {}
        for second in sorted(self.due):
            for key in self.due[second]:
                earliest.setdefault(key, second)
        for key, entry in self.entries.items():
            deadline_ms = deadline_of(entry)
            if deadline_ms == NO_DEADLINE:
                continue
            bound = max(deadline_ms // 1000, self._done_until)
            assert earliest.get(key, bound + 1) <= bound, f"{key!r} will never be expired"
            assert deadline_ms > until_ms or self.is_due, f"reads will not see that {key!r} has expired"
