"""The newest Pythons that Debian has, from its unstable release: unpacked and not installed.

    unpack("3.14", directory)  ->  the program directory/usr/bin/python3.14

They need a newer C library than the machine may have. So their packages are downloaded with all that they depend on,
and the program is told to load its libraries from there: the interpreter of its ELF file, and its RPATH.

Refused: a chroot, in which redis-server, etcd and strace would have to be of that release, too; and a build from
source, which no registry has.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

RELEASE = "sid"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class NotThere(Exception):
    """Debian has no such Python, or cannot be asked; the message says why."""


def unpack(version: str, directory: Path) -> Path:
    """Download a Python with its libraries, unless it is there; return its program. Raises NotThere."""
    apt = _Apt(directory.parent / f"debian-{RELEASE}")
    name = f"python{version}"
    newest = apt.newest(name)
    program = directory / "usr" / "bin" / name
    stamp = directory / "version"
    if stamp.exists() and stamp.read_text() == newest:
        return program
    for package in apt.download(name):
        subprocess.run(["dpkg", "-x", package, directory], check=True)
    (libraries,) = (directory / "usr" / "lib").glob("*-linux-gnu")
    (loader,) = libraries.glob("ld-linux*.so.*")
    subprocess.run(
        ["patchelf", "--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries, program], check=True
    )
    stamp.write_text(newest)
    return program


class _Apt:
    """apt with lists and a cache of its own, which takes nothing for installed."""

    def __init__(self, directory: Path) -> None:
        self._cache = directory / "cache"
        for place in ("lists/partial", "cache/archives/partial"):
            (directory / place).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()
        sources = directory / "sources.list"
        settings = {
            "APT::Sandbox::User": "root",
            "Dir::State": directory,
            "Dir::State::status": directory / "status",
            "Dir::Cache": self._cache,
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
        }
        self._settings = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        if not sources.exists():
            sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {RELEASE} main\n")
            self._run("apt-get", "update", "-qq")

    def newest(self, package: str) -> str:
        """Return the version of a package."""
        said = self._run("apt-cache", "madison", package).split("|")
        if len(said) < 2:
            raise NotThere(f"Debian {RELEASE} has no {package}")
        return said[1].strip()

    def download(self, package: str) -> list[Path]:
        """Download a package and all that it depends on."""
        self._run("apt-get", "clean")
        self._run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "--download-only", package)
        return sorted(self._cache.glob("archives/*.deb"))

    def _run(self, program: str, *words: str) -> str:
        try:
            done = subprocess.run([program, *self._settings, *words], check=False, capture_output=True, text=True)
        except FileNotFoundError:
            raise NotThere(f"{program} is not on this machine") from None
        if done.returncode != 0:
            raise NotThere(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{program} failed")
        return done.stdout


def _mirror() -> str:
    """Return where this machine has its own Debian packages from."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    for line in subprocess.run(asked, check=False, capture_output=True, text=True).stdout.splitlines():
        uri, _, codename = line.partition(" ")
        if "-" not in codename:  # neither -security nor -updates
            return uri
    raise NotThere("this machine's apt has no lists")
