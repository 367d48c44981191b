"""Fixtures for pytest, found by themselves where Godis is installed.

    def test_something(godis):              # a client of redis-py, on an empty store
        godis.set("k", "v")

    godis_server      a server for the whole run; under pytest-xdist one for each worker
    godis_url         its address, on an empty store: for whatever client an application uses
    godis             a client of redis-py, on an empty store

`godis_settings` can be overridden in a conftest.py, to start the server with other settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import godis as embedded


@pytest.fixture(scope="session")
def godis_settings() -> dict[str, Any]:
    """The settings of the server, as `godis.start` takes them."""
    return {}


@pytest.fixture(scope="session")
def godis_server(godis_settings: dict[str, Any]) -> Iterator[embedded.Server]:
    """A server for the whole run."""
    with embedded.running(**godis_settings) as server:
        yield server


@pytest.fixture(scope="session")
def _godis_client(godis_server: embedded.Server) -> Iterator[Any]:
    with godis_server.client() as client:
        yield client


@pytest.fixture
def godis(_godis_client: Any) -> Any:
    """A client of redis-py, on an empty store."""
    _godis_client.flushall()
    return _godis_client


@pytest.fixture
def godis_url(godis: Any, godis_server: embedded.Server) -> str:
    """The address of the server, whose store is empty."""
    return godis_server.url
