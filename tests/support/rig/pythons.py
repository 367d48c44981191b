"""Runs the tests under other versions of Python: `python -m rig.pythons 3.10 3.12 3.13 -m pytest`.

Of each version the newest release is taken that the machine has, on PATH or among pyenv's; with GODIS_TEST_STRICT=1 on
a Debian also that of Debian's unstable release. It gets a virtual environment under .make, made once and used again
until the requirements or the release change. A version that is not there is named and passed over, and so is the one
that this runs under, which `make test` has tested.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from servers import ROOT

from rig.debian_pythons import NotThere, unpack

REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
MAKE = ROOT / ".make"
RUNNING = "{}.{}".format(*sys.version_info)
ASK = "import sys; print(*sys.version_info[:3], sys.base_prefix, sep='\\n')"

Release = tuple[int, ...]


def find_python(version: str) -> Path | None:
    """Find the program of the newest Python of this version, such as 3.12; None if the machine has none."""
    found = [found for candidate in _candidates(version) if (found := _release_of(candidate))]
    return max(found)[1] if found else None


def _candidates(version: str) -> list[str]:
    places = os.environ.get("PATH", "").split(os.pathsep)
    pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    return [*(f"{place}/python{version}" for place in places), *map(str, pyenv)]


def _release_of(candidate: str | Path) -> tuple[Release, Path] | None:
    """Return the release of a Python, and its own program, which is no shim and of no virtual environment."""
    try:
        said = subprocess.check_output([candidate, "-c", ASK], text=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    *release, prefix = said.splitlines()
    return tuple(map(int, release)), Path(prefix) / "bin" / f"python{release[0]}.{release[1]}"


def find_newest(version: str) -> Path | None:
    """Do the same with Debian's among them, where nothing may be missing."""
    here = find_python(version)
    if os.environ.get("GODIS_TEST_STRICT") != "1":
        return here
    try:
        debians = unpack(version, MAKE / f"debian-python-{version}")
    except NotThere as reason:
        print(f"-- Python {version}: {reason}")
        return here
    found = [found for program in (here, debians) if program and (found := _release_of(program))]
    return max(found)[1]


def environment(version: str, python: Path) -> Path:
    """Make the virtual environment of a version, unless it is up to date, and return its Python."""
    directory = MAKE / f"python-{version}"
    stamp = directory / "made-of"
    release = _release_of(python)
    wanted = "".join([repr(release), *(path.read_text() for path in REQUIREMENTS)])
    program = directory / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        # With our pip, because Debian's Pythons have none unless a package is installed. The pip of Debian's own Python
        # (23.0) cannot run under 3.12 and later.
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-qq", "--upgrade", "pip>=25"], check=True)
        subprocess.run([python, "-m", "venv", "--clear", "--without-pip", directory], check=True)
        subprocess.run([*pip, "--python", str(program), "install", "-qq", "-r", str(REQUIREMENTS[1])], check=True)
        stamp.write_text(wanted)
    return program


def main(words: list[str]) -> int:
    """Run what follows the versions, beginning with `-m`, under each; return how many failed."""
    at = words.index("-m")
    failed = []
    for version in words[:at]:
        python = None if version == RUNNING else find_newest(version)
        if python is None:
            print(f"-- Python {version}: {'tested by make test' if version == RUNNING else 'not on this machine'}")
            continue
        release, _ = _release_of(python) or ((), None)
        print(f"-- Python {'.'.join(map(str, release))}: {python}", flush=True)
        if subprocess.run([str(environment(version, python)), *words[at:]], cwd=ROOT, check=False).returncode:
            failed.append(version)
    print(f"-- failed under {', '.join(failed)}" if failed else "-- passed under all of them")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
