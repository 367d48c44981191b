"""A server for each application, as it would have in production: a process of its own, with its log."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import GodisProcess

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let packages warn of each other: that is not ours to mend."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="module", autouse=True)
def leaks() -> Iterator[None]:
    """Find the sockets that a package did not close while its warnings are still ignored."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def application_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    """The process behind `server` and `server_6h`."""
    with GodisProcess(tmp_path_factory.mktemp("godis")) as process:
        yield process


@pytest.fixture
def server(application_server: GodisProcess) -> GodisProcess:
    """An empty server on which a key lives until it is deleted, as on a Redis."""
    return _emptied(application_server, "0")


@pytest.fixture
def server_6h(application_server: GodisProcess) -> GodisProcess:
    """An empty server with its default TTL, for an application that says how long each of its keys lives.

    GODIS_TEST_DEFAULT_TTL=0 tests these applications without one, too.
    """
    return _emptied(application_server, os.environ.get("GODIS_TEST_DEFAULT_TTL", "6h"))


def _emptied(server: GodisProcess, default_ttl: str) -> GodisProcess:
    with server.client() as client:
        client.client_kill_filter(skipme=True)  # a killed worker of the test before takes nothing more
        client.flushall()
        client.config_set("default-ttl", default_ttl)
    return server
