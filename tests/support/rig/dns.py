"""A stand-in for the DNS that a container engine gives to its containers: one name, the addresses behind it.

It does what Docker's does, as far as a balancer can see: on 127.0.0.11:53 of the host that it is started on, it
answers an A query for the name with all addresses, in random order, with a TTL of ten minutes however soon they
change; an AAAA query with none; any other name with NXDOMAIN.

A query is one packet, and the answer begins with a copy of it (RFC 1035, 4.1):

    id 2 | flags 2 | counts 4 x 2 | labels: length, bytes … 0 | type 2 | class 2
"""

from __future__ import annotations

import random
import socket
import socketserver
import struct
import threading
from typing import Any

ADDRESS = ("127.0.0.11", 53)
TTL_SECONDS = 600
HEAD_BYTES = 12
A_RECORD = 1
INTERNET = 1
ANSWER = 0x8180
NO_SUCH_NAME = 3
NAME_OF_THE_QUESTION = 0xC000 | HEAD_BYTES


class DnsStub(socketserver.UDPServer):
    """Answers for one name from `addresses`, which may be changed while it runs."""

    def __init__(self, name: str) -> None:
        super().__init__(ADDRESS, _Query)
        self.name = name.encode()
        self.addresses: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Query(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        stub: Any = self.server
        packet, sock = self.request
        name, kind, end = _question(packet)
        found = list(stub.addresses) if name == stub.name and kind == A_RECORD else []
        random.shuffle(found)
        flags = ANSWER if name == stub.name else ANSWER | NO_SUCH_NAME
        head = packet[:2] + struct.pack(">5H", flags, 1, len(found), 0, 0)
        sock.sendto(head + packet[HEAD_BYTES:end] + b"".join(map(_record, found)), self.client_address)


def _question(packet: bytes) -> tuple[bytes, int, int]:
    """Read the name and type that are asked for, and where the question ends."""
    labels = []
    at = HEAD_BYTES
    while size := packet[at]:
        labels.append(packet[at + 1 : at + 1 + size])
        at += 1 + size
    (kind,) = struct.unpack_from(">H", packet, at + 1)
    return b".".join(labels), kind, at + 5


def _record(address: str) -> bytes:
    data = socket.inet_aton(address)
    return struct.pack(">HHHIH", NAME_OF_THE_QUESTION, A_RECORD, INTERNET, TTL_SECONDS, len(data)) + data
