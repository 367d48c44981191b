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

LEAST_SECONDS = 0.001  # below this threshold of the slow log each request is measured
ALWAYS = -1.0


class Measures:
    """Counts, slow log, latency and monitors.

    A measured request that took more than `notable_seconds` is handed to `measured.note`. While `one_by_one` is True,
    the engine measures each request, and runs it alone.
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
        self.one_by_one = bool(self.monitors or self.latency.threshold_ms) or least < LEAST_SECONDS
        self.notable_seconds = ALWAYS if self.monitors else least
