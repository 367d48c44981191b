"""Fixtures for pytest, found by themselves where Godis is installed.

    def test_something(godis):              # a client of redis-py, on an empty store
        godis.set("k", "v")

    godis_server      a server for the whole run; under pytest-xdist one for each worker
    godis_url         its address, on an empty store: for whatever client an application uses
    godis             a client of redis-py, on an empty store
    godis_clock       its clock: advance(seconds), freeze()
    godis_state       the store as a function has filled it once: godis_state("shop", fill)

`godis_settings` can be overridden in a conftest.py, to start the server with other settings. With --godis-keep-log the
server's log is kept if a test fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import godis as embedded

LOG_KEY = pytest.StashKey["KeptLog"]()


class KeptLog:
    """The log of a worker's server, which stays if a test has failed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}.log"
        self.is_needed = False
        directory.mkdir(parents=True, exist_ok=True)

    def end(self) -> None:
        """Remove what nobody needs."""
        if not self.is_needed:
            self.path.unlink(missing_ok=True)


class Clock:
    """The clock of the server. The time of the test's own process is another one."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def advance(self, seconds: float) -> None:
        """Let time pass: keys expire, with their events, and blocked clients time out."""
        self._client.execute_command("DEBUG", "CLOCK", "ADVANCE", round(seconds * 1000))

    def freeze(self) -> None:
        """Let time stand still, but for `advance`, until the end of the test."""
        self._client.execute_command("DEBUG", "CLOCK", "FREEZE")

    def reset(self) -> None:
        """Go with the time of the system again."""
        self._client.execute_command("DEBUG", "CLOCK", "RESET")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --godis-keep-log."""
    parser.getgroup("godis").addoption(
        "--godis-keep-log", metavar="DIR", help="write the log of the fixtures' server to DIR, and keep it on a failure"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """Say where the log of a failed test is."""
    report = yield
    kept = item.config.stash.get(LOG_KEY, None) if "godis_server" in getattr(item, "fixturenames", ()) else None
    if kept is not None and report.when == "call" and report.failed:
        kept.is_needed = True
        since, until = int(call.start * 1000), int(time.time() * 1000) + 1
        report.sections.append(("Godis log", f"godis log {kept.path} --since {since} --until {until}"))
    return report


@pytest.fixture(scope="session")
def godis_settings() -> dict[str, Any]:
    """The settings of the server, as `godis.start` takes them."""
    return {}


@pytest.fixture(scope="session")
def godis_server(godis_settings: dict[str, Any], pytestconfig: pytest.Config) -> Iterator[embedded.Server]:
    """A server for the whole run."""
    settings = {"test_commands": True, **godis_settings}
    directory = pytestconfig.getoption("--godis-keep-log")
    if directory is None:
        with embedded.running(**settings) as server:
            yield server
        return
    kept = pytestconfig.stash[LOG_KEY] = KeptLog(pytestconfig.invocation_params.dir / directory)
    with embedded.running(**{"log": kept.path, **settings}) as server:
        yield server
    kept.end()


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


@pytest.fixture
def godis_clock(_godis_client: Any) -> Iterator[Clock]:
    """The clock of the server."""
    clock = Clock(_godis_client)
    yield clock
    clock.reset()


@pytest.fixture(scope="session")
def _godis_states() -> set[str]:
    """The states that the server has."""
    return set()


@pytest.fixture
def godis_state(godis: Any, _godis_states: set[str]) -> Callable[[str, Callable[[Any], object]], Any]:
    """A function that fills the store by `fill(client)`, or with what that has left the first time; the client."""

    def begin(name: str, fill: Callable[[Any], object]) -> Any:
        if name in _godis_states:
            godis.execute_command("DEBUG", "STATE", "LOAD", name)
        else:
            godis.flushall()
            fill(godis)
            godis.execute_command("DEBUG", "STATE", "SAVE", name)
            _godis_states.add(name)
        return godis

    return begin
