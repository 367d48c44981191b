"""DEBUG CLOCK and DEBUG STATE: the time that a test moves, and the keys that tests begin from again."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from canonical import all_of, answer, check
from instances import Bench, Replay
from random_commands import of_any_family
from tables import for_each

from commands import READONLY, TABLE, WRITE, fold
from errors import NO_SUCH_STATE, NOT_AN_INTEGER, STATE_EXISTS, TEST_COMMANDS_OFF, UNKNOWN_OR_WRONG_SUBCOMMAND
from net.manual_clock import ManualClock
from replies import OK, NullArray


@pytest.fixture
def bench() -> Bench:
    return for_tests()


def for_tests(**settings: str) -> Bench:
    made = Bench(default_ttl="0", **settings)
    made.instance.clock = ManualClock(made.instance)
    return made


def run_random(bench: Bench, random: Random, count: int) -> None:
    """Run so many random commands of all types on keys."""
    session = bench.new_session()
    while count:
        argv = of_any_family(random)
        row = TABLE.get(fold(argv[0]))
        if row is not None and row.flags & (READONLY | WRITE):
            answer(bench.engine, session, argv)
            count -= 1


@for_each("settings", [{}, {"maxmemory": "1gb"}])
@for_each("seed", range(3))
def test_a_loaded_state_is_what_was_saved_whatever_was_done_since(seed: int, settings: dict[str, str]) -> None:
    bench, random = for_tests(**settings), Random(seed)
    client = bench.connect()
    run_random(bench, random, 100)
    saved = {
        place: held for place, held in all_of(bench.store).items() if bench.store.databases[place[0]].is_live(place[1])
    }
    assert client.ask("DEBUG", "STATE", "SAVE", "s") == OK
    for _ in range(2):
        run_random(bench, random, 60)
        del bench.log.records[:], bench.log.databases[:]
        assert client.ask("DEBUG", "STATE", "LOAD", "s") == OK
        assert all_of(bench.store) == saved
        check(bench.store)
        replay = Replay()
        for db, argv in zip(bench.log.databases, bench.log.records, strict=True):
            replay.engine.apply(db, list(argv))
        assert all_of(replay.store) == saved


def test_a_client_that_watches_a_key_sees_a_load(bench: Bench) -> None:
    client, other = bench.connect(), bench.connect()
    client.ask("SET", "k", 1)
    client.ask("DEBUG", "STATE", "SAVE", "s")
    client.ask("WATCH", "k")
    other.ask("DEBUG", "STATE", "LOAD", "s")
    client.ask("MULTI")
    assert isinstance(client.ask("EXEC"), NullArray)


def test_time_passes_with_an_advance(bench: Bench) -> None:
    client, heard = bench.connect(), list[Any]()
    bench.instance.config.change({"notify-keyspace-events": "Ex"})
    bench.instance.apply_settings()
    subscriber = bench.connect()
    subscriber.session.push = heard.append
    subscriber.ask("SUBSCRIBE", "__keyevent@0__:expired")
    assert client.ask("DEBUG", "CLOCK", "FREEZE") == OK
    client.ask("SET", "k", "v", "EX", 10)
    client.ask("SET", "later", "v", "EX", 100)
    before = client.ask("TIME")
    client.ask("DEBUG", "CLOCK", "ADVANCE", 9999)
    assert (client.ask("PTTL", "k"), client.ask("EXISTS", "k"), heard[1:]) == (1, 1, [])
    client.ask("DEBUG", "CLOCK", "ADVANCE", 1)
    assert client.ask("DBSIZE") == 1
    assert "expired" in str(heard)
    assert int(client.ask("TIME")[0]) - int(before[0]) == 10
    client.ask("DEBUG", "CLOCK", "RESET")
    assert client.ask("TTL", "later") == 100


def test_a_pause_ends_with_an_advance(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CLIENT", "PAUSE", 60_000, "WRITE")
    assert bench.instance.paused
    assert client.ask("DEBUG", "CLOCK", "ADVANCE", 60_001) == OK
    assert not bench.instance.paused
    assert bench.instance.closed_gates == ()


@for_each(
    ("request_", "error"),
    [
        ("DEBUG STATE LOAD none", NO_SUCH_STATE % b"none"),
        ("DEBUG STATE SAVE there", STATE_EXISTS % b"there"),
        ("DEBUG CLOCK ADVANCE -1", NOT_AN_INTEGER),
        ("DEBUG CLOCK ADVANCE 1.5", NOT_AN_INTEGER),
        ("DEBUG CLOCK ADVANCE 99999999999999", NOT_AN_INTEGER),
        ("DEBUG CLOCK", UNKNOWN_OR_WRONG_SUBCOMMAND % (b"CLOCK", b"DEBUG")),
        ("DEBUG CLOCK FREEZE 1", UNKNOWN_OR_WRONG_SUBCOMMAND % (b"CLOCK", b"DEBUG")),
        ("DEBUG STATE SAVE", UNKNOWN_OR_WRONG_SUBCOMMAND % (b"STATE", b"DEBUG")),
    ],
)
def test_a_wrong_request_is_refused(request_: str, error: bytes) -> None:
    client = for_tests().connect()
    if b"'there'" in error:
        client.ask("DEBUG", "STATE", "SAVE", "there")
    assert client.ask(*request_.split()).text == error


@for_each("words", ["CLOCK FREEZE", "STATE SAVE s", "CLOCK"])
def test_a_server_that_is_not_for_tests_refuses(words: str) -> None:
    assert Bench().connect().ask("DEBUG", *words.split()).text == TEST_COMMANDS_OFF
