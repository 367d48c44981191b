"""The fixtures of pytest, in runs of pytest of their own: the clock, the states, the log that is kept."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from program import run_command
from servers import ROOT
from tables import for_each

TIME = """
import threading, time
import redis

def test_time_passes(godis, godis_clock, godis_url):
    godis_clock.freeze()
    godis.config_set("notify-keyspace-events", "Ex")
    events = redis.Redis.from_url(godis_url).pubsub()
    events.subscribe("__keyevent@0__:expired")
    assert events.get_message(timeout=10)["type"] == "subscribe"
    godis.set("session", 1, ex=3600)
    godis_clock.advance(3599.9)
    assert godis.pttl("session") == 100
    godis_clock.advance(0.1)
    assert events.get_message(timeout=10)["data"] == b"session"
    assert godis.get("session") is None
    events.close()

def test_a_client_that_waits_times_out(godis, godis_clock, godis_url):
    found = []
    waiting = redis.Redis.from_url(godis_url, socket_timeout=60)
    thread = threading.Thread(target=lambda: found.append(waiting.blpop("nothing", 1800)))
    thread.start()
    while not godis.info("clients")["blocked_clients"]:
        pass
    godis_clock.advance(1799)
    thread.join(0.1)
    assert not found
    godis_clock.advance(1)
    thread.join(30)
    assert found == [None]
    waiting.close()

def test_the_next_test_has_the_time_of_the_system(godis):
    assert abs(godis.time()[0] - time.time()) < 100
"""
STATES = """
import pytest

FILLED = []

def fill(client):
    FILLED.append(client)
    client.rpush("cart", "apple", "pear")
    client.set("user", "Ann", ex=3600)

@pytest.fixture
def shop(godis_state):
    return godis_state("shop", fill)

@pytest.mark.parametrize("number", range(4))
def test_each_begins_with_the_same(shop, number):
    assert shop.lrange("cart", 0, -1) == [b"apple", b"pear"] and shop.ttl("user") > 3500 and shop.dbsize() == 2
    shop.rpush("cart", number)
    shop.delete("user")
    shop.set("other", number)
    assert len(FILLED) == 1

def test_another_begins_empty(godis):
    assert godis.dbsize() == 0

def test_another_state(godis_state):
    assert godis_state("few", lambda client: client.set("k", 1)).keys() == [b"k"]
"""
FAILING = """
def test_good(godis):
    godis.set("good", 1)

def test_bad(godis):
    godis.set("bad", 1)
    godis.delete("bad")
    assert godis.get("bad")
"""


def pytest_run(directory: Path, program: str, *options: str) -> str:
    """Run pytest with the plugin in a directory; return its output."""
    (directory / "test_it.py").write_text(program)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "godis.pytest_plugin", *options]
    done = run_command(*command, cwd=directory, PYTHONPATH=str(ROOT / "package"))
    return done.stdout + done.stderr


@for_each(("program", "passed"), [(TIME, 3), (STATES, 6)], ids=["time", "states"])
def test_the_fixtures_do_what_they_say(program: str, passed: int, tmp_path: Path) -> None:
    said = pytest_run(tmp_path, program, "-p", "no:cacheprovider")
    assert f"{passed} passed" in said, said
    assert "failed" not in said, said


def test_the_log_of_a_failed_test_is_kept(tmp_path: Path) -> None:
    said = pytest_run(tmp_path, FAILING, "--godis-keep-log=logs")
    assert "1 failed, 1 passed" in said, said
    [kept] = re.findall(r"^godis log (\S+) --since \d+ --until \d+$", said, re.MULTILINE)
    assert b"bad" in Path(kept).read_bytes()
    said = pytest_run(tmp_path, FAILING, "--godis-keep-log=none", "-k", "good")
    assert "1 passed" in said, said
    assert list((tmp_path / "none").iterdir()) == []
