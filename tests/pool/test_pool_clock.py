"""The bound on an instance's clock: what time etcd's members have, and what an entry may bring."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from etcd_access import etcd_at

from pool import etcd
from pool.clock import PoolClock

NOW = 1_700_000_000.25  # by all clocks that are right
LIMIT_MS = 600_000


class Clocks:
    """An instance with a clock that is so far ahead, at members whose clocks are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ahead: float, *members: float) -> None:
        self.passed = 0.0
        monkeypatch.setattr(etcd, "monotonic", lambda: 1000 + self.passed)
        self.etcd = etcd_at("a:1", "b:1", "c:1")
        self.clock = PoolClock(self.etcd.time, lambda: NOW + self.passed + ahead)
        self.clock.limit_ms = LIMIT_MS
        for place, member_ahead in enumerate(members):
            self.hear(place, member_ahead)

    def hear(self, place: int, ahead: float) -> None:
        date = formatdate(NOW + self.passed + ahead, usegmt=True)
        self.etcd.record_date(place, date.lower().encode())


@pytest.mark.parametrize(
    ("ahead", "members", "wrong"),
    [
        (0, [0, 0, 0], False),
        (590, [0, 0, 0], False),
        (610, [0, 0, 0], True),
        (-86_400, [0, 0, 0], False),
        (86_400, [], False),
        (86_400, [0], True),
        (86_400, [86_400, 0, 0], True),
        (0, [-86_400, 0, 0], False),
        (0, [-86_400, 0], False),
        (0, [-86_400, -86_400, 0], True),
        (86_400, [86_400, 86_400, 0], False),
    ],
)
def test_a_clock_is_wrong_if_it_is_too_far_ahead_of_the_middle_one_of_etcds(
    monkeypatch: pytest.MonkeyPatch, ahead: float, members: list[float], wrong: bool
) -> None:
    clock = Clocks(monkeypatch, ahead, *members).clock
    assert clock.is_wrong == wrong
    brought_ms = clock.entry_ms()
    if wrong:
        latest = sorted(members)[len(members) // 2]
        assert NOW + latest <= brought_ms / 1000 - LIMIT_MS / 1000 <= NOW + latest + 1, (
            "the limit, and not a moment more"
        )
    else:
        assert brought_ms == int((NOW + ahead) * 1000)


def test_without_a_limit_every_clock_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch, 86_400, 0, 0, 0)
    clocks.clock.limit_ms = 0
    assert not clocks.clock.is_wrong
    assert clocks.clock.entry_ms() == int((NOW + 86_400) * 1000)
    assert 86_398_000 <= clocks.clock.ahead_ms() <= 86_400_000


def test_time_goes_on_between_answers_and_an_old_answer_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch, 86_400, 0, 86_400, 86_400)
    assert not clocks.clock.is_wrong
    clocks.passed = 59
    assert not clocks.clock.is_wrong
    clocks.hear(0, 0)
    clocks.passed = 61
    assert clocks.clock.is_wrong, "the two that agreed with it were heard of too long ago"
    clocks.passed = 200
    assert clocks.etcd.time() is None


def test_a_date_that_is_none_is_ignored() -> None:
    somewhere = etcd_at("a:1")
    somewhere.record_date(0, b"yesterday")
    assert somewhere.time() is None
