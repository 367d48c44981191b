"""The slow log: the last requests that took longer than a threshold."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from measuring.shown_words import cut, redact

MOST_WORDS = 32
MOST_WORD_BYTES = 128
DISABLED = -1  # as the threshold


class SlowRequest(NamedTuple):
    """An entry of the slow log."""

    number: int
    second: int  # Unix time at which it ended
    microseconds: int
    words: list[bytes]
    address: bytes
    client_name: bytes


class SlowLog:
    """The last `most` slow requests; the newest is the last."""

    def __init__(self) -> None:
        self.threshold_us = DISABLED
        self.entries: deque[SlowRequest] = deque(maxlen=0)
        self.next_number = 0

    def follow(self, threshold_us: int, most: int) -> None:
        """Take over the settings."""
        self.threshold_us = threshold_us
        if self.entries.maxlen != most:
            self.entries = deque(self.entries, maxlen=most)

    def note(self, argv: Sequence[bytes], seconds: float, second: int, address: str, client_name: bytes) -> None:
        """Log a request if it was slow."""
        microseconds = int(seconds * 1e6)
        if self.threshold_us < 0 or microseconds < self.threshold_us:
            return
        words = cut(redact(argv[: MOST_WORDS + 1]), MOST_WORDS, MOST_WORD_BYTES)
        if len(argv) > MOST_WORDS:
            words[-1] = b"... (%d more arguments)" % (len(argv) - MOST_WORDS + 1)
        self.entries.append(
            SlowRequest(self.next_number, second, microseconds, words, address.encode("utf-8", "replace"), client_name)
        )
        self.next_number += 1
