"""Which keys end when: the index that finds expired keys without looking at those that live on.

It owns the order in time of one database's deadlines, and no values. It deletes nothing; it only says which keys to
look at. The deadlines themselves stand in the keyspace's entries, which it reads.

    due      second -> [key]   the keys whose deadline lies in that second
    is_due   bool              a key may have expired and not be deleted yet

1. A key with a deadline stands in the bucket of its deadline's second or of an earlier second. When a bucket comes due,
   `expire` moves the keys whose deadline was extended. So extending a deadline, as each SET with the default TTL does,
   costs nothing here.
2. An entry of `due` is stale if its key was deleted, or got another deadline. There are never many more stale entries
   than keys with a deadline: when they outnumber them, each `add` cleans a few entries (`_cleaning`).
3. A bucket of a deadline that is more than a day away is wider than a second: at least 64 times narrower than the
   deadline is far. So there are at most some 90 000 buckets, however far apart the deadlines are.
4. While `is_due` is False no key has expired, so a read does not look at the deadline: 0.08 us less of a pipelined GET.
   (Refused: the set of all keys that are due. It made a read of other keys 0.05 us faster while keys were due, and cost
   1.4 us for each key that was.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from zlib import crc32

from values.entry import NO_DEADLINE, Entry, deadline_of

FAR_SECONDS = 86400
FAR_BUCKETS = 64  # at least so many up to a deadline that is further away
SLICE = 64  # keys that one step of slow work handles before it looks at its time again
FEW_STALE = 1000  # stale entries that are not worth cleaning
CLEANED_AN_ADD = 4  # entries: more than the two that an `add` may leave stale


class ExpiryIndex:
    """The deadlines of one database, by time. Seconds and milliseconds are Unix time."""

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
        self.volatile_count = 0  # of the keys with a deadline; the keyspace keeps it
        self.due: dict[int, list[bytes]] = {}
        self.is_due = False
        self.latest_ms = 0  # of all deadlines that were ever added
        self._entries = 0  # in `due`, stale ones included
        self._done_until = 0  # every bucket before this second has been emptied
        self._second = now_ms // 1000  # the one that is running
        self._cleaner: Iterator[int] | None = None

    def add(self, key: bytes, deadline_ms: int) -> None:
        """Note a deadline that is new, or earlier than the one that was known."""
        self.add_many([key], deadline_ms)

    def add_many(self, keys: list[bytes], deadline_ms: int) -> None:
        """`add` for each of these keys, which are the callee's from now on."""
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
        """Take over the time. Cheap if the clock went on by little."""
        passed = range(self._second + 1, second + 1)
        self._second = second
        if second < self._done_until:  # the clock was set back: keys end in the seconds that come again, too
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
        """Return the keys that have expired and are still there. O(keys that are due)."""
        entry_of = self.entries.get
        dead: set[bytes] = set()
        for bucket in self._due_buckets(until_ms):
            dead.update(key for key in bucket if NO_DEADLINE < deadline_of(entry_of(key)) <= until_ms)
        return dead

    def keys(self) -> Iterator[bytes]:
        """Iterate over the keys with a deadline; one may come twice. Nothing may change meanwhile."""
        keys = chain.from_iterable(self.due.values())
        return (key for key in keys if deadline_of(self.entries.get(key)) != NO_DEADLINE)

    def due_count(self, until_ms: int) -> int:
        """Return how many keys may have expired; some are counted twice, or are no more."""
        return sum(map(len, self._due_buckets(until_ms)))

    def dead_count(self, until_ms: int) -> int:
        """Count the keys that have expired and are still there. O(keys that are due)."""
        return len(self.dead_keys(until_ms))

    def _due_buckets(self, until_ms: int) -> list[list[bytes]]:
        """List the buckets that hold whatever has expired."""
        # What is due in seconds that have been emptied stands in the first bucket there is.
        return [self.due[second] for second in self._seconds(max(until_ms // 1000, self._done_until))]

    def expire(self, until_ms: int, delete: Callable[[bytes], None], out_of_time: Callable[[], bool]) -> bool:
        """Delete keys whose deadline has passed, oldest second first; return whether all of them are gone."""
        last = until_ms // 1000 - 1  # the second that is still running is left to lazy expiry
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
                except MemoryError:  # these keys are looked at again
                    bucket += taken
                    self._entries += len(taken)
                    raise
                if out_of_time():
                    return False
            del self.due[second]
            self._done_until = second + 1
        self._done_until = max(self._done_until, last + 1)
        if self._second == self._done_until:  # else the clock was set back before what is done
            self.is_due = self._second in self.due
        return self._clean(out_of_time)

    def expire_alike(self, last: int, delete: Callable[[bytes], None]) -> Iterator[None]:
        """Delete the keys that ended in second `last` or before, in an order that the keys alone decide, in many steps.

        `delete` must delete a key that it is given.
        """
        groups: dict[int, set[bytes]] = {}  # each is sorted at once, which takes long for a million keys
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
        """Yield, slice by slice, the keys that ended in second `last` or before; one may come twice."""
        end_ms = (last + 1) * 1000
        for second in self._seconds(last):
            bucket = self.due[second]
            for start in range(0, len(bucket), SLICE):
                taken = bucket[start : start + SLICE]
                yield [key for key in taken if NO_DEADLINE < deadline_of(self.entries.get(key)) < end_ms]

    def _forget_due(self, last: int) -> bool:
        """Forget a slice of what `_find_due` found, which is deleted by now; return whether all is forgotten."""
        end_ms = (last + 1) * 1000
        return self.expire(end_ms, lambda key: self._insert([key], end_ms), lambda: True)

    def has_due(self, last: int) -> bool:
        """Return True if there may be keys that ended in second `last` or before."""
        return bool(self._seconds(last))

    def begin_at(self, second: int) -> None:
        """Take all before a second for done; only while nothing is due at all."""
        self._done_until = second

    def _bucket_of(self, deadline_ms: int) -> int:
        """Return the second whose bucket a deadline belongs into, as things stand now."""
        second = deadline_ms // 1000
        ahead = second - self._second
        if ahead > FAR_SECONDS:
            second -= second % (1 << (ahead // FAR_BUCKETS).bit_length() - 1)  # it is moved when this one comes due
        return second if second > self._done_until else self._done_until

    def _seconds(self, last: int) -> list[int]:
        """List the seconds up to `last` that have a bucket, in order."""
        first = self._done_until
        if last - first > len(self.due):  # after a start or a jump of the clock: fewer buckets than seconds
            return sorted(second for second in self.due if second <= last)
        return [second for second in range(first, last + 1) if second in self.due]

    def _clean(self, out_of_time: Callable[[], bool]) -> bool:
        """Clean once through `due` if most of its entries are stale; return whether that is done."""
        while self._clean_slice():
            if out_of_time():
                return False
        return True

    def _clean_slice(self) -> int:
        """Look at some entries if most of all are stale; return at how many."""
        if self._cleaner is None:
            if self._entries <= 2 * self.volatile_count + FEW_STALE:
                return 0
            self._cleaner = self._cleaning()
        looked_at = next(self._cleaner, 0)
        if not looked_at:
            self._cleaner = None
        return looked_at

    def _cleaning(self) -> Iterator[int]:
        """Throw out entries that are stale or doubled, and move those that stand in a wrong bucket.

        It works in steps, and yields how many entries each looked at. Between two steps anything may happen to the
        keyspace. An entry that is moved to a bucket may be doubled there; the next round finds it.
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
                        continue  # it has none, or the key stands in an earlier bucket as well
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
        """Assert what must hold between any two commands. O(keys)."""
        assert not self.due or min(self.due) >= self._done_until, "a bucket that nobody will look into"
        assert self._entries == sum(map(len, self.due.values())), "the count of entries is off"
        earliest: dict[bytes, int] = {}
        for second in sorted(self.due):
            for key in self.due[second]:
                earliest.setdefault(key, second)
        for key, entry in self.entries.items():
            deadline_ms = deadline_of(entry)
            if deadline_ms == NO_DEADLINE:
                continue
            bound = max(deadline_ms // 1000, self._done_until)
            assert earliest.get(key, bound + 1) <= bound, f"nobody will expire {key!r}"
            assert deadline_ms > until_ms or self.is_due, f"nobody will notice that {key!r} has expired"
