"""The logs that a rewrite replaced, and that are kept beside the log: the way back to before the rewrite.

It owns their names, `<log>.rewritten-<Unix ms of the replacement>`; each is the whole file that was the log until then.
It must not know what is in them.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

NAME = re.compile(r"\.rewritten-([0-9]{1,14})")


def keep(path: str, now_ms: int) -> str:
    """Give the log a second name, which stays when a rewrite takes the first one; return it. Raises OSError."""
    kept = f"{path}.rewritten-{now_ms}"
    os.link(path, kept)
    return kept


def kept_logs(path: str) -> list[str]:
    """Return the logs that are kept, the oldest first. Raises OSError."""
    directory, name = os.path.split(os.path.abspath(path))
    found = []
    for other in os.listdir(directory):
        match = NAME.fullmatch(other[len(name) :]) if other.startswith(name) else None
        if match is not None:
            found.append((int(match[1]), os.path.join(directory, other)))
    return [kept for _, kept in sorted(found)]


def remove_but(path: str, count: int) -> None:
    """Remove all but the newest of the logs that are kept. May take long: the system frees their blocks."""
    with suppress(OSError):
        kept = kept_logs(path)
        for old in kept[: max(0, len(kept) - count)]:
            os.unlink(old)


def kept_bytes(path: str) -> int:
    """Return the bytes that the kept logs take."""
    with suppress(OSError):
        return sum(map(os.path.getsize, kept_logs(path)))
    return 0
