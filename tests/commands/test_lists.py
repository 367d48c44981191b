"""Commands of lists: replies, errors, effects, and what is done in slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import Bench, Client, driven, run_all, state_of, work_of
from servers import GodisProcess, encode
from tables import for_each

import errors
from commands import lists
from errors import CommandError
from replies import HELD_BACK, OK, LongArray, NullArray
from values.chunks import CHUNK
from values.lists import List

ABC = "RPUSH k a b c"
NONE = "none: the null of an array"
CASES: list[tuple[str, str, Any, list[str]]] = [  # before, command, reply, effects
    ("", "LPUSH k a b", 2, ["LPUSH k a b"]),
    ("", "rpush k a b", 2, ["RPUSH k a b"]),
    ("", "LPUSHX k a", 0, []),
    ("", "RPUSHX k a", 0, []),
    (ABC, "LPUSHX k x y", 5, ["LPUSH k x y"]),
    (ABC, "RPUSHX k x", 4, ["RPUSH k x"]),
    ("SET k v", "LPUSHX k a", errors.WRONG_TYPE, []),
    (ABC, "LPOP k", b"a", ["LPOP k"]),
    (ABC, "RPOP k", b"c", ["RPOP k"]),
    (ABC, "LPOP k 2", [b"a", b"b"], ["LPOP k 2"]),
    (ABC, "RPOP k 2", [b"c", b"b"], ["RPOP k 2"]),
    (ABC, "LPOP k 1", [b"a"], ["LPOP k"]),
    (ABC, "RPOP k 99", [b"c", b"b", b"a"], ["RPOP k 3"]),
    (ABC, "LPOP k 0", [], []),
    (ABC, "LPOP k -1", errors.COUNT_NEGATIVE, []),
    (ABC, "LPOP k x", errors.COUNT_NEGATIVE, []),
    (ABC, "LPOP k 1 2", errors.WRONG_ARITY % b"lpop", []),
    ("", "LPOP k", None, []),
    ("", "LPOP k 2", NONE, []),
    ("SET k v", "LPOP k 1", errors.WRONG_TYPE, []),
    (ABC, "LLEN k", 3, []),
    ("", "LLEN k", 0, []),
    (ABC, "LINDEX k 0", b"a", []),
    (ABC, "LINDEX k -1", b"c", []),
    (ABC, "LINDEX k 3", None, []),
    (ABC, "LINDEX k -4", None, []),
    ("", "LINDEX k x", None, []),
    (ABC, "LINDEX k x", errors.NOT_AN_INTEGER, []),
    (ABC, "LRANGE k 0 -1", [b"a", b"b", b"c"], []),
    (ABC, "LRANGE k -2 99", [b"b", b"c"], []),
    (ABC, "LRANGE k 2 1", [], []),
    ("", "LRANGE k x 1", errors.NOT_AN_INTEGER, []),
    (ABC, "LSET k 1 x", OK, ["LSET k 1 x"]),
    (ABC, "LSET k -1 x", OK, ["LSET k -1 x"]),
    (ABC, "LSET k 1 b", OK, []),
    (ABC, "LSET k 3 x", errors.INDEX_OUT_OF_RANGE, []),
    ("", "LSET k 0 x", errors.NO_SUCH_KEY, []),
    (ABC, "LTRIM k 0 -2", OK, ["LTRIM k 0 -2"]),
    (ABC, "LTRIM k 0 -1", OK, []),
    (ABC, "LTRIM k 5 9", OK, ["LTRIM k 5 9"]),
    ("", "LTRIM k 0 1", OK, []),
    (ABC, "LINSERT k BEFORE b x", 4, ["LINSERT k BEFORE b x"]),
    (ABC, "LINSERT k after c x", 4, ["LINSERT k AFTER c x"]),
    (ABC, "LINSERT k BEFORE z x", -1, []),
    ("", "LINSERT k BEFORE z x", 0, []),
    ("", "LINSERT k AMID z x", errors.SYNTAX, []),
    ("RPUSH k a b a c a", "LREM k 2 a", 2, ["LREM k 2 a"]),
    ("RPUSH k a b a c a", "LREM k -2 a", 2, ["LREM k -2 a"]),
    ("RPUSH k a b a c a", "LREM k 0 a", 3, ["LREM k 0 a"]),
    ("RPUSH k a a", "LREM k 0 a", 2, ["LREM k 0 a"]),
    (ABC, "LREM k 0 z", 0, []),
    ("", "LREM k 0 z", 0, []),
    ("RPUSH k a b a c a", "LPOS k a", 0, []),
    ("RPUSH k a b a c a", "LPOS k a RANK 2", 2, []),
    ("RPUSH k a b a c a", "LPOS k a RANK -1", 4, []),
    ("RPUSH k a b a c a", "LPOS k a COUNT 0", [0, 2, 4], []),
    ("RPUSH k a b a c a", "LPOS k a COUNT 2 RANK -1", [4, 2], []),
    ("RPUSH k a b a c a", "LPOS k a COUNT 0 MAXLEN 3", [0, 2], []),
    ("RPUSH k a b a c a", "LPOS k a COUNT 0 MAXLEN 2 RANK -1", [4], []),
    ("RPUSH k a b a c a", "LPOS k z", None, []),
    ("RPUSH k a b a c a", "LPOS k z COUNT 1", [], []),
    ("", "LPOS k a", None, []),
    ("", "LPOS k a COUNT 1", [], []),
    ("", "LPOS k a RANK 0", errors.LPOS_RANK_ZERO, []),
    ("", "LPOS k a RANK -9223372036854775808", errors.LPOS_RANK_OUT_OF_RANGE, []),
    ("", "LPOS k a COUNT -1", errors.LPOS_COUNT_NEGATIVE, []),
    ("", "LPOS k a MAXLEN x", errors.LPOS_MAXLEN_NEGATIVE, []),
    ("", "LPOS k a COUNT", errors.SYNTAX, []),
    (ABC, "LMOVE k m LEFT RIGHT", b"a", ["LMOVE k m LEFT RIGHT"]),
    (ABC, "LMOVE k k left right", b"a", ["LMOVE k k LEFT RIGHT"]),
    (ABC, "LMOVE k k LEFT LEFT", b"a", []),
    ("RPUSH k a", "LMOVE k k LEFT RIGHT", b"a", []),
    ("RPUSH k a", "LMOVE k m LEFT RIGHT", b"a", ["LMOVE k m LEFT RIGHT"]),
    (ABC + "; SET m v", "LMOVE k m LEFT RIGHT", errors.WRONG_TYPE, []),
    ("SET m v", "LMOVE k m LEFT RIGHT", None, []),
    (ABC, "LMOVE k m LEFT UP", errors.SYNTAX, []),
    (ABC, "RPOPLPUSH k m", b"c", ["LMOVE k m RIGHT LEFT"]),
    (ABC, "LMPOP 1 k LEFT", [b"k", [b"a"]], ["LPOP k"]),
    (ABC, "LMPOP 2 none k RIGHT COUNT 2", [b"k", [b"c", b"b"]], ["RPOP k 2"]),
    ("", "LMPOP 1 k LEFT", NONE, []),
    (ABC, "LMPOP 0 k LEFT", errors.NUMKEYS_NOT_POSITIVE, []),
    (ABC, "LMPOP 2 k LEFT", errors.SYNTAX, []),
    (ABC, "LMPOP 1 k LEFT COUNT 0", errors.COUNT_NOT_POSITIVE, []),
    (ABC, "LMPOP 1 k LEFT COUNT 1 COUNT 1", errors.SYNTAX, []),
    ("SET k v", "LMPOP 1 k LEFT", errors.WRONG_TYPE, []),
]


def answer(client: Client, line: str) -> Any:
    reply = client.ask(*line.split())
    if isinstance(reply, CommandError):
        return reply.text
    return NONE if isinstance(reply, NullArray) else reply


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: Any, effects: list[str]) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for each in filter(None, before.split("; ")):
        answer(client, each)
    known = len(bench.log.records)
    assert answer(client, line) == reply
    assert [b" ".join(argv).decode() for argv in bench.log.records[known:]] == effects
    bench.store.databases[0].check()


def filled(count: int) -> tuple[Bench, Client]:
    """Return an instance with a list of numbers."""
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("RPUSH", "k", "0")
    bench.store.databases[0].get(b"k").join_right(List(b"%d" % number for number in range(1, count)))
    return bench, client


def test_a_long_range_is_a_long_array_that_holds_no_element_yet() -> None:
    _, client = filled(100_000)
    reply = client.ask("LRANGE", "k", "5", "-6")
    assert isinstance(reply, LongArray)
    assert reply.size == 100_000 - 10
    packed = sum(type(chunk) is bytes for chunk in reply.chunks)
    assert packed > len(reply.chunks) - 4
    client.ask("LTRIM", "k", "0", "0")
    client.ask("LPUSH", "k", "x")
    assert reply.members() == [b"%d" % number for number in range(5, 100_000 - 5)]


@pytest.mark.parametrize(
    ("line", "first"), [("LPOP k 90000", 0), ("RPOP k 90000", 99_999), ("LMPOP 1 k LEFT COUNT 90000", 0)]
)
def test_a_long_pop_is_sent_in_parts(line: str, first: int) -> None:
    bench, client = filled(100_000)
    reply = client.ask(*line.split())
    assert isinstance(reply, LongArray)
    assert client.ask("LLEN", "k") == 10_000
    step = -1 if first else 1
    expected = [b"%d" % number for number in range(first, first + 90_000 * step, step)]
    assert reply.members() == ([b"k", expected] if line.startswith("LMPOP") else expected)
    bench.store.databases[0].get(b"k").check()


def test_a_long_reply_is_a_part_of_that_of_a_transaction() -> None:
    _, client = filled(1000)
    members = [b"%d" % number for number in range(1000)]
    client.ask("MULTI")
    client.ask("LRANGE", "k", "0", "-1")
    client.ask("LPOP", "k", "900")
    client.ask("RPUSH", "d", *members)
    client.ask("LMPOP", "1", "d", "LEFT", "COUNT", "1000")
    assert client.ask("EXEC") == [members, members[:900], 1000, [b"d", members]]


def test_a_trimmed_list_is_freed_in_slices() -> None:
    bench, client = filled(100_000)
    client.ask("LTRIM", "k", "0", "9")
    [chunks] = bench.store.garbage
    assert len(chunks) > 700
    while not bench.store.expire_cycle(lambda: False):
        pass
    assert client.ask("LLEN", "k") == 10


MANY = 3 * lists.AT_ONCE_STEPS * CHUNK


@pytest.mark.parametrize(
    ("line", "reply", "effect"),
    [
        (f"LREM k 0 {MANY - 5}", 1, f"LREM k 0 {MANY - 5}"),
        ("LREM k -1 3", 1, "LREM k -1 3"),
        (f"LREM k 1 {MANY - 5}", 1, f"LREM k 1 {MANY - 5}"),
        ("LREM k -99 3", 1, "LREM k -99 3"),
        (f"LINSERT k AFTER {MANY - 5} x", MANY + 1, f"LINSERT k AFTER {MANY - 5} x"),
        ("LINSERT k BEFORE none x", -1, None),
        ("LREM k 0 none", 0, None),
    ],
)
def test_a_change_after_a_long_search_runs_in_slices_with_its_key_locked(line: str, reply: int, effect: Any) -> None:
    bench, client = filled(MANY)
    other = bench.connect()
    known = len(bench.log.records)
    asked: list[Any] = []

    def between() -> None:
        asked.append(other.ask("LLEN", "k"))
        assert other.ask("SET", "free", "1") is OK or bench.store.key_lock is not None

    found, steps = driven(work_of(client.ask(*line.split())), between)
    assert found == reply
    assert steps > 10
    assert HELD_BACK in asked
    logged = [b" ".join(argv).decode() for argv in bench.log.records[known:] if argv[0] != b"SET"]
    assert logged == ([effect] if effect else [])
    bench.store.databases[0].get(b"k").check()
    bench.store.databases[0].check()


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("LREM k 1 3000", 1),
        (f"LREM k -1 {MANY - 3000}", 1),
        ("LINSERT k BEFORE 3000 x", MANY + 1),
        ("LPOS k 3000", 3000),
        (f"LPOS k {MANY - 3000} RANK -1", MANY - 3000),
        ("LPOS k none MAXLEN 3000", None),
    ],
)
def test_what_stands_near_an_end_of_a_long_list_is_found_at_once(line: str, reply: Any) -> None:
    bench, client = filled(MANY)
    assert client.ask(*line.split()) == reply
    bench.store.databases[0].get(b"k").check()


def test_a_long_search_sees_the_list_as_it_was_and_locks_nothing() -> None:
    bench, client = filled(MANY)
    work = work_of(client.ask("LPOS", "k", str(MANY - 1), "COUNT", "0"))
    bench.connect().ask("LTRIM", "k", "0", "1")
    assert bench.store.key_lock is None
    assert driven(work)[0] == [MANY - 1]


def test_a_key_that_is_evicted_amid_a_long_change_is_not_changed() -> None:
    bench, client = filled(MANY)
    for line in (f"LREM k 0 {MANY - 1}", f"LINSERT k BEFORE {MANY - 1} x"):
        work = work_of(client.ask(*line.split()))
        next(work)
        bench.store.databases[0].evict(b"k")
        assert driven(work)[0] == 0
        assert bench.log.records[-1] == [b"DEL", b"k"]
        bench.store.databases[0].check()
        client.ask("RPUSH", "k", "0")
        bench.store.databases[0].get(b"k").join_right(List(b"%d" % number for number in range(1, MANY)))


@pytest.mark.parametrize("name", ["LPUSH", "RPUSH", "LPUSHX", "RPUSHX"])
def test_a_push_of_thousands_takes_effect_in_one_step(name: str) -> None:
    bench, client = filled(3)
    other = bench.connect()
    lengths = set()
    words = [str(number) for number in range(5000)]
    reply, steps = driven(work_of(client.ask(name, "k", *words)), lambda: lengths.add(other.ask("LLEN", "k")))
    assert reply == 5003
    assert steps > 10
    assert lengths <= {HELD_BACK, 3, 5003}
    plain = Bench(default_ttl="0")
    follower = plain.connect()
    follower.ask("RPUSH", "k", "0", "1", "2")
    for argv in bench.log.records[1:]:
        assert len(argv) < 300
        follower.ask(*argv)
    assert list(plain.store.databases[0].get(b"k")) == list(bench.store.databases[0].get(b"k"))


def test_a_push_of_thousands_to_a_string_or_to_nothing_is_refused() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("SET", "s", "v")
    with pytest.raises(CommandError) as refusal:
        driven(work_of(client.ask("RPUSH", "s", *["x"] * 5000)))
    assert refusal.value.text == errors.WRONG_TYPE
    assert driven(work_of(client.ask("RPUSHX", "none", *["x"] * 5000)))[0] == 0
    assert bench.log.records == [[b"SET", b"s", b"v"]]
    assert bench.store.key_lock is None


requests = st.one_of(
    st.tuples(st.sampled_from(["RPUSH", "LPUSH"]), st.sampled_from("ab"), st.sampled_from("xyz")),
    st.tuples(st.sampled_from(["RPUSH", "LPUSH"]), st.sampled_from("ab"), st.sampled_from("xyz"), st.just("z")),
    st.tuples(st.sampled_from(["RPOP", "LPOP", "DEL"]), st.sampled_from("ab")),
    st.tuples(st.sampled_from(["RPOP", "LPOP"]), st.sampled_from("ab"), st.sampled_from("012x")),
    st.tuples(st.just("SET"), st.just("b"), st.just("v")),
)


@given(st.lists(st.tuples(requests, st.integers(1, 6)), min_size=1, max_size=12))
def test_a_pipeline_by_column_does_what_its_requests_do(runs: list[tuple[tuple[str, ...], int]]) -> None:
    by_column, one_by_one, follower = (Bench(default_ttl="0").connect() for _ in range(3))
    for words, count in runs:
        pipeline = [[word.encode() for word in words] for _ in range(count)]
        replies = run_all(by_column.bench.engine, by_column.session, pipeline)
        assert list(map(repr, replies)) == [repr(one_by_one.ask(*words)) for _ in range(count)]
    for argv in by_column.bench.log.records:
        follower.ask(*argv)
    states = [state_of(client.bench.store) for client in (by_column, one_by_one, follower)]
    assert states[0] == states[1] == states[2]
    assert by_column.bench.instance.statistics.errors == one_by_one.bench.instance.statistics.errors
    by_column.session.db.check()


def test_a_pipeline_to_one_list_is_logged_as_one_command() -> None:
    client = Bench(default_ttl="0").connect()
    for pipeline in (["RPUSH k a"] * 3, ["LPUSH k b c"] * 2, ["LPOP k"] * 2, ["RPOP k"] * 9):
        run_all(client.bench.engine, client.session, [line.encode().split() for line in pipeline])
    logged = [b" ".join(argv).decode() for argv in client.bench.log.records]
    assert logged == ["RPUSH k a a a", "LPUSH k b c b c", "LPOP k 2", "RPOP k 5"]


COUNT = 120_000


def test_long_replies_of_a_server_are_whole_in_all_dialects(tmp_path: Path) -> None:
    members = [f"element:{number}" for number in range(COUNT)]
    with GodisProcess(tmp_path) as godis, godis.raw() as raw, godis.raw() as other:
        for start in range(0, COUNT, 1000):
            raw.ask("RPUSH", "k", *members[start : start + 1000])
        body = b"".join(b"$%d\r\n%b\r\n" % (len(member), member.encode()) for member in members)
        reply = b"*%d\r\n%b" % (COUNT, body)
        raw.send(encode("LRANGE", "k", "0", "-1"))
        begun = raw.read_exactly(10_000)
        assert other.ask("LLEN", "k") == b":%d\r\n" % COUNT
        assert begun + raw.read_exactly(len(reply) - len(begun)) == reply
        for copied, line in (("c", "LPOP c 200000"), ("d", "LMPOP 1 d LEFT COUNT 200000")):
            raw.ask("COPY", "k", copied)
            raw.send(encode(*line.split()))
            whole = reply if copied == "c" else b"*2\r\n$1\r\nd\r\n" + reply
            assert raw.read_exactly(len(whole)) == whole
            assert raw.ask("EXISTS", copied) == b":0\r\n"
        lines = b"".join(member.encode() + b"\r\n" for member in members)
        with godis.raw() as telnet:
            telnet.send(b"LRANGE k 0 -1\r\nLMPOP 1 k LEFT COUNT 120000\r\n")
            whole = lines + b"k\r\n" + lines
            assert telnet.read_exactly(len(whole)) == whole
