"""Runs the tests under other versions of Python: `python -m rig.pythons 3.10 3.12 3.13 -m pytest`.

Each version that the machine has, on PATH or among pyenv's, gets a virtual environment under .make, made once and
used again until the requirements change. A version that is not there is named and passed over, and so is the one that
this runs under, which `make test` has tested.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from servers import ROOT

REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
RUNNING = "{}.{}".format(*sys.version_info)


def find_python(version: str) -> Path | None:
    """Find the program of a Python of this version, such as 3.12; None if the machine has none."""
    pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    for candidate in (f"python{version}", *map(str, pyenv)):
        try:
            asked = [candidate, "-c", "import sys; print(sys.base_prefix)"]
            prefix = subprocess.check_output(asked, text=True, stderr=subprocess.DEVNULL).strip()
        except (OSError, subprocess.CalledProcessError):
            continue
        return Path(prefix) / "bin" / f"python{version}"
    return None


def environment(version: str, python: Path) -> Path:
    """Make the virtual environment of a version, unless it is up to date, and return its Python."""
    directory = ROOT / ".make" / f"python-{version}"
    stamp = directory / "requirements"
    wanted = "".join(path.read_text() for path in REQUIREMENTS)
    program = directory / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([python, "-m", "venv", "--clear", directory], check=True)
        install = [str(program), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(REQUIREMENTS[1])], check=True)
        stamp.write_text(wanted)
    return program


def main(words: list[str]) -> int:
    """Run what follows the versions, beginning with `-m`, under each; return how many failed."""
    at = words.index("-m")
    failed = []
    for version in words[:at]:
        python = None if version == RUNNING else find_python(version)
        if python is None:
            print(f"-- Python {version}: {'tested by make test' if version == RUNNING else 'not on this machine'}")
            continue
        print(f"-- Python {version}: {python}", flush=True)
        if subprocess.run([str(environment(version, python)), *words[at:]], cwd=ROOT, check=False).returncode:
            failed.append(version)
    print(f"-- failed under {', '.join(failed)}" if failed else "-- passed under all of them")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
