"""A test network: hosts joined by a bridge, each of which can be unplugged, or cut off from some of the others.

    the front                  where the test itself is, with its clients
      bridge 198.18.0.1/24
        +-- port11 == eth0 198.18.0.11    a host
        +-- port12 == eth0 198.18.0.12    a host

Each host is a network namespace, so all can use the same ports. What is sent over a cut is lost without a word, as on
a broken wire: the sender believes that it knows the other's hardware address, and it is nobody's. (A blackhole route
would tell the sender at once; a packet filter needs kernel modules that not every machine has.)
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from rig.namespaces import NetworkNamespace, ip

NOBODY = "02:00:00:00:00:01"


class Host(NetworkNamespace):
    """One host on the bridge of the front."""

    def __init__(self, number: int, front: NetworkNamespace) -> None:
        super().__init__()
        self.address = f"198.18.0.{number}"
        self._front = front
        self._bridge_port = f"port{number}"
        with front.entered():
            ip("link", "add", self._bridge_port, "type", "veth", "peer", "eth0", "netns", self.path)
            ip("link", "set", self._bridge_port, "master", "bridge", "up")
        with self.entered():
            ip("address", "add", f"{self.address}/24", "dev", "eth0")
            ip("link", "set", "eth0", "up")

    def unplug(self) -> None:
        """Take the host off the network: packets to it are lost, and nothing says so."""
        with self._front.entered():
            ip("link", "set", self._bridge_port, "down")

    def plug(self) -> None:
        """Put the host back on the network."""
        with self._front.entered():
            ip("link", "set", self._bridge_port, "up")

    def leave(self) -> None:
        """Leave the network for good: another host may have the number."""
        with self._front.entered():
            ip("link", "delete", self._bridge_port)

    def lose(self, other: Host) -> None:
        """Send the other host nothing that arrives, from now on."""
        with self.entered():
            ip("neighbour", "replace", other.address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")

    def find(self, other: Host) -> None:
        """Reach the other host again."""
        with self.entered():
            ip("neighbour", "delete", other.address, "dev", "eth0")


class Network:
    """The front with its bridge, and the hosts on it; `close` lets go of them all."""

    def __init__(self) -> None:
        self.front = NetworkNamespace()
        self._cut: list[tuple[Host, Host]] = []
        with ExitStack() as parts:
            parts.callback(self.front.close)
            with self.front.entered():
                ip("link", "add", "bridge", "type", "bridge")
                ip("address", "add", "198.18.0.1/24", "dev", "bridge")
                ip("link", "set", "bridge", "up")
            self._parts = parts.pop_all()

    def add_host(self, number: int) -> Host:
        """Join a host to the bridge, by a number from 2 to 254."""
        host = Host(number, self.front)
        self._parts.callback(host.close)
        return host

    def cut(self, one_side: Iterable[Host], other_side: Iterable[Host]) -> None:
        """Lose all that the hosts of the two sides send each other; the front still reaches all."""
        others = list(other_side)
        for one in one_side:
            for other in others:
                one.lose(other)
                other.lose(one)
                self._cut.append((one, other))

    def mend(self) -> None:
        """Take back every cut."""
        for one, other in self._cut:
            one.find(other)
            other.find(one)
        self._cut.clear()

    def close(self) -> None:
        self._parts.close()
