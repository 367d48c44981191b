"""The commands of the README and of the pages on TLS, the log's tools and migration, typed in their order into a shell.

1. The shell has what a fresh Debian has: python3, and no python. It has a network of its own, so that ports are those
   of the pages, and a copy of the project.
2. `.venv` is made before, as `make run` makes it, but with the packages of these tests: nothing is downloaded.
3. What a reader does that no command says is done here: Ctrl-C before the next server starts, certificates, a Redis to
   come from and to go to, a log of the original program.
4. A transcript (`$ command`, and what it printed) must print the same lines, but for numbers, checksums and the path.
   A Unix time in ms that a transcript shows and types again is typed as this run showed it.
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

PAGES = [ROOT / "README.md", *(ROOT / "docs" / page for page in ("tls.md", "log-tools.md", "migration.md"))]
NOT_COPIED = shutil.ignore_patterns(".*", "tests", "bench", "docs", "log.txt*")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SERVES = re.compile(r"make run|(.*&& )?python godis\.py( --.*)?")
DONE = "-- done"
PATH_SHOWN = "/srv/godis/"  # where the transcripts were made
UNIX_MS = r"\b[0-9]{13}\b"
JOB = re.compile(r"\[[0-9]+\]")  # what only an interactive shell says
ENGINE = "docker compose "  # containers/test_containers.py
TELNET = "$ telnet "  # test_clients.py


def blocks() -> list[tuple[str, list[str]]]:
    """Return the pages' blocks of code, each with the heading that it stands under."""
    found: list[tuple[str, list[str]]] = []
    heading, before = "", ""
    for line in "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("    "):
            if not before.startswith("    "):
                found.append((heading, []))
            found[-1][1].append(line[4:])
        before = line
    return found


def exchanges(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Split a transcript into commands, each with the lines that it printed."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif not JOB.match(line):
            found[-1][1].append(line.removeprefix("(integer) ").strip('"'))  # redis-cli says so to a terminal only
    return found


def as_pattern(line: str) -> str:
    """Return the pattern of what another run prints in place of a line; its groups are the Unix times in ms."""
    parts = re.split(rf"({UNIX_MS}|\b[0-9a-f]{{8}}\b|[0-9]+|{PATH_SHOWN})", line)
    patterns = {PATH_SHOWN: r"/\S*/"}
    for place in range(1, len(parts), 2):
        other = "[0-9a-f]{8}" if len(parts[place]) == 8 else "[0-9]+"
        parts[place] = f"({UNIX_MS})" if re.fullmatch(UNIX_MS, parts[place]) else patterns.get(parts[place], other)
    return "".join(part if place % 2 else re.escape(part) for place, part in enumerate(parts))


class Reader:
    """Somebody who types the pages' commands into a terminal."""

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
                os.killpg(process.pid, signal.SIGKILL)  # with the servers that a transcript started
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
        with open(self.project / "typed.out", "ab") as output:
            argv = ["sh", "-c", self.activation + command]
            self.server = self._popen(argv, subprocess.DEVNULL, output.fileno())
        wait_until(self._accepts_or_ended, 20, f"{command} serves")
        assert self.server.poll() is None, (self.project / "typed.out").read_text()

    def _accepts_or_ended(self) -> bool:
        assert self.server is not None
        return self.server.poll() is not None or self._accepts()

    def _accepts(self) -> bool:
        with self.network.entered(), socket.socket() as probe:
            return probe.connect_ex((HOST, 6379)) == 0

    def repeat(self, lines: list[str]) -> None:
        """Type the commands of a transcript, and compare what they print."""
        times: dict[str, str] = {}  # in the transcript -> in this run
        for command, expected in exchanges(lines):
            printed = self.type(re.sub(UNIX_MS, lambda shown: times[shown[0]], command)).splitlines()
            if command.endswith("&"):
                wait_until(self._accepts, 20, f"{command} serves")
            elif command.startswith(("kill", "redis-cli shutdown")):
                printed += self.type("wait").splitlines()
            elif "bgrewriteaof" in command:
                self.wait_for_rewrite()
            printed = [line for line in printed if line.strip() not in {"", "Killed", "Done"}]
            assert len(printed) == len(expected), (command, printed)
            for line, found in zip(expected, printed, strict=True):
                match = re.fullmatch(as_pattern(line), found)
                assert match, (command, line, found)
                times.update(zip(re.findall(UNIX_MS, line), match.groups(), strict=True))

    def interrupt(self) -> None:
        """Press Ctrl-C where a server runs."""
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(PATIENCE_SECONDS)
            self.server = None

    def run_redis(self, port: int, *options: str) -> None:
        """Have a Redis run in the project's directory, in place of the last one."""
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()
        argv = [require_program("redis-server"), "--port", str(port), "--save", "", *options]
        self.redis = self._popen(argv, subprocess.DEVNULL, subprocess.DEVNULL)
        wait_until(lambda: self.ask_redis(port, "SET", "from", "redis") == b"+OK\r\n", 10, "Redis answers")

    def leave_redis(self) -> None:
        """Have a Redis with an AOF run in `redis-copy`, and stop it."""
        (self.project / "redis-copy").mkdir()
        options = ["--dir", "redis-copy", "--appendonly", "yes"]
        self.run_redis(6390, *options)
        assert self.ask_redis(6390, "SET", "more", "1") + self.ask_redis(6390, "SAVE") == b"+OK\r\n+OK\r\n"
        assert self.redis is not None
        self.redis.terminate()
        self.redis.wait(PATIENCE_SECONDS)
        self.redis = None

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
    """Do what the pages ask of their reader in words."""
    if heading == "TLS" and not directory.exists():
        directory.mkdir()
        made = Certificates(directory)
        for name, copy in (("authority", "ca"), ("server", "server"), ("client", "client")):
            shutil.copy(made.cert(name), reader.project / f"{copy}.crt")
            shutil.copy(made.key(name), reader.project / f"{copy}.key")
    elif heading == "Tools for the log":
        reader.interrupt()
        reader.leave_redis()
        shutil.copy(reader.project / "redis-copy" / "dump.rdb", reader.project)
    elif heading in ("Import", "After kill -9"):
        reader.interrupt()
        for name in ("log.txt*", "before.txt*", "dump.rdb"):  # as in a directory without a log
            for path in reader.project.glob(name):
                path.unlink()
    elif heading == "From the original Go program":
        reader.type("redis-cli shutdown; wait")
        (reader.project / "old-log.txt").write_text("SET from original\n")
    elif heading.startswith("From Redis") and not (reader.project / "dump.rdb").exists():
        assert reader.ask_redis(6379, "GET", "from") == b"$8\r\noriginal\r\n"
        shutil.copy(reader.project / "redis-copy" / "dump.rdb", reader.project)
    elif heading == "From Godis into a running Redis":
        reader.run_redis(6380)


def type_block(reader: Reader, lines: list[str]) -> int:
    """Type a block of a page; return how many commands it had, if their output is not shown."""
    if lines[0].startswith(">>> "):
        given = ">>> import redis\n" if "import redis" not in lines[0] else ""
        (reader.project / "session.doctest").write_text(given + "\n".join(lines) + "\n>>> assert r.ping()\n")
        reader.type("python -m doctest session.doctest")
        return 0
    if lines[0].startswith("$ "):
        reader.repeat(lines)
        return 0
    for line in lines:
        command = line.partition("  #")[0].rstrip()
        if SERVES.fullmatch(command):
            reader.serve(command)
        else:
            reader.type(command)
        if command.startswith("redis-cli") and ("appendonly" in command or "bgrewriteaof" in command):
            reader.wait_for_rewrite()
    return len(lines)


def test_the_commands_of_the_pages_work_as_typed_in_their_order(reader: Reader, tmp_path: Path) -> None:
    typed = 0
    for heading, lines in blocks():
        if not lines[0].startswith((ENGINE, TELNET)):
            prepare(reader, heading, lines, tmp_path / "certificates")
            typed += type_block(reader, lines)
    assert typed > 15
    assert reader.ask_redis(6379, "GET", "from") == b"$5\r\nredis\r\n"
    for output in ("typed.out", "server.out"):
        assert "Traceback" not in (reader.project / output).read_text()


@pytest.mark.parametrize(
    ("line", "printed", "same"),
    [
        ("OK", "OK", True),
        ("OK", "ERR", False),
        ("keys       12", "keys       3", True),
        ("#41 332133af 1796063865538 1915a90e", "#7 00000000 1796063865539 ffffffff", True),
        ("#41 332133af 1796063865538 1915a90e", "#7 00000000 17960638655 ffffffff", False),
        ("from /srv/godis/log.txt", "from /tmp/x/godis/log.txt", True),
        ("from /srv/godis/log.txt", "from log.txt", False),
    ],
)
def test_a_line_of_a_transcript_is_compared_but_for_what_differs_each_time(line: str, printed: str, same: bool) -> None:
    assert (re.fullmatch(as_pattern(line), printed) is not None) == same
