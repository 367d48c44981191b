"""The load of the pool's tests and its verdict: good for a server that is, and bad for each thing that can be wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest
from acknowledged import look
from linearizability import Operation
from pool_load import REGISTERS, Dump, Load, judge, longest_gap, parts
from rig.pool import Pool, require_parts
from servers import HOST, GodisProcess, Raw, wait_until

ENOUGH = 1000


def load_on(godis: GodisProcess, *, linearizable: bool = True) -> Load:
    place = (HOST, godis.port)
    return Load(lambda _client: (socket.socket(), place), 10, linearizable=linearizable, together=True)


def dump(raw: Raw) -> Dump:
    with raw:
        return look(raw, 0)


def run_until_enough(load: Load) -> None:
    goal = load.acknowledged + ENOUGH
    wait_until(lambda: load.acknowledged >= goal, 30, f"{ENOUGH} acknowledgements")


@pytest.mark.parametrize("linearizable", [True, False])
def test_a_single_server_is_found_good(godis: GodisProcess, linearizable: bool) -> None:
    with load_on(godis, linearizable=linearizable) as load:
        run_until_enough(load)
    verdict = judge(load, {"one": dump(godis.raw()), "again": dump(godis.raw())})
    assert verdict.is_good, verdict
    assert verdict.acknowledged >= ENOUGH
    assert min(verdict.reads, verdict.jobs, verdict.transfers, load.notes.audits) > 0
    assert verdict.unknown == verdict.refused == 0


def test_a_server_that_is_killed_and_keeps_its_log_is_found_good(godis: GodisProcess) -> None:
    with load_on(godis) as load:
        run_until_enough(load)
        godis.kill9()
        godis.start()
        run_until_enough(load)
    verdict = judge(load, {"one": dump(godis.raw())})
    assert verdict.is_good, verdict
    assert load.record.broken >= 10


def test_a_server_that_forgets_is_found_out(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--no-log") as godis:
        with load_on(godis) as load:
            run_until_enough(load)
            godis.kill9()
            godis.start()
            run_until_enough(load)
        verdict = judge(load, {"one": dump(godis.raw())})
    assert verdict.lost >= 100
    assert any("counter:shared:0 is not linearizable" in fault for fault in verdict.faults), verdict


def test_a_server_that_has_forgotten_all_in_the_end_is_found_out(tmp_path: Path) -> None:
    """While clients go on, each may have overwritten a register before one reads that it is gone."""
    with GodisProcess(tmp_path, "--no-log") as godis:
        with load_on(godis) as load:
            run_until_enough(load)
        godis.kill9()
        godis.start()
        verdict = judge(load, {"one": dump(godis.raw())})
    for register in range(REGISTERS):
        assert any(fault.startswith(f"register:{register} is not linearizable") for fault in verdict.faults), verdict


def test_instances_that_are_no_pool_are_found_out(tmp_path: Path) -> None:
    require_parts()
    pool = Pool(tmp_path, 3)
    try:
        with Load(pool.to_balancer, clients=10) as load:
            run_until_enough(load)
        verdict = judge(load, {each.instance_id: dump(each.connect(pool.front)) for each in pool.instances})
    finally:
        pool.close()
    assert any("godis-1 and godis-2 differ" in fault for fault in verdict.faults), verdict
    assert any("group:0 is not linearizable" in fault for fault in verdict.faults), verdict


def appended_once_more(found: Dump) -> Dump:
    value, deadline_ms = found[b"journal:0"]
    return {**found, b"journal:0": (value + value.split(b",")[0] + b",", deadline_ms)}


def without_a_token(found: Dump) -> Dump:
    value, deadline_ms = found[b"journal:0"]
    return {**found, b"journal:0": (value.partition(b",")[2], deadline_ms)}


def counted_once_more(found: Dump) -> Dump:
    value, deadline_ms = found[b"counter:own:0"]
    return {**found, b"counter:own:0": (b"%d" % (int(value) + 1), deadline_ms)}


def counted_once_less(found: Dump) -> Dump:
    value, deadline_ms = found[b"counter:shared:0"]
    return {**found, b"counter:shared:0": (b"%d" % (int(value) - 1), deadline_ms)}


def half_of_an_mset(found: Dump) -> Dump:
    return {**found, parts(b"group:0")[2]: (b"0.0", inf)}


def without_a_transfer(found: Dump) -> Dump:
    key = next(key for key in found if key.startswith(b"transfers:"))
    value, deadline_ms = found[key]
    return {**found, key: (value.partition(b",")[2], deadline_ms)}


def half_of_a_transfer(found: Dump) -> Dump:
    value, deadline_ms = found[b"account:0"]
    return {**found, b"account:0": (b"%d" % (int(value) + 1), deadline_ms)}


def a_job_in_two_places(found: Dump) -> Dump:
    job = found[b"queue"][0][-1]
    return {**found, b"processing:4": ((job,), inf)}  # type: ignore[dict-item]


def without_a_job(found: Dump) -> Dump:
    jobs, deadline_ms = found[b"queue"]
    return {**found, b"queue": (jobs[1:], deadline_ms)}


def another_deadline(found: Dump) -> Dump:
    value, deadline_ms = found[b"register:0"]
    return {**found, b"register:0": (value, deadline_ms + 1)}


@pytest.mark.parametrize(
    ("change", "lost", "doubled", "fault"),
    [
        (appended_once_more, 0, 1, "journal:0 is not linearizable"),
        (without_a_token, 1, 0, "journal:0 is not linearizable"),
        (counted_once_more, 0, 1, "counter:own:0 is not linearizable"),
        (counted_once_less, 1, 0, "counter:shared:0 is not linearizable"),
        (half_of_an_mset, 0, 0, "group:0 is not linearizable"),
        (without_a_transfer, 1, 0, "by the journals"),
        (half_of_a_transfer, 0, 0, "by the journals"),
        (a_job_in_two_places, 0, 1, ""),
        (without_a_job, 1, 0, ""),
        (another_deadline, 0, 0, "differ in 1 keys, as b'register:0'"),
    ],
)
def test_what_is_wrong_at_the_end_is_found(
    changed: tuple[Load, Dump], change: Callable[[Dump], Dump], lost: int, doubled: int, fault: str
) -> None:
    load, found = changed
    verdict = judge(load, {"one": change(found), "other": found})
    assert (verdict.lost, verdict.doubled) == (lost, doubled)
    assert not verdict.is_good
    assert not fault or any(fault in each for each in verdict.faults), verdict
    verdict = judge(load, {"one": change(found)})
    assert verdict.is_good == (change is another_deadline)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Load, Dump]:
    """A load that a server served well, and what it held afterwards."""
    with GodisProcess(tmp_path_factory.mktemp("godis")) as godis:
        with load_on(godis) as load:
            run_until_enough(load)
        return load, dump(godis.raw())


def test_what_was_not_answered_may_be_there_or_not(changed: tuple[Load, Dump]) -> None:
    load, found = changed
    load.record.operations[b"counter:new"].append(Operation((b"INCR",), load.stopped))
    assert judge(load, {"one": found}).is_good
    assert judge(load, {"one": {**found, b"counter:new": (b"1", inf)}}).is_good
    verdict = judge(load, {"one": {**found, b"counter:new": (b"2", inf)}})
    assert verdict.doubled == 1
    del load.record.operations[b"counter:new"]


def test_the_longest_gap_counts_from_start_to_end() -> None:
    assert longest_gap(0, 10, [1, 2, 6, 9, 11]) == 4
    assert longest_gap(0, 10, []) == 10
    assert longest_gap(0, 10, [7, 8]) == 7
    assert longest_gap(0, 10, [1, 2, 3]) == 7
