"""The README's commands, typed in their order into a shell that has what a fresh Debian has: python3, and no python.

The shell has a network of its own, so that ports are those of the README, and a copy of the project. `.venv` is made
before, as `make run` makes it, but with the packages of these tests: nothing is downloaded. What a reader does that no
command says is done here: Ctrl-C before the next server starts, certificates, a Redis to come from and to go to.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Certificates
from rig.namespaces import NetworkNamespace
from servers import HOST, PATIENCE_SECONDS, ROOT, Raw, dies_with_parent, require, require_program, wait_until

README = ROOT / "README.md"
NOT_COPIED = shutil.ignore_patterns(".*", "tests", "bench", "docs", "log.txt*")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SERVES = re.compile(r"make run|(.*&& )?python godis\.py( --.*)?")
DONE = "-- done"
ENGINE = "docker compose "  # containers/test_containers.py
TELNET = "$ telnet "  # test_clients.py


def blocks() -> list[tuple[str, list[str]]]:
    """Return the README's blocks of code, each with the heading that it stands under."""
    found: list[tuple[str, list[str]]] = []
    heading, before = "", ""
    for line in README.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("    "):
            if not before.startswith("    "):
                found.append((heading, []))
            found[-1][1].append(line[4:])
        before = line
    return found


class Reader:
    """Somebody who types the README's commands into a terminal."""

    def __init__(self, directory: Path) -> None:
        self.project = directory / "godis"
        shutil.copytree(ROOT, self.project, ignore=NOT_COPIED)
        programs = directory / "bin"
        programs.mkdir()
        python = Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info)
        (programs / "python3").symlink_to(python)
        self.network = NetworkNamespace()
        self.environment = {
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PATH": f"{programs}:{SYSTEM_PATH}",
            "PIP_NO_INDEX": "1",
        }
        self.server: subprocess.Popen[bytes] | None = None
        self.redis: subprocess.Popen[bytes] | None = None
        self.activation = ""
        self._make_environment(programs / "python3")
        self.shell = self._popen(["sh"], subprocess.PIPE)

    def close(self) -> None:
        self.interrupt()
        for process in (self.redis, self.shell):
            if process is not None:
                process.kill()
                process.communicate()
        self.network.close()

    def _make_environment(self, python: Path) -> None:
        venv = self.project / ".venv"
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True, env=self.environment)
        (packages,) = venv.glob("lib/python*/site-packages")
        (packages / "those-of-the-tests.pth").write_text(sysconfig.get_path("purelib"))
        pip = venv / "bin" / "pip"
        pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n')
        pip.chmod(0o755)
        (venv / "run.stamp").touch()

    def _popen(self, argv: list[str], stdin: int, output: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        with self.network.entered():
            return subprocess.Popen(
                dies_with_parent(argv),
                cwd=self.project,
                env=self.environment,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def type(self, command: str) -> str:
        """Type a command; return what it printed, and fail unless it ended well."""
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.write(f"{{ {command}\n}} </dev/null\necho {DONE} $?\n".encode())
        self.shell.stdin.flush()
        printed = b""
        while True:
            line = self.shell.stdout.readline()
            assert line, f"the shell ended: {printed.decode()}"
            if line.startswith(DONE.encode()):
                break
            printed += line
        assert line.split()[-1] == b"0", f"{command}: {printed.decode()}"
        if "activate" in command:
            self.activation = f"{command}\n"
        return printed.decode()

    def serve(self, command: str) -> None:
        """Type a command that serves until Ctrl-C, in another terminal, and wait until it serves."""
        self.interrupt()
        with open(self.project / "server.out", "ab") as output:
            argv = ["sh", "-c", self.activation + command]
            self.server = self._popen(argv, subprocess.DEVNULL, output.fileno())
        wait_until(self._accepts_or_ended, 20, f"{command} serves")
        assert self.server.poll() is None, (self.project / "server.out").read_text()

    def _accepts_or_ended(self) -> bool:
        assert self.server is not None
        with self.network.entered(), socket.socket() as probe:
            return self.server.poll() is not None or probe.connect_ex((HOST, 6379)) == 0

    def interrupt(self) -> None:
        """Press Ctrl-C where a server runs."""
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(PATIENCE_SECONDS)
            self.server = None

    def run_redis(self, port: int) -> None:
        """Have a Redis run in the project's directory, in place of the last one."""
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()
        argv = [require_program("redis-server"), "--port", str(port), "--save", ""]
        self.redis = self._popen(argv, subprocess.DEVNULL, subprocess.DEVNULL)
        wait_until(lambda: self.ask_redis(port, "SET", "from", "redis") == b"+OK\r\n", 10, "Redis answers")

    def ask_redis(self, port: int, *words: str) -> bytes:
        """Ask the server on a port; empty if there is none."""
        try:
            with self.network.entered(), Raw(socket.create_connection((HOST, port))) as raw:
                return raw.ask(*words)
        except ConnectionError:
            return b""

    def wait_for_rewrite(self) -> None:
        """Look at INFO persistence until Redis has rewritten its log."""
        while re.search(rb"aof_rewrite_(in_progress|scheduled):1", self.ask_redis(6379, "INFO", "persistence")):
            time.sleep(0.01)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    require(os.name == "posix" and os.geteuid() == 0, "network namespaces need root")
    for program in ("make", "ip", "redis-server", "redis-cli"):
        require_program(program)
    reader = Reader(tmp_path)
    yield reader
    reader.close()


def prepare(reader: Reader, heading: str, commands: list[str], directory: Path) -> None:
    """Do what the README asks of its reader in words."""
    if heading == "By TLS" and not directory.exists():
        directory.mkdir()
        made = Certificates(directory)
        for name, copy in (("authority", "ca"), ("server", "server"), ("client", "client")):
            shutil.copy(made.cert(name), reader.project / f"{copy}.crt")
            shutil.copy(made.key(name), reader.project / f"{copy}.key")
    elif heading == "For a log":
        reader.interrupt()
    elif heading == "In and out of Redis":
        reader.run_redis(6380 if "6380" in commands[0] else 6379)


def test_the_commands_of_the_readme_work_as_typed_in_their_order(reader: Reader, tmp_path: Path) -> None:
    typed = 0
    for heading, lines in blocks():
        if lines[0].startswith((ENGINE, TELNET)):
            continue
        prepare(reader, heading, lines, tmp_path / "certificates")
        if lines[0].startswith(">>> "):
            (reader.project / "session.txt").write_text("\n".join(lines) + "\n")
            given = ">>> import redis\n" if "import redis" not in lines[0] else ""
            (reader.project / "session.txt").write_text(given + "\n".join(lines) + "\n>>> assert r.ping()\n")
            reader.type("python -m doctest session.txt")
        elif lines[0].startswith("$ "):
            printed = reader.type(lines[0][2:])
            assert printed.split() == lines[1].removeprefix("(integer) ").split()  # that is for a terminal
        else:
            for line in lines:
                command = line.partition("  #")[0].rstrip()
                if SERVES.fullmatch(command):
                    reader.serve(command)
                else:
                    reader.type(command)
                if command.startswith("redis-cli") and ("appendonly" in command or "bgrewriteaof" in command):
                    reader.wait_for_rewrite()
                typed += 1
    assert typed > 15
    assert reader.ask_redis(6379, "GET", "from") == b"$5\r\nredis\r\n"
    assert "Traceback" not in (reader.project / "server.out").read_text()
