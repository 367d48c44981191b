"""Commands and bytes per second, from counters that are read once a second."""

from __future__ import annotations


class Rates:
    """The growth of three counters per second, between their last two readings."""

    def __init__(self) -> None:
        self.commands = self.input_bytes = self.output_bytes = 0.0
        self._last: tuple[float, int, int, int] | None = None

    def follow(self, now: float, commands: int, input_bytes: int, output_bytes: int) -> None:
        """Take the counters at a time, in seconds of the monotonic clock."""
        if self._last is not None and now > self._last[0]:
            then, *counted = self._last
            self.commands, self.input_bytes, self.output_bytes = (
                max(0, count - before) / (now - then)
                for count, before in zip((commands, input_bytes, output_bytes), counted, strict=True)
            )
        self._last = (now, commands, input_bytes, output_bytes)
