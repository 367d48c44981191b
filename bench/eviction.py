"""What a limit on memory does: where the process's memory levels off, and how often a cache of that size hits.

    python bench/eviction.py memory     resident set at the limit, for a few limits, policies and sizes
    python bench/eviction.py hits       LRU and LFU on a Zipf trace, beside redis-server at the same memory and keys

`memory` sets new keys until five times the keys that fit have been evicted, and samples the resident set meanwhile.
`hits` reads keys by Zipf's law (exponent 1) from 200 000 and sets those that are missing, 500 reads in a pipeline; the
hit rate is that of the second half. "Same keys" gives redis-server the memory at which it holds as many keys.
"""

from __future__ import annotations

import sys
import tempfile
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from servers import GodisProcess, RedisProcess, ServerProcess, encode

MB = 1 << 20
BATCH = 500
KEYS, READS = 200_000, 600_000
CASES = [  # limit, policy, bytes of a value, default TTL
    ("64mb", "allkeys-lru", 64, "6h"),
    ("100mb", "allkeys-lru", 64, "6h"),
    ("100mb", "allkeys-random", 64, "0"),
    ("100mb", "allkeys-lru", 1000, "6h"),
]


def measure_memory(limit: str, policy: str, value_bytes: int, ttl: str) -> None:
    """Fill one server far beyond its limit and print a line."""
    flags = ["--maxmemory", limit, "--maxmemory-policy", policy, "--default-ttl", ttl, "--no-log"]
    with tempfile.TemporaryDirectory() as directory, GodisProcess(Path(directory), *flags) as godis:
        with godis.raw() as raw, godis.client() as client:
            sent, last, samples = 0, 0, []
            while not last or sent < last:
                for _ in range(20):
                    names = range(sent, sent + BATCH)
                    raw.send(b"".join(encode("SET", f"key:{name:012}", b"x" * value_bytes) for name in names))
                    raw.read_exactly(5 * BATCH)
                    sent += BATCH
                info = client.info()
                if info["evicted_keys"]:
                    last = last or sent + 5 * info["db0"]["keys"]
                    samples.append(godis.resident_bytes / MB)
            keys = info["db0"]["keys"]
        mean = sum(samples) / len(samples)
        print(
            f"| {limit} | {policy} | {value_bytes} | {ttl} | {keys} "
            f"| {min(samples):.0f} | {mean:.0f} | {max(samples):.0f} |",
            flush=True,
        )


def measure_hits(server: ServerProcess) -> tuple[float, int]:
    """Run the trace against a server; return the share of reads that hit, and the keys that it holds at the end."""
    random = Random(1)
    weights = list(accumulate(1 / rank for rank in range(1, KEYS + 1)))
    hits = 0
    with server.client() as client:
        for done in range(0, READS, BATCH):
            keys = [f"key:{bisect_left(weights, random.random() * weights[-1]):012}" for _ in range(BATCH)]
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.get(key)
            missing = [key for key, value in zip(keys, pipe.execute(), strict=True) if value is None]
            if done >= READS // 2:
                hits += BATCH - len(missing)
            for key in missing:
                pipe.set(key, b"x" * 64, ex=3600)
            pipe.execute()
        return hits / (READS // 2), client.dbsize()


def redis_for(keys: int) -> int:
    """Return the memory at which redis-server holds about so many keys."""
    return MB + keys * 170


def compare_hits(policy: str, limit_mb: int) -> None:
    """Run the trace against both, and print a line for each."""
    flags = ["--maxmemory-policy", policy]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with GodisProcess(path, "--no-log", "--maxmemory", f"{limit_mb}mb", *flags) as godis:
            rate, keys = measure_hits(godis)
        print(f"| {policy} | Godis | {limit_mb} MB | {keys} | {rate:.1%} |", flush=True)
        for name, size in (("same memory", limit_mb * MB), ("same keys", redis_for(keys))):
            with RedisProcess(path, "--maxmemory", str(size), *flags) as redis:
                rate, held = measure_hits(redis)
            print(f"| {policy} | redis-server, {name} | {size / MB:.0f} MB | {held} | {rate:.1%} |", flush=True)


def main(what: str) -> None:
    """Measure and print."""
    if what == "memory":
        print(
            "| limit | policy | value | TTL | keys | RSS MB min | mean | max |\n|---|---|---:|---|---:|---:|---:|---:|"
        )
        for case in CASES:
            measure_memory(*case)
    elif what == "hits":
        print("| policy | server | memory | keys | hits |\n|---|---|---:|---:|---:|")
        for policy in ("allkeys-lru", "allkeys-lfu"):
            compare_hits(policy, 40)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
