"""Godis for Python programs: start a server, use it, stop it.

    import godis

    with godis.running() as server:
        redis.Redis.from_url(server.url).set("k", "v")

1. The server is a process of its own. Nothing of this process is changed: no thread, no patch, no signal handler. Any
   event loop may be the host.
2. It listens on a free port of 127.0.0.1, or on a Unix socket, and keeps no log, unless told otherwise.
3. It ends with this process, also if that is killed: it reads the end of a pipe. A child of `os.fork` keeps that pipe
   open while it lives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

__all__ = ["Server", "StartError", "program", "running", "start"]

STOP_SECONDS = 30  # that a server may take to answer its clients and sync its log


class StartError(Exception):
    """The server has not started. The message is what it said."""


def program() -> Path:
    """Return the path of the program, which `python` runs."""
    here = Path(__file__).resolve().parent
    installed = here / "program" / "godis.py"
    return installed if installed.exists() else here.parent.parent / "godis.py"  # in a checkout


class Server:
    """A running server. It is made by `start`."""

    def __init__(
        self, process: subprocess.Popen[bytes], said: IO[bytes], addresses: dict[str, Any], password: str
    ) -> None:
        self.process = process
        self.host: str = addresses["host"]
        self.port: int = addresses["port"]
        self.unixsocket: str = addresses["unixsocket"]
        self.password = password
        self._said = said

    @property
    def url(self) -> str:
        """The address as redis-py and other clients take it: redis://127.0.0.1:PORT/0 or unix://PATH."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}{self.host}:{self.port}/0" if self.port else f"unix://{login}{self.unixsocket}"

    def client(self, **options: Any) -> Any:
        """Return a client of redis-py, which must be installed."""
        import redis  # noqa: PLC0415

        return redis.Redis.from_url(self.url, **options)

    def messages(self) -> str:
        """Return what the server has logged."""
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def stop(self) -> int:
        """Stop the server, which answers what it has read and syncs its log; return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self._said.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    *,
    port: int = 0,
    unixsocket: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    default_ttl: int | str = 0,
    requirepass: str = "",
    test_commands: bool = False,
    **settings: Any,
) -> Server:
    """Start a server, and return it when it answers. Raises StartError.

    `port` 0 is a free port. With `unixsocket` there is no port, unless one is given. `log` is the path of the log; None
    keeps everything in memory. `test_commands` allows DEBUG CLOCK and DEBUG STATE. Other settings are named as the
    flags are: `maxmemory="100mb"`, `appendfsync="always"`.
    """
    flags = {"port": port, "default-ttl": default_ttl, **{name.replace("_", "-"): settings[name] for name in settings}}
    if unixsocket is not None:
        flags["unixsocket"] = os.fspath(unixsocket)
    if log is not None:
        flags["log"] = os.fspath(log)
    command = [sys.executable, str(program()), "--embedded", *(["--no-log"] if log is None else [])]
    command += ["--test-commands"] if test_commands else []
    command += [f"--{name}={value}" for name, value in flags.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GODIS_")}
    if requirepass:  # not on the command line, which others can read
        environment["GODIS_REQUIREPASS"] = requirepass
    said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by Server.stop)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment)
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
    if line:
        return Server(process, said, json.loads(line), requirepass)
    process.wait()
    said.seek(0)
    reason = said.read().decode(errors="replace").strip() or f"it ended with {process.returncode}"
    said.close()
    assert process.stdin is not None
    process.stdin.close()
    raise StartError(reason)


@contextmanager
def running(**settings: Any) -> Iterator[Server]:
    """Start a server for a block, and stop it at its end. Takes what `start` takes. Raises StartError."""
    with start(**settings) as server:
        yield server
