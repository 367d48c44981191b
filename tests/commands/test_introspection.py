"""COMMAND, and the table of commands itself: what it says agrees with what redis-server says."""

from __future__ import annotations

import os
import pty
import re
import runpy
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from instances import Bench
from servers import PATIENCE_SECONDS, ROOT, GodisProcess, Raw, RedisProcess, parse, require
from tables import for_each

import commands
from commands import ALONE, TABLE, Command
from commands.introspection import GROUPS, all_rows
from commands.syntax import arguments
from errors import EXEC_REFUSED

ROWS = list(all_rows())
NOT_IN_REDIS_7_0 = {"exit", "client|setinfo", "client|no-touch", "pool", "pool|status", "pool|help", "readmode"}
NOT_IN_REDIS_7_0 |= {
    *("hexpire", "hpexpire", "hexpireat", "hpexpireat", "httl", "hpttl", "hexpiretime", "hpexpiretime", "hpersist"),
    *("hgetdel", "hgetex", "hsetex"),
    *("delifeq", "msetex", "delex", "digest", "xdelex", "xackdel", "waitaof"),
}
# What Redis says of a command and the table does not, because Godis has no such thing.
# Redis writes these in another way, which means the same for who reads a hint.
OTHER_SYNTAX = {
    "client|kill",  # the filters are one more choice there
    "client|tracking",  # PREFIX is repeated there
    "client|list",  # the ids are one more block there
    *("command|getkeys", "command|getkeysandflags"),  # described here only
    "lolwut",  # an integer there
    "config|get",  # a block of one there
    "debug",  # described here only
    "set",  # without IFEQ and its like in 7.0
    "hscan",  # without NOVALUES in 7.0
    "incrbyfloat",  # a double there
    "psubscribe",  # a block of one there
    # so is the timeout of these
    *("blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop"),
    "hincrbyfloat",
    "setbit",  # an integer there
    "bitop",  # a string there
    "bitfield",  # an integer there
    "zrange",  # indexes, scores or members: strings there
    "zrangestore",
    "zrank",  # without WITHSCORE in 7.0
    "zrevrank",
    "zlexcount",  # members, not scores
    "zrangebylex",
    "zrevrangebylex",
    "zremrangebylex",
    "geosearch",  # width and height are no block there
    "geosearchstore",
    "geopos",  # a member is demanded in 7.0
    "geohash",
    *("bitfield_ro", "sort", "sort_ro"),  # the word GET is repeated there, too
    *("xrange", "xrevrange", "xautoclaim", "xpending"),  # `start` and `end` are IDs: strings there
    "xreadgroup",  # without CLAIM in 7.0
    *("xadd", "xtrim"),  # without KEEPREF, DELREF and ACKED in 7.0
    "xinfo|stream",  # FULL is the token of a block there
    "pfmerge",  # whose arity says that no source is needed
}
OTHER_ARITY = {"zrank", "zrevrank"}  # since WITHSCORE, in 7.2
REDIS_GROUPS = {
    *("string", "generic", "connection", "server", "list", "hash", "set", "sorted-set", "stream", "bitmap"),
    *("hyperloglog", "geo", "scripting", "transactions", "pubsub"),
}
OTHER_GROUP = {"dbsize", "flushdb", "flushall", "swapdb"}  # Redis counts them to the server; they are about keys

REFUSED = [
    "COMMAND NOSUCH",
    "COMMAND COUNT x",
    "COMMAND LIST NOSUCH",
    "COMMAND LIST FILTERBY",
    "COMMAND LIST FILTERBY PATTERN",
    "COMMAND LIST FILTERBY NOSUCH x",
    "COMMAND LIST FILTERBY PATTERN x y",
    "COMMAND GETKEYS",
    "COMMAND GETKEYS PING",
    "COMMAND GETKEYS PING x",
    "COMMAND GETKEYS NOSUCH x",
    "COMMAND GETKEYS CONFIG NOSUCH",
    "COMMAND GETKEYS CONFIG GET x",
    "COMMAND GETKEYS GET a b",
    "COMMAND GETKEYS SET a",
    "COMMAND GETKEYS MEMORY USAGE",
]
ANSWERED = [
    "COMMAND GETKEYS GET a",
    "COMMAND GETKEYS set a b EX 10",
    "COMMAND GETKEYS MSET a 1 b 2",
    "COMMAND GETKEYS MGET a b c",
    "COMMAND GETKEYS LCS a b IDX",
    "COMMAND GETKEYS MEMORY USAGE a",
    "COMMAND INFO nosuch",
    "COMMAND INFO get|x config|nosuch",
    "COMMAND DOCS nosuch",
    "COMMAND LIST FILTERBY MODULE nosuch",
    "COMMAND LIST FILTERBY ACLCAT nosuch",
    "COMMAND LIST FILTERBY PATTERN xyz*",
    "COMMAND LIST FILTERBY PATTERN GETRANG?",
]


@pytest.fixture(scope="module")
def real_client(redis_server: RedisProcess) -> Iterator[Any]:
    with redis_server.client(protocol=3) as client:
        yield client


def named(row: Command) -> str:
    return row.name.decode().lower()


def plain(reply: Any) -> Any:
    """Make a reply comparable: sets sorted, maps as dicts, bytes as text."""
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, dict):
        return {plain(key): plain(value) for key, value in reply.items()}
    if isinstance(reply, (set, frozenset)):
        return sorted(plain(member) for member in reply)
    if isinstance(reply, list):
        return [plain(member) for member in reply]
    return reply


def test_each_flag_is_a_bit_of_its_own() -> None:
    numbers = {name: value for name, value in vars(commands).items() if name.isupper() and type(value) is int}
    flags = {name: value for name, value in numbers.items() if not name.endswith("_BYTES")}
    assert {"WRITE", "EVERYWHERE", "MAY_REPLICATE"} <= flags.keys()
    assert len(set(flags.values())) == len(flags)
    assert all(value.bit_count() == 1 for value in flags.values())


@for_each("line", REFUSED)
def test_a_refusal_is_worded_as_in_redis(line: str, real: Raw) -> None:
    wire = Bench().connect().wire(*line.split(" "))
    assert wire.startswith(b"-")
    assert wire == real.ask(*line.split(" "))


@pytest.mark.parametrize("resp", [2, 3])
def test_answers_are_those_of_redis(resp: int, real: Raw) -> None:
    client = Bench().connect()
    client.wire("HELLO", resp)
    real.ask("HELLO", resp)
    for line in ANSWERED:
        assert client.wire(*line.split(" ")) == real.ask(*line.split(" ")), line


# ---- COMMAND INFO beside Redis's


@for_each("row", ROWS, ids=named)
def test_a_row_agrees_with_redis(row: Command, real_client: Any) -> None:
    (theirs,) = real_client.execute_command("COMMAND INFO", named(row), NEVER_DECODE=True) or [None]
    if named(row) in NOT_IN_REDIS_7_0:
        assert theirs is None
        return
    (ours,) = Bench().connect().ask("COMMAND", "INFO", named(row))
    name, arity, flags, first, last, step, categories, _, keys, subcommands = ours
    assert (name, first, last, step) == (theirs[0], *theirs[3:6])
    assert arity == theirs[1] or named(row) in OTHER_ARITY
    assert set(flags) == set(theirs[2])
    assert set(categories) == set(theirs[6])
    assert bool(keys) == bool(theirs[8])
    assert {child[0] for child in subcommands} - {child[0] for child in theirs[9]} <= {
        name.encode() for name in NOT_IN_REDIS_7_0
    }


@pytest.mark.parametrize("resp", [2, 3])
def test_a_description_has_the_shape_of_redis(resp: int, real: Raw) -> None:
    """The wire bytes, for a command whose details happen to be the same in both."""
    client = Bench().connect()
    for words in (["HELLO", resp], ["COMMAND", "INFO", "strlen"], ["COMMAND", "INFO", "client|id", "nosuch"]):
        ours, theirs = parse(client.wire(*words)), parse(real.ask(*words))
        if words[0] == "COMMAND":
            for description in filter(None, ours + theirs):
                description[2], description[6] = sorted(description[2]), sorted(description[6])
            assert ours == theirs


@pytest.mark.parametrize(("name", "keys"), [("get", [1, 0, 1]), ("mset", [1, -1, 2]), ("lcs", [1, 1, 1])])
def test_key_specifications_find_what_first_last_step_find(name: str, keys: list[int]) -> None:
    (ours,) = Bench().connect().ask("COMMAND", "INFO", name)
    (specification,) = ours[8]
    spec = specification[b"find_keys"][b"spec"]
    assert [specification[b"begin_search"][b"spec"][b"index"], spec[b"lastkey"], spec[b"keystep"]] == keys


def test_all_commands_are_described_counted_and_listed() -> None:
    client = Bench().connect()
    everything = client.ask("COMMAND")
    assert client.ask("COMMAND", "COUNT") == len(everything) == len(TABLE)
    assert client.ask("COMMAND", "INFO") == everything
    names = client.ask("COMMAND", "LIST")
    assert names == [row.name.lower() for row in ROWS]
    assert {b"get", b"client", b"client|id", b"command|docs"} <= set(names)


@for_each("category", ["read", "write", "admin", "dangerous", "fast", "string", "keyspace", "connection"])
def test_filter_by_category_finds_what_redis_finds(category: str, real_client: Any) -> None:
    ours = set(Bench().connect().ask("COMMAND", "LIST", "FILTERBY", "ACLCAT", category))
    theirs = set(real_client.execute_command("COMMAND LIST", "FILTERBY", "ACLCAT", category))
    own = {name.encode() for name in NOT_IN_REDIS_7_0}
    assert ours - own == theirs & {row.name.lower() for row in ROWS} - own
    assert ours


def test_filter_by_pattern_reaches_subcommands() -> None:
    client = Bench().connect()
    assert client.ask("COMMAND", "LIST", "filterby", "pattern", "CLIENT|[iI]*") == [b"client|id", b"client|info"]


# ---- COMMAND DOCS


def hints(described: list[dict[str, Any]]) -> list[Any]:
    """Keep of the arguments what a hint is made of: types, tokens, what may be left out or repeated."""
    return [
        (
            argument["type"],
            argument.get("token"),
            sorted(argument.get("flags", [])),
            None if "arguments" in argument or "token" in argument else argument["name"],
            hints(argument.get("arguments", [])),
        )
        for argument in described
    ]


@for_each("row", [row for row in ROWS if named(row) not in NOT_IN_REDIS_7_0], ids=named)
def test_docs_describe_a_command_as_redis_does(row: Command, real_client: Any) -> None:
    theirs = plain(real_client.execute_command("COMMAND DOCS", named(row)))[named(row)]
    ours = plain(Bench().connect().ask("COMMAND", "DOCS", named(row)))[named(row)]
    assert ours["since"] == theirs["since"]
    if named(row) not in OTHER_GROUP:
        assert ours["group"] == theirs["group"]
    assert ours["summary"]
    assert ("subcommands" in ours) == ("subcommands" in theirs)
    same = hints(ours.get("arguments", [])) == hints(theirs.get("arguments", []))
    assert same == (named(row) not in OTHER_SYNTAX), (ours.get("arguments"), theirs.get("arguments"))


def test_docs_of_all_commands_hold_the_subcommands() -> None:
    docs = Bench().connect().ask("COMMAND", "DOCS")
    assert docs.keys() == {name.lower() for name in TABLE}
    assert docs[b"client"][b"subcommands"][b"client|id"][b"since"] == b"5.0.0"
    assert b"arguments" not in docs[b"client"][b"subcommands"][b"client|id"]


# ---- the table


@for_each("row", ROWS, ids=named)
def test_a_row_is_complete(row: Command) -> None:
    assert row.summary.endswith(".")
    assert row.since
    assert (ROOT / "commands" / f"{row.group}.py").exists()
    assert GROUPS.get(row.group, row.group) in REDIS_GROUPS
    has_flags = row.flags & ~ALONE  # that one is the engine's own
    assert not (has_flags and row.subcommands and row.arity != -1), "a container has no flags but its subcommands'"


@for_each("row", [row for row in ROWS if not row.subcommands], ids=named)
def test_arity_agrees_with_syntax(row: Command) -> None:
    """The words that the syntax demands are as many as the arity counts."""
    described = plain(arguments(row.syntax))
    open_ended = any(set(argument.get("flags", [])) & {"optional", "multiple"} for argument in described)
    demanded = row.name.count(b"|") + 1 + sum(map(least_words, described))
    if row.name == b"DEBUG":
        return  # the table gives Redis's arity, which is that of all its subcommands
    assert demanded <= abs(row.arity)
    if not open_ended and row.arity > 0:
        assert demanded == row.arity


def least_words(argument: dict[str, Any]) -> int:
    if "optional" in argument.get("flags", []):
        return 0
    inner = [least_words(member) for member in argument.get("arguments", [])]
    words: int = min(inner) if argument["type"] == "oneof" else sum(inner) if argument["type"] == "block" else 1
    return words + ("token" in argument and argument["type"] != "pure-token")


@for_each("row", ROWS, ids=named)
def test_a_wrong_number_of_words_is_refused_by_name(row: Command) -> None:
    client = Bench().connect()
    text = b"ERR wrong number of arguments for '%b' command" % row.name.lower()
    if row.name == b"EXEC":
        text = EXEC_REFUSED % text.removeprefix(b"ERR ")
    words = row.name.split(b"|")
    if abs(row.arity) > len(words):
        assert client.ask(*words).text == text
    if row.arity > 0:
        assert client.ask(*words, *[b"x"] * row.arity).text == text


SYNTAXES: list[tuple[str, list[Any]]] = [
    ("", []),
    ("key", [("key", None, [], "key", [])]),
    ("key [key ...]", [("key", None, ["multiple"], "key", [])]),
    ("[section [section ...]]", [("string", None, ["multiple", "optional"], "section", [])]),
    ("[COUNT count]", [("integer", "COUNT", ["optional"], None, [])]),
    (
        "<ON | OFF>",
        [("oneof", None, [], None, [("pure-token", "ON", [], None, []), ("pure-token", "OFF", [], None, [])])],
    ),
    (
        "key value [key value ...]",
        [("block", None, ["multiple"], None, [("key", None, [], "key", []), ("string", None, [], "value", [])])],
    ),
    (
        "[AUTH username password]",
        [
            (
                "block",
                "AUTH",
                ["optional"],
                None,
                [("string", None, [], "username", []), ("string", None, [], "password", [])],
            )
        ],
    ),
]


@for_each(("syntax", "expected"), SYNTAXES)
def test_a_syntax_reads_as_arguments(syntax: str, expected: list[Any]) -> None:
    assert hints(plain(arguments(syntax))) == expected


@pytest.mark.parametrize("syntax", ["a | b", "a]", "[a", "<a", "a > b"])
def test_a_syntax_that_is_not_well_formed_is_refused(syntax: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        arguments(syntax)


# ---- real clients


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_reads_the_table(shared_godis: GodisProcess, protocol: int) -> None:
    with shared_godis.client(protocol=protocol) as client:
        assert isinstance(client, redis.Redis)
        commands = client.command()
        assert len(commands) == client.command_count() == len(TABLE)
        assert set(plain(commands["get"]["flags"])) == {"readonly", "fast"}
        assert plain(client.command_getkeys("MSET", "a", "1", "b", "2")) == ["a", "b"]
        assert "client|id" in plain(client.command_list(category="connection"))


def read_until(terminal: int, wanted: bytes) -> bytes:
    """Read what a program writes on its terminal, until it has written this."""
    shown = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while wanted not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536)
    return shown


def test_redis_cli_helps_with_what_docs_say(shared_godis: GodisProcess, tmp_path: Path) -> None:
    """Its help and its hints are put together from the arguments of COMMAND DOCS."""
    program = shutil.which("redis-cli")
    require(program, "redis-cli is not installed")
    terminal, its_end = pty.openpty()
    environment = os.environ | {"TERM": "dumb", "HOME": str(tmp_path)}  # dumb: no line editor
    with subprocess.Popen(
        [str(program), "-p", str(shared_godis.port)], stdin=its_end, stdout=its_end, stderr=its_end, env=environment
    ) as process:
        try:
            read_until(terminal, b"> ")
            os.write(terminal, b"help client no-touch\n")
            shown = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", read_until(terminal, b"group:"))
            assert b"CLIENT NO-TOUCH ON|OFF" in shown
            assert TABLE[b"CLIENT"].subcommands[b"NO-TOUCH"].summary.encode() in shown
            assert b"since: 7.2.0" in shown
        finally:
            process.kill()
            os.close(terminal)
            os.close(its_end)


# ---- the page


def test_the_page_of_commands_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["render"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made, "run: python docs/make_commands.py"


def test_the_page_names_every_command_once() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for row in ROWS:
        if not row.subcommands:
            name = row.name.decode().replace("|", " ")
            assert len(re.findall(rf"^\| `{name}[ `]", page, re.MULTILINE)) == 1, name
    assert "*Differs from Redis: without a time to live" in page
