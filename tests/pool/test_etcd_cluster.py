"""The rig of real etcd nodes: what it says of them is so, and what they acknowledged survives what it does to them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.etcd_cluster import EtcdCluster, EtcdNode, require_etcd
from servers import wait_until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    require_etcd()
    with EtcdCluster(tmp_path) as cluster:
        yield cluster


def put(node: EtcdNode, key: bytes, value: bytes) -> None:
    node.call("kv/put", {"key": b64encode(key).decode(), "value": b64encode(value).decode()})


def get(node: EtcdNode, key: bytes) -> bytes | None:
    found = node.call("kv/range", {"key": b64encode(key).decode()}).get("kvs")
    return b64decode(found[0]["value"]) if found else None


def test_a_cluster_outlives_its_leader_and_the_leader_comes_back_with_all(cluster: EtcdCluster) -> None:
    first = cluster.leader()
    put(first, b"k", b"1")
    first.kill9()
    second = cluster.leader()
    assert second is not first
    put(second, b"k", b"2")
    first.start()
    assert get(first, b"k") == b"2"
    assert len(cluster.followers()) == 2


def test_a_paused_node_answers_nothing_until_it_goes_on(cluster: EtcdCluster) -> None:
    follower = cluster.followers()[0]
    follower.pause()
    with pytest.raises(OSError, match="timed out"):
        follower.call("kv/range", {"key": "aw=="}, timeout=0.2)
    follower.resume()
    wait_until(follower.is_ready, what="the node answers again")
