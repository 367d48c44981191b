"""`--read-only`: a server on a log that stays as it is, now or as it was at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from log_model import Record, set_, write_log
from program import run_here
from servers import GodisProcess, free_port

from log.reader import frame
from protocol import encode_command

BEGAN_MS = 1_700_000_000_000  # a batch a second
DEADLINE_MS = BEGAN_MS + 100_000
BATCHES: list[list[Record]] = [
    [set_(b"a", b"1"), (0, [b"SET", b"short", b"x", b"PXAT", b"%d" % DEADLINE_MS])],
    [(0, [b"RPUSH", b"list", b"x", b"y"]), set_(b"b", b"2", db=9)],
    [(0, [b"FLUSHALL"])],
    [set_(b"later", b"3")],
]


def at(seconds: float) -> str:
    return f"{BEGAN_MS / 1000 + seconds:.3f}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.txt"
    for second, batch in enumerate(BATCHES):
        write_log(path, [batch], now_ms=BEGAN_MS + 1000 * second)
    return path


@pytest.mark.parametrize(
    ("until", "keys"),
    [
        ([], {b"later"}),
        (["--until", at(-1)], set()),
        (["--until", at(0.5)], {b"a", b"short"}),
        (["--until", at(2)], {b"a", b"short", b"list"}),  # what was before the batch of that time
        (["--until", at(2.5)], set()),
        (["--until", at(50)], {b"later"}),
        (["--until", "2999-01-01"], {b"later"}),
    ],
)
def test_the_keys_are_those_of_the_time(until: list[str], keys: set[bytes], log: Path) -> None:
    with GodisProcess(log.parent, "--read-only", *until) as godis, godis.client() as client:
        assert set(client.keys()) == keys


@pytest.fixture
def shown(log: Path) -> Iterator[redis.Redis]:
    with GodisProcess(log.parent, "--read-only", "--until", at(1.5)) as godis, godis.client(protocol=2) as client:
        yield client


def test_the_time_stands_still(shown: redis.Redis) -> None:
    assert shown.pttl("short") == DEADLINE_MS - BEGAN_MS - 1500
    assert shown.time() == (BEGAN_MS // 1000 + 1, 500_000)
    assert shown.lrange("list", 0, -1) == [b"x", b"y"]


REFUSED = "You can't write against a read only replica"


@pytest.mark.parametrize(
    "words",
    [
        "SET a 2",
        "DEL none",
        "LPUSH list x",
        "BLPOP list 0",
        "EXPIRE a 5",
        "GETEX a EX 5",
        "SORT list ALPHA STORE other",
        "FLUSHALL",
        "SWAPDB 0 9",
        "PFADD pf x",
        "FUNCTION FLUSH",
    ],
)
def test_a_write_is_refused(words: str, shown: Any) -> None:
    with pytest.raises(redis.ReadOnlyError, match=REFUSED):
        shown.execute_command(*words.split(" "))


def test_a_script_may_read_and_not_write(shown: redis.Redis) -> None:
    assert shown.eval("return redis.call('GET', KEYS[1])", 1, "a") == b"1"
    assert shown.eval("return redis.pcall('SET', KEYS[1], 2).err", 1, "a").startswith(b"READONLY ")
    assert shown.get("a") == b"1"


def test_a_transaction_with_a_write_is_refused_whole(shown: redis.Redis) -> None:
    writes, reads = shown.pipeline(), shown.pipeline()
    writes.get("a")
    writes.set("a", "2")
    with pytest.raises(redis.ReadOnlyError, match=REFUSED):
        writes.execute()
    reads.get("a")
    reads.publish("channel", "message")
    assert reads.execute() == [b"1", 0]


def test_the_log_of_a_server_that_goes_on_is_shown_and_stays_as_it_is(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis, godis.client() as client:
        client.set("a", "1")
        files = {path.name: path.read_bytes() for path in tmp_path.glob("log.txt*")}
        with GodisProcess(tmp_path, "--read-only") as other, other.client() as reader:
            assert {path.name: path.read_bytes() for path in tmp_path.glob("log.txt*")} == files
            client.set("a", "2")
            assert (reader.get("a"), client.get("a")) == (b"1", b"2")
            assert reader.config_get("appendonly") == {"appendonly": "no"}


def test_a_torn_end_is_left_where_it_is(log: Path) -> None:
    torn = log.read_bytes() + frame(encode_command([b"SET", b"more", b"4"]), BEGAN_MS + 9000)[:-3]
    log.write_bytes(torn)
    with GodisProcess(log.parent, "--read-only") as godis, godis.client() as client:
        assert client.keys() == [b"later"]
    assert log.read_bytes() == torn


def test_what_a_rewrite_replaced_is_shown(log: Path) -> None:
    os.rename(log, f"{log}.rewritten-{BEGAN_MS + 60_000}")
    write_log(log, [[set_(b"anew", b"5")]], now_ms=BEGAN_MS + 60_000)
    with GodisProcess(log.parent, "--read-only", "--until", at(0.5)) as godis, godis.client() as client:
        assert set(client.keys()) == {b"a", b"short"}
        assert "log.txt.rewritten-" in godis.stderr()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--until", "5"], 2, "these words and flags do not go together"),
        (["--read-only", "--no-log"], 2, "--read-only: it shows the log that --log names"),
        (["--read-only", "--data-dir", "d"], 2, "--read-only: it shows the log that --log names"),
        (["--read-only", "--pool", "etcd://127.0.0.1:1"], 2, "--read-only: it shows the log that --log names"),
        (["--read-only", "--log", "none.txt"], 1, "there is no file none.txt"),
        (["--read-only", "--until", "tomorrow"], 1, "--until: 'tomorrow' is no time"),
    ],
)
def test_what_cannot_be_shown_is_told(flags: list[str], code: int, said: str, log: Path) -> None:
    done = run_here(log.parent, *flags, "--port", str(free_port()))
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
