"""What the process tells its operator, and how much of it: a line is written while the event loop waits for it.

It owns the limit on lines that clients can cause, such as a wrong password or an HTTP request, each of which is told
with the address: of one kind the first MOST_LINES of a second are written, and of the others how many there were. So
nobody fills a disk, or keeps the server busy with writing, by being refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from textwrap import indent
from time import monotonic
from typing import Any

MOST_LINES = 10  # of one kind, in a second
LEFT_OUT = "%d more like the last one were left out: %s"


def printable(text: str) -> str:
    """Return a text as one line: what a terminal would not show as a letter is escaped, a newline above all.

    Paths, names and errors hold what users choose; a newline in them must not make a line of its own.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class OneLine(logging.Formatter):
    """Writes each message as one line, and a traceback behind it indented, so that neither can look like another."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Write the line of a record."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Write the traceback."""
        return indent(super().formatException(ei), "  ")


class LogRateLimit(logging.Filter):
    """Lets the first lines of each kind in a second pass, and counts the others."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._logger = logger
        self._clock = clock
        self._second = 0
        self._counts: dict[str, int] = {}  # of this second's lines, by their format
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if a line is written."""
        if record.levelno < logging.WARNING or record.msg == LEFT_OUT:
            return True
        if int(self._clock()) != self._second:
            self.tell()
        count = self._counts.get(record.msg, 0) + 1
        self._counts[record.msg] = count
        return count <= MOST_LINES

    def tell(self) -> None:
        """Begin a new second: say how many lines were left out. To be called each second."""
        self._second = int(self._clock())
        counts, self._counts = self._counts, {}
        for kind, count in counts.items():
            if count > MOST_LINES:
                self._logger.warning(LEFT_OUT, count - MOST_LINES, kind)

    def close(self) -> None:
        """Say what is left to be said, and count no more."""
        self.tell()
        self._logger.removeFilter(self)
