"""INFO keysizes: how long the values of all keys are."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from instances import Bench, driven
from servers import GodisProcess, NewerRedisProcess, parse
from tables import for_each

from commands.key_sizes import _label

WRITES = (
    "SET empty ''",
    *[f"SETRANGE s{size} {size - 1} x" for size in (1, 2, 3, 4, 7, 8, 1023, 1024, 2047, 2048, 1_100_000)],
    "SET number 12345678901",
    "PFADD sketch a",
    "RPUSH l 1 2 3",
    "RPUSH other a",
    "SADD s 1 2 3 4",
    "SADD text a b c d e f g",
    "ZADD z 1 a",
    "HSET h f v g v",
    "XADD stream * f v",
    "SELECT 3",
    "HSET h f v",
)


def test_lengths_are_counted_as_redis_8_counts_them(shared_godis: GodisProcess, newer_redis: NewerRedisProcess) -> None:
    texts = []
    for server in (shared_godis, newer_redis):
        with server.raw() as client:
            client.ask("FLUSHALL")
            for line in WRITES:
                assert not client.ask(*["" if word == "''" else word for word in line.split()]).startswith(b"-")
            texts.append(parse(client.ask("INFO", "keysizes")))
            client.ask("FLUSHALL")
    assert texts[0] == texts[1]
    assert texts[0].count(b"db0_distrib_") == 5


@for_each(
    ("sections", "is_shown"),
    [([], False), (["all"], False), (["everything"], False), (["KEYSIZES"], True), (["cpu", "keysizes"], True)],
)
def test_they_are_counted_where_they_are_asked_for_by_name(sections: list[str], is_shown: bool) -> None:
    bench = Bench()
    client = bench.connect()
    client.ask("SET", "k", "v")
    reply: Any = client.ask("INFO", *sections)
    assert isinstance(reply, Generator) == is_shown
    text = driven(reply)[0] if is_shown else reply
    assert (b"# Keysizes\r\ndb0_distrib_strings_sizes:1=1\r\n" in text) == is_shown


def test_a_large_keyspace_is_counted_in_slices(bench: Bench) -> None:
    client = bench.connect()
    client.ask("MSET", *[word for number in range(1000) for word in (f"key:{number}", "value")])
    text, steps = driven(client.ask("INFO", "keysizes"), lambda: client.ask("DEL", "key:999"))
    assert steps > 3
    assert text == b"# Keysizes\r\ndb0_distrib_strings_sizes:4=999\r\n"


@for_each(("bits", "label"), [(0, "0"), (1, "1"), (10, "512"), (11, "1K"), (20, "512K"), (21, "1M"), (31, "1G")])
def test_a_length_is_written_with_its_unit(bits: int, label: str) -> None:
    assert _label(bits) == label
