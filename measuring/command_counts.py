"""How often each command was called, how it went, and how long it took: INFO commandstats and latencystats.

1. Every call is counted. Its time is measured alone if it came alone. The quick commands of one pipeline are measured
   together, and their time is booked on one of them, each in turn: in the sum every command gets its share.
2. The distribution of the times is drawn from samples: of the first calls each, later one in SAMPLE_CALLS. A sample
   stands for all calls since the last one.

A sample falls into a bucket of 8 significant bits, as in Redis.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

FIRST_CALLS = 128  # each of them is a sample
SAMPLE_CALLS = 128
BUCKET_BITS = 8
FIRST_LEVEL_NS = 1024  # the end of the first bucket of LATENCY HISTOGRAM; the next ones are each twice as wide


class CommandCount:
    """The calls of one command."""

    __slots__ = ("buckets", "calls", "failed", "next_sample", "rejected", "sampled", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0
        self.rejected = 0  # did not run, because something was wrong before
        self.failed = 0  # ran, and returned an error
        self.next_sample = 0  # a sample is due when there are more calls than this
        self.sampled = 0  # how many calls the samples stand for
        self.buckets: dict[int, int] = {}  # the highest time of a bucket, in nanoseconds -> calls

    def sample(self, seconds: float) -> None:
        """Take the time of the last call for the times of all calls since the last sample."""
        highest_ns = highest_equal(int(seconds * 1e9))
        self.buckets[highest_ns] = self.buckets.get(highest_ns, 0) + self.calls - self.sampled
        self.sampled = self.calls
        self.next_sample = self.calls + (0 if self.calls < FIRST_CALLS else SAMPLE_CALLS - 1)

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

    def __missing__(self, name: bytes) -> CommandCount:
        count = self[name] = CommandCount()
        return count
