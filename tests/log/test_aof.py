"""The log's writer: batches, failures of the disk, the lock, and directories claimed by several processes."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_model import FAR_MS, IN_MEMORY, NOW_MS, read_log, set_, write_log
from servers import ROOT, wait_until

import aof
from aof import AppendOnlyLog, LogLock, NullLog, claim_directory
from errors import LogError
from log import effects as log_records
from log import lock as log_lock
from log.reader import FIRST_LINK, frame, join_checksums
from wire.columns import TABLED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


@pytest.fixture
def log(path: Path) -> Iterator[AppendOnlyLog]:
    log = AppendOnlyLog(str(path))
    log.open()
    yield log
    log.close()


def failing(code: int) -> Callable[..., int]:
    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


# Batches


def test_a_turn_is_one_batch_and_each_database_is_selected(log: AppendOnlyLog, path: Path) -> None:
    log.append(2, [b"DEL", b"a"])
    log.append(0, [b"DEL", b"b"])
    log.append(0, [b"DEL", b"c"])
    log.append(2, [b"DEL", b"d"])
    assert log.write(NOW_MS)
    words = b"SELECT 2 DEL a SELECT 0 DEL b DEL c SELECT 2 DEL d SELECT 0".split()
    payload = b"".join(
        b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(key), key)
        for name, key in zip(words[::2], words[1::2], strict=True)
    )
    assert path.read_bytes() == frame(payload, NOW_MS, FIRST_LINK)


databases = st.lists(st.integers(0, 2), max_size=4)


@given(before=databases, script=databases, meanwhile=databases, rest=databases)
def test_what_is_cut_out_of_a_turn_is_committed_in_its_databases(
    before: list[int], script: list[int], meanwhile: list[int], rest: list[int]
) -> None:
    """As a script that has paused: its effects come behind those of others, and all are in the right databases."""
    names = iter(range(100))

    def appended(log: log_records.Records, databases: list[int]) -> list[tuple[int, list[bytes]]]:
        records = [(db, [b"DEL", b"%d" % next(names)]) for db in databases]
        for db, argv in records:
            log.append(db, argv)
        return records

    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        log = AppendOnlyLog(f"{directory}/log.txt")
        log.open()
        expected = appended(log, before)
        position = log.position()
        cut_out = appended(log, script)
        effects = log.cut(position)
        expected += appended(log, meanwhile)
        cut_out += appended(effects, rest)
        log.commit(effects, [], [])
        log.write(NOW_MS)
        log.close()
        assert read_log(Path(log.path))[0].history == expected + cut_out


def test_the_first_batch_after_opening_selects_its_database_and_later_ones_start_in_0(
    log: AppendOnlyLog, path: Path
) -> None:
    log.append(0, [b"DEL", b"a"])
    log.write(NOW_MS)
    first = path.stat().st_size
    log.append(0, [b"DEL", b"a"])
    log.write(NOW_MS)
    assert b"SELECT" in path.read_bytes()[:first]
    assert b"SELECT" not in path.read_bytes()[first:]


@pytest.mark.parametrize("deadline_ms", [1, 999_999_999_999, 1_700_000_000_000, FAR_MS, 10_000_000_000_000, 2**63 - 1])
@pytest.mark.parametrize("size", [0, 1, 9, 10, TABLED - 1, TABLED, 70_000])
def test_a_set_of_ready_pieces_is_the_same_as_the_plain_command(tmp_path: Path, size: int, deadline_ms: int) -> None:
    files = []
    for name in ("ready", "many", "plain"):
        log = AppendOnlyLog(str(tmp_path / name))
        log.open()
        for key, value, db in ((b"k" * size, b"v", 0), (b"k", b"v" * size, 0), (b"", b"\r\n", 7)):
            if name == "ready":
                log.append_set(db, key, value, deadline_ms)
                log.append_set(db, value, key, deadline_ms)
                log.append_set(db, b"k", b"v", deadline_ms)
            elif name == "many":
                log.append_sets(db, [key, value, b"k"], [value, key, b"v"], deadline_ms)
            else:
                for k, v in ((key, value), (value, key), (b"k", b"v")):
                    log.append(db, set_(k, v, deadline_ms=deadline_ms)[1])
        log.write(NOW_MS)
        log.close()
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("size", [0, 1, TABLED - 1, TABLED, 70_000, log_records.LARGE_BYTES])
@pytest.mark.parametrize("words", [(), (b"1",), (b"", b"\r\n", b"w" * 2000)])
def test_records_that_are_alike_are_the_same_as_the_plain_commands(
    tmp_path: Path, size: int, words: tuple[bytes, ...]
) -> None:
    keys = [b"k" * size, b"", b"a", b"\r\n"]
    files = []
    for name in ("alike", "plain"):
        log = AppendOnlyLog(str(tmp_path / name))
        log.open()
        for db in (0, 7, 7):
            if name == "alike":
                log.append_alike(db, b"NAME", keys, *words)
                log.append_alike(db + 1, b"NAME", [], *words)
            else:
                for key in keys:
                    log.append(db, [b"NAME", key, *words])
        assert log.has_large == (size >= log_records.LARGE_BYTES)
        log.write(NOW_MS)
        log.close()
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_a_changed_deadline_is_written(log: AppendOnlyLog, path: Path) -> None:
    log.append_set(0, b"a", b"1", FAR_MS)
    log.append_set(0, b"b", b"2", FAR_MS + 1)
    log.append_set(0, b"c", b"3", FAR_MS)
    log.write(NOW_MS)
    assert [deadline for _, deadline in read_log(path)[0].data.values()] == [FAR_MS, FAR_MS + 1, FAR_MS]


def test_an_empty_turn_writes_nothing(log: AppendOnlyLog, path: Path) -> None:
    assert log.write(NOW_MS)
    log.fsync()
    assert path.stat().st_size == log.written_bytes == log.synced_bytes == 0


def test_pieces_stays_the_same_list(log: AppendOnlyLog) -> None:
    pieces = log.pieces
    log.append_set(0, b"k", b"v", FAR_MS)
    assert len(pieces) > 0
    log.write(NOW_MS)
    assert log.pieces is pieces
    assert not pieces


def test_closing_writes_and_syncs_what_is_left(path: Path) -> None:
    log = AppendOnlyLog(str(path))
    log.open()
    log.append_set(0, b"k", b"v", FAR_MS)
    log.close()
    assert read_log(path)[0].data == {(0, b"k"): (b"v", FAR_MS)}
    assert log.synced_bytes == log.written_bytes == path.stat().st_size


def test_a_log_that_is_opened_again_is_continued(path: Path) -> None:
    write_log(path, [[set_(b"a", b"1", db=5)]])
    write_log(path, [[set_(b"b", b"2")]])
    model, report = read_log(path)
    assert model.data == {(5, b"a"): (b"1", FAR_MS), (0, b"b"): (b"2", FAR_MS)}
    assert report.batches == 2


def test_a_torn_tail_cut_between_open_and_the_first_write_moves_the_offsets(path: Path) -> None:
    (size,) = write_log(path, [[set_(b"a", b"1")]])
    with path.open("ab") as file:
        file.write(b"#500 0123")
    log = AppendOnlyLog(str(path))
    log.open()
    report = read_log(path)[1]
    assert report.torn_bytes == 9
    log.link = report.link
    log.append_set(0, b"b", b"2", FAR_MS)
    assert log.write(NOW_MS)
    assert size < log.written_bytes == path.stat().st_size
    log.close()
    assert len(read_log(path)[0].data) == 2


@pytest.mark.parametrize("now_ms", [-1, -(10**12), 10**14, 10**18])
def test_a_clock_that_shows_a_time_which_no_head_has_room_for_does_not_spoil_the_log(path: Path, now_ms: int) -> None:
    log = AppendOnlyLog(str(path))
    log.open()
    for number in range(2):
        log.append_set(0, b"k%d" % number, b"v", -1)
        assert log.write(now_ms)
    log.close()
    assert len(read_log(path)[0].data) == 2


def test_the_null_log_keeps_nothing() -> None:
    log = NullLog()
    log.open()
    log.append(3, [b"DEL", b"k"])
    log.append_set(0, b"k", b"v", FAR_MS)
    assert log.pieces == []
    assert log.write(NOW_MS)
    log.fsync()
    log.close()
    assert (log.failure, log.written_bytes, log.synced_bytes) == (None, 0, 0)


# The disk fails


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failed_write_is_kept_for_the_next_try(
    log: AppendOnlyLog, path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    log.append_set(0, b"a", b"1", FAR_MS)
    assert log.write(NOW_MS)
    before = path.read_bytes()
    log.append_set(1, b"b", b"2", FAR_MS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(code))
        assert not log.write(NOW_MS)
        assert not log.write(NOW_MS)
    assert log.failure == os.strerror(code).encode()
    assert path.read_bytes() == before
    log.append_set(0, b"c", b"3", FAR_MS)
    assert log.write(NOW_MS)
    assert log.failure is None
    assert read_log(path)[0].data == {(0, b"a"): (b"1", FAR_MS), (1, b"b"): (b"2", FAR_MS), (0, b"c"): (b"3", FAR_MS)}


def test_a_write_in_many_short_steps_is_whole(log: AppendOnlyLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    log.append_set(0, b"k", b"v" * 500, FAR_MS)
    assert log.write(NOW_MS)
    assert read_log(path)[0].data == {(0, b"k"): (b"v" * 500, FAR_MS)}


def test_a_file_at_its_size_limit_is_cut_back_to_whole_batches(log: AppendOnlyLog, path: Path) -> None:
    """The kernel's own short write: RLIMIT_FSIZE takes a part of the batch, then refuses."""
    log.append_set(0, b"a", b"1", FAR_MS)
    log.write(NOW_MS)
    before = path.read_bytes()
    log.append_set(0, b"b", b"x" * 100_000, FAR_MS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50_000, limits[1]))
    try:
        written = log.write(NOW_MS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not written
    assert log.failure == os.strerror(errno.EFBIG).encode()
    assert path.read_bytes() == before
    assert log.write(NOW_MS)
    assert read_log(path)[0].data[0, b"b"] == (b"x" * 100_000, FAR_MS)


def test_a_full_disk_is_cut_back_and_written_when_there_is_space(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "godis-test", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk; the test of the size limit covers the same path")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 150_000)
        log = AppendOnlyLog(str(disk / "log.txt"))
        log.open()
        log.append_set(0, b"a", b"1", FAR_MS)
        assert log.write(NOW_MS)
        before = (disk / "log.txt").read_bytes()
        log.append_set(0, b"b", b"x" * 150_000, FAR_MS)
        assert not log.write(NOW_MS)
        assert log.failure == b"No space left on device"
        assert (disk / "log.txt").read_bytes() == before
        ballast.unlink()
        assert log.write(NOW_MS)
        log.close()
        assert log.failure is None
        assert len(read_log(disk / "log.txt")[0].data) == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_remains_of_a_failed_write_that_could_not_be_cut_are_cut_before_the_next(
    log: AppendOnlyLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append_set(0, b"a", b"1", FAR_MS)
    log.write(NOW_MS)
    whole = path.stat().st_size
    write = os.write
    log.append_set(0, b"b", b"2", FAR_MS)
    with monkeypatch.context() as patch:
        steps = iter([lambda descriptor, data: write(descriptor, data[:20]), failing(errno.EIO)])

        def write_a_part_then_fail(descriptor: int, data: bytes) -> int:
            return next(steps)(descriptor, data)

        patch.setattr(os, "write", write_a_part_then_fail)
        patch.setattr(os, "ftruncate", failing(errno.EIO))
        assert not log.write(NOW_MS)
        assert path.stat().st_size == whole + 20
        log.inspect()
        assert not log.damage, "its own remains are nothing that others did"
        assert not log.write(NOW_MS)
        assert path.stat().st_size == whole + 20
    assert log.write(NOW_MS)
    assert len(read_log(path)[0].data) == 2


class Disk:
    """A disk under a page cache: after a failed fsync the pages count as clean, though they were never written."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.durable = b""
        self.failing = False
        self._dirty: list[tuple[int, int]] = []
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(aof, "_sync", self.sync)

    def write(self, descriptor: int, data: bytes) -> int:
        start = os.fstat(descriptor).st_size
        written = self._write(descriptor, data)
        self._dirty.append((start, start + written))
        return written

    def sync(self, _descriptor: int) -> None:
        dirty, self._dirty = self._dirty, []
        if self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        cached = self.path.read_bytes()
        durable = bytearray(self.durable[: len(cached)].ljust(len(cached), b"\0"))
        for start, end in dirty:
            durable[start:end] = cached[start:end]
        self.durable = bytes(durable)


@pytest.fixture
def disk(log: AppendOnlyLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(path, monkeypatch)


def fail_an_fsync(log: AppendOnlyLog, disk: Disk) -> None:
    """Sync one batch, then fail to sync two more."""
    for key in (b"a", b"b", b"c"):
        log.append_set(0, key, b"1", FAR_MS)
        assert log.write(NOW_MS)
        disk.failing = key == b"c"
        if key != b"b":
            log.fsync()
    assert log.failure == log.fsync_failure == b"Input/output error"


def test_after_a_failed_fsync_all_since_the_last_good_one_is_written_again(
    log: AppendOnlyLog, path: Path, disk: Disk
) -> None:
    fail_an_fsync(log, disk)
    synced_bytes = log.synced_bytes
    log.fsync()
    assert log.failure is not None
    assert log.synced_bytes == synced_bytes
    disk.failing = False
    log.fsync()
    assert log.failure is None
    assert disk.durable == path.read_bytes()
    assert log.synced_bytes == log.written_bytes == len(disk.durable)
    assert len(read_log(path)[0].data) == 3


def test_nothing_is_written_while_fsync_fails_and_all_is_afterwards(log: AppendOnlyLog, path: Path, disk: Disk) -> None:
    fail_an_fsync(log, disk)
    before = path.read_bytes()
    assert not log.write(NOW_MS)
    log.append_set(0, b"d", b"1", FAR_MS)
    assert not log.write(NOW_MS)
    assert path.read_bytes() == before
    disk.failing = False
    log.fsync()
    assert log.write(NOW_MS)
    log.fsync()
    assert disk.durable == path.read_bytes()
    assert len(read_log(path)[0].data) == 4


def test_a_file_that_is_being_repaired_is_not_taken_for_one_that_others_cut(
    log: AppendOnlyLog, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_an_fsync(log, disk)
    disk.failing = False
    write = AppendOnlyLog._write_all
    sizes: list[int] = []

    def look_first(log: AppendOnlyLog, data: bytes) -> None:
        sizes.append(os.path.getsize(log.path))
        log.inspect()
        write(log, data)

    monkeypatch.setattr(AppendOnlyLog, "_write_all", look_first)
    log.fsync()
    assert log.failure is None
    assert sizes[0] < log.written_bytes
    assert not log.damage


def test_nothing_is_written_into_a_log_in_whose_place_another_file_stands(log: AppendOnlyLog, path: Path) -> None:
    """Not even what reads have to log, since writes would be acknowledged then that no start finds."""
    log.append_set(0, b"a", b"1", FAR_MS)
    assert log.write(NOW_MS)
    own = path.rename(path.with_name("moved"))
    path.write_bytes(b"somebody's")
    log.inspect()
    assert log.failure == aof.REPLACED
    log.append(0, (b"DEL", b"a"))
    size = own.stat().st_size
    for _ in log.write_again([], lambda: NOW_MS):
        pass
    assert not log.write(NOW_MS)
    assert (log.failure, own.stat().st_size) == (aof.REPLACED, size)
    own.replace(path)
    log.inspect()
    assert log.write(NOW_MS)
    assert log.failure is None


def test_a_log_that_fails_at_the_last_moment_is_not_succeeded(log: AppendOnlyLog, path: Path) -> None:
    log.append_set(0, b"a", b"1", FAR_MS)
    assert log.write(NOW_MS)
    before = path.read_bytes()
    successor = log.start_successor()
    reader = log.open_to_read()
    for failure in ("write_failure", "fsync_failure"):
        setattr(log, failure, b"the disk is gone")
        log.failure = b"the disk is gone"
        with pytest.raises(OSError, match="not whole"):
            log.succeed(successor, reader)
        setattr(log, failure, None)
    log.failure = None
    successor.copy_in(before)
    os.truncate(successor.path, 10)
    with pytest.raises(OSError, match="not whole"):
        log.succeed(successor, reader)
    assert path.read_bytes() == before
    log.append_set(0, b"b", b"2", FAR_MS)
    assert log.write(NOW_MS)
    assert path.read_bytes().startswith(before)
    successor.remove_file()
    successor.close_removed()
    reader.close()


def test_closing_repairs_a_failed_fsync(log: AppendOnlyLog, path: Path, disk: Disk) -> None:
    fail_an_fsync(log, disk)
    log.append_set(0, b"d", b"1", FAR_MS)
    disk.failing = False
    log.close()
    assert log.failure is None
    assert disk.durable == path.read_bytes()
    assert len(read_log(path)[0].data) == 4


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda end: end[:-5] + b"\0" + end[-4:],
        lambda end: end[:-7],
        lambda end: b"# " + b"x" * (len(end) - 3) + b"\n",  # what a log may hold, but nothing that was written
    ],
    ids=["a byte", "shorter", "a comment"],
)
def test_pages_that_do_not_read_back_right_keep_the_log_failed(
    log: AppendOnlyLog, path: Path, disk: Disk, spoilt: Callable[[bytes], bytes]
) -> None:
    fail_an_fsync(log, disk)
    disk.failing = False
    content = path.read_bytes()
    path.write_bytes(content[: log.synced_bytes] + spoilt(content[log.synced_bytes :]))
    log.fsync()
    assert log.failure == aof.READ_BACK_FAILED
    assert not log.write(NOW_MS)
    assert disk.durable == content[: log.synced_bytes]
    path.write_bytes(content)
    log.fsync()
    assert log.failure is None


def test_a_repair_that_fails_halfway_still_has_the_bytes(
    log: AppendOnlyLog, path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_an_fsync(log, disk)
    disk.failing = False
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(errno.ENOSPC))
        log.fsync()
    assert log.failure == b"No space left on device"
    assert path.stat().st_size == log.synced_bytes
    log.fsync()
    assert log.failure is None
    assert path.read_bytes() == disk.durable == content


def test_an_fsync_vouches_only_for_what_was_written_before_it_began(
    log: AppendOnlyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_meanwhile(_descriptor: int) -> None:
        log.append_set(0, b"b", b"2", FAR_MS)
        assert log.write(NOW_MS)

    log.append_set(0, b"a", b"1", FAR_MS)
    log.write(NOW_MS)
    before = log.written_bytes
    monkeypatch.setattr(aof, "_sync", write_meanwhile)
    log.fsync()
    assert log.synced_bytes == before < log.written_bytes


def test_a_repair_waits_for_a_write_that_is_on_its_way(
    log: AppendOnlyLog, path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append_set(0, b"a", b"1", FAR_MS)
    log.write(NOW_MS)
    disk.failing = True

    def fail_meanwhile(descriptor: int, data: bytes) -> int:
        written = disk.write(descriptor, data[:10])
        log.fsync()
        disk.failing = False
        log.fsync()
        assert path.stat().st_size > log.written_bytes
        return written

    log.append_set(0, b"b", b"2", FAR_MS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail_meanwhile)
        log.write(NOW_MS)
    assert log.failure == b"Input/output error"
    log.fsync()
    assert log.failure is None
    assert disk.durable == path.read_bytes()
    assert len(read_log(path)[0].data) == 2


def test_a_thread_that_syncs_and_fails_while_batches_are_written_loses_nothing(
    log: AppendOnlyLog, path: Path, disk: Disk
) -> None:
    done = threading.Event()

    def sync() -> None:
        while not done.is_set():
            disk.failing = not disk.failing
            log.fsync()

    thread = threading.Thread(target=sync)
    thread.start()
    written = refused = 0

    def write_one_more() -> bool:
        nonlocal written, refused
        for _ in range(50):
            log.append_set(0, b"k%d" % written, b"v", FAR_MS)
            written += 1
            refused += not log.write(NOW_MS)
        return written >= 500 and refused > 0

    try:
        wait_until(write_one_more, 20, "500 batches, and one that a failed fsync held up")
    finally:
        done.set()
        thread.join()
    disk.failing = False
    log.close()
    assert log.failure is None
    assert disk.durable == path.read_bytes()
    assert [argv[1] for _, argv in read_log(path)[0].history] == [b"k%d" % number for number in range(written)]


# Opening


def test_a_directory_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"Is a directory; give a file"):
        AppendOnlyLog(str(tmp_path)).open()


def test_a_device_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log.txt").symlink_to("/dev/null")
    with pytest.raises(LogError, match=r"cannot be used"):
        AppendOnlyLog(str(tmp_path / "log.txt"), lock=LogLock(str(tmp_path / "other"))).open()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"missing/log\.txt.*create its directory first"):
        AppendOnlyLog(str(tmp_path / "missing" / "log.txt")).open()


def test_a_log_that_may_not_be_written_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"")
    if os.geteuid():
        path.chmod(0o400)
    else:  # root may write everything
        real = os.open
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        def open_(name: str, *args: int) -> int:
            if name == str(path):
                raise denied
            return real(name, *args)

        monkeypatch.setattr(os, "open", open_)
    with pytest.raises(LogError, match=r"Permission denied; let this user read and write it"):
        AppendOnlyLog(str(path)).open()
    monkeypatch.undo()
    path.chmod(0o600)
    AppendOnlyLog(str(path)).open()  # the lock was given back


# The lock

HOLD = """
import sys
from aof import AppendOnlyLog, claim_directory
kind, path, instance = sys.argv[1:]
lock = claim_directory(path, instance) if kind == "claim" else None
log = AppendOnlyLog(lock.log_path if lock else path, instance, lock)
log.open()
print(log.path, flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that holds a log until it is ended."""

    def __init__(self, kind: str, path: Path, instance: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, kind, str(path), instance],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def log_path(self) -> str:
        """Wait until the process holds its log."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill9(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    holders: list[Holder] = []

    def start(kind: str, path: Path, instance: str = "") -> Holder:
        holders.append(Holder(kind, path, instance))
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill9()


def test_a_second_process_is_refused_and_told_who_holds_the_log(path: Path, hold: Callable[..., Holder]) -> None:
    holder = hold("log", path, "first")
    assert holder.log_path() == str(path)
    with pytest.raises(LogError, match=rf"in use by process {holder.process.pid} on host .*, instance first"):
        AppendOnlyLog(str(path)).open()


def test_the_lock_ends_with_its_process(path: Path, hold: Callable[..., Holder]) -> None:
    holder = hold("log", path)
    holder.log_path()
    holder.kill9()
    log = AppendOnlyLog(str(path))
    log.open()
    log.close()


def test_the_lock_outlives_a_rename_of_the_log(path: Path, hold: Callable[..., Holder]) -> None:
    hold("log", path).log_path()
    path.rename(path.with_suffix(".old"))
    with pytest.raises(LogError, match="in use by process"):
        AppendOnlyLog(str(path)).open()


def test_a_log_whose_lock_was_removed_is_still_held(path: Path, hold: Callable[..., Holder]) -> None:
    holder = hold("log", path)
    holder.log_path()
    Path(f"{path}.lock").unlink()
    for _ in range(2):
        with pytest.raises(LogError, match=r"in use by another process, whose .*log\.txt\.lock was removed"):
            AppendOnlyLog(str(path)).open()
        assert not Path(f"{path}.lock").exists()
    holder.kill9()
    log = AppendOnlyLog(str(path))
    log.open()
    log.close()


def test_an_owner_whose_lock_was_removed_removes_no_other_owners(path: Path) -> None:
    lock_path = Path(f"{path}.lock")
    first = LogLock(str(path))
    assert first.try_take()
    lock_path.unlink()
    second = LogLock(str(path))
    assert second.try_take()
    first.release()
    assert lock_path.exists()
    assert not LogLock(str(path)).try_take()
    second.release()
    assert not lock_path.exists()


def test_who_waited_for_a_lock_that_was_removed_takes_the_one_that_has_the_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, its owner gives it back."""
    owner, late = LogLock(str(path)), LogLock(str(path))
    assert owner.try_take()
    lock = log_lock._lock

    def give_back_first(descriptor: int) -> bool:
        owner.release()
        return lock(descriptor)

    monkeypatch.setattr(log_lock, "_lock", give_back_first)
    assert late.try_take()
    monkeypatch.undo()
    assert not LogLock(str(path)).try_take()
    late.release()


@pytest.mark.parametrize("refused", ["a directory", "a missing directory", "a device", "a pipe"])
def test_a_log_that_cannot_be_used_is_named_and_leaves_no_lock(tmp_path: Path, refused: str) -> None:
    path = tmp_path / "log.txt"
    match refused:
        case "a directory":
            path.mkdir()
        case "a missing directory":
            path = tmp_path / "missing" / "log.txt"
        case "a device":
            path.symlink_to("/dev/null")
        case "a pipe":
            os.mkfifo(path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(LogError, match=f"the log {path} cannot be used: "):
        AppendOnlyLog(str(path)).open()
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/dev/null.lock").exists()


def test_another_name_for_a_held_log_is_refused(path: Path, log: AppendOnlyLog) -> None:
    link = path.with_name("link.txt")
    link.symlink_to(path)
    with pytest.raises(LogError, match=f"in use by process {os.getpid()}"):
        AppendOnlyLog(str(link)).open()


def test_closing_gives_the_lock_back(path: Path) -> None:
    for _ in range(2):
        log = AppendOnlyLog(str(path))
        log.open()
        log.close()
        log.close()


def test_processes_that_share_a_volume_claim_a_directory_each(tmp_path: Path, hold: Callable[..., Holder]) -> None:
    root = tmp_path / "data"
    holders = [hold("claim", root, f"i{number}") for number in range(4)]
    by_path = {holder.log_path(): holder for holder in holders}
    assert set(by_path) == {str(root / str(number) / "log.txt") for number in (1, 2, 3, 4)}
    by_path[str(root / "2" / "log.txt")].kill9()
    assert hold("claim", root).log_path() == str(root / "2" / "log.txt")
    assert hold("claim", root).log_path() == str(root / "5" / "log.txt")


def test_a_claimed_log_has_its_data_again_after_a_crash(tmp_path: Path, hold: Callable[..., Holder]) -> None:
    first = claim_directory(str(tmp_path))
    log = AppendOnlyLog(first.log_path, lock=first)
    log.open()
    log.append_set(0, b"k", b"v", FAR_MS)
    log.close()
    assert hold("claim", tmp_path).log_path() == first.log_path
    assert read_log(Path(first.log_path))[0].data == {(0, b"k"): (b"v", FAR_MS)}


def test_a_claim_is_refused_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LogError, match="cannot be used"):
        claim_directory(str(tmp_path / "file"))


def test_a_batch_for_whose_copy_there_is_no_memory_is_the_same_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> bytes:
        raise MemoryError

    files = []
    for name in ("plain", "starved"):
        log = AppendOnlyLog(str(tmp_path / name))
        log.open()
        log.append_set(0, b"a", b"1", FAR_MS)
        if name == "starved":
            monkeypatch.setattr(aof, "frame", no_memory)
            monkeypatch.setattr(log_records, "encode_command", no_memory)
        log.append(0, (b"APPEND", b"a", bytes(range(256)) * 1000))
        log.append(0, (b"APPEND", b"b", b"2"))
        assert log.write(NOW_MS)
        files.append((tmp_path / name).read_bytes())
        assert len(files[-1]) == log.written_bytes
        log.close()
    assert files[0] == files[1]


@given(st.binary(max_size=300), st.binary(max_size=3000))
def test_checksums_are_joined_as_if_they_were_made_of_all_at_once(first: bytes, second: bytes) -> None:
    assert join_checksums(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)
