"""The program run to its end: as a process, or by its `main` in the process of the tests.

A process takes 40 ms of CPU to begin, and ten times that where it cannot be forked (`spawner.py`). So tables of
cases call `main`, the same code but for the one line that makes its result the exit code; each kind of end is seen
of a process, too. What starts to serve, or waits for a signal, is a process always.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryFile

from servers import GODIS, PATIENCE_SECONDS
from spawner import can_spawn, spawner

import godis
from net.signals import ignored_signals, stopping_signals

Done = subprocess.CompletedProcess[str]


def run(directory: Path, *args: str, env: Mapping[str, str] | None = None) -> Done:
    """Run a Godis that is expected to end by itself."""
    argv, environment = [sys.executable, str(GODIS), *args], _environment(env)
    if can_spawn(argv, environment, [str(GODIS)]):
        return _run_spawned(argv, directory, environment)
    return subprocess.run(
        argv,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def run_command(*argv: str | Path, cwd: Path, **environment: str) -> Done:
    """Run any program that is expected to end by itself; the variables are added to those of the tests."""
    return subprocess.run(
        argv,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def _run_spawned(argv: list[str], directory: Path, environment: Mapping[str, str]) -> Done:
    with TemporaryFile() as output, TemporaryFile() as errors:
        process = spawner(0).spawn(argv, directory, environment, output.fileno(), errors.fileno())
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
        return Done(argv, process.wait(), *said)


def run_here(directory: Path, *args: str, env: Mapping[str, str] | None = None) -> Done:
    """Do the same without a process."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace") for _ in range(2))
    with _place(directory, _environment(env)), redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            code = godis.main(list(args))
        except SystemExit as end:  # docopt's, of --help
            code = int(end.code or 0)
    said = []
    for stream in (stdout, stderr):
        stream.flush()
        said.append(stream.buffer.getvalue().decode(errors="replace"))
    return Done(args, code, *said)


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GODIS_")}
    return inherited | dict(env or {})


@contextmanager
def _place(directory: Path, environment: dict[str, str]) -> Iterator[None]:
    """Be in a directory, with these variables, and with no log handlers of the tests'."""
    environment_before, directory_before = dict(os.environ), os.getcwd()
    handlers_before, level_before = logging.root.handlers[:], godis.logger.level
    signals_before = {number: signal.getsignal(number) for number in [*stopping_signals(), *ignored_signals()]}
    logging.root.handlers[:] = []
    _set_environment(environment)
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(directory_before)
        _set_environment(environment_before)
        logging.root.handlers[:] = handlers_before
        godis.logger.setLevel(level_before)
        for number, handler in signals_before.items():
            signal.signal(number, handler)


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()


def assert_refused(done: Done, code: int, *said: str) -> None:
    """The program ended with this code after one line that says all of this."""
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert last.startswith("godis: ")
    for text in said:
        assert text in last
