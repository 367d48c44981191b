"""Commands on sorted sets: what they answer and what they log. That Redis answers the same is tested elsewhere for
random commands; here stand the cases that a random command hardly meets, and sets of thousands of members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from canonical import all_of
from fakes import Dialogue, answers_and_logs
from instances import Bench, Client, Replay, driven, listed, run_all, work_of
from servers import GodisProcess
from tables import for_each

import commands.scored
import commands.sorted_set_algebra
import commands.sorted_set_pops
import commands.sorted_sets
import errors
from commands.scored import AT_ONCE_MEMBERS
from errors import CommandError
from protocol import text_pieces
from replies import HELD_BACK, NULL_ARRAY, LongArray, LongPairs, Pairs

ABC = "ZADD k 1 a 2 b 3 c"
INF = float("inf")

CASES: list[tuple[str, str, Any, list[str]]] = [
    # before, command, reply, effects
    ("", "ZADD k 1 a", 1, ["ZADD k 1 a"]),
    ("", "ZADD k 1.50 a 0x10 b", 2, ["ZADD k 1.50 a 0x10 b"]),
    ("", "ZADD k 1 a 2 a", 1, ["ZADD k 1 a 2 a"]),
    (ABC, "ZADD k 1 a 5 b", 0, ["ZADD k 5 b"]),
    (ABC, "ZADD k 1.0 a", 0, []),
    (ABC, "ZADD k -0 z 0 z", 1, ["ZADD k -0 z"]),
    (ABC, "ZADD k CH 1 a 5 b 4 d", 2, ["ZADD k 5 b 4 d"]),
    (ABC, "ZADD k NX 9 a 4 d", 1, ["ZADD k 4 d"]),
    (ABC, "ZADD k XX 9 a 4 d", 0, ["ZADD k 9 a"]),
    (ABC, "ZADD k GT 0 a 9 b 4 d", 1, ["ZADD k 9 b 4 d"]),
    (ABC, "ZADD k lt ch 0 a 9 b", 1, ["ZADD k 0 a"]),
    (ABC, "ZADD k XX GT CH 9 a 9 z", 1, ["ZADD k 9 a"]),
    ("", "ZADD k XX 1 a", 0, []),
    (ABC, "ZADD k INCR 0.5 a", 1.5, ["ZADD k 1.5 a"]),
    (ABC, "ZADD k INCR 0 a", 1.0, []),
    (ABC, "ZADD k NX INCR 1 a", None, []),
    (ABC, "ZADD k GT INCR -1 a", None, []),
    ("", "ZADD k XX INCR 1 a", None, []),
    ("ZADD k inf a", "ZADD k INCR -inf a", errors.SCORE_NAN, []),
    ("ZADD k inf a", "ZINCRBY k -inf a", errors.SCORE_NAN, []),
    ("", "ZADD k NX XX 1 a", errors.ZADD_XX_AND_NX, []),
    ("", "ZADD k NX GT 1 a", errors.ZADD_GT_LT_AND_NX, []),
    ("", "ZADD k GT LT 1 a", errors.ZADD_GT_LT_AND_NX, []),
    ("", "ZADD k INCR 1 a 2 b", errors.ZADD_INCR_ONE, []),
    ("", "ZADD k CH INCR", errors.SYNTAX, []),
    ("", "ZADD k 1 a 2", errors.SYNTAX, []),
    ("", "ZADD k 1 a nan b", errors.NOT_A_FLOAT, []),
    ("SET k v", "ZADD k x a", errors.NOT_A_FLOAT, []),
    ("SET k v", "ZADD k 1 a", errors.WRONG_TYPE, []),
    ("", "ZADD k " + "NX " * 200 + "1 a", errors.TOO_MANY_WORDS % (b"zadd", 128), []),
    ("", "ZINCRBY k 0.1 a", 0.1, ["ZADD k 0.1 a"]),
    ("ZADD k 0.1 a", "ZINCRBY k 0.2 a", 0.1 + 0.2, ["ZADD k 0.30000000000000004 a"]),
    (ABC, "ZREM k a x b", 2, ["ZREM k a b"]),
    (ABC, "ZREM k a a", 1, ["ZREM k a"]),
    (ABC, "ZREM k x", 0, []),
    ("ZADD k 1 a", "ZREM k a", 1, ["ZREM k a"]),
    ("ZADD k 1 a; ZREM k a", "EXISTS k", 0, []),
    ("", "ZCARD k", 0, []),
    (ABC, "ZSCORE k b", 2.0, []),
    (ABC, "ZMSCORE k b x a", [2.0, None, 1.0], []),
    ("", "ZMSCORE k b x", [None, None], []),
    (ABC, "ZRANK k c", 2, []),
    (ABC, "ZREVRANK k c", 0, []),
    (ABC, "ZRANK k x", None, []),
    (ABC, "ZRANK k c WITHSCORE", [2, 3.0], []),
    (ABC, "ZREVRANK k c withscore", [0, 3.0], []),
    (ABC, "ZRANK k x WITHSCORE", NULL_ARRAY, []),
    ("", "ZRANK k x WITHSCORE", NULL_ARRAY, []),
    (ABC, "ZRANK k c WITHSCORES", errors.SYNTAX, []),
    (ABC, "ZRANK k c WITHSCORE x", errors.WRONG_ARITY % b"zrank", []),
    (ABC, "ZPOPMIN k", [b"a", 1.0], ["ZREM k a"]),
    (ABC, "ZPOPMAX k 2", [b"c", 3.0, b"b", 2.0], ["ZREM k c b"]),
    (ABC, "ZPOPMIN k 0", [], []),
    ("", "ZPOPMIN k", [], []),
    (ABC, "ZMPOP 2 x k MAX COUNT 2", [b"k", [[b"c", 3.0], [b"b", 2.0]]], ["ZREM k c b"]),
    ("", "ZMPOP 1 k MIN", NULL_ARRAY, []),
    ("SET s v", "ZMPOP 2 s k MIN", errors.WRONG_TYPE, []),
    (ABC, "ZREMRANGEBYRANK k 0 -2", 2, ["ZREMRANGEBYRANK k 0 -2"]),
    (ABC, "zremrangebyscore k '(1' 2", 1, ["ZREMRANGEBYSCORE k (1 2"]),
    (ABC, "ZREMRANGEBYSCORE k 7 8", 0, []),
    ("ZADD k 0 a 0 b", "ZREMRANGEBYLEX k [a '(b'", 1, ["ZREMRANGEBYLEX k [a (b"]),
    (ABC, "ZRANGE k 0 -1 REV WITHSCORES", [b"c", 3.0, b"b", 2.0, b"a", 1.0], []),
    (ABC, "ZRANGE k 2 (1 BYSCORE REV", [b"b"], []),
    (ABC, "ZRANGE k -inf +inf BYSCORE LIMIT 1 1", [b"b"], []),
    (ABC, "ZRANGE k -inf +inf BYSCORE LIMIT -1 1", [], []),
    (ABC, "ZRANGE k -inf +inf BYSCORE LIMIT 1 -7", [b"b", b"c"], []),
    (ABC, "ZRANGE k 0 -1 LIMIT 0 1", errors.RANGE_LIMIT, []),
    (ABC, "ZRANGE k 0 -1 LIMIT 1 -1", [b"a", b"b", b"c"], []),
    (ABC, "ZRANGE k - + BYLEX WITHSCORES", errors.RANGE_WITHSCORES, []),
    (ABC, "ZRANGE k 0 1 BYSCORE BYLEX", errors.SYNTAX, []),
    (ABC, "ZRANGE k a b BYSCORE", errors.INVALID_SCORE_RANGE, []),
    (ABC, "ZRANGE k a b BYLEX", errors.INVALID_LEX_RANGE, []),
    (ABC, "ZRANGEBYSCORE k ( 1e999", [b"a", b"b", b"c"], []),
    (ABC, "ZRANGESTORE d k 0 1", 2, ["ZRANGESTORE d k 0 1"]),
    (ABC + "; SET d v", "ZRANGESTORE d k 5 6", 0, ["DEL d"]),
    (ABC, "ZRANGESTORE d none 0 1", 0, []),
    (ABC, "ZRANGESTORE d k 0 1 WITHSCORES", errors.SYNTAX, []),
    (ABC, "ZRANGESTORE k k 0 1", 2, ["ZRANGESTORE k k 0 1"]),
    (ABC, "ZRANDMEMBER k 0", [], []),
    ("", "ZRANDMEMBER k", None, []),
    ("", "ZRANDMEMBER k 5", [], []),
    (ABC, "ZRANDMEMBER k 9 WITHSCORES", [b"a", 1.0, b"b", 2.0, b"c", 3.0], []),
    (ABC, "ZRANDMEMBER k -2000000", errors.TOO_MANY_REPEATED % (1 << 20), []),
    (ABC, "ZRANDMEMBER k -9223372036854775808", errors.COUNT_OUT_OF_RANGE, []),
    (ABC, "ZSCAN k 0", [b"0", [b"a", b"1", b"b", b"2", b"c", b"3"]], []),
    ("ZADD k 2 b 1 c 1 a", "ZSCAN k 0", [b"0", [b"a", b"1", b"c", b"1", b"b", b"2"]], []),
    (ABC, "ZSCAN k 0 MATCH [ab]", [b"0", [b"a", b"1", b"b", b"2"]], []),
    (ABC + "; SADD s b x", "ZUNION 2 k s WITHSCORES", [b"a", 1.0, b"x", 1.0, b"b", 3.0, b"c", 3.0], []),
    (ABC + "; SADD s b x", "ZINTER 2 k s", [b"b"], []),
    (ABC + "; SADD s b x", "ZDIFF 2 s k WITHSCORES", [b"x", 1.0], []),
    (ABC + "; SADD s b x", "ZINTERCARD 2 k s LIMIT 5", 1, []),
    (ABC, "ZUNION 1 k WEIGHTS -2 AGGREGATE MIN WITHSCORES", [b"c", -6.0, b"b", -4.0, b"a", -2.0], []),
    ("ZADD k inf a", "ZUNION 2 k k WEIGHTS 1 -1 WITHSCORES", [b"a", 0.0], []),
    ("ZADD k inf a", "ZUNION 1 k WEIGHTS 0 WITHSCORES", [b"a", 0.0], []),
    ("ZADD k inf a", "ZUNION 2 k k AGGREGATE max WITHSCORES", [b"a", INF], []),
    (ABC, "ZUNIONSTORE d 1 k", 3, ["ZUNIONSTORE d 1 k"]),
    (ABC, "zunionstore k 2 k k WEIGHTS 1 2", 3, ["ZUNIONSTORE k 2 k k WEIGHTS 1 2"]),
    (ABC + "; ZADD d 1 x", "ZINTERSTORE d 2 k none", 0, ["DEL d"]),
    (ABC, "ZDIFFSTORE d 2 k k", 0, []),
    (ABC, "ZDIFFSTORE d 1 k", 3, ["ZDIFFSTORE d 1 k"]),
    (ABC, "ZUNION 0 k", errors.NO_INPUT_KEYS % b"zunion", []),
    (ABC, "ZUNIONSTORE d 1 k WITHSCORES", errors.SYNTAX, []),
    (ABC, "ZDIFF 1 k WEIGHTS 1", errors.SYNTAX, []),
    ("SET s v", "ZUNION 1 s junk", errors.WRONG_TYPE, []),
    (ABC + "; EXPIRE k 10", "ZADD k 4 d; PERSIST k", 1, ["ZADD k 4 d", "PERSIST k"]),
    (ABC + "; EXPIRE d 10", "ZRANGESTORE d k 0 0; TTL d", -1, ["ZRANGESTORE d k 0 0"]),
]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: Any, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


WIRES: list[tuple[str, bytes, bytes]] = [  # command, RESP2, RESP3
    ("ZSCORE k a", b"$3\r\n0.1\r\n", b",0.1\r\n"),
    ("ZSCORE k c", b"$4\r\n-inf\r\n", b",-inf\r\n"),
    ("ZSCORE k x", b"$-1\r\n", b"_\r\n"),
    ("ZADD k INCR 1 b", b"$1\r\n3\r\n", b",3\r\n"),
    ("ZMSCORE k a x", b"*2\r\n$3\r\n0.1\r\n$-1\r\n", b"*2\r\n,0.1\r\n_\r\n"),
    ("ZRANGE k 1 1", b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"),
    ("ZRANGE k 1 1 WITHSCORES", b"*2\r\n$1\r\na\r\n$3\r\n0.1\r\n", b"*1\r\n*2\r\n$1\r\na\r\n,0.1\r\n"),
    ("ZRANGE k 5 6 WITHSCORES", b"*0\r\n", b"*0\r\n"),
    ("ZPOPMIN k", b"*2\r\n$1\r\nc\r\n$4\r\n-inf\r\n", b"*2\r\n$1\r\nc\r\n,-inf\r\n"),
    ("ZPOPMIN k 1", b"*2\r\n$1\r\nc\r\n$4\r\n-inf\r\n", b"*1\r\n*2\r\n$1\r\nc\r\n,-inf\r\n"),
    ("ZMPOP 1 k MIN", b"*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$1\r\nc\r\n$4\r\n-inf\r\n",
     b"*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$1\r\nc\r\n,-inf\r\n"),
    ("ZMPOP 1 none MIN", b"*-1\r\n", b"_\r\n"),
    ("ZRANK k a WITHSCORE", b"*2\r\n:1\r\n$3\r\n0.1\r\n", b"*2\r\n:1\r\n,0.1\r\n"),
    ("ZRANK k x WITHSCORE", b"*-1\r\n", b"_\r\n"),
    ("ZRANK k x", b"$-1\r\n", b"_\r\n"),
    ("ZUNION 1 k WITHSCORES", b"*6\r\n$1\r\nc\r\n$4\r\n-inf\r\n$1\r\na\r\n$3\r\n0.1\r\n$1\r\nb\r\n$1\r\n2\r\n",
     b"*3\r\n*2\r\n$1\r\nc\r\n,-inf\r\n*2\r\n$1\r\na\r\n,0.1\r\n*2\r\n$1\r\nb\r\n,2\r\n"),
]  # fmt: skip


@for_each(("line", "resp2", "resp3"), WIRES)
def test_scores_are_doubles_in_resp3_and_bulk_strings_in_resp2(line: str, resp2: bytes, resp3: bytes) -> None:
    for protocol, expected in ((2, resp2), (3, resp3)):
        client = Bench().connect()
        client.wire("HELLO", protocol)
        client.ask("ZADD", "k", "0.1", "a", "2", "b", "-inf", "c")
        assert client.wire(*line.split()) == expected


def test_a_person_reads_a_member_and_its_score_in_a_line() -> None:
    reply = Pairs([b"a b", 1.0, b"\xff", 0.5])
    assert b"".join(text_pieces(reply)) == b"a b 1\r\n\\xff 0.5\r\n"
    assert b"".join(text_pieces(Pairs())) == b"(empty array)\r\n"


PIPELINES = [
    ["ZADD k 1 a", "ZADD k 2 b", "ZADD k 1 a", "ZADD k 3 a"],
    ["ZADD k 1 a", "ZADD k x b", "ZADD k 2 b"],
    ["ZADD k 1 a", "ZADD j 1 a"],
    ["ZADD k CH 1 a", "ZADD k CH 2 a"],
    ["ZADD k NX 1", "ZADD k NX 2"],
    ["ZADD s 1 a", "ZADD s 2 a"],
    ["ZADD k 5 old", "ZADD k 5 old"],
    ["ZSCORE k old", "ZSCORE k none", "ZSCORE k old"],
    ["ZSCORE none old", "ZSCORE none old"],
    ["ZSCORE s old", "ZSCORE s old"],
    ["ZRANK k old", "ZRANK k none", "ZRANK k older"],
    ["ZRANK k old WITHSCORE", "ZRANK k old WITHSCORE"],
    [f"ZADD k {number % 7} m{number % 40}" for number in range(100)],
]


@for_each("lines", PIPELINES, ids=lambda lines: lines[0])
@for_each("limit", ["0", "1gb"])
def test_a_pipeline_does_what_its_requests_do(lines: list[str], limit: str) -> None:
    clients = [Bench(default_ttl="0", maxmemory=limit).connect() for _ in range(2)]
    for client in clients:
        client.ask("ZADD", "k", "5", "old", "4", "older")
        client.ask("SET", "s", "v")
    one, other = clients
    requests = [line.encode().split() for line in lines]
    expected = [one.ask(*request) for request in requests]
    replies = run_all(other.bench.engine, other.session, requests)
    assert list(map(repr, replies)) == list(map(repr, expected))
    assert all_of(other.bench.store) == all_of(one.bench.store) == replayed(other)
    assert (other.bench.store.hits, other.bench.store.misses) == (one.bench.store.hits, one.bench.store.misses)
    other.bench.store.databases[0].check()


def test_a_pipeline_of_zadd_is_logged_as_one() -> None:
    client = Bench().connect()
    run_all(client.bench.engine, client.session, [b"ZADD k 1 a".split(), b"ZADD k 1 a".split(), b"ZADD k 2 b".split()])
    assert client.bench.log.records == [b"ZADD k 1 a 2 b".split()]


# ---- chance


@pytest.mark.parametrize("count", [None, 1, -1, 2, -2])
def test_all_members_are_chosen_alike(count: int | None) -> None:
    dialogue = Dialogue()
    dialogue.ask("ZADD k " + " ".join(f"{number} m{number}" for number in range(6)))
    chosen: Counter[bytes] = Counter()
    for _ in range(600 // abs(count or 1)):
        reply = dialogue.ask("ZRANDMEMBER k" + ("" if count is None else f" {count}"))
        chosen.update([reply] if count is None else reply)
        if count and count > 0:
            assert len(set(reply)) == count
    assert sum((chosen[member] - 100) ** 2 / 100 for member in chosen) < 20.5  # chi-squared, 5 degrees: 0.1 %
    assert len(chosen) == 6


def test_many_random_members_are_chosen_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    few_at_once(monkeypatch)
    client = filled(k=range(60))
    for count in (40, -40):
        chosen: Counter[bytes] = Counter()
        for _ in range(300):
            reply = listed(driven(work_of(client.ask("ZRANDMEMBER", "k", count)))[0])
            assert len(reply) == 40
            chosen.update(reply)
            assert count < 0 or len(set(reply)) == 40
        # chi-squared, 59 degrees, 0.1 %: 98; without repetition it is smaller
        assert sum((chosen[b"m%d" % number] - 200) ** 2 / 200 for number in range(60)) < 98


# ---- sets of thousands of members

FEW = 20  # members at once, in these tests


def few_at_once(patch: pytest.MonkeyPatch) -> None:
    """Let work be done in slices from FEW members on."""
    for module in (commands.scored, commands.sorted_sets, commands.sorted_set_pops, commands.sorted_set_algebra):
        patch.setattr(module, "AT_ONCE_MEMBERS", FEW)
    for module in (commands.scored, commands.sorted_sets):
        patch.setattr(module, "SLICE_MEMBERS", 7)


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    few_at_once(monkeypatch)


def filled(**keys: range) -> Client:
    """Return a client of an instance with these members, whose scores are their numbers."""
    client = Bench(default_ttl="0").connect()
    for key, numbers in keys.items():
        for start in range(numbers.start, numbers.stop, 1000):
            part = range(start, min(numbers.stop, start + 1000))
            client.ask("ZADD", key, *(word for number in part for word in (number, f"m{number}")))
    return client


def named(numbers: range) -> list[bytes]:
    return [b"m%d" % number for number in numbers]


def pairs_of(numbers: range, factor: float = 1) -> list[Any]:
    return [word for number in numbers for word in (b"m%d" % number, float(number * factor))]


LONG_READS: list[tuple[str, list[Any]]] = [
    ("ZRANGE a 0 -1", named(range(60))),
    ("ZRANGE a 5 -2 REV", named(range(54, 0, -1))),
    ("ZRANGE a 3 50 WITHSCORES", pairs_of(range(3, 51))),
    ("ZRANGEBYSCORE a (3 50", named(range(4, 51))),
    ("ZREVRANGEBYSCORE a 50 3 WITHSCORES LIMIT 2 40", pairs_of(range(48, 8, -1))),
    ("ZRANDMEMBER a 100 WITHSCORES", pairs_of(range(60))),
    ("ZUNION 2 a b", [b"m%d" % number for number in sorted(range(90), key=lambda number: (
        2 * number if 30 <= number < 60 else number, b"m%d" % number))]),
    ("ZUNION 2 a b AGGREGATE MAX WITHSCORES", pairs_of(range(90))),
    ("ZINTER 2 a b WEIGHTS 1 2 WITHSCORES", pairs_of(range(30, 60), 3)),
    ("ZDIFF 2 a b WITHSCORES", pairs_of(range(30))),
]  # fmt: skip


@pytest.mark.usefixtures("_few")
@for_each(("line", "expected"), LONG_READS)
def test_a_read_of_many_members_is_of_the_moment_when_it_was_asked(line: str, expected: list[Any]) -> None:
    client = filled(a=range(60), b=range(30, 90))
    changes = ["ZREM a m3 m31 m40", "ZADD a 7 new", "ZADD b 1 m2", "DEL b", "ZPOPMIN a 9", "ZADD a 1 x", "DEL a"] * 99
    rest = iter(changes)
    reply, steps = driven(work_of(client.ask(*line.split())), lambda: client.ask(*next(rest).split()))
    assert steps > 1
    assert isinstance(reply, LongArray)
    assert isinstance(reply, LongPairs) == ("WITHSCORES" in line)
    assert listed(reply) == expected
    assert client.bench.store.expire_cycle(lambda: False)


@pytest.mark.usefixtures("_few")
def test_zintercard_of_many_members_stops_at_the_limit() -> None:
    client = filled(a=range(6000), b=range(6000))
    assert driven(work_of(client.ask("ZINTERCARD", 2, "a", "b")))[0] == 6000
    count, steps = driven(work_of(client.ask("ZINTERCARD", 2, "a", "b", "LIMIT", 700)))
    assert (count, steps) == (700, 3)


LONG_WRITES: list[tuple[str, int, str, list[bytes]]] = [  # command, reply, key, its members then
    ("ZUNIONSTORE d 2 a b AGGREGATE MAX", 90, "d", named(range(90))),
    ("ZUNIONSTORE a 2 a b AGGREGATE MAX", 90, "a", named(range(90))),
    ("ZINTERSTORE d 2 a b", 30, "d", named(range(30, 60))),
    ("ZINTERSTORE b 2 a b", 30, "b", named(range(30, 60))),
    ("ZDIFFSTORE d 2 a b", 30, "d", named(range(30))),
    ("ZRANGESTORE d a 10 -1", 50, "d", named(range(10, 60))),
    ("ZRANGESTORE d a 50 (5 BYSCORE REV LIMIT 1 40", 40, "d", named(range(10, 50))),
    ("ZRANGESTORE a a 10 -1", 50, "a", named(range(10, 60))),
    ("ZREMRANGEBYRANK a 5 -6", 50, "a", [*named(range(5)), *named(range(55, 60))]),
    ("ZREMRANGEBYRANK a 0 -1", 60, "a", []),
    ("ZREMRANGEBYSCORE a (5 45", 40, "a", [*named(range(6)), *named(range(46, 60))]),
]


@pytest.mark.usefixtures("_few")
@for_each(("line", "count", "key", "members"), LONG_WRITES)
def test_a_write_of_many_members_locks_its_keys_and_logs_itself(
    line: str, count: int, key: str, members: list[bytes]
) -> None:
    client = filled(a=range(60), b=range(30, 90), d=range(5))
    records = client.bench.log.records
    known = len(records)
    held_back: list[Any] = []

    def ask_others() -> None:
        if client.bench.store.key_lock is not None:
            held_back.append(client.ask("ZADD", "a", "1", "new"))
            assert client.ask("ZCARD", key) is HELD_BACK
            assert client.ask("ZADD", "other", "1", "x") == 1
            client.ask("DEL", "other")

    reply, steps = driven(work_of(client.ask(*line.split())), ask_others)
    assert reply == count
    assert steps > 1
    assert set(held_back) == {HELD_BACK}
    assert [argv for argv in records[known:] if argv[1] != b"other"] == [line.encode().split()]
    found = client.ask("ZRANGE", key, 0, -1)
    assert listed(driven(found)[0] if isinstance(found, Generator) else found) == members
    assert replayed(client) == all_of(client.bench.store)
    client.bench.store.databases[0].check()


def replayed(client: Client) -> Any:
    """Return what the log makes of an empty instance."""
    replay = Replay()
    for argv in client.bench.log.records:
        replay.engine.apply(0, argv)
    return all_of(replay.store)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize(("line", "numbers"), [("ZPOPMIN a 40", range(40)), ("ZPOPMAX a 59", range(59, 0, -1)),
                                               ("ZPOPMIN a 100", range(60))])  # fmt: skip
@pytest.mark.parametrize("is_mpop", [False, True])
def test_many_members_are_popped_in_order(line: str, numbers: range, is_mpop: bool) -> None:
    client = filled(a=range(60))
    name, key, count = line.split()
    words = ["ZMPOP", "2", "none", key, name[4:], "COUNT", count] if is_mpop else [name, key, count]
    reply, steps = driven(work_of(client.ask(*words)))
    assert steps > 1
    if is_mpop:
        assert type(reply) is LongArray
        assert reply.members() == [b"a", [(b"m%d" % number, float(number)) for number in numbers]]
    else:
        assert type(reply) is LongPairs
        assert reply.members() == pairs_of(numbers)
    assert client.ask("ZCARD", "a") == 60 - len(numbers)
    assert len(client.bench.log.records) == 2
    assert replayed(client) == all_of(client.bench.store)


@pytest.mark.usefixtures("_few")
@for_each("line", [write[0] for write in LONG_WRITES])
@for_each("when", range(0, 20, 3))
@for_each("which", ["a", "b"])
def test_what_is_logged_is_true_though_a_locked_key_expires(line: str, when: int, which: str) -> None:
    client = filled(a=range(60), b=range(30, 90), d=range(5))
    client.ask("PEXPIRE", which, 1000)
    steps = iter(range(1000))

    def expire() -> None:
        if next(steps) == when:
            client.bench.advance(2)
            client.bench.store.expire_cycle(lambda: False)

    driven(work_of(client.ask(*line.split())), expire)
    held = all_of(client.bench.store)
    assert {place: value for place, value in replayed(client).items() if place in held} == held


def test_thousands_of_words_are_parsed_before_anything_changes() -> None:
    client = filled(k=range(10))
    known = len(client.bench.log.records)
    words = [word for number in range(2000) for word in (number, f"n{number}")]
    words[-2] = "x"
    with pytest.raises(CommandError, match="not a valid float"):
        driven(work_of(client.ask("ZADD", "k", *words)))
    assert client.ask("ZCARD", "k") == 10
    assert len(client.bench.log.records) == known


@pytest.mark.parametrize(("options", "reply"), [([], 1990), (["CH"], 1999), (["NX"], 1990), (["XX", "CH"], 9)])
def test_thousands_of_scores_are_set_in_parts_of_one_command(options: list[str], reply: int) -> None:
    client = filled(k=range(10))
    words = [word for number in range(2000) for word in (2 * number, f"m{number}")]
    assert driven(work_of(client.ask("ZADD", "k", *options, *words)))[0] == reply
    assert client.ask("ZCARD", "k") == (10 if "XX" in options else 2000)
    assert replayed(client) == all_of(client.bench.store)


def test_thousands_of_members_are_removed_and_read_in_parts() -> None:
    client = filled(k=range(3000))
    names = [f"m{number}" for number in range(0, 6000, 2)]
    scores = listed(driven(work_of(client.ask("ZMSCORE", "k", *names)))[0])
    assert scores == [float(number) if number < 3000 else None for number in range(0, 6000, 2)]
    assert driven(work_of(client.ask("ZREM", "k", *names)))[0] == 1500
    assert client.ask("ZCARD", "k") == 1500
    assert replayed(client) == all_of(client.bench.store)


MANY_KEYS = ["k", "j"] * 1500


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["ZUNION", 3000, *MANY_KEYS, "AGGREGATE", "MIN"], named(range(5))),
        (["ZINTER", 3000, *MANY_KEYS, "WEIGHTS", *[1] * 3000, "WITHSCORES"], [b"m2", 6000.0]),
        (["ZDIFF", 3000, "k", *["j"] * 2999], named(range(2))),
        (["ZINTERCARD", 3000, *MANY_KEYS, "LIMIT", "5"], 1),
        (["ZUNIONSTORE", "d", 3000, *MANY_KEYS], 5),
        (["ZINTERSTORE", "d", 3000, *MANY_KEYS], 1),
        (["ZDIFFSTORE", "d", 3000, "k", *["j"] * 2999], 2),
    ],
)
def test_thousands_of_sets_are_combined_in_slices(words: list[Any], reply: Any) -> None:
    client = filled(k=range(3), j=range(2, 5))
    answered, steps = driven(work_of(client.ask(*words)))
    assert answered == reply
    assert steps > 10
    assert replayed(client) == all_of(client.bench.store)


@pytest.mark.parametrize(
    "name", ["ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"]
)
def test_thousands_of_keys_of_which_one_is_no_set_are_refused_and_nothing_is_logged(name: str) -> None:
    client = filled(k=range(10))
    client.ask("SET", "s", "v")
    known = len(client.bench.log.records)
    destination = ["d"] if name.endswith("STORE") else []
    words = [name, *destination, "3001", *["k"] * 3000, "s"]
    with pytest.raises(CommandError, match="WRONGTYPE"):
        driven(work_of(client.ask(*words)))
    assert len(client.bench.log.records) == known
    assert client.bench.store.key_lock is None


def test_a_large_set_is_scanned_whole_though_ranks_change() -> None:
    client = filled(k=range(3000))
    cursor, found, calls = b"0", dict[bytes, bytes](), 0
    while True:
        cursor, words = client.ask("ZSCAN", "k", cursor, "COUNT", 100)
        found.update(zip(words[::2], words[1::2], strict=True))
        calls += 1
        for number in range(calls, 3000, 50):
            client.ask("ZADD", "k", -number, f"m{number}")
        client.ask("ZADD", "k", calls, f"new{calls}")
        if cursor == b"0":
            break
    assert {b"m%d" % number for number in range(3000)}.issubset(found)
    assert 10 < calls < 100


def test_many_members_with_scores_flow_to_a_client(shared_godis: GodisProcess) -> None:
    count = AT_ONCE_MEMBERS * 3
    with shared_godis.client(protocol=3) as resp3, shared_godis.client(protocol=2) as resp2, shared_godis.raw() as raw:
        for start in range(0, count, 500):
            resp2.zadd("flowing", {f"m{number:05}": number / 2 for number in range(start, start + 500)})
        expected = [(b"m%05d" % number, number / 2) for number in range(resp2.zcard("flowing"))]
        for client in (resp2, resp3):
            assert [tuple(pair) for pair in client.zrange("flowing", 0, -1, withscores=True)] == expected
            assert [tuple(pair) for pair in client.zrange("flowing", 0, 9, withscores=True)] == expected[:10]
        key, popped = resp3.zmpop(1, ["flowing"], max=True, count=AT_ONCE_MEMBERS + 1)
        assert (key, [tuple(pair) for pair in popped]) == (b"flowing", expected[: -AT_ONCE_MEMBERS - 2 : -1])
        raw.send(b"ZRANGE flowing 0 -1 WITHSCORES\n")
        assert [raw.read_line() for _ in range(3)] == [b"m00000 0", b"m00001 0.5", b"m00002 1"]
