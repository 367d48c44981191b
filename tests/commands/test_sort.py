"""SORT and SORT_RO: what they answer, store and log, and that long ones see one moment."""

from __future__ import annotations

from typing import Any

import pytest
from instances import Bench, Client, driven, work_of
from tables import for_each

import errors
from commands import TABLE
from commands.sort import AT_ONCE_LOOKUPS, parse_pattern
from errors import CommandError
from replies import HELD_BACK, OK, LongArray

NUMBERS = "RPUSH k 3 1 2 10"
WEIGHTS = "RPUSH k a b c; MSET w_a 3 w_b 1 w_c 2; HSET h_a f x; HSET h_b f y"
CASES: list[tuple[str, str, Any, list[str]]] = [  # before, command, reply, effects
    ("", "SORT k", [], []),
    (NUMBERS, "SORT k", [b"1", b"2", b"3", b"10"], []),
    (NUMBERS, "SORT k DESC", [b"10", b"3", b"2", b"1"], []),
    (NUMBERS, "SORT k ALPHA", [b"1", b"10", b"2", b"3"], []),
    (NUMBERS, "SORT k LIMIT 1 2", [b"2", b"3"], []),
    (NUMBERS, "SORT k LIMIT -3 1", [b"1"], []),
    (NUMBERS, "SORT k LIMIT 2 -1", [b"3", b"10"], []),
    (NUMBERS, "SORT k LIMIT 9 1", [], []),
    (NUMBERS, "SORT k BY nosort DESC LIMIT 1 2", [b"2", b"1"], []),
    (NUMBERS, "SORT_RO k", [b"1", b"2", b"3", b"10"], []),
    ("RPUSH k 2 1.0 1", "SORT k", [b"1", b"1.0", b"2"], []),
    ("RPUSH k 2 1.0 1", "SORT k DESC", [b"2", b"1.0", b"1"], []),
    ("RPUSH k a", "SORT k", errors.NOT_SORTABLE, []),
    ("RPUSH k nan", "SORT k", errors.NOT_SORTABLE, []),
    ("RPUSH k 1e999", "SORT k", errors.NOT_SORTABLE, []),
    ("SADD k 2 1", "SORT k", [b"1", b"2"], []),
    ("ZADD k 1 b 2 a", "SORT k ALPHA", [b"a", b"b"], []),
    ("ZADD k 1 b 2 a 3 c", "SORT k BY nosort DESC LIMIT 1 5", [b"a", b"b"], []),
    (WEIGHTS, "SORT k BY w_*", [b"b", b"c", b"a"], []),
    (WEIGHTS, "SORT k BY w_* GET # GET h_*->f GET none", [b"b", b"y", None, b"c", None, None, b"a", b"x", None], []),
    (WEIGHTS, "SORT k BY h_*->f ALPHA", [b"c", b"a", b"b"], []),
    (WEIGHTS, "SORT k BY h_*->f ALPHA DESC", [b"b", b"a", b"c"], []),
    (WEIGHTS, "SORT k BY none_* ALPHA DESC", [b"a", b"b", b"c"], []),
    (WEIGHTS, "SORT k BY w_* GET k*", [None] * 3, []),
    (WEIGHTS + "; SET d v PX 9000", "SORT k BY w_* STORE d", 3, ["DEL d", "RPUSH d b c a"]),
    (WEIGHTS, "SORT k BY w_* GET h_*->f STORE d", 3, ["RPUSH d y  x"]),
    (WEIGHTS, "SORT k BY w_* STORE k", 3, ["DEL k", "RPUSH k b c a"]),
    ("SET d v", "SORT k STORE d", 0, ["DEL d"]),
    ("", "SORT k STORE d", 0, []),
    ("SADD k b a c", "SORT k BY nosort STORE d", 3, ["RPUSH d a b c"]),
    ("RPUSH k x; SET d v", "SORT k STORE d", errors.NOT_SORTABLE, []),
    ("SET k v", "SORT k", errors.WRONG_TYPE, []),
    ("SET k v", "SORT k JUNK", errors.SYNTAX, []),
    ("", "SORT k LIMIT 1", errors.SYNTAX, []),
    ("", "SORT k LIMIT 1 x", errors.NOT_AN_INTEGER, []),
    ("", "SORT k BY", errors.SYNTAX, []),
    ("", "SORT_RO k STORE d", errors.SYNTAX, []),
    ("", "SORT k STORE", errors.SYNTAX, []),
]


def answer(client: Client, line: str) -> Any:
    reply = client.ask(*line.split())
    return reply.text if isinstance(reply, CommandError) else reply


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_sort_answers_and_logs(before: str, line: str, reply: Any, effects: list[str]) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for each in filter(None, before.split("; ")):
        answer(client, each)
    known = len(bench.log.records)
    assert answer(client, line) == reply
    assert [b" ".join(argv).decode() for argv in bench.log.records[known:]] == effects
    assert client.ask("PTTL", "d") in (-1, -2, 9000)
    bench.store.databases[0].check()


@pytest.mark.parametrize("command", ["SORT", "SORT_RO"])
def test_a_script_gets_a_set_in_order_even_when_it_asks_for_none(command: str) -> None:
    client = Bench(default_ttl="0").connect()
    client.ask("SADD", "k", *"cbda")
    assert client.ask("EVAL", f"return redis.call('{command}', KEYS[1], 'BY', 'nosort')", 1, "k") == [
        b"a",
        b"b",
        b"c",
        b"d",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"#", (True, False, b"#", b"", b"")),
        (b"w_*", (False, True, b"w_", b"", b"")),
        (b"w_*_x*", (False, True, b"w_", b"_x*", b"")),
        (b"h_*_x->f->g", (False, True, b"h_", b"_x", b"f->g")),
        (b"h_*->", (False, True, b"h_", b"->", b"")),
        (b"h->f*", (False, True, b"h->f", b"", b"")),
    ],
)
def test_a_pattern_is_split_at_its_first_star_and_arrow(text: bytes, expected: tuple[Any, ...]) -> None:
    assert parse_pattern(text) == expected


MANY = 3 * AT_ONCE_LOOKUPS


def shuffled(kind: str) -> Client:
    """Return a client of an instance with many numbers, each of which has a weight: minus itself."""
    client = Bench(default_ttl="0").connect()
    for number in range(MANY):
        element = number * 7 % MANY
        client.ask(*{"list": ["RPUSH", "k"], "set": ["SADD", "k"], "zset": ["ZADD", "k", "1"]}[kind], element)
        client.ask("SET", f"w_{element}", -element)
    return client


@pytest.mark.parametrize("kind", ["list", "set", "zset"])
def test_a_long_sort_is_done_in_slices_and_sees_one_moment(kind: str) -> None:
    client = shuffled(kind)
    other = client.bench.connect()
    numbers = iter(range(MANY))

    def change() -> None:
        number = next(numbers, 0)
        assert other.ask("SET", f"w_{number}", "junk") is OK
        assert other.ask("DEL", "k") in (0, 1)

    reply, steps = driven(work_of(client.ask("SORT_RO", "k", "BY", "w_*", "LIMIT", "10", "5000", "GET", "#")), change)
    assert isinstance(reply, LongArray)
    assert steps > 10
    assert reply.members() == [b"%d" % number for number in range(MANY - 1, -1, -1)][10:5010]
    assert client.session.db.views == ()


def test_a_long_sort_stores_in_one_step_what_was_there_when_it_began() -> None:
    client = shuffled("list")
    bench, other = client.bench, client.bench.connect()
    client.ask("SET", "d", "v")
    known = len(bench.log.records)
    seen = []

    def change() -> None:
        other.ask("RPUSH", "k", "junk")
        seen.append(other.ask("TYPE", "d"))

    reply, _ = driven(work_of(client.ask("SORT", "k", "BY", "w_*", "STORE", "d")), change)
    assert reply == MANY
    assert set(seen) <= {HELD_BACK, b"string", b"list"}
    assert HELD_BACK in seen
    expected = [b"%d" % number for number in range(MANY - 1, -1, -1)]
    assert list(client.session.db.get(b"d")) == expected
    logged = [argv for argv in bench.log.records[known:] if argv[1] == b"d"]
    assert logged[0] == [b"DEL", b"d"]
    assert all(argv[0] == b"RPUSH" and len(argv) < 300 for argv in logged[1:])
    assert [word for argv in logged[1:] for word in argv[2:]] == expected
    client.session.db.check()


def test_a_long_sort_that_is_refused_stores_and_logs_nothing() -> None:
    client = shuffled("list")
    client.ask("SET", "d", "v")
    client.ask("RPUSH", "k", "junk")
    known = len(client.bench.log.records)
    with pytest.raises(CommandError) as refusal:
        driven(work_of(client.ask("SORT", "k", "STORE", "d")))
    assert refusal.value.text == errors.NOT_SORTABLE
    assert client.ask("GET", "d") == b"v"
    assert client.bench.log.records[known:] == []
    assert client.bench.store.key_lock is None
    assert client.session.db.views == ()


def test_a_destination_that_is_evicted_meanwhile_is_stored_all_the_same() -> None:
    client = shuffled("list")
    client.ask("SET", "d", "v")
    work = work_of(client.ask("SORT", "k", "STORE", "d"))
    next(work)
    client.session.db.evict(b"d")
    reply, _ = driven(work)
    assert reply == MANY
    follower = Bench(default_ttl="0").connect()
    for argv in client.bench.log.records:
        follower.ask(*argv)
    assert list(follower.session.db.get(b"d")) == list(client.session.db.get(b"d"))


def test_a_sort_by_other_keys_waits_while_one_of_them_may_be_written_in_part() -> None:
    client = Bench(default_ttl="0").connect()
    other = client.bench.connect()
    other.ask("RPUSH", "k", "1", "2")
    work = work_of(client.ask("MSET", *[word for number in range(3000) for word in (f"w_{number}", str(-number))]))
    while client.bench.store.key_lock is None:
        next(work)
    answers = [other.ask(*line.split()) for line in ("SORT k BY w_*", "SORT_RO k GET w_* BY #", "SORT k")]
    assert answers == [HELD_BACK, HELD_BACK, [b"1", b"2"]]
    driven(work)
    assert other.ask("SORT", "k", "BY", "w_*") == [b"2", b"1"]


def test_a_request_with_patterns_touches_more_keys_than_it_names() -> None:
    for line, names_all in (
        ("SORT k", True),
        ("SORT k STORE d ALPHA", True),
        ("SORT k by w_*", False),
        ("SORT k GET w_*", False),
        ("SORT_RO k GET w_*", False),
    ):
        argv = line.encode().split()
        assert TABLE[argv[0]].names_keys(argv) is names_all


def test_a_sort_by_other_keys_in_a_transaction_of_many_words() -> None:
    client = Bench(default_ttl="0").connect()
    client.ask("MULTI")
    client.ask("RPUSH", "k", "1", "2", *["3"] * 1500)
    client.ask("MSET", *["w_1", "5"] * 500)
    client.ask("SORT", "k", "BY", "w_*", "LIMIT", "0", "1", "DESC")
    replies, _ = driven(work_of(client.ask("EXEC")))
    assert replies == [1502, OK, [b"1"]]
