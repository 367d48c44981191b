"""Commands on keys: what they answer and what they log. Deadlines have a file of their own."""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Any

import pytest
from fakes import Dialogue, answers_and_logs
from instances import Client
from servers import RedisProcess, parse
from tables import for_each

import errors
from commands.keyspace_walk import at_once
from replies import Deleted
from values import glob as patterns
from values.glob import MAX_KEY_BYTES, MAX_PATTERN_BYTES, Pattern

CASES = [
    # before, command, reply, effects
    (["MSET a 1 b 2"], "DEL a nokey b a", 2, ["DEL a b"]),
    ([], "DEL nokey", 0, []),
    (["MSET a 1 b 2"], "UNLINK a nokey b", 2, ["DEL a b"]),
    (["MSET a 1 b 2"], "EXISTS a a nokey b", 3, []),
    (["MSET a 1 b 2"], "TOUCH a a nokey b", 3, []),
    (["SET a 1"], "TYPE a", b"string", []),
    ([], "TYPE nokey", b"none", []),
    (["SET a 1"], "RENAME a b", b"OK", ["RENAME a b"]),
    (["SET a 1"], "RENAME a a", b"OK", []),
    ([], "RENAME nokey a", errors.NO_SUCH_KEY, []),
    ([], "RENAME nokey nokey", errors.NO_SUCH_KEY, []),
    (["SET a 1"], "RENAMENX a b", 1, ["RENAME a b"]),
    (["MSET a 1 b 2"], "RENAMENX a b", 0, []),
    (["SET a 1"], "RENAMENX a a", 0, []),
    (["SET a 1"], "COPY a b", 1, ["COPY a b REPLACE"]),
    (["SET a 1 EX 10"], "COPY a b", 1, ["COPY a b REPLACE"]),
    (["MSET a 1 b 2"], "COPY a b", 0, []),
    (["MSET a 1 b 2"], "COPY a b REPLACE", 1, ["COPY a b REPLACE"]),
    (["SET a 1"], "COPY a a DB 1", 1, ["COPY a a DB 1 REPLACE"]),
    (["SET a 1"], "COPY a a", errors.SAME_OBJECT, []),
    (["SET a 1"], "COPY a b DB 16", errors.DB_OUT_OF_RANGE, []),
    (["SET a 1"], "COPY a b DB 9999999999", errors.NOT_AN_INT, []),
    (["SET a 1"], "COPY a b DB x", errors.NOT_AN_INTEGER, []),
    (["SET a 1"], "COPY a b DB", errors.SYNTAX, []),
    (["SET a 1"], "COPY a b OVER", errors.SYNTAX, []),
    (["SET a 1"], "MOVE a 1", 1, ["MOVE a 1"]),
    (["COPY a a DB 1", "SET a 1", "COPY a a DB 1", "SET a 2"], "MOVE a 1", 0, []),
    (["SET a 1"], "MOVE a 0", errors.SAME_OBJECT, []),
    (["SET a 1"], "MOVE a 16", errors.DB_OUT_OF_RANGE, []),
    (["SET a 1"], "MOVE a -1", errors.DB_OUT_OF_RANGE, []),
    ([], "MOVE nokey 1", 0, []),
    (["SET a 1"], "SWAPDB 0 1", b"OK", ["SWAPDB 0 1"]),
    ([], "SWAPDB 0 1", b"OK", []),
    (["SET a 1"], "SWAPDB 0 0", b"OK", []),
    ([], "SWAPDB x y", errors.INVALID_FIRST_DB, []),
    ([], "SWAPDB 0 y", errors.INVALID_SECOND_DB, []),
    ([], "SWAPDB 99999999999 0", errors.INVALID_FIRST_DB, []),
    ([], "SWAPDB 0 16", errors.DB_OUT_OF_RANGE, []),
    (["SET a 1"], "FLUSHDB", b"OK", ["FLUSHDB"]),
    (["SET a 1"], "FLUSHDB async", b"OK", ["FLUSHDB"]),
    (["SET a 1", "SELECT 1"], "FLUSHDB", b"OK", []),
    (["SET a 1", "SELECT 1"], "FLUSHALL SYNC", b"OK", ["FLUSHALL"]),
    ([], "FLUSHALL", b"OK", []),
    ([], "FLUSHALL NOW", errors.SYNTAX, []),
    ([], "FLUSHALL ASYNC SYNC", errors.SYNTAX, []),
    (["MSET a 1 b 2"], "DBSIZE", 2, []),
    ([], "RANDOMKEY", None, []),
    (["SET a 1"], "RANDOMKEY", b"a", []),
    ([], "SCAN x", errors.INVALID_CURSOR, []),
    ([], "SCAN ' 1'", errors.INVALID_CURSOR, []),
    ([], "SCAN 18446744073709551616", errors.INVALID_CURSOR, []),
    (["SET a 1"], "SCAN 18446744073709551615", [b"0", [b"a"]], []),
    (["SET a 1"], "SCAN -1", [b"0", [b"a"]], []),
    (["SET a 1"], "SCAN ''", [b"0", [b"a"]], []),
    ([], "SCAN 0 COUNT 0", errors.SYNTAX, []),
    ([], "SCAN 0 COUNT x FOO", errors.NOT_AN_INTEGER, []),
    ([], "SCAN 0 COUNT", errors.SYNTAX, []),
    ([], "SCAN 0 FOO 1", errors.SYNTAX, []),
    (["MSET a 1 b 2"], "SCAN 0 MATCH b*", [b"0", [b"b"]], []),
    (["MSET a 1"], "SCAN 0 TYPE String", [b"0", [b"a"]], []),
    (["MSET a 1"], "SCAN 0 TYPE hash", [b"0", []], []),
    (["MSET a 1"], "SCAN 0 TYPE nonsense", [b"0", []], []),
    (["SET a 5"], "OBJECT ENCODING a", b"int", []),
    (["SET a 05"], "OBJECT ENCODING a", b"embstr", []),
    ([f"SET a {'x' * 44}"], "OBJECT ENCODING a", b"embstr", []),
    ([f"SET a {'x' * 45}"], "OBJECT ENCODING a", b"raw", []),
    ([], "OBJECT ENCODING nokey", None, []),
    (["SET a 9999"], "OBJECT REFCOUNT a", 2**31 - 1, []),
    (["SET a 10000"], "OBJECT REFCOUNT a", 1, []),
    (["SET a -1"], "OBJECT REFCOUNT a", 1, []),
    (["SET a 1"], "OBJECT FREQ a", errors.NO_LFU, []),
    ([], "OBJECT FREQ nokey", None, []),
    ([], "OBJECT IDLETIME nokey", None, []),
    ([], "OBJECT IDLETIME", errors.WRONG_ARITY % b"object|idletime", []),
    ([], "OBJECT NONSENSE a", errors.UNKNOWN_SUBCOMMAND % (b"NONSENSE", b"OBJECT"), []),
]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: list[str], line: str, reply: object, effects: list[str]) -> None:
    answers_and_logs("; ".join(before), line, reply, effects)


@pytest.mark.parametrize("words", ["a", "a nokey b", "nokey", "a a"])
def test_del_hands_out_the_deleted_values(words: str) -> None:
    dialogue = Dialogue()
    dialogue.ask("MSET a 1 b 2")
    held = {"a": b"1", "b": b"2"}
    reply = dialogue.ask(f"DEL {words}")
    assert isinstance(reply, Deleted)
    assert reply.values == [held.pop(word, None) for word in words.split()]
    assert reply == sum(value is not None for value in reply.values)


def test_renaming_moves_value_and_deadline_over_what_was_there() -> None:
    dialogue = Dialogue()
    dialogue.ask("SET a 1 PXAT 1800000000000", "SET b 2 EX 10", "RENAME a b")
    assert dialogue.ask("MGET a b") == [None, b"1"]
    assert dialogue.ask("PEXPIRETIME b") == 1_800_000_000_000
    dialogue.ask("SET c 3", "RENAME c b")
    assert dialogue.ask("PEXPIRETIME b") == -1


def test_copying_leaves_the_source() -> None:
    dialogue = Dialogue()
    dialogue.ask("SET a 1 PXAT 1800000000000", "SET b 2", "COPY a b REPLACE", "COPY a a DB 3")
    assert dialogue.ask("MGET a b") == [b"1", b"1"]
    assert dialogue.ask("PEXPIRETIME a") == dialogue.ask("PEXPIRETIME b") == 1_800_000_000_000
    assert dialogue.ask("SELECT 3", "PEXPIRETIME a") == 1_800_000_000_000


def test_moving_takes_value_and_deadline_to_the_other_database() -> None:
    dialogue = Dialogue()
    dialogue.ask("SET a 1 PXAT 1800000000000")
    dialogue.effects()
    dialogue.ask("MOVE a 2")
    assert dialogue.bench.log.databases == [0]
    assert dialogue.ask("EXISTS a") == 0
    assert dialogue.ask("SELECT 2", "GET a") == b"1"
    assert dialogue.ask("PEXPIRETIME a") == 1_800_000_000_000


def test_swapped_databases_are_seen_by_who_is_in_them() -> None:
    dialogue = Dialogue()
    other = dialogue.bench.connect()
    other.ask("SELECT", 1)
    dialogue.ask("SET a 1", "SWAPDB 0 1")
    assert dialogue.ask("DBSIZE") == 0
    assert other.ask("GET", "a") == b"1"


def test_flushing_takes_one_database_or_all() -> None:
    dialogue = Dialogue()
    dialogue.ask("SET a 1", "SELECT 1", "SET a 1", "SELECT 2", "SET a 1", "FLUSHDB")
    assert dialogue.ask("DBSIZE") == 0
    assert dialogue.ask("SELECT 1", "DBSIZE") == 1
    dialogue.ask("FLUSHALL")
    assert dialogue.ask("DBSIZE") == 0
    assert dialogue.ask("SELECT 0", "DBSIZE") == 0


def test_idle_time_ends_with_a_use_and_not_with_a_question() -> None:
    dialogue = Dialogue()
    dialogue.ask("SET a 1", "OBJECT IDLETIME a")
    dialogue.let_pass(7000)
    for question in ("TYPE a", "TTL a", "EXISTS a", "OBJECT ENCODING a", "SCAN 0", "KEYS *"):
        dialogue.ask(question)
    assert dialogue.ask("OBJECT IDLETIME a") == 7
    for use in ("GET a", "TOUCH a", "INCR a", "SET a 1", "STRLEN a"):
        dialogue.let_pass(1000)
        assert dialogue.ask("OBJECT IDLETIME a") > 0
        dialogue.ask(use)
        assert dialogue.ask("OBJECT IDLETIME a") == 0


def test_object_help_is_redis_s(redis_server: RedisProcess) -> None:
    with redis_server.raw() as redis:
        assert Dialogue().client.wire("OBJECT", "HELP") == redis.ask("OBJECT", "HELP")


# ---- patterns


@for_each(
    ("pattern", "matching", "other"),
    [
        ("h?llo", "hello hallo", "hllo heello"),
        ("h*llo", "hllo heeeello", "hell"),
        ("h[ae]llo", "hello hallo", "hillo"),
        ("h[^e]llo", "hallo hbllo", "hello"),
        ("h[a-b]llo", "hallo hbllo", "hcllo"),
        ("h[b-a]llo", "hallo hbllo", "hcllo"),
        ("h[a-]", "h] h^ ha", "hb h- h"),
        ("h[ab", "ha hb", "h[ hab"),
        ("h[]llo", "", "hllo h]llo"),
        ("h[^]llo", "hxllo h]llo", "hllo"),
        (r"h[\]]", "h]", "h\\"),
        (r"\*", "*", "x"),
        ("a\\", "a\\", "a"),
        ("*", "x", ""),
        ("a*b*c", "abc aXbXc abcbc", "acb abcX"),
        ("*a", "a ba aa", "ab"),
        ("a.c", "a.c", "abc"),
    ],
)
def test_patterns_match_as_redis_has_them(pattern: str, matching: str, other: str) -> None:
    matches = Pattern(pattern.encode()).matches
    assert [key for key in matching.split() if not matches(key.encode())] == []
    assert [key for key in other.split() if matches(key.encode())] == []


def test_a_dot_of_a_pattern_is_any_byte_of_a_key() -> None:
    assert Pattern(b"a?b*").matches(b"a\nb\n\xff")


def test_random_patterns_find_what_redis_finds(redis_server: RedisProcess) -> None:
    random = Random(13)
    alphabet = b"ab-]^[\\*?\xe9\x80c\n"
    dialogue = Dialogue()
    with redis_server.raw() as redis:
        redis.ask("FLUSHALL")
        for _ in range(300):
            key = bytes(random.choices(alphabet, k=random.randrange(7)))
            redis.ask("SET", key, "1")
            dialogue.client.ask("SET", key, "1")
        for _ in range(2000):
            pattern = bytes(random.choices(alphabet + b"**??[[-]]^", k=random.randrange(9)))
            found = sorted(dialogue.client.ask("KEYS", pattern))
            assert found == sorted(parse(redis.ask("KEYS", pattern))), pattern
        redis.ask("FLUSHALL")


@pytest.mark.parametrize(
    "pattern", [b"a*" * 30 + b"b", b"*a" * 30 + b"b", b"a*?" * 30 + b"b", b"*[ab]" * 30 + b"c", b"*" * 500 + b"b"]
)
def test_no_pattern_explodes(pattern: bytes) -> None:
    # An exponential matcher needs 2**30 steps for these: the test's own time limit would end it.
    assert not Pattern(pattern).matches(b"a" * 5000)


def test_a_pattern_of_many_pieces_costs_each_piece_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []

    def count(*arguments: Any) -> int:
        searches.append(arguments)
        return find(*arguments)

    find = patterns._find
    monkeypatch.setattr(patterns, "_find", count)
    assert not Pattern(b"*[ab]?" * 100 + b"*c*").matches(b"a" * 5000)
    assert len(searches) == 101


def keys_that_match(client: Client, pattern: str) -> list[bytes]:
    reply = client.ask("KEYS", pattern)
    return at_once(reply) if isinstance(reply, Generator) else reply  # type: ignore[return-value]


def test_a_key_of_many_kilobytes_is_matched_by_plain_bytes_and_stars_alone() -> None:
    client = Dialogue().client
    longest, longer = (b"k" * size for size in (MAX_KEY_BYTES, MAX_KEY_BYTES + 1))
    client.ask("MSET", longest, "1", longer, "1")
    for pattern in ("*", "k*", "*kk*k"):
        assert sorted(keys_that_match(client, pattern)) == [longest, longer], pattern
    for pattern in ("*?*", "[k]*", "\\k*"):
        assert keys_that_match(client, pattern) == [longest], pattern


def test_patterns_have_a_limit() -> None:
    dialogue = Dialogue()
    assert dialogue.client.ask("KEYS", b"a*" * (MAX_PATTERN_BYTES // 2)) == []
    for words in (["KEYS"], ["SCAN", "0", "MATCH"]):
        reply = dialogue.client.ask(*words, b"*" + b"a" * MAX_PATTERN_BYTES)
        assert reply.text == errors.PATTERN_TOO_LONG


# ---- SCAN


def test_a_scan_finds_each_key_once_while_nothing_changes() -> None:
    dialogue = Dialogue()
    names = {b"key:%d" % number for number in range(1000)}
    for name in names:
        dialogue.client.ask("SET", name, "1")
    for count in (1, 7, 10, 999, 1000, 5000):
        cursor, found = b"0", []
        while True:
            cursor, some = dialogue.client.ask("SCAN", cursor, "COUNT", count)
            assert len(some) <= count
            found += some
            if cursor == b"0":
                break
        assert len(found) == 1000
        assert set(found) == names


def test_a_call_of_scan_costs_its_count_and_not_its_matches() -> None:
    dialogue = Dialogue()
    for number in range(100):
        dialogue.ask(f"SET key:{number} 1")
    cursor, found = dialogue.ask("SCAN 0 MATCH nothing COUNT 30")
    assert (cursor, found) == (b"70", [])
