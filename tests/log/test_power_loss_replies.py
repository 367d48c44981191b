"""The power goes while replies wait for their fsync: nothing is gone that any reply told of, under `always`.

The machine of unsynced_machine.py, on the disk of power_loss.py: clients write, read what others write, change the
policy, and have the log written anew, while fsyncs take long and fail. At any moment the power may go; then the program
starts on what the disk may hold. What it finds was true at some time, and each reply that was sent before is true of
it: a write that was acknowledged is there, and whatever a read had shown, a value or that there was none, is so still.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from instances import State
from log_mutants import forget_directories, promise_what_is_written
from power_loss import Recorder
from recovery import Lost, start_on
from soak import THOROUGHNESS
from stepped_turn import Rig
from unsynced_machine import Asked, NothingUnsyncedIsShown, answer

from net.unsynced import UnsyncedKeys

MOST_STATES = 8


class NothingToldIsLost(NothingUnsyncedIsShown):
    """The disk is the judge, not what the log says of itself."""

    def __init__(self) -> None:
        self.told: list[Asked] = []
        self.starts = 0
        self.found: dict[frozenset[tuple[str, bytes | None]], State] = {}  # by what the disk held: a start on each
        super().__init__()

    def make_rig(self) -> Rig:
        directory = Path(self.directory.name).resolve() / "disk"
        directory.mkdir()
        self.recorder = Recorder(directory, self.patch)
        return Rig(directory, self.patch, sync=self.recorder.sync)

    def look_at(self, asked: Asked) -> None:
        """Remember a reply that is being sent under `always`."""
        if self.rig.config.appendfsync == "always":
            self.told.append(asked)

    @rule(seed=st.integers(0, 1 << 16))
    def lose_power(self, seed: int) -> None:
        for state in self.recorder.disk.states(MOST_STATES, Random(seed)):
            left = frozenset(state.items())
            if left not in self.found:
                self.found[left] = start_on(state, self.recorder.disk.root)
            self.examine(self.found[left])

    def examine(self, found: State) -> None:
        """Look whether what a start finds was true at some time, and whether it belies a reply."""
        self.starts += 1
        ends = [end for end, state in self.history if state == found]
        if not ends:
            raise Lost(f"found {found}, which never was")
        for asked in self.told:
            if asked.end_bytes > ends[-1]:
                if asked.wrote:
                    raise Lost(f"{asked.words} was acknowledged")
                if answer(found, asked.db, asked.now_ms, asked.words) != asked.reply:
                    raise Lost(f"{asked.words} was answered {asked.reply!r}")


TestNothingToldIsLost = NothingToldIsLost.TestCase
TestNothingToldIsLost.settings = settings(max_examples=8 * THOROUGHNESS, stateful_step_count=50, deadline=None)


def let_readers_go(patch: pytest.MonkeyPatch) -> None:
    """Only who writes waits."""
    patch.setattr(UnsyncedKeys, "has_shown", lambda _unsynced, _session: False)


def forget_with_any_fsync(patch: pytest.MonkeyPatch) -> None:
    """Take an fsync to cover also what was written since it began."""

    def end_fsync(unsynced: UnsyncedKeys) -> None:
        unsynced._generations.clear()
        unsynced._recent.clear()
        unsynced._collect_sets()

    patch.setattr(UnsyncedKeys, "end_fsync", end_fsync)


def forget_what_is_being_synced(patch: pytest.MonkeyPatch) -> None:
    """Take what an fsync is about to cover to be covered."""
    begin_fsync = UnsyncedKeys.begin_fsync

    def begin_and_forget(unsynced: UnsyncedKeys) -> None:
        begin_fsync(unsynced)
        unsynced._generations.clear()
        unsynced._collect_sets()

    patch.setattr(UnsyncedKeys, "begin_fsync", begin_and_forget)


def hide_nothing(patch: pytest.MonkeyPatch) -> None:
    """Show what is unsynced when `always` begins."""
    patch.setattr(UnsyncedKeys, "hide_everything", lambda _unsynced: None)


MUTANTS = [
    let_readers_go,
    forget_with_any_fsync,
    forget_what_is_being_synced,
    hide_nothing,
    promise_what_is_written,
    forget_directories,
]


def live(machine: NothingToldIsLost, random: Random, steps: int) -> None:
    """Do what is likely to show a fault: a few keys, written and read in turn, and fsyncs that are often under way."""
    policies = ["always", "always", "always", "everysec"]
    actions: list[tuple[int, Callable[[], object]]] = [
        (8, lambda: machine.change(random.randrange(4), [("SET", random.choice("abc"), random.choice("123"))])),
        (2, lambda: machine.change(random.randrange(4), [("DEL", random.choice("abc"))])),
        (8, lambda: machine.read(random.randrange(4), [("GET", random.choice("abc"))])),
        (2, lambda: machine.read(random.randrange(4), [("DBSIZE",)])),
        (8, machine.end_turn),
        (4, lambda: machine.rig.jobs and not machine.thread_ran and machine.run_thread(random.random() < 0.1)),
        (4, lambda: machine.thread_ran and machine.hear_of_it()),
        (1, machine.begin_a_rewrite),
        (3, machine.go_on_with_the_rewrite),
        (1, lambda: machine.change_policy(random.choice(policies))),
        (1, lambda: machine.wait(random.choice([0.25, 1, 3]))),
        (6, lambda: machine.lose_power(random.randrange(1 << 16))),
    ]
    weights = [weight for weight, _ in actions]
    for _, action in random.choices(actions, weights, k=steps):
        action()


def live_and_lose_power(seeds: range) -> tuple[int, int]:
    """Return how many starts after a loss of power there were, and how many replies before them."""
    starts = replies = 0
    for seed in seeds:
        machine = NothingToldIsLost()
        try:
            live(machine, Random(seed), 150)
        finally:
            machine.teardown()
        starts, replies = starts + machine.starts, replies + len(machine.told)
    return starts, replies


@pytest.mark.timeout(60 + 30 * THOROUGHNESS)
def test_wherever_the_power_goes_nothing_that_a_reply_told_is_lost() -> None:
    starts, replies = live_and_lose_power(range(5 * THOROUGHNESS))
    print(f"{starts} starts after a loss of power, {replies} replies")
    assert starts > 100
    assert replies > 50


@pytest.mark.parametrize("mutate", MUTANTS)
def test_a_server_that_tells_too_much_is_caught(mutate: Callable[[pytest.MonkeyPatch], None]) -> None:
    """The machine proves something only if it finds what is wrong."""
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        with pytest.raises(Lost):
            live_and_lose_power(range(100))
