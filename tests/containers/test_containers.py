"""The project's own Dockerfile, compose file and nginx.conf, unmodified, on a real container engine.

The pool is started once, as the README says. Each test takes it as it finds it and leaves three healthy instances.
"""

from __future__ import annotations

import re
import socket
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.base_images import import_nginx, import_python
from rig.container_engine import ComposeProject, ContainerEngine, tool
from rig.pool import instance_behind
from servers import HOST, ROOT, Raw, parse, wait_until
from telnet import Telnet

COMPOSE_FILE = ROOT / "compose" / "docker-compose.yml"
PASSWORD_FILE = ROOT / "compose" / "password.yml"
DOCKERFILE = ROOT / "Dockerfile"
PORT = 6379
STOP_SECONDS = 2
DOWN_SECONDS = 5
NO_INSTANCE = "none"


@pytest.fixture(scope="module")
def engine() -> Iterator[ContainerEngine]:
    engine = ContainerEngine()
    try:
        import_python(engine, re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)[-1])
        import_nginx(engine, re.findall(r"image: (nginx:\S+)", COMPOSE_FILE.read_text())[0])
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def pool(engine: ContainerEngine) -> Iterator[ComposeProject]:
    project = ComposeProject(engine, COMPOSE_FILE)
    project.up("--build", "--scale", "godis=3")
    yield project
    project.down("--volumes", "--timeout", "1")


def connect(pool: ComposeProject) -> Raw:
    """Connect a client to the published port."""
    with pool.engine.entered():
        return Raw(socket.create_connection((HOST, PORT), 10))


def answering(pool: ComposeProject, clients: int) -> Counter[str]:
    """Count which instances so many new clients get to, and how many get to none."""
    counted: Counter[str] = Counter()
    for _ in range(clients):
        with connect(pool) as client:
            try:
                counted[instance_behind(client)] += 1
            except ConnectionError:
                counted[NO_INSTANCE] += 1
    return counted


def instance_ids(pool: ComposeProject) -> set[str]:
    """Say which ids the instances must have: the names of their hosts, which are those of their containers."""
    return {container[:12] for container in pool.containers("godis")}


def rescale(pool: ComposeProject, instances: int) -> None:
    """Bring so many instances up, and wait until the balancer knows them all and no others."""
    pool.up("--scale", f"godis={instances}", "--no-recreate")
    assert len(instance_ids(pool)) == instances
    wait_until_all_serve(pool)


def start_again(pool: ComposeProject, container: str) -> None:
    """Start an instance that was stopped or killed, and wait until it serves clients again."""
    pool.engine.docker("start", container)
    wait_until_all_serve(pool)


def wait_until_all_serve(pool: ComposeProject) -> None:
    expected = instance_ids(pool)
    wait_until(lambda: set(answering(pool, 3 * len(expected))) == expected, 20, f"the instances {expected}")


def write_own_note_on_each(pool: ComposeProject) -> set[str]:
    """Store on each of the three instances a note that no other has; return the notes."""
    notes: set[str] = set()
    while len(notes) < 3:
        with connect(pool) as client:
            note = instance_behind(client)
            assert client.ask("SET", "note", note) == b"+OK\r\n"
            notes.add(note)
    return notes


def read_note_of_each(pool: ComposeProject) -> set[str]:
    """Read the notes of the three instances."""
    notes: dict[str, str] = {}
    while len(notes) < 3:
        with connect(pool) as client:
            notes[instance_behind(client)] = parse(client.ask("GET", "note")).decode()
    return set(notes.values())


def serves(engine: ContainerEngine, container: str) -> bool:
    """Ask a container as its health check does."""
    try:
        return engine.docker("exec", container, "python", "godis.py", "ping") == "PONG\n"
    except RuntimeError:
        return False


def test_hadolint_finds_nothing() -> None:
    assert subprocess.run([tool("hadolint"), str(DOCKERFILE)], check=True, capture_output=True).stdout == b""


@pytest.mark.parametrize("files", [[COMPOSE_FILE], [COMPOSE_FILE, PASSWORD_FILE]], ids=["plain", "password"])
def test_compose_accepts_its_files_without_a_warning(files: list[Path]) -> None:
    given = [word for file in files for word in ("-f", str(file))]
    check = [tool("docker-compose"), *given, "config", "--quiet"]
    assert subprocess.run(check, check=True, capture_output=True).stderr == b""


def test_clients_are_spread_over_the_instances_and_see_which_one_answers(pool: ComposeProject) -> None:
    assert answering(pool, 30) == dict.fromkeys(instance_ids(pool), 10)


def test_a_session_in_telnet_through_the_published_port(pool: ComposeProject) -> None:
    with pool.engine.entered(), Telnet(PORT) as telnet:
        assert telnet.type("SET mykey hello") == "OK"
        assert telnet.type("GET mykey") == "hello"
        assert telnet.type("TTL mykey") == "21600"
        assert telnet.type("DEL mykey") == "hello"
        assert telnet.type("exit") == "Connection closed by foreign host."


def test_only_the_balancer_is_published_and_on_loopback_only(pool: ComposeProject) -> None:
    (nginx,) = pool.engine.inspect(*pool.containers("nginx"))
    assert nginx["NetworkSettings"]["Ports"] == {"6379/tcp": [{"HostIp": HOST, "HostPort": str(PORT)}]}
    for instance in pool.engine.inspect(*pool.containers("godis")):
        assert instance["NetworkSettings"]["Ports"] == {"6379/tcp": None}


def test_instances_run_without_rights_and_write_to_the_volume_only(pool: ComposeProject) -> None:
    for instance in pool.engine.inspect(*pool.containers("godis")):
        (mount,) = instance["Mounts"]
        assert (mount["Type"], mount["Name"], mount["Destination"]) == ("volume", "godis_data", "/data")
        assert pool.engine.docker("exec", instance["Id"], "id", "-u").strip() == "10001"
        status = pool.engine.docker("exec", instance["Id"], "cat", "/proc/1/status")
        assert re.search(r"^CapBnd:\s0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
        for directory in ("/app", "/tmp", "/"):
            with pytest.raises(RuntimeError, match="Read-only file system"):
                pool.engine.docker("exec", instance["Id"], "touch", f"{directory}/file")


def test_balancer_runs_without_root_and_finds_dead_instances_within_two_minutes(pool: ComposeProject) -> None:
    (nginx,) = pool.containers("nginx")
    assert pool.engine.docker("exec", nginx, "id", "-u").strip() == "101"
    names = [f"/proc/sys/net/ipv4/tcp_keepalive_{part}" for part in ("time", "intvl", "probes")]
    time_seconds, interval_seconds, probes = map(int, pool.engine.docker("exec", nginx, "cat", *names).split())
    assert time_seconds + interval_seconds * probes <= 120


def test_image_holds_the_program_and_neither_log_nor_tests(pool: ComposeProject) -> None:
    engine = pool.engine
    container = engine.docker("create", "godis").strip()
    archive = engine.directory / "image.tar"
    engine.docker("export", "--output", archive, container)
    engine.docker("rm", "--volumes", container)
    with tarfile.open(archive) as tar:
        files = {member.name for member in tar if member.isfile()}
    ours = {file for file in files if file.startswith("app/") and "__pycache__" not in file}
    sources = [*ROOT.glob("*.py"), *ROOT.glob("commands/*.py")]
    assert ours == {f"app/{source.relative_to(ROOT)}" for source in sources}
    assert not [file for file in files if file.startswith("data/") or "log.txt" in file]


def test_image_says_how_to_stop_it_and_how_it_is(pool: ComposeProject) -> None:
    (image,) = pool.engine.inspect("godis")
    config: dict[str, Any] = image["Config"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "godis.py", "ping"]
    assert list(config["Volumes"]) == ["/data"]


def test_stopped_container_is_gone_within_two_seconds_with_exit_code_0(pool: ComposeProject) -> None:
    engine = pool.engine
    container = engine.docker("run", "--detach", "godis").strip()
    wait_until(lambda: serves(engine, container), 10, "the container serves")
    started = time.monotonic()
    engine.docker("stop", container)
    assert time.monotonic() - started < STOP_SECONDS
    (state,) = engine.inspect(container)
    assert state["State"]["ExitCode"] == 0
    engine.docker("rm", "--volumes", container)


def test_killed_instance_is_skipped_and_serves_again_once_it_is_back(pool: ComposeProject) -> None:
    killed = pool.containers("godis")[0]
    pool.engine.docker("kill", killed)
    others = instance_ids(pool)
    assert len(others) == 2
    answered = answering(pool, 12)
    # One client may be on its way to the dead instance when the DNS drops it; nginx then gives that client up.
    assert answered.pop(NO_INSTANCE, 0) <= 1
    assert set(answered) == others
    start_again(pool, killed)


def down_with_an_open_session_and_up(pool: ComposeProject) -> None:
    with connect(pool) as client:
        assert client.ask_line(b"PING") == b"+PONG"
        started = time.monotonic()
        pool.down()
        assert time.monotonic() - started < DOWN_SECONDS
    pool.up("--scale", "godis=3")


def recreate(pool: ComposeProject) -> None:
    before = instance_ids(pool)
    pool.up("--scale", "godis=3", "--force-recreate")
    assert not before & instance_ids(pool)


def rescale_up_and_down(pool: ComposeProject) -> None:
    for instances in (5, 1, 3):
        rescale(pool, instances)


@pytest.mark.parametrize("change", [down_with_an_open_session_and_up, recreate, rescale_up_and_down])
def test_no_log_is_lost_by(change: Callable[[ComposeProject], None], pool: ComposeProject) -> None:
    written = write_own_note_on_each(pool)
    change(pool)
    assert read_note_of_each(pool) == written
