"""Commands with thousands of arguments, in slices: what they answer and log, who is served meanwhile, and who waits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import Bench, Client, run_one, work_of
from servers import GodisProcess, Raw, encode, parse, served_meanwhile, wait_until
from stepped_turn import Rig

from commands.keyspace_walk import at_once
from commands.long_commands import AT_ONCE_WORDS, PART_WORDS
from keyspace.point_in_time import PointInTimeView
from replies import HELD_BACK, Work
from values.entry import value_of

MANY = AT_ONCE_WORDS + 2 * PART_WORDS
KEYS = [f"key:{number}" for number in range(MANY)]
PAIRS = [word for key in KEYS for word in (key, f"value of {key}")]


def begin(client: Client, *words: Any) -> Work:
    """Ask for something that is done in slices, and return the work."""
    return work_of(client.ask(*words))


def claim(bench: Bench, work: Work) -> None:
    """Do of a work what is done before anything happens to the keys."""
    while bench.store.key_lock is None:
        next(work)


def filled() -> tuple[Bench, Client, Client]:
    """Return an instance that holds the keys, and two clients of it."""
    bench = Bench(default_ttl="0")
    client, other = bench.connect(), bench.connect()
    for key in KEYS:
        client.ask("SET", key, f"value of {key}")
    bench.log.records.clear()
    bench.log.databases.clear()
    return bench, client, other


# ---- what they answer and log


def live(bench: Bench) -> dict[bytes, Any]:
    """Return what is there and has not expired."""
    db = bench.store.databases[0]
    return {key: entry for key, entry in db.entries.items() if db.is_live(key)}


def replayed(bench: Bench) -> dict[bytes, Any]:
    """Return what its log makes of nothing, of which nothing that has expired."""
    copy = Bench(default_ttl="0")
    copy.store.begin_replay(copy.store.now_ms)
    for argv in bench.log.records:
        copy.engine.apply(0, argv)
    copy.store.tick(bench.store.now_ms)
    return live(copy)


def test_what_is_deleted_in_slices_is_logged_in_records_of_some_keys_each() -> None:
    bench, client, _ = filled()
    at_once(begin(client, "DEL", *KEYS, *KEYS))
    assert [argv[0] for argv in bench.log.records] == [b"DEL"] * (MANY // PART_WORDS)
    assert [key.decode() for argv in bench.log.records for key in argv[1:]] == KEYS


def test_a_replay_runs_a_long_command_from_start_to_end() -> None:
    bench = Bench(default_ttl="0")
    bench.engine.apply(0, [b"MSET", *map(str.encode, PAIRS)])
    assert len(bench.store.databases[0]) == MANY
    bench.engine.apply(0, [b"DEL", *map(str.encode, KEYS[1:])])
    assert bench.store.databases[0].entries.keys() == {KEYS[0].encode()}


# ---- who waits


@pytest.mark.parametrize("begun", [["DEL", *KEYS], ["MSET", *PAIRS], ["MSETNX", *PAIRS]], ids=lambda words: words[0])
def test_while_one_writes_who_asks_for_its_keys_waits_and_nobody_else(begun: list[str]) -> None:
    bench, client, other = filled()
    work = begin(client, *begun)
    next(work)
    assert other.ask("GET", KEYS[-1]) is not HELD_BACK  # nothing is done yet
    claim(bench, work)
    for words in (["GET", KEYS[-1]], ["SET", KEYS[0], "1"], ["MGET", "free", KEYS[5]], ["OBJECT", "ENCODING", KEYS[5]]):
        assert other.ask(*words) is HELD_BACK, words
    for words in (["KEYS", "*"], ["SCAN", "0"], ["DBSIZE"], ["RANDOMKEY"], ["FLUSHALL"], ["SWAPDB", "0", "1"]):
        assert other.ask(*words) is HELD_BACK, words
    assert other.ask("EXISTS", *["free"] * AT_ONCE_WORDS) is HELD_BACK
    for words in (["SET", "free", "1"], ["GET", "free"], ["PING"], ["INFO"], ["CLIENT", "LIST"], ["SELECT", "0"]):
        assert other.ask(*words) is not HELD_BACK, words
    at_once(work)
    assert bench.store.key_lock is None
    assert not bench.instance.needs_checks
    assert other.ask("GET", "free") == b"1"
    assert other.ask("EXISTS", KEYS[-1]) == (begun[0] != "DEL")


def test_one_that_reads_and_is_given_up_leaves_nothing_behind() -> None:
    bench, client, other = filled()
    work = begin(client, "MGET", *KEYS)
    next(work)
    other.ask("FLUSHALL")
    other.ask("SET", KEYS[0], "new")
    work.close()
    assert all(db.views == () for db in bench.store.databases)
    assert bench.store.expire_cycle(lambda: False)
    assert bench.store.garbage == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "end", "look", "SET", "DEL", "FLUSHALL", "SWAPDB"]), st.integers(0, 9)),
        max_size=40,
    )
)
def test_each_of_several_views_is_of_its_moment(steps: list[tuple[str, int]]) -> None:
    """They end in any order; what a flush left is freed when nobody needs it, and not before."""
    bench = Bench(default_ttl="0")
    client = bench.connect()
    names = [b"k%d" % number for number in range(10)]
    views: list[tuple[PointInTimeView, list[Any]]] = []
    for number, (step, chance) in enumerate(steps):
        db = bench.store.databases[chance % 2]
        if step == "begin":
            views.append((PointInTimeView(db), [db.peek(name) for name in names]))
        elif step == "end" and views:
            views.pop(chance % len(views))[0].detach()
        elif step in ("SET", "DEL"):
            client.ask("SELECT", chance % 2)
            client.ask(step, names[chance], *([number] if step == "SET" else []))
        elif step == "FLUSHALL":
            client.ask(step)
        elif step == "SWAPDB":
            client.ask(step, 0, 1)
        bench.store.expire_cycle(lambda: False)
        for view, expected in views:
            assert [entry and value_of(entry) for entry in view.live_entries(names)] == expected
    for view, _ in views:
        view.detach()
    bench.store.expire_cycle(lambda: False)
    assert bench.store.garbage == []
    assert all(db.views == () for db in bench.store.databases)


def test_nothing_is_logged_until_all_is_done_and_what_others_wrote_comes_before() -> None:
    bench, client, other = filled()
    work = begin(client, "MSET", *PAIRS)
    claim(bench, work)
    next(work)
    other.ask("SET", "free", "1")
    assert bench.log.records == [[b"SET", b"free", b"1"]]
    at_once(work)
    assert [argv[1].decode() for argv in bench.log.records] == ["free", *KEYS]


def test_what_expires_or_is_evicted_meanwhile_is_gone_after_a_replay_too() -> None:
    bench, client, _ = filled()
    work = begin(client, "MSET", *PAIRS)
    claim(bench, work)
    for _ in range(2):
        next(work)
    db = bench.store.databases[0]
    db.evict(KEYS[0].encode())
    db.set_deadline(KEYS[1].encode(), bench.store.now_ms)  # as a default TTL of a moment does
    assert db.get(KEYS[1].encode()) is None
    at_once(work)
    assert db.entries.keys() == {key.encode() for key in KEYS[2:]}
    assert replayed(bench).keys() == db.entries.keys()


def test_what_fails_half_way_is_logged_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, client, _ = filled()
    work = begin(client, "DEL", *KEYS)
    claim(bench, work)
    next(work)
    monkeypatch.setattr(type(bench.store.databases[0]), "remove", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        at_once(work)
    assert bench.store.key_lock is None
    left = {key.decode() for key in bench.store.databases[0].entries}
    assert len(left) == MANY - 2 * PART_WORDS
    assert {key.decode() for argv in bench.log.records for key in argv[1:]} == set(KEYS) - left


def test_under_always_who_reads_what_a_failed_one_has_written_waits_for_its_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    client, other, third = rig.connect(), rig.connect(), rig.connect()
    work = work_of(run_one(rig.engine, client.session, [b"MSET", *map(str.encode, PAIRS)]))
    while rig.store.key_lock is None:
        next(work)
    next(work)
    with monkeypatch.context() as patch:
        patch.setattr("commands.strings.put_many", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            at_once(work)
    other.ask(f"GET {KEYS[0]}")
    third.ask("GET free")
    rig.turn.end()
    assert (other.take(), third.take()) == (b"", b"$-1\r\n")
    rig.fsync()
    assert b"value of key:0" in other.take()
    rig.close()


def test_a_rewrite_does_not_begin_with_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, monkeypatch, "no")
    client = rig.connect()
    work = work_of(run_one(rig.engine, client.session, [b"MSET", *map(str.encode, PAIRS)]))
    while rig.store.key_lock is None:
        next(work)
    client.ask("BGREWRITEAOF")
    rig.turn.end()
    assert rig.instance.rewrite.requested
    assert not rig.instance.rewrite.running
    at_once(work)
    rig.turn.end()
    assert rig.instance.rewrite.running
    rewrite = rig.turn.rewriter._run
    assert rewrite is not None
    rig.turn.rewriter.abandon()
    rewrite.close()
    rig.close()


def test_under_always_who_reads_what_was_written_in_slices_waits_for_its_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    client, other, third = rig.connect(), rig.connect(), rig.connect()
    counting, late, late_counting, later = rig.connect(), rig.connect(), rig.connect(), rig.connect()
    at_once(work_of(run_one(rig.engine, client.session, [b"MSET", *map(str.encode, PAIRS)])))
    rig.connect().ask("SET small 1")  # into the same batch
    other.ask(f"GET {KEYS[7]}")
    third.ask("GET free")
    counting.ask("DBSIZE")
    rig.turn.end()
    assert (other.take(), counting.take()) == (b"", b"")
    assert third.take() == b"$-1\r\n"
    late.ask(f"GET {KEYS[8]}")  # while the fsync runs
    late_counting.ask("DBSIZE")
    later.ask("GET small")
    rig.turn.end()
    assert (late.take(), late_counting.take(), later.take()) == (b"", b"", b"")
    rig.fsync()
    assert b"value of key:7" in other.take()
    assert b"value of key:8" in late.take()
    assert later.take() == b"$1\r\n1\r\n"
    assert counting.take() == late_counting.take() == b":%d\r\n" % (MANY + 1)
    other.ask(f"GET {KEYS[8]}")
    rig.turn.end()
    assert b"value of key:8" in other.take()
    rig.close()


# ---- words that are no keys


def test_thousands_of_words_that_are_no_keys_are_answered_in_slices_too() -> None:
    bench = Bench()
    client, other = bench.connect(), bench.connect()
    ids = [client.session.id, other.session.id, 99]
    cases: list[tuple[list[Any], int]] = [
        (["COMMAND", "INFO", "get", "nosuch"], 3000),
        (["COMMAND", "DOCS", "get", "set"], 3000),
        (["CONFIG", "GET", "max*", "port"], 100),
        (["CLIENT", "LIST", "ID", *ids], 3000),
    ]
    for words, many in cases:
        few = client.ask(*words)
        assert few is not HELD_BACK
        at = 3 if words[1] == "LIST" else 2
        repeated = [word for word in words[at:] for _ in range(many)]
        reply = at_once(begin(client, *words[:at], *repeated))
        if words[1] == "INFO":
            assert reply == [each for each in few for _ in range(many)]
        else:
            assert reply == few


# ---- the server

CROWDED = 30_000  # keys; enough for some twenty slices
ROUNDS = 40 if "GODIS_SOAK" in os.environ else 2


def key(number: int) -> str:
    return f"key:{number:06}"


def fill(raw: Raw) -> None:
    for start in range(0, CROWDED, 1000):
        raw.send(b"".join(encode("SET", key(number), "old") for number in range(start, start + 1000)))
        assert raw.read_exactly(5000) == b"+OK\r\n" * 1000


@pytest.mark.parametrize("protocol", [2, 3])
def test_others_are_served_while_a_long_command_is_executed(shared_godis: GodisProcess, protocol: int) -> None:
    names = [key(number) for number in range(CROWDED)]
    null = b"_\r\n" if protocol == 3 else b"$-1\r\n"
    with shared_godis.raw() as busy, shared_godis.raw() as other:
        busy.ask("HELLO", protocol)
        busy.ask("FLUSHALL")
        fill(busy)
        for words, reply in [
            (["EXISTS", *names, *names], b":%d\r\n" % (2 * CROWDED)),
            (["MGET", *names, "nokey"], b"*%d\r\n" % (CROWDED + 1) + b"$3\r\nold\r\n" * CROWDED + null),
            (["MSET", *(word for name in names for word in (name, "new"))], b"+OK\r\n"),
            (["DEL", *names], b":%d\r\n" % CROWDED),
        ]:
            assert served_meanwhile(busy, other, encode(*words), reply, "SET", "free", "1") > 2, words[0]
        assert parse(other.ask("DBSIZE")) == 1


def test_who_asks_for_one_of_the_keys_sees_all_of_it_or_nothing(shared_godis: GodisProcess) -> None:
    """The first key and the last one are asked for in one request, again and again."""
    names = [key(number) for number in range(CROWDED)]
    with shared_godis.raw() as busy, shared_godis.raw() as other:
        busy.ask("FLUSHALL")
        fill(busy)
        for words in (["MSET", *(word for name in names for word in (name, "new"))], ["UNLINK", *names]):
            busy.send(encode(*words))
            seen: set[bytes] = set()
            while len(seen) < 2:
                seen.add(other.ask("MGET", names[0], names[-1]))
            both = b"*2\r\n" + b"$3\r\n%b\r\n" * 2
            old, new = (both % (b"old", b"old"), both % (b"new", b"new"))
            assert seen == ({old, new} if words[0] == "MSET" else {new, b"*2\r\n$-1\r\n$-1\r\n"})
            busy.read_reply()
        assert parse(other.ask("DBSIZE")) == 0


def test_who_is_killed_while_it_writes_has_written_all_or_nothing(godis: GodisProcess) -> None:
    names = [key(number) for number in range(CROWDED)]
    fill, delete = (encode("MSET", *(word for name in names for word in (name, "old"))), encode("DEL", *names))
    with godis.raw() as operator:
        for _ in range(ROUNDS):
            operator.send(fill)
            assert operator.read_reply() == b"+OK\r\n"
            with godis.raw() as busy:
                busy.ask("CLIENT", "SETNAME", "busy")
                busy.send(delete)
                wait_until(lambda: b"cmd=del" in operator.ask("CLIENT", "LIST"), 20, "it is under way")
                number = parse(operator.ask("CLIENT", "LIST")).split(b" name=busy")[0].split(b"id=")[-1].split()[0]
                assert operator.ask("CLIENT", "KILL", "ID", number) == b":1\r\n"
            assert parse(operator.ask("DBSIZE")) in (0, CROWDED)
        assert operator.ask("SET", names[0], "1") == b"+OK\r\n"  # nobody holds anything any more
        left = parse(operator.ask("DBSIZE"))
    assert "Traceback" not in godis.stderr()
    godis.process.kill()
    godis.process.wait()
    godis.start()
    with godis.raw() as operator:
        assert parse(operator.ask("DBSIZE")) == left


def test_it_is_whole_or_not_there_after_a_kill_at_any_moment(godis: GodisProcess) -> None:
    names = [key(number) for number in range(CROWDED)]
    old, new = (encode("MSET", *(word for name in names for word in (name, value))) for value in ("old", "new"))
    for patience in range(ROUNDS):
        with godis.raw() as busy, godis.raw() as other:
            busy.send(old)
            assert busy.read_reply() == b"+OK\r\n"
            busy.send(new)
            for number in range(patience * 10):
                assert other.ask("SET", "free", number) == b"+OK\r\n"
            godis.process.kill()
            godis.process.wait()
        godis.start()
        with godis.raw() as client:
            assert set(parse(client.ask("MGET", *names))) in ({b"old"}, {b"new"})
