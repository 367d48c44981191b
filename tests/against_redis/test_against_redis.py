"""Godis answers as redis-server does: the same random commands to both, compared byte by byte.

The commands are those of random_commands.py, family by family. A run that differs is cut down to the shortest sequence
that still differs before it is reported, with its seed. At the end the two hold the same.

Where the wire may differ, `LENIENT` of the family's grammar says how far and why; everything else must be equal to the
byte, error texts included. Seeds are fixed, so a run repeats; GODIS_SEED=n starts at another, GODIS_SOAK=n runs n more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from contents import differences
from grammars import ALL, grammar
from random_commands import FAMILIES, random_command, words
from server_pair import ALONE, Pair, alike, report
from servers import Failure, GodisProcess, Raw, RedisProcess, Simple, encode, parse
from tables import for_each

from errors import UNBALANCED_QUOTES
from protocol import shown

COMMANDS_A_RUN = 700
TRANSACTIONS_A_RUN = 150
FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
MORE = int(os.environ.get("GODIS_SOAK", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 10 + MORE)
# Of each family 5600 commands, half of them in RESP3; of strings more. Then those of all families on the same keys.
RUNS = [(family, seed) for family in [*FAMILIES, ALL] for seed in (SEEDS if family == "strings" else SEEDS[: 4 + MORE])]

STRINGS = grammar("strings")


@pytest.fixture(scope="module")
def plain_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    """A Godis without the one default that differs on purpose."""
    with GodisProcess(tmp_path_factory.mktemp("godis"), "--default-ttl", "0") as process:
        yield process


@pytest.fixture
def pair(plain_godis: GodisProcess, redis_server: RedisProcess) -> Iterator[Pair]:
    with plain_godis.raw() as godis, redis_server.raw() as redis:
        yield Pair(godis, redis)


# ---- the tests


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(("family", "seed"), RUNS)
def test_random_commands_are_answered_as_redis_answers_them(pair: Pair, family: str, seed: int, protocol: int) -> None:
    random = Random(seed)
    commands = [random_command(random, family, for_redis=True) for _ in range(COMMANDS_A_RUN)]
    if found := pair.find(commands, protocol, grammar(family)):
        pytest.fail(report(family, seed, protocol, found), pytrace=False)


@pytest.mark.parametrize(("family", "seed"), [run for run in RUNS if run[0] == "strings" or run[1] == FIRST_SEED])
def test_a_pipeline_cut_anywhere_is_answered_in_the_same_order(pair: Pair, family: str, seed: int) -> None:
    random, rules = Random(seed), grammar(family)
    made = [random_command(random, family, for_redis=True) for _ in range(COMMANDS_A_RUN)]
    commands = [argv for argv in made if argv[0].upper() not in ALONE | rules.settles.keys()]
    pair.run([], 2, rules)
    stream = b"".join(encode(*argv) for argv in commands)
    cuts = sorted(random.sample(range(len(stream)), 30))
    pieces = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    with ThreadPoolExecutor(2) as senders:  # lest a server that waits for its replies to be read stops this test
        for raw in (pair.godis, pair.redis):
            senders.submit(send_all, raw, pieces)
        for argv in commands:
            ours, theirs = pair.godis.read_reply(), pair.redis.read_reply()
            assert alike(argv, ours, theirs, rules), (seed, argv, ours, theirs)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    ("family", "seed"), [(family, FIRST_SEED + more) for family in FAMILIES for more in range(1 + MORE)]
)
def test_a_transaction_that_is_sent_whole_is_answered_as_redis_answers_it(
    pair: Pair, family: str, seed: int, protocol: int
) -> None:
    """Of commands whose replies are equal to the byte, a NUL in an error's text aside."""
    random, rules = Random(seed), grammar(family)
    pair.run([], protocol, rules)
    for _ in range(TRANSACTIONS_A_RUN):
        made = [random_command(random, family, for_redis=True) for _ in range(random.randint(0, 12))]
        queued = [argv for argv in made if argv[0].upper() not in ALONE | rules.settles.keys()]
        queued = [argv for argv in queued if rules.leniency(argv) is None and b"\0" not in b"".join(argv)]
        requests = [[b"WATCH", b"k"]] * random.randint(0, 1) + [[b"MULTI"], *queued, [b"EXEC"]]
        for raw in (pair.godis, pair.redis):
            raw.send(b"".join(encode(*argv) for argv in requests))
        for argv in requests:
            ours, theirs = pair.godis.read_reply(), pair.redis.read_reply()
            assert alike(argv, ours, theirs, rules), (requests, argv)
    assert not differences(pair.contents(pair.godis), pair.contents(pair.redis))


def send_all(raw: Raw, pieces: list[bytes]) -> None:
    for piece in pieces:
        raw.send(piece)


def test_patterns_match_the_same_keys(pair: Pair) -> None:
    random = Random(11)
    words = [bytes(random.choices(b"ab-]^[\\*?c\n\xff", k=random.randint(0, 4))) for _ in range(150)]
    patterns = [bytes(random.choices(b"ab*?[]^-\\c*\xff", k=random.randint(0, 7))) for _ in range(500)]
    pair.run([[b"SET", word, b"x"] for word in words], 2, STRINGS)
    for pattern in patterns:
        ours, theirs = (sorted(parse(raw.ask(b"KEYS", pattern))) for raw in (pair.godis, pair.redis))
        assert ours == theirs, pattern


@for_each(
    "value",
    [
        *words("|0|-1|01|1.5|+1| 1|-0|12345678901234567890|9223372036854775807|-9223372036854775808"),
        *words("9223372036854775808|-9223372036854775809"),
        *(b"x" * length for length in (44, 45)),
    ],
)
def test_a_string_has_the_encoding_that_redis_gives_it(pair: Pair, value: bytes) -> None:
    pair.run([[b"SET", b"k", value]], 2, STRINGS)
    assert pair.godis.ask(b"OBJECT", b"ENCODING", b"k") == pair.redis.ask(b"OBJECT", b"ENCODING", b"k")


@pytest.mark.parametrize(
    ("setting", "asking"),
    [
        (b"PEXPIREAT k 4000000000123", b"PEXPIRETIME k"),
        (b"EXPIREAT k 4000000000", b"PEXPIRETIME k"),
        (b"PEXPIREAT k 4000000000500", b"EXPIRETIME k"),
        (b"SET k v PXAT 4000000000499", b"EXPIRETIME k"),
        (b"GETEX k EXAT 4000000000", b"PEXPIRETIME k"),
    ],
)
def test_an_absolute_deadline_is_kept_to_the_millisecond(pair: Pair, setting: bytes, asking: bytes) -> None:
    pair.run([[b"SET", b"k", b"v"], setting.split()], 2, STRINGS)
    assert pair.godis.ask(*asking.split()) == pair.redis.ask(*asking.split())


# ---- the table of commands


LONGER = {b"zrank", b"zrevrank"}  # which have WITHSCORE since 7.2


def command_table(raw: Raw) -> dict[bytes, list[Any]]:
    """Return COMMAND's entries by name, subcommands as `container|name` included."""
    table = {}
    entries = parse(raw.ask("COMMAND"))
    while entries:
        entry = entries.pop()
        table[bytes(entry[0])] = entry
        entries += entry[9] if len(entry) > 9 else []
    return table


def test_every_command_is_described_as_redis_describes_it(pair: Pair) -> None:
    ours, theirs = command_table(pair.godis), command_table(pair.redis)
    both = (ours.keys() & theirs.keys()) - LONGER
    assert {name: described(ours[name]) for name in both} == {name: described(theirs[name]) for name in both}
    of_fields = b"hexpire hpexpire hexpireat hpexpireat hexpiretime hpexpiretime httl hpttl hpersist".split()
    later_redis = {*of_fields, *b"hgetdel hgetex hsetex msetex delifeq client|no-touch client|setinfo".split()}
    later_redis |= {*b"delex digest xdelex xackdel waitaof".split()}
    own = {b"exit", b"pool", b"pool|status", b"pool|help", b"readmode"}
    assert ours.keys() - theirs.keys() == later_redis | own


def described(entry: list[Any]) -> tuple[Any, ...]:
    """Return what clients go by: arity, flags, first key, last key, step, categories."""
    _, arity, flags, first, last, step, categories = entry[:7]
    return arity, set(flags), first, last, step, set(categories)


def test_a_wrong_number_of_arguments_gets_the_text_of_redis(pair: Pair) -> None:
    theirs = command_table(pair.redis)
    tried = 0
    for name in (command_table(pair.godis).keys() & theirs.keys()) - LONGER:
        arity = theirs[name][1]
        words = name.split(b"|")
        for count in range(len(words), 8):
            if (count != arity) if arity > 0 else (count < -arity):
                argv = words + [b"x"] * (count - len(words))
                assert pair.godis.ask(*argv) == pair.redis.ask(*argv), argv
                tried += 1
    assert tried > 200


NOT_HERE = {
    # a cluster's, a replica's
    *(b"asking", b"readonly", b"readwrite", b"migrate", b"restore-asking"),
    # for those who work on Redis itself
    *(b"pfdebug", b"pfselftest"),
}


def test_every_command_of_redis_on_keys_is_there(pair: Pair) -> None:
    ours = command_table(pair.godis)
    types = {b"@string", b"@list", b"@hash", b"@set", b"@sortedset", b"@stream", b"@bitmap", b"@hyperloglog", b"@geo"}
    groups = {*types, b"@keyspace", b"@connection"}
    missing = {name for name, entry in command_table(pair.redis).items() if groups & set(entry[6]) and name not in ours}
    assert missing == NOT_HERE


# ---- lines and broken requests


@pytest.mark.parametrize(
    "line",
    words(
        "ECHO hello|ECHO \"a b\"|ECHO 'a b'|ECHO \"\\x41\\n\\\"q\\\\\"|ECHO 'it\\'s'|ECHO \"\"|ECHO ''|ECHO a\tb|"
        '  ECHO   spaced  |ECHO "\\xzz\\q"|ECHO \'\\n\'|ECHO a"b"|ECHO "a"b|ECHO "a|echo \xff\x01|ECHO "\\r\\t\\a\\b"'
    ),
)
def test_a_line_is_split_into_the_words_that_redis_sees(pair: Pair, line: bytes) -> None:
    for raw in (pair.godis, pair.redis):
        raw.send(line + b"\r\n" + encode("PING"))
        raw.end_of_input()
    ours, theirs = pair.godis.read_all(), pair.redis.read_all()
    pong = b"\r\n+PONG\r\n"
    if b"unbalanced quotes" in theirs:  # Redis hangs up
        assert ours == UNBALANCED_QUOTES + pong
        return
    answer = parse(theirs.removesuffix(pong) + b"\r\n")
    if isinstance(answer, Failure):  # to which a line that says what is missing is added
        assert ours.startswith(answer)
        assert ours.endswith(pong)
    else:  # text is answered with the bare value, whose control characters are shown escaped
        assert ours == shown(answer) + pong


@pytest.mark.parametrize(
    "request_bytes",
    [
        *words("*abc\r\n|*\r\n|* 1\r\n|*+1\r\n|*2147483648\r\n|*99999999999999999999\r\n"),
        *words("*1\r\n$abc\r\n|*1\r\n$-5\r\n|*1\r\n$\r\n\r\n|*1\r\n$ 4\r\nPING\r\n|*1\r\n$536870913\r\n"),
        *words("*1\r\n$04\r\nPING\r\n|*1\r\n$+4\r\nPING\r\n|*1\r\n$-1\r\n|*01\r\n$4\r\nPING\r\n"),
        *words("*1\r\n:5\r\n|*1\r\n+PING\r\n|*1\r\n*1\r\n|*1\r\nPING\r\n|*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n"),
        *words("*-1\r\n*1\r\n$4\r\nPING\r\n|*0\r\n*1\r\n$4\r\nPING\r\n|\r\n\r\n*1\r\n$4\r\nPING\r\n"),
        *words("*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n|*1\r\n$4\r\nPI"),
        *(start + b"1" * 70_000 for start in (b"", b"*", b"*1\r\n$")),
    ],
    ids=lambda request_bytes: repr(request_bytes[:24]),
)
def test_a_broken_request_gets_the_answer_of_redis_and_the_same_end(pair: Pair, request_bytes: bytes) -> None:
    answers = []
    for raw in (pair.godis, pair.redis):
        raw.send(request_bytes)
        raw.end_of_input()
        try:
            answers.append(raw.read_all())
        except ConnectionResetError:  # closed with bytes of ours unread
            answers.append(bytes(raw.buffer))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("count", [1024 * 1024 + 1, 2_000_000_000])
def test_more_than_a_million_words_are_refused_where_redis_7_waits_for_them(pair: Pair, count: int) -> None:
    """Redis took no more until version 7; what such a count may cost is bounded here."""
    pair.godis.send(b"*%d\r\n" % count)
    assert pair.godis.read_all() == b"-ERR Protocol error: invalid multibulk length\r\n"


def test_the_two_kinds_of_string_are_told_apart() -> None:
    """The comparison itself: a status is no bulk string, an error is neither."""
    assert parse(b"+OK\r\n") == b"OK"
    assert [type(parse(wire)) for wire in (b"+OK\r\n", b"$2\r\nOK\r\n", b"-OK\r\n")] == [Simple, bytes, Failure]
    assert not alike([b"GET", b"k"], b"+OK\r\n", b"$2\r\nOK\r\n", STRINGS)
    assert not alike([b"KEYS", b"*"], b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\nb\r\n", STRINGS)
    assert not alike([b"HGETALL", b"k"], b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n", STRINGS)
    assert alike([b"SMEMBERS", b"k"], b"~2\r\n$1\r\na\r\n$1\r\nb\r\n", b"~2\r\n$1\r\nb\r\n$1\r\na\r\n", STRINGS)
    assert not alike([b"SMEMBERS", b"k"], b"~1\r\n$1\r\n5\r\n", b"~1\r\n:5\r\n", STRINGS)
    assert alike([b"KEYS", b"*"], b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n", STRINGS)
