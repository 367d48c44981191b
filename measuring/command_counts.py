"""How often each command was called, how it went, and how long it took: INFO commandstats and latencystats.

1. Every call is counted.
2. The time of a call is a sample that stands for all calls since the last one. Each call of a command that may be slow
   is measured, and the first ones of a quick command (`Command.swift`), later one in SAMPLE_CALLS: two readings of the
   clock would cost 3 % of a GET.

A sample falls into a bucket of 8 significant bits, as in Redis.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

FIRST_CALLS = 128  # each of them is measured
SAMPLE_CALLS = 256
BUCKET_BITS = 8
FIRST_LEVEL_NS = 1024  # the end of the first bucket of LATENCY HISTOGRAM; the next ones are each twice as wide


class CommandCount:
    """The calls of one command. Each counts `left` down; one that finds it at 1 or below is measured."""

    __slots__ = (
        "_before",
        "_interval",
        "_sample_calls",
        "buckets",
        "failed",
        "left",
        "rejected",
        "sampled",
        "seconds",
        "swift",
    )

    def __init__(self, swift: bool = False) -> None:
        self.swift = swift
        self.sample()
        self.reset()

    def sample(self, each: bool = False) -> None:
        """Measure samples of a quick command, or each call. It takes effect at the next `take`."""
        self._sample_calls = SAMPLE_CALLS if self.swift and not each else 1

    def reset(self) -> None:
        """Forget all calls."""
        self.left = 1  # calls until one is measured
        self._interval = 1  # what `left` was after the last measured call
        self._before = 0  # calls up to that one
        self.seconds = 0.0
        self.rejected = 0  # did not run, because something was wrong before
        self.failed = 0  # ran, and returned an error
        self.sampled = 0  # how many calls the samples stand for
        self.buckets: dict[int, int] = {}  # the highest time of a bucket, in nanoseconds -> calls

    @property
    def calls(self) -> int:
        """Return the number of calls."""
        return self._before + self._interval - self.left

    def take_back(self) -> None:
        """Forget the last call, because it did not run."""
        self._before -= 1

    def take(self) -> int:
        """Decide when the next call is measured; return for how many calls, since the last one, this one stands."""
        calls = self._interval - self.left
        self._before += calls
        self.left = self._interval = self._sample_calls if self._before >= FIRST_CALLS else 1
        return calls

    def add(self, seconds: float, calls: int) -> None:
        """Add a time, which stands for a number of calls."""
        highest_ns = highest_equal(int(seconds * 1e9))
        self.buckets[highest_ns] = self.buckets.get(highest_ns, 0) + calls
        self.seconds += seconds * calls
        self.sampled += calls

    def percentiles(self, wanted: Sequence[float]) -> Iterator[float]:
        """Yield for each percentage the time, in microseconds, within which so many calls ended."""
        times_ns = sorted(self.buckets)
        passed = list(accumulate(self.buckets[time_ns] for time_ns in times_ns))
        for percentage in wanted:
            least = max(1, int(percentage / 100 * self.sampled + 0.5))
            yield times_ns[bisect_left(passed, least)] / 1000

    def levels(self) -> list[tuple[int, int]]:
        """Return pairs of microseconds and of how many calls took no longer; each is about twice the one before."""
        found: list[tuple[int, int]] = []
        level_ns, passed = FIRST_LEVEL_NS, 0
        for highest_ns, calls in sorted(self.buckets.items()):
            while highest_ns > highest_equal(level_ns):
                level_ns *= 2
            passed += calls
            pair = (highest_equal(level_ns) // 1000, passed)
            found[-1 if found and found[-1][0] == pair[0] else len(found) :] = [pair]
        return found


def highest_equal(nanoseconds: int) -> int:
    """Return the highest time that falls into the same bucket."""
    return nanoseconds | ((1 << max(0, nanoseconds.bit_length() - BUCKET_BITS)) - 1)


class CommandCounts(dict[bytes, CommandCount]):
    """The counts by the name of the command, such as GET or CLIENT|ID."""

    measures_each = False

    def of(self, name: bytes, swift: bool) -> CommandCount:
        """Return the count of a command."""
        count = self.get(name)
        if count is None:
            count = self[name] = CommandCount(swift)
            count.sample(each=self.measures_each)
        return count

    def measure_each(self, wanted: bool) -> None:
        """Measure each call of each command from now on, or only samples of the quick ones."""
        if wanted != self.measures_each:
            self.measures_each = wanted
            for count in self.values():
                count.sample(each=wanted)
                count.take()

    def reset(self) -> None:
        """Forget all calls."""
        for count in self.values():
            count.reset()
