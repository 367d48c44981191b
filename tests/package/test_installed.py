"""Godis installed by pip: the wheel, the command, a server embedded in a program, and the fixtures of pytest."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from program import run_command
from program_files import FOLDERS, PROGRAM
from servers import PATIENCE_SECONDS, ROOT, require, wait_until

PARENT = """
import sys, godis
server = godis.start()
print(server.process.pid, server.url, flush=True)
sys.stdin.read()
"""
EMBEDDING = """
import asyncio, threading, sys, godis

async def host():
    before = threading.active_count(), set(sys.modules)
    with godis.running(requirepass="p w", maxmemory="100mb", log=sys.argv[1]) as server:
        client = server.client()
        client.set("k", "v")
        assert client.get("k") == b"v" and client.ttl("k") == -1
        assert client.config_get("maxmemory")["maxmemory"] == "104857600"
        assert threading.active_count() == before[0]
        assert not any(name.startswith("gevent") for name in sys.modules)
    assert server.process.returncode == 0
    try:
        godis.start(maxmemory="nonsense")
    except godis.StartError as error:
        assert "maxmemory" in str(error)

asyncio.run(host())
print("done")
"""
FIXTURES = """
import pytest, redis

@pytest.mark.parametrize("number", range(3))
def test_each_test_begins_with_an_empty_store(godis, godis_url, number):
    assert godis.dbsize() == 0
    redis.Redis.from_url(godis_url).set("k", number)

@pytest.mark.parametrize("number", range(3))
def test_time_passes_for_one_worker_alone(godis, godis_clock, number):
    godis_clock.freeze()
    godis.set("k", number, ex=100 * (number + 1))
    godis_clock.advance(100 * number)
    assert godis.ttl("k") == 100

@pytest.mark.parametrize("number", range(3))
def test_a_worker_has_its_own_fork(godis_state, number):
    store = godis_state("filled", lambda client: client.rpush("list", "x"))
    assert store.rpush("list", number) == 2
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of an environment in which the wheel is installed."""
    require(has_hatchling(), "hatchling is not installed")
    directory = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(directory), str(ROOT)]
    done = run_command(*build, cwd=directory)
    assert done.returncode == 0, done.stderr
    environment = directory / "venv"
    venv.create(environment, symlinks=True)
    [wheel] = directory.glob("godis-*.whl")
    [site] = environment.glob("lib/python*/site-packages")
    done = run_command(*pip, "--python", environment / "bin" / "python", "install", "--no-deps", wheel, cwd=directory)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name.partition("-")[0] for path in site.iterdir()) == ["godis", "godis"], "and nothing else"
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "packages.pth").write_text(packages + "\n")  # gevent and the others, as they are here
    return environment / "bin"


def has_hatchling() -> bool:
    return subprocess.run([sys.executable, "-c", "import hatchling"], capture_output=True, check=False).returncode == 0


def test_the_requirements_are_those_of_a_checkout() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.findall(r'^    "(.*)",$', text.partition("\ndependencies = ")[2].partition("\n]")[0], re.MULTILINE)
    assert listed == (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()


def test_the_wheel_has_every_part_of_the_program() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    parts = sorted({str(path.relative_to(ROOT).parts[0]) for path in PROGRAM})
    assert re.findall(r'^"(.*)" = "godis/program/', text, re.MULTILINE) == sorted(
        parts, key=lambda part: (part in FOLDERS, part)
    )


def test_the_command_does_what_the_program_does(installed: Path, tmp_path: Path) -> None:
    here = run_command(sys.executable, ROOT / "godis.py", "--help", cwd=tmp_path)
    assert run_command(installed / "godis", "--help", cwd=tmp_path).stdout == here.stdout
    assert run_command(installed / "python", "-m", "godis", "--version", cwd=tmp_path).stdout.startswith("Godis ")
    assert run_command(installed / "godis", "ping", "--port", "1", cwd=tmp_path).returncode == 1


def test_a_program_embeds_a_server(installed: Path, tmp_path: Path) -> None:
    log = tmp_path / "kept.log"
    done = run_command(installed / "python", "-W", "error", "-c", EMBEDDING, log, cwd=tmp_path, GODIS_PORT="nonsense")
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert b"SET" in log.read_bytes()


def test_the_server_dies_with_its_parent(installed: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [installed / "python", "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        assert is_alive(pid)
        parent.kill()
        parent.wait()
    wait_until(lambda: not is_alive(pid), PATIENCE_SECONDS, "the end of the server")


def is_alive(pid: int) -> bool:
    """Return True if a process runs. One that has ended and that nobody has waited for does not."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["plain", "xdist"])
def test_pytest_finds_the_fixtures(installed: Path, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "test_it.py").write_text(FIXTURES)
    done = run_command(installed / "python", "-m", "pytest", "-q", *options, cwd=tmp_path)
    assert "9 passed" in done.stdout, done.stdout + done.stderr
