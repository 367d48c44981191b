"""Real etcd nodes for the tests: one, or a cluster of three, each in its own directory and on its own ports.

    EtcdCluster            three members that know each other, or one alone
      EtcdNode             a process: start, stop, kill9, pause, resume; its data survives all of them

Every node fsyncs as it does in earnest: what a test kills must come back with what it had acknowledged. A node may be
put on a host of its own (`namespace` and `host`), so that the network between nodes can be cut.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from servers import HOST, PATIENCE_SECONDS, dies_with_parent, free_port, require, wait_until

from rig.namespaces import NetworkNamespace

READY_SECONDS = 30


def require_etcd() -> None:
    """Skip the test, or fail it under strict rules, if etcd is not installed."""
    for program in ("etcd", "setpriv"):
        require(shutil.which(program), f"{program} is not installed")


class EtcdNode:
    """One member. `start` may be called again after its end: same ports, same data."""

    def __init__(
        self,
        name: str,
        directory: Path,
        *args: str,
        host: str = HOST,
        client_port: int = 0,
        peer_port: int = 0,
        namespace: NetworkNamespace | None = None,
        scheme: str = "http",
    ) -> None:
        self.name = name
        self.host = host
        self.args = list(args)
        self.namespace = namespace
        self.data_directory = directory / f"{name}.etcd"
        self.log_path = directory / f"{name}.etcd.log"
        self.client_port = client_port or free_port()
        self.peer_port = peer_port or free_port()
        self.scheme = scheme
        self.initial_cluster = f"{name}={self.peer_url}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def client_url(self) -> str:
        """Where clients connect."""
        return f"{self.scheme}://{self.endpoint}"

    @property
    def endpoint(self) -> str:
        """Host and port for clients."""
        return f"{self.host}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        """Where the other members connect."""
        return f"http://{self.host}:{self.peer_port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Return True if the process is there (paused or not)."""
        return self.process is not None and self.process.poll() is None

    def launch(self) -> None:
        """Start the process and do not wait for anything."""
        argv = [
            "etcd",
            f"--name={self.name}",
            f"--data-dir={self.data_directory}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.initial_cluster}",
            "--initial-cluster-state=new",
            "--pre-vote",  # as all since 3.5: a member that lags does not put an election off
            "--logger=zap",
            "--log-level=warn",
            *self.args,
        ]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with open(self.log_path, "ab") as log, self.namespace.entered() if self.namespace else nullcontext():
            self.process = subprocess.Popen(
                dies_with_parent(argv), env=inherited, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start(self) -> None:
        """Start the process and wait until it serves, which a member of a cluster does when it knows a leader."""
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the node answers a linearizable read."""
        wait_until(lambda: not self.runs or self.is_ready(), READY_SECONDS, f"etcd {self.name} serves")
        assert self.runs, f"etcd {self.name} ended: {self.log()}"

    def is_ready(self) -> bool:
        """Return True if the node answers a linearizable read now; behind TLS, whether it listens."""
        if self.scheme == "https":
            with self.namespace.entered() if self.namespace else nullcontext():
                return subprocess.run(["nc", "-z", self.host, str(self.client_port)], check=False).returncode == 0
        try:
            self.call("kv/range", {"key": b64encode(b"ready").decode()}, timeout=2)
        except urllib.error.HTTPError as error:
            with error:  # Python 3.14 warns of one that is not closed
                return error.code == 400  # authentication is on: it serves
        except OSError:
            return False
        return True

    def call(self, path: str, body: dict[str, Any], timeout: float = PATIENCE_SECONDS) -> Any:
        """Call the JSON gateway, as in `call("kv/range", {"key": …})`."""
        request = urllib.request.Request(f"{self.client_url}/v3/{path}", json.dumps(body).encode())
        with (
            self.namespace.entered() if self.namespace else nullcontext(),
            urllib.request.urlopen(request, timeout=timeout) as answer,
        ):
            return json.loads(answer.read())

    def is_leader(self) -> bool:
        """Return True if this member leads the cluster, as far as it knows."""
        try:
            status = self.call("maintenance/status", {}, timeout=2)
        except OSError:
            return False
        return bool(status["header"]["member_id"] == status.get("leader"))

    def kill9(self) -> None:
        """End the process as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        """End the process if it runs, by whatever is needed."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill9()

    def pause(self) -> None:
        """Freeze the process; its sockets stay open. Returns when all of its threads stand still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        wait_until(lambda: all(b") T " in (task / "stat").read_bytes() for task in tasks.iterdir()), 5, "it is frozen")

    def resume(self) -> None:
        """Let a frozen process go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the end of what the process wrote."""
        return self.log_path.read_text(errors="replace")[-4000:]


class EtcdCluster:
    """Members that make one etcd, in one directory; use it in a `with`, or `start` and `stop` it."""

    def __init__(self, directory: Path, size: int = 3, *args: str, nodes: Sequence[EtcdNode] = ()) -> None:
        self.nodes = list(nodes) or [EtcdNode(f"etcd{number}", directory, *args) for number in range(1, size + 1)]
        members = ",".join(f"{node.name}={node.peer_url}" for node in self.nodes)
        for node in self.nodes:
            node.initial_cluster = members

    def start(self) -> None:
        """Start all members, and wait until each serves."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_until_ready()

    def stop(self) -> None:
        """End all members; by force, since a leader with nobody to hand over to takes seconds."""
        for node in self.nodes:
            if node.process is not None and node.runs:
                node.kill9()

    @property
    def endpoints(self) -> str:
        """All clients' endpoints, as `--pool etcd://…` takes them."""
        return ",".join(node.endpoint for node in self.nodes)

    def leader(self) -> EtcdNode:
        """Return the member that leads; waits for one."""
        found: list[EtcdNode] = []

        def look() -> bool:
            found[:] = [node for node in self.nodes if node.runs and node.is_leader()]
            return bool(found)

        wait_until(look, READY_SECONDS, "a leader of etcd")
        return found[0]

    def followers(self) -> list[EtcdNode]:
        """Return the members that run and do not lead."""
        leader = self.leader()
        return [node for node in self.nodes if node.runs and node is not leader]

    def __enter__(self) -> EtcdCluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
