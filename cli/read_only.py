"""The log of a server that only shows it: `--read-only`, and with `--until` as it was at a time.

1. The file stays as it is and is not locked, so another server may go on writing to it. This server does not see what
   that one writes later.
2. With `--until` the time of the server stands still at that time: what had not expired then is there, and its TTL is
   what it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf
from time import time

from cli.log_tools import parse_moment, show_time
from engine import Engine
from log.export import log_that_reaches, play_until
from session import Instance

Loading = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]  # shows how far a file is read

logger = logging.getLogger("godis")


def load(instance: Instance, engine: Engine, loading: Loading) -> int | None:
    """Load the log of the settings. Return the time at which it is shown, in Unix ms; None: now. Raises LogError."""
    config, now_ms = instance.config, int(time() * 1000)
    until_ms = inf if config.until is None else parse_moment("--until", config.until)
    is_past = until_ms <= now_ms
    shown_ms = int(until_ms) if is_past else now_ms
    path = log_that_reaches(config.log, shown_ms) if is_past else config.log
    instance.store.begin_replay(shown_ms)
    with loading(path) as progress:
        play_until(
            path,
            engine.apply,
            shown_ms,
            config.default_ttl_seconds * 1000,
            progress,
            until_ms=until_ms,
            apply_many=engine.apply_many,
        )
    instance.gate("read only", closed=True)
    keys = sum(map(len, instance.store.databases))
    logger.info("read only: %s as of %s, %d keys", path, show_time(shown_ms), keys)
    return shown_ms if is_past else None
