"""A server that another process has started for itself: `--embedded`.

1. It writes its addresses to stdout when it serves: a line of JSON with host, port and unixsocket.
2. It stops when its stdin ends. The parent holds the other end of that pipe, so the server ends with it, also if the
   parent is killed. (Refused: the signal of Linux for a parent's death, which other systems do not have.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import gevent

from config import Config

READ = 1  # gevent's name for "can be read"
STDIN = 0


def follow_parent(config: Config, stop: Callable[[], None]) -> Any:
    """Tell the parent the addresses, and call `stop` when it is gone. Returns what must be kept until then."""
    host = config.hosts[0].name if config.hosts else ""
    print(json.dumps({"host": host, "port": config.port, "unixsocket": config.unixsocket}), flush=True)
    hub = gevent.get_hub()
    if os.name == "nt":  # the loop cannot watch a pipe there
        waiting = hub.threadpool.spawn(_read_to_end)
        waiting.rawlink(lambda _: stop())
        return waiting
    watcher = hub.loop.io(STDIN, READ)

    def on_input() -> None:
        if not os.read(STDIN, 4096):
            watcher.stop()
            stop()

    watcher.start(on_input)
    return watcher


def _read_to_end() -> None:
    while os.read(STDIN, 4096):
        pass
