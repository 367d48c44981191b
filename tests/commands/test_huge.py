"""Values of many megabytes: copied and logged in slices, between which others are served; what fails half-way."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from instances import driven, run_one, state_of, work_of
from log_model import read_log
from rewrite_rig import replayed
from servers import PATIENCE_SECONDS, GodisProcess, encode, parse, served_meanwhile
from stepped_turn import Client, Rig

from aof import LONG_BATCH_BYTES, REPLACED, STEP_BYTES
from commands.long_commands import AT_ONCE_WORDS, HUGE_BYTES, PART_WORDS
from errors import CommandError
from protocol import HugeRequest, RequestParser
from replies import HELD_BACK, OK, Work

VALUE = os.urandom(LONG_BATCH_BYTES + 1_500_000)


def begin(rig: Rig, client: Client, *words: Any) -> Work:
    """Ask for something huge, and return the work."""
    argv = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return work_of(rig.engine.run_huge(client.session, argv))


def until_written_in_part(rig: Rig, work: Work) -> None:
    """Do the work until some of its batch, and not all of it, is in the file."""
    while os.path.getsize(rig.log.path) <= rig.log.written_bytes:
        next(work)


def keys_in(rig: Rig) -> set[bytes]:
    """Return the keys that a start would find."""
    copy = Path(rig.log.path).with_name("copy.txt")
    copy.write_bytes(Path(rig.log.path).read_bytes())
    model, report = read_log(copy)
    assert not report.torn_bytes
    return {key for _, key in model.data}


@pytest.fixture(params=["everysec", "always"])
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    rig = Rig(tmp_path, monkeypatch, request.param)
    yield rig
    rig.close()


def test_a_request_of_megabytes_is_marked_and_whatever_follows_it_is_there() -> None:
    parser = RequestParser()
    wire = encode("SET", "k", VALUE) + encode("GET", "k") + encode("SET", "small", VALUE[:100])
    requests = [
        argv
        for at in range(0, len(wire), 16384)
        for argv in parser.feed(wire[at : at + 16384], len(wire[at : at + 16384]))
    ]
    assert requests == [[b"SET", b"k", VALUE], [b"GET", b"k"], [b"SET", b"small", VALUE[:100]]]
    assert [type(argv) is HugeRequest for argv in requests] == [True, False, False]


def test_while_it_is_logged_others_read_and_who_writes_or_asks_for_it_waits(rig: Rig) -> None:
    client, other = rig.connect(), rig.connect()
    other.ask("SET small 1")
    rig.settle()
    work = begin(rig, client, "SET", "k", VALUE)
    next(work)
    rig.store.tick(rig.store.now_ms + 10)
    assert run_one(rig.engine, other.session, [b"SET", b"free", b"1"]) is OK  # until the file is written to
    assert run_one(rig.engine, other.session, [b"GET", b"k"]) is HELD_BACK
    rig.settle()
    until_written_in_part(rig, work)
    before = os.path.getsize(rig.log.path)
    for words in (["SET", "free", "2"], ["DEL", "small"], ["FLUSHALL"], ["GET", "k"]):
        assert run_one(rig.engine, other.session, [word.encode() for word in words]) is HELD_BACK, words
    for words in (["GET", "small"], ["PING"], ["INFO"]):
        assert run_one(rig.engine, other.session, [word.encode() for word in words]) is not HELD_BACK, words
    rig.turn.end()
    assert os.path.getsize(rig.log.path) == before
    assert driven(work)[0] is OK
    assert os.path.getsize(rig.log.path) == rig.log.written_bytes
    times = [
        int(head[1])
        for head in re.finditer(
            rb"^#\d+ [0-9a-f]{8} (\d+)(?: [0-9a-f]{8}){0,2}\r$", Path(rig.log.path).read_bytes(), re.M
        )
    ]
    assert times == sorted(times), "a batch has the time at which it is written"
    assert run_one(rig.engine, other.session, [b"SET", b"free", b"2"]) is OK
    rig.settle()
    assert keys_in(rig) == {b"small", b"free", b"k"}


def test_what_expires_meanwhile_is_logged_behind_it(rig: Rig) -> None:
    client, other = rig.connect(), rig.connect()
    other.ask("SET short 1 PX 10")
    rig.settle()
    work = begin(rig, client, "SET", "k", VALUE)
    until_written_in_part(rig, work)
    rig.store.tick(rig.store.now_ms + 20)
    other.ask("GET short")
    rig.turn.end()
    assert rig.log.pieces
    assert driven(work)[0] is OK
    rig.settle()
    log = Path(rig.log.path).read_bytes()
    assert log.endswith(encode("DEL", "short"))
    assert keys_in(rig) == {b"k"}


def test_under_always_its_reply_waits_for_the_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, monkeypatch, "always")
    client, other = rig.connect(), rig.connect()
    assert driven(begin(rig, client, "SET", "k", VALUE))[0] is OK
    assert rig.instance.read_observer is not None
    rig.instance.read_observer.observe_any_key(client.session)  # as the connection does
    rig.turn.replies.append((client, [b"+OK\r\n"], False))
    other.ask("EXISTS k")
    rig.turn.end()
    assert not client.take()
    assert not other.take()
    rig.fsync()
    assert client.take() == b"+OK\r\n"
    assert other.take() == b":1\r\n"
    rig.close()


def until_all_is_written(rig: Rig, size: int) -> None:
    """Let housekeeping write what failed; meanwhile reads are answered, and writes are refused."""
    other, steps = rig.connect(), 0
    while not rig.turn.write_again(lambda: True):
        assert isinstance(run_one(rig.engine, other.session, [b"SET", b"x", b"1"]), CommandError)
        assert run_one(rig.engine, other.session, [b"GET", b"before"]) == b"1"
        rig.turn.end()
        assert rig.log.written_bytes == size
        steps += 1
    assert steps >= len(VALUE) // STEP_BYTES


@pytest.mark.parametrize("when", ["before", "amid"])
def test_a_log_that_fails_keeps_it_for_the_next_try(rig: Rig, when: str) -> None:
    client, other = rig.connect(), rig.connect()
    other.ask("SET before 1")
    rig.settle()
    size = os.path.getsize(rig.log.path)
    work = begin(rig, client, "SET", "k", VALUE)
    if when == "amid":
        until_written_in_part(rig, work)
    rig.failing_writes = True
    assert driven(work)[0] is OK  # which the turn makes MISCONF of
    assert rig.log.failure is not None
    assert os.path.getsize(rig.log.path) == size
    rig.turn.end()
    assert isinstance(run_one(rig.engine, other.session, [b"SET", b"after", b"1"]), CommandError)
    rig.turn.each_second()
    assert rig.turn.writes_again
    while not rig.turn.write_again(lambda: True):
        assert rig.log.failure is not None
    assert rig.log.failure is not None
    assert os.path.getsize(rig.log.path) == size
    rig.failing_writes = False
    rig.turn.each_second()
    until_all_is_written(rig, size)
    rig.settle()
    assert rig.log.failure is None
    other.ask("SET after 1")
    rig.settle()
    assert keys_in(rig) == {b"before", b"k", b"after"}


@pytest.mark.parametrize("words", ["COPY k copy", "COPY k copy DB 1", "MOVE k 1"])
def test_a_copy_of_megabytes_is_logged_as_the_command_that_it_is(rig: Rig, words: str) -> None:
    client = rig.connect()
    driven(begin(rig, client, "SET", "k", VALUE, "EX", 1000))
    rig.settle()
    known_bytes = rig.log.written_bytes
    assert run_one(rig.engine, client.session, words.encode().split()) == 1
    rig.settle()
    assert rig.log.written_bytes - known_bytes < 1000


@pytest.mark.parametrize("asked", [b"GETRANGE k 1 -1\r\n", encode("GETRANGE", "k", 1, -1)], ids=["text", "RESP"])
def test_a_part_of_many_megabytes_is_sent_without_a_copy(shared_godis: GodisProcess, asked: bytes) -> None:
    value = os.urandom(HUGE_BYTES).hex().encode()
    with shared_godis.raw() as raw, shared_godis.raw() as other:
        assert raw.ask("SET", "k", value) == b"+OK\r\n"
        raw.send(asked + encode("GETRANGE", "k", 5, 9))
        assert raw.sock.recv(1, socket.MSG_PEEK)
        if asked[0] == ord("*"):
            assert raw.read_line() == b"$%d" % (len(value) - 1)
        assert other.ask("SET", "k", "another") == b"+OK\r\n"
        assert raw.read_exactly(len(value) + 1) == value[1:] + b"\r\n"
        assert raw.read_reply() == b"$2\r\ner\r\n"


@pytest.mark.parametrize("db", [0, 1])
@pytest.mark.parametrize("when", ["checksum", "turn", "file"])
def test_a_key_that_is_evicted_while_it_is_written_does_not_come_back(rig: Rig, when: str, db: int) -> None:
    """Its DEL comes behind the batch, in its database, whatever others had to log meanwhile."""
    client, other, third = rig.connect(), rig.connect(), rig.connect()
    run_one(rig.engine, client.session, [b"SELECT", b"%d" % db])
    run_one(rig.engine, other.session, [b"SELECT", b"2"])
    run_one(rig.engine, third.session, [b"SELECT", b"%d" % (1 - db)])
    other.ask("SET short 1 PX 10")
    rig.settle()
    work = begin(rig, client, "SET", "k", VALUE)
    next(work)
    if when == "turn":
        other.ask("SET free 1")  # so that the batch waits for the end of the turn
        while not rig.log.is_busy:
            next(work)
    elif when == "file":
        until_written_in_part(rig, work)
    rig.store.databases[db].evict(b"k")
    if when != "file":
        rig.settle()
        until_written_in_part(rig, work)
    rig.store.tick(rig.store.now_ms + 20)
    other.ask("GET short")
    assert driven(work)[0] is OK
    third.ask("SET after 1")
    rig.settle()
    assert run_one(rig.engine, client.session, [b"APPEND", b"k", b"x"]) == 1
    rig.settle()
    assert replayed(rig.log.path) == state_of(rig.store)


def test_after_a_failure_amid_it_what_others_logged_stays_in_its_database(rig: Rig) -> None:
    client, other = rig.connect(), rig.connect()
    run_one(rig.engine, other.session, [b"SELECT", b"1"])
    other.ask("SET short 1 PX 10")
    rig.settle()
    work = begin(rig, client, "SET", "k", VALUE)
    until_written_in_part(rig, work)
    rig.store.tick(rig.store.now_ms + 20)
    other.ask("GET short")  # to be logged, in database 1
    rig.failing_writes = True
    driven(work)
    assert rig.log.failure is not None
    client.ask("GET k")
    rig.store.databases[0].evict(b"k")  # as reads go on to expire keys: in database 0
    rig.failing_writes = False
    while not rig.turn.write_again(lambda: True):
        rig.turn.end()
    rig.settle()
    assert rig.log.failure is None
    assert replayed(rig.log.path) == state_of(rig.store) == {}


def test_what_failed_ends_in_database_0_when_it_is_written_at_last(rig: Rig) -> None:
    client = rig.connect()
    run_one(rig.engine, client.session, [b"SELECT", b"1"])
    client.ask("SET short 1 PX 10")
    rig.settle()
    work = begin(rig, client, "SET", "k", VALUE)
    rig.failing_writes = True
    driven(work)
    rig.failing_writes = False
    rig.store.tick(rig.store.now_ms + 20)
    client.ask("GET short")  # to be logged, in database 1
    rig.turn.end()
    while not rig.turn.write_again(lambda: True):
        pass
    client.ask("SET after 1")
    rig.settle()
    assert replayed(rig.log.path) == state_of(rig.store)


@pytest.mark.parametrize("failure", ["fsync", "replaced"])
@pytest.mark.parametrize("when", ["before", "amid"])
def test_what_failed_is_not_tried_again_while_something_else_is_wrong(rig: Rig, failure: str, when: str) -> None:
    client = rig.connect()
    work = begin(rig, client, "SET", "k", VALUE)
    rig.failing_writes = True
    driven(work)
    rig.failing_writes = False
    tried, known = rig.writes_tried, rig.log.write_failure
    if when == "amid":
        assert not rig.turn.write_again(lambda: True)
    if failure == "fsync":
        rig.log.fsync_failure = b"the disk is gone"
    else:
        rig.log.write_failure = REPLACED
    for _ in range(len(VALUE) // STEP_BYTES + 3):
        rig.turn.write_again(lambda: True)
    assert rig.writes_tried == tried
    rig.log.fsync_failure, rig.log.write_failure = None, known
    while not rig.turn.write_again(lambda: True):
        pass
    rig.settle()
    assert rig.log.failure is None
    assert keys_in(rig) == {b"k"}


def test_what_failed_is_written_whole_at_the_end_though_it_was_being_tried_again(rig: Rig) -> None:
    client = rig.connect()
    work = begin(rig, client, "SET", "k", VALUE)
    rig.failing_writes = True
    driven(work)
    rig.failing_writes = False
    while os.path.getsize(rig.log.path) <= rig.log.written_bytes:
        assert not rig.turn.write_again(lambda: True)
    rig.log.close()
    assert keys_in(rig) == {b"k"}


def test_of_long_values_the_records_are_gathered_while_a_command_is_executed(rig: Rig) -> None:
    """Millions of pieces, joined at its end, held up everybody for seconds."""
    client = rig.connect()
    words = [word for number in range(AT_ONCE_WORDS) for word in (b"%d" % number, VALUE[:3000])]
    work = work_of(run_one(rig.engine, client.session, [b"MSET", *words]))
    most, done = 0, False
    while not done:
        try:
            next(work)
        except StopIteration:
            done = True
        claim = rig.store.key_lock
        most = max(most, len(claim.effects.pieces) if claim is not None else 0)
    assert 1 < most <= 2 * AT_ONCE_WORDS // PART_WORDS + 2
    rig.settle()
    assert len(keys_in(rig)) == AT_ONCE_WORDS


def test_an_fsync_that_fails_amid_it_is_repaired_with_all_of_it(rig: Rig) -> None:
    client, other = rig.connect(), rig.connect()
    other.ask("SET before 1")
    rig.turn.end()
    work = begin(rig, client, "SET", "k", VALUE)
    if rig.config.appendfsync == "everysec":
        rig.turn.each_second()
    rig.failing_syncs = 1
    if rig.config.appendfsync == "everysec":
        until_written_in_part(rig, work)
        rig.run_fsync()
        assert rig.log.fsync_failure is not None
        driven(work)
    else:
        rig.run_fsync()  # the batch waits for what the turn holds, which is now for the repair
        driven(work)
    assert rig.log.failure is not None
    rig.settle()
    for _ in range(3):
        rig.turn.each_second()
        rig.settle()
    assert rig.log.failure is None
    assert rig.log.synced_bytes == rig.log.written_bytes == os.path.getsize(rig.log.path)
    assert keys_in(rig) == {b"before", b"k"}


def test_a_process_that_ends_amid_it_leaves_nothing_of_it(rig: Rig) -> None:
    client = rig.connect()
    client.ask("SET before 1")
    rig.settle()
    work = begin(rig, client, "SET", "k", VALUE)
    until_written_in_part(rig, work)
    torn = Path(rig.log.path).read_bytes()
    rig.log.close()
    work.close()
    assert len(Path(rig.log.path).read_bytes()) < len(torn)
    assert keys_in(rig) == {b"before"}
    rig.log.open()


def test_a_rewrite_takes_the_logs_place_only_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, monkeypatch, "everysec")
    client = rig.connect()
    client.ask("SET before 1")
    client.ask("BGREWRITEAOF")
    rig.turn.end()
    work = begin(rig, client, "SET", "k", VALUE)
    until_written_in_part(rig, work)
    for _ in range(5):
        rig.turn.rewriter.step(lambda: False)
        for _ in range(len(rig.jobs)):
            rig.fsync()
    assert rig.instance.rewrite.running
    assert driven(work)[0] is OK
    for _ in range(10):
        rig.turn.rewriter.step(lambda: False)
        rig.settle()
    assert not rig.instance.rewrite.running
    assert keys_in(rig) == {b"before", b"k"}
    rig.close()


def test_a_rewrite_takes_the_logs_place_while_a_long_batch_waits_for_what_the_turn_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, "always")
    client, other = rig.connect(), rig.connect()
    client.ask("SET before 1")
    rig.settle()
    client.ask("BGREWRITEAOF")
    rig.turn.end()
    while not rig.turn.rewriter.needs_fsync:
        rig.turn.rewriter.step(lambda: False)
        if rig.jobs:
            rig.fsync()
    assert rig.turn.syncing
    work = begin(rig, client, "SET", "k", VALUE)
    other.ask("SET free 1")
    while not rig.log.is_busy:
        next(work)
    rig.turn.end()
    assert rig.log.pieces
    reply = None
    for _ in range(30):
        reply = next(work, OK)
        rig.turn.end()
        if rig.jobs:
            rig.fsync()
    assert reply is OK
    assert not rig.instance.rewrite.running
    rig.settle()
    assert keys_in(rig) == {b"before", b"free", b"k"}
    rig.close()


# ---- the server


SIZE = 48 << 20
LONG: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "SET": lambda: (encode("SET", "k", bytes(SIZE)), b"+OK\r\n"),
    "APPEND": lambda: (encode("APPEND", "k", b"x" * SIZE), b":%d\r\n" % (2 * SIZE)),
    "SETRANGE": lambda: (encode("SETRANGE", "k", 1, b"y" * SIZE), b":%d\r\n" % (2 * SIZE)),
}


def test_others_are_served_while_a_huge_value_is_written_and_a_restart_finds_it(godis: GodisProcess) -> None:
    with godis.raw() as busy, godis.raw() as other:
        assert other.ask("SET", "small", "1") == b"+OK\r\n"
        for name, make in LONG.items():
            assert served_meanwhile(busy, other, *make(), "GET", "small") >= 5, name
    godis.kill9()
    godis.start()
    with godis.raw() as client:
        assert parse(client.ask("STRLEN", "k")) == 2 * SIZE
        assert parse(client.ask("GETRANGE", "k", 0, 2)) == b"\0yy"
        assert parse(client.ask("GETRANGE", "k", SIZE, SIZE + 1)) == b"yx"


def test_a_kill_while_it_is_written_leaves_a_torn_tail_and_nothing_of_it(godis: GodisProcess) -> None:
    assert godis.log is not None
    with godis.raw() as busy, godis.raw() as other:
        assert other.ask("SET", "small", "1") == b"+OK\r\n"
        before = godis.log.stat().st_size
        busy.send(LONG["SET"]()[0])
        while godis.log.stat().st_size == before:
            assert other.ask("PING") == b"+PONG\r\n"
        godis.kill9()
    size = godis.log.stat().st_size
    godis.start()
    with godis.raw() as client:
        assert parse(client.ask("GET", "small")) == b"1"
        assert parse(client.ask("EXISTS", "k")) == (size > SIZE)
        assert client.ask("SET", "k", "new") == b"+OK\r\n"


# ---- all of it side by side

NAMES = [f"key:{number}" for number in range(5000)]
REQUESTS = 400 if "GODIS_SOAK" in os.environ else 12
MIXED: list[Callable[[list[str]], bytes]] = [
    lambda keys: encode("MSET", *(word for key in keys for word in (key, "v"))),
    lambda keys: encode("MSETNX", *(word for key in keys for word in (key, "n"))),
    lambda keys: encode("DEL", *keys),
    lambda keys: encode("MGET", *keys),
    lambda keys: encode("EXISTS", *keys),
    lambda keys: encode("SET", keys[0], VALUE),
    lambda keys: encode("APPEND", keys[1], VALUE),
    lambda keys: encode("SET", keys[2], "x", "PX", 5),
    lambda keys: encode("GET", keys[2]),
    lambda keys: encode("INCR", "counter"),
    lambda keys: encode("KEYS", "*1"),
    lambda keys: encode("DBSIZE"),
    lambda keys: encode("BGREWRITEAOF"),
    lambda keys: encode("LCS", keys[0], keys[1]),
]


def ask_at_random(godis: GodisProcess, seed: int, trouble: list[BaseException]) -> None:
    random = Random(seed)
    try:
        with godis.raw(timeout=PATIENCE_SECONDS) as raw:
            for _ in range(REQUESTS):
                raw.send(random.choice(MIXED)(random.sample(NAMES, 2500)))
                raw.read_reply()
    except BaseException as error:  # to be raised where the test sees it
        trouble.append(error)


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_long_commands_and_short_ones_and_rewrites_all_come_to_an_end(tmp_path: Path, policy: str) -> None:
    """And what they left is what a start finds."""
    with GodisProcess(tmp_path, "--appendfsync", policy, "--default-ttl", "0") as godis:
        trouble: list[BaseException] = []
        clients = [threading.Thread(target=ask_at_random, args=(godis, seed, trouble)) for seed in range(5)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert not trouble
        with godis.raw() as raw:
            before = raw.ask("DBSIZE"), raw.ask("MGET", *NAMES)
        godis.terminate()
        godis.start()
        with godis.raw() as raw:
            assert (raw.ask("DBSIZE"), raw.ask("MGET", *NAMES)) == before
        assert "Traceback" not in godis.stderr()
