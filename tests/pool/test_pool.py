"""Instances of a pool as processes, on a real etcd: one store behind several ports, that outlives each of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
import redis
from etcd_access import jwt_flag, lock_with_password, make_certificates
from faults import SteeredGodis
from rig.etcd_cluster import EtcdNode, require_etcd
from servers import PATIENCE_SECONDS, ROOT, GodisProcess, Raw, encode, parse, require, wait_until

from errors import (
    LOG_IN_POOL,
    NO_POOL,
    OUT_OF_MEMORY,
    POOL_CLOCK,
    POOL_DOWN,
    POOL_FULL,
    POOL_STALE,
    POOL_UNKNOWN,
    POOL_VALUE_TOO_LARGE,
)
from pool.entry import MOST_BYTES, Body, pack
from pool.etcd import after_prefix
from protocol import encode_command

Join = Callable[..., GodisProcess]
WITH_OTHER_TIMES = """
import sys
sys.path.insert(0, {root!r})
import pool.network, pool.pool, pool.writes
for name, seconds in {times}.items():
    for module in pool.network, pool.pool, pool.writes:
        if name in vars(module):
            vars(module)[name] = seconds
{more}
import godis
sys.exit(godis.main(sys.argv[1:]))
"""
# A machine that is busy may have etcd answer late: whoever does not test that waits.
PATIENT = {"UNCONFIRMED_SECONDS": 60.0, "UNKNOWN_SECONDS": 100.0, "FROZEN_SECONDS": 100.0}
IMPATIENT = {"UNCONFIRMED_SECONDS": 0.5, "UNKNOWN_SECONDS": 1.5, "CONFIRM_SECONDS": 0.2, "HEALTH_SECONDS": 0.1}


class Member(GodisProcess):
    """An instance, which may have other patience than in earnest, so that a test need not wait as long."""

    def __init__(self, directory: Path, *args: str, times: dict[str, float], more: str = "") -> None:
        self.times = times
        self.more = more
        self.spawned = GodisProcess.spawned if more else (*GodisProcess.spawned, "-c")
        super().__init__(directory, *args, log=None)

    def command(self) -> list[str]:
        if not self.times and not self.more:
            return super().command()
        program = WITH_OTHER_TIMES.format(root=str(ROOT), times=self.times, more=self.more)
        return [sys.executable, "-c", program, "--port", str(self.port), *self.args]


@pytest.fixture
def address(node: EtcdNode, tmp_path: Path) -> str:
    """Where the test's pool is: a prefix of its own in the etcd that all tests share."""
    return f"etcd://{node.endpoint}/{tmp_path.name}"


@pytest.fixture
def join(node: EtcdNode, address: str, tmp_path: Path) -> Iterator[Join]:
    """Start instances of one pool."""
    started: list[GodisProcess] = []

    def start(*args: str, name: str = "", times: dict[str, float] | None = None, more: str = "") -> GodisProcess:
        name = name or f"godis{len(started) + 1}"
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        pool = () if "--pool" in args else ("--pool", address)
        Member.spawner = len(started)
        started.append(Member(directory, *pool, "--instance-id", name, *args, times=times or PATIENT, more=more))
        return started[-1]

    yield start
    node.resume()  # a test that failed may have left it paused
    for process in started:
        process.stop()
    delete_prefix(node, "/godis-pools/")  # what this pool needs of the history would be kept for it


def base64(text: str | bytes) -> str:
    return b64encode(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")).decode()


def put(node: EtcdNode, key: str, value: bytes) -> int:
    """Put a key into etcd, and return the revision."""
    return int(node.call("kv/put", {"key": base64(key), "value": base64(value)})["header"]["revision"])


def delete_prefix(node: EtcdNode, prefix: str) -> None:
    """Delete all keys of etcd that begin so."""
    node.call("kv/deleterange", {"key": base64(prefix), "range_end": base64(after_prefix(prefix.encode()))})


def pool_info(client: Raw) -> dict[str, str]:
    text = parse(client.ask("INFO", "pool")).decode()
    return dict(re.findall(r"^(\w+):(.*?)\r$", text, re.MULTILINE))


def has_expired_one(client: Raw) -> bool:
    return b"expired_keys:1\r" in client.ask("INFO", "stats")


def answers_ping(client: Raw) -> bool:
    return client.ask("PING") == b"+PONG\r\n"


def test_what_is_written_at_one_is_read_at_the_other(join: Join) -> None:
    with join().raw() as one, join().raw() as two:
        assert two.ask("READMODE", "linearizable") == b"+OK\r\n"
        for number in range(20):
            assert one.ask("SET", "k", number) == b"+OK\r\n"
            assert parse(two.ask("GET", "k")) == b"%d" % number
            assert parse(two.ask("INCR", "n")) == 2 * number + 1
            assert parse(one.ask("INCR", "n")) == 2 * number + 2


def test_a_pipeline_is_answered_in_order_and_reads_see_the_writes_before_them(join: Join) -> None:
    with join().raw() as raw:
        requests = b"".join(
            b"SET k%d %d\r\nINCR n\r\nGET k%d\r\nNOSUCH\r\nGET n\r\nDEL nokey\r\nSET\r\nINCR k%d\r\n" % (i, i, i, i)
            for i in range(100)
        )
        raw.send(requests)
        for i in range(100):
            assert raw.read_line() == b"OK"
            assert raw.read_line() == b"%d" % (i + 1)
            assert raw.read_line() == b"%d" % i
            assert raw.read_line().startswith(b"ERR unknown command 'NOSUCH'")
            assert raw.read_line() == b"%d" % (i + 1)
            assert raw.read_line() == b"ERR key not found"
            assert raw.read_line() == b"ERR wrong number of arguments for 'set' command"
            assert raw.read_line() == b"%d" % (i + 1)


def test_errors_databases_and_large_values_go_through_the_log(join: Join) -> None:
    with join().raw() as one, join("--pool-reads", "linearizable").raw() as two:
        assert one.ask("SELECT", "3") == b"+OK\r\n"
        value = b"\r\n$-1\r\n" * 400_000  # three parts
        assert one.ask("SET", "large", value) == b"+OK\r\n"
        assert one.ask("INCR", "large") == b"-ERR value is not an integer or out of range\r\n"
        assert parse(two.ask("GET", "large")) is None
        assert two.ask("SELECT", "3") == b"+OK\r\n"
        assert parse(two.ask("STRLEN", "large")) == len(value)
        assert one.ask("SET", "larger", b"x" * (65 << 20)).startswith(b"-ERR a write of 681")
        assert one.ask("FLUSHALL") == b"+OK\r\n"
        assert parse(two.ask("DBSIZE")) == 0


def test_a_transaction_is_one_entry_and_watch_sees_what_others_write(join: Join) -> None:
    with join() as first, join() as second, first.raw() as one, second.raw() as other:
        for line in ("MULTI", "SELECT 1", "SET k 5", "INCR k", "CLIENT SETNAME me", "GET k"):
            assert one.ask(*line.split()) in (b"+OK\r\n", b"+QUEUED\r\n")
        assert parse(one.ask("EXEC")) == [b"OK", b"OK", 6, b"OK", b"6"]
        assert parse(one.ask("CLIENT", "GETNAME")) == b"me"
        assert parse(one.ask("GET", "k")) == b"6", "SELECT in a transaction holds behind it"
        assert other.ask("SELECT", "1") == b"+OK\r\n"
        wait_until(lambda: parse(other.ask("GET", "k")) == b"6", PATIENCE_SECONDS, "the entry is applied")
        for changed, reply in ((True, None), (False, [b"OK", b"mine"])):
            assert one.ask("WATCH", "k") == b"+OK\r\n"
            assert one.ask("MULTI") == b"+OK\r\n"
            assert one.ask("SET", "k", "mine") == one.ask("GET", "k") == b"+QUEUED\r\n"
            if changed:
                assert other.ask("SET", "k", "theirs") == b"+OK\r\n"
            assert parse(one.ask("EXEC")) == reply
        assert one.ask("MULTI") == b"+OK\r\n"
        assert one.ask("NOSUCH").startswith(b"-ERR unknown command")
        assert one.ask("EXEC").startswith(b"-EXECABORT")
        for line in ("MULTI", "GET k", "DBSIZE"):
            one.ask(*line.split())
        assert parse(one.ask("EXEC")) == [b"mine", 1], "one that only reads needs no entry"


def test_a_script_may_do_what_its_user_may(join: Join) -> None:
    get, denied = "return redis.call('GET', ARGV[1])", b"can't access at least one of the keys"
    library = f"#!lua name=lib\nredis.register_function('get', function(_, words) {get.replace('ARGV', 'words')} end)"
    with join() as one, join() as two, one.raw() as admin, one.raw() as client, two.raw() as other:
        for request in (["SET", "a", "1"], ["SET", "b", "2"], ["FUNCTION", "LOAD", library]):
            admin.ask(*request)
        sha = parse(admin.ask("SCRIPT", "LOAD", get))
        admin.ask("ACL", "SETUSER", "lim", "on", "nopass", "%R~a*", "+@all", "(~c* +set)")
        assert client.ask("AUTH", "lim", "x") == b"+OK\r\n"
        for words in (("EVAL", get, 0), ("EVALSHA", sha, 0), ("FCALL", "get", 0), ("EVAL_RO", get, 0)):
            assert client.ask(*words, "a") == b"$1\r\n1\r\n"
            assert denied in client.ask(*words, "b"), words
            assert client.ask("MULTI") == b"+OK\r\n"
            assert client.ask(*words, "a") == client.ask(*words, "b") == b"+QUEUED\r\n"
            assert client.ask("EXEC").startswith(b"*2\r\n$1\r\n1\r\n-ERR ")
        assert client.ask("EVAL", "return redis.call('SET', 'c', 3)", 0) == b"+OK\r\n"
        assert denied in client.ask("EVAL", "return redis.call('SET', 'a', 3)", 0)
        assert other.ask("SCRIPT-ENTRY", "+@all", "EVAL", get, 0, "b").startswith(b"-ERR unknown command")
        for line in ("MULTI", "SET c 4"):
            client.ask(*line.split())
        admin.ask("ACL", "SETUSER", "lim", "clearselectors")
        assert client.ask("EXEC").startswith(b"-EXECABORT")
        assert parse(admin.ask("MGET", "a", "c")) == [b"1", b"3"]


def test_scripts_run_on_all_instances_and_one_that_takes_long_holds_up_no_other_instance(join: Join) -> None:
    count = "return redis.call('incr', KEYS[1])"
    with join() as one, join() as two, one.raw() as first, two.raw() as second, one.raw() as endless:
        assert first.ask("EVAL", count, 1, "n") == b":1\r\n"
        sha = parse(first.ask("SCRIPT", "LOAD", count))
        assert second.ask("EVALSHA", sha, 1, "n") == b":2\r\n"
        for request in (("MULTI",), ("EVALSHA", sha, 1, "n"), ("EVAL", "return redis.call('get', 'n')", 0)):
            second.ask(*request)
        assert second.ask("EXEC") == b"*2\r\n:3\r\n$1\r\n3\r\n"
        first.ask("CONFIG", "SET", "busy-reply-threshold", "20")
        endless.send(encode("EVAL_RO", "while true do end", 0))
        wait_until(lambda: first.ask("PING").startswith(b"-BUSY"), PATIENCE_SECONDS)
        assert second.ask("EVAL", count, 1, "n") == b":4\r\n"
        assert first.ask("SCRIPT", "KILL") == b"+OK\r\n"
        assert b"Script killed by user" in endless.read_line()
        assert second.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
        for client in (first, second):
            wait_until(lambda: client.ask("SCRIPT", "EXISTS", sha) == b"*1\r\n:0\r\n", PATIENCE_SECONDS)  # noqa: B023
            wait_until(lambda: client.ask("GET", "n") == b"$1\r\n4\r\n", PATIENCE_SECONDS)  # noqa: B023


def test_a_linearizable_transaction_that_only_reads_sees_what_was_acknowledged_anywhere(join: Join) -> None:
    with join().raw() as one, join("--pool-reads", "linearizable").raw() as two:
        for number in range(50):
            assert one.ask("SET", "k", number) == b"+OK\r\n"
            two.send(encode("MULTI") + encode("GET", "k") + encode("EXEC"))
            replies = [two.read_reply() for _ in range(3)]
            assert parse(replies[2]) == [b"%d" % number]


def test_workers_of_all_instances_share_a_queue_and_each_element_goes_to_one(join: Join) -> None:
    with join() as first, join() as second, ThreadPoolExecutor(6) as pool:
        done: list[bytes] = []

        def work(godis: GodisProcess) -> None:
            with godis.client() as client:
                while (item := client.blmove("queue", "doing", 0, "LEFT", "RIGHT")) != b"end":
                    assert client.lrem("doing", 1, item) == 1
                    done.append(item)

        workers = [pool.submit(work, (first, second)[number % 2]) for number in range(4)]
        with first.client() as one, second.client() as other:
            assert one.blpop(["nothing"], timeout=0.05) is None
            for number in range(30):
                (one, other)[number % 2].rpush("queue", number)
            wait_until(lambda: len(done) == 30, PATIENCE_SECONDS, "all is done")
            one.rpush("queue", *["end"] * 4)
            for worker in workers:
                worker.result()
            assert sorted(map(int, done)) == list(range(30))
            # A local read may not see yet what a worker of the other instance has moved.
            wait_until(lambda: one.lrange("doing", 0, -1) == [b"end"] * 4, PATIENCE_SECONDS, "all are there")
            waits = pool.submit(other.bzpopmin, ["z"], 0)
            one.zadd("z", {"m": 1.5})
            assert waits.result() == (b"z", b"m", 1.5)


def test_a_message_reaches_the_subscribers_of_all_instances_in_one_order(join: Join) -> None:
    with join() as first, join() as second, first.raw() as here, second.raw() as there, second.raw() as publisher:
        for raw in (here, there):
            raw.ask("SUBSCRIBE", "c")
        for number in range(20):
            assert publisher.ask("PUBLISH", "c", number) == b":1\r\n", "those of its own instance are counted"
        for line in ("MULTI", "PUBLISH c 20", "EXEC"):
            publisher.ask(*line.split())
        for raw in (here, there):
            assert [int(parse(raw.read_reply())[2]) for _ in range(21)] == list(range(21))


def test_transfers_between_accounts_keep_their_sum(join: Join) -> None:
    """Clients of two instances move money by WATCH, MULTI and EXEC; each retries where another came between."""
    accounts = [f"account:{number}" for number in range(4)]
    moved: list[int] = []

    def transfer(godis: GodisProcess, seed: int) -> None:
        random = Random(seed)
        with godis.client() as client:
            for _ in range(15):
                source, target = random.sample(accounts, 2)
                while True:
                    with client.pipeline() as pipe:
                        pipe.watch(source, target)
                        held, other = int(pipe.get(source)), int(pipe.get(target))
                        amount = random.randint(0, held)
                        pipe.multi()
                        pipe.set(source, held - amount)
                        pipe.set(target, other + amount)
                        with suppress(redis.WatchError):
                            pipe.execute()
                            moved.append(amount)
                            break

    with join() as first, join() as second, ThreadPoolExecutor(4) as clients:
        with first.client() as client:
            client.mset(dict.fromkeys(accounts, 100))
        with second.client() as client:
            wait_until(lambda: client.exists(*accounts) == len(accounts), PATIENCE_SECONDS, "the accounts are there")
        for done in [clients.submit(transfer, (first, second)[seed % 2], seed) for seed in range(4)]:
            done.result()
        with first.client() as client:
            assert sum(map(int, client.mget(accounts))) == 400
        assert len(moved) == 60
        assert any(moved)


@pytest.mark.parametrize("mode", ["local", "linearizable"])
def test_a_long_write_is_seen_whole_or_not_at_all_by_short_and_long_reads(join: Join, mode: str) -> None:
    keys = [f"key:{number}" for number in range(20_000)]
    old, new = ([word for key in keys for word in (key, value)] for value in ("old", "new"))
    both = [[b"old", b"old"], [b"new", b"new"], [None, None]]
    with join().raw() as one, join("--pool-reads", mode).raw() as two:
        assert one.ask("MSET", *old) == b"+OK\r\n"
        wait_until(lambda: parse(two.ask("MGET", keys[0], keys[-1])) == both[0], what="the first values")
        for before, words, after in ((both[0], ["MSET", *new], both[1]), (both[1], ["DEL", *keys], both[2])):
            one.send(encode(*words))
            seen = [before]
            while seen[-1] != after:
                seen.append(parse(two.ask("MGET", keys[0], keys[-1])))
                assert len(set(parse(two.ask("MGET", *keys)))) == 1
            assert [each for each in seen if each not in (before, after)] == []
            assert one.read_reply() == (b":20000\r\n" if words[0] == "DEL" else b"+OK\r\n")
        assert parse(two.ask("DBSIZE")) == 0
        assert one.ask("MSET", "k", "v", "k") == b"-ERR wrong number of arguments for 'mset' command\r\n"
        assert one.ask("MSET", *old, "k").startswith(b"-ERR wrong number")


def test_a_ttl_ends_everywhere_and_keys_go_without_a_write(join: Join) -> None:
    with join().raw() as one, join().raw() as two:
        assert one.ask("SET", "k", "v", "PX", "300") == b"+OK\r\n"
        assert one.ask("SET", "stays", "v", "PX", "600000") == b"+OK\r\n"
        for client in (one, two):
            wait_until(partial(has_expired_one, client), what="a tick")
            assert parse(client.ask("DBSIZE")) == 1
        entries = pool_info(one)["pool_log_entries"]
        assert int(entries) <= 4, "ticks are few"


def test_an_instance_that_starts_catches_up_from_the_log_and_from_a_snapshot(join: Join) -> None:
    first = join("--pool-snapshot-entries", "50")
    with first.raw() as raw:
        for number in range(70):
            raw.ask("SET", f"k{number}", "v" * 1000)
        raw.ask("DEL", "k3", "k4")
        wait_until(lambda: int(pool_info(raw)["pool_last_snapshot_entries"]) >= 50, what="a snapshot")
        for number in range(70, 90):
            raw.ask("SET", f"k{number}", "v")
        scanned = raw.ask("SCAN", "0", "COUNT", "1000")
    second = join()
    assert "snapshot of entry" in second.stderr()
    with second.raw() as raw:
        assert raw.ask("SCAN", "0", "COUNT", "1000") == scanned
        raw.ask("SET", "more", "1")
    first.kill9()
    first.start()
    with first.raw() as raw:
        assert parse(raw.ask("DBSIZE")) == 89
        for number in range(250):  # two snapshots: the older one and the log before it go
            raw.ask("SET", "k", number)
        wait_until(lambda: int(pool_info(raw)["pool_last_snapshot_entries"]) >= 190, 20, "a second snapshot")
    third = join()
    with third.raw() as raw:
        assert parse(raw.ask("GET", "k")) == b"249"
        assert parse(raw.ask("DBSIZE")) == 90
        assert raw.ask("SCAN", "0", "COUNT", "1000") != scanned


# Whoever starts so tells of each chunk of a snapshot that it asks etcd for.
TELL_OF_CHUNKS = """
from pool import etcd
find = etcd.Channel.range
def tell(channel, key, *args, **options):
    if b"/chunk/" in key and not options:
        print("asked for", key, file=sys.stderr)
    return find(channel, key, *args, **options)
etcd.Channel.range = tell
"""


def test_a_restart_begins_with_the_local_snapshot_and_reads_none_of_etcds(join: Join, tmp_path: Path) -> None:
    path = tmp_path / "here" / "pool.snapshot"
    path.parent.mkdir()
    flags = ("--pool-snapshot-entries", "50", "--pool-local-snapshot", str(path))
    process = join(*flags, more=TELL_OF_CHUNKS)
    with process.raw() as raw:
        for number in range(60):
            assert raw.ask("SET", f"k{number}", "v" * 1000) == b"+OK\r\n"
        wait_until(lambda: int(pool_info(raw)["pool_last_snapshot_entries"]) >= 50, what="a snapshot")
        in_etcd = pool_info(raw)["pool_last_snapshot_entries"]
        assert raw.ask("DEL", "k3", "k4") == b":2\r\n"
        scanned = raw.ask("SCAN", "0", "COUNT", "1000")
        counted = parse(raw.ask("INCR", "n"))

    def start_again(expected: str) -> str:
        """Start it, and return what it said meanwhile."""
        said_before = len(process.stderr())
        process.start()
        said = process.stderr()[said_before:]
        assert expected in said
        with process.raw() as raw:
            nonlocal counted
            counted += 1
            assert parse(raw.ask("INCR", "n")) == counted
            assert parse(raw.ask("DBSIZE")) == 59
            raw.ask("DEL", "n")
            assert raw.ask("SCAN", "0", "COUNT", "1000") == scanned
            raw.ask("SET", "n", counted)
        return said

    process.kill9()  # what is there is the copy of etcd's
    assert "asked for" not in start_again(f"local snapshot of entry {in_etcd} read")
    with process.raw() as raw:
        last = pool_info(raw)["pool_log_entries"]
    assert process.terminate() == 0
    at_its_end = path.read_bytes()
    assert "asked for" not in start_again(f"local snapshot of entry {last} read")

    process.kill9()
    path.write_bytes(at_its_end[:-9] + b"x" + at_its_end[-8:])
    assert start_again("is not used: its checksum is wrong").count("asked for") == 1
    process.kill9()
    assert "asked for" not in start_again(f"local snapshot of entry {in_etcd} read"), "what was read is kept"

    with process.raw() as raw:
        while process.stderr().count(" MB in ") < 3:  # two snapshots more: the log before the older one is gone
            assert raw.ask("SET", "n", counted) == b"+OK\r\n"
    process.kill9()
    path.write_bytes(at_its_end)
    said = start_again("is not used: etcd:")
    assert "compacted" in said
    assert "asked for" in said


def test_the_local_snapshot_of_another_pool_is_not_used(join: Join, address: str, tmp_path: Path) -> None:
    path = tmp_path / "pool.snapshot"
    process = join("--pool-local-snapshot", str(path))
    with process.raw() as raw:
        raw.ask("SET", "k", "v")
    assert process.terminate() == 0
    other = join("--pool-local-snapshot", str(path), "--pool", f"{address}/other")
    assert "is not used: it is of another pool" in other.stderr()
    with other.raw() as raw:
        assert parse(raw.ask("DBSIZE")) == 0


def test_without_etcd_writes_are_refused_reads_go_on_and_it_recovers(join: Join, node: EtcdNode) -> None:
    lenient, strict = join(times=IMPATIENT), join("--pool-stale-reads", "no", times=IMPATIENT)
    with lenient.raw() as one, strict.raw() as two, lenient.raw() as three:
        one.ask("SET", "k", "v")
        assert parse(two.ask("READMODE", "linearizable")) == b"OK"
        wait_until(lambda: two.ask("GET", "k") == b"$1\r\nv\r\n", what="it reads what was written")
        two.ask("READMODE", "local")
        node.pause()
        three.send(b"INCR n\r\n")
        wait_until(lambda: one.ask("PING") == b"-%b\r\n" % POOL_DOWN, 10, "it knows")
        assert one.ask("SET", "k", "w") == b"-%b\r\n" % POOL_DOWN
        assert parse(one.ask("GET", "k")) == b"v"
        wait_until(lambda: two.ask("GET", "k") == b"-%b\r\n" % POOL_STALE, 10, "the strict one knows")
        assert one.ask("READMODE", "linearizable") == b"+OK\r\n"
        assert one.ask("GET", "k") == b"-%b\r\n" % POOL_STALE
        one.send(encode("MULTI") + encode("GET", "k") + encode("EXEC") + encode("EXEC"))
        assert [one.read_line().split()[0] for _ in range(4)] == [b"+OK", b"+QUEUED", b"-EXECABORT", b"-ERR"]
        one.send(b"RESET\r\nGET k\r\nREADMODE linearizable\r\nGET k\r\n")
        assert [one.read_line() for _ in range(4)] == [b"RESET", b"v", b"OK", POOL_STALE]
        assert three.read_line() == POOL_UNKNOWN
        node.resume()
        for client in (one, two):
            wait_until(partial(answers_ping, client), 10, "it recovers")
            wait_until(lambda: client.ask("SET", "k", "x") == b"+OK\r\n", what="writes go on")  # noqa: B023
        assert parse(one.ask("GET", "n")) == b"1", "what was unknown was applied, once"


def test_status_shows_all_instances_until_they_are_gone(join: Join) -> None:
    one, two = join(), join()
    with one.raw() as raw:
        wait_until(lambda: len(parse(raw.ask("POOL", "STATUS"))) == 2, 10, "both are there")
        mine, other = parse(raw.ask("POOL", "STATUS"))
        assert re.fullmatch(rb"id=\w{16} name=godis1 addr=127.0.0.1:%d index=\d+ lag=0 self" % one.port, mine)
        assert re.fullmatch(rb"id=\w{16} name=godis2 addr=127.0.0.1:%d index=\d+ lag=0" % two.port, other)
        assert raw.ask_line(b"pool status") == mine
        assert raw.read_line() == other
        assert two.terminate() == 0
        wait_until(lambda: len(parse(raw.ask("POOL", "STATUS"))) == 1, 10, "one is gone")


def test_status_shows_where_an_instance_is_that_listens_everywhere(join: Join) -> None:
    one = join("--host", "0.0.0.0", "--protected-mode", "no")
    with one.raw() as raw:
        wait_until(lambda: parse(raw.ask("POOL", "STATUS")), 10, "it is there")
        [mine] = parse(raw.ask("POOL", "STATUS"))
        assert b"addr=127.0.0.1:%d " % one.port in mine
        assert raw.ask("BGREWRITEAOF") == b"-%b\r\n" % LOG_IN_POOL


def test_garbage_under_the_prefix_is_reported_and_passed_over(join: Join, node: EtcdNode, tmp_path: Path) -> None:
    one = join("--pool-snapshot-entries", "5", times=PATIENT)
    garbage = {
        "instances/list": b"[1]",
        "instances/number": b'{"name": 1, "address": "a", "index": 1, "entries": 1, "started_ms": 1}',
        "instances/line": b'{"name": "a\\nb", "address": "a", "index": 1, "entries": 1, "started_ms": 1}',
        "instances/deep": b"[" * 100_000,
        "instances/bytes": b"\xff\x00",
        "snapshot/lock": b"nobody",
        "snapshot/chunk/\udcff/0": b"x",
        "snapshot/meta": b'{"format": 1, "index": "x"}',
        "log": b"hello",
    }
    with one.raw() as raw:
        for key, value in garbage.items():
            put(node, f"/{tmp_path.name}/{key}", value)
            assert raw.ask("INCR", "n").startswith(b":"), key
        put(node, "/godis-pools/else", b"x")

        def writes_snapshots() -> bool:
            return raw.ask("INCR", "n")[:1] == b":" and int(pool_info(raw)["pool_last_snapshot_entries"]) > len(garbage)

        wait_until(writes_snapshots, 60, "snapshots go on")
        wait_until(lambda: len(parse(raw.ask("POOL", "STATUS"))) == 1, what="only instances are shown")
        n = parse(raw.ask("INCR", "n"))
        with join(times=PATIENT).raw() as two:
            assert parse(two.ask("INCR", "n")) == n + 1
    said = one.stderr()
    assert "Traceback" not in said
    for key in ("instances/list", "snapshot/lock", "snapshot/meta"):
        assert f"/{tmp_path.name}/{key} " in said
    assert "is not Godis's" in said


def test_snapshots_go_on_after_one_whose_lock_could_not_be_released(join: Join, node: EtcdNode, tmp_path: Path) -> None:
    one = join("--pool-snapshot-entries", "5", times=PATIENT)
    with one.raw() as raw:
        put(node, f"/{tmp_path.name}/snapshot/lock", pool_info(raw)["pool_instance_id"].encode())

        def writes_a_snapshot() -> bool:
            return raw.ask("INCR", "n")[:1] == b":" and pool_info(raw)["pool_last_snapshot_entries"] != "0"

        wait_until(writes_a_snapshot, 20, "a snapshot is written")


def test_settings_that_cannot_be_read_are_named(join: Join, node: EtcdNode, tmp_path: Path) -> None:
    key = f"/{tmp_path.name}/settings"
    for garbage in (b"", b"[]", b'{"databases": 16}', b'{"format": 1, "databases": "16"}'):
        put(node, key, garbage)
        with pytest.raises(pytest.fail.Exception, match=f"delete etcd's key {key}") as failure:
            join()
        assert "Traceback" not in str(failure.value)
    node.call("kv/deleterange", {"key": base64(key)})
    join()


@pytest.mark.parametrize(("key", "value"), [("meta", b"[]"), ("chunk", b"x"), ("chunk", None)])
def test_a_snapshot_that_cannot_be_read_is_named(
    join: Join, node: EtcdNode, tmp_path: Path, key: str, value: bytes | None
) -> None:
    one = join("--pool-snapshot-entries", "5", times=PATIENT)
    with one.raw() as raw:

        def has_trimmed() -> bool:
            return raw.ask("INCR", "n")[:1] == b":" and one.stderr().count(" MB in ") > 2

        wait_until(has_trimmed, 60, "the log's beginning is gone")
    one.kill9()
    prefix = f"/{tmp_path.name}/snapshot/{key}"
    end = base64(after_prefix(prefix.encode()))
    for found in node.call("kv/range", {"key": base64(prefix), "range_end": end, "keys_only": True})["kvs"]:
        node.call("kv/put" if value else "kv/deleterange", {"key": found["key"], "value": base64(value or b"")})
    with pytest.raises(pytest.fail.Exception, match="CONFIG SET pool-snapshot-entries 1") as failure:
        join()
    assert "Traceback" not in str(failure.value)


def test_two_pools_on_one_etcd_keep_what_the_other_needs(join: Join, node: EtcdNode, address: str) -> None:
    flags = ("--pool-snapshot-entries", "5")
    one, other = join(*flags, times=PATIENT), join("--pool", f"{address}/other", times=PATIENT)
    with other.raw() as raw:
        for _ in range(3):
            raw.ask("INCR", "n")
        first = int(pool_info(raw)["pool_log_index"]) - 2
    other.kill9()

    def trims(snapshots: int) -> None:
        with one.raw() as raw:
            wanted = one.stderr().count(" MB in ") + snapshots
            wait_until(
                lambda: raw.ask("INCR", "n")[:1] == b":" and one.stderr().count(" MB in ") > wanted, 60, "it trims"
            )

    trims(3)
    told = re.search(r"etcd keeps its history from revision (\d+) on for the pool \S+/other, too", one.stderr())
    assert told
    assert int(told[1]) <= first
    other.start()
    with other.raw() as raw:
        assert parse(raw.ask("GET", "n")) == b"3"
    other.kill9()
    delete_prefix(node, f"{address[address.index('/', 7) :]}/other/")
    trims(1)
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        node.call("kv/range", {"key": base64("x"), "revision": first})
    refused.value.close()  # Python 3.14 warns of one that is not


def test_an_instance_with_other_databases_is_not_let_in(join: Join) -> None:
    join("--databases", "4")
    with pytest.raises(
        pytest.fail.Exception, match="the pool has 4 databases, and this instance has 5: --databases must be alike"
    ):
        join("--databases", "5")


def test_eviction_is_refused_in_a_pool(join: Join) -> None:
    with pytest.raises(pytest.fail.Exception, match="a pool cannot evict"):
        join("--maxmemory-policy", "allkeys-lru")
    with join("--maxmemory", "40mb").raw() as raw:
        assert b"a pool cannot evict" in raw.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert raw.ask("SET", "k", "x" * 20_000_000).startswith(b"-OOM")


def test_a_pipeline_stays_within_the_limit_on_memory_as_it_does_alone(join: Join) -> None:
    """No write of it is applied before the first ones are in the log, so those on their way count."""
    value = b"x" * 1_000_000
    pipeline = b"".join(encode("SET", f"k{number}", value) for number in range(80))
    with join("--maxmemory", "80mb").raw() as raw:
        raw.send(pipeline)
        replies = [raw.read_line() for _ in range(80)]
        written = replies.count(b"+OK")
        assert replies == [b"+OK"] * written + [b"-" + OUT_OF_MEMORY] * (80 - written)
        assert 10 < written < 70, "the process itself takes some of it"
        assert parse(raw.ask("DBSIZE")) == written
        raw.send(
            encode("SET", "k0", value) * 3 + encode("DEL", *(f"k{n}" for n in range(9))) + encode("SET", "k", value)
        )
        assert [raw.read_line() for _ in range(5)] == [b"-" + OUT_OF_MEMORY] * 3 + [b":9", b"+OK"]


def test_the_smallest_limit_of_all_instances_holds_for_each(join: Join) -> None:
    unlimited = join()
    with unlimited.raw() as one:

        def limit_bytes() -> int:
            return int(pool_info(one)["pool_memory_limit_bytes"])

        own_bytes = limit_bytes()  # 0, unless this machine bounds processes
        small = join("--maxmemory", "60mb")
        value = b"x" * 50_000_000
        with small.raw() as two:
            wait_until(lambda: limit_bytes() != own_bytes, 20, "it knows of the other's")
            for client in (one, two):
                assert client.ask("SET", "k", value) == b"-%b\r\n" % OUT_OF_MEMORY
            assert two.ask("CONFIG", "SET", "maxmemory", "200mb") == b"+OK\r\n"
            wait_until(lambda: one.ask("SET", "k", value) == b"+OK\r\n", 20, "it knows of the new one")
            assert two.ask("CONFIG", "SET", "maxmemory", "1mb") == b"+OK\r\n"
            for instance in (unlimited, small):
                wait_until(lambda each=instance: "writes are refused (OOM), since" in each.stderr(), 20, "it warns")  # type: ignore[misc]
        assert small.terminate() == 0
        wait_until(lambda: limit_bytes() == own_bytes, 20, "the limit went with its instance")


def test_values_longer_than_one_command_can_set_are_refused(join: Join) -> None:
    with join().raw() as raw:
        assert raw.ask("SETRANGE", "k", MOST_BYTES - 1, "x") == b":%d\r\n" % MOST_BYTES
        for words, size in (
            (["SETRANGE", "k", MOST_BYTES, "x"], MOST_BYTES + 1),
            (["SETRANGE", "new", 536_870_000, "x"], 536_870_001),
            (["APPEND", "k", "xy"], MOST_BYTES + 2),
        ):
            assert raw.ask(*words) == b"-%b\r\n" % (POOL_VALUE_TOO_LARGE % (size, MOST_BYTES))
        assert raw.ask("SETRANGE", "k", 3, "y") == b":%d\r\n" % MOST_BYTES
        assert raw.ask("SETRANGE", "new", 536_870_000, "") == b":0\r\n"
        assert raw.ask("SETRANGE", "new", "a", "x") == b"-ERR value is not an integer or out of range\r\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory so")
def test_what_an_instance_has_no_memory_for_is_refused_and_ends_none(join: Join) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1_600_000_000, 1_600_000_000))"
    one, two = (join(more=limit, times=PATIENT) for _ in range(2))
    with one.raw() as raw:
        assert raw.ask("SETRANGE", "sparse", MOST_BYTES - 1, "x") == b":%d\r\n" % MOST_BYTES  # takes little memory
        raw.send(b"".join(encode("BITOP", "NOT", f"k{number}", "sparse") for number in range(40)))
        replies = [raw.read_line() for _ in range(40)]
        written = replies.count(b":%d" % MOST_BYTES)
        assert replies[written:] == [b"-" + OUT_OF_MEMORY] * (40 - written)
        assert written > 2
        assert raw.ask("COPY", "k0", "copy") == b"-%b\r\n" % OUT_OF_MEMORY
        assert raw.ask("INCR", "n") == b":1\r\n"
    two.kill9()
    two.start()
    for process in (one, two):
        with process.raw() as raw:
            assert parse(raw.ask("DBSIZE")) == written + 2
            assert raw.ask("APPEND", "n", "0")[:1] == b":"
        assert "Traceback" not in process.stderr()


@pytest.mark.parametrize("mode", ["local", "linearizable"])
def test_a_paused_client_goes_on_when_the_pause_is_over(join: Join, mode: str) -> None:
    with join("--pool-reads", mode).raw() as raw, join().raw() as other:
        assert raw.ask("SET", "k", "v") == b"+OK\r\n"
        raw.send(encode("CLIENT", "PAUSE", 100) + encode("INCR", "n") + encode("GET", "k") + encode("INCR", "n"))
        assert [raw.read_reply() for _ in range(4)] == [b"+OK\r\n", b":1\r\n", b"$1\r\nv\r\n", b":2\r\n"]
        raw.send(encode("CLIENT", "PAUSE", 100) + encode("GET", "k"))
        assert [raw.read_reply() for _ in range(2)] == [b"+OK\r\n", b"$1\r\nv\r\n"]
        assert other.ask("INCR", "n") == b":3\r\n"


def test_no_memory_for_an_entry_ends_that_instance_with_a_sentence_and_for_a_snapshot_ends_none(join: Join) -> None:
    fail = "def fail(*_):\n    raise MemoryError\n"
    broken = join(more=fail + "import engine; from commands import TABLE; TABLE[b'INCR'].run = fail")
    sound = join("--pool-snapshot-entries", "1", more=fail + "import pool.snapshot_store as made; made.pack = fail")
    with sound.raw() as raw:
        assert raw.ask("INCR", "n") == b":1\r\n"
        wait_until(lambda: "no snapshot was written: not enough memory" in sound.stderr(), 20, "a snapshot is tried")
        assert raw.ask("INCR", "n") == b":2\r\n"
    wait_until(lambda: broken.process.poll() is not None, 20, "it ends")
    assert broken.process.returncode == 70
    assert "there was not enough memory for what follows entry 0" in broken.stderr()
    assert "Traceback" not in broken.stderr() + sound.stderr()


def test_no_local_file_is_made(join: Join, tmp_path: Path) -> None:
    process = join("--log", "log.txt")
    with process.raw() as raw:
        raw.ask("SET", "k", "v")
    assert {path.suffix for path in process.directory.iterdir()} == {".stderr"}


def test_an_instance_alone_has_no_pool(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as raw:
        for words in (["POOL", "STATUS"], ["READMODE", "local"]):
            assert raw.ask(*words) == b"-%b\r\n" % NO_POOL


def test_a_log_that_is_gone_ends_the_instance(join: Join, node: EtcdNode, tmp_path: Path) -> None:
    process = join()
    with process.raw() as raw:
        raw.ask("SET", "k", "v")
    node.call("kv/deleterange", {"key": base64(f"/{tmp_path.name}/log")})
    wait_until(lambda: process.process.poll() is not None, what="it ends")
    assert process.process.returncode == 70
    assert "the log was deleted" in process.stderr() or "has lost entries" in process.stderr()
    assert "Traceback" not in process.stderr()


class Restored:
    """An etcd that is set back to a backup and then written past the revision that it had."""

    def __init__(self, directory: Path) -> None:
        self.node = EtcdNode("restored", directory)
        self.node.start()
        self.address = f"etcd://{self.node.endpoint}/p"
        self._backup = directory / "backup"
        self._seq = 0

    def back_up(self) -> None:
        self.node.kill9()
        shutil.copytree(self.node.data_directory, self._backup)
        self.node.start()

    def restore(self) -> None:
        self.node.kill9()
        shutil.rmtree(self.node.data_directory)
        self._backup.rename(self.node.data_directory)
        self.node.start()

    def append(self, *words: bytes) -> int:
        """Append an entry as an instance does, and return its revision."""
        self._seq += 1
        body = Body()
        body.add(0, 1, [encode_command(words)])
        [entry] = pack(7, self._seq, int(time.time() * 1000), 0, body)
        return put(self.node, "/p/log", entry)

    def reach(self, revision: int) -> None:
        """Write keys of no meaning until etcd's revision is this one."""
        while put(self.node, "x", b"") < revision:
            pass


def test_an_instance_whose_entries_a_restored_etcd_replaced_by_others_ends(tmp_path: Path) -> None:
    require_etcd()
    etcd = Restored(tmp_path)
    try:
        with Member(tmp_path, "--pool", etcd.address, times=PATIENT) as one, one.raw() as raw:
            assert raw.ask("SET", "k", "old") == b"+OK\r\n"
            etcd.back_up()
            etcd.reach(100)
            assert raw.ask("SET", "k", "lost") == b"+OK\r\n"
            version = int(pool_info(raw)["pool_log_entries"])
            os.kill(one.pid, signal.SIGSTOP)
            etcd.restore()
            for _ in range(version):
                etcd.append(b"SET", b"k", b"new")
            etcd.reach(300)
            etcd.append(b"SET", b"other", b"v")
            os.kill(one.pid, signal.SIGCONT)
            wait_until(lambda: one.process.poll() is not None, 20, "it ends")
            assert one.process.returncode == 70
            assert "etcd has lost entries that were applied here" in one.stderr()
            one.start()
            with one.raw() as again:
                assert parse(again.ask("MGET", "k", "other")) == [b"new", b"v"]
    finally:
        etcd.node.stop()


def test_a_local_snapshot_whose_entry_a_restored_etcd_replaced_is_not_used(tmp_path: Path) -> None:
    require_etcd()
    etcd = Restored(tmp_path)
    flags = ("--pool", etcd.address, "--pool-local-snapshot", str(tmp_path / "snapshot"))
    try:
        one = Member(tmp_path, *flags, times=PATIENT)
        with one.raw() as raw:
            assert raw.ask("SET", "k", "old") == b"+OK\r\n"
        assert one.terminate() == 0
        etcd.back_up()
        one.start()
        etcd.reach(200)
        with one.raw() as raw:
            assert raw.ask("SET", "k", "lost") == b"+OK\r\n"
            index = int(pool_info(raw)["pool_log_index"])
        assert one.terminate() == 0
        etcd.restore()
        etcd.reach(index - 1)
        assert etcd.append(b"SET", b"k", b"new") == index
        one.start()
        assert "is not used: the log has another entry at its place" in one.stderr()
        with one.raw() as raw:
            assert parse(raw.ask("GET", "k")) == b"new"
    finally:
        one.stop()
        etcd.node.stop()


def test_at_the_end_everybody_who_waits_is_answered(join: Join) -> None:
    process = join()
    clients = [process.raw() for _ in range(30)]
    for client in clients:
        client.send(b"INCR n\r\nGET n\r\n" * 50)
    answered = int(clients[0].read_line())
    assert process.terminate() == 0
    for client in clients:
        with client, suppress(ConnectionResetError):  # of a client whose requests were never read
            answered = max([answered, *map(int, client.read_all().split())])
    assert "Assertion" not in process.stderr()
    with join().raw() as raw:
        assert int(parse(raw.ask("GET", "n"))) >= answered


def test_an_instance_that_stood_still_shows_nothing_old_where_that_was_refused(join: Join) -> None:
    writer = join()
    sleeper = join("--pool-stale-reads", "no", times=IMPATIENT)
    with writer.raw() as one, sleeper.raw() as two, sleeper.raw() as three:
        one.ask("SET", "k", "old")
        three.ask("READMODE", "linearizable")
        wait_until(lambda: parse(two.ask("GET", "k")) == b"old", what="it has the old value")
        os.kill(sleeper.pid, signal.SIGSTOP)
        for client in (two, three):
            client.send(b"GET k\r\n")
        since = time.monotonic()
        written = partial(one.ask, "SET", "k", "new")
        wait_until(lambda: written() == b"+OK\r\n" and time.monotonic() - since > 1, what="it is out of date")
        os.kill(sleeper.pid, signal.SIGCONT)
        assert two.read_line() in (POOL_STALE, b"new")
        assert three.read_line() in (POOL_STALE, b"new")
        wait_until(lambda: two.ask("GET", "k") == b"$3\r\nnew\r\n", what="it serves again")


def test_an_instance_whose_loop_does_not_turn_ends(join: Join) -> None:
    process = join(times={"FROZEN_SECONDS": 1.0})
    with process.raw() as raw:
        raw.send(b"DEBUG SLEEP 60\r\n")
        wait_until(lambda: process.process.poll() is not None, 20, "it ends")
    assert process.process.returncode == 70
    assert "has not turned" in process.stderr()


def test_a_clock_that_is_far_ahead_ends_no_keys(join: Join, address: str, tmp_path: Path) -> None:
    """An instance whose clock is set a day ahead while it serves refuses its clients until the clock is right."""
    directory = tmp_path / "skewed"
    directory.mkdir()
    pool = ("--pool", address, "--pool-clock-limit", "5m")
    skewed = SteeredGodis(directory, *pool, log=None)
    with skewed, join().raw() as steady, skewed.raw() as raw:
        assert raw.ask("SET", "k", "v", "EX", 3600) == b"+OK\r\n"
        skewed.set_clock(240)
        assert raw.ask("SET", "within", "the limit") == b"+OK\r\n"
        skewed.set_clock(86_400)
        refused = b"-%b\r\n" % POOL_CLOCK
        wait_until(lambda: raw.ask("PING") == refused, what="it notices")
        for request in (["SET", "k", "w"], ["GET", "k"], ["DEL", "k"], ["DBSIZE"]):
            assert raw.ask(*request) == refused
        assert b"OK" in raw.ask("READMODE", "linearizable")
        assert raw.ask("GET", "k") == refused
        told = pool_info(raw)
        assert told["pool_state"] == "clock"
        assert 86_390_000 <= int(told["pool_clock_ahead_ms"]) <= 86_400_000
        assert "86399 s ahead of etcd's" in skewed.stderr()
        assert parse(steady.ask("INCR", "n")) == 1
        assert 3300 <= parse(steady.ask("TTL", "k")) <= 3600
        assert int(pool_info(steady)["pool_log_clock_ms"]) < (time.time() + 300) * 1000

        assert raw.ask("CONFIG", "SET", "pool-clock-limit", "0") == b"+OK\r\n"
        wait_until(partial(answers_ping, raw), what="nobody minds any more")
        assert raw.ask("CONFIG", "SET", "pool-clock-limit", "5m") == b"+OK\r\n"
        wait_until(lambda: raw.ask("PING") == refused, what="it minds again")
        skewed.set_clock(0)
        wait_until(partial(answers_ping, raw), what="it serves again")
        assert parse(raw.ask("GET", "k")) == b"v"
        assert raw.ask("SET", "k", "w") == b"+OK\r\n"


def test_a_full_etcd_is_named_and_writes_go_on_when_there_is_space(tmp_path: Path) -> None:
    require_etcd()
    require(shutil.which("etcdctl"), "etcdctl is not installed")
    node = EtcdNode("small", tmp_path, "--quota-backend-bytes=12000000")
    node.start()
    try:
        with Member(tmp_path, "--pool", f"etcd://{node.endpoint}", times={}) as member, member.raw() as raw:
            filled = 0
            while (answer := raw.ask("SET", filled, os.urandom(900_000))) == b"+OK\r\n":
                filled += 1
            assert answer == b"-%b\r\n" % POOL_FULL
            assert filled > 2  # a snapshot takes some of the space, too
            assert parse(raw.ask("STRLEN", filled - 1)) == 900_000
            assert parse(raw.ask("EXISTS", filled)) == 0
            node.stop()
            node.args[:] = ["--quota-backend-bytes=100000000"]
            node.start()
            disarm = ["etcdctl", "--endpoints", node.endpoint, "alarm", "disarm"]
            subprocess.run(
                disarm, env=os.environ | {"ETCDCTL_API": "3"}, check=True, capture_output=True, timeout=PATIENCE_SECONDS
            )
            wait_until(lambda: raw.ask("INCR", "n").startswith(b":"), 20, "writes go on")
    finally:
        node.stop()


def test_of_many_clients_that_wait_few_try_for_an_element(join: Join) -> None:
    """Each attempt is an entry: if all tried, a hundred elements would take thousands."""
    process, clients = join(), []
    with process.raw() as other:
        for _ in range(100):
            clients.append(process.raw())
            clients[-1].send(encode("BLPOP", "a", "q", 0))
        wait_until(lambda: b"blocked_clients:100\r" in other.ask("INFO", "clients"))
        before = int(pool_info(other)["pool_commands_appended"])
        for number in range(50):
            assert parse(other.ask("RPUSH", "q", number)) <= number + 1
        for number in range(50, 100):
            assert parse(other.ask("RPUSH", "aq"[number % 2], number)) <= number + 1
        assert {int(parse(client.read_reply())[1]) for client in clients} == set(range(100))
        assert int(pool_info(other)["pool_commands_appended"]) - before < 1000
        for client in clients:
            client.close()


def test_a_client_that_is_killed_while_it_waits_hurts_nobody(join: Join, node: EtcdNode) -> None:
    process = join()
    with process.raw() as raw, process.raw() as other:
        identity = parse(other.ask("CLIENT", "ID"))
        node.pause()
        other.send(b"INCR n\r\n")
        assert parse(raw.ask("CLIENT", "KILL", "ID", identity)) == 1
        assert other.is_closed()
        node.resume()
        assert parse(raw.ask("INCR", "n")) in (1, 2)


def test_a_pool_behind_tls_and_a_password(tmp_path: Path) -> None:
    require_etcd()
    require(shutil.which("etcdctl"), "etcdctl is not installed")
    make_certificates(tmp_path)
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "node.pem", "node.key"))
    node = EtcdNode("tls", tmp_path, f"--cert-file={cert}", f"--key-file={key}", scheme="https")
    node.start()
    try:
        etcdctl = ["etcdctl", "--endpoints", node.client_url, "--cacert", ca]
        for words in (["user", "add", "root:p@ss"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            environment = os.environ | {"ETCDCTL_API": "3"}
            subprocess.run(
                [*etcdctl, *words], env=environment, check=True, capture_output=True, timeout=PATIENCE_SECONDS
            )
        address = f"etcds://root:p%40ss@{node.endpoint}/t"
        with Member(tmp_path, "--pool-ca-file", ca, "--pool", address, times={}) as member, member.raw() as raw:
            assert raw.ask("SET", "k", "v") == b"+OK\r\n"
            assert parse(raw.ask("CONFIG", "GET", "pool")) == [b"pool", f"etcds://{node.endpoint}/t".encode()]
        with pytest.raises(pytest.fail.Exception, match="refuses us"):
            Member(tmp_path, "--pool-ca-file", ca, "--pool", address.replace("p%40ss", "wrong"), times={})
    finally:
        node.stop()


def test_a_pool_goes_on_while_etcds_users_change_and_authentication_is_switched_off_and_on(tmp_path: Path) -> None:
    require_etcd()
    node = EtcdNode("jwt", tmp_path, jwt_flag(tmp_path))
    node.start()
    admin = lock_with_password(node).channel()
    flags = ("--pool", f"etcd://root:secret@{node.endpoint}/t", "--pool-reads", "linearizable")
    try:
        with Member(tmp_path, *flags, times=PATIENT) as one:
            changes = [
                ("user/add", "bob"),
                ("disable", ""),
                ("user/delete", "bob"),
                ("enable", ""),
                ("user/add", "eve"),
            ]
            for number, (path, name) in enumerate(changes, 1):
                admin.call(f"auth/{path}", {"name": name, "password": "x"} if name else {}, PATIENCE_SECONDS)
                with one.raw() as raw:
                    assert raw.ask("INCR", "n") == b":%d\r\n" % number
                    assert parse(raw.ask("GET", "n")) == b"%d" % number
                if path == "disable":
                    one.kill9()
                    one.start()
            assert "Traceback" not in one.stderr()
    finally:
        admin.close()
        node.stop()


def test_a_bug_in_a_command_ends_every_instance_that_has_it_and_none_skips_the_entry(join: Join) -> None:
    bug = "import engine; from commands import TABLE; TABLE[b'STRLEN'].run = TABLE[b'INCR'].run = lambda *_: 1 / 0"
    sound, broken = join(), join(more=bug)
    with sound.raw() as one, broken.raw() as two:
        two.ask("SET", "n", "1")
        assert two.ask("STRLEN", "n") == b"-ERR internal error\r\n", "a read concerns nobody else"
        assert one.ask("INCR", "n") == b":2\r\n"
        wait_until(lambda: broken.process.poll() is not None, what="it ends")
        assert two.is_closed()
        assert broken.process.returncode == 70
        assert "what was applied may differ" in broken.stderr()
        broken.launch()
        assert broken.process.wait(PATIENCE_SECONDS) == 70, "it meets the entry again"
        assert one.ask("INCR", "n") == b":3\r\n"
    repaired = join()
    with repaired.raw() as three:
        assert parse(three.ask("GET", "n")) == b"3"
