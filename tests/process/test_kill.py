"""`kill -9` at random moments loses nothing that was acknowledged, whatever the fsync policy; nor does SIGTERM.

Under writes of all kinds and types, keys that expire, flushes, rewrites; while it starts and replays, several times in
a row; and while `check --repair` works on its log. The process is killed, not the machine: what was written to the file
survives even where it was not synced yet. The kill at each single system call is test_faults.py's. GODIS_SOAK=n makes n
rounds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from acknowledged import Writer, all_settle
from contents import contents
from servers import GODIS, GodisProcess, encode, wait_until

ROUNDS = int(os.environ.get("GODIS_SOAK", "3"))
SEED = os.environ.get("GODIS_SEED", "")
REWRITTEN = "the log is rewritten"
POLICIES = ["always", "everysec", "no"]


def ask_for_rewrites(godis: GodisProcess) -> None:
    """Have one rewrite after the other until the server is gone."""
    with contextlib.suppress(OSError), godis.raw() as raw:
        while True:
            raw.ask("BGREWRITEAOF")
            time.sleep(0.005)


@contextlib.contextmanager
def load(godis: GodisProcess, writers: list[Writer], rewrites: bool) -> Iterator[None]:
    """Have all of them write, until the server is gone; that is for the caller to see to."""
    threads = [threading.Thread(target=writer.write, args=(godis,)) for writer in writers]
    if rewrites:
        threads.append(threading.Thread(target=ask_for_rewrites, args=(godis,)))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


def kill_repairs(godis: GodisProcess, random: Random) -> None:
    """Begin to repair a log with a torn tail, which a start would cut off as well, and do not let it come far."""
    log = godis.directory / "log.txt"
    with log.open("ab") as file:
        file.write(b"#500 01234567 1700000000000\r\n*3\r\n")
    command = [sys.executable, str(GODIS), "check", str(log), "--repair"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as repair:
        time.sleep(random.uniform(0.1, 0.4))  # the first third is the start of Python
        repair.kill()


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize(
    ("policy", "clients", "flush"),
    [("always", 8, b"FLUSHDB"), ("everysec", 8, b"FLUSHDB"), ("no", 8, b"FLUSHDB"), ("everysec", 1, b"FLUSHALL")],
)
def test_a_killed_server_finds_all_that_it_acknowledged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str, clients: int, flush: bytes
) -> None:
    writers = [Writer(index, flush) for index in range(clients)]
    random = Random(f"{policy}{clients}{SEED}")
    kills = 0
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis:
        for number in range(ROUNDS):
            # One round in three without rewrites; in one the kill comes after some, or in the next one.
            rewrites = godis.stderr().count(REWRITTEN) + (number % 3 == 2)
            goal = random.randint(25, 250) * clients
            with load(godis, writers, rewrites=number % 3 > 0):
                wait_until(lambda: sum(writer.acknowledged for writer in writers) >= goal, 30, "writes")  # noqa: B023
                wait_until(lambda: godis.stderr().count(REWRITTEN) >= rewrites, 30, "a rewrite")  # noqa: B023
                godis.kill9()
            if number % 3 == 1:
                kill_repairs(godis, random)
            for _ in range(number % 3):  # starts that do not come far
                godis.launch()
                time.sleep(random.uniform(0, 0.1))  # it is forked, so most of this is the load of the log
                godis.kill9()
            kills += 1 + number % 3 + (number % 3 == 1)
            godis.start()
            assert not [left for left in tmp_path.glob("log.txt.re*") if ".rewritten-" not in left.name], (
                "what was being written when it was killed is removed"
            )
            assert all_settle(godis, writers), f"round {number} of {tmp_path}"
        assert godis.terminate() == 0
        assert "Traceback" not in godis.stderr()
    if "GODIS_SOAK" in os.environ:
        with capsys.disabled():
            acknowledged = sum(writer.acknowledged_ever for writer in writers)
            print(f"\n{policy}: {ROUNDS} rounds, {kills} kills, {acknowledged} acknowledged writes, 0 lost")


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_told_to_stop_under_load_ends_with_0_in_time_and_has_all_that_it_acknowledged(
    tmp_path: Path, policy: str
) -> None:
    """A client that never reads its replies may not hold it up for longer than --shutdown-timeout."""
    writers = [Writer(index) for index in range(8)]
    with GodisProcess(tmp_path, "--appendfsync", policy, "--shutdown-timeout", "1") as godis:
        for number in range(max(2, ROUNDS // 10)):
            with godis.raw() as deaf, load(godis, writers, rewrites=number % 2 > 0):
                wait_until(lambda: sum(writer.acknowledged for writer in writers) >= 400, 30, "writes")
                deaf.ask("SELECT", 15)  # which no writer flushes
                deaf.ask("SET", "large", b"x" * 1_000_000)
                deaf.send(encode("GET", "large") * 30)
                sent = (signal.SIGTERM, signal.SIGINT)[number % 2]
                godis.process.send_signal(sent)
                assert godis.process.wait(1 + 5) == 0, godis.stderr()
            godis.start()
            with godis.client(db=15) as client:
                assert client.strlen("large") == 1_000_000
                client.delete("large")
            assert all_settle(godis, writers), f"round {number} of {tmp_path}"
        assert "Traceback" not in godis.stderr()


MANY = 5000
MULTIPLE: dict[str, Callable[[int], list[str | int]]] = {  # requests of many elements: which ones depends on a number
    "RPUSH": lambda number: [f"{number}:{each}" for each in range(MANY)],
    "SADD": lambda number: [f"{number}:{each}" for each in range(MANY)],
    "HSET": lambda number: [word for each in range(MANY) for word in (f"{each}", number)],
    "ZADD": lambda number: [word for each in range(MANY) for word in (number, f"{each}")],
    "XADD": lambda number: [f"{number}-1", *(word for each in range(MANY) for word in (f"{each}", number))],
}


def test_what_was_asked_and_not_answered_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A request of many keys is one effect: a kill leaves all of them or none."""
    keys = [f"k{number}" for number in range(500)]
    with GodisProcess(tmp_path) as godis:
        for generation in range(3):
            with godis.raw() as raw:
                assert raw.ask("MSET", *(word for key in keys for word in (key, generation))) == b"+OK\r\n"
                raw.send(encode("MSET", *(word for key in keys for word in (key, generation + 1))))
                godis.kill9()
            godis.start()
            with godis.client() as client:
                assert set(client.mget(keys)) in ({b"%d" % generation}, {b"%d" % (generation + 1)})


@pytest.mark.parametrize("name", MULTIPLE)
def test_many_elements_that_were_asked_and_not_answered_are_there_all_or_none(tmp_path: Path, name: str) -> None:
    """A request of many elements is one effect of its key, though it is done in slices."""
    with GodisProcess(tmp_path) as godis:
        for number in range(1, 4):
            with godis.raw() as raw:
                raw.ask("DEL", "k")
                assert raw.ask(name, "k", *MULTIPLE[name](number)).startswith((b":", b"$"))
                before = contents(raw)
                assert raw.ask("COPY", "k", "after") == b":1\r\n"
                assert raw.ask(name, "after", *MULTIPLE[name](number + 1)).startswith((b":", b"$"))
                after = contents(raw)[0, b"after"]
                raw.ask("DEL", "after")
                raw.send(encode(name, "k", *MULTIPLE[name](number + 1)))
                time.sleep(0.01 * number)
                godis.kill9()
            godis.start()
            with godis.raw() as raw:
                found = contents(raw)
                assert found in (before, {(0, b"k"): after})
