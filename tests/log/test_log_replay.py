"""Reading the log: every cut, every flipped bit, foreign logs, the original's text log."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_model import FAR_MS, HOUR_MS, IN_MEMORY, NOW_MS, Model, Record, read_log, resp, set_, write_log
from servers import ROOT

from aof import AppendOnlyLog, ReplayReport, replay
from errors import LogError
from log.reader import Damage, Fault, Incomplete, Unit, UnitReader, frame, read_payload, strictly, units
from protocol import encode_command

BATCHES: list[list[Record]] = [
    [set_(b"a", b"1"), set_(b"b", b"\x00#\r\n*2\xff", db=9)],
    [(9, [b"DEL", b"b"])],
    [set_(b"a", b"2"), (0, [b"SET", b"c", b""])],
]


@pytest.fixture
def umask() -> Iterator[None]:
    """Let this process create files as most do: others may read them."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def path() -> Iterator[Path]:
    """A log to be; in memory, since some of these tests write thousands."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        yield Path(directory) / "log.txt"


def states(batches: list[list[Record]]) -> list[dict[tuple[int, bytes], tuple[bytes, int | None]]]:
    """Return the keyspace before the first batch and after each."""
    model = Model()
    found = [dict(model.data)]
    for batch in batches:
        for db, argv in batch:
            model.apply(db, argv)
        found.append(dict(model.data))
    return found


# Torn tails


@pytest.mark.usefixtures("fast_disk")
def test_a_log_cut_anywhere_gives_its_longest_whole_prefix(path: Path) -> None:
    sizes = [0, *write_log(path, BATCHES)]
    content = path.read_bytes()
    expected = states(BATCHES)
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        model, report = read_log(path)
        whole = max(number for number, size in enumerate(sizes) if size <= cut)
        assert model.data == expected[whole]
        assert report.batches == whole
        assert report.bytes == path.stat().st_size == sizes[whole]
        assert report.torn_bytes == cut - sizes[whole]
        if report.torn_bytes:
            aside = Path(report.torn_path)
            assert aside.read_bytes() == content[sizes[whole] : cut]
            aside.unlink()


@pytest.mark.usefixtures("fast_disk")
def test_every_flipped_bit_is_found(path: Path) -> None:
    sizes = [0, *write_log(path, BATCHES)]
    content = path.read_bytes()
    expected = states(BATCHES)
    torn = 0
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            model, report = read_log(path)
        except LogError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            start = max(size for size in sizes if size <= bit // 8)
            assert f"byte {start}:" in refused or (start == 0 and "is not a log" in refused)
            assert path.read_bytes() == damaged
            continue
        assert bit // 8 >= sizes[-2]
        assert model.data == expected[-2]
        assert Path(report.torn_path).read_bytes() == damaged[sizes[-2] :]
        Path(report.torn_path).unlink()
        torn += 1
    assert torn == (sizes[-1] - sizes[-2]) * 8


@pytest.mark.parametrize("zeros", [1, 4096, 3 << 20])
def test_a_tail_of_zeros_is_torn(path: Path, zeros: int) -> None:
    write_log(path, BATCHES)
    with path.open("ab") as file:
        file.write(b"\0" * zeros)
    model, report = read_log(path)
    assert model.data == states(BATCHES)[-1]
    assert report.torn_bytes == zeros


def test_a_last_batch_whose_blocks_were_partly_written_is_torn(path: Path) -> None:
    sizes = write_log(path, [*BATCHES, [set_(b"k%d" % number, b"v" * 100) for number in range(100)]])
    content = bytearray(path.read_bytes())
    content[sizes[-2] : sizes[-2] + 1024] = bytes(1024)
    path.write_bytes(content)
    model, report = read_log(path)
    assert model.data == states(BATCHES)[-1]
    assert report.torn_bytes == sizes[-1] - sizes[-2]


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"#", b"#12", b"#5 00000000 1\r\n*1\r\n", b"*", b"*2\r\n$3\r\nDE"]
)
def test_a_log_whose_first_batch_was_never_finished_is_empty(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    model, report = read_log(path)
    assert not model.data
    assert report.torn_bytes == len(content)
    assert path.read_bytes() == b""


def test_what_was_torn_off_is_never_overwritten(path: Path) -> None:
    for number in range(3):
        path.write_bytes(b"#1%d" % number)
        assert Path(read_log(path)[1].torn_path).read_bytes() == b"#1%d" % number
    assert {name.name for name in path.parent.iterdir()} == {
        "log.txt",
        "log.txt.torn-0",
        "log.txt.torn-0.1",
        "log.txt.torn-0.2",
    }


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_what_was_torn_off_is_no_more_readable_than_the_log(path: Path, umask: None) -> None:
    for mode in (0o600, 0o660):
        path.write_bytes(b"#12")
        path.chmod(mode)
        torn = Path(read_log(path)[1].torn_path)
        assert torn.stat().st_mode & 0o777 == mode


def test_a_value_that_looks_like_a_huge_array_is_a_value(path: Path) -> None:
    value = b"\n*2000000000\r\n"
    write_log(path, [[set_(b"a", value), (0, [b"DEL", b"b"])]])
    assert read_log(path)[0].data[0, b"a"][0] == value


def test_a_torn_tail_that_cannot_be_kept_aside_is_not_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(path, BATCHES)
    content = path.read_bytes()[:-1]
    path.write_bytes(content)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LogError, match="No space left on device; see that"):
        read_log(path)
    assert path.read_bytes() == content


def test_a_missing_log_is_an_empty_one(path: Path) -> None:
    assert read_log(path)[1] == ReplayReport()
    assert not path.exists()


# Corruption


def test_damage_before_a_whole_batch_is_refused_with_its_place(path: Path) -> None:
    sizes = write_log(path, BATCHES)
    content = bytearray(path.read_bytes())
    content[sizes[0] + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        LogError, match=rf"{path} is damaged at byte {sizes[0]}: the checksum is wrong, and whole batch"
    ):
        read_log(path)
    assert path.read_bytes() == content
    assert list(path.parent.glob("*.torn*")) == []


@pytest.mark.parametrize("gap", [b"\0" * 5000, b"x", b"#9", b"#99999999 00000000 1\r\n", b"\n", b"*3\r\n$3\r\nSET\r\n"])
@pytest.mark.parametrize("distance", [0, 2 << 20])
def test_a_whole_batch_is_found_behind_any_gap(path: Path, gap: bytes, distance: int) -> None:
    size = write_log(path, BATCHES)[-1]
    with path.open("ab") as file:
        file.write(gap + b"\0" * distance + frame(resp(b"DEL a"), NOW_MS) + frame(resp(b"DEL a"), NOW_MS + 10_000))
    with pytest.raises(LogError, match=f"damaged at byte {size}: "):
        read_log(path)


LONG: list[list[Record]] = [[set_(b"k%d" % number, b"v" * 700)] for number in range(30)]


@pytest.mark.usefixtures("fast_disk")
@pytest.mark.parametrize("page", [512, 4096])
def test_a_page_that_is_zeros_from_where_a_batch_should_begin_is_a_torn_tail(path: Path, page: int) -> None:
    """The power went before the fsync: the system had written later pages, and this one as it was before its batch."""
    sizes = write_log(path, LONG)
    content = path.read_bytes()
    for number, start in enumerate(sizes[:-8], 1):
        end = -(-start // page) * page
        if end - start < 8:
            continue
        damaged = content[:start] + bytes(end - start) + content[end:]
        path.write_bytes(damaged)
        model, report = read_log(path)
        assert model.data == states(LONG)[number]
        assert path.stat().st_size == start
        assert Path(report.torn_path).read_bytes() == damaged[start:]


@pytest.mark.parametrize("page", [512, 4096])
def test_pages_of_zeros_within_a_batch_are_refused(path: Path, page: int) -> None:
    """They may be a value's own, with a flipped bit elsewhere in the batch: so no batch behind them is thrown away."""
    sizes = [0, *write_log(path, LONG)]
    content = path.read_bytes()
    for start in range(page, len(content) - page, page):
        if start in sizes:
            continue
        damaged = content[:start] + bytes(page) + content[start + page :]
        path.write_bytes(damaged)
        if max(sizes[:-1]) < start + page:
            assert read_log(path)[1].torn_bytes
            continue
        with pytest.raises(LogError, match=r"damaged at byte .*whole batches follow"):
            read_log(path)
        assert path.read_bytes() == damaged


@pytest.mark.usefixtures("fast_disk")
def test_a_flipped_bit_costs_no_batch_whose_checksum_holds_whatever_zeros_values_hold(path: Path) -> None:
    """All is written within two seconds, as at the end of every log, and zeros stand at the ends of sectors."""
    batches = [[set_(b"k%d" % number, bytes(1500) if number % 3 == 0 else b"v" * 9)] for number in range(7)]
    sizes = [0, *write_log(path, batches)]
    content = path.read_bytes()
    for index, start in enumerate(sizes[:-2]):
        key = content.index(b"k%d" % index, start)
        for position in [*range(start, start + 90), key, sizes[index + 1] - 30, sizes[index + 1] - 1]:
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            with pytest.raises(LogError, match=r"damaged at byte \d+: .*, and whole batches follow"):
                read_log(path)
            assert path.read_bytes() == damaged


def test_pages_of_zeros_amid_what_is_older_are_corruption(path: Path) -> None:
    sizes = write_log(path, LONG[:10])
    write_log(path, LONG[10:], NOW_MS + 3000)
    content = path.read_bytes()
    assert sizes[5] > 4096
    path.write_bytes(content[:2048] + bytes(2048) + content[4096:])
    with pytest.raises(LogError, match=r"damaged at byte .*whole batches follow"):
        read_log(path)


def test_zeros_that_end_within_a_sector_are_corruption(path: Path) -> None:
    write_log(path, LONG)
    content = path.read_bytes()
    for start, end in ((1030, 1530), (1100, 1101), (1536, 2040)):
        path.write_bytes(content[:start] + bytes(end - start) + content[end:])
        with pytest.raises(LogError, match=r"damaged at byte .*whole batches follow"):
            read_log(path)


def test_a_search_that_is_made_to_take_for_ever_gives_up_on_the_safe_side(path: Path) -> None:
    with path.open("wb") as file:
        file.write(frame(resp(b"DEL a"), NOW_MS))
        file.write(b"#90000000 00000000 1\r\n" + b"#1000000 00000000 1\r\n" * 100_000)
    with pytest.raises(LogError, match="damaged at byte"):
        read_log(path)


@pytest.mark.parametrize(
    "payload",
    [
        b"PING\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b":0\r\n",
        b"#f\r\n",
        b"$3\r\nDEL\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n+OK\r\n",
        b"*1\r\n-ERR no\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n_\r\n",
        b"*1\r\n#t\r\n",
        b"*1\r\n,1.5\r\n",
        b"*1\r\n(5\r\n",
        b"*1\r\n=7\r\ntxt:DEL\r\n",
        b"*1\r\n*1\r\n$3\r\nDEL\r\n",
        b"%1\r\n$3\r\nDEL\r\n$1\r\na\r\n",
        b">1\r\n$3\r\nDEL\r\n",
        b"*1\r\n$3\r\nDELxx",
        b"*1\r\n$03\r\nDEL\r\n",
        b"*2\r\n$3\r\nDEL\r\n",
        b"*2\r\n$3\r\nDEL\r\n$1\r\n",
        b"\r\n",
        b"\0",
        *[b"%c2000000000\r\n$3\r\nDEL\r\n" % letter for letter in b"*~>|%"],  # hiredis makes room for all of them
        b"*1\r\n*2000000000\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n"])
def test_a_batch_of_anything_but_commands_is_corruption(path: Path, before: bytes, payload: bytes) -> None:
    path.write_bytes(frame(before + payload, NOW_MS))
    model = Model()
    with pytest.raises(LogError, match=f"the payload is not RESP.*from its byte {len(before)} on"):
        replay(str(path), model.apply, NOW_MS, 0)
    assert model.history == []


@pytest.mark.parametrize("framed", [True, False])
def test_a_refused_command_is_corruption_at_its_own_offset(path: Path, framed: bool) -> None:
    first = frame(resp(b"DEL a"), NOW_MS)
    payload = resp(b"DEL b", b"NOSUCH c", b"DEL d")
    path.write_bytes(first + (frame(payload, NOW_MS) if framed else payload))
    offset = path.read_bytes().index(b"*2\r\n$6\r\nNOSUCH")
    with pytest.raises(LogError, match=rf"byte {offset}: the command there is refused: ERR unknown command 'NOSUCH'"):
        read_log(path)


@pytest.mark.parametrize(
    "content", [b"hello\n", b"#!/bin/sh\necho\n", b"# settings\nport 6379\n", b"\x7fELF\0\0\0", b"GET x\n"]
)
def test_a_file_that_is_no_log_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LogError, match="is not a log"):
        read_log(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"REDIS0010\xfa\tredis-ver", "snapshot .*; make a log of it: python godis.py import"),
        (b"file appendonly.aof.1.base.aof seq 1 type b\n", "manifest .*; make a log of it: python godis.py import"),
    ],
)
def test_other_files_of_redis_are_named_and_left_alone(path: Path, content: bytes, advice: str) -> None:
    path.write_bytes(content)
    with pytest.raises(LogError, match=advice):
        read_log(path)
    assert path.read_bytes() == content


def test_a_file_that_becomes_shorter_meanwhile_is_refused() -> None:
    data = frame(resp(b"DEL a"), NOW_MS)
    with pytest.raises(Fault, match="became shorter"):
        list(units(BytesIO(data), len(data) + 100))


def test_a_log_that_the_disk_cannot_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(path, BATCHES)

    def unreadable(*_: object) -> Iterator[Unit]:
        yield from ()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("log.replay.units", unreadable)
    with pytest.raises(LogError, match="Input/output error; give another path, or repair the disk"):
        read_log(path)


def test_a_directory_is_no_log(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LogError, match="Is a directory; give a file, or the data directory of a Redis"):
        read_log(path)


# Commands outside batches


def test_redis_commands_and_batches_may_be_mixed(path: Path) -> None:
    path.write_bytes(
        b"#TS:1700000000\r\n"
        + resp(b"SELECT 0", b"SET a 1", b"select 3", b"SET b 2")
        + b"# a person's note\r\n"
        + frame(resp(b"SET c 3"), NOW_MS)
        + resp(b"SELECT 3", b"DEL b", b"SET d 4")
    )
    model, report = read_log(path)
    assert model.data == {(0, b"a"): (b"1", None), (0, b"c"): (b"3", None), (3, b"d"): (b"4", None)}
    assert (report.commands, report.batches, report.foreign_commands) == (5, 1, 7)


@pytest.mark.parametrize("framed", [True, False])
def test_a_transaction_is_applied_at_its_exec(path: Path, framed: bool) -> None:
    content = resp(b"MULTI", b"SET a 1", b"SELECT 2", b"SET b 2", b"EXEC", b"SET c 3")
    path.write_bytes(frame(content, NOW_MS) if framed else content)
    model, _ = read_log(path)
    assert [(db, argv[1]) for db, argv in model.history] == [(0, b"a"), (2, b"b"), (2, b"c")]


@pytest.mark.parametrize("tail", [b"", b"*3\r\n$3\r\nSET\r\n$1", b"\0\0"])
def test_a_transaction_without_its_exec_is_dropped_and_cut_off(path: Path, tail: bytes) -> None:
    good = resp(b"SET a 1")
    torn = resp(b"MULTI", b"SET a 2", b"SET b 2") + tail
    path.write_bytes(good + torn)
    model, report = read_log(path)
    assert model.data == {(0, b"a"): (b"1", None)}
    assert path.read_bytes() == good
    assert Path(report.torn_path).read_bytes() == torn


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (resp(b"MULTI", b"SET a 1") + frame(resp(b"SET b 2"), NOW_MS), "MULTI without EXEC before a batch"),
        (frame(resp(b"MULTI", b"SET a 1"), NOW_MS), "MULTI without EXEC in a batch"),
        (resp(b"EXEC"), "'EXEC' makes no sense here"),
        (resp(b"MULTI", b"MULTI"), "'MULTI' makes no sense here"),
        (resp(b"SELECT x"), "'SELECT x' makes no sense here"),
        (resp(b"SELECT " + b"1" * 5000), "'SELECT 1+' makes no sense here"),
        (frame(resp(b"SELECT " + b"1" * 5000), NOW_MS), "'SELECT 1+' makes no sense here"),
        (resp(b"SELECT"), "'SELECT' makes no sense here"),
    ],
)
def test_control_commands_out_of_place_are_corruption(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    model = Model()
    with pytest.raises(LogError, match=reason):
        replay(str(path), model.apply, NOW_MS, 0)
    assert model.history == []


@pytest.mark.usefixtures("fast_disk")
def test_a_redis_log_cut_anywhere_gives_its_longest_whole_prefix(path: Path) -> None:
    commands = [b"SELECT 0", b"SET a 1", b"SET b 22", b"DEL a", b"SET a 3"]
    ends = [len(resp(*commands[:count])) for count in range(len(commands) + 1)]
    for cut in range(ends[-1] + 1):
        path.write_bytes(resp(*commands)[:cut])
        _, report = read_log(path)
        assert path.stat().st_size == max(end for end in ends if end <= cut)
        assert report.foreign_commands == sum(end <= cut for end in ends) - 1


@pytest.mark.parametrize("damage", [(b"$1\r\n1", b"$8\r\n1"), (b"$1\r\n1", b"$9999999\r\n1"), (b"SET\r\n", b"SET\0\n")])
def test_damage_before_a_whole_redis_command_is_refused(path: Path, damage: tuple[bytes, bytes]) -> None:
    good = resp(b"SET x 0")
    path.write_bytes(good + resp(b"SET a 1").replace(*damage) + resp(b"SET b 2"))
    with pytest.raises(LogError, match=f"byte {len(good)}: .*whole commands follow"):
        read_log(path)


# The original's log


def read_text(
    path: Path, content: bytes, now_ms: int = NOW_MS, default_ttl_ms: int = 6 * HOUR_MS
) -> tuple[Model, ReplayReport]:
    path.write_bytes(content)
    return read_log(path, now_ms, default_ttl_ms)


@pytest.mark.parametrize(
    ("line", "key", "value", "ttl_ms"),
    [
        (b"SET k v", b"k", b"v", 6 * HOUR_MS),
        (b"SET k v\r", b"k", b"v", 6 * HOUR_MS),
        (b"SET k a value of words", b"k", b"a", 6 * HOUR_MS),
        (b"SET k", b"k", b"", 6 * HOUR_MS),
        (b"SET  v", b"", b"v", 6 * HOUR_MS),
        (b"SETEX k 10 v", b"k", b"v", 10_000),
        (b"SETEX k v 10", b"k", b"v", 10_000),
        (b"SETEX k 10 20", b"k", b"20", 10_000),
        (b"SETEX k +10 v", b"k", b"v", 10_000),
        (b"SETEX k 10 two words", b"k", b"two", 10_000),
        (b"SET k \xff\x00", b"k", b"\xff\x00", 6 * HOUR_MS),
    ],
)
def test_a_line_of_the_original_is_read_as_it_meant(
    path: Path, line: bytes, key: bytes, value: bytes, ttl_ms: int
) -> None:
    model, report = read_text(path, line + b"\n")
    assert model.data == {(0, key): (value, NOW_MS + ttl_ms)}
    assert (report.text_lines, report.skipped_lines) == (1, 0)


@pytest.mark.parametrize(
    "line", [b"SETEX k v ten", b"SETEX k 10", b"SETEX k", b"set k v", b"GET k", b"", b"SET", b"\0\0\0", b"#k v", b"# k"]
)
def test_a_line_that_the_original_refused_is_counted_and_changes_nothing(path: Path, line: bytes) -> None:
    model, report = read_text(path, b"SET a 1\n" + line + b"\nSET b 2\n")
    assert set(model.data) == {(0, b"a"), (0, b"b")}
    assert (report.text_lines, report.skipped_lines, report.torn_bytes) == (3, 1, 0)


@pytest.mark.parametrize("line", [b"DEL a", b"DEL a b", b"SETEX a 0 v", b"SETEX a v -5"])
def test_a_line_that_ended_a_key_ends_it(path: Path, line: bytes) -> None:
    model, report = read_text(path, b"SET a 1\n" + line + b"\n")
    assert model.data == {}
    assert report.skipped_lines == 0


def test_text_without_a_default_ttl_never_expires(path: Path) -> None:
    model, _ = read_text(path, b"SET a 1\n", default_ttl_ms=0)
    assert model.data == {(0, b"a"): (b"1", None)}


def test_text_deadlines_are_the_same_at_every_restart(path: Path) -> None:
    first, _ = read_text(path, b"SET a 1\nSETEX b 2 10\n")
    write_log(path, [[set_(b"c", b"3")]], NOW_MS + 1000)
    for later_ms in (HOUR_MS, 100 * HOUR_MS):
        again, report = read_log(path, NOW_MS + later_ms)
        assert again.data == first.data | {(0, b"c"): (b"3", FAR_MS)}
        assert (report.text_lines, report.batches) == (2, 2)


def test_a_torn_last_line_is_not_run_as_a_shorter_one(path: Path) -> None:
    model, report = read_text(path, b"SET a 1\nSETEX b v 10")
    assert model.data == {(0, b"a"): (b"1", NOW_MS + 6 * HOUR_MS)}
    assert Path(report.torn_path).read_bytes() == b"SETEX b v 10"
    write_log(path, [[set_(b"c", b"3")]])
    assert set(read_log(path)[0].data) == {(0, b"a"), (0, b"c")}


def test_a_line_of_text_may_be_longer_than_a_block(path: Path) -> None:
    path.write_bytes(b"SET a " + b"v" * 200_000 + b"\nSET b 2\n")
    model = Model()
    replay(str(path), model.apply, NOW_MS, 0, block_bytes=1000)
    assert model.data == {(0, b"a"): (b"v" * 200_000, None), (0, b"b"): (b"2", None)}


@pytest.mark.usefixtures("fast_disk")
def test_every_flipped_bit_of_batches_after_text_is_found(path: Path) -> None:
    text = b"SET a 1\nSET b 2\n"
    path.write_bytes(text)
    sizes = write_log(path, BATCHES[:2])
    content = path.read_bytes()
    before, _ = read_log(path)
    for bit in range(len(text) * 8, len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            _, report = read_log(path)
        except LogError:
            continue
        assert bit // 8 >= sizes[-2]
        assert report.torn_bytes == sizes[-1] - sizes[-2]
    path.write_bytes(content)
    assert read_log(path)[0].data == before.data


# Blocks and properties

words = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"#5 00000000 1\r\n", b"$1"])
)
records = st.tuples(
    st.integers(0, 3),
    st.builds(lambda name, rest: [name, *rest], st.sampled_from([b"A", b"set"]), st.lists(words, max_size=5)),
)
batches = st.lists(st.lists(records, min_size=1, max_size=5), max_size=6)


@given(batches=batches, block_bytes=st.integers(1, 300))
def test_what_was_written_is_replayed_at_any_block_size(batches: list[list[Record]], block_bytes: int) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        path = Path(directory) / "log.txt"
        write_log(path, batches)
        history: list[Record] = []
        report = replay(str(path), lambda db, argv: history.append((db, argv)), NOW_MS, 0, block_bytes=block_bytes)
        assert history == [record for batch in batches for record in batch]
        assert (report.batches, report.bytes, report.torn_bytes) == (len(batches), path.stat().st_size, 0)


@given(batches=batches)
def test_batches_tile_the_file_and_keep_their_times(batches: list[list[Record]]) -> None:
    data = b"".join(
        frame(b"".join(encode_command(argv) for _, argv in batch), NOW_MS + number)
        for number, batch in enumerate(batches)
    )
    found = list(units(BytesIO(data), len(data), block_bytes=50))
    assert [unit.time_ms for unit in found] == list(range(NOW_MS, NOW_MS + len(batches)))
    assert [unit.start for unit in found] == [0, *(unit.end for unit in found)][: len(found)]
    assert not found or found[-1].end == len(data)


@given(
    data=st.binary(max_size=200) | st.text("*$#\r\n0123456789 abSETX:", max_size=200).map(str.encode),
    text=st.booleans(),
)
def test_any_bytes_are_a_unit_or_incomplete_or_damage(data: bytes, text: bool) -> None:
    try:
        end = UnitReader(text).read(data, 0).end
    except Incomplete as more:
        end = -more.end
    except Damage:
        return
    assert 0 < end <= len(data) or end < -len(data)


def commands_or_none(read: Callable[[], list[list[bytes]]]) -> list[list[bytes]] | None:
    try:
        return read()
    except Damage:
        return None


@given(
    commands=st.lists(st.lists(words, min_size=1, max_size=4), min_size=1, max_size=4),
    position=st.integers(0, 1000),
    change=st.none() | st.sampled_from([bytes((byte,)) for byte in b"*$+-:_#,(=%~>\r\n0129a"]),
)
def test_the_fast_reader_gives_what_the_strict_one_gives(
    commands: list[list[bytes]], position: int, change: bytes | None
) -> None:
    payload = b"".join(map(encode_command, commands))
    if change is not None:
        position %= len(payload)
        payload = payload[:position] + change + payload[position + 1 :]
    strict = commands_or_none(lambda: [argv for _, argv in strictly(payload)])
    data = b"#" + payload + b"#"
    assert commands_or_none(lambda: list(read_payload(hiredis.Reader(), data, 1, len(data) - 1))) == strict


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_progress_ends_at_the_size_of_the_log(path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("log.replay.BLOCK_BYTES", size)
    total = write_log(path, BATCHES)[-1]
    calls: list[tuple[int, int]] = []
    replay(str(path), lambda _db, _argv: None, NOW_MS, 0, lambda done, of: calls.append((done, of)))
    assert calls
    assert {of for _, of in calls} == {total}
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_memory_is_bounded_by_a_block_and_the_largest_batch() -> None:
    class Counting(BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.largest = max(self.largest, size or 0)
            return super().read(size)

    batch = frame(resp(b"SET k " + b"v" * 3000), NOW_MS)
    file = Counting(batch * 200)
    assert sum(1 for _ in units(file, len(batch) * 200, block_bytes=1000)) == 200
    assert file.largest <= len(batch) + 1000


# The page about the format


def test_the_worked_example_of_the_page_is_what_the_code_writes(path: Path) -> None:
    page = (ROOT / "docs" / "log-format.md").read_text()
    dump = re.findall(r"^    [0-9a-f]{4}  ((?:[0-9a-f]{2} ?)+)  ", page, re.MULTILINE)
    example = bytes.fromhex("".join(dump))
    log = AppendOnlyLog(str(path))
    log.open()
    log.append_set(0, b"mykey", b"hello", 1_700_021_600_000)
    log.append(1, [b"DEL", b"tempkey"])
    assert log.write(1_700_000_000_000)
    log.close()
    assert path.read_bytes() == example
    head = example.split(b"\r\n")[0].decode()
    assert head in re.sub(r"^    [0-9a-f]{4}  .*$", "", page, flags=re.MULTILINE)
