"""What a limit on memory does: where the process's memory levels off, and how often a cache of that size hits.

    python -m bench.eviction memory     resident set at the limit, for a few limits, policies and sizes
    python -m bench.eviction hits       LRU and LFU on a Zipf trace, beside redis-server at the same memory and keys

`memory` sets new keys until five times the keys that fit have been evicted, and samples the resident set meanwhile.
`hits` reads keys by Zipf's law (exponent 1) from 200 000 and sets those that are missing, 500 reads in a pipeline; the
hit rate is that of the second half. "Same keys" gives redis-server the memory at which it holds as many keys.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from random import Random

from servers import encode

from bench.rig import Report, Server, Settings, key, parser, require_two_cores, serving

MB = 1 << 20
BATCH = 500
KEYS, READS = 200_000, 600_000
VALUE = b"x" * 64
CASES = [  # limit, policy, bytes of a value, default TTL
    ("64mb", "allkeys-lru", 64, "6h"),
    ("100mb", "allkeys-lru", 64, "6h"),
    ("100mb", "allkeys-random", 64, "0"),
    ("100mb", "allkeys-lru", 1000, "6h"),
]


def memory(report: Report, cases: list[tuple[str, str, int, str]] = CASES) -> None:
    """Add a table with a line for each case."""
    report.table("limit", "policy", "value", "TTL", "keys", "RSS MB, min", "mean", "max")
    for limit, policy, value_bytes, ttl in cases:
        flags = ("--maxmemory", limit, "--maxmemory-policy", policy, "--default-ttl", ttl)
        with serving("godis", Settings(log="off", flags=flags)) as godis:
            keys, samples = fill_beyond(godis, b"x" * value_bytes)
        mean = sum(samples) / len(samples)
        report.row(
            limit, policy, f"{value_bytes}", ttl, f"{keys}", *map("{:.0f}".format, (min(samples), mean, max(samples)))
        )


def fill_beyond(godis: Server, value: bytes) -> tuple[int, list[float]]:
    """Fill a server far beyond its limit; return the keys it holds, and samples of its memory in MB."""
    sent, last, samples = 0, 0, []
    with godis.raw() as raw, godis.client() as client:
        while not last or sent < last:
            for _ in range(20):
                raw.send(b"".join(encode("SET", key(number), value) for number in range(sent, sent + BATCH)))
                raw.read_exactly(5 * BATCH)
                sent += BATCH
            info = client.info()
            if info["evicted_keys"]:
                last = last or sent + 5 * info["db0"]["keys"]
                samples.append(godis.resident_bytes / MB)
    return info["db0"]["keys"], samples


def hit_rate(server: Server, reads: int) -> tuple[float, int]:
    """Run the trace against a server; return the share of reads that hit, and the keys that it holds at the end."""
    random = Random(1)
    weights = list(accumulate(1 / rank for rank in range(1, KEYS + 1)))
    hits = 0
    with server.client() as client:
        for done in range(0, reads, BATCH):
            keys = [key(bisect_left(weights, random.random() * weights[-1])) for _ in range(BATCH)]
            pipe = client.pipeline(transaction=False)
            for name in keys:
                pipe.get(name)
            missing = [name for name, value in zip(keys, pipe.execute(), strict=True) if value is None]
            if done >= reads // 2:
                hits += BATCH - len(missing)
            for name in missing:
                pipe.set(name, VALUE, ex=3600)
            pipe.execute()
        return hits / (reads // 2), client.dbsize()


def hits(report: Report, reads: int = READS, limit_mb: int = 40) -> None:
    """Add a table: LRU and LFU, three lines each."""
    report.table("policy", "server", "memory", "keys", "hits")
    for policy in ("allkeys-lru", "allkeys-lfu"):

        def line(title: str, peer: str, size: int, policy: str = policy) -> int:
            flags = ("--maxmemory", str(size), "--maxmemory-policy", policy)
            with serving(peer, Settings(log="off", flags=flags)) as server:
                rate, keys = hit_rate(server, reads)
            report.row(policy, title, f"{size / MB:.0f} MB", f"{keys}", f"{rate:.1%}")
            return keys

        held = line("Godis", "godis", limit_mb * MB)
        line("redis-server, same memory", "redis", limit_mb * MB)
        line("redis-server, same keys", "redis", redis_bytes_for(held))


def redis_bytes_for(keys: int) -> int:
    """Return the memory at which redis-server holds about so many keys."""
    return MB + keys * 170


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("what", choices=["memory", "hits"])
    made.add_argument("--reads", type=int, default=READS, help="of hits")
    arguments = made.parse_args()
    require_two_cores()
    report = Report(f"eviction-{arguments.what}", arguments.output)
    if arguments.what == "memory":
        memory(report)
    else:
        hits(report, arguments.reads)
    report.close()


if __name__ == "__main__":
    main()
