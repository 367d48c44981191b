"""Requests of thousands of options, and huge words where short ones belong: what is answered, and at which cost.

Cost is counted, not timed: the instructions that Python executes until a command or a slice of it ends, and the bytes
of a long word that are looked at. `bench.hostile` measures how long others wait.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest
from instances import Bench, Client
from servers import Failure, GodisProcess, Raw, encode, parse

from commands import Command, fold
from commands.introspection import all_rows
from commands.many import AT_ONCE_WORDS
from commands.slices import at_once
from errors import INTERNAL, QUOTED_BYTES, CommandError
from replies import OK, WAIT, Reply
from session import Pause

WORDS = 10_000
MOST_INSTRUCTIONS = 20_000  # in one go, about a millisecond: less than any loop over all words takes
SLICES = 20  # that are looked at
LONG = 1 << 20


def run(client: Client, argv: list[bytes]) -> Reply:
    """Execute a request as a connection does, to its reply."""
    reply = client.bench.engine.execute(client.session, argv)
    while reply is WAIT and client.session.work is not None:
        work, client.session.work = client.session.work, None
        try:
            reply = at_once(work)
        except CommandError as error:
            return error
        if reply is WAIT:
            reply = client.bench.engine.execute(client.session, argv)
    return reply


# ---- how much is done at once


class Counter:
    """Counts the instructions that are executed in one go."""

    def __init__(self) -> None:
        self.count = 0

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.count += event == "opcode"
        return self._trace

    def during(self, job: Callable[[], Any]) -> Any:
        """Do something, counted."""
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # for Python 3.12, which else traces no instruction of any frame
        sys.settrace(self._trace)
        try:
            return job()
        finally:
            sys.settrace(before)


def test_a_loop_over_all_words_is_more_than_what_may_be_done_in_one_go() -> None:
    counter = Counter()
    words = [b"x"] * WORDS
    counter.during(lambda: {fold(word) for word in words})
    assert counter.count > MOST_INSTRUCTIONS
    counter.count = 0
    counter.during(lambda: list(map(len, words)))
    assert counter.count < MOST_INSTRUCTIONS


def options_of(row: Command) -> list[list[bytes]]:
    """Return what may be repeated behind a command: each of its options, alone and with values, and junk."""
    names = sorted(set(re.findall(r"[A-Z]{2,}", row.syntax)))
    fillings = [[name.encode(), *values] for name in names for values in ([], [b"1"], [b"default", b"x"])]
    return [*fillings, [b"x"], [b"1"], [b"get"], [b"maxmemory", b"1"], [b"*"]]


def request_of(row: Command, filling: list[bytes]) -> list[bytes]:
    """Make a request with so many words that each loop over them shows."""
    first = [*row.name.split(b"|"), *(b"2" for name in row.syntax.partition("[")[0].split() if name.islower())]
    return first + filling * (WORDS // len(filling))


@pytest.mark.parametrize("row", [row for row in all_rows() if row.arity < 0], ids=lambda row: row.name.decode())
def test_no_command_reads_thousands_of_words_in_one_go(row: Command) -> None:
    for filling in options_of(row):
        bench = Bench()
        client = bench.connect()
        client.ask("SET", "2", "v")
        argv = request_of(row, filling)
        counter = Counter()
        reply = counter.during(partial(bench.engine.execute, client.session, argv))
        assert counter.count < MOST_INSTRUCTIONS, filling
        if reply is WAIT:
            work = client.session.work
            assert work is not None
            with suppress(CommandError, StopIteration):
                for _ in range(SLICES):
                    counter.count = 0
                    try:
                        counter.during(partial(next, work))
                    finally:
                        assert counter.count < MOST_INSTRUCTIONS, filling


# ---- what is answered

REPEATED = """
SET k v | EX 100 | EX x | EX 50
SET k v | EX 100 | PX 100
SET k v | GET | keepttl | GET
SET k w | NX | GET | NX
SET k v | XX | NX
SET k v | XX | EX
SET k v | XX | junk
GETEX k | EX 100 | EX 70
GETEX k | EX 100 | PERSIST
GETEX k | PERSIST
EXPIRE k 100 | NX | nosuch
EXPIRE k 100 | GT | LT
EXPIRE k 100 | NX | nx
PEXPIREAT k junk | XX | NX
SCAN 0 | COUNT 1 | COUNT junk | COUNT 10
SCAN 0 | COUNT 1 | COUNT 10 | MATCH nothing | MATCH k*
SCAN junk | COUNT junk
SCAN 0 | MATCH * | TYPE string | TYPE
LCS k k2 | MINMATCHLEN 1 | MINMATCHLEN x | IDX
LCS k k2 | IDX | LEN
LCS k k2 | LEN
LCS k k2 | IDX | WITHMATCHLEN | MINMATCHLEN 2
COPY k k3 | DB 1 | DB x | DB 0
COPY k k3 | DB 1 | DB 0
COPY k k2 | REPLACE | DB
COPY k k2 | REPLACE
HELLO 2 | SETNAME a | SETNAME b
HELLO 2 | SETNAME \xfc | SETNAME b
HELLO 2 | AUTH default x | AUTH default
CLIENT KILL | ID 999999 | ID 0 | ID 999998
CLIENT KILL | TYPE normal | ID 999999
CLIENT KILL | SKIPME yes | SKIPME maybe
MEMORY USAGE nokey | SAMPLES 1 | SAMPLES 2
MEMORY USAGE k | SAMPLES 1 | SAMPLES x | SAMPLES 1
SHUTDOWN | ABORT | NOW
SHUTDOWN | NOSAVE | SAVE
SHUTDOWN | ABORT
INFO | nosuch | other
"""


def repeating(case: str) -> list[bytes]:
    """Make a request of a case: its first option said thousands of times, then each of the others."""
    first, option, *others = case.split(" | ")
    return " ".join([first, *[option] * AT_ONCE_WORDS, *others]).encode("latin-1").split()


@pytest.mark.parametrize("case", REPEATED.strip().splitlines())
def test_options_that_are_named_thousands_of_times_are_answered_as_redis_does(
    shared_godis: GodisProcess, real: Raw, case: str
) -> None:
    with shared_godis.raw() as ours:
        told = []
        for client in (ours, real):
            for words in (["RESET"], ["FLUSHALL"], ["SET", "k", "ohmytext"], ["SET", "k2", "mynewtext"]):
                client.ask(*words)
            client.ask("PERSIST", "k")
            reply = parse(client.ask(*repeating(case)))
            if case.startswith("SCAN") and not isinstance(reply, Failure):
                reply = reply[0], sorted(reply[1])
            if case.startswith("HELLO") and not isinstance(reply, Failure):
                reply = reply[::2]
            left = [client.ask(*words) for words in (["TTL", "k"], ["MGET", "k", "k2", "k3"], ["CLIENT", "GETNAME"])]
            told.append((reply, left))
        assert told[0] == told[1]


def test_a_request_that_was_made_shorter_waits_for_a_pause_that_began_meanwhile(bench: Bench) -> None:
    client = bench.connect()
    argv = [b"SET", b"k", b"v", *[b"EX", b"5"] * AT_ONCE_WORDS]
    assert bench.engine.execute(client.session, argv) is WAIT
    work, client.session.work = client.session.work, None
    assert work is not None
    next(work)
    bench.instance.set_pause(Pause(bench.store.now_ms + 1000, set_ms=bench.store.now_ms))
    assert at_once(work) is WAIT
    assert argv == [b"SET", b"k", b"v", b"EX", b"5"]
    assert bench.engine.execute(client.session, argv) is WAIT
    assert client.session.work is None
    bench.instance.set_pause(Pause())
    assert bench.engine.execute(client.session, argv) is OK
    assert client.ask("TTL", "k") == 5


def test_a_log_and_a_pool_may_hold_such_a_request(bench: Bench) -> None:
    argv = [b"SET", b"k", b"v", *[b"PXAT", b"4102444800000"] * AT_ONCE_WORDS]
    bench.engine.apply(0, argv.copy())
    assert bench.connect().ask("PEXPIRETIME", "k") == 4102444800000
    for last, kind in ((b"NX", type(None)), (b"junk", CommandError)):
        assert bench.engine.answer(0, [*argv, last]) is WAIT
        assert isinstance(at_once(bench.engine.answer_at_length(0, [*argv, last])), kind)


def test_others_are_served_while_options_are_read(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as busy, shared_godis.raw() as other:
        busy.ask("FLUSHALL")
        busy.send(encode("SET", "k", "v", *["EX", "5"] * 50_000))
        busy.sock.setblocking(False)
        served = 0
        reply = b""
        while not reply:
            try:
                reply = busy.sock.recv(100)
            except BlockingIOError:
                assert other.ask("PING") == b"+PONG\r\n"
                served += 1
        assert reply == b"+OK\r\n"
        assert served >= 10
        assert parse(other.ask("TTL", "k")) == 5


def test_the_last_filter_of_a_kind_counts_when_clients_are_killed(bench: Bench) -> None:
    client, first, second = bench.connect(), bench.connect(), bench.connect()
    argv = [b"CLIENT", b"KILL", *[b"ID", b"%d" % first.session.id] * 50_000, b"ID", b"%d" % second.session.id]
    assert run(client, argv) == 1
    assert bench.killed == [second.session]


# ---- long words


class LongWord(bytes):
    """A word of megabytes that nobody may look at whole; a slice of it may be looked at."""


def _refuse(*_: object) -> None:
    raise AssertionError("looked at whole")


for name in (
    *("__hash__", "__iter__", "__contains__", "__mod__", "__add__"),
    *("upper", "lower", "decode", "translate", "strip", "lstrip", "split", "partition", "isdigit", "replace"),
):
    setattr(LongWord, name, _refuse)


KEYS_AND_VALUES = {"key", "key1", "key2", "newkey", "source", "destination", "value", "message", "command", "arg"}


def places_of_short_words(row: Command) -> Iterator[list[bytes]]:
    """Make requests with a long word in each place, but for those of keys and values."""
    name = row.name.split(b"|")
    for place in range(len(name)):
        yield [LongWord(LONG) if at == place else word for at, word in enumerate(name)] + [b"2"] * (
            abs(row.arity) - len(name)
        )
    slots = row.syntax.partition("[")[0].split()
    for place, slot in enumerate(slots):
        if slot not in KEYS_AND_VALUES:
            yield [*name, *(LongWord(LONG) if at == place else b"2" for at in range(len(slots)))]
    for options in options_of(row) if row.arity < 0 else []:
        for place in range(len(options)):
            words = [LongWord(LONG) if at == place else word for at, word in enumerate(options)]
            yield [*name, *(b"2" for slot in slots if slot.islower()), *words]


@pytest.mark.parametrize("row", list(all_rows()), ids=lambda row: row.name.decode())
def test_a_word_of_megabytes_is_looked_at_only_where_it_is_a_key_or_a_value(row: Command) -> None:
    bench = Bench()
    client = bench.connect()
    client.ask("SET", "2", "v")
    for argv in places_of_short_words(row):
        if row.keys.last < 0 and row.keys.first:
            continue  # all its words are keys
        reply = bench.engine.execute_huge(client.session, list(argv))
        if reply is WAIT and client.session.work is not None:
            work, client.session.work = client.session.work, None
            with suppress(CommandError):
                at_once(work)
        assert not (isinstance(reply, CommandError) and reply.text == INTERNAL), [word[:20] for word in argv]
        assert not isinstance(reply, CommandError) or len(reply.text) < 1000 + QUOTED_BYTES
        client.session.reset()
