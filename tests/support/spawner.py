"""Starts Godis by forking a process that has loaded Python and all modules, which takes a tenth of the CPU of a start.

Run as a program, it is that process: it reads requests from the socket that is its stdin, forks a child for each, and
reports how each child ended. A child has its own directory, environment, arguments and output. All children of one
spawner have the seed of its hashes in common, so instances of a pool are children of different ones. The children end
with the process of the tests. A start from nothing is tested where its parts are: under strace and faketime, by the
README's commands, of an installed package, and in a pool's rig.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = str(ROOT / "godis.py")
PRELOADED = (
    "server",
    "net.tls",
    "pool.network",
    "pool.pool",
    "gevent.threadpool",
    "gevent.libev.corecext",
    "gevent.resolver.thread",
)
REQUEST_BYTES = 1 << 18
# What Python or the system's loader looks at before the program begins.
EARLY = "PYTHON", "LD_", "MALLOC_"
FORKS = sys.platform == "linux"


def can_spawn(argv: list[str], environment: Mapping[str, str], programs: Collection[str]) -> bool:
    """Return True if a fork does what this command would: Python running one of these programs."""
    return FORKS and argv[0] == sys.executable and argv[1] in programs and _early(environment) == _early(os.environ)


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(EARLY)}


class Spawned:
    """A child of a spawner, with what the tests use of a Popen."""

    def __init__(self, argv: list[str], report: socket.socket) -> None:
        self.args = argv
        self.returncode: int | None = None
        self._report = report.makefile("r")
        report.close()
        self.pid = int(self._report.readline())

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self._take()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return the exit code. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._take()
        assert self.returncode is not None
        return self.returncode

    def _take(self) -> None:
        self.returncode = int(self._report.readline())
        self._report.close()

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Spawner:
    """The process that forks, as those who ask it see it."""

    def __init__(self) -> None:
        self._requests, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen([sys.executable, __file__], stdin=end.fileno())
        end.close()
        atexit.register(self.close)

    def close(self) -> None:
        self._requests.close()
        self._process.wait()

    def spawn(
        self, argv: list[str], directory: Path, environment: Mapping[str, str], output: int, errors: int | None = None
    ) -> Spawned:
        """Start a command for which `can_spawn` is true; its stderr goes to `errors`, or where its stdout goes."""
        errors = output if errors is None else errors
        ours, report = socket.socketpair()
        request = json.dumps([argv[1:], str(directory), dict(environment)]).encode()
        with report:
            socket.send_fds(self._requests, [request], [output, errors, report.fileno()])
        return Spawned(argv, ours)


_spawners: dict[int, Spawner] = {}


def spawner(number: int) -> Spawner:
    """Return one of the spawners of this process, which differ in the seed of their hashes."""
    if number not in _spawners:
        _spawners[number] = Spawner()
    return _spawners[number]


# ---- the process that forks


def serve(requests: socket.socket) -> None:
    """Fork for each request until the tests have ended; return only in a child, which is to run its program."""
    running: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _report_ends(running)
        if requests in ready:
            request, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 3)
            if not request:
                _end(running)
            output, errors = descriptors[:2]
            report = socket.socket(fileno=descriptors[2])
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (requests, woken, wake, report, *running.values()):
                    other.close()
                _become(output, errors, *json.loads(request))
                return
            os.close(output)
            os.close(errors)
            report.sendall(b"%d\n" % pid)
            running[pid] = report


def _report_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as report, contextlib.suppress(BrokenPipeError):  # then nobody waits for it
            report.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _end(running: dict[int, socket.socket]) -> NoReturn:
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _become(output: int, errors: int, argv: list[str], directory: str, environment: dict[str, str]) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, descriptor in ((null, 0), (output, 1), (errors, 2)):
        os.dup2(source, descriptor)
    for source in (null, output, errors):
        os.close(source)
    sys.argv = argv


def run_program() -> NoReturn:
    """Run what the arguments name, as Python would, and end as Python ends, but for freeing all modules."""
    code: Any = 0
    try:
        if sys.argv[0] == "-c":
            exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})
        else:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as its first lines do, which have run
            code = sys.modules["godis"].run(sys.argv[1:])
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    for name in ("godis", *PRELOADED):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection of a child copies the memory of all modules
    serve(socket.socket(fileno=os.dup(0)))
    run_program()
