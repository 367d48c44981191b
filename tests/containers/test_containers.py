"""The project's own Dockerfile, compose files and nginx.conf, unmodified, on a real container engine.

The pool is started once, as the README says. Each test takes it as it finds it and leaves it whole: three healthy
instances, three nodes of etcd. The standalone instance comes after it, on the same port.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program_files import PROGRAM
from rig.base_images import import_etcd, import_nginx, import_python
from rig.container_engine import ComposeProject, ContainerEngine, tool
from rig.pool import instance_behind
from servers import HOST, PATIENCE_SECONDS, ROOT, Raw, parse, wait_until
from telnet import Telnet

COMPOSE_FILE = ROOT / "compose" / "docker-compose.yml"
STANDALONE_FILE = ROOT / "compose" / "docker-compose.standalone.yml"
PASSWORD_FILE = ROOT / "compose" / "password.yml"
DOCKERFILE = ROOT / "Dockerfile"
PORT = 6379
NO_INSTANCE = "none"
PASSWORD = "correct-horse"
NODES = ("etcd1", "etcd2", "etcd3")


@pytest.fixture(scope="module")
def engine() -> Iterator[ContainerEngine]:
    engine = ContainerEngine()
    try:
        import_python(engine, re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)[-1])
        import_nginx(engine, re.findall(r"image: (nginx:\S+)", COMPOSE_FILE.read_text())[0])
        import_etcd(engine, re.findall(r"image: (\S+/etcd:\S+)", COMPOSE_FILE.read_text())[0])
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


def leader_of(pool: ComposeProject) -> str:
    """Return the id of the container with etcd's leader."""
    for node in NODES:
        for container in pool.containers(node):
            said = pool.engine.docker("exec", container, "etcdctl", "endpoint", "status", "--write-out=json")
            (status,) = json.loads(said)
            if status["Status"]["leader"] == status["Status"]["header"]["member_id"]:
                return container
    raise AssertionError("etcd has no leader")


def count_on_each(pool: ComposeProject, key: str) -> list[int]:
    """Count a key up once through each instance, on connections of their own; return what each said."""
    counted: dict[str, int] = {}
    while len(counted) < len(instance_ids(pool)):
        with connect(pool) as client:
            if (instance := instance_behind(client)) not in counted:
                counted[instance] = parse(client.ask("INCR", key))
    return list(counted.values())


def read_on_each(pool: ComposeProject, key: str) -> set[bytes | None]:
    """Read a key through each instance."""
    read: dict[str, bytes | None] = {}
    while len(read) < len(instance_ids(pool)):
        with connect(pool) as client:
            read[instance_behind(client)] = parse(client.ask("GET", key))
    return set(read.values())


def serves(engine: ContainerEngine, container: str) -> bool:
    """Ask a container as its health check does."""
    try:
        return engine.docker("exec", container, "python", "godis.py", "ping") == "PONG\n"
    except RuntimeError:
        return False


def test_hadolint_finds_nothing() -> None:
    assert subprocess.run([tool("hadolint"), str(DOCKERFILE)], check=True, capture_output=True).stdout == b""


@pytest.mark.parametrize(
    "files", [[COMPOSE_FILE], [COMPOSE_FILE, PASSWORD_FILE], [STANDALONE_FILE], [STANDALONE_FILE, PASSWORD_FILE]]
)
def test_compose_accepts_its_files_without_a_warning(files: list[Path]) -> None:
    given = [word for file in files for word in ("-f", str(file))]
    check = [tool("docker-compose"), *given, "config", "--quiet"]
    assert subprocess.run(check, check=True, capture_output=True).stderr == b""


def test_clients_are_spread_over_the_instances_and_see_which_one_answers(pool: ComposeProject) -> None:
    assert answering(pool, 30) == dict.fromkeys(instance_ids(pool), 10)


def test_what_one_connection_writes_any_other_reads_at_once(pool: ComposeProject) -> None:
    for value in range(30):
        with connect(pool) as one, connect(pool) as other:
            assert one.ask("SET", "shared", value) == b"+OK\r\n"
            assert parse(other.ask("GET", "shared")) == b"%d" % value
    assert sorted(count_on_each(pool, "visits") + count_on_each(pool, "visits")) == [1, 2, 3, 4, 5, 6]


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
    others = [container for service in ("godis", *NODES) for container in pool.containers(service)]
    for other in pool.engine.inspect(*others):
        assert not any(other["NetworkSettings"]["Ports"].values())


def test_etcd_is_reached_by_the_instances_only_and_has_no_rights(pool: ComposeProject) -> None:
    nodes = pool.engine.inspect(*(container for node in NODES for container in pool.containers(node)))
    assert [node["Mounts"][0]["Name"] for node in nodes] == [f"godis_{node}" for node in NODES]
    for node in nodes:
        assert list(node["NetworkSettings"]["Networks"]) == ["godis_log"]
        given = node["HostConfig"]  # the image has no program that could look
        assert (given["CapDrop"], given["ReadonlyRootfs"]) == (["ALL"], True)
        assert given["SecurityOpt"] == ["no-new-privileges:true"]
    (network,) = pool.engine.inspect("godis_log")
    assert network["Internal"]
    (nginx,) = pool.engine.inspect(*pool.containers("nginx"))
    assert list(nginx["NetworkSettings"]["Networks"]) == ["godis_clients"]


def test_instances_run_without_rights_and_keep_nothing(pool: ComposeProject) -> None:
    for instance in pool.engine.inspect(*pool.containers("godis")):
        assert instance["Mounts"] == []
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
    program = [*PROGRAM, *(ROOT / "scripts").rglob("*.lua")]
    assert ours == {f"app/{source.relative_to(ROOT)}" for source in program}
    assert not [file for file in files if file.startswith("data/") or "log.txt" in file]


def test_image_says_how_to_stop_it_and_how_it_is(pool: ComposeProject) -> None:
    (image,) = pool.engine.inspect("godis")
    config: dict[str, Any] = image["Config"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][-1].endswith("python godis.py ping")
    assert config["Entrypoint"] == ["python", "godis.py"]
    assert list(config["Volumes"]) == ["/data"]


def test_image_takes_flags_and_its_health_check_asks_where_they_say(pool: ComposeProject) -> None:
    engine = pool.engine
    assert engine.docker("run", "--rm", "godis", "--version").startswith("Godis ")
    container = engine.docker("run", "--detach", "godis", "--port", "7000", "--requirepass", "two words").strip()
    wait_until(lambda: is_healthy(engine, container), 30, "the container is healthy")
    engine.docker("rm", "--force", "--volumes", container)


def test_what_each_container_writes_is_bounded(pool: ComposeProject) -> None:
    parts = [container for service in ("godis", "nginx", *NODES) for container in pool.containers(service)]
    for part in pool.engine.inspect(*parts):
        assert part["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {"max-file": "3", "max-size": "10m"}}


def test_a_password_that_the_instance_cannot_read_is_named_with_who_must_read_it(
    pool: ComposeProject, tmp_path: Path
) -> None:
    closed = tmp_path / "password.txt"
    closed.write_text(f"{PASSWORD}\n")
    closed.chmod(0o600)
    mounted = f"{closed}:/run/secrets/godis_password:ro"
    with pytest.raises(RuntimeError, match=r"Permission denied: it must be readable by .* \(id 10001\)"):
        pool.engine.docker(
            *["run", "--rm", "--volume", mounted, "godis", "--requirepass-file", "/run/secrets/godis_password"]
        )


def test_the_published_port_is_a_variable(engine: ContainerEngine) -> None:
    for file in (COMPOSE_FILE, STANDALONE_FILE):
        read = [tool("docker-compose"), "-f", str(file), "config", "--format", "json"]
        said = subprocess.run(
            read, env=engine.environment | {"GODIS_PUBLISHED_PORT": "7000"}, check=True, capture_output=True
        )
        services = json.loads(said.stdout)["services"].values()
        ports = [port for service in services for port in service.get("ports", [])]
        assert [(port["host_ip"], port["published"]) for port in ports] == [(HOST, "7000")]


def test_a_stop_ends_the_container_with_exit_code_0(pool: ComposeProject) -> None:
    engine = pool.engine
    container = engine.docker("run", "--detach", "godis").strip()
    wait_until(lambda: serves(engine, container), 10, "the container serves")
    engine.docker("stop", "--time", str(PATIENCE_SECONDS), container)
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


def test_killed_leader_of_etcd_costs_no_write(pool: ComposeProject) -> None:
    engine = pool.engine
    before = count_on_each(pool, "survivor")
    killed = leader_of(pool)
    engine.docker("kill", killed)
    # `up --wait` meanwhile would start it again; a pool of two nodes serves until somebody does.
    counted = max(before)
    for _ in range(20):
        with connect(pool) as client:
            counted += 1
            assert parse(client.ask("INCR", "survivor")) == counted
    assert read_on_each(pool, "survivor") == {b"%d" % counted}
    engine.docker("start", killed)
    wait_until(lambda: is_healthy(engine, killed), 30, "the node of etcd is back")


def is_healthy(engine: ContainerEngine, container: str) -> bool:
    (state,) = engine.inspect(container)
    return bool(state["State"].get("Health", {}).get("Status") == "healthy")


def test_open_session_does_not_hold_up_the_end(pool: ComposeProject) -> None:
    with connect(pool) as client:
        assert client.ask_line(b"PING") == b"+PONG"
        (nginx,) = pool.containers("nginx")
        pool.compose("stop", "--timeout", str(PATIENCE_SECONDS), "nginx")
        (stopped,) = pool.engine.inspect(nginx)
        assert stopped["State"]["ExitCode"] == 0, "it was killed"
    pool.up("--scale", "godis=3", "--no-recreate")


def down_and_up(pool: ComposeProject) -> None:
    pool.down()
    pool.up("--scale", "godis=3")


def recreate(pool: ComposeProject) -> None:
    before = instance_ids(pool)
    pool.up("--scale", "godis=3", "--force-recreate")
    assert not before & instance_ids(pool)


def rescale_up_and_down(pool: ComposeProject) -> None:
    for instances in (5, 1, 3):
        rescale(pool, instances)


@pytest.mark.parametrize("change", [down_and_up, recreate, rescale_up_and_down])
def test_nothing_is_lost_by(change: Callable[[ComposeProject], None], pool: ComposeProject) -> None:
    count_on_each(pool, "kept")
    with connect(pool) as client:
        counted = parse(client.ask("GET", "kept"))
        deadline_ms = parse(client.ask("PEXPIRETIME", "shared"))
        assert client.ask("SET", "note", change.__name__) == b"+OK\r\n"
    change(pool)
    assert read_on_each(pool, "kept") == {counted}
    assert read_on_each(pool, "note") == {change.__name__.encode()}
    with connect(pool) as client:
        assert parse(client.ask("PEXPIRETIME", "shared")) == deadline_ms


@pytest.fixture
def protected(pool: ComposeProject, tmp_path: Path) -> Iterator[ComposeProject]:
    """The pool with a password, as compose/password.yml says; afterwards it has none again."""
    secret = tmp_path / "secrets" / "password.txt"
    secret.parent.mkdir(mode=0o700)
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o644)  # the instances are user 10001; the directory keeps others out
    pool.engine.environment["GODIS_PASSWORD_FILE"] = str(secret)
    project = ComposeProject(pool.engine, COMPOSE_FILE, PASSWORD_FILE)
    bring_up_anew(pool, project)
    yield project
    bring_up_anew(project, pool)
    del pool.engine.environment["GODIS_PASSWORD_FILE"]


def bring_up_anew(before: ComposeProject, after: ComposeProject) -> None:
    """Replace all instances at once; without a balancer meanwhile, which would find none of them and be unhealthy."""
    before.compose("rm", "--stop", "--force", "nginx")
    after.up("--scale", "godis=3")


def test_pool_with_a_password_asks_each_client_for_it_and_is_healthy(
    pool: ComposeProject, protected: ComposeProject
) -> None:
    engine = pool.engine
    with engine.entered(), Telnet(PORT) as telnet:
        assert telnet.type("GET shared") == "NOAUTH Authentication required."
        assert telnet.type("AUTH guessed").startswith("-WRONGPASS ")
        assert telnet.type(f"AUTH {PASSWORD}") == "+OK"
        assert telnet.type("SET protected yes") == "OK"
    for _ in range(6):  # twice through each instance
        with connect(protected) as client:
            assert client.ask("GET", "protected") == b"-NOAUTH Authentication required.\r\n"
            assert client.ask("AUTH", PASSWORD) == b"+OK\r\n"
            assert client.ask("GET", "protected") == b"$3\r\nyes\r\n"
    parts = [container for service in ("godis", "nginx", *NODES) for container in protected.containers(service)]
    assert len(parts) == 7
    assert all(is_healthy(engine, part) for part in parts)
    instances = engine.inspect(*protected.containers("godis"))
    assert not any(PASSWORD in json.dumps(instance) for instance in instances)


@pytest.fixture(scope="module")
def standalone(engine: ContainerEngine, pool: ComposeProject) -> Iterator[ComposeProject]:
    """The single instance; it publishes the same port, so the pool goes first."""
    pool.down("--volumes", "--timeout", "1")
    project = ComposeProject(engine, STANDALONE_FILE)
    project.up("--build")
    yield project
    project.down("--volumes", "--timeout", "1")


def test_standalone_instance_keeps_its_log(standalone: ComposeProject) -> None:
    with connect(standalone) as client:
        assert client.ask("SET", "note", "kept") == b"+OK\r\n"
    (killed,) = standalone.containers("godis")
    standalone.engine.docker("kill", killed)
    standalone.down()
    standalone.up()
    with connect(standalone) as client:
        assert parse(client.ask("GET", "note")) == b"kept"


def test_standalone_instance_that_is_scaled_by_mistake_goes_on_and_keeps_its_log(standalone: ComposeProject) -> None:
    with pytest.raises(RuntimeError, match="port is already allocated"):
        standalone.up("--scale", "godis=2", "--no-recreate")
    standalone.up("--scale", "godis=1", "--no-recreate")
    with connect(standalone) as client:
        assert parse(client.ask("GET", "note")) == b"kept"
