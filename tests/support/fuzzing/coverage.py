"""The long run of a target under atheris, in a process of its own: `python -m fuzzing.coverage parser SECONDS`.

The corpus in the repository is what it starts from; what it finds on the way stays in .make/fuzz, so that the next run
goes on from there. An input that fails is printed, kept in the corpus, and ends the run with exit code 1.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

from fuzzing.corpus import CORPUS, keep

with atheris.instrument_imports(
    include=["protocol", "wire", "log.reader", "log.replay", "log.check", "rdb", "commands.dump"]
):
    from fuzzing import logs, parsers, payloads

ROOT = CORPUS.parent.parent
LONGEST_BYTES = {"parser": 600, "log": 1500, "payload": 600}
TOKENS = {"parser": parsers.TOKENS, "log": logs.TOKENS, "payload": payloads.TOKENS}


def write_dictionary(path: Path, tokens: list[bytes]) -> None:
    """Write words for libFuzzer to put in."""
    quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in tokens if len(token) <= 128)
    path.write_text("".join(f'"{token}"\n' for token in quoted))


def mutate_log(data: bytes, longest: int, seed: int) -> bytes:
    """Change a log, and make its checksums right in three of four cases."""
    changed: bytes = atheris.Mutate(data, longest)
    return logs.with_right_checksums(changed)[:longest] if seed % 4 else changed


def main(target: str, seconds: str) -> None:
    """Fuzz; libFuzzer ends the process."""
    os.fsync = lambda _descriptor: None  # type: ignore[assignment] # the tests of the disk are others
    work = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    judges: dict[str, Callable[[bytes], None]] = {
        "parser": parsers.check,
        "log": lambda data: logs.check(data, work),
        "payload": payloads.check,
    }
    judge = judges[target]

    def run(data: bytes) -> None:
        try:
            judge(data)
        except Exception:
            print(f"the input is kept in {keep(target, data)}", file=sys.stderr)
            raise

    found = ROOT / ".make" / "fuzz" / target
    found.mkdir(parents=True, exist_ok=True)
    dictionary = found.with_suffix(".dictionary")
    write_dictionary(dictionary, TOKENS[target])
    options = {"max_total_time": seconds, "max_len": LONGEST_BYTES[target], "dict": dictionary, "print_final_stats": 1}
    words = [f"-{name}={value}" for name, value in options.items()]
    words += [f"-artifact_prefix={found.parent}/"]
    atheris.Setup(
        [sys.argv[0], *words, str(found), str(CORPUS / target)],
        run,
        **({"custom_mutator": mutate_log} if target == "log" else {}),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
