"""Snapshots: files of a real redis-server, files of every version by hand, and files that are damaged."""

from __future__ import annotations

import io
from pathlib import Path
from struct import pack

import old_forms
import pytest
from contents import contents
from hypothesis import given, settings
from hypothesis import strategies as st
from old_forms import length, string
from redis_values import TYPES, ask_all, requests
from servers import RedisProcess
from soak import THOROUGHNESS
from tables import for_each

from rdb.snapshot import Snapshot, is_snapshot
from rdb.source import BadFormat

KEY = b"\x00" + string(b"k") + string(b"v")
SET = (0, [b"SET", b"k", b"v"])
MODULE = length(int("".join(f"{place:06b}" for place in range(9)) + "0" * 10, 2))  # ABCDEFGHI
MODULE_DATA = b"\xf7" + MODULE + length(2) + length(1) + b"".join(
    [length(1) + length(7), length(2) + length(8), length(3) + bytes(4), length(4) + bytes(8), length(5) + string(b"x")]
) + length(0)  # fmt: skip


def read(data: bytes) -> tuple[list[tuple[int, list[bytes]]], Snapshot]:
    """Return the commands of a file, and what it says of itself."""
    snapshot = Snapshot(io.BytesIO(data), len(data))
    return list(snapshot.commands()), snapshot


@for_each(
    ("body", "commands"),
    [
        (b"", []),
        (KEY, [SET]),
        (b"\xfa" + string(b"redis-ver") + string(b"7.0.15") + b"\xfe\x03\xfb\x05\x02" + KEY, [(3, SET[1])]),
        (b"\xfc" + pack("<q", 5000) + KEY + KEY, [(0, [*SET[1], b"PXAT", b"5000"]), SET]),
        (b"\xfd" + pack("<I", 5) + KEY, [(0, [*SET[1], b"PXAT", b"5000"])]),
        (b"\xfd" + pack("<I", 5) + b"\xf9\x07" + KEY, [(0, [*SET[1], b"PXAT", b"5000"])]),
        (b"\xf8" + length(100_000) + KEY, [SET]),
        (b"\xf4" + length(1) * 3 + KEY, [SET]),
        (
            b"\xfc" + pack("<q", 7) + b"\x01" + string(b"l") + length(1) + string(b"x") + KEY,
            [(0, [b"RPUSH", b"l", b"x"]), (0, [b"PEXPIREAT", b"l", b"7"]), SET],
        ),
        (b"\xf5" + string(b"#!lua name=x") + KEY, [(0, [b"FUNCTION", b"LOAD", b"REPLACE", b"#!lua name=x"]), SET]),
        (b"\xf6" + string(b"f") + string(b"LUA") + length(1) + string(b"text") + string(b"code") + KEY, [SET]),
        (MODULE_DATA + KEY, [SET]),
        (b"\x01" + string(b"empty") + length(0) + KEY, [SET]),
    ],
)
@for_each("version", [3, 5, 6, 7, 8, 9, 10, 11, 12])
def test_a_file_is_read_as_commands(body: bytes, commands: list[tuple[int, list[bytes]]], version: int) -> None:
    data = old_forms.snapshot(body, version)
    assert is_snapshot(data)
    found, snapshot = read(data)
    assert found == commands
    assert snapshot.version == version
    assert snapshot.position == len(data)


def test_what_cannot_be_kept_is_named() -> None:
    old_function = b"\xf6" + string(b"f") + string(b"LUA") + length(0) + string(b"code")
    body = 2 * old_function + MODULE_DATA + b"\x01" + string(b"e") + length(0)
    _, snapshot = read(old_forms.snapshot(body))
    assert snapshot.warnings == {"functions (FUNCTION LOAD)": 2, "data of the module ABCDEFGHI": 1}
    assert (snapshot.keys, snapshot.empty_keys) == (0, 1)


def test_a_file_without_a_checksum_is_read() -> None:
    data = old_forms.snapshot(KEY)
    assert read(data[:-8] + bytes(8))[0] == [SET]


@for_each(
    ("data", "reason"),
    [
        (b"", "ends too early"),
        (b"REDIX0009" + KEY, "no snapshot"),
        (b"REDIS00x9" + KEY, "no snapshot"),
        (old_forms.snapshot(KEY, 13), "version 13; versions 1 to 12"),
        (old_forms.snapshot(KEY)[:-9], "byte 14: .*ends too early"),
        (old_forms.snapshot(KEY)[:-1] + b"?", "checksum of the snapshot is wrong"),
        (old_forms.snapshot(b"\x08" + KEY), "0x08 begins nothing"),
        (old_forms.snapshot(b"\x07" + string(b"doc") + MODULE), "key 'doc' has a value of the module ABCDEFGHI"),
        (old_forms.snapshot(b"\x00\x81" + (2**40).to_bytes(8, "big")), "byte 19: the file ends too early"),
        (old_forms.snapshot(b"\xf7" + MODULE + length(2) + length(1) + length(9)), "data of a module is damaged"),
    ],
)
def test_a_file_that_is_not_whole_is_an_error_with_its_place(data: bytes, reason: str) -> None:
    with pytest.raises(BadFormat, match=reason):
        read(data)


@settings(max_examples=100 * THOROUGHNESS, deadline=None)
@given(st.data())
def test_mutated_files_are_errors_or_commands(data: st.DataObject) -> None:
    body = (
        b"\xfa" + string(b"a") + string(b"b") + b"\xfc" + pack("<q", 5000) + KEY + MODULE_DATA + b"\xf5" + string(b"f")
    )
    good = bytearray(old_forms.snapshot(body, 9))
    good[-8:] = bytes(8)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        commands, _ = read(bytes(good[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good))
    except BadFormat:
        return
    assert all(isinstance(word, bytes) for _, argv in commands for word in argv)


@pytest.mark.parametrize("options", [(), ("--rdbcompression", "no"), ("--rdbchecksum", "no")])
def test_the_file_of_a_redis_makes_the_same_keys(tmp_path: Path, options: tuple[str, ...]) -> None:
    with RedisProcess(tmp_path, "--enable-debug-command", "local", *options) as server, server.raw() as raw:
        for kind in TYPES:
            for elements, size in (("integers", 5), ("integers", 600), ("mixed", 40)):
                ask_all(raw, requests(kind, size, elements, f"{kind}:{elements}:{size}".encode()))
        ask_all(raw, [[b"PEXPIREAT", b"list:mixed:40", b"4000000000000"], [b"SELECT", b"9"], [b"SET", b"k", b"1"]])
        before = contents(raw)
        ask_all(raw, [[b"SAVE"], [b"FLUSHALL"]])
        data = (tmp_path / "dump.rdb").read_bytes()
        commands, snapshot = read(data)
        assert (snapshot.keys, snapshot.position) == (19, len(data))
        for database, argv in commands:
            ask_all(raw, [[b"SELECT", b"%d" % database], argv])
        assert contents(raw) == before
