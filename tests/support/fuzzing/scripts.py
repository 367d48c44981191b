r"""What several clients do to a whole server: random scripts, as text that a person can read and change.

    0 send b'*1\r\n$4\r\nPI'        a line an action: the client, what it does, what it sends
    1 send b'SET a 1\n'
    0 read                          take what there is, if anything
    1 half                          say that no more comes, and go on listening
    1 close                         or `reset`: without a goodbye (RST)

A client connects with its first action and again after its end. Whatever they do, the server stays up, answers others,
holds what `Keyspace.check` asserts, meets no error of its own, and after kill -9 finds all again that it held.
"""

from __future__ import annotations

import ast
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any

from servers import Raw, encode, parse
from watched import WatchedGodis

import engine  # noqa: F401 - it fills the table
from commands import TABLE

CLIENTS = 4
ROUND_ACTIONS = 120  # between two checks of what the server holds
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Action = tuple[int, str, bytes]
MakeCommand = Callable[[Random], list[bytes]]

KEYS = [b"a", b"b", b"c", b"k:1", b"", b"\x00\xff\r\n", b"x" * 1100]
WORDS = [
    *KEYS,
    *[b"0", b"1", b"-1", b"2", b"3", b"10", b"100", b"abc", b"1.5", b"inf", b"nan", b"*", b"?", b"[a-c]", b"(null)"],
    *[b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"4100000000000", b"1e400", b"\xff"],
    *[b"EX", b"PX", b"NX", b"XX", b"GT", b"GET", b"KEEPTTL", b"PERSIST", b"PXAT", b"MATCH", b"COUNT", b"LEN", b"IDX"],
    *[b"DB", b"REPLACE", b"ASYNC", b"ID", b"TYPE", b"normal", b"yes", b"no", b"on", b"off", b"SETNAME", b"string"],
    *[b"v" * 5000, b"\r\n*1\r\n$4\r\nPING\r\n", b"a b", b'"', b"appendfsync", b"maxclients", b"timeout"],
]
# These end the server, keep others waiting, or change what all of them may do: the rest must bear anything.
LEFT_OUT = {b"SHUTDOWN", b"DEBUG", b"CONFIG"}
NOISE = [
    b"*1\r\n",
    b"*3\r\n$3\r\nSET\r\n",
    b"$4\r\n",
    b"\r\n",
    b"\n",
    b"*-1\r\n",
    b"PING\r\n",
    b"GET a\n",
    b"'",
    b"\x16\x03\x01",
]
LARGE = encode(b"SET", b"large", b"y" * 300_000)


def random_command(random: Random) -> list[bytes]:
    """Make up a command from the table with arguments that may make sense or not."""
    name = random.choice([name for name in TABLE if name not in LEFT_OUT])
    row = TABLE[name]
    argv = [name if random.random() < 0.8 else name.lower()]
    if row.subcommands and random.random() < 0.9:
        argv.append(random.choice([*row.subcommands]))
    least = abs(row.arity) - 1
    count = least if random.random() < 0.6 else random.randrange(8)
    argv += [random.choice(KEYS if index == 0 and row.has_keys else WORDS) for index in range(count)]
    if argv[1:2] and argv[0].upper() == b"CLIENT" and argv[1].upper() == b"PAUSE":
        argv[2:] = [b"%d" % random.randrange(20)]
    return argv


def random_bytes(random: Random, make: MakeCommand) -> bytes:
    """Make up what a client sends: requests, whole or broken, or noise."""
    match random.randrange(12):
        case 0:
            return random.randbytes(random.randint(1, 40))
        case 1:
            return random.choice(NOISE)
        case 2:
            return LARGE + encode(b"GET", b"large") * 4
        case 3:
            return b" ".join(make(random)) + b"\r\n"
        case 4:
            broken = bytearray(encode(*make(random)) * 2)
            broken[random.randrange(len(broken))] = random.randrange(256)
            return bytes(broken)
        case 5:
            wire = encode(*make(random))
            return wire[: random.randrange(1, len(wire))]
        case 6 | 7:
            return b"".join(encode(*make(random)) for _ in range(random.randint(2, 30)))
        case 8:
            argv = make(random)
            return b"".join(encode(argv[0], *argv[1:]) for _ in range(random.randint(4, 40)))
        case _:
            return encode(*make(random))


def random_actions(random: Random, makers: list[MakeCommand], count: int = ROUND_ACTIONS) -> Iterator[Action]:
    """Make up a script."""
    for _ in range(count):
        client = random.randrange(CLIENTS)
        what = random.choices(["send", "read", "half", "close", "reset"], [80, 12, 2, 3, 3])[0]
        yield client, what, random_bytes(random, random.choice(makers)) if what == "send" else b""


def show(actions: list[Action]) -> str:
    """Write a script."""
    return "".join(f"{client} {what}{f' {data!r}' if data else ''}\n" for client, what, data in actions)


def read(script: str) -> list[Action]:
    """Read a script; lines that begin with # are remarks."""
    actions = []
    for line in script.splitlines():
        if line.strip() and not line.startswith("#"):
            client, what, *rest = line.split(" ", 2)
            actions.append((int(client), what, ast.literal_eval(rest[0]) if rest else b""))
    return actions


class Crowd:
    """The clients of a script."""

    def __init__(self, godis: WatchedGodis) -> None:
        self.godis = godis
        self.clients: dict[int, Raw] = {}

    def do(self, action: Action) -> None:
        """Do one action; that the server closed, or does not read, is all right."""
        index, what, data = action
        if index not in self.clients:
            self.clients[index] = self.godis.raw(timeout=0.5)
        client = self.clients[index]
        with suppress(OSError):
            if what == "send":
                client.send(data)
            elif what == "read":
                client.sock.recv(1 << 20, socket.MSG_DONTWAIT)
            elif what == "half":
                client.end_of_input()
        if what in ("close", "reset"):
            if what == "reset":
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            client.close()
            del self.clients[index]

    def leave(self) -> None:
        """Close all clients."""
        for client in self.clients.values():
            client.close()
        self.clients.clear()


Content = dict[tuple[int, bytes], tuple[Any, int]]


def content(godis: WatchedGodis) -> Content:
    """Return each key's value and deadline."""
    found: Content = {}
    with godis.raw() as raw:
        for db in range(16):
            raw.ask("SELECT", db)
            keys = parse(raw.ask("KEYS", "*"))
            raw.send(b"".join(encode("GET", key) + encode("PEXPIRETIME", key) for key in keys))
            for key in keys:
                value, deadline_ms = parse(raw.read_reply()), parse(raw.read_reply())
                if value is not None:
                    found[db, key] = (value, deadline_ms)
    return found


def assert_recovers(godis: WatchedGodis) -> None:
    """Kill the server, start it again, and assert that it holds what it held, but for what expired meanwhile."""
    before = content(godis)
    godis.kill9()
    godis.start()
    with godis.raw() as raw:
        seconds, microseconds = map(int, parse(raw.ask("TIME")))
    now_ms = seconds * 1000 + microseconds // 1000
    after = content(godis)
    lasting = {key: held for key, held in before.items() if held[1] < 0 or held[1] > now_ms + 1000}
    found = {key: held for key, held in after.items() if held[1] < 0 or held[1] > now_ms + 1000}
    assert found == lasting, {key for key in lasting.keys() | found.keys() if lasting.get(key) != found.get(key)}


def play(godis: WatchedGodis, actions: list[Action]) -> None:
    """Do what a script says, then assert that the server is sound."""
    crowd = Crowd(godis)
    try:
        for action in actions:
            crowd.do(action)
    finally:
        crowd.leave()
    with godis.raw(timeout=20) as raw:
        raw.ask("CLIENT", "UNPAUSE")
    godis.assert_sound()


def run(godis: WatchedGodis, random: Random, makers: list[MakeCommand], rounds: int, log: list[Action]) -> None:
    """Play random scripts, then kill and compare; `log` has all that was done, for when it fails."""
    for _ in range(rounds):
        actions = [*random_actions(random, makers)]
        log += actions
        play(godis, actions)
    assert_recovers(godis)
