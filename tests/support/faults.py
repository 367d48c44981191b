"""Faults put into a real process from outside: system calls that fail or take long, a size limit, a clock that is set.

It owns how a fault comes and goes. It knows nothing of what the process then has to do.

- `Strace` traces a running process, and gives the chosen calls on one file another end: an error, a delay, a kill.
- `limit_file_size` has the kernel write a part and refuse the rest, as a disk does that becomes full.
- `SteeredGodis` runs under libfaketime, whose clock follows a file; the monotonic clock goes on untouched.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from servers import GodisProcess, ServerProcess, require, wait_until

LIBRARIES = "/usr/lib/*/faketime/libfaketime.so.1"


class Strace:
    """Traces `calls` on `path` by a process, all its threads, as long as the `with` lasts; `inject` is strace's."""

    def __init__(self, server: ServerProcess, path: Path, calls: str, inject: str = "") -> None:
        program = shutil.which("strace")
        require(program, "strace is not installed")
        self.output = path.parent / f"strace-{os.urandom(4).hex()}.txt"
        command = [str(program), "-f", "-qq", "-o", str(self.output), "-P", str(path), "-e", f"trace={calls}"]
        command += ["-e", f"inject={inject}"] if inject else []
        self._command = [*command, "-p", str(server.pid)]
        self._inject = inject
        self._tasks = Path(f"/proc/{server.pid}/task")

    def __enter__(self) -> Strace:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        wait_until(lambda: self._is_attached() or self._process.poll() is not None, what="strace is attached")
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            require(False, f"strace cannot trace here: {self._process.stderr.read().decode()}")
        return self

    def _is_attached(self) -> bool:
        states = [(task / "status").read_text() for task in self._tasks.iterdir()]
        return not any("TracerPid:\t0\n" in state for state in states)

    def __exit__(self, *_: object) -> None:
        # strace ends with its last thread. Told to end while they are dying, it may wait for ever, and they with it.
        try:
            self._process.wait(1 if "KILL" in self._inject else 0.01)
        except subprocess.TimeoutExpired:
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def calls(self) -> list[str]:
        """Return the calls so far, each as `name(… = result`; one that goes on has no result yet."""
        if not self.output.exists():
            return []
        return [re.sub(r"^\d+ +", "", line) for line in self.output.read_text(errors="replace").splitlines()]


def limit_file_size(server: ServerProcess, size: int) -> None:
    """Let a process write no file beyond this size: a part of the write that crosses it is taken."""
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class SteeredGodis(GodisProcess):
    """Godis with a clock that can be set."""

    def __init__(self, directory: Path, *args: str, **options: Any) -> None:
        found = sorted(Path("/").glob(LIBRARIES[1:]))
        require(found, "libfaketime is not installed")
        self.clock = directory / "clock"
        self.set_clock(0)
        environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        super().__init__(directory, *args, env=environment, **options)

    def set_clock(self, ahead_seconds: int) -> None:
        """Put its clock so far ahead of ours. At once: the file is replaced."""
        new = self.clock.with_suffix(".new")
        new.write_text(f"{ahead_seconds:+d}\n")
        new.replace(self.clock)
