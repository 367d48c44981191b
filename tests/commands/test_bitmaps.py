"""What the commands on bitmaps answer and log, and that a long bitmap is neither copied nor in anybody's way."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator
from random import Random
from typing import Any

import pytest
from fakes import answers_and_logs
from instances import Bench, Client, driven, run_all, run_one, state_of, work_of
from tables import for_each

import errors
from errors import CommandError
from replies import LongArray
from values import LongString, rebuild
from values.entry import NO_DEADLINE

MEBIBYTE = 1 << 20
LAST_BIT = 2**32 - 1


def asked(client: Client, line: str) -> Any:
    """Return the reply to a line, of an error the text."""
    argv = [word.encode("latin-1").decode("unicode_escape").encode("latin-1") for word in line.split()]
    reply = client.ask(*argv)
    return reply.text if isinstance(reply, CommandError) else reply


CASES: list[tuple[str, str, Any, list[str]]] = [  # before, command, reply, effects
    ("", "SETBIT k 7 1", 0, ["SETBIT k 7 1"]),
    ("SETBIT k 7 1", "GET k", b"\x01", []),
    ("SETBIT k 7 1", "SETBIT k 7 1", 1, []),
    ("SETBIT k 7 1", "SETBIT k 7 0", 1, ["SETBIT k 7 0"]),
    ("SETBIT k 7 1", "SETBIT k 15 0", 0, ["SETBIT k 15 0"]),
    ("SETBIT k 7 1; SETBIT k 15 0", "STRLEN k", 2, []),
    ("", "SETBIT k 4294967296 1", errors.BIT_OFFSET, []),
    ("", "SETBIT k -1 1", errors.BIT_OFFSET, []),
    ("", "SETBIT k x 2", errors.BIT_OFFSET, []),
    ("", "SETBIT k 1 2", errors.NOT_A_BIT, []),
    ("", "EXISTS k", 0, []),
    ("SET k a EX 100", "SETBIT k 6 1", 0, ["SETBIT k 6 1"]),
    ("SET k a EX 100; SETBIT k 6 1", "TTL k", 100, []),
    ("", "GETBIT k 4294967295", 0, []),
    ("SET k a", "GETBIT k 1", 1, []),
    ("SET k a", "GETBIT k 100", 0, []),
    ("", "BITCOUNT k x y", 0, []),
    ("SET k foobar", "BITCOUNT k", 26, []),
    ("SET k foobar", "BITCOUNT k 1 1", 6, []),
    ("SET k foobar", "BITCOUNT k 5 30 BIT", 17, []),
    ("SET k foobar", "BITCOUNT k 0", errors.SYNTAX, []),
    ("SET k foobar", "BITCOUNT k -1 -2 junk", 0, []),
    ("SET k foobar", "BITCOUNT k 0 1 junk", errors.SYNTAX, []),
    ("", "BITPOS k 2", errors.BIT_NOT_0_OR_1, []),
    ("", "BITPOS k 1", -1, []),
    ("", "BITPOS k 0", 0, []),
    (r'SET k "\xff\xf0\x00"', "BITPOS k 0", 12, []),
    (r'SET k "\x00\xff\xf0"', "BITPOS k 1 0", 8, []),
    (r'SET k "\x00\xff\xf0"', "BITPOS k 1 7 15 BIT", 8, []),
    (r'SET k "\xff\xff"', "BITPOS k 0", 16, []),
    (r'SET k "\xff\xff"', "BITPOS k 0 0 -1", -1, []),
    (r'SET k "\xff\xff"', "BITPOS k 0 1", 16, []),
    (r'SET k "\xff\xff"', "BITPOS k 0 5", -1, []),
    ("SET a abc; SET b ac", "BITOP AND d a b", 3, ["BITOP AND d a b"]),
    ("SET a abc; SET b ac; BITOP AND d a b", "GET d", b"ab\0", []),
    ("SET a abc; SET b ac; BITOP OR d a b", "GET d", b"acc", []),
    ("SET a abc; SET b ac; BITOP XOR d a b", "GET d", b"\0\1c", []),
    ("SET a abc; BITOP NOT d a", "GET d", b"\x9e\x9d\x9c", []),
    ("SET a abc; SET d v EX 100; BITOP OR d a", "TTL d", -1, []),
    ("SET a abc; SET b bc; SET c 12345", "BITOP DIFF d a b c", 5, ["SET d \0\0@\0\0"]),
    ("SET a abc; SET b bc; SET c 12345; BITOP DIFF1 d a b c", "GET d", b"\x12\x11\x1045", []),
    ("SET a abc; SET b bc; BITOP ANDOR d a b zz", "GET d", b"`b\0", []),
    ("SET a abc; SET b bc; SET c 12345; BITOP ONE d a b c", "GET d", b"\x12\x11P45", []),
    ("SET a abc", "BITOP ONE d a", 3, ["SET d abc"]),
    ("SET a abc", "BITOP diff1 d a", errors.BITOP_TWO_SOURCES % b"DIFF1", []),
    ("", "BITOP DIFF d a b", 0, []),
    ("SET d v", "BITOP AND d a b", 0, ["DEL d"]),
    ("", "BITOP AND d a b", 0, []),
    ("", "BITOP NAND d a", errors.SYNTAX, []),
    ("", "BITOP NOT d a b", errors.BITOP_NOT, []),
    (
        "",
        "BITFIELD k SET i8 0 -1 GET u4 4 INCRBY u2 10 1",
        [0, 15, 1],
        ["BITFIELD k SET i8 0 -1 GET u4 4 INCRBY u2 10 1"],
    ),
    ("", "BITFIELD k GET u8 100", [0], []),
    ("", "BITFIELD k", [], []),
    ("SET k a", "BITFIELD k SET u8 0 97", [97], []),
    ("SET k a", "BITFIELD k SET u8 8 0", [0], ["BITFIELD k SET u8 8 0"]),
    ("", "BITFIELD k OVERFLOW FAIL INCRBY u2 0 9", [None], ["BITFIELD k OVERFLOW FAIL INCRBY u2 0 9"]),
    ("SET k a", "BITFIELD k OVERFLOW FAIL INCRBY u2 0 9", [None], []),
    (
        "SET k a",
        "BITFIELD k OVERFLOW SAT SET u4 0 -5 GET u4 0",
        [6, 15],
        ["BITFIELD k OVERFLOW SAT SET u4 0 -5 GET u4 0"],
    ),
    (
        "SET k a",
        "BITFIELD k OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0",
        [97, 127],
        ["BITFIELD k OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0"],
    ),
    ("SET k a", "BITFIELD k INCRBY i4 #1 9", [-6], ["BITFIELD k INCRBY i4 #1 9"]),
    ("", "BITFIELD k GET u64 0", errors.BITFIELD_TYPE, []),
    ("", "BITFIELD k SET u8 0 1 GET i65 0", errors.BITFIELD_TYPE, []),
    ("", "BITFIELD k OVERFLOW x", errors.OVERFLOW_TYPE, []),
    ("", "BITFIELD k GET u8", errors.SYNTAX, []),
    ("", "BITFIELD k GET u8 #536870912", errors.BIT_OFFSET, []),
    ("", "BITFIELD_RO k SET u8 0 1", errors.BITFIELD_READ_ONLY, []),
    ("SET k a", "BITFIELD_RO k GET u8 0 GET i3 1", [97, -2], []),
]
WRONG_TYPE = [
    *("SETBIT l 0 1", "GETBIT l 0", "BITCOUNT l", "BITPOS l 1", "BITOP OR d l", "BITOP NOT d l"),
    *("BITFIELD l SET u8 0 1", "BITFIELD l GET u8 0", "BITFIELD_RO l GET u8 0"),
]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: Any, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


@for_each("line", WRONG_TYPE)
def test_a_value_of_another_type_is_refused(line: str) -> None:
    bench = Bench()
    client = bench.connect()
    bench.store.databases[0].put(b"l", [], NO_DEADLINE)
    assert asked(client, line) == errors.WRONG_TYPE
    assert asked(client, "EXISTS d") == 0


@pytest.mark.parametrize("size", [0, 3, 100, 65_000, 66_000, 300_000])
def test_a_pipeline_does_what_its_requests_do_one_by_one(size: int) -> None:
    chance = Random(size)
    one, other = Bench(default_ttl="0"), Bench(default_ttl="0")
    sessions = one.new_session(), other.new_session()
    for bench, session in zip((one, other), sessions, strict=True):
        run_one(bench.engine, session, [b"SET", b"a", bytes(size)])
        run_one(bench.engine, session, [b"COPY", b"a", b"kept"])
    for number in range(40):
        keys = [b"a"] if number % 4 else [b"a", b"b"]
        places = [b"%d" % chance.randrange(size * 9 + 9) for _ in range(15)] + [
            chance.choice([b"07", b"x", b"0", b"1"])
        ]
        bits = [*chance.choices([b"0", b"1"], k=15), chance.choice([b"0", b"1", b"2"])]
        requests = [[b"SETBIT", chance.choice(keys), *words] for words in zip(places, bits, strict=True)]
        together = run_all(one.engine, sessions[0], requests)
        single = [run_one(other.engine, sessions[1], argv) for argv in requests]
        assert [getattr(each, "text", each) for each in together] == [getattr(each, "text", each) for each in single]
        assert one.log.records == other.log.records
    assert state_of(one.store) == state_of(other.store)
    assert content(one, "kept") == bytes(size)


# ---- long bitmaps


def test_a_bit_far_away_takes_little_memory_and_every_command_reads_it() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    tracemalloc.start()
    try:
        assert asked(client, f"SETBIT k {LAST_BIT} 1") == 0
        assert asked(client, "SETBIT k 5 1") == 0
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MEBIBYTE
    assert asked(client, f"GETBIT k {LAST_BIT}") == 1
    assert asked(client, "STRLEN k") == 512 * MEBIBYTE
    assert asked(client, "GETRANGE k -2 -1") == b"\0\1"
    assert asked(client, "TYPE k") == b"string"
    assert asked(client, "OBJECT ENCODING k") == b"raw"
    assert asked(client, f"BITFIELD k GET u8 {LAST_BIT - 7} GET u1 5") == [1, 1]
    assert asked(client, "INCR k") == errors.NOT_AN_INTEGER
    assert asked(client, "COPY k c") == 1
    assert asked(client, "SETBIT c 5 0") == 1
    assert [asked(client, f"GETBIT {key} 5") for key in "kc"] == [1, 0]
    assert asked(client, "APPEND k x") == errors.STRING_TOO_LONG
    whole = client.ask("GET", "k")
    asked(client, "SETBIT k 5 0")
    assert len(whole) == 512 * MEBIBYTE
    assert next(whole.pieces())[:1] == b"\x04", "a reply does not change"


@pytest.mark.parametrize("line", ["SETBIT k 100 1", "BITFIELD k SET u8 100 1", "SETRANGE k 100 x", "APPEND k x"])
def test_a_write_to_a_long_string_copies_some_chunks_at_most(line: str) -> None:
    client = Bench(default_ttl="0").connect()
    client.ask("SET", "k", bytes(64 * MEBIBYTE))
    tracemalloc.start()
    try:
        for _ in range(3):
            asked(client, line)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3 * MEBIBYTE


SOURCES = ["a", "b", "c", "none", "long", "short"]


def long_strings(seed: int) -> Bench:
    bench = Bench(default_ttl="0")
    client, chance = bench.connect(), Random(seed)
    for key in SOURCES[:3]:
        client.ask("SET", key, chance.choice([b"\0", b"\xff", b"\x10"]) * (6 * MEBIBYTE - chance.randrange(3)))
        for _ in range(chance.randrange(3)):
            client.ask("SETBIT", key, str(chance.randrange(48 * MEBIBYTE)), chance.choice("01"))
    client.ask("SETBIT", "long", str(50 * MEBIBYTE), "1")
    client.ask("SET", "short", chance.randbytes(100))
    return bench


def content(bench: Bench, key: str) -> bytes:
    return bytes(bench.store.databases[0].get(key.encode()) or b"")


@pytest.mark.parametrize("seed", range(3))
def test_long_bitmaps_are_counted_searched_and_combined_in_slices(seed: int) -> None:
    bench, chance = long_strings(seed), Random(seed)
    session = bench.new_session()
    for key in SOURCES[:3]:
        value = content(bench, key)
        bits = int.from_bytes(value, "big")
        count, steps = driven(work_of(run_one(bench.engine, session, [b"BITCOUNT", key.encode()])))
        assert count == bits.bit_count()
        assert steps > 40
        first, last = sorted(chance.sample(range(8 * len(value)), 2))
        first, last = first // 20, 8 * len(value) - last // 20
        words = [b"BITCOUNT", key.encode(), b"%d" % first, b"%d" % (last - 1), b"BIT"]
        count, _ = driven(work_of(run_one(bench.engine, session, words)))
        assert count == (bits >> (8 * len(value) - last) & (1 << (last - first)) - 1).bit_count()
        for bit, wanted in ((b"1", bits), (b"0", bits ^ (1 << 8 * len(value)) - 1)):
            found, _ = driven(work_of(run_one(bench.engine, session, [b"BITPOS", key.encode(), bit, b"0", b"-1"])))
            assert found == (8 * len(value) - wanted.bit_length() if wanted else -1)
    for operation in (b"AND", b"OR", b"XOR", b"NOT"):
        keys = chance.sample(SOURCES[:3], 1) + (chance.sample(SOURCES, 3) if operation != b"NOT" else [])
        values = [content(bench, key) for key in keys]
        size = max(map(len, values))
        numbers = [int.from_bytes(value.ljust(size, b"\0"), "big") for value in values]
        expected = numbers[0] if operation != b"NOT" else numbers[0] ^ (1 << 8 * size) - 1
        for number in numbers[1:]:
            expected = {b"AND": expected & number, b"OR": expected | number, b"XOR": expected ^ number}[operation]
        work = work_of(run_one(bench.engine, session, [b"BITOP", operation, b"d", *map(str.encode, keys)]))
        reply, steps = driven(work)
        assert (reply, steps > 90) == (size, True)
        assert content(bench, "d") == expected.to_bytes(size, "big")
        bench.store.databases[0].check()


def test_a_read_in_slices_reads_the_string_as_it_was() -> None:
    bench = Bench(default_ttl="0")
    client, session = bench.connect(), bench.new_session()
    asked(client, f"SETBIT k {64 * MEBIBYTE} 1")
    places = iter(range(64 * MEBIBYTE))
    work = work_of(run_one(bench.engine, session, [b"BITCOUNT", b"k"]))
    assert driven(work, lambda: asked(client, f"SETBIT k {64 * MEBIBYTE - next(places)} 1"))[0] == 1
    work = work_of(run_one(bench.engine, session, [b"GETRANGE", b"k", b"1", b"-1"]))
    part, _ = driven(work, lambda: asked(client, "DEL k"))
    assert (type(part), len(part)) == (LongString, 8 * MEBIBYTE)


def test_a_bitfield_of_thousands_of_operations_runs_in_slices_and_is_logged_in_parts() -> None:
    bench = Bench(default_ttl="0")
    session = bench.new_session()
    argv = [b"BITFIELD", b"k", b"OVERFLOW", b"SAT"]
    for number in range(2000):
        argv += [b"INCRBY", b"u3", b"#%d" % (number % 700), b"%d" % (number % 5)]
        argv += [b"OVERFLOW", b"FAIL"] if number == 1000 else []
    reply, steps = driven(work_of(run_one(bench.engine, session, argv.copy())))
    assert steps > 20
    assert isinstance(reply, LongArray)
    assert len(reply.members()) == 2000
    assert None in reply.members()
    assert len(bench.log.records) > 10
    replayed = Bench(default_ttl="0")
    for effect in bench.log.records:
        replayed.engine.apply(0, effect)
    assert state_of(replayed.store) == state_of(bench.store)


def test_an_error_in_a_long_bitfield_changes_nothing() -> None:
    bench = Bench(default_ttl="0")
    argv = [b"BITFIELD", b"k", *[b"SET", b"u8", b"0", b"1"] * 1000, b"SET"]
    with pytest.raises(CommandError, match="syntax"):
        driven(work_of(run_one(bench.engine, bench.new_session(), argv)))
    assert not state_of(bench.store)


def test_a_bitop_of_thousands_of_keys_is_logged_as_its_result() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("SET", "k7", "abc")
    keys = [b"k%d" % number for number in range(3000)]
    reply, _ = driven(work_of(run_one(bench.engine, bench.new_session(), [b"BITOP", b"OR", b"d", *keys])))
    assert reply == 3
    assert bench.log.records[-1] == [b"SET", b"d", b"abc"]


def test_a_long_bitmap_is_dumped_and_restored() -> None:
    bench = Bench(default_ttl="0")
    client, session = bench.connect(), bench.new_session()
    for bit in (5, 10**6, 10**7):
        client.ask("SETBIT", "k", str(bit), "1")
    dumped = run_one(bench.engine, session, [b"DUMP", b"k"])
    dumped = driven(dumped)[0] if isinstance(dumped, Generator) else dumped
    restored = run_one(bench.engine, session, [b"RESTORE", b"r", b"0", bytes(dumped)])
    if isinstance(restored, Generator):
        driven(restored)
    assert content(bench, "r") == content(bench, "k")
    assert len(content(bench, "k")) == 10**7 // 8 + 1


def test_what_a_rewrite_writes_of_a_sparse_bitmap_is_short() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for bit in (0, 10**9, LAST_BIT):
        client.ask("SETBIT", "k", str(bit), "1")
    value = bench.store.databases[0].get(b"k")
    assert sum(len(word) for argv in rebuild(b"k", value, NO_DEADLINE) for word in argv) < MEBIBYTE
