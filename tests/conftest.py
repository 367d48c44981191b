"""Fixtures that start servers: one Godis a test, one redis-server a test run and worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import left_out
import pytest
from hypothesis import settings
from instances import Bench
from rig.etcd_cluster import EtcdNode, require_etcd
from servers import GodisProcess, NewerRedisProcess, Raw, RedisProcess, ValkeyProcess, require

# Else each start of a server compiles it anew, which doubles it: 0.1 s, some hundred times.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LONGEST = ("test_pool_faults.py", "test_bench.py")  # begin first: one alone at the end would have others wait
SOAK = "GODIS_SOAK" in os.environ
# A quarter of the usual examples, and no deadline: a busy machine must not decide a test.
# A run repeats; `make soak` looks for new examples.
settings.register_profile("godis", max_examples=1000 if SOAK else 25, deadline=None, derandomize=not SOAK)
settings.load_profile("godis")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is only for the long runs, or only for the others: neither is skipped for want of anything."""
    left_out = [item for item in items if any(not mark.kwargs["runs"] for mark in item.iter_markers("soak"))]
    kept = [item for item in items if item not in left_out]
    items[:] = sorted(kept, key=lambda item: item.path.name not in LONGEST)
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and how to get it."""
    reports = terminalreporter.stats.get("skipped", [])
    if reports:
        terminalreporter.section(f"{len(reports)} tests were left out")
        for line in left_out.lines(report.longrepr[2] for report in reports):
            terminalreporter.write_line(line)


collect_ignore = [] if SOAK else ["test_soak.py"]  # it takes minutes


@pytest.fixture
def godis(tmp_path: Path) -> Iterator[GodisProcess]:
    """A Godis with its defaults and a fresh log in the test's own directory."""
    with GodisProcess(tmp_path) as process:
        yield process


@pytest.fixture(scope="module")
def shared_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    """One Godis for all tests of a module, for tests that leave no settings changed."""
    with GodisProcess(tmp_path_factory.mktemp("godis")) as process:
        yield process


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """The real redis-server, memory only. Its major version is the one whose texts and tables Godis follows."""
    program = shutil.which("redis-server")
    require(program, "redis-server is not installed")
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    require(re.search(r"v=7\.", version), f"this is not Redis 7: {version}")
    with RedisProcess(tmp_path_factory.mktemp("redis"), "--enable-debug-command", "local") as process:
        yield process


@pytest.fixture(scope="session")
def newer_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewerRedisProcess]:
    """A redis-server 8.2: how commands behave that 7.0 does not know."""
    with NewerRedisProcess(tmp_path_factory.mktemp("newer_redis")) as process:
        yield process


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """A valkey-server 9.1: how commands behave that only Valkey knows, or knew first."""
    with ValkeyProcess(tmp_path_factory.mktemp("valkey")) as process:
        yield process


@pytest.fixture
def real(redis_server: RedisProcess) -> Iterator[Raw]:
    """A connection to the real redis-server."""
    with redis_server.raw() as client:
        yield client


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdNode]:
    """One node of etcd for all tests of a module."""
    require_etcd()
    node = EtcdNode("one", tmp_path_factory.mktemp("etcd"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of repairs need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def bench() -> Bench:
    """An engine over an empty store, with a still clock."""
    return Bench()
