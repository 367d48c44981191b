"""WAIT and WAITAOF: on servers as processes, and what a loss of power leaves of what WAITAOF has promised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from instances import Bench, Harness
from power_loss import Recorder
from recovery import start_on
from servers import GodisProcess, RedisProcess, encode, parse, wait_until
from stepped_turn import Rig

import errors
from aof import NullLog
from commands.waits import waitaof
from errors import LogError
from replies import Blocked, UntilSynced
from session import PoolState


@pytest.fixture(scope="module")
def plain_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path_factory.mktemp("godis")) as process:
        yield process


@pytest.mark.parametrize(
    "requests",
    [
        ["WAIT"],
        ["WAIT 0 0"],
        ["WAIT 0 100"],
        ["WAIT -1 10"],
        ["WAIT 1 10"],
        ["WAIT x 0"],
        ["WAIT 1 x"],
        ["WAIT 1 1.5"],
        ["WAIT 1 -1"],
        ["WAIT 99999999999999999999 1"],
        ["MULTI", "WAIT 1 0", "WAIT 1 x", "EXEC"],
        ["SET k v", "WAIT 1 5", "GET k"],
    ],
)
def test_wait_answers_as_a_redis_without_replicas(
    plain_godis: GodisProcess, redis_server: RedisProcess, requests: list[str]
) -> None:
    replies = []
    for server in (plain_godis, redis_server):
        with server.raw() as raw:
            raw.send(b"".join(encode(*line.split()) for line in requests))
            replies.append([raw.read_reply() for _ in requests])
    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("2 0 0", errors.NUMLOCAL_OUT_OF_RANGE),
        ("-1 0 0", errors.NUMLOCAL_OUT_OF_RANGE),
        ("x 0 0", errors.NOT_AN_INTEGER),
        ("1 x 0", errors.COUNT_NEGATIVE),
        ("0 -1 0", errors.COUNT_NEGATIVE),
        ("1 0 -1", errors.TIMEOUT_NEGATIVE),
        ("0 0 x", errors.TIMEOUT_NOT_AN_INTEGER),
        ("1 0 0", errors.WAITAOF_WITHOUT_LOG),
        ("0 0 0", [0, 0]),
    ],
)
def test_waitaof_without_a_log_answers_as_redis_8_does(words: str, reply: bytes | list[int]) -> None:
    found = Bench(appendonly="no").connect().ask("WAITAOF", *words.split())
    assert getattr(found, "text", found) == reply


def test_in_a_pool_each_write_that_is_answered_is_on_a_disk() -> None:
    member = Harness(NullLog(), pool="etcd://nowhere")
    member.instance.pool = PoolState("id", "/godis", [], stale_reads=True)
    session = member.new_session()
    assert waitaof(session, [b"WAITAOF", b"1", b"0", b"0"]) == [1, 0]
    assert isinstance(waitaof(session, [b"WAITAOF", b"1", b"1", b"5"]), Blocked)


def test_waitaof_waits_for_what_is_not_synced(bench: Bench) -> None:
    client = bench.connect()
    assert client.ask("WAITAOF", 1, 0, 0) == [1, 0]
    bench.log.written_bytes = 10
    assert isinstance(client.ask("WAITAOF", 1, 0, 0), UntilSynced)
    assert client.ask("WAITAOF", 0, 0, 0) == [0, 0]
    client.ask("MULTI")
    client.ask("WAITAOF", 1, 0, 0)
    assert client.ask("EXEC") == [[0, 0]]


@pytest.mark.parametrize("policy", ["no", "everysec", "always"])
def test_waitaof_begins_an_fsync_and_answers_when_it_has_ended(tmp_path: Path, policy: str) -> None:
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis, godis.raw() as client:
        client.send(b"".join(encode("SET", "k", number) + encode("WAITAOF", 1, 0, 0) for number in range(20)))
        replies = [client.read_reply() for _ in range(40)]
        assert replies == [b"+OK\r\n", b"*2\r\n:1\r\n:0\r\n"] * 20


@pytest.mark.parametrize(("how", "reply"), [("TIMEOUT", 0), ("ERROR", errors.UNBLOCKED)])
def test_client_unblock_ends_a_wait(plain_godis: GodisProcess, how: str, reply: object) -> None:
    with plain_godis.raw() as client, plain_godis.raw() as other:
        number = parse(client.ask("CLIENT", "ID"))
        client.send(encode("WAIT", 1, 0))
        wait_until(lambda: b" flags=b " in other.ask("CLIENT", "LIST", "ID", number))
        assert other.ask("CLIENT", "UNBLOCK", number, how) == b":1\r\n"
        assert parse(client.read_reply()) == reply
        assert client.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize("policy", ["no", "everysec", "always"])
@pytest.mark.parametrize("seed", range(3))
def test_what_waitaof_has_answered_outlives_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, seed: int
) -> None:
    """Writes, turns, fsyncs that take long or fail, and waits for them, in any order; the power may go at any time."""
    random, directory = Random(seed), tmp_path / "disk"
    directory.mkdir()
    recorder = Recorder(directory, monkeypatch)
    rig = Rig(directory, monkeypatch, policy, sync=recorder.sync)
    client, written, answered, failed, losses = rig.connect(), 0, [0], [0], 0

    def wait(number: int) -> None:
        rig.turn.when_synced(lambda failure: (answered if failure is None else failed).append(number))

    for _ in range(150):
        step = random.randrange(8)
        if step <= 1:
            client.ask(f"SET k {written + 1}")
            written = int(bytes(rig.store.databases[0].string(b"k") or b"0"))  # it may have been refused
        elif step == 2:
            wait(written)
        elif step == 3:
            rig.gather()
        elif step == 4:
            rig.turn._sync_for_waiters()
        elif step == 5 and rig.jobs:
            rig.failing_syncs = int(random.random() < 0.1)
            rig.run_fsync()
        elif step == 6 and rig.jobs:
            rig.fsync()
        elif step == 7 and random.random() < 0.3:
            rig.pass_seconds(1)
        if random.random() < 0.1:
            for state in recorder.disk.states(4, random):
                try:
                    value, _ = start_on(state, recorder.disk.root).get((0, b"k"), (b"0", 0))
                except LogError as error:  # a hole between unsynced batches is refused: see docs/durability.md
                    if "whole batches follow" not in str(error):
                        raise
                    continue
                assert int(value) >= max(answered), f"{max(answered)} was said to be on the disk"
                losses += 1
    wait(written)
    for _ in range(8):
        rig.pass_seconds(1)
        rig.settle()
        rig.turn._sync_for_waiters()
    assert max(*answered, *failed) == written, "everybody gets an answer"
    assert losses > 10
    rig.close()
