"""The form of the server's log lines, and a limit on their rate.

1. Of each kind of warning the first MOST_LINES of a second are written; of the others one line gives the number.
2. A message is one line, whatever the names and paths in it contain.

Clients can cause warnings, such as by a wrong password or an HTTP request, and the event loop waits while a line is
written. With the limit no client can fill a disk or keep the server busy by being refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from textwrap import indent
from time import monotonic
from typing import Any

MOST_LINES = 10  # lines of one kind in a second
LEFT_OUT = "%d more like the last one were left out: %s"


def printable(text: str) -> str:
    """Return a text as one line, with all characters escaped that are not printable.

    Users choose paths and names; a newline in one must not begin a line of its own.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class OneLine(logging.Formatter):
    """Writes each message as one line, and its traceback indented, so that neither can look like another message."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback, indented."""
        return indent(super().formatException(ei), "  ")


class LogRateLimit(logging.Filter):
    """Passes the first lines of each kind in a second, and counts the others."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._logger = logger
        self._clock = clock
        self._second = 0
        self._counts: dict[str, int] = {}  # format of a message -> number of lines in this second
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the line is to be written."""
        if record.levelno < logging.WARNING or record.msg == LEFT_OUT:
            return True
        if int(self._clock()) != self._second:
            self.report()
        count = self._counts.get(record.msg, 0) + 1
        self._counts[record.msg] = count
        return count <= MOST_LINES

    def report(self) -> None:
        """Begin a new second: log how many lines were left out. Called each second."""
        self._second = int(self._clock())
        counts, self._counts = self._counts, {}
        for kind, count in counts.items():
            if count > MOST_LINES:
                self._logger.warning(LEFT_OUT, count - MOST_LINES, kind)

    def close(self) -> None:
        """Log how many lines were left out, and end the limit."""
        self.report()
        self._logger.removeFilter(self)
