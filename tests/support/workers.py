"""Worker processes of the packages whose applications are tested, and the modules that they run.

A module of tests/applications/programs is what a user of the package would write: it takes the server's address from
REDIS_URL. Its worker is started by the command that the package's documentation names; a test may import it, too.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from servers import PATIENCE_SECONDS, ROOT, GodisProcess, dies_with_parent

PROGRAMS = ROOT / "tests/applications/programs"


def url(server: GodisProcess) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


def load(server: GodisProcess, name: str) -> Any:
    """Import a program anew, as one that uses this server."""
    os.environ["REDIS_URL"] = url(server)
    sys.modules.pop(name, None)
    sys.path.insert(0, str(PROGRAMS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(PROGRAMS))
        del os.environ["REDIS_URL"]


class Worker:
    """A process that works until the test ends, or kills it."""

    def __init__(self, argv: Sequence[str], env: dict[str, str], output: Any) -> None:
        self.process = subprocess.Popen(
            dies_with_parent(list(argv)),
            cwd=PROGRAMS,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that a signal reaches the processes that it starts
        )

    def kill9(self) -> None:
        """End it and its children as a crash does."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def ask(server: GodisProcess, *argv: str, **variables: str) -> Any:
    """Run a program to its end, and return what it printed as JSON."""
    env = _environment(server, variables)
    done = subprocess.run(
        _words(argv), cwd=PROGRAMS, env=env, stdout=subprocess.PIPE, timeout=PATIENCE_SECONDS, check=True
    )
    return json.loads(done.stdout)


def _words(argv: Sequence[str | Path]) -> list[str]:
    """Make a command line; a module of Python is named by "-m", and runs on the Python of the tests."""
    return [*([sys.executable] if argv[0] == "-m" else []), *map(str, argv)]


def _environment(server: GodisProcess, variables: dict[str, str]) -> dict[str, str]:
    """Make the variables of a program, which finds its modules in PROGRAMS, too."""
    path = os.pathsep.join(filter(None, [str(PROGRAMS), variables.get("PYTHONPATH")]))
    return os.environ | {"REDIS_URL": url(server)} | variables | {"PYTHONPATH": path}


@contextmanager
def running(server: GodisProcess, *argv: str | Path, **variables: str) -> Iterator[Worker]:
    """Start a program with the server's address; pytest shows what it wrote if the test fails."""
    env = _environment(server, variables)
    with TemporaryFile() as output:
        worker = Worker(_words(argv), env, output)
        try:
            yield worker
        except BaseException:
            output.seek(0)
            print(output.read().decode(errors="replace"))
            raise
        finally:
            worker.kill9()
