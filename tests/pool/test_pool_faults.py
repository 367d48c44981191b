"""A pool behind the project's nginx.conf: what clients see while its parts are killed, frozen and cut off.

Real etcd, real nginx, each part on a host of its own. Fifty clients write and read, and note what they saw
(`pool_load`); meanwhile something happens (`pool_faults`); then the verdict: no acknowledged write is lost, none is
applied twice, what was read fits one single order of all writes, and all instances hold the same. Of a queue no job is
lost or given twice, and transfers between accounts leave their sum as it is (`pool_together`).

`make test` does each kind once; `make soak-pool ROUNDS=20` each fault so many times, and prints the table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from acknowledged import look
from pool_faults import FAULTS, GO_ON_WRITES, Fault, go_on
from pool_load import Dump, Load, Verdict, judge
from rig.pool import Instance, Pool, require_parts
from servers import PATIENCE_SECONDS, parse, require, wait_until

ROUNDS = int(os.environ.get("GODIS_SOAK", "0"))
SEED = os.environ.get("GODIS_SEED", "")
# The short run waits for parts to come and go; in the meantime, fifty clients need not take all of two cores.
PAUSE_SECONDS = 0 if ROUNDS else 0.4
# A pool that takes a snapshot and trims its log every second or so, and not once an hour.
LINEARIZABLE = {"GODIS_POOL_READS": "linearizable", "GODIS_POOL_SNAPSHOT_ENTRIES": "200"}
LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

# What one load goes through in `make test`.
SHORT = {
    "processes": [
        "kill -9 of an instance",
        "kill -9 of etcd's follower",
        "kill -9 of etcd's leader",
        "SIGSTOP of an instance",
        "SIGSTOP of etcd's follower",
        "SIGSTOP of etcd's leader",
    ],
    "network and log": [
        "cut off: etcd's follower",
        "cut off: an instance, from etcd",
        "cut off: etcd's leader with an instance",
        "quorum killed and back",
        "the log compacted",
        "a new instance",
    ],
}

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    require_parts()
    pools: list[Pool] = []

    def make(env: dict[str, str], instances: int = 3) -> Pool:
        pools.append(Pool(tmp_path, instances, etcd=3, env=env))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def dump(pool: Pool) -> dict[str, Dump]:
    """Read what each instance holds, when all of them have applied all that is in the log."""
    dumps: dict[str, Dump] = {}
    for instance in pool.instances:
        with instance.connect(pool.front) as raw:
            assert raw.ask("READMODE", "LINEARIZABLE") == b"+OK\r\n"
            dumps[instance.instance_id] = look(raw, 0)
    return dumps


def settled(pool: Pool) -> dict[str, Dump]:
    """Start what has ended, wait until no write is under way any more, and read what each instance holds."""
    dumps: dict[str, Dump] = {}

    def all_equal() -> bool:
        pool.start_what_ended()
        dumps.clear()
        try:
            dumps.update(dump(pool))
        except ConnectionError:  # one that found out only now that it has been away for too long
            return False
        return all(each == dumps[pool.instances[0].instance_id] for each in dumps.values())

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all_equal() and time.monotonic() < deadline:
        time.sleep(0.2)
    return dumps


def put_under_load(pool: Pool, faults: list[Fault], *, linearizable: bool = True, seed: str = "") -> Verdict:
    """Have clients write and read while faults come and go, one after the other."""
    with Load(
        pool.to_balancer, linearizable=linearizable, seed=seed, pause_seconds=PAUSE_SECONDS, together=linearizable
    ) as load:
        go_on(load)
        for fault in faults:
            fault(pool, load)
            pool.start_what_ended()
            go_on(load)
    return judge(load, settled(pool))


@pytest.mark.soak(runs=ROUNDS == 0)  # the long run does each fault by itself
@pytest.mark.timeout(600)
@pytest.mark.parametrize("names", SHORT.values(), ids=SHORT.keys())
def test_nothing_acknowledged_is_lost_and_all_that_is_read_fits_one_order(
    make_pool: MakePool, names: list[str]
) -> None:
    pool = make_pool(LINEARIZABLE)
    verdict = put_under_load(pool, [FAULTS[name] for name in names])
    assert verdict.is_good, verdict
    assert verdict.acknowledged > len(names) * GO_ON_WRITES
    assert min(verdict.jobs, verdict.transfers) > len(names)


@dataclass
class Row:
    """What all rounds of a fault came to."""

    rounds: int = 0
    verdicts: list[Verdict] = field(default_factory=list)

    def line(self, name: str) -> str:
        of = self.verdicts
        gap = max((verdict.longest_gap_seconds for verdict in of), default=0)
        cells = [
            len(of),
            sum(verdict.acknowledged for verdict in of),
            sum(verdict.reads for verdict in of),
            sum(verdict.unknown for verdict in of),
            sum(verdict.refused for verdict in of),
            sum(verdict.lost for verdict in of),
            sum(verdict.doubled for verdict in of),
            sum(bool(verdict.faults) for verdict in of),
            sum(verdict.jobs for verdict in of),
            sum(verdict.transfers for verdict in of),
            sum(verdict.conflicts for verdict in of),
            f"{gap:.2f} s",
        ]
        return f"| {name} | {' | '.join(map(str, cells))} |"


HEAD = """\
| fault | rounds | acknowledged | read | unknown | refused | lost | doubled | out of order, unequal | jobs | transfers \
| conflicts | longest gap |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[dict[str, Row]]:
    """The table of faults, printed at the end."""
    rows: dict[str, Row] = {}
    yield rows
    if rows:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print("\n" + "\n".join([HEAD, *(row.line(name) for name, row in rows.items())]))


@pytest.mark.soak(runs=ROUNDS > 0)
@pytest.mark.timeout(120 + 60 * ROUNDS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_many_times(make_pool: MakePool, table: dict[str, Row], name: str) -> None:
    row = table.setdefault(name, Row())
    pool = make_pool(LINEARIZABLE)
    for number in range(ROUNDS):
        while len(pool.instances) > 3:
            pool.remove_instance()
        pool.wait_until_all_serve()  # one that was started again is found by new clients only
        verdict = put_under_load(pool, [FAULTS[name]], seed=f"{SEED}{name}{number}")
        row.verdicts.append(verdict)
        assert verdict.is_good, f"round {number}: {verdict}"
        with pool.connect() as client:
            assert client.ask("FLUSHALL") == b"+OK\r\n"


def test_what_one_connection_writes_any_other_reads_at_once(make_pool: MakePool) -> None:
    pool = make_pool(LINEARIZABLE)
    for number in range(60):
        with pool.connect() as one, pool.connect() as other, pool.connect() as third:
            assert one.ask_line(b"SET shared %d" % number) == b"OK"
            assert other.ask_line(b"GET shared") == b"%d" % number
            assert third.ask("INCR", "visits") == b":%d\r\n" % (number + 1)


def test_local_reads_see_what_the_same_connection_wrote(make_pool: MakePool) -> None:
    """With 50 clients: each reads its own counter and journal after its own writes, and nothing older."""
    pool = make_pool({"GODIS_POOL_READS": "local"})
    verdict = put_under_load(pool, [FAULTS["kill -9 of an instance"]], linearizable=False)
    assert verdict.is_good, verdict
    assert verdict.reads > 0


SKEWED = {"godis-1": "+0s", "godis-2": "+5m", "godis-3": "-3m"}


def test_clocks_that_differ_by_minutes_make_no_difference(make_pool: MakePool) -> None:
    """The log's clock is that of the fastest; deadlines are its, and alike on all instances."""
    require(LIBFAKETIME, "libfaketime is not installed")
    pool = make_pool(LINEARIZABLE, 0)
    for skew in SKEWED.values():
        faked = {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME": skew, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        pool.launch_instance(faked)
    for instance in pool.instances:
        instance.wait_until_ready()
    pool.wait_until_all_serve()
    wall_ms = [time_ms(instance, pool) for instance in pool.instances]
    assert [round((there_ms - wall_ms[0]) / 60_000) for there_ms in wall_ms] == [0, 5, -3]

    verdict = put_under_load(pool, [])
    assert verdict.is_good, verdict
    clients = [instance.connect(pool.front) for instance in pool.instances]
    for number, client in enumerate(clients):
        assert client.ask("SET", f"long{number}", "x", "EX", 100) == b"+OK\r\n"
        assert client.ask("SET", f"short{number}", "x", "PX", 300) == b"+OK\r\n"
    for number in range(3):
        deadlines = {parse(client.ask("PEXPIRETIME", f"long{number}")) for client in clients}
        assert len(deadlines) == 1
        left_ms = deadlines.pop() - time_ms(pool.instances[1], pool)
        assert 95_000 <= left_ms <= 100_000  # by the fastest clock
        for client in clients:
            assert 90 <= parse(client.ask("TTL", f"long{number}")) <= 100
        for client in clients:
            wait_until(lambda: client.ask("GET", f"short{number}") == b"$-1\r\n", 5, "the key has ended")  # noqa: B023
    for client in clients:
        client.close()
    first, *others = settled(pool).values()
    assert all(other == first for other in others)


def time_ms(instance: Instance, pool: Pool) -> int:
    """Ask an instance what time it has."""
    with instance.connect(pool.front) as raw:
        seconds, microseconds = parse(raw.ask("TIME"))
    return int(seconds) * 1000 + int(microseconds) // 1000
