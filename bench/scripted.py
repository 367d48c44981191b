"""Scripts in `bench.compare`: two short ones that applications run at each request, and one that is at it for long.

release   a lock is released by its owner; all locks are taken before each run
limit     a rate limiter: a counter that expires is incremented and compared
count     one script that calls INCR as often as a run has requests; each call counts as one
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha1

from servers import parse

from bench.rig import Floor, Server
from bench.typed import Words, number, pour

TOKEN = "5f2b6c0e9a7d4c1f"
RELEASE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('DEL', KEYS[1])"
LIMIT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return count <= tonumber(ARGV[1]) and 1 or 0
"""
COUNT = "for _ = 1, tonumber(ARGV[1]) do redis.call('INCR', KEYS[1]) end return redis.call('GET', KEYS[1])"


def _sha(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


# What redis-benchmark sends.
TESTS: dict[str, list[str]] = {
    "release": ["EVALSHA", _sha(RELEASE), "1", "lock:__rand_int__", TOKEN],
    "limit": ["EVALSHA", _sha(LIMIT), "1", "rate:__rand_int__", "1000000", "60"],
}
FLOORS = {"release": Floor(0.5), "limit": Floor(0.5), "count": Floor(0.3)}
DEPTHS = {"release": (1, 16), "limit": (1, 16), "count": (1,)}


def load(server: Server) -> None:
    """Make the scripts known."""
    with server.raw() as raw:
        for script in (RELEASE, LIMIT, COUNT):
            raw.ask("SCRIPT", "LOAD", script)


def refill(server: Server, test: str, locks: int) -> None:
    """Take the locks that a run will release."""
    if test == "release":
        pour(server, _locks(locks))


def _locks(count: int) -> Iterable[Words]:
    return (["SET", f"lock:{number(each)}", TOKEN] for each in range(count))


@contextlib.contextmanager
def counting(server: Server, _depth: int, _clients: int, _size_bytes: int) -> Iterator[Callable[[int], float]]:
    """Let one script count up, once a request."""
    with server.raw(timeout=60) as raw:

        def count(requests: int) -> float:
            start = time.perf_counter()
            before = int(parse(raw.ask("GET", "count")) or 0)
            if int(parse(raw.ask("EVALSHA", _sha(COUNT), 1, "count", requests))) != before + requests:
                raise SystemExit(f"{server.name} has miscounted")
            return requests / (time.perf_counter() - start)

        yield count
