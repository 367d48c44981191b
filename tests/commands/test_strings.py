"""Commands on strings: what they answer and what they log. That Redis answers the same is tested elsewhere for random
commands; here stand the cases that a random command hardly meets."""

from __future__ import annotations

from random import Random

import pytest
from fakes import START_MS, Dialogue, answers_and_logs
from instances import driven, work_of
from servers import RedisProcess, parse
from tables import for_each

import commands.string_parts
import errors
from commands import long_double
from commands.arguments import MOST_OPTION_WORDS
from values.subsequence import MAX_BYTES, MAX_PAIRS, common_length, common_ranges

MAX = 2**63 - 1
MIN = -(2**63)

HELLO = "9555e8555c62dcfd"  # the digest of `hello`

CASES = [
    # before, command, reply, effects
    ("", "SET key value", b"OK", ["SET key value"]),
    ("SET key old", "SET key new GET", b"old", ["SET key new"]),
    ("", "SET key new GET", None, ["SET key new"]),
    ("SET key old", "SET key new NX GET", b"old", []),
    ("", "SET key new NX GET", None, ["SET key new"]),
    ("", "SET key v EX 10", b"OK", [f"SET key v PXAT {START_MS + 10_000}"]),
    ("", "SET key v px 10", b"OK", [f"SET key v PXAT {START_MS + 10}"]),
    ("", "SET key v EXAT 1800000000", b"OK", ["SET key v PXAT 1800000000000"]),
    ("", "SET key v PXAT 1800000000001", b"OK", ["SET key v PXAT 1800000000001"]),
    ("SET key v PXAT 1800000000001", "SET key w KEEPTTL", b"OK", ["SET key w PXAT 1800000000001"]),
    ("", "SET key w KEEPTTL", b"OK", ["SET key w"]),
    ("SET key v EX 10", "SET key w", b"OK", ["SET key w"]),
    ("", "SET key v EX 10 EX 20", b"OK", [f"SET key v PXAT {START_MS + 20_000}"]),
    ("", "SET key v EX 10 PX 20", errors.SYNTAX, []),
    ("", "SET key v EX", errors.SYNTAX, []),
    ("", "SET key v EX ''", errors.NOT_AN_INTEGER, []),
    ("", "SET key v NX XX", errors.SYNTAX, []),
    ("", "SET key v PERSIST", errors.SYNTAX, []),
    ("", "SET key v EX 0", errors.INVALID_EXPIRE % b"set", []),
    ("", f"SET key v EX {MAX // 1000}", errors.INVALID_EXPIRE % b"set", []),
    ("", f"SET key v PXAT {MAX}", b"OK", [f"SET key v PXAT {MAX}"]),
    ("", f"SET key v EXAT {MAX // 1000 + 1}", errors.INVALID_EXPIRE % b"set", []),
    ("SET key v", "SET key w IFEQ v", b"OK", ["SET key w"]),
    ("SET key v", "SET key w IFEQ x", None, []),
    ("", "SET key w IFEQ ''", None, []),
    ("SET key ''", "SET key w IFEQ ''", b"OK", ["SET key w"]),
    ("SET key v", "SET key w IFEQ v GET", b"v", ["SET key w"]),
    ("SET key v", "SET key w GET IFEQ x", b"v", []),
    ("", "SET key w GET IFEQ x", None, []),
    ("SET key v", "SET key w IFEQ v EX 10", b"OK", [f"SET key w PXAT {START_MS + 10_000}"]),
    ("SET key v PXAT 1800000000001", "SET key w ifeq v KEEPTTL", b"OK", ["SET key w PXAT 1800000000001"]),
    ("SADD key v", "SET key w IFEQ v", errors.WRONG_TYPE, []),
    ("SET key v", "SET key w IFEQ", errors.SYNTAX, []),
    ("SET key v", "SET key w IFEQ v IFEQ v", errors.SYNTAX, []),
    ("SET key v", "SET key w IFEQ v XX", errors.SYNTAX, []),
    ("SET key v", "SET key w NX IFEQ v", errors.SYNTAX, []),
    ("SET key v", "SET key w IFNE x", b"OK", ["SET key w"]),
    ("SET key v", "SET key w IFNE v", None, []),
    ("", "SET key w IFNE v", b"OK", ["SET key w"]),
    ("SET key hello", f"SET key w IFDEQ {HELLO}", b"OK", ["SET key w"]),
    ("SET key hello", f"SET key w IFDEQ {HELLO.upper()} GET", b"hello", ["SET key w"]),
    ("SET key hello", f"SET key w IFDNE {HELLO}", None, []),
    ("SET key v", f"SET key w IFDNE {HELLO}", b"OK", ["SET key w"]),
    ("", "SET key w IFDEQ 123", None, []),
    ("", "SET key w IFDNE 123", b"OK", ["SET key w"]),
    ("SET key v", "SET key w IFDEQ 123", errors.DIGEST_LENGTH, []),
    ("SADD key v", "SET key w IFDNE 123", errors.WRONG_TYPE, []),
    ("SET key v", "SET key w IFEQ v IFNE w", errors.SYNTAX, []),
    ("SET key hello", "DIGEST key", HELLO.encode(), []),
    ("SETRANGE key 70000 x", "DIGEST key", b"f68eed0dd3edf561", []),
    ("", "DIGEST key", None, []),
    ("SADD key v", "DIGEST key", errors.WRONG_TYPE, []),
    ("SADD key v", "DELEX key", 1, ["DEL key"]),
    ("", "DELEX key", 0, []),
    ("SET key v", "DELEX key IFEQ v", 1, ["DEL key"]),
    ("SET key v", "DELEX key IFEQ x", 0, []),
    ("SET key v", "DELEX key ifne x", 1, ["DEL key"]),
    ("", "DELEX key IFNE x", 0, []),
    ("SET key hello", f"DELEX key IFDEQ {HELLO}", 1, ["DEL key"]),
    ("SET key hello", f"DELEX key IFDNE {HELLO}", 0, []),
    ("", "DELEX key IFDEQ 123", 0, []),
    ("SET key v", "DELEX key IFDEQ 123", errors.DIGEST_LENGTH, []),
    ("SADD key v", "DELEX key IFEQ v", errors.DELEX_NOT_A_STRING, []),
    ("SET key v", "DELEX key IFEQ", errors.WRONG_ARITY % b"delex", []),
    ("SET key v", "DELEX key NX v", errors.DELEX_CONDITION, []),
    ("SET key v", "DELIFEQ key v", 1, ["DEL key"]),
    ("SET key v", "DELIFEQ key x", 0, []),
    ("", "DELIFEQ key ''", 0, []),
    ("SADD key v", "DELIFEQ key v", errors.WRONG_TYPE, []),
    ("SET key v", "GETEX key IFEQ v", errors.SYNTAX, []),
    ("", "MSETEX 2 a 1 b 2", 1, ["SET a 1", "SET b 2"]),
    (
        "",
        "MSETEX 2 a 1 b 2 EX 10",
        1,
        [f"SET a 1 PXAT {START_MS + 10_000}", f"SET b 2 PXAT {START_MS + 10_000}"],
    ),
    ("SET a x", "MSETEX 2 a 1 b 2 NX", 0, []),
    ("SET c x", "MSETEX 2 a 1 b 2 nx px 10", 1, [f"SET a 1 PXAT {START_MS + 10}", f"SET b 2 PXAT {START_MS + 10}"]),
    ("SET a x", "MSETEX 2 a 1 b 2 XX", 0, []),
    ("MSET a x b y", "MSETEX 2 a 1 b 2 XX", 1, ["SET a 1", "SET b 2"]),
    ("SADD a x", "MSETEX 1 a 1 XX", 1, ["SET a 1"]),
    ("SET a x PXAT 1800000000001", "MSETEX 2 a 1 b 2 KEEPTTL", 1, ["SET a 1 PXAT 1800000000001", "SET b 2"]),
    ("SET a x PXAT 1800000000001", "MSETEX 1 a 1", 1, ["SET a 1"]),
    ("", "MSETEX 1 a 1 PXAT 1800000000001", 1, ["SET a 1 PXAT 1800000000001"]),
    ("", "MSETEX 0 a 1", errors.INVALID_NUMKEYS, []),
    ("", "MSETEX a 1 EX 10", errors.INVALID_NUMKEYS, []),
    ("", "MSETEX 2147483648 a 1", errors.INVALID_NUMKEYS, []),
    ("", "MSETEX 2147483647 a 1", errors.WRONG_PAIRS, []),
    ("", "MSETEX 2 a 1 b", errors.WRONG_PAIRS, []),
    ("", "MSETEX 1 a 1 b", errors.SYNTAX, []),
    ("", "MSETEX 1 a 1 NX XX", errors.SYNTAX, []),
    ("", "MSETEX 1 a 1 EX 10 KEEPTTL", errors.SYNTAX, []),
    ("", "MSETEX 1 a 1 GET", errors.SYNTAX, []),
    ("", "MSETEX 1 a 1 IFEQ 1", errors.SYNTAX, []),
    ("", "MSETEX 1 a 1 EX 0", errors.INVALID_EXPIRE % b"msetex", []),
    ("", "SETEX key 10 v", b"OK", [f"SET key v PXAT {START_MS + 10_000}"]),
    ("", "SETEX key value 10", errors.NOT_AN_INTEGER, []),
    ("", "SETEX key 0 v", errors.INVALID_EXPIRE % b"setex", []),
    ("", "SETEX key -5 v", errors.INVALID_EXPIRE % b"setex", []),
    ("", "PSETEX key 10 v", b"OK", [f"SET key v PXAT {START_MS + 10}"]),
    ("", f"PSETEX key {MAX} v", errors.INVALID_EXPIRE % b"psetex", []),
    ("", "SETNX key v", 1, ["SET key v"]),
    ("SET key v", "SETNX key w", 0, []),
    ("SET key v EX 10", "GETSET key w", b"v", ["SET key w"]),
    ("", "GETSET key w", None, ["SET key w"]),
    ("SET key v", "GETDEL key", b"v", ["DEL key"]),
    ("SET key v", "GETEX key", b"v", []),
    ("SET key v", "GETEX key EX 10", b"v", [f"PEXPIREAT key {START_MS + 10_000}"]),
    ("SET key v", "GETEX key PXAT 1", b"v", ["DEL key"]),
    ("SET key v EX 10", "GETEX key PERSIST", b"v", ["PERSIST key"]),
    ("SET key v", "GETEX key PERSIST EX 10", errors.SYNTAX, []),
    ("SET key v", "GETEX key KEEPTTL", errors.SYNTAX, []),
    ("SET key v", "GETEX key EX 0", errors.INVALID_EXPIRE % b"getex", []),
    ("", "GETEX key EX nonsense", None, []),
    ("", "MSET a 1 b 2 a 3", b"OK", ["SET a 1", "SET b 2", "SET a 3"]),
    ("", "MSET a 1 b", errors.WRONG_ARITY % b"mset", []),
    ("", "MSETNX a 1 b 2", 1, ["SET a 1", "SET b 2"]),
    ("SET b x", "MSETNX a 1 b 2", 0, []),
    ("SET a 1", "MGET a b a", [b"1", None, b"1"], []),
    ("SET key abc", "STRLEN key", 3, []),
    ("", "STRLEN key", 0, []),
    ("SET key ab", "APPEND key cd", 4, ["APPEND key cd"]),
    ("", "APPEND key ''", 0, ["APPEND key "]),
    ("SET key abc", "SETRANGE key 1 XYZ", 4, ["SETRANGE key 1 XYZ"]),
    ("", "SETRANGE key 2 x", 3, ["SETRANGE key 2 x"]),
    ("", "SETRANGE key 536870912 ''", 0, []),
    ("", "SETRANGE key 536870912 x", errors.STRING_TOO_LONG, []),
    ("", f"SETRANGE key {MAX} x", errors.STRING_TOO_LONG, []),
    ("", "SETRANGE key -1 x", errors.OFFSET_OUT_OF_RANGE, []),
    ("SET key 41", "INCR key", 42, ["INCRBY key 1"]),
    ("", "DECR key", -1, ["INCRBY key -1"]),
    ("SET key 5", "DECRBY key 7", -2, ["INCRBY key -7"]),
    ("", f"DECRBY key {MIN}", errors.DECREMENT_OVERFLOW, []),
    (f"SET key {MAX}", "INCR key", errors.OVERFLOW, []),
    (f"SET key {MIN}", "DECR key", errors.OVERFLOW, []),
    (f"SET key {MAX}", f"INCRBY key {MIN}", -1, [f"INCRBY key {MIN}"]),
    ("SET key 10.5 EX 10", "INCRBYFLOAT key 0.1", b"10.6", ["SET key 10.6 KEEPTTL"]),
    ("SET key 5.0e3", "INCRBYFLOAT key 200", b"5200", ["SET key 5200 KEEPTTL"]),
    ("SET key 0.1", "INCRBYFLOAT key 0.2", b"0.3", ["SET key 0.3 KEEPTTL"]),
    ("SET key word", "INCRBYFLOAT key 0.2", errors.NOT_A_FLOAT, []),
    ("", "INCRBYFLOAT key inf", errors.NAN_OR_INFINITY, []),
    ("SET key 1e4932", "INCRBYFLOAT key 1e4932", errors.NAN_OR_INFINITY, []),
    ("MSET a ohmytext b mynewtext", "LCS a b", b"mytext", []),
    ("MSET a ohmytext b mynewtext", "LCS a b LEN", 6, []),
    (
        "MSET a ohmytext b mynewtext",
        "LCS a b IDX",
        {b"matches": [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len": 6},
        [],
    ),
    (
        "MSET a ohmytext b mynewtext",
        "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
        {b"matches": [[[4, 7], [5, 8], 4]], b"len": 6},
        [],
    ),
    ("", "LCS a b", b"", []),
    ("", "LCS a b LEN IDX", errors.LCS_LENGTH_AND_RANGES, []),
    ("", "LCS a b MINMATCHLEN", errors.SYNTAX, []),
]


@pytest.mark.parametrize(("options", "is_set"), [("", 1), ("NX", 0), ("XX", 0), ("EX 10", 1), ("KEEPTTL", 1)])
def test_msetex_of_thousands_of_pairs_runs_in_slices(options: str, is_set: int) -> None:
    dialogue = Dialogue()
    dialogue.ask("SET k7 old PXAT 1800000000001")
    dialogue.effects()
    pairs = [word for number in range(2000) for word in (f"k{number}", f"v{number}")]
    reply, steps = driven(work_of(dialogue.client.ask("MSETEX", 2000, *pairs, *options.split())))
    assert (reply, steps > 10) == (is_set, True)
    life = f" PXAT {START_MS + 10_000}" if "EX" in options.split() else ""
    effects = [f"SET k{number} v{number}{life}" for number in range(2000)]
    if options == "KEEPTTL":
        effects[7] += " PXAT 1800000000001"
    assert dialogue.effects() == (effects if is_set else [])
    assert len(dialogue.store.databases[0]) == (2000 if is_set else 1)
    assert dialogue.store.key_lock is None


def test_a_string_that_is_written_in_parts_can_be_compared() -> None:
    dialogue = Dialogue()
    dialogue.ask("SETRANGE key 200000 x")
    text = bytes(200_000) + b"x"
    assert dialogue.client.ask("DELIFEQ", "key", text[1:]) == 0
    assert dialogue.client.ask("SET", "key", text[1:], "IFEQ", text) == b"OK"
    assert dialogue.client.ask("DELIFEQ", "key", text[1:]) == 1


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: object, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


@for_each(
    ("start", "end", "part"),
    [
        (0, 3, b"This"),
        (-3, -1, b"ing"),
        (0, -1, b"This is a string"),
        (10, 100, b"string"),
        (100, 200, b""),
        (5, 3, b""),
        (-1, -3, b""),
        (-100, -200, b""),
        (0, -200, b"T"),
        (-200, 0, b"T"),
        (MIN, MAX, b"This is a string"),
    ],
)
@for_each("command", ["GETRANGE", "SUBSTR"])
def test_ranges_are_inclusive_and_count_from_both_ends(command: str, start: int, end: int, part: bytes) -> None:
    dialogue = Dialogue()
    assert dialogue.ask(f"{command} key {start} {end}") == b""
    assert dialogue.ask("SET key 'This is a string'", f"{command} key {start} {end}") == part


@for_each("text", ["", " 5", "5 ", "+5", "05", "-0", "5.0", "1_000", "0x10", "\\xb2", str(MAX + 1), str(MIN - 1)])
def test_a_number_is_spelled_in_one_way(text: str) -> None:
    dialogue = Dialogue()
    dialogue.ask(f"SET key '{text}'")
    for line in ("INCR key", f"INCRBY other '{text}'", f"SETEX other '{text}' v", f"GETRANGE key 0 '{text}'"):
        assert dialogue.ask(line) == errors.NOT_AN_INTEGER
    assert dialogue.ask(f"SET key {MAX}", "INCRBY key 0") == MAX


def test_values_hold_any_bytes() -> None:
    dialogue = Dialogue()
    value = bytes(range(256)) * 2
    assert dialogue.client.ask("SET", "key", value) == b"OK"
    assert dialogue.client.ask("GET", "key") == value
    assert dialogue.client.ask("SETRANGE", "key", 510, b"\0\r\n") == 513
    assert dialogue.client.ask("GETRANGE", "key", 508, -1) == b"\xfc\xfd\0\r\n"


def test_no_string_grows_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.string_parts, "MAX_STRING_BYTES", 8)
    dialogue = Dialogue()
    assert dialogue.ask("APPEND key 12345678") == 8
    assert dialogue.ask("APPEND key 9") == errors.STRING_TOO_LONG
    assert dialogue.ask("SETRANGE key 7 x") == 8
    assert dialogue.ask("SETRANGE key 7 xy") == errors.STRING_TOO_LONG
    assert dialogue.ask("GET key") == b"1234567x"


STRING_COMMANDS = """
GET key
SET key v GET
GETSET key v
GETDEL key
GETEX key EX 10
STRLEN key
APPEND key v
GETRANGE key 0 1
SETRANGE key 0 v
INCR key
DECRBY key 1
INCRBYFLOAT key 1
""".strip().splitlines()


@for_each("line", STRING_COMMANDS)
def test_a_value_of_another_type_is_refused(line: str) -> None:
    dialogue = Dialogue()
    other: list[bytes] = []
    dialogue.store.databases[0].replace(b"key", other)
    assert dialogue.ask(line) == errors.WRONG_TYPE
    assert dialogue.effects() == []
    assert dialogue.store.databases[0].get(b"key") is other


def test_whole_strings_replace_a_value_of_another_type() -> None:
    dialogue = Dialogue()
    for line in ("SET key v", "SETEX key 10 v", "MSET key v"):
        dialogue.store.databases[0].replace(b"key", [])
        assert dialogue.ask(line, "GET key") == b"v"
    dialogue.store.databases[0].replace(b"key", [])
    assert dialogue.ask("MGET key") == [None]
    assert dialogue.ask("LCS key key") == errors.LCS_NOT_STRINGS


# ---- INCRBYFLOAT


def random_float(random: Random) -> str:
    digits = "".join(random.choices("0123456789", k=random.randrange(1, 25)))
    odd = "inf -INFINITY nan 1_0 1e -.5 5. . +1 -0 00012 1e4932 -1e4932 1.2e4932 2e-4951 1e-4951 0x1p3 -0x.8P+2"
    return random.choice(
        [
            str(random.randrange(-1000, 1000)),
            repr(random.uniform(-1000, 1000)),
            f"{random.randrange(-100, 100)}.{digits}",
            f"{random.randrange(-(10**6), 10**6)}e{random.randrange(-30, 40)}",
            f"{random.randrange(2**62, 2**66)}{random.choice(['', '.5', '.25', '.75'])}",
            f"{random.randrange(100)}.{digits.zfill(17)[:17]}5",
            f"0x{random.randrange(2**70):x}p{random.randrange(-80, 20)}",
            random.choice(odd.split()),
        ]
    )


def test_incrbyfloat_adds_as_redis_does(redis_server: RedisProcess) -> None:
    random = Random(7)
    dialogue = Dialogue()
    with redis_server.raw() as redis:
        for _ in range(1500):
            value, increment = random_float(random), random_float(random)
            redis.ask("SET", "float", value)
            theirs = parse(redis.ask("INCRBYFLOAT", "float", increment))
            ours = dialogue.ask(f"SET float {value}", f"INCRBYFLOAT float {increment}")
            assert ours == theirs, (value, increment)
            redis.ask("DEL", "float")


def test_numbers_of_thousands_of_digits_are_read_and_written() -> None:
    one = long_double.parse(b"1")
    huge = long_double.parse(b"1" + b"0" * 4932)
    assert len(long_double.to_text(long_double.add(huge, one))) == 4933
    assert long_double.to_text(long_double.parse(b"0." + b"0" * 4900 + b"1")) == b"0"
    with pytest.raises(ValueError, match="too many digits"):
        long_double.parse(b"0" * 5120)


# ---- LCS


def textbook_ranges(left: bytes, right: bytes) -> list[tuple[int, int, int]]:
    """Find what Redis finds, the slow way: the whole table, then back from its corner."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for row, byte in enumerate(left, 1):
        for column, other in enumerate(right, 1):
            table[row][column] = (
                table[row - 1][column - 1] + 1 if byte == other else max(table[row - 1][column], table[row][column - 1])
            )
    ranges: list[tuple[int, int, int]] = []
    row, column = len(left), len(right)
    while row and column:
        if left[row - 1] == right[column - 1]:
            row, column = row - 1, column - 1
            if ranges and ranges[-1][:2] == (row + 1, column + 1):
                ranges[-1] = (row, column, ranges[-1][2] + 1)
            else:
                ranges.append((row, column, 1))
        elif table[row - 1][column] > table[row][column - 1]:
            row -= 1
        else:
            column -= 1
    return ranges


@pytest.mark.parametrize("alphabet", [b"ab", b"abc", b"abcdefgh"])
def test_the_subsequence_is_the_textbooks(alphabet: bytes) -> None:
    random = Random(3)
    for _ in range(400):
        left, right = (bytes(random.choices(alphabet, k=random.randrange(25))) for _ in "ab")
        ranges = common_ranges(left, right)
        assert ranges == textbook_ranges(left, right)
        assert common_length(left, right) == sum(length for _, _, length in ranges)


def test_lcs_answers_as_redis_does(redis_server: RedisProcess) -> None:
    random = Random(11)
    dialogue = Dialogue()
    dialogue.client.session.resp3 = False
    with redis_server.raw() as redis:
        for _ in range(300):
            left, right = (bytes(random.choices(b"abcd", k=random.randrange(60))) for _ in "ab")
            options = random.choice([[], ["LEN"], ["IDX"], ["IDX", "WITHMATCHLEN"], ["IDX", "MINMATCHLEN", "2"]])
            for ask in (redis.ask, dialogue.client.wire):
                ask("MSET", "left", left, "right", right)
            assert dialogue.client.wire("LCS", "left", "right", *options) == redis.ask("LCS", "left", "right", *options)
        redis.ask("DEL", "left", "right")


@pytest.mark.parametrize(
    ("left_bytes", "right_bytes", "fits"),
    [
        (MAX_BYTES, MAX_PAIRS // MAX_BYTES, True),
        (MAX_PAIRS // MAX_BYTES, MAX_BYTES, True),
        (MAX_BYTES + 1, 1, False),
        (1, MAX_BYTES + 1, False),
        (5000, 5000, False),
    ],
)
def test_lcs_has_a_limit(left_bytes: int, right_bytes: int, fits: bool) -> None:
    dialogue = Dialogue()
    dialogue.client.ask("MSET", "left", bytes(left_bytes), "right", bytes(right_bytes))
    for option in ("LEN", "IDX", ""):
        reply = dialogue.ask(f"LCS left right {option}")
        assert (reply == errors.LCS_TOO_LARGE % (MAX_BYTES, MAX_PAIRS)) == (not fits)
    if fits:
        assert dialogue.ask("LCS left right LEN") == min(left_bytes, right_bytes)


# ---- options


@for_each(
    ("first", "options", "reply"),
    [
        ("SET key 1", "EX 100", b"OK"),
        ("GETEX key", "EX 100", b"v"),
        ("EXPIRE key 100", "XX XX", 0),
        ("LCS key key", "LEN LEN", 1),
        ("SCAN 0", "COUNT 1", [b"0", [b"key"]]),
        ("COPY key other", "DB 1", 1),
        ("CLIENT KILL", "ID 99", 0),
        ("MEMORY USAGE key", "SAMPLES 5", None),
        ("HELLO 2", "SETNAME name", None),
        ("SHUTDOWN", "ABORT ABORT", None),
    ],
)
def test_options_may_be_named_more_than_once_up_to_a_limit(first: str, options: str, reply: object) -> None:
    dialogue = Dialogue()
    dialogue.ask("SET key v")
    name = first.split(maxsplit=1)[0]
    times = (MOST_OPTION_WORDS - len(first.split())) // 2
    answer = dialogue.ask(f"{first}" + f" {options}" * times)
    assert answer == reply if reply is not None else answer != errors.TOO_MANY_WORDS % (name.lower().encode(), 128)
    dialogue.effects()
    answer = dialogue.ask(first + f" {options}" * (times + 2))
    assert answer == errors.TOO_MANY_WORDS % (name.lower().encode(), MOST_OPTION_WORDS)
    assert dialogue.effects() == []
