"""What can happen to a pool: each fault is done to it under load, held for a while, and taken back.

A fault takes a running pool and the load on it, and returns when all is as before but for what it left behind. How long
it is held is a matter of what the load gets done meanwhile: `go_on` waits until so many writes were acknowledged, which
also shows that the pool serves; where it cannot, the fault waits until clients were refused or left waiting.
"""

from __future__ import annotations

import os
import re
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from pool_load import Load
from rig.etcd_cluster import EtcdNode
from rig.network import Host
from rig.pool import Instance, Pool
from servers import wait_until

IS_SOAK = bool(os.environ.get("GODIS_SOAK"))
GO_ON_WRITES = 1000 if IS_SOAK else 100
HOLD_SECONDS = 5.0 if IS_SOAK else 1.0
SERVES_WITHIN_SECONDS = 40

Fault = Callable[[Pool, Load], None]


def go_on(load: Load, seconds: float = 0) -> None:
    """Wait until the pool has acknowledged some more, and for so long at least."""
    until = time.monotonic() + seconds
    goal = load.acknowledged + GO_ON_WRITES
    wait_until(
        lambda: load.acknowledged >= goal and time.monotonic() >= until, SERVES_WITHIN_SECONDS, "the pool goes on"
    )


def any_instance(pool: Pool, load: Load) -> Instance:
    """Choose one of the instances that run, by a seed that is another in each round."""
    return Random(f"{load.started}").choice([each for each in pool.instances if each.process.poll() is None])


def any_follower(pool: Pool, load: Load) -> EtcdNode:
    return Random(f"{load.started}").choice(pool.etcd.followers())


def kill_instance(pool: Pool, load: Load) -> None:
    """`kill -9` of an instance, which starts again when the others have gone on."""
    _kill_and_start(any_instance(pool, load), load)


def _kill_and_start(instance: Instance, load: Load) -> None:
    instance.kill9()
    go_on(load)
    instance.start()
    instance.wait_until_ready()


def kill_follower(pool: Pool, load: Load) -> None:
    """`kill -9` of a node of etcd that does not lead."""
    _kill_node(any_follower(pool, load), load)


def kill_leader(pool: Pool, load: Load) -> None:
    """`kill -9` of the node of etcd that leads."""
    _kill_node(pool.etcd.leader(), load)


def _kill_node(node: EtcdNode, load: Load) -> None:
    node.kill9()
    go_on(load)
    node.start()


def pause_instance(pool: Pool, load: Load) -> None:
    """SIGSTOP of an instance; the kernel goes on accepting connections for it."""
    instance = any_instance(pool, load)
    instance.pause()
    go_on(load, HOLD_SECONDS)
    instance.resume()


def pause_follower(pool: Pool, load: Load) -> None:
    """SIGSTOP of a node of etcd that does not lead."""
    with paused(any_follower(pool, load)):
        go_on(load, HOLD_SECONDS)


def pause_leader(pool: Pool, load: Load) -> None:
    """SIGSTOP of the node that leads, until another one does: what it had in hand it does when it wakes up."""
    with paused(pool.etcd.leader()):
        go_on(load, HOLD_SECONDS)


@contextmanager
def paused(node: EtcdNode) -> Iterator[None]:
    node.pause()
    try:
        yield
    finally:
        node.resume()


def cut_off_follower(pool: Pool, load: Load) -> None:
    """A node of etcd is reached by nobody."""
    node = pool.host_of(any_follower(pool, load))
    with cut(pool, [node], [host for host in _all_hosts(pool) if host is not node]):
        go_on(load, HOLD_SECONDS)


def cut_off_leader(pool: Pool, load: Load) -> None:
    """The node that leads is reached by nobody."""
    node = pool.host_of(pool.etcd.leader())
    with cut(pool, [node], [host for host in _all_hosts(pool) if host is not node]):
        go_on(load, HOLD_SECONDS)


def cut_off_instance(pool: Pool, load: Load) -> None:
    """An instance reaches no node of etcd, and clients still reach it: they are told."""
    with cut(pool, [any_instance(pool, load).host], pool.etcd_hosts):
        wait_until_refused(load)


def cut_off_instance_for_long(pool: Pool, load: Load) -> None:
    """The same, until the clients whose writes were under way are told that nobody knows what became of them."""
    with cut(pool, [any_instance(pool, load).host], pool.etcd_hosts):
        wait_until_unknown(load)


def wait_until_refused(load: Load) -> None:
    refused = load.record.refused.total()
    wait_until(lambda: load.record.refused.total() > refused + 50, SERVES_WITHIN_SECONDS, "clients are refused")


def wait_until_unknown(load: Load) -> None:
    unknown = load.record.unknown
    wait_until(lambda: load.record.unknown > unknown, SERVES_WITHIN_SECONDS, "the outcome of writes is unknown")


def cut_off_leader_with_instance(pool: Pool, load: Load) -> None:
    """The leader and an instance reach each other and none of the rest: a minority that may think it is the pool."""
    minority = [pool.host_of(pool.etcd.leader()), any_instance(pool, load).host]
    with cut(pool, minority, [host for host in _all_hosts(pool) if host not in minority]):
        go_on(load, HOLD_SECONDS)


def unplug_instance(pool: Pool, load: Load) -> None:
    """An instance is off the network, for clients, too."""
    instance = any_instance(pool, load)
    instance.host.unplug()
    try:
        go_on(load, HOLD_SECONDS)
    finally:
        instance.host.plug()


@contextmanager
def cut(pool: Pool, one_side: list[Host], other_side: list[Host]) -> Iterator[None]:
    pool.network.cut(one_side, other_side)
    try:
        yield
    finally:
        pool.network.mend()


def _all_hosts(pool: Pool) -> list[Host]:
    return [*pool.etcd_hosts, *(instance.host for instance in pool.instances)]


def lose_quorum(pool: Pool, load: Load) -> None:
    """`kill -9` of two of three nodes of etcd: nothing can be written until one is back."""
    killed = pool.etcd.nodes[:2]
    for node in killed:
        node.kill9()
    wait_until_refused(load)
    for node in killed:
        node.launch()
    for node in killed:
        node.wait_until_ready()


def freeze_quorum(pool: Pool, load: Load) -> None:
    """SIGSTOP of two of three nodes, until clients are told that the outcome of their writes is unknown."""
    with paused(pool.etcd.nodes[0]), paused(pool.etcd.nodes[1]):
        wait_until_unknown(load)


def cut_into_three(pool: Pool, load: Load) -> None:
    """No node of etcd reaches another."""
    one, other, third = pool.etcd_hosts
    with cut(pool, [one], [other, third]), cut(pool, [other], [third]):
        wait_until_refused(load)


def add_instance(pool: Pool, load: Load) -> None:
    """An instance that has nothing starts and joins."""
    newcomer = pool.launch_instance()
    newcomer.wait_until_ready()
    go_on(load)


def compact(pool: Pool, load: Load) -> None:
    """Snapshots, and with each one etcd is told to forget what stood in the log before the last."""
    index = last_snapshot_index(pool)
    wait_until(lambda: forgets(pool, max(2, index - 1)), SERVES_WITHIN_SECONDS, "the log is compacted")
    go_on(load)


def last_snapshot_index(pool: Pool) -> int:
    """Ask an instance where in the log the pool's last snapshot is; 0: there is none."""
    with pool.connect() as client:
        found = re.search(rb"pool_last_snapshot_index:(\d+)", client.ask("INFO", "pool"))
    assert found
    return int(found[1])


def forgets(pool: Pool, revision: int) -> bool:
    """Return True if etcd has nothing of this revision any more."""
    try:
        pool.etcd.leader().call("kv/range", {"key": "Zw==", "revision": revision})
    except urllib.error.HTTPError as error:
        with error:
            return b"compacted" in error.read()
    return False


def end_instance(pool: Pool, load: Load) -> None:
    """SIGTERM of an instance, which answers what it has read; it starts again."""
    instance = any_instance(pool, load)
    assert instance.terminate() == 0
    go_on(load)
    instance.start()
    instance.wait_until_ready()


def nothing(_pool: Pool, load: Load) -> None:
    """No fault, to compare with."""
    go_on(load, 1)


FAULTS: dict[str, Fault] = {
    "nothing": nothing,
    "kill -9 of an instance": kill_instance,
    "SIGTERM of an instance": end_instance,
    "kill -9 of etcd's follower": kill_follower,
    "kill -9 of etcd's leader": kill_leader,
    "SIGSTOP of an instance": pause_instance,
    "SIGSTOP of etcd's follower": pause_follower,
    "SIGSTOP of etcd's leader": pause_leader,
    "cut off: etcd's follower": cut_off_follower,
    "cut off: etcd's leader": cut_off_leader,
    "cut off: an instance, from etcd": cut_off_instance,
    "cut off: an instance, from all": unplug_instance,
    "cut off: etcd's leader with an instance": cut_off_leader_with_instance,
    "cut off: an instance, from etcd, for 10 s": cut_off_instance_for_long,
    "cut off: etcd's nodes, from each other": cut_into_three,
    "quorum killed and back": lose_quorum,
    "quorum frozen for 10 s": freeze_quorum,
    "the log compacted": compact,
    "a new instance": add_instance,
}
