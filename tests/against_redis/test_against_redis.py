"""Godis answers as redis-server does: the same random commands to both, compared byte by byte.

The commands are those of random_commands.py. A run that differs is cut down to the shortest sequence that still differs
before it is reported, with its seed.

Where the wire may differ, `LENIENT` says how far and why; everything else must be equal to the byte, error texts
included. Seeds are fixed, so a run repeats; GODIS_SEED=n starts at another, GODIS_SOAK=n runs n more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from random_commands import JUNK, KEYS, Command, random_command, words
from servers import Failure, GodisProcess, Raw, RedisProcess, Simple, encode, parse

from errors import UNBALANCED_QUOTES
from protocol import shown

COMMANDS_A_RUN = 700
FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 10 + int(os.environ.get("GODIS_SOAK", "0")))
TOLERANCE_MS = 3000  # what a slow machine may need between asking the one and asking the other

ALONE = {b"SCAN", b"DBSIZE"}  # compared with the help of further requests

# ---- comparing


def same_items(ours: Any, theirs: Any) -> bool:
    return bool(sorted(ours) == sorted(theirs))


def same_shape(ours: Any, theirs: Any) -> bool:
    """Both null, or values of one type, lists of one length."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same_shape, ours, theirs))
    return type(ours) is type(theirs)


def same_fields(ours: Any, theirs: Any) -> bool:
    """The same field names in the same order: a map in RESP3, a flat list in RESP2."""
    names = [[item[0] for item in reply] if type(reply[0]) is tuple else reply[::2] for reply in (ours, theirs)]
    return names[0] == names[1]


def close_in_seconds(ours: int, theirs: int) -> bool:
    return abs(ours - theirs) <= TOLERANCE_MS // 1000 and (ours < 0) == (theirs < 0)


def close_in_ms(ours: int, theirs: int) -> bool:
    return abs(ours - theirs) <= TOLERANCE_MS and (ours < 0) == (theirs < 0)


LENIENT: dict[bytes, tuple[Callable[[Any, Any], bool], str]] = {
    b"KEYS": (same_items, "no order is promised"),
    b"SCAN": (same_items, "no order is promised; both are collected from cursor 0 to 0"),
    b"RANDOMKEY": (same_shape, "chance"),
    b"TIME": (same_shape, "the clock"),
    b"LASTSAVE": (same_shape, "the clock"),
    b"TTL": (close_in_seconds, "the clock goes on between the two"),
    b"EXPIRETIME": (close_in_seconds, "the clock goes on between the two"),
    b"PTTL": (close_in_ms, "the clock goes on between the two"),
    b"PEXPIRETIME": (close_in_ms, "the clock goes on between the two"),
    b"HELLO": (same_fields, "version and connection id are each server's own"),
    b"OBJECT ENCODING": (same_shape, "ours follows from the value, Redis's also from how it came to be"),
    b"OBJECT REFCOUNT": (same_shape, "Redis shares small integers"),
    b"OBJECT IDLETIME": (same_shape, "ours notes uses from the first such question on"),
    b"MEMORY USAGE": (same_shape, "the memory of each"),
    b"OBJECT HELP": (same_shape, "prose"),
}


class Difference(Exception):
    """The two servers differ; `ran` is how many commands it took."""

    def __init__(self, ran: int, ours: object, theirs: object) -> None:
        super().__init__(ran, ours, theirs)
        self.ran, self.ours, self.theirs = ran, ours, theirs


class Pair:
    """A connection to each of the two servers, which are asked the same."""

    def __init__(self, godis: Raw, redis: Raw) -> None:
        self.godis, self.redis = godis, redis

    def run(self, commands: list[Command], protocol: int) -> None:
        """Ask both the same commands from an empty keyspace on. Raises Difference at the first that differs."""
        for raw in (self.godis, self.redis):
            raw.send(encode("FLUSHALL") + encode("RESET") + encode("HELLO", protocol))
            for _ in range(3):
                raw.read_reply()
        for index, argv in enumerate(commands):
            ours, theirs = ask(self.godis, argv), ask(self.redis, argv)
            if not alike(argv, ours, theirs):
                raise Difference(index + 1, ours, theirs)
        our_keys, their_keys = keyspace(self.godis), keyspace(self.redis)
        if not same_keyspace(our_keys, their_keys):
            raise Difference(len(commands), our_keys, their_keys)

    def shortest(self, commands: list[Command], protocol: int, found: Difference) -> tuple[list[Command], Difference]:
        """Leave out what is not needed for the two to differ."""
        commands = commands[: found.ran]
        size = len(commands) // 2
        while size:
            start = 0
            while start < len(commands):
                shorter = commands[:start] + commands[start + size :]
                try:
                    self.run(shorter, protocol)
                    start += size
                except Difference as difference:
                    commands, found = shorter[: difference.ran], difference
            size //= 2
        return commands, found


def ask(raw: Raw, argv: Command) -> bytes:
    """Ask one command; collect a SCAN whole, and let expired keys go before they are counted."""
    name = argv[0].upper()
    if name == b"DBSIZE":
        raw.ask(b"EXISTS", *KEYS, *JUNK)  # Redis counts an expired key until somebody meets it
    wire = raw.ask(*argv)
    if name != b"SCAN" or wire.startswith(b"-"):
        return wire
    if argv[1] != b"0":
        return encode()  # what a cursor means is each server's own affair
    found = set()
    while True:
        cursor, keys = parse(wire)
        found.update(keys)
        if cursor == b"0":
            return encode(*sorted(found))
        wire = raw.ask(argv[0], cursor, *argv[2:])


def alike(argv: Command, ours: bytes, theirs: bytes) -> bool:
    if ours.startswith(b"-"):
        for word in argv:  # C ends a text at a NUL
            text = word.replace(b"\r", b" ").replace(b"\n", b" ")
            ours = ours.replace(text, text.split(b"\0")[0])
    if ours == theirs:
        return True
    name = argv[0].upper()
    lenient = LENIENT.get(name) or LENIENT.get(b" ".join([name, *argv[1:2]]).upper())
    if lenient is None or ours[:1] != theirs[:1] or ours[:1] == b"-":
        return False
    return lenient[0](parse(ours), parse(theirs))


def keyspace(raw: Raw) -> dict[tuple[int, bytes], tuple[Any, Any, Any]]:
    """Return type, value and PTTL of every key of every database."""
    content = {}
    for db in range(16):
        raw.ask("SELECT", db)
        for key in parse(raw.ask("KEYS", "*")):
            kind, value, ttl_ms = (parse(raw.ask(name, key)) for name in ("TYPE", "GET", "PTTL"))
            content[db, key] = (kind, value, ttl_ms)
    return content


def same_keyspace(ours: Any, theirs: Any) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[key][:2] == theirs[key][:2] and close_in_ms(ours[key][2], theirs[key][2]) for key in theirs
    )


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
@pytest.mark.parametrize("seed", SEEDS)
def test_random_commands_are_answered_as_redis_answers_them(pair: Pair, seed: int, protocol: int) -> None:
    random = Random(seed)
    commands = [random_command(random) for _ in range(COMMANDS_A_RUN)]
    try:
        pair.run(commands, protocol)
    except Difference as difference:
        shortest, found = pair.shortest(commands, protocol, difference)
        listing = "\n".join(" ".join(map(repr, argv)) for argv in shortest)
        pytest.fail(f"seed {seed}, RESP{protocol}\n{listing}\nGodis: {found.ours!r}\nRedis: {found.theirs!r}")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pipeline_cut_anywhere_is_answered_in_the_same_order(pair: Pair, seed: int) -> None:
    random = Random(seed)
    made = [random_command(random) for _ in range(COMMANDS_A_RUN)]
    commands = [argv for argv in made if argv[0].upper() not in ALONE]
    pair.run([], 2)
    stream = b"".join(encode(*argv) for argv in commands)
    cuts = sorted(random.sample(range(len(stream)), 30))
    pieces = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    with ThreadPoolExecutor(2) as senders:  # lest a server that waits for its replies to be read stops this test
        for raw in (pair.godis, pair.redis):
            senders.submit(send_all, raw, pieces)
        for argv in commands:
            ours, theirs = pair.godis.read_reply(), pair.redis.read_reply()
            assert alike(argv, ours, theirs), (seed, argv, ours, theirs)


def send_all(raw: Raw, pieces: list[bytes]) -> None:
    for piece in pieces:
        raw.send(piece)


def test_what_random_commands_left_is_there_after_a_restart(tmp_path: Path) -> None:
    random = Random(7)
    with GodisProcess(tmp_path, "--default-ttl", "0") as process:
        with process.raw() as raw:
            for argv in (random_command(random) for _ in range(COMMANDS_A_RUN)):
                if argv[0].upper() != b"FLUSHDB":
                    ask(raw, argv)
            raw.ask("RESET")
            before = keyspace(raw)
        process.kill9()
        process.start()
        with process.raw() as raw:
            after = keyspace(raw)
    assert len(before) > 5
    assert after.keys() == before.keys()
    assert same_keyspace(after, before)


def test_patterns_match_the_same_keys(pair: Pair) -> None:
    random = Random(11)
    words = [bytes(random.choices(b"ab-]^[\\*?c\n\xff", k=random.randint(0, 4))) for _ in range(150)]
    patterns = [bytes(random.choices(b"ab*?[]^-\\c*\xff", k=random.randint(0, 7))) for _ in range(500)]
    pair.run([[b"SET", word, b"x"] for word in words], 2)
    for pattern in patterns:
        ours, theirs = (sorted(parse(raw.ask(b"KEYS", pattern))) for raw in (pair.godis, pair.redis))
        assert ours == theirs, pattern


@pytest.mark.parametrize(
    "value",
    [
        *words("|0|-1|01|1.5|+1| 1|-0|12345678901234567890|9223372036854775807|-9223372036854775808"),
        *words("9223372036854775808|-9223372036854775809"),
        *(b"x" * length for length in (44, 45)),
    ],
)
def test_a_string_has_the_encoding_that_redis_gives_it(pair: Pair, value: bytes) -> None:
    pair.run([[b"SET", b"k", value]], 2)
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
    pair.run([[b"SET", b"k", b"v"], setting.split()], 2)
    assert pair.godis.ask(*asking.split()) == pair.redis.ask(*asking.split())


# ---- the table of commands


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
    both = ours.keys() & theirs.keys()
    assert {name: described(ours[name]) for name in both} == {name: described(theirs[name]) for name in both}
    later_redis = {b"client|no-touch", b"client|setinfo"}
    own = {b"exit", b"pool", b"pool|status", b"pool|help", b"readmode"}
    assert ours.keys() - theirs.keys() == later_redis | own


def described(entry: list[Any]) -> tuple[Any, ...]:
    """Return what clients go by: arity, flags, first key, last key, step, categories."""
    _, arity, flags, first, last, step, categories = entry[:7]
    return arity, set(flags) - {b"no_multi"}, first, last, step, set(categories)


def test_a_wrong_number_of_arguments_gets_the_text_of_redis(pair: Pair) -> None:
    theirs = command_table(pair.redis)
    tried = 0
    for name in command_table(pair.godis).keys() & theirs.keys():
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
    *(b"asking", b"readonly", b"readwrite", b"wait", b"migrate", b"restore-asking"),
    # of a format on disk that is Redis's own
    *(b"dump", b"restore"),
    # tracked keys, blocking commands
    *(b"client|caching", b"client|getredir", b"client|tracking", b"client|trackinginfo", b"client|unblock"),
    b"command|getkeysandflags",
}


def test_every_command_of_redis_for_strings_and_keys_is_there(pair: Pair) -> None:
    ours = command_table(pair.godis)
    groups = {b"@string", b"@keyspace", b"@connection"}
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
    assert not alike([b"GET", b"k"], b"+OK\r\n", b"$2\r\nOK\r\n")
    assert not alike([b"KEYS", b"*"], b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\nb\r\n")
    assert alike([b"KEYS", b"*"], b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n")
