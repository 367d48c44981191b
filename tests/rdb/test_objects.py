"""Every type and encoding of a value: read as commands, written from commands, and the same to a real redis-server."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator
from contextlib import suppress
from struct import pack
from typing import Any, TypeVar

import old_forms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_forms import length, string
from old_values import ENTRIES, HAND_MADE, NEW_IDS, NEWER, OLD_CONSUMER, OLD_GROUP, PENDING, RAW_ID
from redis_values import SIZES, TYPES, ask_all, content, requests
from servers import Raw, parse
from soak import THOROUGHNESS
from tables import for_each

from rdb import objects
from rdb.payload import WrongChecksum, open_payload, seal
from rdb.source import BadFormat
from rdb.writer import serialize

T = TypeVar("T")


def done(work: Generator[Any, None, T]) -> T:
    """Run work to its end."""
    try:
        while True:
            next(work)
    except StopIteration as end:
        value: T = end.value
        return value


def read(payload: bytes, key: bytes = b"k") -> list[list[bytes]]:
    """Return the commands of a payload."""
    kind, source = done(open_payload(payload))
    return [command for command in objects.commands(kind, source, key) if command is not None]


def write(commands: list[list[bytes]]) -> bytes:
    """Return the payload of the value that commands make."""
    serialized = done(serialize(commands, 1_700_000_000_000))
    return bytes(done(seal(serialized.pieces, serialized.version)))


def words(commands: list[list[bytes]]) -> list[bytes]:
    """Return the words behind the key, of all commands."""
    return [each for command in commands for each in command[2:]]


@for_each(("kind", "body", "expected"), [*HAND_MADE, *NEWER])
def test_each_encoding_is_read_as_commands(kind: int, body: bytes, expected: list[list[bytes]]) -> None:
    assert read(old_forms.payload(kind, body)) == expected


@for_each(("kind", "body", "expected"), HAND_MADE)
def test_redis_reads_the_same_from_each_encoding(
    real: Raw, kind: int, body: bytes, expected: list[list[bytes]]
) -> None:
    real.ask("DEL", "k", "original")
    assert real.ask("RESTORE", "original", 0, old_forms.payload(kind, body)) == b"+OK\r\n"
    ask_all(real, expected)
    assert content(real, b"k") == content(real, b"original")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("elements", "size"), [("integers", size) for size in SIZES] + [("mixed", size) for size in SIZES[:-1]]
)
def test_what_redis_dumps_comes_back_both_ways(real: Raw, kind: str, elements: str, size: int) -> None:
    real.ask("DEL", "original", "k", "again")
    ask_all(real, requests(kind, size, elements, b"original"))
    commands = read(parse(real.ask("DUMP", "original")))
    ask_all(real, commands)
    assert content(real, b"k") == content(real, b"original")
    payload = write(commands)
    assert real.ask("RESTORE", "again", 0, payload) == b"+OK\r\n"
    assert content(real, b"again") == content(real, b"original")
    assert write(read(payload)) == payload


@pytest.mark.parametrize(
    "made",
    [
        [[b"XGROUP", b"CREATE", b"original", b"g", b"$", b"MKSTREAM"]],
        [[b"XADD", b"original", b"5-1", b"a", b"b"], [b"XDEL", b"original", b"5-1"]],
        [[b"XADD", b"original", b"5-1", b"a", b"b"], [b"XSETID", b"original", b"9-9"]],
        [[b"XADD", b"original", b"18446744073709551615-18446744073709551615", b"", b""]],
        [[b"XADD", b"original", b"1-1", b"a", b"b"], [b"XADD", b"original", b"18446744073709551615-0", b"a", b"c"]],
        [
            [b"XADD", b"original", b"1-1", b"a", b"b"],
            [b"XGROUP", b"CREATE", b"original", b"g", b"0"],
            [b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", b"original", b">"],
            [b"XDEL", b"original", b"1-1"],
        ],
    ],
)
def test_a_stream_with_few_or_no_entries_comes_back(real: Raw, made: list[list[bytes]]) -> None:
    real.ask("DEL", "original", "k", "again")
    ask_all(real, made)
    commands = read(parse(real.ask("DUMP", "original")))
    ask_all(real, commands)
    assert content(real, b"k") == content(real, b"original")
    assert real.ask("RESTORE", "again", 0, write(commands)) == b"+OK\r\n"
    assert content(real, b"again") == content(real, b"original")


def test_the_deadlines_of_fields_are_written_for_redis_7_4() -> None:
    commands = [
        [b"HSET", b"k", b"f", b"v", b"5", b"w"],
        [b"HPEXPIREAT", b"k", b"7000", b"FIELDS", b"1", b"5"],
        [b"HPEXPIREAT", b"k", b"9000", b"FIELDS", b"1", b"f"],
    ]
    payload = write(commands)
    assert payload[-10] == 12
    assert sorted(read(payload)) == sorted(commands)


@for_each(
    ("kind", "body", "reason"),
    [
        (8, b"", "no type of values with the number 8"),
        (22, b"", "no type of values"),
        (7, length(int.from_bytes(b"\x01" * 8, "big")), "the module"),
        (0, b"\x05abc", "ends too early"),
        (1, length(0), "is empty"),
        (1, length(3) + string(b"x"), "ends too early"),
        (1, b"\x81" + (2**40).to_bytes(8, "big") + string(b"x"), "ends too early"),
        (0, b"\xc3\x05\x50\x00" + b"\0" * 5, "cannot become that long"),
        (3, length(1) + string(b"a") + b"\xfd", "not a number"),
        (3, length(1) + string(b"a") + b"\x031_0", "not a number"),
        (5, length(1) + string(b"a") + pack("<d", float("nan")), "not a number"),
        (12, string(old_forms.ziplist([b"a", b"x"])), "not a number"),
        (12, string(old_forms.ziplist([b"a"])), "has no score"),
        (13, string(old_forms.ziplist([b"a"])), "has no value"),
        (16, string(old_forms.listpack([])), "is empty"),
        (18, length(1) + length(3) + string(b"x"), "no nodes of form 3"),
        (25, pack("<q", 1) + string(old_forms.listpack([b"f", b"v"])), "has no deadline"),
        (25, pack("<q", 1) + string(old_forms.listpack([b"f", b"v", b"x"])), "not a number"),
        (15, ENTRIES.replace(length(3) + length(1003), length(4) + length(1003)), "says that it has 4"),
        (15, ENTRIES.replace(length(1003), length(1001)) + length(0), "after its last one"),
        (15, ENTRIES + length(1) + OLD_GROUP + PENDING + length(0), "has no consumer"),
        (15, ENTRIES + length(1) + OLD_GROUP + length(0) + length(1) + OLD_CONSUMER + length(1) + RAW_ID, "its group"),
        (15, ENTRIES + length(2) + (OLD_GROUP + length(0) + length(0)) * 2, "two groups of one name"),
        (19, ENTRIES + NEW_IDS[:-1] + length(2) + length(0), "ever added"),
    ],
)
def test_a_bad_value_is_an_error_with_a_reason(kind: int, body: bytes, reason: str) -> None:
    with pytest.raises(BadFormat, match=reason):
        read(old_forms.payload(kind, body))


def test_the_name_of_a_module_is_told() -> None:
    name = "ReJSON-RL"
    number = 0
    for letter in name:
        number = number << 6 | objects.MODULE_NAME.index(letter)
    with pytest.raises(objects.ModuleValue, match=name):
        read(old_forms.payload(7, length(number << 10 | 3)))


def test_a_payload_that_is_cut_changed_or_newer_is_refused() -> None:
    good = old_forms.payload(0, string(b"text"))
    assert read(good) == [[b"SET", b"k", b"text"]]
    bad = [
        good[:-1],
        b"",
        b"\1" + good[1:],
        good[:-9] + b"\1" + good[-8:],
        old_forms.payload(0, string(b"text"), version=13),
    ]
    for payload in bad:
        with pytest.raises(WrongChecksum):
            read(payload)


GOOD = [(kind, body) for kind, body, _ in [*HAND_MADE, *NEWER]]


@settings(max_examples=100 * THOROUGHNESS, deadline=None)
@given(st.data())
def test_mutated_values_are_errors_or_commands(data: st.DataObject) -> None:
    kind, good = data.draw(st.sampled_from(GOOD))
    body = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(
            st.one_of(st.sampled_from([0, 1, 0x80, 0x81, 0xC3, 0xF0, 0xFE, 0xFF]), st.integers(0, 255))
        )
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body))) :]
    try:
        commands = read(old_forms.payload(data.draw(st.sampled_from([kind, kind, kind, 1, 14, 18])), bytes(body)))
    except BadFormat:
        return
    assert all(isinstance(each, bytes) for command in commands for each in command)


@for_each("kind", sorted(objects.READERS))
def test_lengths_that_lie_take_no_memory(kind: int) -> None:
    bodies = [
        b"\x81" + (2**40).to_bytes(8, "big") * 3,
        b"\x80\xff\xff\xff\xff" * 4,
        string(b"\xff\xff\xff\xff" * 4),
        length(1) + b"\x81" + (2**62).to_bytes(8, "big") * 9,
        pack("<q", 1) + b"\x81" + (2**40).to_bytes(8, "big") * 3,
    ]
    tracemalloc.start()
    try:
        for body in bodies:
            with suppress(BadFormat):  # to some types it is no length
                read(old_forms.payload(kind, body))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
