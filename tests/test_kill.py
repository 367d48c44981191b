"""`kill -9` at random moments loses nothing that was acknowledged, whatever the fsync policy.

Under writes of all kinds, keys that expire, flushes, rewrites; and while it starts and replays, several times in a row.
The process is killed, not the machine: what was written to the file survives even where it was not synced yet.
The kill at each single system call is test_faults.py's. GODIS_SOAK=n makes n rounds of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from random import Random

import pytest
from acknowledged import Writer, all_settle
from servers import GodisProcess, encode, wait_until

ROUNDS = int(os.environ.get("GODIS_SOAK", "3"))
SEED = os.environ.get("GODIS_SEED", "")
REWRITTEN = "the log is rewritten"


def ask_for_rewrites(godis: GodisProcess) -> None:
    """Have one rewrite after the other until the server is gone."""
    with contextlib.suppress(OSError), godis.raw() as raw:
        while True:
            raw.ask("BGREWRITEAOF")
            time.sleep(0.005)


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize(
    ("policy", "clients", "flush"),
    [("always", 8, b"FLUSHDB"), ("everysec", 8, b"FLUSHDB"), ("no", 8, b"FLUSHDB"), ("everysec", 1, b"FLUSHALL")],
)
def test_a_killed_server_finds_all_that_it_acknowledged(
    tmp_path: Path, policy: str, clients: int, flush: bytes
) -> None:
    writers = [Writer(index, flush) for index in range(clients)]
    random = Random(f"{policy}{clients}{SEED}")
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis:
        for number in range(ROUNDS):
            # One round in three without rewrites; in one the kill comes after some, or in the next one.
            rewrites = godis.stderr().count(REWRITTEN) + (number % 3 == 2)
            goal = random.randint(25, 250) * clients
            threads = [threading.Thread(target=writer.write, args=(godis,)) for writer in writers]
            if number % 3:
                threads.append(threading.Thread(target=ask_for_rewrites, args=(godis,)))
            for thread in threads:
                thread.start()
            wait_until(lambda: sum(writer.acknowledged for writer in writers) >= goal, 30, "writes")  # noqa: B023
            wait_until(lambda: godis.stderr().count(REWRITTEN) >= rewrites, 30, "a rewrite")  # noqa: B023
            godis.kill9()
            for thread in threads:
                thread.join()
            for _ in range(number % 3):  # starts that do not come far
                godis.launch()
                time.sleep(random.uniform(0, 0.2))
                godis.kill9()
            godis.start()
            assert not (tmp_path / "log.txt.rewrite").exists()
            assert all_settle(godis, writers), f"round {number} of {tmp_path}"
        assert godis.terminate() == 0


def test_what_was_asked_and_not_answered_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A request of many keys is one effect: a kill leaves all of them or none."""
    keys = [f"k{number}" for number in range(500)]
    with GodisProcess(tmp_path) as godis:
        for generation in range(5):
            with godis.raw() as raw:
                assert raw.ask("MSET", *(word for key in keys for word in (key, generation))) == b"+OK\r\n"
                raw.send(encode("MSET", *(word for key in keys for word in (key, generation + 1))))
                godis.kill9()
            godis.start()
            with godis.client() as client:
                assert set(client.mget(keys)) in ({b"%d" % generation}, {b"%d" % (generation + 1)})
