"""The memory that a pool's keys may take: what a write needs, and what the system lets a process have."""

from __future__ import annotations

from pathlib import Path

import old_forms
import pytest
from canonical import answer
from instances import Bench
from old_values import HAND_MADE
from tables import for_each

from commands import DENYOOM
from commands.introspection import all_rows
from errors import OUT_OF_MEMORY, POOL_VALUE_TOO_LARGE, CommandError
from pool import room
from pool.entry import MOST_BYTES
from session import Session

LARGE = "x" * 100_000
HASHES = {f"hash{size}": [f"f{number}" for number in range(2 * size)] for size in (5, 16, 340, 341)}
SETS = {f"set{size}": [f"m{number}" for number in range(size, 2 * size)] for size in (5, 16, 170, 340, 341, 2000)}
# Of each command that may take memory. There before are `old` (LARGE), `n` and `f` (numbers), HASHES, SETS and sorted
# sets of these, and lists: `short` just fits its compact form, `long` has packed chunks, `big` has one element,
# and `names` has `d` many times.
# `stream` has a group `g`.
WRITES = {
    "SET": [["new", LARGE], ["old", "v"], ["n", LARGE, "EX", "100"], ["n", LARGE, "IFEQ", "7"]],
    "SETEX": [["new", "100", LARGE], ["n", "100", LARGE]],
    "PSETEX": [["new", "100000", LARGE]],
    "SETNX": [["new", LARGE], ["old", "v"]],
    "GETSET": [["n", LARGE]],
    "MSET": [["new", LARGE, "n", LARGE], ["a", "1", "b", "2", "c", "3"]],
    "MSETNX": [["new", LARGE, "newer", LARGE]],
    "MSETEX": [["2", "new", LARGE, "newer", LARGE, "EX", "100"], ["1", "n", LARGE, "KEEPTTL"], ["1", "a", "1"]],
    "APPEND": [["old", LARGE], ["new", LARGE], ["n", "0"]],
    "SETRANGE": [
        ["new", "200000", "x"],
        ["old", "200000", LARGE],
        ["old", "3", "x"],
        ["new", "5", ""],
        ["n", "-1", "x"],
        ["old", "0", LARGE],
        ["new", "9000000", LARGE],
    ],
    "SETBIT": [
        ["new", "4000000000", "1"],
        ["old", "7", "1"],
        ["old", "900000", "1"],
        ["n", "500000", "1"],
        ["n", "x", "1"],
    ],
    "BITFIELD": [
        ["old", "SET", "u8", "0", "1"],
        ["old", *[word for place in range(9) for word in ("INCRBY", "i64", str(place * 600_000), "1")]],
        ["new", "SET", "u8", "10000", "1"],
        ["new", "GET", "u8", "10000"],
        ["n", "SET", "u0", "0", "1"],
    ],
    "PFADD": [["new", "a"], ["new", *map(str, range(1900))], ["n", "a"]],
    "PFMERGE": [["new", "newer"], ["n", "new"]],
    "BITOP": [["NOT", "new", "old"], ["AND", "new", "n", "f"], ["OR", "old", "old", "n"], ["AND", "new", "none"]],
    "COPY": [["old", "new"], ["old", "n", "REPLACE"], ["none", "new"], ["n", "new"]],
    "LPUSH": [["new", "v"], ["short", LARGE], ["long", LARGE], ["long", "v"]],
    "RPUSH": [
        ["new", "v"],
        ["new", LARGE, "v"],
        ["short", LARGE],
        ["short", "v"],
        ["long", "v"],
        ["long", *["v"] * 500],
    ],
    "LPUSHX": [["new", "v"], ["short", "v"], ["long", LARGE]],
    "RPUSHX": [["new", "v"], ["short", "v"], ["long", LARGE]],
    "LSET": [["short", "0", LARGE], ["long", "200", "v"], ["long", "200", LARGE], ["long", "0", LARGE]],
    "LINSERT": [["short", "BEFORE", "5", LARGE], ["long", "BEFORE", "200", "v"], ["long", "AFTER", "200", LARGE]],
    "BLMOVE": [["short", "new", "LEFT", "LEFT", "0"], ["none", "new", "LEFT", "LEFT", "0"]],
    "BRPOPLPUSH": [["short", "new", "0"]],
    "LMOVE": [["short", "new", "LEFT", "LEFT"], ["big", "new", "LEFT", "LEFT"], ["big", "short", "LEFT", "RIGHT"]],
    "SORT": [
        ["long", "STORE", "new"],
        ["long", "BY", "#", "GET", "#", "GET", "old", "GET", "ol*", "STORE", "new"],
        ["names", "BY", "#", "GET", "ol*", "GET", "#", "STORE", "old"],
        ["set2000", "ALPHA", "STORE", "new"],
        ["long"],
    ],
    "RPOPLPUSH": [["short", "new"], ["big", "new"], ["long", "long"]],
    "INCR": [["new"], ["n"]],
    "DECR": [["new"]],
    "INCRBY": [["new", "1000"]],
    "DECRBY": [["new", "1000"]],
    "INCRBYFLOAT": [["new", "1.5"], ["f", "0.25"]],
    "HSET": [
        ["new", "field", "value"],
        ["new", *(f"f{number}" for number in range(400))],
        ["new", "field", LARGE, LARGE, "value"],
        *([name, "field", "value"] for name in HASHES),
        *([name, *map(str, range(800))] for name in HASHES),
        *([name, "f1", "a-longer-value"] for name in HASHES),
    ],
    "HMSET": [["new", "field", "value"], ["hash16", *map(str, range(800))]],
    "HSETNX": [["new", "field", "value"], *([name, "field", LARGE] for name in HASHES)],
    "HINCRBY": [["new", "field", "1"], *([name, "field", "1"] for name in HASHES)],
    "HINCRBYFLOAT": [["new", "field", "0.1"], *([name, "field", "1e300"] for name in HASHES)],
    **{
        command: [
            [name, "9000000000", "FIELDS", str(count), *names[: 2 * count : 2]]
            for name, names in HASHES.items()
            for count in (1, len(names) // 2)
        ]
        for command in ("HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT")
    },
    "HSETEX": [
        ["new", "EX", "100", "FIELDS", "1", "field", LARGE],
        ["new", "EX", "100", "FIELDS", "400", *(f"f{number}" for number in range(800))],
        *([name, "EX", "100", "FIELDS", "1", "field", "value"] for name in HASHES),
        *([name, "EX", "100", "FIELDS", str(len(HASHES[name]) // 2), *HASHES[name]] for name in HASHES),
    ],
    "SADD": [
        ["new", "member"],
        ["new", LARGE, *map(str, range(400))],
        ["new", *map(str, range(3000))],
        *([name, "member"] for name in SETS),
        *([name, *map(str, range(800))] for name in SETS),
    ],
    "ZADD": [
        ["new", "1", "member"],
        ["new", "1", LARGE, *(word for number in range(400) for word in (str(number), f"m{number}"))],
        ["new", *(word for number in range(1500) for word in (str(number), f"m{number}"))],
        *(["sorted-" + name, "5", "member"] for name in SETS),
        *(["sorted-" + name, *(word for number in range(400) for word in ("1.5", f"n{number}"))] for name in SETS),
    ],
    "ZINCRBY": [["new", "1", "member"], *(["sorted-" + name, "5", "member"] for name in SETS)],
    "GEOADD": [
        ["new", "1", "2", "member"],
        ["new", *(word for number in range(1000) for word in ("1", "2", f"m{number}"))],
        *(["sorted-" + name, "1", "2", "member"] for name in SETS),
    ],
    "GEOSEARCHSTORE": [
        *(
            ["new", "sorted-" + name, "FROMLONLAT", "0", "0", "BYRADIUS", "1e9", "m", *option]
            for name in SETS
            for option in ([], ["STOREDIST"])
        ),
        ["n", "none", "FROMLONLAT", "0", "0", "BYRADIUS", "1e9", "m"],
    ],
    "GEORADIUS": [["sorted-" + name, "0", "0", "1e9", "m", "STORE", "new"] for name in SETS],
    "GEORADIUSBYMEMBER": [["sorted-" + name, f"m{name[3:]}", "1e9", "m", "STOREDIST", "n"] for name in SETS],
    "ZRANGESTORE": [*(["new", "sorted-" + name, "0", "-1"] for name in SETS), ["new", "none", "0", "1"]],
    "ZUNIONSTORE": [
        ["new", str(len(SETS)), *SETS],
        ["new", "2", "set341", "sorted-set2000"],
        *(["new", "1", name] for name in SETS),
        ["n", "2", "set5", "sorted-set16"],
        ["new", "300", *["set16"] * 300],
    ],
    "ZINTERSTORE": [["new", "2", "set341", "set2000"], ["n", "2", "sorted-set16", "set16"], ["new", "1", "none"]],
    "ZDIFFSTORE": [["new", "2", "set2000", "set16"], ["new", "1", "sorted-set341"], ["n", "2", "none", "set16"]],
    "SUNIONSTORE": [["new", *SETS], ["set16", "set16", "set5"], ["n", "set341"], ["new", *["set16"] * 300]],
    "SINTERSTORE": [["new", "set341", "set2000"], ["new", "none", "set16"], ["n", "set16", "set16"]],
    "SDIFFSTORE": [["new", "set2000", "set16"], ["new", "set341"], ["n", "none", "set16"]],
    "XADD": [
        ["new", "*", "f", "v"],
        ["new", "1-1", "f", LARGE],
        ["stream", "9-*", *map(str, range(200))],
        ["stream", "MAXLEN", "5", "9", "f", LARGE],
    ],
    "XSETID": [["stream", "99"]],
    "FUNCTION LOAD": [["#!lua name=lib\nredis.register_function('f', function() end)"]],  # no keys take memory for it
    "FUNCTION RESTORE": [[old_forms.payload(245, old_forms.string(b"#!lua name=x\n")).decode("latin-1")]],
    "XGROUP CREATE": [["new", "group", "$", "MKSTREAM"], ["stream", "group", "0"]],
    "XGROUP CREATECONSUMER": [["stream", "g", "consumer"]],
    "XREADGROUP": [["GROUP", "g", "consumer", "STREAMS", "stream", ">"]],
    "XCLAIM": [["stream", "g", "consumer", "0", *map(str, range(1, 40)), "FORCE"]],
}
PAYLOADS = [
    old_forms.payload(0, old_forms.string(LARGE.encode())),
    old_forms.payload(0, old_forms.compressed(LARGE.encode())),
    old_forms.payload(0, b"\xc3\x05"),
    old_forms.payload(11, old_forms.string(old_forms.intset(range(1000), 2))),
    old_forms.payload(16, old_forms.compressed(old_forms.listpack([b"%05d" % (each // 2) for each in range(256)]))),
    *[old_forms.payload(kind, body) for kind, body, _ in HAND_MADE],
]
WRITES["RESTORE"] = [["n", "0", payload.decode("latin-1"), "REPLACE"] for payload in PAYLOADS]
CASES = [[*name.split(), *words] for name, examples in WRITES.items() for words in examples]


def test_each_command_that_may_take_memory_has_an_example() -> None:
    assert set(WRITES) >= {row.name.decode().replace("|", " ") for row in all_rows() if row.flags & DENYOOM}


@for_each("words", CASES, ids=lambda words: " ".join(words)[:30])
def test_no_write_takes_more_than_is_reserved_for_it(words: list[str]) -> None:
    bench = Bench(maxmemory="1gb")
    client = bench.connect()
    client.ask("MSET", "old", LARGE, "n", "7", "f", "1.25")
    for name, fields in HASHES.items():
        client.ask("HSET", name, *fields)
    for name, members in SETS.items():
        client.ask("SADD", name, *members)
        client.ask("ZUNIONSTORE", f"sorted-{name}", "1", name)
    client.ask("RPUSH", "short", *range(16))
    client.ask("RPUSH", "long", *range(500))
    client.ask("RPUSH", "big", LARGE)
    for number in range(1, 30):
        client.ask("XADD", "stream", number, "f", "v")
    client.ask("XGROUP", "CREATE", "stream", "g", "0")
    client.ask("RPUSH", "names", *["d"] * 100)
    memory = bench.instance.eviction.memory
    assert memory is not None
    before = memory.used_bytes
    reserved = room.taken_bytes(client.session.db, [word.encode("latin-1") for word in words])
    answer(bench.engine, client.session, [word.encode("latin-1") for word in words])
    assert memory.used_bytes - before <= reserved


def refusal_of(session: Session, *words: str) -> bytes:
    with pytest.raises(CommandError) as refusal:
        room.require_room(session, [word.encode() for word in words])
    return refusal.value.text


def test_a_value_is_bounded_by_its_length_and_by_the_room_that_is_left() -> None:
    bench = Bench(maxmemory="10mb")
    client = bench.connect()
    client.ask("SET", "old", "x" * 4_000_000)
    session = client.session
    too_large = POOL_VALUE_TOO_LARGE % (MOST_BYTES + 1, MOST_BYTES)
    assert refusal_of(session, "SETRANGE", "k", str(MOST_BYTES), "x") == too_large
    client.ask("SET", "bits", "x" * 3_000_000)
    assert refusal_of(session, "BITOP", "NOT", "k", "old") == OUT_OF_MEMORY
    client.ask("DEL", "bits")
    room.require_room(session, [b"COPY", b"old", b"new"])
    bench.instance.eviction.pending_bytes = 3_000_000
    assert refusal_of(session, "COPY", "old", "new") == OUT_OF_MEMORY
    room.require_room(session, [b"SETRANGE", b"old", b"3999999", b"x"])


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/a/b\n", {"a/memory.max": "3000", "a/b/memory.max": "max"}, [3000]),
        ("0::/\n", {"memory.max": "5000"}, [5000]),
        ("4:cpu,memory:/docker/x\n1:cpu:/\n", {"memory/memory.limit_in_bytes": "7000"}, [7000]),
        ("0::/a\n", {"a/memory.max": str(1 << 62)}, []),
        ("0::/gone\n", {}, []),
        ("", {}, []),
    ],
)
def test_the_limits_of_control_groups_are_found(
    groups: str, files: dict[str, str], left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text(groups)
    monkeypatch.setattr(room, "CGROUPS", str(tmp_path / "groups"))
    monkeypatch.setattr(room, "OWN_CGROUPS", str(tmp_path / "own"))
    assert list(room._cgroup_limits()) == left


def test_three_quarters_of_what_is_left_are_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_left_bytes", lambda: iter([4000, 1000]))
    assert room.default_limit_bytes(50) == 50 + 750
    monkeypatch.setattr(room, "_left_bytes", lambda: iter([-5]))
    assert room.default_limit_bytes(50) == 50
    monkeypatch.setattr(room, "_left_bytes", lambda: iter([]))
    assert room.default_limit_bytes(50) == 0
