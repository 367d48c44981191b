"""A real container engine from nothing: Debian's dockerd, unpacked and not installed, and the real Compose.

The engine gets a network, mounts and process ids of its own:

    this process
      +-- unshare                 killed with us; then the kernel ends all below it
            +-- tini  (process 1)
                  +-- dockerd     with containerd, the shims and the containers

So it meddles with no engine, bridge or firewall of the machine, its published ports are reached from within its
network namespace only, and nothing of it survives the tests, however they end. It has no way out to the internet:
base images are imported as archives (`base_images`).

Refused: dockerd in the machine's own namespaces (its iptables rules and mounts stay behind), a chroot (runc cannot
pivot out of it), and `ip netns exec` (it gives each program another /sys).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from servers import dies_with_parent, require, wait_until

from rig.namespaces import NetworkNamespace

DEBIAN_PACKAGES = (
    "docker.io",
    "containerd",
    "runc",
    "tini",
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libxtables12",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libmnl0",
    "busybox-static",
)
FIRST_ANSWER_SECONDS = 30


def tool(name: str) -> str:
    """Find a program that came with a package of tests/containers/requirements.txt."""
    path = shutil.which(name, path=sysconfig.get_path("scripts"))
    require(path, f"{name} is not installed (tests/containers/requirements.txt)")
    return str(path)


class ContainerEngine:
    """dockerd with its command line client; needs root, and Debian packages that can be downloaded."""

    def __init__(self) -> None:
        require(os.geteuid() == 0, "a container engine needs root")
        self.directory = Path(tempfile.mkdtemp(prefix="godis-engine-"))
        self.programs = self._unpack_packages()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))},
            "PATH": f"{self.programs}/usr/sbin:{self.programs}/usr/bin:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self.directory}/docker.sock",
            # The classic builder: what a Debian machine without buildx has, and the stricter of the two.
            "DOCKER_BUILDKIT": "0",
        }
        self.network = NetworkNamespace()
        self.process = self._start()
        wait_until(self._answers, FIRST_ANSWER_SECONDS, f"dockerd answers; {self.log()}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.network.close()
        shutil.rmtree(self.directory)

    def log(self) -> str:
        return (self.directory / "dockerd.log").read_text()

    def entered(self) -> AbstractContextManager[None]:
        """Be on the engine's host, where its published ports are."""
        return self.network.entered()

    def run(self, *argv: str | Path, stdin: IO[bytes] | None = None) -> str:
        """Run a program that talks to the engine; return what it printed, or fail with what it complained of."""
        done = subprocess.run(argv, env=self.environment, stdin=stdin, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stderr.decode()[-4000:]}")
        return done.stdout.decode()

    def docker(self, *words: str | Path) -> str:
        return self.run(self.programs / "usr/bin/docker", *words)

    def inspect(self, *names: str) -> list[Any]:
        """Return what the engine knows of containers or images."""
        found: list[Any] = json.loads(self.docker("inspect", *names))
        return found

    def import_image(self, name: str, archive: Path, changes: list[str]) -> None:
        """Make an image of an archive of files; changes are lines of a Dockerfile."""
        self.docker("import", *(f"--change={change}" for change in changes), archive, name)

    def _unpack_packages(self) -> Path:
        downloads = self.directory / "packages"
        programs = self.directory / "programs"
        downloads.mkdir()
        subprocess.run(
            ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *DEBIAN_PACKAGES],
            cwd=downloads,
            check=True,
            capture_output=True,
        )
        for package in downloads.iterdir():
            subprocess.run(["dpkg", "-x", package, programs], check=True)
        for name in ("iptables", "ip6tables"):
            link = programs / "usr/sbin" / name
            link.unlink(missing_ok=True)
            link.symlink_to("xtables-nft-multi")
        return programs

    def _start(self) -> subprocess.Popen[bytes]:
        (libraries,) = (self.programs / "usr/lib").glob("*-linux-gnu")
        unshare = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        dockerd = [
            "dockerd",
            f"--data-root={self.directory}/data",
            f"--exec-root={self.directory}/exec",
            f"--pidfile={self.directory}/docker.pid",
            f"--host={self.environment['DOCKER_HOST']}",
            "--storage-driver=overlay2",
            "--bip=198.18.0.1/24",
            "--default-address-pool=base=198.18.64.0/18,size=24",
        ]
        environment = self.environment | {
            "LD_LIBRARY_PATH": str(libraries),
            "XTABLES_LIBDIR": str(libraries / "xtables"),
        }
        with open(self.directory / "dockerd.log", "wb") as log, self.entered():
            return subprocess.Popen(
                dies_with_parent([*unshare, "tini", "-g", "--", *dockerd]), env=environment, stdout=log, stderr=log
            )

    def _answers(self) -> bool:
        try:
            self.docker("version")
        except RuntimeError:
            return False
        return True


class ComposeProject:
    """The services of a compose file, and of those that are put on top of it, on the engine."""

    def __init__(self, engine: ContainerEngine, *files: Path) -> None:
        self.engine = engine
        self.files = [word for file in files for word in ("-f", file)]

    def compose(self, *words: str) -> str:
        return self.engine.run(tool("docker-compose"), *self.files, *words)

    def up(self, *words: str) -> None:
        """Bring the services up and wait until all are healthy; fail with what they logged."""
        try:
            self.compose("up", "--detach", "--wait", *words)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.compose('logs')}") from error

    def down(self, *words: str) -> None:
        self.compose("down", *words)

    def containers(self, service: str) -> list[str]:
        """Return the ids of the running containers of a service."""
        return self.compose("ps", "--quiet", "--status=running", service).split()
