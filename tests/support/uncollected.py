"""A Godis whose collector of cycles is off, and which says on SIGUSR1 how many objects only a collector would free.

The program is the real one, with one signal handler more.
"""

from __future__ import annotations

import gc
import re
import signal
import sys
from pathlib import Path
from typing import Any

from servers import GodisProcess, wait_until

SAID = re.compile(r"^unreachable: (-?\d+)$", re.MULTILINE)
PLANTED = 10  # cycles that must be found, so that a count of none can be believed


class UncollectedGodis(GodisProcess):
    """Godis that keeps its cycles."""

    def command(self) -> list[str]:
        python, _, *rest = super().command()
        return [python, str(Path(__file__)), *rest]

    def count_unreachable(self) -> int:
        """Free what is unreachable now, and return how many objects that were."""
        said = len(SAID.findall(self.stderr()))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(SAID.findall(self.stderr())) > said, 10, "it has counted")
        return int(SAID.findall(self.stderr())[-1])


def main() -> int:
    """Run Godis with the signal handler."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import gevent  # noqa: PLC0415 - here as in all of this function: a test imports this module without them

    import godis  # noqa: PLC0415
    from keyspace import gc_policy as collector  # noqa: PLC0415
    from net.listener import Server  # noqa: PLC0415

    serve = Server.serve_until_stopped

    def count() -> None:
        for _ in range(PLANTED):
            cycle: list[Any] = []
            cycle.append(cycle)
        del cycle
        print(f"unreachable: {gc.collect() - PLANTED}", file=sys.stderr)

    def serve_uncollected(server: Any) -> None:
        gc.disable()
        gevent.signal_handler(signal.SIGUSR1, count)
        serve(server)

    collector.keep_off = lambda *_: None
    collector.collect_young = lambda: None
    Server.serve_until_stopped = serve_uncollected  # type: ignore[method-assign, assignment]
    return godis.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
