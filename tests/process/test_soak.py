"""A long mixed load, after which nothing has grown: memory, descriptors, the log, the time that a request takes.

Run by `make soak` alone. Clients come and go, write, read, count, let keys end and delete them; the log is rewritten
whenever it has doubled, and settings change under way. Each second is a sample. Of the samples a first part is left
out, in which caches fill; then the first quarter of the rest is compared with the last. At the end the process is
killed and finds what it held.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
from acknowledged import look
from servers import GodisProcess, Raw, encode, parse, wait_until

if "GODIS_SOAK" not in os.environ:  # the file was named; else conftest.py leaves it out
    pytest.skip("it takes minutes: make soak", allow_module_level=True)

SECONDS = int(os.environ.get("GODIS_SOAK_SECONDS", "300"))
CLIENTS = 12
KEYS = 20_000
PROBES = 20  # PINGs a sample
MEBIBYTE = 1 << 20


class Sample(NamedTuple):
    """What a second looked like from outside."""

    resident_bytes: int
    descriptors: int
    threads: int
    log_bytes: int
    probe_ms: float  # the median of its PINGs
    slowest_ms: float
    requests: int  # so far


def request(chance: random.Random) -> bytes:
    """Make up one request; the keys are so many that most are written again within a minute."""
    key = f"key:{chance.randrange(KEYS)}"
    value = b"v" * chance.choice([3, 64, 64, 64, 500, 4000])
    return encode(
        *chance.choice(
            [
                ("SET", key, value),
                ("SET", key, value, "PX", chance.randint(1, 5000)),
                ("SET", key, value, "EX", 3600),
                ("GET", key),
                ("GET", key),
                ("INCR", f"count:{chance.randrange(100)}"),
                ("EXPIRE", key, chance.randint(1, 10)),
                ("DEL", key, f"key:{chance.randrange(KEYS)}"),
                ("MSET", *(word for _ in range(10) for word in (f"key:{chance.randrange(KEYS)}", value))),
                ("MGET", *(f"key:{chance.randrange(KEYS)}" for _ in range(5))),
                ("TTL", key),
                ("SETEX", key, 2, value),
                ("SCAN", chance.randrange(KEYS)),
            ]
        )
    )


class Load:
    """Clients that ask at random until told to stop."""

    def __init__(self, godis: GodisProcess) -> None:
        self.stop = threading.Event()
        self.requests = [0] * CLIENTS
        self.failures: list[BaseException] = []
        self._godis = godis
        self._threads = [
            *(threading.Thread(target=self._kept, args=(self._ask, number)) for number in range(CLIENTS)),
            threading.Thread(target=self._kept, args=(self._change_settings, CLIENTS)),
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _kept(self, work: Callable[[int, random.Random], None], number: int) -> None:
        try:
            work(number, random.Random(number))
        except BaseException as error:
            self.failures.append(error)

    def _ask(self, number: int, chance: random.Random) -> None:
        while not self.stop.is_set():
            with self._godis.raw() as raw:
                for _ in range(chance.randint(1, 400)):
                    if self.stop.is_set():
                        return
                    depth = chance.choice([1, 1, 1, 16, 50])
                    raw.send(b"".join(request(chance) for _ in range(depth)))
                    if chance.random() < 0.002:
                        break  # a client that leaves without its replies
                    for _ in range(depth):
                        assert not raw.read_reply().startswith(b"-")
                    self.requests[number] += depth
                    time.sleep(0.002)  # the rate is not what is looked at

    def _change_settings(self, _number: int, chance: random.Random) -> None:
        with self._godis.raw() as raw:
            while not self.stop.wait(1):
                name, value = chance.choice(
                    [
                        ("appendfsync", chance.choice(["always", "everysec", "no"])),
                        ("default-ttl", chance.choice(["6h", "1h"])),
                        ("timeout", chance.choice(["0", "300"])),
                        ("maxclients", chance.choice(["1000", "2000"])),
                        ("loglevel", chance.choice(["notice", "verbose"])),
                    ]
                )
                assert raw.ask("CONFIG", "SET", name, value) == b"+OK\r\n"


def probe(raw: Raw) -> list[float]:
    """Time some PINGs, in milliseconds, the fastest first."""
    times = []
    for _ in range(PROBES):
        start = time.perf_counter()
        assert raw.ask("PING") == b"+PONG\r\n"
        times.append((time.perf_counter() - start) * 1000)
        time.sleep(0.005)
    return sorted(times)


def take_sample(godis: GodisProcess, raw: Raw, load: Load) -> Sample:
    process = Path(f"/proc/{godis.pid}")
    times = probe(raw)
    with suppress(FileNotFoundError):
        return Sample(
            godis.resident_bytes,
            len([*process.joinpath("fd").iterdir()]),
            len([*process.joinpath("task").iterdir()]),
            (godis.directory / "log.txt").stat().st_size,
            median(times),
            times[-1],
            sum(load.requests),
        )
    return take_sample(godis, raw, load)  # a descriptor was closed meanwhile


def describe(name: str, samples: list[Sample]) -> str:
    return (
        f"{name:6} {len(samples):4} s   RSS {median(each.resident_bytes for each in samples) / MEBIBYTE:6.1f} MB"
        f"   descriptors {median(each.descriptors for each in samples):3.0f}"
        f"   log {max(each.log_bytes for each in samples) / MEBIBYTE:5.1f} MB at most"
        f"   PING {median(each.probe_ms for each in samples):.2f} ms, slowest {max(s.slowest_ms for s in samples):.0f}"
    )


@pytest.mark.timeout(SECONDS + 120)
def test_a_long_mixed_load_leaves_nothing_grown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with GodisProcess(tmp_path, "--auto-rewrite-min-size", "8mb") as godis, godis.raw() as raw:
        idle = take_sample(godis, raw, Load(godis))
        samples = []
        with Load(godis) as load:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not load.failures:
                second = time.monotonic() + 1
                samples.append(take_sample(godis, raw, load))
                time.sleep(max(0, second - time.monotonic()))
        assert not load.failures

        rewrites = godis.stderr().count("the log is rewritten")
        steady = samples[len(samples) // 4 :]
        first, last = steady[: len(steady) // 4], steady[-len(steady) // 4 :]
        with capsys.disabled():
            print(f"\n{samples[-1].requests} requests, {rewrites} rewrites")
            print(f"{describe('first', first)}\n{describe('last', last)}")
        assert rewrites > 2
        assert "Traceback" not in godis.stderr()
        assert "ERROR" not in godis.stderr()

        # generous: what is looked for grows with every request, and there were very many
        resident = [median(each.resident_bytes for each in part) for part in (first, last)]
        assert resident[1] <= 1.1 * resident[0] + 4 * MEBIBYTE
        assert max(each.log_bytes for each in last) <= 1.5 * max(each.log_bytes for each in first)
        probes = [median(each.probe_ms for each in part) for part in (first, last)]
        assert probes[1] <= 2 * probes[0] + 1
        assert max(each.descriptors for each in last) <= idle.descriptors + CLIENTS + 8
        assert max(each.threads for each in last) <= max(each.threads for each in first)

        wait_until(lambda: parse(raw.ask("INFO", "clients")).count(b"connected_clients:1\r\n"), what="they are gone")
        wait_until(lambda: b"aof_rewrite_in_progress:0" in raw.ask("INFO", "persistence"), 30, "no rewrite")
        wait_until(lambda: take_sample(godis, raw, load).descriptors <= idle.descriptors, what="no descriptor is left")

        wait_until(lambda: parse(raw.ask("CLIENT", "LIST")).count(b"id=") == 1)
        time.sleep(11)  # all with a short life have ended
        held = look(raw, 0)
        assert len(held) > KEYS // 4
        godis.kill9()
        godis.start()
        with godis.raw() as again:
            assert look(again, 0) == held
