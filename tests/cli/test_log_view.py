"""`godis log`: what happened to which keys, and when."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from program import run_here
from servers import GODIS, GodisProcess
from tables import for_each

from cli.log_view import _show_line
from log.reader import FIRST_LINK, Fault, client_note, frame, link_of, units
from protocol import encode_command

BEGAN_MS = 1_700_000_000_000
BATCHES = [  # one a second
    "SELECT 0|SET user:1 Ann|SELECT 3|SET user:1 Bob|SELECT 0",
    "SELECT 0|MULTI|RPUSH list a b|HSET user:2 name Eve|EXEC",
    "SELECT 0|DEL user:1 list",
    "SELECT 0|SELECT 3|FLUSHDB|SELECT 0",
]
ALL = [
    (0, 0, "SET user:1 Ann"),
    (0, 3, "SET user:1 Bob"),
    (1, 0, "RPUSH list a b"),
    (1, 0, "HSET user:2 name Eve"),
    (2, 0, "DEL user:1 list"),
    (3, 3, "FLUSHDB"),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path, link = tmp_path / "log.txt", FIRST_LINK
    with path.open("wb") as file:
        for second, commands in enumerate(BATCHES):
            payload = b"".join(encode_command(line.encode().split()) for line in commands.split("|"))
            batch = frame(payload, BEGAN_MS + 1000 * second, link)
            file.write(batch)
            link = link_of(batch)
    return path


def shown(output: str) -> list[tuple[int, int, str]]:
    """Return the second, the database and the command of each line of JSON."""
    lines = map(json.loads, output.splitlines())
    return [((line["time_ms"] - BEGAN_MS) // 1000, line["db"], " ".join(line["command"])) for line in lines]


@for_each(
    ("flags", "numbers"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("--key user:1", [0, 1, 4, 5]),
        ("--key user:*", [0, 1, 3, 4, 5]),
        ("--key list --since 1700000001", [2, 4, 5]),
        ("--since 1700000001 --until 1700000002", [2, 3]),
        ("--until 1700000000500", [0, 1]),
        ("--since 2030-01-01", []),
    ],
)
def test_a_log_tells_what_happened(flags: str, numbers: list[int], log: Path) -> None:
    done = run_here(log.parent, "log", "log.txt", *flags.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert shown(done.stdout) == [ALL[number] for number in numbers]


@for_each("torn", [b"", b"#100 00000000 17", b"#100 ff3623ea 1700000009000 00000000\r\n*2\r\n"])
def test_a_torn_end_is_left_out(torn: bytes, log: Path) -> None:
    log.write_bytes(log.read_bytes() + torn)
    assert shown(run_here(log.parent, "log", "log.txt").stdout) == ALL
    assert log.read_bytes().endswith(torn)


def test_a_corrupt_log_is_shown_up_to_the_fault(log: Path) -> None:
    data = bytearray(log.read_bytes())
    data[data.index(b"Eve")] ^= 1
    log.write_bytes(data)
    done = run_here(log.parent, "log", "log.txt")
    assert (done.returncode, shown(done.stdout)) == (1, ALL[:2])
    assert "the checksum is wrong" in done.stderr


@for_each(
    ("args", "said"),
    [
        (["log", "none"], "there is no file none"),
        (["log", "log.txt", "--since", "soon"], "--since: 'soon' is no time"),
        (["log"], "do not go together"),
        (["check", "log.txt", "--follow"], "do not go together"),
    ],
)
def test_a_wrong_request_is_refused_with_code_2(args: list[str], said: str, log: Path) -> None:
    done = run_here(log.parent, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_line_of_text_of_the_original_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("SET k hello\nDEL k\n")
    lines = list(map(json.loads, run_here(tmp_path, "log", "log.txt").stdout.splitlines()))
    assert [(line["time_ms"], line["command"][0]) for line in lines] == [(None, "SET"), (None, "DEL")]


def test_a_person_sees_long_words_cut(capsys: pytest.CaptureFixture[str]) -> None:
    _show_line(0, 2, [b"SET", b"a key", b"\xff" + b"x" * 300])
    _show_line(BEGAN_MS, 0, [b"DEL", b"k", b""])
    unknown, known = capsys.readouterr().out.splitlines()
    assert unknown.split("  ")[-1] == 'SET "a key" "\\xff' + "x" * 99 + '... (201 more bytes)"'
    assert known.endswith('  db0  DEL k ""')
    assert known.startswith("2023-11-1")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path, "--default-ttl", "0") as process:
        yield process


def test_a_log_is_followed_beyond_a_rewrite(server: GodisProcess) -> None:
    def next_command() -> Any:
        assert following.stdout is not None
        return json.loads(following.stdout.readline())["command"]

    command = [sys.executable, str(GODIS), "log", str(server.log), "--follow"]
    with server.client() as client:
        client.set("before", "1")
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": ""}) as following:
            try:
                assert next_command() == ["SET", "before", "1"]
                client.set("k", "2")
                assert next_command() == ["SET", "k", "2"]
                client.execute_command("BGREWRITEAOF")
                for number in range(3):
                    while client.info("persistence")["aof_rewrite_in_progress"]:
                        pass
                    client.set("after", number)
                    assert next_command() == ["SET", "after", str(number)]
            finally:
                following.kill()


def write_own_keys(server: GodisProcess, name: str) -> None:
    """Write keys that begin with this name, in several databases, alone and in pipelines and transactions."""
    for db in (0, 3):
        with server.client(db=db, client_name=name) as client:
            for number in range(20):
                client.rpush(f"{name}:list", number)
                client.get(f"{name}:list:none")
                with client.pipeline(transaction=number % 2 == 0) as pipeline:
                    pipeline.set(f"{name}:{number}", "x").select(9).incr(f"{name}:count").select(db).execute()
            client.eval("redis.call('SET', KEYS[1], 'x')", 1, f"{name}:script")


def test_the_log_says_which_client_has_written_what(tmp_path: Path) -> None:
    names = ["one", "two", "three", "four"]
    with GodisProcess(tmp_path, "--log-clients", "yes") as godis:
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(write_own_keys, godis), names))
        godis.kill9()
        output = run_here(tmp_path, "log", "log.txt").stdout
        found: Counter[str] = Counter()
        for line in map(json.loads, output.splitlines()):
            name = line["command"][1].partition(":")[0]
            assert line["client"]["name"] == name
            assert line["client"]["user"] == "default"
            found[name] += 1
        assert found == dict.fromkeys(names, 2 * (20 * 3 + 1))
        godis.start()
        with godis.client(db=9) as client:
            assert client.mget([f"{name}:count" for name in names]) == [b"40"] * 4


def test_clients_are_noted_from_the_moment_that_it_is_asked_for(server: GodisProcess) -> None:
    with server.client(client_name="me") as client:
        for wanted in ("no", "yes", "no"):
            client.config_set("log-clients", wanted)
            client.incr("n")
    output = run_here(server.directory, "log", "log.txt").stdout
    assert ["client" in json.loads(line) for line in output.splitlines()] == [False, True, False]


def test_a_client_is_one_printable_word_of_a_head() -> None:
    note = client_note("unix:/tmp/a b", "Jörg, x".encode(), b"worker,1\r\n" + b"-" * 300)
    assert note.startswith(b"unix:/tmp/a?b,J??rg??x,worker,1??---")
    batch = frame(b"*1\r\n$4\r\nPING\r\n", BEGAN_MS, FIRST_LINK, client=note)
    (unit,) = units(io.BytesIO(batch), len(batch))
    assert (unit.client, unit.end) == (note, len(batch))
    damaged = b"$" + batch[1:]
    with pytest.raises(Fault):
        list(units(io.BytesIO(damaged), len(damaged)))
    with pytest.raises(Fault, match="damaged"):
        list(units(io.BytesIO(b"# x" + batch[4:]), len(batch) - 1))
