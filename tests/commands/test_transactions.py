"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: what they reply, what they log, and who waits for them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from instances import Bench, Client, driven, run_all, state_of
from servers import GodisProcess, encode, parse
from tables import for_each

import errors
from commands import long_commands, transactions
from errors import CommandError
from keyspace.subscriptions import KINDS
from protocol import encode as encode_reply
from replies import HELD_BACK, NULL_ARRAY, QUEUED

CASES: list[tuple[str, Any]] = [  # requests of one client, the last one's reply
    ("MULTI; SET k 1; INCR k; EXEC", [b"OK", 2]),
    ("MULTI; EXEC", []),
    ("EXEC", errors.EXEC_WITHOUT_MULTI),
    ("DISCARD", errors.DISCARD_WITHOUT_MULTI),
    ("MULTI; SET k 1; DISCARD", b"OK"),
    ("MULTI; SET k 1; DISCARD; GET k", None),
    ("MULTI; MULTI", errors.NESTED_MULTI),
    ("MULTI; MULTI; SET k 1; EXEC", [b"OK"]),
    ("MULTI; WATCH k", errors.WATCH_IN_MULTI),
    ("MULTI; WATCH k; SET k 1; EXEC", [b"OK"]),
    ("MULTI; NOSUCH; SET k 1; EXEC", errors.EXEC_ABORTED),
    ("MULTI; NOSUCH; EXEC; GET k", None),
    ("MULTI; GET; EXEC", errors.EXEC_ABORTED),
    ("MULTI; CLIENT NOSUCH; EXEC", errors.EXEC_ABORTED),
    ("MULTI; SHUTDOWN", errors.NOT_IN_TRANSACTION),
    ("MULTI; SHUTDOWN; EXEC", errors.EXEC_ABORTED),
    ("MULTI; RESET; GET k", None),
    ("MULTI; SET k v; RESET; EXEC", errors.EXEC_WITHOUT_MULTI),
    ("MULTI; SELECT 1; SET k 1; EXEC; GET k", b"1"),
    ("MULTI; PING; ECHO x; UNWATCH; EXEC", [b"PONG", b"x", b"OK"]),
    ("MULTI; exec", []),
    ("WATCH k; SET k 1; MULTI; GET k; EXEC", NULL_ARRAY),
    ("WATCH k; SET other 1; MULTI; GET k; EXEC", [None]),
    ("WATCH k; SET k 1; UNWATCH; MULTI; GET k; EXEC", [b"1"]),
    ("WATCH k; SET k 1; MULTI; EXEC; MULTI; EXEC", []),
    ("WATCH k; SET k 1; MULTI; DISCARD; MULTI; EXEC", []),
    ("WATCH k k; GET k; DEL k; MULTI; EXEC", []),
    ("SET k v; WATCH k; EXPIRE k 100; MULTI; EXEC", NULL_ARRAY),
    ("SET k v; WATCH k; PERSIST k; MULTI; EXEC", []),
    ("WATCH k; SELECT 1; SET k 1; MULTI; EXEC", []),
    ("SELECT 1; WATCH k; SELECT 0; SET k 1; MULTI; EXEC", []),
    ("SET k v; WATCH k; FLUSHALL; MULTI; EXEC", NULL_ARRAY),
    ("WATCH k; FLUSHALL; MULTI; EXEC", []),
    ("SET k v; WATCH k; SWAPDB 0 1; MULTI; EXEC", NULL_ARRAY),
    ("SELECT 1; SET k v; SELECT 0; WATCH k; SWAPDB 0 1; MULTI; EXEC", NULL_ARRAY),
    ("WATCH k; SWAPDB 0 1; MULTI; EXEC", []),
    ("SET other v; WATCH k; SWAPDB 0 1; SET k v; MULTI; EXEC", NULL_ARRAY),
    ("SET k v; WATCH k; SELECT 1; FLUSHDB; MULTI; EXEC", []),
    ("FLUSHALL; SWAPDB 0 1; SET k v; WATCH k; MULTI; EXEC", []),
    ("SET k v; WATCH k; RENAME k n; MULTI; EXEC", NULL_ARRAY),
    ("SET k v; WATCH n; RENAME k n; MULTI; EXEC", NULL_ARRAY),
    ("EXEC-ENTRY 0", b"ERR unknown command 'EXEC-ENTRY', with args beginning with: "),
]


@for_each(("requests", "reply"), CASES)
def test_replies_are_those_of_redis(requests: str, reply: Any) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for line in requests.split("; "):
        answered = client.ask(*line.split())
    assert (answered.text if isinstance(answered, CommandError) else answered) == reply
    client.session.unwatch()
    assert bench.store.databases[0].listener is None


BODIES = (  # what stands between MULTI and EXEC
    "",
    "SET k 1; INCR k; GET k",
    "SET k 1; SET l 2; SET m 3",
    "GET k; get l; Get m",
    "SET k text; INCR k; APPEND k s",
    "SELECT 1; SET k 1",
    "BLPOP q 0; RPUSH q a; BLPOP q 0",
    "RPUSH q a b; LRANGE q 0 -1; SUBSCRIBE c; PING",
    "NOSUCH; SET k 1",
    "SET k; SET k 1",
    "MULTI; SET k 1",
    "WATCH k; SET k 1",
    "SHUTDOWN; SET k 1",
    "CLIENT NOSUCH; SET k 1",
    "CLIENT REPLY SKIP; SET k 1",
    "EVAL return(1) 0; SET k 1",
    "HELLO 3; SET k 1",
    "UNWATCH; WATCH k; SET k 1; DISCARD; SET l 1",
    "QUIT; SET k 1",
    "SET k 1; EXEC x",
    "MULTI x; SET k 1",
    "; ".join(["INCR n"] * 100),
)
BEFORE = ("", "WATCH k", "WATCH k; SET k 0", "WATCH other; SELECT 2", "MULTI", "HELLO 3", "CONFIG SET maxmemory 1gb")


@for_each(("before", "body"), [(before, body) for before in BEFORE for body in BODIES])
def test_a_transaction_that_comes_whole_is_as_one_that_comes_request_by_request(before: str, body: str) -> None:
    for earlier in (0, 200):  # the first calls of a command are measured, each
        whole, in_pieces = (_outcome(before, body, earlier, whole=whole) for whole in (True, False))
        assert whole == in_pieces


def _outcome(before: str, body: str, earlier: int, *, whole: bool) -> list[Any]:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for line in [*["MULTI", "INCR earlier", "EXEC"] * earlier, *before.split("; ")]:
        if line:
            client.ask(*line.split())
    requests = [line.encode().split() for line in ["MULTI", *body.split("; "), "EXEC"] if line]
    for argv in requests:
        bench.engine.find(argv[0])  # a row is made when it is first asked for
    pipelines = [requests] if whole else [[argv] for argv in requests]
    replies = [reply for pipeline in pipelines for reply in run_all(bench.engine, client.session, pipeline)]
    session, counts = client.session, bench.instance.measures.counts
    return [
        [_wire(reply) for reply in replies],
        (bench.log.records, bench.log.databases, state_of(bench.store)),
        {
            name: (count.calls, count.sampled, count.failed, count.rejected)
            for name, count in counts.items()
            if count.calls
        },
        (session.transaction is None, session.watch is None, session.restricted, session.db.index, session.closing),
        (session.is_executing, session.muted, session.subscribed),
        bench.store.databases[0].listener is None,
        bench.instance.statistics.errors,
    ]


def _wire(reply: Any) -> bytes:
    if isinstance(reply, Generator):
        reply, _ = driven(reply)
    pieces: list[bytes] = []
    encode_reply(reply, pieces.append, False)
    return b"".join(pieces)


@for_each(("first", "last"), [("MULTI x", "EXEC"), ("MULTI", "EXEC x"), ("MULTI x", "EXEC x")])
def test_a_transaction_that_comes_whole_begins_and_ends_with_one_word(first: str, last: str) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for _ in range(200):  # the first calls are measured
        run_all(bench.engine, client.session, [[b"MULTI"], [b"SET", b"k", b"0"], [b"EXEC"]])
    requests = [line.encode().split() for line in (first, "SET k 1", last)]
    replies = run_all(bench.engine, client.session, requests)
    wrong = [
        reply for reply in replies if isinstance(reply, CommandError) and b"wrong number of arguments" in reply.text
    ]
    assert len(wrong) == (" x" in first) + (" x" in last)


def test_what_fails_in_a_transaction_does_not_stop_the_rest() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for line in ("MULTI", "SET k text", "INCR k", "APPEND k s"):
        client.ask(*line.split())
    first, second, third = client.ask("EXEC")
    assert (first, second.text, third) == (b"OK", errors.NOT_AN_INTEGER, 5)
    assert bench.log.records == [[b"SET", b"k", b"text"], [b"APPEND", b"k", b"s"]]


def test_thousands_of_watched_keys_are_forgotten_in_slices() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("WATCH", *[f"k{number}" for number in range(1000)])
    watch = client.session.watch
    assert watch is not None
    assert client.ask("UNWATCH") == b"OK"
    assert len(watch) > 0, "it takes long, so it is not done at once"
    assert client.ask("WATCH", "k0") == b"OK"
    while bench.store.garbage:
        bench.store.expire_cycle(lambda: True)
    assert len(watch) == 0
    client.ask("MULTI")
    bench.connect().ask("SET", "k0", "v")
    assert client.ask("EXEC") is NULL_ARRAY
    assert bench.store.databases[0].listener is None


def test_a_key_that_expires_while_it_is_watched_has_changed() -> None:
    for read_first in (False, True):
        bench = Bench()
        client = bench.connect()
        client.ask("SET", "k", "v", "PX", "50")
        client.ask("WATCH", "k")
        bench.advance(1)
        if read_first:
            client.ask("GET", "k")
        client.ask("MULTI")
        assert client.ask("EXEC") is NULL_ARRAY


def test_a_key_that_had_expired_when_it_was_watched_has_not_changed() -> None:
    bench = Bench()
    client = bench.connect()
    client.ask("SET", "k", "v", "PX", "50")
    bench.advance(1)
    client.ask("WATCH", "k")
    client.ask("MULTI")
    assert client.ask("EXEC") == []


def test_a_transaction_is_refused_with_the_reason_where_a_gate_refuses_it() -> None:
    bench = Bench()
    client = bench.connect()
    client.ask("MULTI")
    client.ask("SET", "k", "v")
    bench.log.failure = b"disk is full"
    bench.instance.gate("log", closed=True)
    reason = errors.LOG_FAILED % b"disk is full"
    assert client.ask("EXEC").text == b"EXECABORT Transaction discarded because of: " + reason
    assert client.session.transaction is None
    client.ask("MULTI")
    assert client.ask("SET", "k", "v").text == reason
    assert client.ask("EXEC").text == errors.EXEC_ABORTED


def test_a_write_that_needs_memory_is_refused_when_it_is_queued() -> None:
    bench = Bench(maxmemory="1000", maxmemory_policy="noeviction")
    client = bench.connect()
    client.ask("MULTI")
    assert client.ask("SET", "k", "v" * 2000).text == errors.OUT_OF_MEMORY
    assert client.ask("EXEC").text == errors.EXEC_ABORTED


def test_who_queues_without_end_is_cut_off() -> None:
    client = Bench().connect()
    assert client.ask("CONFIG", "SET", "client-query-buffer-limit", "1mb") == b"OK"
    client.ask("MULTI")
    for _ in range(20):
        reply = client.ask("SET", "k", "v" * 100_000)
        if reply is not QUEUED:
            break
    assert reply.text == errors.TRANSACTION_TOO_LARGE
    assert client.session.closing


def test_a_client_watches_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "MOST_WATCHED", 10)
    client = Bench().connect()
    assert client.ask("WATCH", *range(9)) == b"OK"
    assert client.ask("WATCH", "more", "and more").text == errors.TOO_MANY_WATCHED


def test_who_watches_costs_nobody_anything_when_it_has_ended() -> None:
    bench = Bench()
    clients = [bench.connect() for _ in range(3)]
    db = bench.store.databases[0]
    for client in clients:
        client.ask("WATCH", "k", "other")
        assert db.listener is not None
    for client in clients:
        client.session.unwatch()
    assert db.listener is None


# ---- many words: in slices, with the keys locked


@pytest.fixture
def _short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (long_commands, transactions):
        monkeypatch.setattr(module, "AT_ONCE_WORDS", 20)
        monkeypatch.setattr(module, "PART_WORDS", 10)
    monkeypatch.setattr(transactions, "SLICE_REQUESTS", 2)


def begin(client: Client, requests: list[str]) -> Generator[None, None, Any]:
    """Queue requests and begin their EXEC; return its work."""
    client.ask("MULTI")
    for line in requests:
        assert client.ask(*line.split()) is QUEUED
    (work,) = client.bench.engine.run(client.session, [[b"EXEC"]])
    assert isinstance(work, Generator)
    return work


def finish(work: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.mark.usefixtures("_short_limit")
@pytest.mark.parametrize(
    ("asked", "waits"),
    [("GET k3", True), ("SET k3 x", True), ("GET other", False), ("DBSIZE", True), ("PING", False), ("KEYS *", True)],
)
def test_others_wait_for_the_keys_of_a_long_transaction_only(asked: str, waits: bool) -> None:
    bench = Bench(default_ttl="0")
    client, other = bench.connect(), bench.connect()
    work = begin(client, [f"INCR k{number}" for number in range(20)])
    while bench.store.key_lock is None:
        next(work)
    next(work)
    known = len(bench.log.records)
    (reply,) = bench.engine.run(other.session, [asked.encode().split()])
    assert (reply is HELD_BACK) == waits
    assert known == 0, "nothing is logged before the end"
    assert finish(work) == [1] * 20
    assert len(bench.log.records) == 20
    assert bench.store.key_lock is None


@pytest.mark.usefixtures("_short_limit")
def test_a_long_transaction_that_may_touch_any_key_locks_all() -> None:
    bench = Bench(default_ttl="0")
    client, other = bench.connect(), bench.connect()
    work = begin(client, [f"INCR k{number}" for number in range(20)] + ["RANDOMKEY"])
    while bench.store.key_lock is None:
        next(work)
    assert bench.engine.run(other.session, [[b"GET", b"other"]])[0] is HELD_BACK
    assert len(finish(work)) == 21


@pytest.mark.usefixtures("_short_limit")
def test_a_long_command_in_a_long_transaction_runs_within_its_lock() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    pairs = " ".join(f"m{number} {number}" for number in range(30))
    work = begin(client, [*(f"INCR k{number}" for number in range(20)), f"MSET {pairs}", "INCR k0"])
    assert finish(work) == [*[1] * 20, b"OK", 2]
    assert bench.store.key_lock is None
    assert [record[0] for record in bench.log.records] == [*[b"INCRBY"] * 20, *[b"SET"] * 30, b"INCRBY"]


@pytest.mark.usefixtures("_short_limit")
def test_a_client_that_is_killed_amid_its_exec_leaves_no_subscription() -> None:
    client = Bench(default_ttl="0").connect()
    work = begin(client, ["SET k v"] * 10 + ["SUBSCRIBE c", "PSUBSCRIBE p"])
    next(work)
    client.session.end()
    assert len(finish(work)) == 12
    subscriptions = client.bench.instance.subscriptions
    assert [subscriptions.count(kind) for kind in KINDS] == [0, 0, 0]


def test_many_requests_run_in_slices_though_they_have_few_words() -> None:
    client = Bench(default_ttl="0").connect()
    client.ask("RPUSH", "l", *range(500))
    count = transactions.AT_ONCE_REQUESTS + 1
    work = begin(client, ["LRANGE l 0 -1"] * count)
    assert [len(reply) for reply in finish(work)] == [500] * count


def test_a_transaction_whose_replies_are_long_is_answered_as_its_requests_are(tmp_path: Path) -> None:
    lines = (
        "LRANGE l 0 -1;HGETALL h;SMEMBERS s;GET k;KEYS *;INCR l;XRANGE x - +;XREAD STREAMS x 0;ZRANGE z 0 -1 WITHSCORES"
    )
    requests = [line.split() for line in lines.split(";")]
    with GodisProcess(tmp_path, "--default-ttl", "0") as godis, godis.raw() as raw:
        raw.ask("RPUSH", "l", *range(3000))
        raw.ask("HSET", "h", *range(3000))
        raw.ask("SADD", "s", *range(3000))
        raw.ask("ZADD", "z", *range(6000))
        raw.send(b"".join(encode("XADD", "x", f"1-{number + 1}", "f", "v") for number in range(3000)))
        assert [parse(raw.read_reply()) for _ in range(3000)][-1] == b"1-3000"
        for protocol in ("2", "3"):
            raw.ask("HELLO", protocol)
            alone = [raw.ask(*words) for words in requests]
            for times in (1, 20):
                raw.send(b"".join(encode(*words) for words in [["MULTI"], *requests * times, ["EXEC"]]))
                for _ in range(1 + len(requests) * times):
                    raw.read_reply()
                assert raw.read_reply() == b"*%d\r\n" % (len(requests) * times) + b"".join(alone * times)


@pytest.mark.usefixtures("_short_limit")
@pytest.mark.parametrize("count", [3, 30])
def test_an_entry_of_a_pool_runs_in_slices_where_it_is_long(count: int) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("MULTI")
    for number in range(count):
        client.ask("SELECT", number % 2)
        client.ask("INCR", f"k{number // 2}")
    transaction = client.session.transaction
    assert transaction is not None
    entry, _ = transactions.as_entry(client.session, transaction, [])
    reply = bench.engine.run_logged(0, entry)
    if count > 3:
        assert isinstance(reply, Generator)
        while bench.store.key_lock is None:
            next(reply)
        assert bench.engine.run(bench.connect().session, [[b"GET", b"k0"]])[0] is HELD_BACK
        reply = finish(reply)
    assert reply == [1] * count
    assert [len(db) for db in bench.store.databases[:2]] == [(count + 1) // 2, count // 2]
