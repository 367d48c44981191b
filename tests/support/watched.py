"""A Godis that can be looked into: on SIGUSR1 it asserts what must hold in its store.

Used by the fuzzing of a whole server, which must show that nothing is broken inside the process. The program is the
real one, with one signal handler more.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from servers import PATIENCE_SECONDS, GodisProcess, wait_until

SOUND = "the store is sound"


class WatchedGodis(GodisProcess):
    """Godis with a check at hand."""

    def command(self) -> list[str]:
        python, _, *rest = super().command()
        return [python, str(Path(__file__)), *rest]

    def assert_sound(self) -> None:
        """Assert that it runs, answers, holds what it must hold, and met no error of its own."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr()[-3000:]}"
        with self.raw(timeout=PATIENCE_SECONDS) as raw:
            assert raw.ask("PING") == b"+PONG\r\n"
        done = self.stderr().count(SOUND)
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.stderr().count(SOUND) > done, 30, SOUND)
        said = self.stderr()
        assert "internal error" not in said, said[-3000:]
        assert "Traceback" not in said, said[-3000:]


def main() -> int:
    """Run Godis with the signal handler."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import gevent  # noqa: PLC0415 - here as in all of this function: a test imports this module without them

    import godis  # noqa: PLC0415
    from net.listener import Server  # noqa: PLC0415

    serve = Server.serve_until_stopped

    def check(server: Any) -> None:
        for database in server.store.databases:
            database.check()
        print(SOUND, file=sys.stderr)

    def serve_watched(server: Any) -> None:
        gevent.signal_handler(signal.SIGUSR1, check, server)
        serve(server)

    Server.serve_until_stopped = serve_watched  # type: ignore[method-assign, assignment]
    return godis.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
