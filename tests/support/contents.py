"""What a server holds, whatever its types: read by commands, so that two servers, or two moments, can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Union

from comparing import close_in_ms
from servers import Raw, encode, parse

READS: dict[bytes, list[bytes]] = {
    b"string": [b"GET {}"],
    b"list": [b"LRANGE {} 0 -1"],
    b"hash": [b"HGETALL {}"],
    b"set": [b"SMEMBERS {}"],
    b"zset": [b"ZRANGE {} 0 -1 WITHSCORES"],
    b"stream": [b"XRANGE {} - +", b"XINFO STREAM {} FULL COUNT 0"],
}
OWN_AFFAIR = {
    b"radix-tree-keys",
    b"radix-tree-nodes",
    b"seen-time",
    b"active-time",
}  # of how a stream is stored; clocks
DATABASES = 16

Contents = dict[tuple[int, bytes], tuple[bytes, Any, int]]  # (database, key) -> type, value, deadline in Unix ms
Words = Union[bytes, str, int]


def ask_all(raw: Raw, requests: Iterable[Sequence[Words]]) -> list[Any]:
    """Send requests as one pipeline; return their replies as values."""
    requests = list(requests)
    raw.send(b"".join(encode(*argv) for argv in requests))
    return [parse(raw.read_reply()) for _ in requests]


def contents(raw: Raw, databases: int = DATABASES) -> Contents:
    """Return type, value and deadline of every key. Afterwards the connection speaks RESP2 on database 0."""
    ask_all(raw, [["HELLO", 2]])
    found: Contents = {}
    for db in range(databases):
        _, keys = ask_all(raw, [["SELECT", db], ["KEYS", "*"]])
        kinds = ask_all(raw, [[name, key] for key in keys for name in (b"TYPE", b"PEXPIRETIME")])
        reads = [
            [key if word == b"{}" else word for word in read.split()]
            for key, kind in zip(keys, kinds[::2], strict=True)
            for read in READS.get(kind, [])
        ]
        replies = iter(ask_all(raw, reads))
        for key, kind, deadline_ms in zip(keys, kinds[::2], kinds[1::2], strict=True):
            values = [next(replies) for _ in READS.get(kind, [])]
            if kind != b"none":  # it ended between the questions
                found[db, key] = bytes(kind), in_order(kind, values), deadline_ms
    ask_all(raw, [["SELECT", 0]])
    return found


def in_order(kind: bytes, replies: list[Any]) -> Any:
    """Return what was read in an order that does not depend on the server."""
    value = replies[0]
    if kind == b"hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    if kind == b"set":
        return sorted(value)
    if kind == b"zset":
        return list(zip(value[::2], map(float, value[1::2]), strict=True))
    return [value, _described(replies[1])] if kind == b"stream" else value


def _described(reply: Any) -> Any:
    """Return a stream's description without what each server counts in its own way."""
    if not isinstance(reply, list):
        return reply
    if reply and len(reply) % 2 == 0 and all(type(name) is bytes for name in reply[::2]):
        fields = zip(reply[::2], reply[1::2], strict=True)
        return {name: _pending(name, value) for name, value in fields if name not in OWN_AFFAIR}
    return [_described(each) for each in reply]


def _pending(name: bytes, value: Any) -> Any:
    """Leave the time of delivery out of pending entries, which is the clock of each."""
    if name in (b"pel", b"pending") and isinstance(value, list):
        return [[each for each in entry if not _is_moment(each)] for entry in value]
    return _described(value)


def _is_moment(value: Any) -> bool:
    return isinstance(value, int) and value > 1_000_000_000


def differences(ours: Contents, theirs: Contents) -> list[tuple[Any, Any, Any]]:
    """Return the keys that differ, with what each has; deadlines may be some seconds apart."""
    found = []
    for place in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(place), theirs.get(place)
        if mine is None or other is None or mine[:2] != other[:2] or not close_in_ms(mine[2], other[2]):
            found.append((place, mine, other))
    return found
