"""Kept logs: the files that rewrites replaced, for a restore to a time before the rewrite.

1. A kept log is the whole file that was the log until the replacement. Its name is
   `<log>.rewritten-<Unix ms of the replacement>`.
2. The module knows the names and sizes of these files, not their format.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

NAME = re.compile(r"\.rewritten-([0-9]{1,14})")


def keep(path: str, now_ms: int) -> str:
    """Give the log a second name (a hard link) before a rewrite replaces it. Return the name. Raises OSError."""
    kept = f"{path}.rewritten-{now_ms}"
    os.link(path, kept)
    return kept


def kept_logs(path: str) -> list[str]:
    """Return the paths of the kept logs, the oldest first. Raises OSError."""
    directory, name = os.path.split(os.path.abspath(path))
    found = []
    for other in os.listdir(directory):
        match = NAME.fullmatch(other[len(name) :]) if other.startswith(name) else None
        if match is not None:
            found.append((int(match[1]), os.path.join(directory, other)))
    return [kept for _, kept in sorted(found)]


def remove_but(path: str, count: int) -> None:
    """Remove all kept logs but the newest `count`. May take long, because the system frees their blocks."""
    with suppress(OSError):
        kept = kept_logs(path)
        for old in kept[: max(0, len(kept) - count)]:
            os.unlink(old)


def kept_bytes(path: str) -> int:
    """Return the total size of the kept logs."""
    with suppress(OSError):
        return sum(map(os.path.getsize, kept_logs(path)))
    return 0
