"""A pipeline of one command, run at once: the same replies, keys, effects and counts as one request after another."""

from __future__ import annotations

import re
from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from instances import START_MS, Bench, Client, run_all
from servers import GodisProcess
from tables import for_each

from engine import CHECKS, PART_REPLY_BYTES, PART_REQUESTS, SHORT_BYTES
from errors import INTERNAL, NO_AUTH, CommandError
from protocol import encode_command
from replies import HELD_BACK, OK
from session import GATES
from wire.columns import TABLED

KEYS = [b"a", b"b", b"c", b"d"]
keys = st.sampled_from(KEYS)
values = st.sampled_from([b"", b"1", b"x" * 2000])
lives = st.sampled_from(
    [
        [],
        [b"EX", b"10"],
        [b"px", b"1"],
        [b"EX", b"0"],
        [b"EXAT", b"ten"],
        [b"KEEPTTL"],
        [b"NX"],
        [b"GET"],
        [b"PXAT", b"%d" % (START_MS - 5)],
        [b"PXAT", b"%d" % (START_MS + 50)],
        [b"NX", b"GET"],
    ]
)
one_set = st.tuples(keys, values, lives).map(lambda got: [b"SET", got[0], got[1], *got[2]])
alike = st.tuples(st.lists(st.tuples(keys, values), min_size=1, max_size=6), lives).map(
    lambda got: [[b"SET", *pair, *got[1]] for pair in got[0]]
)
gets = st.lists(keys.map(lambda key: [b"GET", key]), min_size=1, max_size=6)
NUMBERS = [
    b"0",
    b"-1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"4611686018427387904",
    b"007",
    b" 1",
    b"1_0",
    b"+1",
]
some_words = st.sampled_from([*NUMBERS, b"", b"1", b"x", b"60", b"9" * 19, b"9223372036854775", b"NX"])
NAMES = {
    1: [b"INCR", b"DECR", b"TTL", b"PTTL", b"EXISTS", b"DEL", b"UNLINK", b"GET", b"TYPE", b"incr"],
    2: [b"INCRBY", b"DECRBY", b"EXPIRE", b"DEL", b"EXISTS", b"SET", b"SETNX", b"MSET"],
    3: [b"SETEX", b"PSETEX", b"EXPIRE", b"MSET"],
}
one_of_many = st.integers(1, 3).flatmap(
    lambda count: st.tuples(st.sampled_from(NAMES[count]), keys, *[some_words] * (count - 1)).map(list)
)
one_command = st.integers(1, 3).flatmap(
    lambda count: st.tuples(
        st.sampled_from(NAMES[count]),
        st.lists(keys, min_size=1, max_size=6),
        st.lists(some_words, min_size=count - 1, max_size=count - 1),
    ).map(lambda got: [[got[0], key, *got[2]] for key in got[1]])
)
msets = (
    st.integers(1, 3)
    .flatmap(
        lambda count: st.lists(
            st.lists(st.tuples(keys, values), min_size=count, max_size=count), min_size=1, max_size=4
        )
    )
    .map(lambda got: [[b"MSET", *[word for pair in pairs for word in pair]] for pairs in got])
)
pipelines = st.one_of(
    alike,
    msets,
    gets,
    one_command,
    st.lists(st.one_of(one_set, keys.map(lambda key: [b"get", key]), one_of_many), min_size=1),
)


def state(client: Client) -> object:
    bench, db = client.bench, client.session.db
    statistics = bench.instance.statistics
    return (
        dict(db.entries),
        list(db.key_order.places),
        db.expiry.volatile_count,
        db.expiry.latest_ms,
        {second: sorted(bucket) for second, bucket in db.expiry.due.items()},
        list(bench.log.records),
        bench.store.hits,
        bench.store.misses,
        dict(statistics.errors),
        bench.store.expired_keys,
        None if db.usage is None or db.usage.uses is None else dict(db.usage.uses.table),
    )


@given(
    before=st.lists(one_set | one_of_many, max_size=6),
    pause_ms=st.sampled_from([0, 1, 60, 20_000]),
    idle=st.booleans(),
    no_touch=st.booleans(),
    pipeline=pipelines,
    default_ttl=st.sampled_from(["6h", "0"]),
)
@example(
    before=[[b"SET", b"a", b"1", b"PX", b"1"]],
    pause_ms=1,
    idle=False,
    no_touch=False,
    default_ttl="6h",
    pipeline=[[b"GET", b"a"]] * 2,
)
@example(
    before=[[b"SET", b"a", b"1"]],
    pause_ms=0,
    idle=False,
    no_touch=False,
    default_ttl="6h",
    pipeline=[[b"EXPIRE", b"a", b"60"]] * 2,
)
@example(
    before=[[b"INCR", b"a"], [b"SET", b"b", b"x"]],
    pause_ms=0,
    idle=False,
    no_touch=False,
    default_ttl="6h",
    pipeline=[[b"EXPIRE", b"a", b"60"]] * 2,
)
@example(
    before=[[b"SET", b"a", b"1", b"EX", b"10"]],
    pause_ms=0,
    idle=False,
    no_touch=False,
    default_ttl="6h",
    pipeline=[[b"SET", b"a", b"2"]] * 2,
)
def test_a_pipeline_at_once_does_what_its_requests_do(
    before: list[list[bytes]], pause_ms: int, idle: bool, no_touch: bool, pipeline: list[list[bytes]], default_ttl: str
) -> None:
    one, other = (Bench(default_ttl=default_ttl).connect() for _ in range(2))
    for client in (one, other):
        for request in before:
            client.ask(*request)
        if idle:
            client.ask("OBJECT", "IDLETIME", "a")  # from now on uses are noted
        if no_touch:
            client.ask("CLIENT", "NO-TOUCH", "ON")
        client.bench.advance(pause_ms / 1000)
    replies = run_all(other.bench.engine, other.session, pipeline)
    expected = [one.ask(*request) for request in pipeline]
    assert list(map(repr, replies)) == list(map(repr, expected))
    assert state(other) == state(one)
    other.session.db.check()


@pytest.mark.parametrize("line", ["SET a 1", "SET a 1 EX 10", "GET a", "INCR n", "INCRBY n 2"])
def test_clients_that_ask_for_idle_times_or_no_touch_leave_pipelines_by_column(line: str) -> None:
    client = Bench().connect()
    quiet = client.bench.connect()
    quiet.ask("CLIENT", "NO-TOUCH", "ON")
    client.ask("SET", "a", "1")
    client.ask("OBJECT", "IDLETIME", "a")
    assert not client.bench.instance.closed_gates
    client.bench.advance(5)
    replies = client.bench.engine._run_by_column(client.session, [line.encode().split()] * 4)
    assert replies is not None
    assert not any(isinstance(reply, CommandError) for reply in replies)


MANY = [b"key:%d" % number for number in range(3000)]


@for_each(
    ("pipeline", "ran"),
    [
        ([b"SET a 1", b"GET a", b"DEL a b", b"TTL a", b"NOSUCH", b"MGET a b"], 6),
        ([b"SET a 1"] * PART_REQUESTS * 2, PART_REQUESTS * 2),  # by column
        ([b"SET a 1", b"GET a"] * PART_REQUESTS, PART_REQUESTS),
        ([b"PING"] * PART_REQUESTS * 2, PART_REQUESTS),
        ([b"SET a 1", b"DEL " + b" ".join(MANY), b"GET a"], 2),  # work to be done in slices
        ([b"SET a 1", b"HELLO 3", b"GET b"], 1),
        ([b"HELLO 3", b"GET b"], 2),
        ([b"SET a 1", b"CLIENT REPLY OFF", b"GET a"], 1),
        ([b"CLIENT REPLY OFF", b"GET a"], 1),
        ([b"SET a 1", b"QUIT", b"GET a"], 2),
        ([b"GET long", b"GET a"], 2),
        ([b"GET large", b"GET a"], 1),
        ([b"POST /", b"SET a 1"], 1),
    ],
)
def test_a_part_of_a_pipeline_ends_where_something_has_to_happen(pipeline: list[bytes], ran: int) -> None:
    client = Bench().connect()
    client.ask("SET", "long", b"x" * SHORT_BYTES)
    client.ask("SET", "large", b"x" * (PART_REPLY_BYTES + 1))
    assert len(client.bench.engine.run(client.session, [line.split() for line in pipeline])) == ran


def test_a_part_ends_with_the_turn_behind_what_may_have_taken_long() -> None:
    client = Bench().connect()
    client.bench.instance.turn_ends = 0.0
    pipeline = [[b"SET", b"a", b"1"], [b"INCR", b"a"], [b"KEYS", b"*"], [b"GET", b"a"]]
    assert len(client.bench.engine.run(client.session, pipeline)) == 3
    assert len(client.bench.engine.run(client.session, pipeline, until=inf)) == 4


def test_a_request_that_may_not_run_yet_ends_a_part() -> None:
    client = Bench().connect()
    client.ask("CLIENT", "PAUSE", "1000", "WRITE")
    pipeline = [[b"GET", b"a"], [b"SET", b"a", b"1"], [b"GET", b"a"]]
    assert client.bench.engine.run(client.session, pipeline) == [None, HELD_BACK]


def test_each_request_of_a_pipeline_is_refused_before_auth_or_while_the_log_fails() -> None:
    client = Bench(requirepass="secret").connect()
    pipeline = [[b"SET", b"a", b"1"]] * 4
    assert [reply.text for reply in run_all(client.bench.engine, client.session, pipeline)] == [NO_AUTH] * 4
    client.ask("AUTH", "secret")
    client.bench.log.failure = b"No space left on device"
    client.bench.instance.gate("log", closed=True)
    assert [reply.text[:7] for reply in run_all(client.bench.engine, client.session, pipeline)] == [b"MISCONF"] * 4


def test_a_bug_in_a_pipeline_is_an_error_for_each_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no value of a user")

    client = Bench().connect()
    monkeypatch.setattr(client.bench.engine.lookup([b"GET"]), "run_many", broken)
    replies = client.bench.engine.run(client.session, [[b"GET", b"secret"]] * 3)
    assert [reply.text for reply in replies if isinstance(reply, CommandError)] == [INTERNAL] * 3
    assert "internal error in GET" in caplog.text
    assert "secret" not in caplog.text


def test_pipelines_over_the_wire_are_answered_in_order(shared_godis: GodisProcess) -> None:
    values = [b"v" * size for size in (0, 1, TABLED - 1, TABLED, 70_000, 3 << 20)]
    keys = [b"size:%d" % len(value) for value in values]
    with shared_godis.client() as client:
        pipe = client.pipeline(transaction=False)
        for key, value in zip(keys, values, strict=True):
            pipe.set(key, value)
        assert pipe.execute() == [True] * len(keys)
        for key in keys:
            pipe.set(key + b":ex", b"1", ex=100)
        assert pipe.execute() == [True] * len(keys)
        for key in [*keys, b"missing", *keys]:
            pipe.get(key)
        assert pipe.execute() == [*values, None, *values]
        assert 90 < client.ttl(keys[0] + b":ex") <= 100


def test_an_ok_is_the_one_that_the_server_knows() -> None:
    client = Bench().connect()
    replies = client.bench.engine.run(client.session, [[b"SET", b"a", b"1"]] * 4)
    assert all(reply is OK for reply in replies)


@pytest.mark.parametrize("times", [1, 40])
def test_a_mixed_pipeline_over_the_wire_is_answered_as_request_by_request(
    shared_godis: GodisProcess, times: int
) -> None:
    requests = [
        *[b"SET m:a one", b"GET m:a", b"INCR m:n", b"INCR m:a", b"GET", b"EXPIRE m:n 60", b"TTL m:n"],
        *[b"MSET m:b 2 m:c 3", b"MSET m:b", b"DEL m:a m:b m:x", b"DEL m:a", b"EXISTS m:c m:c", b"MGET m:a m:c"],
        *[b"HELLO 3", b"GET m:a", b"HELLO 2", b"GET m:a", b"SELECT 1", b"GET m:c", b"SELECT 0", b"GET m:c", b"DEL m:n"],
    ]
    wires = [encode_command(line.split()) for line in requests]
    with shared_godis.raw() as raw:
        expected = []
        for wire in wires:
            raw.send(wire)
            expected.append(raw.read_reply())
    assert expected[3] == b"-ERR value is not an integer or out of range\r\n"
    assert expected[9:13] == [b":2\r\n", b":0\r\n", b":2\r\n", b"*2\r\n$-1\r\n$1\r\n3\r\n"]
    with shared_godis.raw() as raw:
        raw.send(b"".join(wires) * times)
        identity = re.compile(rb"\$2\r\nid\r\n:\d+\r\n")
        for reply in expected * times:
            assert identity.sub(b"", raw.read_reply()) == identity.sub(b"", reply)


def test_each_gate_has_a_check_and_a_request_passes_them_in_order() -> None:
    assert tuple(CHECKS) == GATES
    instance = Bench().instance
    for name in reversed(GATES):
        instance.gate(name, closed=True)
    assert instance.closed_gates == GATES
    for name in GATES:
        assert instance.needs_checks
        instance.gate(name, closed=False)
    assert not instance.needs_checks
