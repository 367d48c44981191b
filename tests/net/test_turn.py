"""When replies leave: under `always` not before what they say is on the disk, and nobody else waits for it.

The fsyncs run when the test says so (stepped_turn.py); over a real process strace makes them slow.
"""

from __future__ import annotations

import select
import shutil
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from math import inf
from pathlib import Path

import gevent
import pytest
from hypothesis import settings
from log_model import Record, read_log, set_, write_log
from servers import PATIENCE_SECONDS, GodisProcess, Raw, encode, parse, require, wait_until
from soak import THOROUGHNESS
from stepped_turn import MISCONF, START_MS, Client, Rig
from unsynced_machine import NothingUnsyncedIsShown

from commands import NO_KEYS, READONLY, WRITE
from commands.introspection import all_rows
from net.connection import Connection
from net.pending_replies import MOST_INPUT_BYTES, MOST_TURNS
from net.scheduler import WOKEN_A_TURN
from net.turn import SENT_A_TURN
from session import Pause, Session

OK = b"+OK\r\n"
NULL = b"$-1\r\n"

ROUND_SECONDS = 0.001  # to sleep for it lets the loop look at its sockets


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def lazy_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig under everysec."""
    made = Rig(tmp_path, monkeypatch, policy="everysec")
    yield made
    made.close()


def prepared(rig: Rig) -> tuple[Client, Client]:
    """Fill an instance, sync it, and connect a writer and a reader."""
    filler = rig.connect()
    filler.ask("MSET a old b old c old", "SET dying x PX 500", "SELECT 1", "SET elsewhere 1")
    rig.turn.end()
    rig.turn.each_second()
    rig.settle()
    filler.take()
    return rig.connect(), rig.connect()


# ---- who waits


SEES_A = [
    "GET a",
    "GETRANGE a 0 -1",
    "STRLEN a",
    "EXISTS b a",
    "TOUCH a",
    "TYPE a",
    "TTL a",
    "PEXPIRETIME a",
    "MGET b a",
    "LCS b a",
    "SET a mine NX",
    "SET a mine XX GET",
    "SETNX a mine",
    "MSETNX d mine a mine",
    "GETSET a mine",
    "GETDEL a",
    "GETEX a",
    "INCR a",
    "INCRBYFLOAT a 1",
    "EXPIRE a 10 XX",
    "PERSIST a",
    "RENAME a d",
    "RENAMENX b a",
    "COPY a d",
    "COPY a a DB 2",
    "MOVE a 1",
    "DEL a",
    "OBJECT ENCODING a",
    "object refcount a",
    "MEMORY USAGE a",
    "KEYS *",
    "KEYS nothing*",
    "SCAN 0",
    "DBSIZE",
    "RANDOMKEY",
    "FLUSHDB",
    "SWAPDB 0 1",
]
SEES_NOTHING = [
    "GET b",
    "GET nokey",
    "EXISTS b c",
    "MGET b c nokey",
    "TTL b",
    "OBJECT ENCODING b",
    "SET b mine NX",
    "INCR b",
    "SET a",
    "GET a b",
    "PING",
    "ECHO a",
    "TIME",
    "INFO",
    "CONFIG GET appendfsync",
    "CLIENT ID",
    "COMMAND COUNT",
    "COMMAND GETKEYS GET a",
    "SELECT 1",
    "NOSUCH a",
    "OBJECT HELP",
    "OBJECT NOSUCH a",
]


@pytest.mark.parametrize("request_line", SEES_A)
def test_a_reply_that_tells_of_an_unsynced_key_waits_for_its_fsync(rig: Rig, request_line: str) -> None:
    writer, reader = prepared(rig)
    writer.ask("SET a new")
    rig.turn.end()
    reader.ask(request_line)
    rig.turn.end()
    assert (writer.take(), reader.take()) == (b"", b"")
    rig.settle()
    assert writer.take() == OK
    assert reader.take() != b""


@pytest.mark.parametrize("request_line", SEES_A)
def test_a_reply_that_tells_of_a_key_of_its_own_turn_waits_too(rig: Rig, request_line: str) -> None:
    writer, reader = prepared(rig)
    writer.ask("SET a new")
    reader.ask(request_line)
    rig.turn.end()
    assert (writer.take(), reader.take()) == (b"", b"")
    rig.settle()
    assert reader.take() != b""


@pytest.mark.parametrize("request_line", SEES_NOTHING)
def test_a_reply_that_does_not_is_sent_while_the_fsync_hangs(rig: Rig, request_line: str) -> None:
    writer, reader = prepared(rig)
    writer.ask("SET a new")
    rig.turn.end()
    reader.ask(request_line)
    rig.turn.end()
    assert reader.take() != b""
    assert writer.take() == b""


@pytest.mark.parametrize("request_line", SEES_A)
def test_nobody_waits_when_all_is_synced_but_who_writes(rig: Rig, request_line: str) -> None:
    writer, reader = prepared(rig)
    writer.ask("SET a new")
    rig.settle()
    reader.ask(request_line)
    wrote = bool(rig.log.pieces)
    rig.turn.end()
    assert (reader.take() == b"") == wrote


WRITES = [  # what is written, whose keys then wait, whose do not
    ("SET a 1", "a", "b c"),
    ("SET a 1 EX 10", "a", "b c"),
    ("MSET a 1 b 2", "a b", "c"),
    ("DEL a b", "a b", "c"),
    ("UNLINK a", "a", "b"),
    ("RENAME a d", "a d", "b c"),
    ("COPY a d", "a d", "b"),  # its record names both
    ("MOVE a 2", "a", "b"),
    ("EXPIRE a 10", "a", "b"),
    ("EXPIRE a -1", "a", "b"),
    ("PERSIST dying", "dying", "a b"),
    ("APPEND a x", "a", "b"),
    ("SETRANGE a 1 x", "a", "b"),
    ("INCR d", "d", "a b"),
    ("INCRBYFLOAT d 1", "d", "a b"),
    ("GETDEL a", "a", "b"),
    ("GETEX a EX 10", "a", "b"),
    ("SET a 1 NX", "", "a b"),
    ("FLUSHALL", "a b nokey", ""),
    ("FLUSHDB", "a b nokey", ""),
    ("SWAPDB 0 1", "a b nokey elsewhere", ""),
]


@pytest.mark.parametrize(("line", "waiting", "free"), WRITES)
def test_the_keys_of_an_effect_are_those_that_wait(rig: Rig, line: str, waiting: str, free: str) -> None:
    writer, _ = prepared(rig)
    writer.ask(line)
    rig.turn.end()
    readers = {key: rig.connect().ask(f"EXISTS {key}") for key in [*waiting.split(), *free.split()]}
    rig.turn.end()
    assert {key for key, reader in readers.items() if not reader.take()} == set(waiting.split())


@pytest.mark.parametrize("line", ["SET {} 1", "INCR {}", "INCRBY {} 7", "EXPIRE {} 60", "SETEX {} 60 1", "DEL {}"])
def test_a_pipeline_at_once_is_looked_at_by_its_keys(rig: Rig, line: str) -> None:
    writer, reader = prepared(rig)
    other = rig.connect()
    writer.ask("MSET " + " ".join(f"k{number} 5" for number in range(9)))
    rig.settle()
    writer.ask(*(line.format(f"k{number}") for number in range(9)))
    rig.turn.end()
    reader.ask(*(f"GET {key}" for key in ["a", "b", "k5", "c"]))
    other.ask(*(f"GET {key}" for key in "abca"))
    rig.turn.end()
    assert reader.take() == b""
    assert other.take() == b"$3\r\nold\r\n" * 4
    rig.settle()
    assert reader.take().count(b"$") == 4


def test_a_key_that_a_read_finds_expired_waits_as_a_deleted_one_does(rig: Rig) -> None:
    _, reader = prepared(rig)
    other, third = rig.connect(), rig.connect()
    rig.store.tick(START_MS + 500)
    reader.ask("GET dying")
    rig.turn.end()
    other.ask("EXISTS dying")
    third.ask("GET b")
    rig.turn.end()
    assert (reader.take(), other.take(), third.take()) == (b"", b"", b"$3\r\nold\r\n")
    rig.settle()
    assert (reader.take(), other.take()) == (NULL, b":0\r\n")


def test_a_key_that_housekeeping_deleted_waits_too(rig: Rig) -> None:
    _, reader = prepared(rig)
    rig.store.tick(START_MS + 2000)
    assert rig.store.expire_cycle(lambda: False)
    rig.store.databases[0].evict(b"c")
    rig.turn.end()
    other = rig.connect().ask("GET c")
    third = rig.connect().ask("GET a")
    reader.ask("EXISTS dying")
    rig.turn.end()
    assert (reader.take(), other.take(), third.take()) == (b"", b"", b"$3\r\nold\r\n")
    rig.settle()
    assert (reader.take(), other.take()) == (b":0\r\n", NULL)


def test_what_is_written_during_an_fsync_waits_for_the_next(rig: Rig) -> None:
    writer, reader = prepared(rig)
    other = rig.connect()
    writer.ask("SET a 1")
    rig.turn.end()
    rig.run_fsync()  # the loop has not heard of its end
    other.ask("SET b 2")
    rig.turn.end()
    rig.fsync()
    assert (writer.take(), other.take()) == (OK, b"")
    reader.ask("GET b")
    rig.connect().ask("GET a")
    rig.turn.end()
    free = rig.connect().ask("GET a")
    rig.turn.end()
    assert (reader.take(), free.take()) == (b"", b"$1\r\n1\r\n")
    rig.fsync()
    assert (other.take(), reader.take()) == (OK, b"$1\r\n2\r\n")
    assert not rig.jobs


def synced_at_once(rig: Rig, *clients: Client) -> bool:
    """End a turn; say whether it began an fsync, after which these clients are answered."""
    rig.turn.end()
    if not rig.jobs:
        return False
    job, done = rig.jobs.pop()
    job()
    done()
    assert all(client.take() == OK for client in clients)
    return True


def test_an_fsync_after_a_short_one_waits_for_whom_the_last_two_answered_but_for_nobody_else(rig: Rig) -> None:
    first, second = prepared(rig)
    for _ in range(2):
        rig.seconds += 1  # for which nobody is waited for
        first.ask("SET a 1")
        second.ask("SET b 1")
        assert synced_at_once(rig, first, second)
    first.ask("SET a 2")
    assert not synced_at_once(rig), "the second may be about to write"
    second.ask("SET b 2")
    assert synced_at_once(rig, first, second)
    first.ask("SET a 3")
    assert not synced_at_once(rig)
    assert synced_at_once(rig, first), "this turn brought nobody"
    first.ask("SET a 4")
    assert not synced_at_once(rig)
    assert synced_at_once(rig, first)
    first.ask("SET a 5")
    assert synced_at_once(rig, first), "the second was not among the last two"


def test_an_fsync_long_after_the_last_waits_for_nobody(rig: Rig) -> None:
    first, second = prepared(rig)
    first.ask("SET a 1")
    second.ask("SET b 1")
    assert synced_at_once(rig, first, second)
    rig.seconds += 1
    first.ask("SET a 2")
    assert synced_at_once(rig, first)


def test_who_hangs_up_when_a_turn_is_late_goes_in_a_later_one(lazy_rig: Rig) -> None:
    """Thousands may do so at once."""
    turn = lazy_rig.turn
    here, there = socket.socketpair()
    here.setblocking(False)
    session = Session(lazy_rig.instance, lazy_rig.instance.next_client_id())

    def serve() -> None:
        Connection(turn, lazy_rig.engine, here, session).serve()

    with here:
        client = gevent.spawn(serve)
        gevent.sleep(ROUND_SECONDS)
        there.close()
        turn.instance.turn_ends = 0.0
        gevent.sleep(ROUND_SECONDS)
        assert not turn.replies
        turn.instance.turn_ends = inf
        wait_until(lambda: gevent.sleep(ROUND_SECONDS) or turn.replies, what="its end is behind its replies")
        turn.end()
        client.join(timeout=PATIENCE_SECONDS)
        assert client.successful()


def test_a_log_that_is_written_during_an_fsync_for_a_rewrite_holds_nobody_up_for_longer(rig: Rig) -> None:
    writer, other = prepared(rig)
    writer.ask("SET a 1")
    rig.turn.end()
    rig.run_fsync()  # the loop has not heard of its end
    other.ask("SET b 2", "BGREWRITEAOF")
    rig.turn.end()
    assert not rig.log.pieces, "a rewrite begins with what is written"
    rig.fsync()
    assert (writer.take(), other.take()) == (OK, b"")
    while rig.instance.rewrite.in_progress:
        rig.turn.rewriter.step(lambda: True)
        rig.settle()
    assert other.take().startswith(OK)


def test_an_fsync_that_begins_amid_a_turn_does_not_cover_that_turn(rig: Rig) -> None:
    writer, reader = prepared(rig)
    rig.store.tick(START_MS + 2000)
    assert rig.store.expire_cycle(lambda: False)
    rig.turn.end()
    writer.ask("SET b 2")
    rig.turn.start_fsync()  # as the end of a rewrite does
    rig.fsync()
    reader.ask("GET b")
    rig.turn.end()
    assert (writer.take(), reader.take()) == (b"", b"")
    rig.fsync()
    assert (writer.take(), reader.take()) == (OK, b"$1\r\n2\r\n")


def test_the_replies_of_a_connection_stay_in_order(rig: Rig) -> None:
    writer, _ = prepared(rig)
    writer.ask("GET b", "SET a 1", "GET b")
    rig.turn.end()
    writer.ask("GET b")
    rig.turn.end()
    writer.ask("PING")
    rig.turn.end()
    assert writer.take() == b""
    rig.settle()
    assert writer.take() == b"$3\r\nold\r\n+OK\r\n$3\r\nold\r\n" + b"$3\r\nold\r\n" + b"+PONG\r\n"
    writer.ask("GET b")
    rig.turn.end()
    assert writer.take() == b"$3\r\nold\r\n"


def test_a_reply_does_not_overtake_the_later_of_two_that_wait(rig: Rig) -> None:
    writer, _ = prepared(rig)
    writer.ask("SET a 1")
    rig.turn.end()
    writer.ask("INCR a")
    rig.turn.end()
    rig.fsync()
    assert writer.take() == OK
    writer.ask("GET c")
    rig.turn.end()
    assert writer.take() == b""
    rig.fsync()
    assert writer.take() == b":2\r\n$3\r\nold\r\n"


def test_who_saw_something_once_waits_for_that_alone(rig: Rig) -> None:
    writer, reader = prepared(rig)
    for number in range(2):
        writer.ask(f"SET a {number}")
        rig.turn.end()
        reader.ask("GET b")
        rig.turn.end()
        assert reader.take() == b"$3\r\nold\r\n"
        reader.ask("GET a")
        rig.settle()
        assert reader.take() == b"$1\r\n%d\r\n" % number


def test_when_always_began_amid_unsynced_writes_all_wait_once_and_not_longer(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, reader = prepared(rig)
    writer.ask("SET a 1")
    rig.turn.end()
    writer.ask("CONFIG SET appendfsync always")
    reader.ask("GET b")
    rig.turn.end()
    rig.settle()
    assert reader.take() == b"$3\r\nold\r\n"
    writer.ask("SET a 2")
    rig.turn.end()
    reader.ask("GET b")
    rig.turn.end()
    assert reader.take() == b"$3\r\nold\r\n"


def test_each_command_that_names_no_key_is_known_to_read_all_keys_or_none() -> None:
    """A new command has to say which: by READONLY or WRITE, or by a place in this list."""
    reads_none = {
        *("AUTH", "BGREWRITEAOF", "CLIENT", "COMMAND", "CONFIG", "DEBUG", "ECHO", "EXIT", "HELLO", "INFO", "LASTSAVE"),
        *("MEMORY", "OBJECT", "PING", "POOL", "QUIT", "READMODE", "RESET", "SELECT", "SHUTDOWN", "TIME"),
        *("MULTI", "DISCARD", "UNWATCH", "XGROUP", "XINFO"),
        *("ACL", "BGSAVE", "LATENCY", "LOLWUT", "MODULE", "MONITOR", "ROLE", "SAVE", "SLOWLOG", "WAIT", "WAITAOF"),
        *("SCRIPT", "FUNCTION"),  # a script or a library is no key
        "EXEC",  # which is looked at as the requests that it runs
        *("SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "PUBLISH", "PUBSUB"),
    }
    found = {
        row.name.decode().partition("|")[0]
        for row in all_rows()
        if row.keys == NO_KEYS and not row.flags & (READONLY | WRITE)
    }
    assert found <= reads_none


# ---- how much may wait


def test_who_waits_is_not_read_from_while_too_much_waits(rig: Rig) -> None:
    writer, reader = prepared(rig)
    second, third = rig.connect(), rig.connect()
    statistics = rig.instance.statistics

    def write(client: Client) -> None:
        client.ask("INCR n")
        reader.ask("GET b")
        statistics.input_bytes += MOST_INPUT_BYTES // 2 + 1
        rig.turn.end()

    for client, paused in [(writer, False), (second, False), (third, True)]:
        write(client)
        assert client.paused == paused
    assert not reader.paused, "who does not wait is read from, whatever comes"
    rig.fsync()
    assert (writer.take(), third.take(), third.paused) == (b":1\r\n", b"", False)
    write(writer)
    assert writer.paused
    rig.config.change({"appendfsync": "no"})
    rig.instance.apply_settings()
    rig.turn.end()
    assert not writer.paused


def test_who_waits_is_not_read_from_while_the_replies_of_very_many_turns_wait(rig: Rig) -> None:
    writer, reader = prepared(rig)
    for _ in range(1 + MOST_TURNS):  # the first is on its way already
        writer.ask("INCR n")
        rig.turn.end()
    assert not writer.paused
    reader.ask("KEYS *")
    rig.turn.end()
    assert reader.paused
    assert not writer.paused, "it has asked for nothing more"
    rig.settle()
    assert not reader.paused
    assert reader.take().startswith(b"*")


# ---- failures


def test_after_a_failed_fsync_who_waited_is_told_and_cut_off_and_the_others_are_served(rig: Rig) -> None:
    writer, reader = prepared(rig)
    other = rig.connect()
    rig.failing_syncs = 2
    writer.ask("SET a new")
    rig.turn.end()
    reader.ask("GET a")
    writer.ask("GET b")
    rig.turn.end()
    rig.fsync()
    assert (writer.take(), writer.aborted) == (MISCONF, True)
    assert (reader.take(), reader.aborted) == (MISCONF, True)
    again = rig.connect().ask("GET a")  # what it says may still be lost
    other.ask("GET b")
    rig.turn.end()
    assert (again.take(), again.aborted) == (MISCONF, True)
    assert other.ask("SET b 1")
    rig.turn.end()
    assert other.take() == b"$3\r\nold\r\n" + MISCONF
    assert not rig.jobs, "a failed fsync is tried again by housekeeping, not at once"
    for _ in range(2):  # the one that fails to repair, the one that succeeds
        rig.turn.each_second()
        rig.settle()
    recovered = rig.connect().ask("GET a")
    rig.turn.end()
    assert recovered.take() == b"$3\r\nnew\r\n"


def test_a_key_whose_write_failed_is_not_shown_until_it_is_written_and_synced(rig: Rig) -> None:
    writer, reader = prepared(rig)
    rig.failing_writes = True
    writer.ask("SET a new")
    rig.turn.end()
    assert writer.take() == MISCONF
    reader.ask("GET b")
    curious = rig.connect().ask("GET a")
    rig.turn.end()
    assert reader.take() == b"$3\r\nold\r\n"
    assert curious.take() == MISCONF
    rig.turn.each_second()
    rig.failing_writes = False
    assert rig.turn.write_again(lambda: True)
    waiting = rig.connect().ask("GET a")
    rig.turn.end()
    assert waiting.take() == b""
    rig.settle()
    assert waiting.take() == b"$3\r\nnew\r\n"


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_what_could_not_be_written_is_tried_again_each_second_and_not_each_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    rig = Rig(tmp_path, monkeypatch, policy)
    rig.failing_writes = True
    first = rig.connect().ask("SET a 1")
    rig.turn.end()
    assert (first.take(), first.aborted, rig.writes_tried) == (MISCONF, True, 1)
    for _ in range(20):
        refused, read = rig.connect().ask("SET b 2"), rig.connect().ask("GET other")
        rig.turn.end()
        assert refused.take() == MISCONF
        assert read.take() == b"$-1\r\n"
    assert rig.writes_tried == 1
    for second in range(3):
        rig.turn.each_second()
        assert rig.writes_tried == 2 + second
    rig.failing_writes = False
    rig.turn.each_second()
    rig.settle()
    assert rig.log.failure is None
    assert read_log(tmp_path / "log.txt")[0].data == {(0, b"a"): (b"1", None)}
    rig.close()


def test_thousands_who_wait_for_the_end_of_a_pause_are_woken_some_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    woken: list[int] = []
    rounds: list[int] = []

    def wait(number: int) -> None:
        rig.turn.scheduler.wait_for_resume()
        woken.append(number)

    rig.instance.set_pause(Pause(rig.store.now_ms + 60_000, set_ms=rig.store.now_ms))
    clients = [gevent.spawn(wait, number) for number in range(5 * WOKEN_A_TURN)]
    gevent.sleep(0)
    for gone in (3, 4 * WOKEN_A_TURN):
        clients[gone].kill()
    each_round = gevent.get_hub().loop.check()
    each_round.start(lambda: rounds.append(len(woken)))
    rig.instance.set_pause(Pause(rig.store.now_ms + 60_000, writes_only=True, set_ms=rig.store.now_ms))
    wait_until(lambda: gevent.sleep(ROUND_SECONDS) or len(rounds) > 2 * 5, what="each looked")
    assert not woken, "each waits again"
    rig.instance.set_pause(Pause())
    gevent.joinall(clients, timeout=PATIENCE_SECONDS)
    each_round.stop()
    assert woken == [number for number in range(5 * WOKEN_A_TURN) if number not in (3, 4 * WOKEN_A_TURN)]
    assert max(after - before for before, after in pairwise(rounds)) <= WOKEN_A_TURN
    rig.close()


def rewrite_with_a_failing_fsync(rig: Rig, after_rename: bool) -> None:
    """Rewrite the log; the fsync of the old one fails, or the one that makes the rename last."""
    rig.connect().ask("BGREWRITEAOF")
    rig.turn.end()
    while not rig.turn.rewriter.needs_fsync:
        rig.turn.rewriter.step(lambda: True)
        while rig.jobs and not rig.turn.rewriter.needs_fsync:
            rig.fsync()
    if after_rename:
        job, done = rig.jobs.pop(0)
        job()
        rig.failing_syncs = 1
        done()
    rig.failing_syncs = 1
    rig.settle()
    assert not rig.instance.rewrite.in_progress


@pytest.mark.parametrize("after_rename", [False, True])
@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_whatever_failed_to_be_synced_is_tried_again_until_it_is(
    lazy_rig: Rig, policy: str, after_rename: bool
) -> None:
    """Also where nothing is unsynced but a rename, and where the policy asks for no fsync: all writes are refused."""
    rig = lazy_rig
    writer, operator = prepared(rig)
    operator.ask(f"CONFIG SET appendfsync {policy}")
    rig.settle()
    if not after_rename:
        rig.log.append_set(0, b"a", b"1", -1)  # else there is nothing to sync
    rewrite_with_a_failing_fsync(rig, after_rename)
    assert rig.log.failure is not None
    assert (rig.log.written_bytes == rig.log.synced_bytes) == after_rename
    rig.pass_seconds(1)
    rig.settle()
    assert rig.log.failure is None
    writer.ask("SET a 2")
    rig.settle()
    assert writer.take() == OK


def test_lastsave_is_the_last_fsync_that_succeeded(rig: Rig) -> None:
    writer, reader = prepared(rig)
    for seconds, failing, expected in [(5, 0, 5), (10, 1, 5), (15, 0, 15)]:
        rig.store.tick(START_MS + 1000 * seconds)
        writer.ask("SET a 1")
        rig.turn.end()
        rig.failing_syncs = failing
        rig.fsync()
        if not failing and rig.log.failure:
            rig.turn.each_second()
            rig.settle()
        reader.ask("LASTSAVE")
        rig.turn.end()
        assert reader.take() == b":%d\r\n" % (START_MS // 1000 + expected)
        rig.turn.each_second()
        rig.settle()


def test_a_policy_of_no_fsyncs_repairs_what_one_before_it_failed_to_sync(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, operator = prepared(rig)
    writer.ask("SET a 1")
    rig.failing_syncs = 1
    rig.turn.end()
    rig.turn.each_second()
    rig.settle()
    operator.ask("CONFIG SET appendfsync no")
    writer.ask("SET a 2")
    rig.turn.end()
    assert writer.take() == OK + MISCONF
    rig.pass_seconds(1)
    rig.settle()
    writer.ask("SET a 2")
    rig.turn.end()
    assert writer.take() == OK


# ---- the policy changes


@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_no_later_reply_overtakes_when_always_ends(rig: Rig, policy: str) -> None:
    writer, operator = prepared(rig)
    writer.ask("SET a 1", "GET a")
    rig.turn.end()
    operator.ask(f"CONFIG SET appendfsync {policy}")
    writer.ask("GET b", "SET b 2")
    rig.turn.end()
    assert operator.take() == OK
    assert writer.take() == b"+OK\r\n$1\r\n1\r\n" + b"$3\r\nold\r\n+OK\r\n"
    rig.fsync()
    writer.ask("GET b")
    rig.turn.end()
    assert writer.take() == b"$1\r\n2\r\n"


def test_what_was_unsynced_when_always_begins_is_not_shown(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, reader = prepared(rig)
    writer.ask("SET a 1")
    rig.turn.end()
    assert writer.take() == OK
    writer.ask("SET b 2", "CONFIG SET appendfsync always")
    rig.turn.end()
    reader.ask("GET a")
    rig.turn.end()
    assert (writer.take(), reader.take()) == (b"", b"")
    rig.settle()
    assert (writer.take(), reader.take()) == (OK + OK, b"$1\r\n1\r\n")
    reader.ask("GET c")
    rig.turn.end()
    assert reader.take() == b"$3\r\nold\r\n"


def test_what_the_turn_wrote_in_which_always_begins_is_not_shown(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, reader = prepared(rig)
    operator = rig.connect()
    assert rig.log.written_bytes == rig.log.synced_bytes
    writer.ask("SET a 1")
    operator.ask("CONFIG SET appendfsync always")
    rig.turn.end()
    reader.ask("GET a")
    rig.turn.end()
    assert (writer.take(), reader.take()) == (b"", b"")
    rig.settle()
    assert (writer.take(), reader.take()) == (OK, b"$1\r\n1\r\n")


# ---- everysec


def delayed(rig: Rig) -> int:
    return rig.instance.statistics.delayed_fsyncs


def test_everysec_waits_for_nothing_while_fsyncs_are_in_time(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, _ = prepared(rig)
    for _ in range(20):
        writer.ask("SET a 1")
        rig.turn.end()
        assert writer.take() == OK
        rig.pass_seconds(0.5)
        if rig.jobs:
            rig.fsync()
    assert rig.log.synced_bytes > 0
    assert delayed(rig) == 0


def test_everysec_acknowledges_no_more_once_two_seconds_are_unsynced(
    lazy_rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig = lazy_rig
    writer, reader = prepared(rig)
    other = rig.connect()
    rig.turn.each_second()
    started = rig.seconds
    acknowledged_at = []

    def write_until(seconds: float) -> None:
        while rig.seconds < started + seconds:
            writer.ask("INCR n")
            rig.turn.end()
            if writer.take():
                acknowledged_at.append(rig.seconds - started)
            rig.pass_seconds(0.25)

    def hang() -> None:
        write_until(6)
        reader.ask("GET a")  # what was shown before may be shown again
        other.ask("GET n")
        rig.turn.end()
        assert (reader.take(), other.take()) == (b"$3\r\nold\r\n", b"")

    write_until(1)
    assert len(rig.jobs) == 1
    rig.during_sync = hang
    rig.fsync()
    assert acknowledged_at[-1] == 1.75
    assert delayed(rig) == 1
    assert [record.getMessage()[:46] for record in caplog.records] == ["Asynchronous AOF fsync is taking too long (dis"]
    assert writer.take() == b"", "the rest of what was acknowledged is more than four seconds old"
    rig.fsync()
    assert writer.take() == b"".join(b":%d\r\n" % number for number in range(9, 25))
    assert other.take() == b"$2\r\n24\r\n"
    writer.ask("INCR n")
    rig.turn.end()
    assert writer.take() == b":25\r\n"


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_the_next_fsync_begins_at_once_when_the_last_one_took_its_second(lazy_rig: Rig, seconds: float) -> None:
    rig = lazy_rig
    writer, _ = prepared(rig)
    rig.turn.each_second()
    writer.ask("SET a 1")
    rig.turn.end()
    rig.pass_seconds(1)

    def write() -> None:
        writer.ask("SET a 2")
        rig.turn.end()
        rig.pass_seconds(seconds)

    rig.during_sync = write
    rig.fsync()
    assert len(rig.jobs) == (seconds >= 1), "else the next second will begin it"
    assert delayed(rig) == (seconds >= 1)


def test_what_a_turn_wrote_amid_which_a_hold_up_begins_is_not_shown_before_it_is_in_the_log(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, reader = prepared(rig)
    writer.ask("SET b 1")
    rig.turn.end()
    rig.pass_seconds(1.75)
    assert rig.jobs
    assert writer.take() == OK
    writer.ask("SET a 2")
    rig.pass_seconds(0.5)
    assert delayed(rig) == 1
    rig.turn.end()
    reader.ask("GET a")
    rig.turn.end()
    assert rig.log.pieces, "it is not written while an fsync runs"
    assert (writer.take(), reader.take()) == (b"", b"")
    rig.settle()
    assert (writer.take(), reader.take()) == (OK, b"$1\r\n2\r\n")


def test_an_fsync_that_was_due_while_another_ran_begins_when_that_ends(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, _ = prepared(rig)
    rig.turn.each_second()
    rig.pass_seconds(0.5)
    writer.ask("SET a 1")
    rig.turn.end()
    rig.turn.start_fsync()  # as the end of a rewrite does

    def write() -> None:
        writer.ask("SET a 2")
        rig.turn.end()
        rig.pass_seconds(0.75)

    rig.during_sync = write
    rig.fsync()
    assert len(rig.jobs) == 1
    assert delayed(rig) == 0


def test_nothing_unsynced_is_nothing_too_old(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, _ = prepared(rig)
    rig.pass_seconds(100)
    writer.ask("SET a 1")
    rig.turn.end()
    rig.pass_seconds(1)
    assert rig.jobs
    rig.pass_seconds(0.75)
    writer.ask("SET a 1")
    rig.turn.end()
    assert writer.take() == OK + OK
    rig.settle()
    assert delayed(rig) == 0


def test_the_two_seconds_hold_for_an_fsync_that_ran_when_everysec_began(rig: Rig) -> None:
    writer, operator = prepared(rig)
    writer.ask("SET a 1")
    rig.turn.end()
    operator.ask("CONFIG SET appendfsync everysec")
    rig.turn.end()
    for seconds, acknowledged in [(1.75, OK), (0.5, b"")]:
        rig.pass_seconds(seconds)
        writer.take()
        writer.ask("SET a 2")
        rig.turn.end()
        assert writer.take() == acknowledged
    assert delayed(rig) == 1
    rig.settle()
    assert writer.take() == OK


def test_a_hold_up_ends_when_the_policy_is_no(lazy_rig: Rig) -> None:
    rig = lazy_rig
    writer, operator = prepared(rig)
    writer.ask("SET a 1")
    rig.turn.end()
    rig.pass_seconds(4)
    writer.ask("SET a 2")
    rig.turn.end()
    assert writer.take() == OK
    operator.ask("CONFIG SET appendfsync no")
    rig.turn.end()
    assert (writer.take(), operator.take()) == (OK, OK)


# ---- any order of anything, against a plain model


def test_a_hold_up_of_everysec_that_becomes_always_shows_nothing_of_before() -> None:
    machine = NothingUnsyncedIsShown()
    try:
        machine.change(number=0, lines=[("SET", "a", "4 NX")])
        machine.change_policy(policy="everysec")
        machine.end_turn()
        machine.wait(seconds=3)
        machine.change_policy(policy="always")
        machine.change(number=0, lines=[("SET", "a", "4 NX")])
        machine.end_turn()
    finally:
        machine.teardown()


TestNothingUnsyncedIsShown = NothingUnsyncedIsShown.TestCase
TestNothingUnsyncedIsShown.settings = settings(max_examples=30 * THOROUGHNESS, stateful_step_count=40, deadline=None)


# ---- over a real process, whose fsyncs strace makes slow


class SlowDiskGodis(GodisProcess):
    """Godis with `a` and `b` set, whose fsyncs take longer: strace waits before it lets them through."""

    def __init__(
        self, directory: Path, delay_seconds: float, *args: str, more: list[Record] | None = None, when: str = "1+"
    ) -> None:
        require(shutil.which("strace"), "strace is not installed")
        self.injection = f"inject=fdatasync:delay_enter={int(delay_seconds * 1e6)}:when={when}"
        write_log(directory / "log.txt", [[set_(b"a", b"old"), set_(b"b", b"old"), *(more or [])]])
        super().__init__(directory, "--default-ttl", "0", *args)

    def command(self) -> list[str]:
        trace = str(self.directory / "trace")
        # -D: the process that is started is the server, and strace its grandchild
        strace = ["strace", "-D", "-f", "-o", trace, "-e", "trace=fdatasync", "-e", self.injection]
        return [*strace, *super().command()]

    def stop(self) -> None:
        """End at once: a clean end would wait for one more fsync."""
        self.kill9()


def unanswered(client: Raw) -> bool:
    """Return True if nothing has come by now."""
    return not client.buffer and not select.select([client.sock], [], [], 0)[0]


def test_a_hanging_fsync_under_always_holds_up_only_who_saw_what_it_syncs(tmp_path: Path) -> None:
    with (
        SlowDiskGodis(tmp_path, 2, "--appendfsync", "always") as godis,
        godis.raw() as writer,
        godis.raw() as curious,
        godis.raw() as other,
    ):
        writer.send(encode("GET", "b") + encode("SET", "a", "new") + encode("QUIT"))
        wait_until(
            lambda: b"aof_unsynced_bytes:0" not in other.ask("INFO", "persistence"), what="the write is unsynced"
        )
        curious.send(encode("GET", "a"))
        assert other.ask("GET", "b") == b"$3\r\nold\r\n"
        assert other.ask("SET", "a") == b"-ERR wrong number of arguments for 'set' command\r\n"
        curious.send(encode("PING"))
        assert other.ask_line(b"GET b") == b"old"
        assert unanswered(writer)
        assert unanswered(curious)
        assert writer.read_all() == b"$3\r\nold\r\n" + OK + OK
        assert curious.read_exactly(len(b"$3\r\nnew\r\n+PONG\r\n")) == b"$3\r\nnew\r\n+PONG\r\n"


def test_who_waits_for_an_fsync_is_not_idle(tmp_path: Path) -> None:
    with (
        SlowDiskGodis(tmp_path, 3, "--appendfsync", "always", "--timeout", "1", when="1") as godis,
        godis.raw() as writer,
        godis.raw() as idle,
    ):
        writer.send(encode("SET", "a", "new"))
        assert idle.is_closed()
        assert unanswered(writer), "the idle one was to be closed before the end of the fsync"
        assert writer.read_reply() == OK
        assert writer.ask("GET", "a") == b"$3\r\nnew\r\n"


def test_replies_in_two_turns_and_a_close_all_wait_for_their_fsync(tmp_path: Path) -> None:
    """The end of a connection waits for all that is held for it, not for the first of it."""
    with SlowDiskGodis(tmp_path, 0.5, "--appendfsync", "always") as godis, godis.raw() as client:
        client.send(encode("SET", "a", 1))
        with godis.raw() as other:
            wait_until(lambda: b"aof_unsynced_bytes:0" not in other.ask("INFO", "persistence"), what="it is unsynced")
        client.send(encode("SET", "b", 2) + encode("QUIT"))
        assert client.read_all() == OK * 3


def test_a_list_of_keys_made_in_slices_waits_for_what_came_while_it_was_made(tmp_path: Path) -> None:
    """It has seen, or missed, what was written since it began, though nothing was unsynced then."""
    many = [set_(b"%d" % number + bytes(8000), b"") for number in range(60)]
    with (
        SlowDiskGodis(tmp_path, 6, "--appendfsync", "always", more=many) as godis,
        godis.raw() as writer,
        godis.raw() as lister,
        godis.raw() as other,
    ):
        slow = "*" + "[^q]" * 250 + "x*"  # a millisecond a key or more
        lister.send(encode("KEYS", slow) + encode("CLIENT", "SETNAME", "done"))
        wait_until(lambda: b"cmd=keys" in other.ask("CLIENT", "LIST"), what="it is under way")
        writer.send(encode("SET", "a", "new"))
        wait_until(lambda: b"aof_unsynced_bytes:0" not in other.ask("INFO", "persistence"), what="it is unsynced")
        assert b"name=done" not in other.ask("CLIENT", "LIST"), "the list was to be made still"
        wait_until(lambda: b"name=done" in other.ask("CLIENT", "LIST"), 20, "the list is made")
        assert unanswered(writer), "it was to be made before the end of the fsync"
        assert unanswered(lister)
        assert writer.read_reply() == OK
        assert lister.read_reply() == b"*0\r\n"


def test_a_list_that_is_sent_in_slices_waits_with_its_first(tmp_path: Path) -> None:
    many = [set_(b"key:%d" % number, b"") for number in range(3000)]
    with (
        SlowDiskGodis(tmp_path, 3, "--appendfsync", "always", more=many) as godis,
        godis.raw() as writer,
        godis.raw() as lister,
        godis.raw() as next_one,
        godis.raw() as other,
    ):
        writer.send(encode("SET", "new", "1"))
        wait_until(lambda: b"aof_unsynced_bytes:0" not in other.ask("INFO", "persistence"), what="it is unsynced")
        lister.send(encode("KEYS", "*"))
        wait_until(lambda: b"cmd=keys" in other.ask("CLIENT", "LIST"), what="it is under way")
        next_one.send(encode("KEYS", "nothing") + encode("CLIENT", "SETNAME", "done"))
        wait_until(lambda: b"name=done" in other.ask("CLIENT", "LIST"), what="both lists are made, one after the other")
        assert unanswered(writer), "they were to be made before the end of the fsync"
        assert unanswered(lister)
        assert unanswered(next_one)
        assert writer.read_reply() == OK
        assert len(parse(lister.read_reply())) == 3003
        assert next_one.read_reply() == b"*0\r\n"


def test_a_pipeline_without_end_takes_little_memory_while_an_fsync_hangs(tmp_path: Path) -> None:
    wire, count = encode("SET", "a", b"v" * 60_000) * 20, 80
    with (
        SlowDiskGodis(tmp_path, 1.5, "--appendfsync", "always", when="1") as godis,
        godis.raw() as client,
        godis.raw() as other,
    ):
        before = godis.resident_bytes
        sender = threading.Thread(target=lambda: [client.send(wire) for _ in range(count)])
        sender.start()
        try:
            assert client.read_exactly(len(OK)) == OK
            assert other.ask("GET", "b") == b"$3\r\nold\r\n"
            assert client.read_exactly(len(OK) * (20 * count - 1)) == OK * (20 * count - 1)
        finally:
            sender.join()
        status = Path(f"/proc/{godis.pid}/status").read_text()
        peak_bytes = int(status.split("VmHWM:")[1].split()[0]) * 1024
        assert peak_bytes - before < 5 * MOST_INPUT_BYTES, "of 96 MB, and as much for their batch, twice"


def test_a_hanging_fsync_under_everysec_holds_up_writes_after_two_seconds(tmp_path: Path) -> None:
    with SlowDiskGodis(tmp_path, 2.6) as godis, godis.raw() as writer, godis.raw() as other:
        assert writer.ask("MSET", "c", 1) == OK
        wait_until(lambda: b"aof_delayed_fsync:1" in other.ask("INFO", "persistence"), 10, "the hold-up")
        assert godis.stderr().count("Asynchronous AOF fsync is taking too long") == 1
        writer.send(encode("SET", "a", 2))
        wait_until(lambda: b"cmd=set" in other.ask("CLIENT", "LIST"), what="it is executed")
        assert other.ask("GET", "b") == b"$3\r\nold\r\n"
        assert unanswered(writer)
        assert other.ask("GET", "a") == b"$1\r\n2\r\n"  # waits as the write does
        assert writer.read_reply() == OK
        assert writer.ask("SET", "a", 3) == OK
        assert b"aof_delayed_fsync:1" in other.ask("INFO", "persistence")


def test_what_waits_for_an_fsync_of_a_log_that_cannot_be_made_whole_is_told_so(rig: Rig) -> None:
    writer, reader = prepared(rig)
    writer.ask("SET a new")
    rig.turn.end()
    rig.log.damage = "its name is gone"
    rig.log.fail_damaged("No such file or directory")
    rig.fsync()
    reason = b"its name is gone, and it cannot be written anew: No such file or directory"
    assert writer.take() == b"-MISCONF Errors writing to the AOF file: %b\r\n" % reason
    assert writer.aborted
    reader.ask("SET b new", "GET b")
    rig.turn.end()
    assert reader.take() == b"-MISCONF Errors writing to the AOF file: %b\r\n$3\r\nold\r\n" % reason


def test_a_disk_that_fails_beside_a_damaged_file_is_tried_each_second_and_not_each_turn(lazy_rig: Rig) -> None:
    rig = lazy_rig
    client = rig.connect()
    rig.log.damage = "its name is gone"
    rig.log.fail_damaged("No such file or directory")
    rig.log.append_set(0, b"k", b"v", -1)  # as a key that expires while it is read
    rig.failing_writes = True
    rig.turn.end()
    tried = rig.writes_tried
    for _ in range(10):
        client.ask("GET k")
        rig.turn.end()
    assert rig.writes_tried == tried
    rig.turn.each_second()
    assert rig.writes_tried == tried + 1
    rig.failing_writes = False
    rig.turn.each_second()
    assert not rig.log.pieces


# ---- thousands of replies


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_thousands_of_replies_leave_some_a_turn_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    rig = Rig(tmp_path, monkeypatch, policy=policy)
    one, other = rig.connect(), rig.connect()
    for number in range(SENT_A_TURN):
        rig.turn.replies += [(one, [b"%d " % number], False), (other, [b"m"], False)]
    one.ask("PING")
    turns = 0
    while rig.turn.replies:
        rig.turn.end()
        turns += 1
        assert len(one.sent) + len(other.sent) <= turns * SENT_A_TURN
    assert turns == 3
    assert one.take() == b"".join(b"%d " % number for number in range(SENT_A_TURN)) + b"+PONG\r\n"
    assert len(other.take()) == SENT_A_TURN
    rig.close()


def test_messages_leave_with_the_replies_of_their_connection_as_one_in_their_order(lazy_rig: Rig) -> None:
    one, other = lazy_rig.connect(), lazy_rig.connect()
    replies = [(one, b"message 1,"), (other, b"message 1,"), (one, b"reply,"), (one, b"message 2,")]
    lazy_rig.turn.replies += [(client, [piece], False) for client, piece in replies]
    lazy_rig.turn.replies.append((one, [], False))
    lazy_rig.turn.has_messages = True
    lazy_rig.turn.end()
    assert one.sent == [b"message 1,reply,message 2,", b""], "the end comes by itself"
    assert other.sent == [b"message 1,"]
