"""What a GET and a SET cost between parser and encoder: ns of CPU time a request, best of 20 passes.

    python bench/micro_engine.py

100 000 keys with the default TTL, values of 64 bytes, keys in random order, as the caches of the processor are part of
the cost. `execute` is all of it; the others are its layers, each with what lies below it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import process_time, time

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aof import AppendOnlyLog
from config import Config
from engine import Engine
from session import Instance, Session
from store import Store

KEYS, REQUESTS, PASSES = 100_000, 10_000, 20


def main() -> None:
    """Measure and print."""
    log = AppendOnlyLog(os.path.join(tempfile.gettempdir(), "never-opened"))
    store = Store(1, log)
    instance = Instance(store, log, Config({}, {}), "bench", run_id="", started_ms=0)
    instance.apply_settings()
    store.tick(int(time() * 1000))
    engine, session = Engine(instance), Session(instance, 1)
    keys = [b"key:%012d" % number for number in range(KEYS)]
    for key in keys:
        engine.execute(session, [b"SET", key, b"x" * 64])
    chosen = Random(1).choices(keys, k=REQUESTS)
    gets = [[b"GET", key] for key in chosen]
    sets = [[b"SET", key, b"y" * 64] for key in chosen]
    deadline_ms = store.default_deadline_ms
    cases: dict[str, Callable[[int], object]] = {
        "GET execute": lambda i: engine.execute(session, gets[i]),
        "GET command": lambda i: engine.table[b"GET"].run(session, gets[i]),
        "GET Keyspace.string": lambda i: session.db.string(chosen[i]),
        "GET dict": lambda i: session.db.entries.get(chosen[i]),
        "SET execute": lambda i: engine.execute(session, sets[i]),
        "SET command": lambda i: engine.table[b"SET"].run(session, sets[i]),
        "SET Keyspace.put": lambda i: session.db.put(chosen[i], sets[i][2], deadline_ms),
        "SET append_set": lambda i: log.append_set(0, chosen[i], sets[i][2], deadline_ms),
        "the loop alone": lambda i: chosen[i],
    }
    for name, run in cases.items():
        best = float("inf")
        for _ in range(PASSES):
            log.pieces.clear()
            start = process_time()
            for i in range(REQUESTS):
                run(i)
            best = min(best, process_time() - start)
        print(f"{name:20} {best / REQUESTS * 1e9:6.0f} ns")


if __name__ == "__main__":
    main()
