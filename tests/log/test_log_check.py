"""Checking and mending a log: every flipped bit, every cut, what is named, kept and refused."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_model import FAR_MS, HOUR_MS, IN_MEMORY, NOW_MS, Model, Record, read_log, resp, set_, write_log

from cli.log_tools import keys_of, lost_keys, parse_time
from errors import CommandError, LogError
from log.check import Examiner, Findings, repair
from log.export import copy_until, export
from log.reader import FIRST_LINK, Fault, frame, link_of, units

BATCHES: list[list[Record]] = [
    [set_(b"a", b"1"), set_(b"b", b"\x00#\r\n*2\xff", db=9)],
    [(9, [b"DEL", b"b"])],
    [set_(b"a", b"2"), (0, [b"SET", b"c", b""])],
    [set_(b"d", b"4", db=1)],
]
State = dict[tuple[int, bytes], tuple[bytes, int | None]]


@pytest.fixture
def path() -> Iterator[Path]:
    """A log to be; in memory, since some of these tests write thousands."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        yield Path(directory) / "log.txt"


def examine(path: Path | str) -> tuple[Findings, Model]:
    model = Model()
    with open(path, "rb") as log:
        return Examiner(str(path), log, model.apply, NOW_MS, 6 * HOUR_MS).examine(), model


def mend(path: Path, found: Findings | None = None) -> Path:
    """Repair a log; return where the original is kept."""
    found = found or examine(path)[0]
    assert found.losses
    return Path(repair(str(path), found, lambda copy: examine(copy)[0]))


def state(batches: list[list[Record]]) -> State:
    model = Model()
    for batch in batches:
        for db, argv in batch:
            model.apply(db, argv)
    return model.data


def without(index: int) -> list[list[Record]]:
    return BATCHES[:index] + BATCHES[index + 1 :]


@contextmanager
def replayed(path: Path) -> Iterator[Model]:
    """A log that a start takes without a word."""
    model, report = read_log(path)
    assert (report.torn_bytes, report.skipped_lines) == (0, 0)
    yield model


def test_a_whole_log_is_whole(path: Path) -> None:
    sizes = write_log(path, BATCHES)
    found, model = examine(path)
    assert model.data == state(BATCHES)
    assert (found.losses, found.size, found.counts.batches, found.counts.commands) == ([], sizes[-1], 4, 6)
    assert (found.first_ms, found.last_ms) == (NOW_MS, NOW_MS + 3)


@pytest.mark.usefixtures("fast_disk")
def test_every_flipped_bit_is_found_and_costs_its_batch_alone(path: Path) -> None:
    sizes = [0, *write_log(path, BATCHES)]
    content = path.read_bytes()
    flipped = mended = 0
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        index = max(index for index, size in enumerate(sizes) if size <= bit // 8)
        found, _ = examine(path)
        assert found.is_log
        assert [(loss.start, loss.end) for loss in found.losses] == [(sizes[index], sizes[index + 1])]
        assert found.only_torn == (index == len(BATCHES) - 1)
        flipped += 1
        if bit % 8 != bit // 8 % 8:  # one bit of each byte is mended, each in its turn
            continue
        mended += 1
        kept = mend(path, found)
        assert kept.read_bytes() == damaged
        kept.unlink()
        assert path.read_bytes().startswith(content[: sizes[index]])
        assert path.read_bytes().endswith(content[sizes[index + 1] :])
        with replayed(path) as model:
            assert model.data == state(without(index))
    assert flipped == mended * 8 == len(content) * 8 > 3000


@pytest.mark.usefixtures("fast_disk")
def test_zeros_in_values_make_no_flipped_bit_cost_more_than_its_batch(path: Path) -> None:
    batches = [[set_(b"k%d" % number, bytes(1500) if number % 2 else b"v")] for number in range(5)]
    sizes = [0, *write_log(path, batches)]
    content = path.read_bytes()
    for index, start in enumerate(sizes[:-2]):
        damaged = bytearray(content)
        damaged[content.index(b"k%d" % index, start)] ^= 1
        path.write_bytes(damaged)
        mend(path).unlink()
        with replayed(path) as model:
            assert model.data == state(batches[:index] + batches[index + 1 :])


def test_no_byte_of_a_batch_can_be_replaced_unnoticed() -> None:
    """Two bits of a head's first digit make it a capital or a space: the start of a comment."""
    content = frame(resp(b"SET a 1"), NOW_MS)
    after = frame(resp(b"SET b 2"), NOW_MS)
    for position, old in enumerate(content):
        for new in set(range(256)) - {old}:
            data = content[:position] + bytes([new]) + content[position + 1 :] + after
            with pytest.raises(Fault):
                list(units(BytesIO(data), len(data)))


@settings(max_examples=75, derandomize=True)
@given(data=st.data())
def test_batches_that_were_not_damaged_are_kept_whatever_happened_to_others(data: st.DataObject) -> None:
    batches = [[set_(b"%d" % number, b"v" * number * 7)] for number in range(12)]
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        path = Path(directory, "log.txt")
        sizes = [0, *write_log(path, batches)]
        content = bytearray(path.read_bytes())
        damaged = data.draw(st.sets(st.integers(0, 10), min_size=1))
        for index in damaged:
            start = data.draw(st.integers(sizes[index], sizes[index + 1] - 1))
            junk = data.draw(st.binary(min_size=1, max_size=60))[: sizes[index + 1] - start]
            content[start : start + len(junk)] = bytes(
                byte ^ (junk[at] or 1) for at, byte in enumerate(content[start : start + len(junk)])
            )
        path.write_bytes(content)
        mend(path)
        with replayed(path) as model:
            assert model.data == state([batch for index, batch in enumerate(batches) if index not in damaged])


@pytest.mark.usefixtures("fast_disk")
def test_a_log_cut_anywhere_keeps_its_whole_batches(path: Path) -> None:
    sizes = [0, *write_log(path, BATCHES)]
    content = path.read_bytes()
    for size in range(1, len(content)):
        path.write_bytes(content[:size])
        found, _ = examine(path)
        assert found.only_torn
        if size in sizes:
            assert not found.losses
            continue
        mend(path).unlink()
        whole = max(start for start in sizes if start <= size)
        assert path.read_bytes() == content[:whole]


@pytest.mark.parametrize("zeros", [1, 4096, 3 << 20])
def test_a_tail_of_zeros_is_torn(path: Path, zeros: int) -> None:
    write_log(path, BATCHES)
    content = path.read_bytes()
    path.write_bytes(content + bytes(zeros))
    assert examine(path)[0].only_torn
    mend(path)
    assert path.read_bytes() == content


def test_two_damaged_batches_are_dropped_and_the_one_between_is_kept(path: Path) -> None:
    sizes = write_log(path, BATCHES)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    content[sizes[1]] ^= 1
    path.write_bytes(content)
    mend(path)
    with replayed(path) as model:
        assert model.data == state([BATCHES[1], BATCHES[3]])


@pytest.mark.parametrize("damage_at", [0, 1, 5, 20, -30])
def test_a_batch_in_a_value_is_never_taken_for_one(path: Path, damage_at: int) -> None:
    inner = frame(resp(b"SET evil 1"), NOW_MS) + frame(resp(b"SET evil 2"), NOW_MS)
    sizes = write_log(path, [BATCHES[0], [set_(b"backup", inner)], BATCHES[2]])
    content = bytearray(path.read_bytes())
    content[sizes[0] + damage_at if damage_at >= 0 else sizes[1] + damage_at] ^= 1
    path.write_bytes(content)
    mend(path)
    with replayed(path) as model:
        assert model.data == state([BATCHES[0], BATCHES[2]])


def test_a_command_that_fails_for_want_of_a_lost_batch_is_dropped_alone(path: Path) -> None:
    batches: list[list[Record]] = [
        [(0, [b"SET", b"n", b"x"])],
        [(0, [b"SET", b"n", b"1"]), set_(b"a", b"1")],
        [set_(b"b", b"1", db=3), (0, [b"INCRBY", b"n", b"2"]), set_(b"c", b"1", db=3)],
    ]
    sizes = write_log(path, batches)
    content = bytearray(path.read_bytes())
    content[sizes[0] + 20] ^= 1
    path.write_bytes(content)

    def examine_strictly(name: Path | str) -> Findings:
        model = Model()

        def apply(db: int, argv: list[bytes]) -> None:
            try:
                model.apply(db, argv)
            except ValueError as error:
                raise CommandError(b"ERR value is not an integer") from error

        with open(name, "rb") as log:
            return Examiner(str(name), log, apply, NOW_MS, 0).examine()

    found = examine_strictly(path)
    assert [loss.dropped for loss in found.losses] == [[], [(0, [b"INCRBY", b"n", b"2"])]]
    repair(str(path), found, examine_strictly)
    with replayed(path) as model:
        assert {key for _, key in model.data} == {b"n", b"b", b"c"}
        assert model.data[0, b"n"] == (b"x", None)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (resp(b"SET a 1") + b"XXXX" + resp(b"SET b 2"), resp(b"SET a 1")),
        (
            resp(b"SELECT 3", b"SET a 1") + b"XXXX" + resp(b"SET b 2") + frame(resp(b"SET c 3"), NOW_MS),
            resp(b"SELECT 3", b"SET a 1") + frame(resp(b"SET c 3"), NOW_MS),
        ),
        (resp(b"SET a 1", b"NOSUCH x", b"SET b 2"), resp(b"SET a 1", b"SET b 2")),
        (resp(b"SET a 1", b"MULTI", b"SET b 2", b"NOSUCH x", b"EXEC", b"SET c 3"), resp(b"SET a 1", b"SET c 3")),
        (resp(b"MULTI", b"SET a 1") + frame(resp(b"SET b 2"), NOW_MS), frame(resp(b"SET b 2"), NOW_MS)),
        (resp(b"SET a 1", b"MULTI", b"SET b 2"), resp(b"SET a 1")),
        (resp(b"SET a 1", b"EXEC", b"SET b 2") + frame(resp(b"DEL a"), 1), resp(b"SET a 1") + frame(resp(b"DEL a"), 1)),
        (frame(resp(b"MULTI", b"SET a 1"), 1) + frame(resp(b"SET b 2"), 2), frame(resp(b"SET b 2"), 2)),
        (frame(resp(b"SELECT x", b"SET a 1"), 1) + frame(resp(b"SET b 2"), 2), frame(resp(b"SET b 2"), 2)),
        (frame(b"PING\r\n", 1) + frame(resp(b"SET b 2"), 2), frame(resp(b"SET b 2"), 2)),
        (b"SET a 1\nSET b 2\nSET c", b"SET a 1\nSET b 2\n"),
    ],
)
def test_what_stays_of_other_damage_replays(path: Path, content: bytes, kept: bytes) -> None:
    path.write_bytes(content)
    mend(path)
    assert path.read_bytes() == kept
    with replayed(path):
        assert not examine(path)[0].losses


def test_the_clients_of_batches_stay_when_a_command_or_the_batch_before_them_is_dropped(path: Path) -> None:
    commands = ["SET a 1", "SET b 1\nNOSUCH x", "SET c 1"]
    clients = [b"127.0.0.1:%d,ann,app" % port for port in (1, 2, 3)]
    batches: list[bytes] = []
    for words, client in zip(commands, clients, strict=True):
        link = link_of(batches[-1]) if batches else FIRST_LINK
        batches.append(frame(resp(*words.encode().split(b"\n")), NOW_MS, link, client=client))
    path.write_bytes(batches[0].replace(b"$1\r\na", b"$1\r\nX") + batches[1] + batches[2])
    mend(path)
    with open(path, "rb") as log:
        kept = [(unit.client, list(unit.commands)) for unit in units(log, path.stat().st_size)]
    # The batch without a client joins the chain where the first is missing.
    assert kept == [
        (b"", [[b"SELECT", b"0"]]),
        (clients[1], [[b"SET", b"b", b"1"]]),
        (clients[2], [[b"SET", b"c", b"1"]]),
    ]


def test_the_original_is_never_overwritten_and_keeps_its_mode(path: Path) -> None:
    for number in (1, 2, 3):
        path.write_bytes(frame(resp(b"SET a 1"), NOW_MS) + b"#%d" % number)
        path.chmod(0o600)
        assert mend(path) == path.with_name(f"log.txt.before-repair-{number}")
        assert path.stat().st_mode & 0o777 == 0o600
    assert [kept.read_bytes()[-2:] for kept in sorted(path.parent.glob("*before*"))] == [b"#1", b"#2", b"#3"]
    assert len(list(path.parent.iterdir())) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_no_copy_of_a_log_is_ever_more_readable_than_the_log(
    path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    write_log(path, BATCHES)
    with path.open("ab") as log:
        log.write(b"#")
    path.chmod(mode)
    before = os.umask(0o022)
    try:
        assert until(path, FAR_MS).stat().st_mode & 0o777 == mode
        modes = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: modes.append(os.fstat(descriptor).st_mode & 0o777))
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links")))
        mend(path)
        files = [mode for mode in modes if mode != os.stat(path.parent).st_mode & 0o777]
        assert len(files) >= 2
        assert set(files) == {mode}  # also while they are written, and without hard links
    finally:
        os.umask(before)


def test_a_link_to_a_log_stays_a_link(path: Path) -> None:
    real = path.with_name("real.txt")
    real.write_bytes(frame(resp(b"SET a 1"), NOW_MS) + b"#")
    path.symlink_to(real)
    mend(path)
    assert path.is_symlink()
    assert real.read_bytes() == frame(resp(b"SET a 1"), NOW_MS)


def test_where_there_are_no_links_the_original_is_copied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    content = frame(resp(b"SET a 1"), NOW_MS) + b"#"
    path.write_bytes(content)
    assert mend(path).read_bytes() == content
    assert path.read_bytes() == content[:-1]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_repair_that_fails_leaves_the_log_alone(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    content = frame(resp(b"SET a 1"), NOW_MS) + b"#"
    path.write_bytes(content)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(LogError, match="No space left on device"):
        mend(path)
    assert path.read_bytes() == content
    assert not list(path.parent.glob("*repairing*"))


@pytest.mark.parametrize("content", [b"hello\n", b"#!/bin/sh\necho\n", b"\x7fELF\0\0\0"])
def test_another_file_is_no_log(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert not examine(path)[0].is_log


# Batches that do not follow each other


def batches_of(path: Path, number: int) -> list[bytes]:
    """Return the bytes of each batch of a log that has no other like it."""
    path.unlink(missing_ok=True)
    sizes = [0, *write_log(path, [[set_(b"k%d" % n, b"%d" % number)] for n in range(6)])]
    content = path.read_bytes()
    return [content[start:end] for start, end in pairwise(sizes)]


@pytest.mark.parametrize(
    ("order", "break_before"),
    [
        ([0, 1, 3, 4, 5], 2),  # places in the list of the batches that are there; and which one shows it
        ([1, 2, 3], 0),
        ([0, 1, 1, 2, 3], 2),
        ([0, 1, 2, 1, 2, 3], 3),
        ([0, 2, 1, 3], 1),
        ([0, 1, -3, 2, 3], 2),
        ([-1, -2, -3, 3, 4], 3),
        ([5, 4, 3, 2, 1, 0], 0),
    ],
    ids=["missing", "the first missing", "doubled", "two doubled", "swapped", "foreign", "foreign start", "backwards"],
)
def test_batches_that_do_not_follow_each_other_are_found_and_none_is_dropped(
    path: Path, order: list[int], break_before: int
) -> None:
    ours, theirs = batches_of(path, 1), batches_of(path, 2)
    pieces = [ours[n] if n >= 0 else theirs[-n - 1] for n in order]
    content = b"".join(pieces)
    path.write_bytes(content)
    place = sum(map(len, pieces[:break_before]))
    with pytest.raises(LogError, match=f"damaged at byte {place}: the batch does not follow the one before it"):
        read_log(path)
    with pytest.raises(LogError, match=f"damaged at byte {place}: the batch does not follow the one before it"):
        exported(path)
    assert path.read_bytes() == content
    found, model = examine(path)
    assert (found.losses[0].start, found.losses[0].end) == (place, place)
    assert all(loss.start == loss.end for loss in found.losses)
    mend(path)
    with replayed(path) as after:
        assert after.data == model.data
        assert [argv for _, argv in after.history] == [argv for _, argv in model.history]


def test_what_follows_a_dropped_batch_is_joined_to_what_stands_before_it(path: Path) -> None:
    pieces = batches_of(path, 1)
    path.write_bytes(b"".join([pieces[0], b"X" + pieces[1][1:], b"X" + pieces[2][1:], *pieces[3:]]))
    mend(path)
    write_log(path, [[set_(b"later", b"1")]])
    with replayed(path) as model:
        assert [key for _, key in model.data] == [b"k0", b"k3", b"k4", b"k5", b"later"]


def test_a_log_of_an_older_godis_is_continued_and_what_follows_is_linked_to_it(path: Path) -> None:
    old = [frame(resp(b"SET a %d" % number), NOW_MS + number) for number in range(3)]
    path.write_bytes(b"".join(old))
    write_log(path, [[set_(b"b", b"1")], [set_(b"c", b"1")]])
    content = path.read_bytes()
    with replayed(path) as model:
        assert len(model.data) == 3
    path.write_bytes(content.replace(old[2], b""))
    with pytest.raises(LogError, match="does not follow the one before it"):
        read_log(path)


def test_commands_of_a_redis_server_between_batches_break_no_link(path: Path) -> None:
    pieces = batches_of(path, 1)
    path.write_bytes(resp(b"SET x 1") + pieces[0] + resp(b"SET y 1") + b"# a note\r\n" + b"".join(pieces[1:]))
    with replayed(path) as model:
        assert len(model.data) == 8


# The keys of lost bytes


@pytest.mark.parametrize(
    ("data", "lines", "unread"),
    [
        (frame(resp(b"SET a 1", b"DEL b c"), 1), ["db 0: 'a'", "db 0: 'b'", "db 0: 'c'"], 0),
        (
            frame(resp(b"SELECT 7", b"RENAME a b", b"FLUSHDB"), 1),
            ["db 7: 'a'", "db 7: 'b'", "db 7: all that FLUSHDB changes"],
            0,
        ),
        (resp(b"XET a 1"), ["db ?: 'a'"], 0),
        (resp(b"SET a 1")[:-3] + b"rest", ["db ?: 'a'"], 28),
        (b"\0" * 50, [], 50),
        (b"junk" + resp(b"MULTI", b"INCRBY \xff 1", b"EXEC"), [r"db ?: '\xff'"], 4),
    ],
)
def test_keys_that_lost_bytes_may_have_touched_are_named(data: bytes, lines: list[str], unread: int) -> None:
    assert lost_keys(data) == (lines, unread)


def test_a_key_as_long_as_a_damaged_length_is_cut() -> None:
    lines, _ = lost_keys(resp(b"DEL " + b"k" * 5000))
    assert lines == [f"db ?: '{'k' * 200}'…"]


def test_a_command_too_short_for_its_keys_names_none() -> None:
    assert keys_of("db 0", [b"SET"]) == []


# Up to a moment


def until(path: Path, until_ms: int) -> Path:
    output = path.with_name(f"until-{until_ms}.txt")
    copy_until(str(path), until_ms, str(output))
    return output


@pytest.mark.parametrize("number", range(len(BATCHES) + 1))
def test_a_log_is_copied_as_of_a_moment(path: Path, number: int) -> None:
    write_log(path, BATCHES)
    with replayed(until(path, NOW_MS + number)) as model:
        assert model.data == state(BATCHES[:number])


def test_a_clock_that_was_put_back_does_not_pick_batches(path: Path) -> None:
    batches = [frame(resp(b"SET a %d" % time), time) for time in (10, 30, 20)]
    path.write_bytes(b"".join(batches))
    assert until(path, 25).read_bytes() == batches[0]


def test_lines_of_the_original_go_with_the_batch_that_dates_them(path: Path) -> None:
    lines = b"SET a 1\n" + frame(resp(b"SELECT 0"), 10)
    path.write_bytes(lines + frame(resp(b"SET b 1"), 20))
    assert until(path, 5).read_bytes() == lines


def test_a_torn_tail_is_not_copied_and_damage_is_refused(path: Path) -> None:
    sizes = write_log(path, BATCHES)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert until(path, FAR_MS).read_bytes() == content[: sizes[-2]]
    path.write_bytes(content[:100] + b"X" + content[101:])
    with pytest.raises(LogError, match=f"damaged at byte 0: .*godis.py check --repair {path}"):
        until(path, FAR_MS + 1)
    assert not path.with_name(f"until-{FAR_MS + 1}.txt").exists()


@pytest.mark.parametrize(
    ("text", "unix_ms"),
    [
        ("1700000000", NOW_MS),
        ("1700000000.25", NOW_MS + 250),
        ("1700000000250", NOW_MS + 250),
        ("2023-11-14T22:13:20Z", NOW_MS),
        ("2023-11-14T22:13:20.250+00:00", NOW_MS + 250),
        ("2023-11-15T00:13:20+02:00", NOW_MS),
    ],
)
def test_a_moment_is_seconds_or_ms_or_iso_8601(text: str, unix_ms: int) -> None:
    assert parse_time(text) == unix_ms


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "1e9", "2023-13-01", "17000000000000000"])
def test_another_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


# Export


def exported(path: Path, default_ttl_ms: int = 0) -> tuple[bytes, int]:
    pieces: list[bytes] = []
    torn_bytes = export(str(path), pieces.append, NOW_MS, default_ttl_ms)
    return b"".join(pieces), torn_bytes


@pytest.mark.parametrize(
    ("content", "plain", "torn_bytes"),
    [
        (b"", b"", 0),
        (b"# note\r\n" + frame(resp(b"SET a 1"), 1), resp(b"SELECT 0", b"SET a 1"), 0),
        (frame(resp(b"SELECT 2", b"SET a 1", b"SELECT 0"), 1) * 2, resp(b"SELECT 2", b"SET a 1", b"SET a 1"), 0),
        (
            resp(b"MULTI", b"SET a 1", b"SELECT 1", b"DEL b", b"EXEC"),
            resp(b"SELECT 0", b"SET a 1", b"SELECT 1", b"DEL b"),
            0,
        ),
        (resp(b"SET a 1", b"MULTI", b"SET b 1") + b"*", resp(b"SELECT 0", b"SET a 1"), 43),
        (b"SET a 1\nDEL b\nSET c", resp(b"SELECT 0", b"SET a 1", b"DEL b"), 5),
        (b"SETEX a 10 v\n" + frame(resp(b"SELECT 0"), 5000), resp(b"SELECT 0", b"SET a v PXAT 15000"), 0),
    ],
)
def test_a_log_is_exported_as_plain_commands(path: Path, content: bytes, plain: bytes, torn_bytes: int) -> None:
    path.write_bytes(content)
    assert exported(path) == (plain, torn_bytes)


@pytest.mark.parametrize(
    "content",
    [b"X" + frame(resp(b"SET a 1"), 1), frame(resp(b"MULTI"), 1), resp(b"EXEC"), frame(b"PING\r\n", 1), b"hello\n"],
)
def test_a_damaged_log_is_not_exported(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LogError, match=r"damaged at byte 0|is not a log"):
        exported(path)
