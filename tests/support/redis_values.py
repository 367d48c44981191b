"""Values of every type and size for a server, by plain commands, so that each of Redis's encodings occurs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random
from typing import Any

from servers import Raw, encode, parse

Request = list[bytes]
SIZES = (1, 5, 130, 2000)
LONG = b"0123456789" * 1000
TYPES = ("string", "list", "set", "zset", "hash", "stream")
UNSET = (b"seen-time", b"active-time", b"idle", b"inactive", b"radix-tree-keys", b"radix-tree-nodes")


def word(random: Random, kind: str) -> bytes:
    """Make a string: an integer of any width, bytes of any kind, or something that compresses well."""
    if kind == "integers":
        return b"%d" % random.randrange(-(2 ** random.randrange(1, 63)), 2 ** random.randrange(1, 63))
    return random.choice([random.randbytes(random.randrange(300)), LONG[: random.randrange(len(LONG))], b"a" * 70])


def score(random: Random) -> bytes:
    """Make a score, the extreme ones too."""
    return random.choice([b"%d" % random.randrange(100), b"%r" % random.random(), b"inf", b"-inf", b"1e300", b"-0.5"])


def requests(kind: str, size: int, words: str, key: bytes) -> Iterator[Request]:
    """Yield the commands that make a value of a type, with about so many elements."""
    random = Random(f"{kind} {size} {words}")
    some = [word(random, words) for _ in range(size)]
    if kind == "string":
        yield [b"SET", key, some[0] * size]
    elif kind == "list":
        yield from ([b"RPUSH", key, *some[start : start + 100]] for start in range(0, size, 100))
    elif kind == "set":
        yield from ([b"SADD", key, *some[start : start + 100]] for start in range(0, size, 100))
    elif kind == "zset":
        yield from ([b"ZADD", key, score(random), each] for each in some)
    elif kind == "hash":
        yield from ([b"HSET", key, each, word(random, words)] for each in some)
    elif kind == "stream":
        yield from _stream(random, some, words, key)
    else:
        raise ValueError(kind)


def _stream(random: Random, some: list[bytes], words: str, key: bytes) -> Iterator[Request]:
    ids = [b"%d-%d" % (1000 + number // 3, number) for number in range(len(some))]
    for entry_id, each in zip(ids, some, strict=True):
        fields = [b"a", b"b"] if words == "integers" else [each]
        yield [b"XADD", key, entry_id, *[part for field in fields for part in (field, word(random, words))]]
    yield [b"XGROUP", b"CREATE", key, b"all", b"0"]
    yield [b"XGROUP", b"CREATE", key, b"rest", ids[len(ids) // 2]]
    yield [b"XGROUP", b"CREATE", key, b"new", b"$"]
    yield [b"XGROUP", b"CREATECONSUMER", key, b"new", b"idle"]
    for consumer in (b"one", b"two", b"one"):
        count = b"%d" % (1 + len(ids) // 5)
        yield [b"XREADGROUP", b"GROUP", b"all", consumer, b"COUNT", count, b"STREAMS", key, b">"]
    yield [b"XREADGROUP", b"GROUP", b"rest", b"three", b"COUNT", b"3", b"STREAMS", key, b">"]
    yield [b"XACK", key, b"all", *ids[:: 1 + len(ids) // 7]]
    yield [b"XDEL", key, *ids[1 :: 1 + len(ids) // 4], b"1-1"]  # some of these are pending


def ask_all(server: Raw, made: Iterable[Request]) -> None:
    """Send commands, of which none may fail, some at a time."""
    made = iter(made)
    while part := list(islice(made, 100)):
        server.send(b"".join(encode(*request) for request in part))
        for request in part:
            reply = server.read_reply()
            assert not reply.startswith(b"-"), (request[:3], reply)


def content(server: Raw, key: bytes) -> Any:
    """Return all that a client can see of a value, in an order that does not depend on how it is kept."""
    kind = parse(server.ask("TYPE", key))
    if kind == b"string":
        return parse(server.ask("GET", key))
    if kind == b"list":
        return parse(server.ask("LRANGE", key, 0, -1))
    if kind == b"set":
        return sorted(parse(server.ask("SMEMBERS", key)))
    if kind == b"zset":
        words = parse(server.ask("ZRANGE", key, 0, -1, "WITHSCORES"))  # Redis 7.0 and 7.2 print scores in other ways
        return list(zip(words[::2], map(float, words[1::2]), strict=True))
    if kind == b"hash":
        words = parse(server.ask("HGETALL", key))
        return sorted(zip(words[::2], words[1::2], strict=True))
    if kind == b"stream":
        return parse(server.ask("XRANGE", key, "-", "+")), _lasting(
            parse(server.ask("XINFO", "STREAM", key, "FULL", "COUNT", 0))
        )
    return kind


def _lasting(info: Any) -> Any:
    """Return what XINFO says without what a copy need not have: times of consumers, and the shape of the tree."""
    if not isinstance(info, list):
        return info
    if info and isinstance(info[0], bytes) and len(info) % 2 == 0 and info[0].islower():
        pairs = zip(info[::2], info[1::2], strict=True)
        return [(name, _lasting(value)) for name, value in pairs if name not in UNSET]
    return [_lasting(each) for each in info]
