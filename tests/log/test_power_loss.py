"""The machine loses power at any moment: what an fsync vouched for is there, and what is there was true once.

The log, its rewrite, the replay and the repair run for real on a recorded disk (power_loss.py). At each of their calls
to the system a crash is supposed, and the program starts on what the disk may then hold. GODIS_SOAK=n looks at n times
as many of these states.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
from instances import State, state_of
from log_model import IN_MEMORY, NOW_MS, set_, write_log
from log_mutants import believe_the_second_fsync, forget_directories, forget_the_copy, promise_what_is_written
from power_loss import SECTOR_BYTES, Disk, Recorder, StoredFile
from recovery import Lost, recover, start_on
from rewrite_rig import DATABASES, Rig
from soak import THOROUGHNESS

from aof import AppendOnlyLog, claim_directory
from errors import LogError
from log.check import Examiner, Findings, repair


class Witness:
    """Knows what was true after each batch, and examines what a crash leaves of it."""

    def __init__(self, rig: Rig, recorder: Recorder, random: Random, most: int = 6) -> None:
        self.rig = rig
        self.recorder = recorder
        self.random = random
        self.most = most * THOROUGHNESS
        self.examined = self.refused = 0
        self._history: list[tuple[int, State]] = [(0, {})]
        self._seen: set[int] = set()

    def end_turn(self) -> None:
        """Write what is left of a turn, and remember what is true then."""
        self.rig.end_turn()
        self._history.append((self.rig.log.written_bytes, state_of(self.rig.store)))

    def allowed(self) -> list[State]:
        """Return what may be found: what the last good fsync vouches for, and all that was true later."""
        promised = max(n for n, (end, _) in enumerate(self._history) if end <= self.rig.log.synced_bytes)
        return [*(state for _, state in self._history[promised:]), state_of(self.rig.store)]

    def examine(self, garbage: bool = False) -> None:
        """Start on what a crash now may leave."""
        allowed = self.allowed()
        for state in self.recorder.disk.states(self.most, self.random, garbage):
            number = hash((frozenset(state.items()), self.rig.log.synced_bytes))
            if number in self._seen:
                continue
            self._seen.add(number)
            self.examined += 1
            try:
                found = start_on(state, self.recorder.disk.root)
            except LogError as error:
                if not garbage and "whole batches follow" not in str(error):
                    raise Lost(f"refused: {error}") from error
                self.refused += 1
                continue
            if found not in allowed:
                raise Lost(f"found {found}, not one of {allowed}")


@contextmanager
def recorded_rig(directory: Path, page_bytes: int = SECTOR_BYTES) -> Iterator[tuple[Rig, Recorder]]:
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(directory, patch, page_bytes)
        rig = Rig(os.path.realpath(directory))
        try:
            yield rig, recorder
        finally:
            recorder.after_call = lambda: None
            run = rig.rewriter._run
            rig.rewriter.abandon()
            if run is not None:
                run.close()
            for job, _ in rig.jobs:
                job()
            rig.log.close()


def live(rig: Rig, witness: Witness, random: Random, turns: int = 24) -> None:
    """Write, flush, sync now and then, rewrite twice, let an fsync fail."""
    for turn in range(turns):
        for _ in range(random.randint(1, 4)):
            rig.ask("SELECT", random.randrange(DATABASES))
            rig.ask("SET", f"k{random.randrange(8)}", "v" * random.choice([1, 90, 700]) + str(turn))
            rig.ask("DEL", f"k{random.randrange(8)}")
        if turn == turns // 2:
            rig.ask("FLUSHALL")
        if turn in (5, 15):
            rig.ask("BGREWRITEAOF")
        witness.end_turn()
        if turn == turns // 2:
            witness.recorder.failing_syncs = 1
            rig.log.fsync()
            assert rig.log.failure
            rig.log.fsync()
            assert not rig.log.failure
        if rig.instance.rewrite.in_progress:
            rig.step()
        elif random.random() < 0.4:
            rig.log.fsync()
    rig.finish()
    rig.log.fsync()


# The disk itself: what it forgets


def test_what_is_not_synced_may_be_there_in_any_mixture_and_what_is_synced_stays() -> None:
    file = StoredFile(4)
    file.write(0, b"aaaabbbb")
    file.begin_sync()()
    file.write(2, b"AAAAAA")
    file.write(8, b"c")
    disk = Disk("/d")
    disk.shown["/d/f"] = disk._kept["/d/f"] = file
    found = {state["/d/f"] for state in disk.states(1000, Random(1))}
    assert found == {
        first + second + third
        for first in (b"aaaa", b"aaAA")
        for second in (b"bbbb", b"AAAA")
        for third in (b"", b"\0", b"c")
    }


def test_bytes_written_during_an_fsync_are_not_vouched_for_by_it() -> None:
    file = StoredFile(4)
    file.write(0, b"one.")
    succeed = file.begin_sync()
    file.write(4, b"two.")
    succeed()
    assert file.content(lambda count: count - 1) == b"one."
    assert file.content(lambda _: 0) == b"one.two."


def test_after_an_fsync_that_failed_the_next_one_does_not_write_its_pages() -> None:
    file = StoredFile(4)
    file.write(0, b"one.")
    file.begin_sync()  # and never succeeds
    file.write(4, b"two.")
    file.begin_sync()()
    contents = {file.content(Random(seed).randrange) for seed in range(50)}
    assert contents == {b"one.two.", bytes(4) + b"two."}
    file.write(0, b"one.")
    file.begin_sync()()
    assert file.content(lambda count: count - 1) == b"one.two."


def test_a_rename_may_be_undone_until_the_directory_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(name.encode())
    recorder = Recorder(tmp_path, monkeypatch)
    os.replace(tmp_path / "new", tmp_path / "old")

    def found() -> list[dict[str, bytes | None]]:
        states = recorder.disk.states(10, Random(1))
        return [{os.path.basename(path): content for path, content in state.items()} for state in states]

    assert found() == [{"old": b"new"}, {"old": b"old", "new": b"new"}]
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    assert found() == [{"old": b"new"}]


# The log and its rewrite


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory to be made, and recorded."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        yield Path(directory) / "disk"


@pytest.mark.parametrize("garbage", [False, True])
@pytest.mark.parametrize("page_bytes", [SECTOR_BYTES, 4096])
def test_what_an_fsync_vouched_for_is_there_wherever_the_power_goes(disk: Path, page_bytes: int, garbage: bool) -> None:
    """Where a page is lost within a batch and later batches are there, or a lost page shows what its block held before,
    a start may be refused; never is it wrong.
    """
    with recorded_rig(disk, page_bytes) as (rig, recorder):
        witness = Witness(rig, recorder, Random(page_bytes))
        recorder.after_call = partial(witness.examine, garbage)
        live(rig, witness, Random(page_bytes + garbage))
        assert witness.examined > 300
        print(f"{witness.examined} states examined, {witness.refused} refused")
        assert not garbage or witness.refused > 0
        assert garbage or witness.refused < witness.examined / 10  # a page lost within a batch, and a later one there
        assert not any(name.endswith(".rewrite") for name in recorder.disk.state(lambda _: 0))


MUTANTS = [forget_directories, forget_the_copy, promise_what_is_written, believe_the_second_fsync]


@pytest.mark.parametrize("mutate", MUTANTS)
def test_a_log_that_syncs_too_little_is_caught(disk: Path, mutate: Callable[[pytest.MonkeyPatch], None]) -> None:
    """The layer proves something only if it finds what is wrong."""
    with recorded_rig(disk) as (rig, recorder), pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        witness = Witness(rig, recorder, Random(1), most=20)
        recorder.after_call = witness.examine
        with pytest.raises(Lost):
            live(rig, witness, Random(1))


# Start-up, repair, and the names above the log


def examine_each_call(directory: Path, run: Callable[[], None], allowed: list[State], most: int = 60) -> int:
    """Suppose a crash after each call of `run`, start on what may be left, and return how many states there were."""
    seen: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(directory, patch)

        def examine() -> None:
            for state in recorder.disk.states(most * THOROUGHNESS, Random(len(seen))):
                if (number := hash(frozenset(state.items()))) in seen:
                    continue
                seen.add(number)
                assert found_or_refused(partial(start_on, state, recorder.disk.root)) in allowed, state

        recorder.after_call = examine
        run()
    return len(seen)


def found_or_refused(start: Callable[[], State]) -> State:
    """Start on a log; a refusal is a state, too."""
    try:
        return start()
    except LogError:
        return {(0, b"refused"): (b"", -1)}


def written(path: Path) -> list[State]:
    """Write a log of a few batches; return the state after each."""
    batches = [[set_(b"k%d" % number, b"v" * 300)] for number in range(4)]
    states = []
    for batch in batches:
        write_log(path, [batch])
        states.append(recover(str(path)))
    return states


def test_a_start_that_cuts_a_torn_tail_off_may_itself_lose_power(disk: Path) -> None:
    disk.mkdir()
    path = disk / "log.txt"
    states = written(path)
    with path.open("ab") as file:
        file.write(b"#700 12345678 1700000000000\r\n*1")

    assert examine_each_call(disk, lambda: read_state(path, states[-1]), [states[-1]]) >= 4


def read_state(path: Path, expected: State) -> None:
    assert recover(str(path)) == expected


def test_a_repair_that_loses_power_leaves_the_damaged_log_or_the_mended_one(disk: Path) -> None:
    disk.mkdir()
    path = disk / "log.txt"
    last = written(path)[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2 - 20] ^= 1
    path.write_bytes(content)
    refused = found_or_refused(partial(recover, str(path)))

    def examined(log: str) -> Findings:
        with open(log, "rb") as file:
            return Examiner(log, file, lambda _db, _argv: None, NOW_MS, 0).examine()

    mended = dict(last)
    del mended[0, b"k1"]
    states = examine_each_call(disk, lambda: repaired(path, examined), [refused, mended])
    assert states > 10
    assert recover(str(path)) == mended


def repaired(path: Path, examined: Callable[[str], Findings]) -> None:
    repair(str(path), examined(str(path)), examined)


@pytest.mark.parametrize("how", ["plain", "claimed", "linked"])
def test_the_name_of_a_new_log_lasts(tmp_path: Path, how: str) -> None:
    """Whatever was made on the way to the log, directories and the file a link leads to, is there after a crash."""
    directory = tmp_path / "disk"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(directory, patch)
        lock = claim_directory(str(directory / "volume" / "pool")) if how == "claimed" else None
        path = str(directory / "log.txt")
        if how == "linked":
            path = str(tmp_path / "link.txt")
            os.symlink(directory / "log.txt", path)
        log = AppendOnlyLog(lock.log_path if lock else path, lock=lock)
        log.open()
        log.append_set(0, b"k", b"v", -1)
        assert log.write(NOW_MS)
        log.fsync()
        states = list(recorder.disk.states(100, Random(1)))
        log.close()
    logs = {content for state in states for name, content in state.items() if name.endswith("log.txt")}
    assert [state for state in states if not any(name.endswith("log.txt") for name in state)] == []
    assert len(logs) == 1
    assert b"".join(filter(None, logs)).endswith(b"$1\r\nk\r\n$1\r\nv\r\n")
