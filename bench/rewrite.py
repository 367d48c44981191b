"""What a rewrite costs those who are served meanwhile: the longest wait of a client, and the memory on top.

    python bench/rewrite.py [KEYS] [VALUE_BYTES]

It starts a Godis, fills it, and has one process overwrite random keys in pipelines while this one sends a PING every
millisecond or so and watches the server's memory: first for some seconds without a rewrite, then during one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from random import randrange
from time import monotonic, sleep

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from servers import GodisProcess, encode

PIPELINE = 1000
QUIET_SECONDS = 5
WRITER = """
import random, redis, sys
client = redis.Redis(port=int(sys.argv[1]))
value = b"y" * int(sys.argv[3])
while True:
    pipe = client.pipeline(transaction=False)
    for _ in range(100):
        pipe.set("key:%d" % random.randrange(int(sys.argv[2])), value)
    pipe.execute()
"""


def fill(godis: GodisProcess, keys: int, value: bytes) -> None:
    """Set all keys once."""
    with godis.raw() as raw:
        for start in range(0, keys, PIPELINE):
            count = min(PIPELINE, keys - start)
            raw.send(b"".join(encode("SET", f"key:{start + number}", value) for number in range(count)))
            raw.read_exactly(5 * count)


def watch(godis: GodisProcess, seconds: float, until: str = "") -> tuple[list[float], int, int]:
    """Return the sorted waits for PING in ms, the most memory, and the writes, for some seconds or until a message."""
    waits: list[float] = []
    most_bytes = 0
    with godis.raw() as raw, godis.client() as client:
        before = client.info("stats")["total_commands_processed"]
        end = monotonic() + seconds
        while monotonic() < end and not (until and len(waits) % 50 == 0 and until in godis.stderr()):
            start = monotonic()
            raw.ask("PING")
            waits.append((monotonic() - start) * 1000)
            if len(waits) % 20 == 0:
                most_bytes = max(most_bytes, godis.resident_bytes)
            sleep(0.0005 + randrange(1000) / 1e6)
        commands = client.info("stats")["total_commands_processed"] - before - len(waits)
    return sorted(waits), most_bytes, commands


def report(name: str, seconds: float, waits: list[float], commands: int) -> None:
    """Print a line."""
    at = [waits[min(len(waits) - 1, int(len(waits) * share))] for share in (0.5, 0.99, 0.999, 1)]
    print(f"{name:16} {seconds:5.1f} s  {commands / seconds:7.0f} writes/s", end="")
    print("  PING p50 {:.1f} p99 {:.1f} p99.9 {:.1f} max {:.1f} ms".format(*at), flush=True)


def main(keys: int, value_bytes: int) -> None:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory() as directory,
        GodisProcess(Path(directory), "--auto-rewrite-percentage", "0") as g,
    ):
        fill(g, keys, b"x" * value_bytes)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(g.port), str(keys), str(value_bytes)])
        try:
            waits, quiet_bytes, commands = watch(g, QUIET_SECONDS)
            report("without", QUIET_SECONDS, waits, commands)
            with g.client() as client:
                client.execute_command("BGREWRITEAOF")
            start = monotonic()
            waits, most_bytes, commands = watch(g, 300, "the log is rewritten")
            report("rewriting", monotonic() - start, waits, commands)
            print(f"memory {quiet_bytes >> 20} MB, at most {most_bytes >> 20} MB: {most_bytes / quiet_bytes - 1:+.1%}")
        finally:
            writer.kill()
            writer.wait()


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["1000000", "64"][len(sys.argv) - 1 :])))
