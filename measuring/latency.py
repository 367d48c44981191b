"""The latency monitor: when something took longer than a threshold, by the kind of event: LATENCY.

Nothing is measured for it while the threshold is 0, except the commands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, time

SAMPLES = 160  # kept of each event, as in Redis


@dataclass(eq=False, repr=False)
class Event:
    """The history of an event: pairs of a Unix second and of the milliseconds that it took."""

    most_ms: int = 0
    samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class LatencyMonitor:
    """The events that took at least `threshold_ms`; 0: none is recorded."""

    def __init__(self) -> None:
        self.threshold_ms = 0
        self.events: dict[bytes, Event] = {}

    def note(self, name: bytes, seconds: float) -> None:
        """Record an event if it took long. Of one second the longest is kept."""
        milliseconds = int(seconds * 1000)
        if not self.threshold_ms or milliseconds < self.threshold_ms:
            return
        event = self.events.setdefault(name, Event())
        event.most_ms = max(event.most_ms, milliseconds)
        second = int(time())
        if event.samples and event.samples[-1][0] == second:
            second, last_ms = event.samples.pop()
            milliseconds = max(milliseconds, last_ms)
        event.samples.append((second, milliseconds))

    @contextmanager
    def timing(self, name: bytes) -> Iterator[None]:
        """Measure an event, if there is a threshold."""
        if not self.threshold_ms:
            yield
            return
        began = perf_counter()
        try:
            yield
        finally:
            self.note(name, perf_counter() - began)
