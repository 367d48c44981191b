"""What the commands on HyperLogLogs answer and log; that their bytes are redis-server's; thousands of elements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fakes import answers_and_logs
from instances import Bench, Client, driven, run_one, state_of, work_of
from servers import RedisProcess
from tables import for_each

import errors
from errors import CommandError
from replies import OK
from values import hyperloglog, murmur
from values.entry import NO_DEADLINE
from values.hyperloglog import EMPTY

STALE = hyperloglog.stale(EMPTY)


def asked(client: Client, line: str) -> Any:
    """Return the reply to a line, of an error the text."""
    reply = client.ask(*line.split())
    return reply.text if isinstance(reply, CommandError) else reply


CASES: list[tuple[str, str, Any, list[str]]] = [  # before, command, reply, effects
    ("", "PFADD k a b a", 1, ["PFADD k a b"]),
    ("PFADD k a", "PFADD k a", 0, []),
    ("PFADD k a", "PFADD k a b", 1, ["PFADD k b"]),
    ("", "PFADD k", 1, ["PFADD k"]),
    ("PFADD k", "PFADD k", 0, []),
    ("PFADD k", "GET k", STALE, []),
    ("PFADD k a; EXPIRE k 100; PFADD k b", "TTL k", 100, []),
    ("", "PFCOUNT k", 0, []),
    ("", "PFCOUNT k j", 0, []),
    ("PFADD k a b c; PFCOUNT k", "PFCOUNT k", 3, []),
    ("PFADD k a b c; PFADD j c d", "PFCOUNT k j nokey", 4, []),
    ("PFADD k a b c; PFADD j c d; PFMERGE k j", "PFCOUNT k", 4, ["SETRANGE k 8 \x04\0\0\0\0\0\0\0"]),
    ("PFADD k a", "PFMERGE d k nokey", OK, ["PFMERGE d k nokey"]),
    ("PFADD k a", "PFMERGE k k", OK, []),
    ("PFADD k a; PFCOUNT k", "PFMERGE k", OK, ["PFMERGE k"]),
    ("", "PFMERGE d", OK, ["PFMERGE d"]),
    ("PFMERGE d", "GET d", STALE, []),
    ("SET s v", "PFADD s a", errors.NO_HYPERLOGLOG, []),
    ("SET s v", "PFCOUNT nokey s", errors.NO_HYPERLOGLOG, []),
    ("SET s v; PFADD k a", "PFMERGE d k s", errors.NO_HYPERLOGLOG, []),
    (f"SETBIT s {2**31} 1", "PFADD s a", errors.NO_HYPERLOGLOG, []),
    ("PFADD k a; SETRANGE k 70000 x", "PFADD k", 0, []),
    ("PFADD k a; SETRANGE k 70000 x", "PFADD k b", errors.CORRUPT_HYPERLOGLOG, []),
    ("PFADD k a; SETRANGE k 70000 x", "PFCOUNT k", errors.CORRUPT_HYPERLOGLOG, []),
]
WRONG_TYPE = ["PFADD l a", "PFCOUNT l", "PFCOUNT k l", "PFMERGE l", "PFMERGE d l"]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: Any, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


def replayed(bench: Bench) -> Bench:
    other = Bench(default_ttl="0")
    for argv in bench.log.records:
        other.engine.apply(0, argv)
    return other


@pytest.mark.parametrize("line", WRONG_TYPE)
def test_a_value_of_another_type_is_refused(line: str) -> None:
    bench = Bench()
    client = bench.connect()
    bench.store.databases[0].put(b"l", [], NO_DEADLINE)
    assert asked(client, line) == errors.WRONG_TYPE
    assert asked(client, "EXISTS d") == 0


@pytest.mark.parametrize("line", ["PFADD k b", "PFCOUNT k", "PFCOUNT k k", "PFMERGE d k"])
def test_corrupt_runs_are_an_error_and_nothing_changes(line: str) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("SET", "k", STALE[:-2] + b"\0")
    before = state_of(bench.store)
    assert asked(client, line) == errors.CORRUPT_HYPERLOGLOG
    assert state_of(bench.store) == before
    assert len(bench.log.records) == 1


def test_a_count_in_redis_log_is_replayed_as_a_count() -> None:
    bench, other = Bench(default_ttl="0"), Bench(default_ttl="0")
    client = bench.connect()
    client.ask("PFADD", "k", "a", "b")
    client.ask("PFCOUNT", "k")
    for argv in ([b"PFADD", b"k", b"a", b"b"], [b"PFCOUNT", b"k"]):
        other.engine.apply(0, argv)
    assert state_of(bench.store) == state_of(other.store)


def test_where_a_read_may_not_write_the_estimate_is_not_stored() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("PFADD", "k", "a")
    before = state_of(bench.store)
    bench.store.may_delete = False
    assert client.ask("PFCOUNT", "k") == 1
    assert state_of(bench.store) == before
    bench.store.may_delete = True
    assert client.ask("PFCOUNT", "k") == 1
    assert state_of(bench.store) != before


# ---- pipelines, and thousands of words


@pytest.mark.parametrize("seed", range(4))
def test_a_pipeline_does_what_its_requests_do_one_by_one(seed: int) -> None:
    chance = Random(seed)
    one, other = Bench(default_ttl="0"), Bench(default_ttl="0")
    sessions = one.new_session(), other.new_session()
    for _ in range(60):
        keys = [b"k%d" % number for number in range(chance.choice([1, 1, 3]))]
        if chance.random() < 0.1:
            for bench, session in zip((one, other), sessions, strict=True):
                run_one(bench.engine, session, [b"SET", keys[0], chance_free(seed)])
        size = chance.choice([None, 7])
        requests = [
            [b"PFADD", chance.choice(keys), b"%07d" % chance.randrange(3000) if size else b"%d" % chance.randrange(99)]
            for _ in range(chance.randint(2, 20))
        ]
        together = one.engine.run(sessions[0], requests)
        single = [run_one(other.engine, sessions[1], argv) for argv in requests]
        assert [getattr(each, "text", each) for each in together] == [getattr(each, "text", each) for each in single]
        assert state_of(one.store) == state_of(other.store)
    assert state_of(replayed(one).store) == state_of(one.store)
    assert len(one.log.records) < len(other.log.records)


def chance_free(seed: int) -> bytes:
    return [b"v", EMPTY, STALE[:-2], EMPTY][seed]


def test_thousands_of_elements_are_added_in_slices_and_logged_in_parts() -> None:
    bench, plain = Bench(default_ttl="0"), Bench(default_ttl="0")
    elements = [b"element%d" % number for number in range(6000)]
    reply, steps = driven(work_of(run_one(bench.engine, bench.new_session(), [b"PFADD", b"k", *elements])))
    assert (reply, steps > 20, len(bench.log.records) > 10) == (1, True, True)
    for start in range(0, len(elements), 500):
        run_one(plain.engine, plain.new_session(), [b"PFADD", b"k", *elements[start : start + 500]])
    assert state_of(bench.store) == state_of(plain.store) == state_of(replayed(bench).store)
    known = len(bench.log.records)
    reply, _ = driven(work_of(run_one(bench.engine, bench.new_session(), [b"PFADD", b"k", *elements])))
    assert (reply, len(bench.log.records)) == (0, known)


def test_a_huge_element_is_hashed_in_slices() -> None:
    bench = Bench(default_ttl="0")
    huge = bytes(range(256)) * 4001 + b"x"
    argv = [b"PFADD", b"k", b"a", huge, b"b"]
    reply, steps = driven(work_of(run_one(bench.engine, bench.new_session(), argv)))
    assert (reply, steps > 50) == (1, True)
    expected, _ = hyperloglog.add(EMPTY, [murmur.hash_of(element) for element in argv[2:]])
    assert bench.store.databases[0].get(b"k") == expected


@pytest.mark.parametrize("count", [100, 3000])
def test_many_are_united_in_slices(count: int) -> None:
    bench = Bench(default_ttl="0")
    client, session = bench.connect(), bench.new_session()
    keys = [b"k%d" % number for number in range(count)]
    for number in range(0, count, 10):
        client.ask("PFADD", keys[number], f"element{number}")
    united, steps = driven(work_of(run_one(bench.engine, session, [b"PFCOUNT", *keys])))
    assert united == pytest.approx(count // 10, rel=0.05)
    assert steps > 9
    reply, _ = driven(work_of(run_one(bench.engine, session, [b"PFMERGE", b"d", *keys])))
    assert reply is OK
    assert client.ask("PFCOUNT", "d") == united
    assert len(bench.log.records[-2]) < 200
    assert state_of(replayed(bench).store) == state_of(bench.store)


# ---- beside redis-server


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory: Path = tmp_path_factory.mktemp("redis")
    with RedisProcess(directory) as server, server.client(decode_responses=False) as client:
        yield client


@pytest.mark.parametrize("seed", range(4))
def test_the_bytes_are_those_of_redis_server(real: Any, seed: int) -> None:
    chance, client = Random(seed), Bench(default_ttl="0").connect()
    keys = ["a", "b", "c"]
    real.flushall()
    for _ in range(120):
        key, other = chance.choices(keys, k=2)
        first = chance.randrange(10**6)
        words: list[Any] = chance.choice(
            [
                ["PFADD", key, *[f"e{first + number}" for number in range(chance.choice([1, 1, 3, 60, 400]))]],
                ["PFADD", key, chance.randbytes(chance.randrange(20))],
                ["PFCOUNT", key],
                ["PFCOUNT", key, other],
                ["PFMERGE", key, other],
                ["DEL", key] if chance.random() < 0.2 else ["PFCOUNT", other],
            ]
        )
        theirs, ours = real.execute_command(*words), client.ask(*words)
        assert ours == (OK if theirs in (True, b"OK") and words[0] == "PFMERGE" else theirs), words
        assert client.ask("GET", key) == real.get(key), words
