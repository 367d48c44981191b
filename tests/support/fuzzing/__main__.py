"""All long runs, one after another: `python -m fuzzing SECONDS`, which the targets share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from fuzzing import scripts
from fuzzing.corpus import keep

SUPPORT = Path(__file__).resolve().parent.parent
PLAYED_BETWEEN_KILLS = 8


def fuzz_server(seconds: float, seed: int) -> int:
    """Play random scripts until the time is over; return how many actions there were."""
    from random_commands import of_any_family  # noqa: PLC0415 - the other targets do not need it
    from watched import WatchedGodis  # noqa: PLC0415

    random = Random(seed)
    end = time.monotonic() + seconds
    count = 0
    with tempfile.TemporaryDirectory() as directory:
        while time.monotonic() < end:
            done: list[scripts.Action] = []
            work = Path(tempfile.mkdtemp(dir=directory))
            with WatchedGodis(work, "--default-ttl", "0", "--auto-rewrite-min-size", "1mb") as godis:
                try:
                    scripts.run(godis, random, [scripts.random_command, of_any_family], PLAYED_BETWEEN_KILLS, done)
                except BaseException:
                    print(f"the script is kept in {keep('server', scripts.show(done).encode())}; log: {godis.stderr()}")
                    raise
            count += len(done)
    return count


def main(seconds: int) -> int:
    """Run each target for its share; return how many failed."""
    share = max(1, seconds // 4)
    environment = os.environ | {"PYTHONPATH": f"{SUPPORT.parents[1]}{os.pathsep}{SUPPORT}"}
    failed = 0
    for target in ("parser", "log", "payload"):
        print(f"== {target}: {share} s", flush=True)
        command = [sys.executable, "-m", "fuzzing.coverage", target, str(share)]
        failed += bool(subprocess.run(command, cwd=SUPPORT, env=environment, check=False).returncode)
    seed = int(os.environ.get("GODIS_SEED") or time.time())
    print(f"== server: {share} s, GODIS_SEED={seed}", flush=True)
    print(f"{fuzz_server(share, seed)} actions", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
