"""All that is measured of the requests of an instance, and from which time on a request is of note."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import perf_counter

from measuring.command_counts import CommandCounts
from measuring.latency import LatencyMonitor
from measuring.monitors import Monitors
from measuring.rates import Rates
from measuring.slow_log import SlowLog

LEAST_PIPELINE_SECONDS = 0.001  # below this threshold the requests of a pipeline are measured one by one
ALWAYS = -1.0


class Measures:
    """Counts, slow log, latency and monitors.

    A request that took more than `notable_seconds` is handed to `execution.note`. While `one_by_one` is True, the
    engine runs and measures each request of a pipeline alone.
    """

    def __init__(self) -> None:
        self.clock: Callable[[], float] = perf_counter
        self.counts = CommandCounts()
        self.slow_log = SlowLog()
        self.latency = LatencyMonitor()
        self.monitors = Monitors()
        self.rates = Rates()
        self.notable_seconds = inf
        self.one_by_one = False
        self.pipelines = 0  # that were measured as a whole

    def follow(self, slower_than_us: int, most_slow: int, latency_ms: int) -> None:
        """Take over the settings."""
        self.slow_log.follow(slower_than_us, most_slow)
        self.latency.threshold_ms = latency_ms
        self.update()

    def update(self) -> None:
        """Decide again which requests are of note. Called when a setting or the set of monitors has changed."""
        slow_seconds = self.slow_log.threshold_us / 1e6 if self.slow_log.threshold_us >= 0 else inf
        latency_seconds = self.latency.threshold_ms / 1e3 or inf
        least = min(slow_seconds, latency_seconds)
        self.one_by_one = bool(self.monitors) or least < LEAST_PIPELINE_SECONDS
        self.notable_seconds = ALWAYS if self.monitors else least

    def reset_counts(self) -> None:
        """Forget the counts and times of commands."""
        self.counts.clear()
