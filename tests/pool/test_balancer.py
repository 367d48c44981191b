"""The project's own nginx.conf, at most hastier, in a real nginx before real instances on hosts of their own."""

from __future__ import annotations

import re
import select
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig.pool import NGINX_CONF, Pool, nginx_program, require_parts
from servers import wait_until

CONNECT_TIMEOUT_SECONDS = 0.25
FAIL_TIMEOUT_SECONDS = 5
TEN_MINUTES_IN_SECONDS = 600

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    require_parts()
    pools: list[Pool] = []

    def make(instances: int, conf: Path = NGINX_CONF) -> Pool:
        pools.append(Pool(tmp_path, instances, conf))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def hasty(tmp_path: Path) -> Path:
    """The project's nginx.conf, which takes a second for all that it waits for."""
    conf = tmp_path / "hasty.conf"
    text, changed = re.subn(r"\b(proxy_timeout |valid=|fail_timeout=)\w+", r"\g<1>1s", NGINX_CONF.read_text())
    assert changed == 3
    conf.write_text(text)
    return conf


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    return make_pool(3)


def ids_of(pool: Pool) -> set[str]:
    return {instance.instance_id for instance in pool.instances}


def answering(pool: Pool, clients: int) -> Counter[str]:
    """Count which instances so many new clients get to."""
    return Counter(pool.who_answers() for _ in range(clients))


def test_clients_are_spread_evenly(pool: Pool) -> None:
    assert answering(pool, 30) == dict.fromkeys(ids_of(pool), 10)


def test_killed_instance_is_skipped_and_serves_again_once_it_is_back(make_pool: MakePool, hasty: Path) -> None:
    pool = make_pool(3, hasty)
    first, *others = pool.instances
    first.kill9()
    assert set(answering(pool, 10)) == {other.instance_id for other in others}
    first.start()
    first.wait_until_ready()
    wait_until(lambda: pool.who_answers() == first.instance_id, 10, "the instance that came back")


def test_vanished_instance_costs_one_connect_timeout_and_is_then_skipped(pool: Pool) -> None:
    first, *others = pool.instances
    first.host.unplug()
    started = time.monotonic()
    assert set(answering(pool, 10)) == {other.instance_id for other in others}
    took_seconds = time.monotonic() - started
    assert took_seconds >= CONNECT_TIMEOUT_SECONDS
    tried = pool.nginx_log().count("upstream timed out")
    assert 1 <= tried <= 1 + took_seconds // FAIL_TIMEOUT_SECONDS, pool.nginx_log()


def test_instance_that_joins_is_found_and_one_that_leaves_is_forgotten(make_pool: MakePool, hasty: Path) -> None:
    pool = make_pool(3, hasty)
    fourth = pool.add_instance()
    wait_until(lambda: pool.who_answers() == fourth.instance_id, 5, "the fourth instance")
    assert answering(pool, 40) == dict.fromkeys(ids_of(pool), 10)
    pool.dns.addresses.remove(fourth.address)
    wait_until(lambda: fourth.instance_id not in answering(pool, 4), 5, "three instances again")
    assert answering(pool, 30) == dict.fromkeys(ids_of(pool) - {fourth.instance_id}, 10)


def test_balancer_that_starts_first_finds_the_instances(make_pool: MakePool, hasty: Path) -> None:
    pool = make_pool(0, hasty)
    with pool.connect() as client:
        assert client.is_closed(), "there is nobody to answer"
    instance = pool.add_instance()
    wait_until(pool.answers, 5, "an answer")
    assert pool.who_answers() == instance.instance_id


def test_client_that_closes_its_side_at_once_is_answered(pool: Pool) -> None:
    with pool.connect() as client:
        client.send(b"PING\r\n")
        client.end_of_input()
        assert client.read_all() == b"+PONG\r\n"


def test_idle_session_is_kept_far_longer_than_the_ten_minutes_of_nginx(pool: Pool) -> None:
    assert proxy_timeout_seconds(pool.directory) > TEN_MINUTES_IN_SECONDS
    with pool.connect() as client:
        assert client.ask_line(b"PING") == b"+PONG"
        assert not select.select([client.sock], [], [], 1.5)[0], "an idle session was cut"
        assert client.ask_line(b"PING") == b"+PONG"


def test_idle_session_is_cut_by_proxy_timeout_and_by_nothing_before(make_pool: MakePool, hasty: Path) -> None:
    pool = make_pool(1, hasty)
    with pool.connect() as client:
        assert client.ask_line(b"PING") == b"+PONG"
        started = time.monotonic()
        assert client.read_all() == b""
        assert time.monotonic() - started > 0.9


def proxy_timeout_seconds(prefix: Path) -> int:
    """Return the time after which idle sessions are cut, by the configuration as nginx prints it."""
    program = [nginx_program(), "-T", "-q", "-e", "stderr", "-p", f"{prefix}/", "-c", str(NGINX_CONF)]
    effective = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^\s*proxy_timeout (\d+)([smhd]);", effective, re.MULTILINE)
    assert found, "proxy_timeout is not set"
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def test_dead_ends_are_found_by_keepalive_on_both_sides(pool: Pool) -> None:
    with pool.connect() as client:
        assert client.ask_line(b"PING") == b"+PONG"
        with pool.front.entered():
            sockets = subprocess.check_output(["ss", "-Htnop", "state", "established"], text=True)
    of_nginx = [line for line in sockets.splitlines() if '("nginx"' in line]
    assert len(of_nginx) == 2, sockets
    assert all("timer:(keepalive," in line for line in of_nginx), of_nginx
