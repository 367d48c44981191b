"""A Godis that can be looked into: on SIGUSR1 it asserts what must hold in its store, and counts what it holds.

Used by the fuzzing of a whole server, the hostile clients and the soak, which all must show that nothing is broken
and nothing is left behind inside the process. The program is the real one, with one signal handler more.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from servers import GodisProcess, wait_until


class Census(NamedTuple):
    """What a process holds."""

    objects: int  # that the collector tracks
    connections: int
    descriptors: int
    resident_bytes: int


class WatchedGodis(GodisProcess):
    """Godis with a check at hand."""

    def command(self) -> list[str]:
        python, _, *rest = super().command()
        return [python, str(Path(__file__)), *rest]

    @property
    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def resident_bytes(self) -> int:
        """How much memory it has."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def census(self) -> Census:
        """Let it check itself and count; fail with what it found wrong."""
        done = len(re.findall("census: ", self.stderr()))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(re.findall("census: ", self.stderr())) > done, 30, "the census")
        objects, connections = map(int, re.findall(r"census: (\d+) objects, (\d+) connections", self.stderr())[-1])
        return Census(objects, connections, self.descriptors, self.resident_bytes)

    def assert_sound(self) -> None:
        """Assert that it runs, answers, holds what it must hold, and met no error of its own."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr()[-3000:]}"
        with self.raw(timeout=20) as raw:
            assert raw.ask("PING") == b"+PONG\r\n"
        self.census()
        said = self.stderr()
        assert "internal error" not in said, said[-3000:]
        assert "Traceback" not in said, said[-3000:]


def main() -> int:
    """Run Godis with the signal handler."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import gc  # noqa: PLC0415 - here as in all of this function: a test imports this module without them

    import gevent  # noqa: PLC0415

    import godis  # noqa: PLC0415
    from server import Server  # noqa: PLC0415

    serve = Server.serve_until_stopped

    def take_census(server: Any) -> None:
        for database in server.store.databases:
            database.check()
        gc.collect()
        print(f"census: {len(gc.get_objects())} objects, {len(server.connections)} connections", file=sys.stderr)

    def serve_watched(server: Any) -> None:
        gevent.signal_handler(signal.SIGUSR1, take_census, server)
        serve(server)

    Server.serve_until_stopped = serve_watched  # type: ignore[method-assign, assignment]
    return godis.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
