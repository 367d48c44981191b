"""Values as Redis 7.0 reads them, written from the commands that make them.

1. `serialize` takes the commands of a value's row (`rebuild`), and returns the RDB type and the value. So a new type
   needs nothing here, as long as it is made by commands that are known here.
2. It writes the plain forms. When Redis loads one, it chooses the form that it keeps in memory. Streams have one form.
3. Hashes whose fields have deadlines need Redis 7.4, and get its version.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from struct import pack

from rdb.objects import HASH, HASH_METADATA, LIST, SET, STRING, ZSET_2
from rdb.payload import NEWEST_VERSION, VERSION
from rdb.primitives import length, string
from rdb.stream_writer import STREAM, StreamWriter

Commands = Iterable[Sequence[bytes]]
# the command that adds elements -> the type, the words of an element
KINDS = {b"RPUSH": (LIST, 1), b"SADD": (SET, 1), b"HSET": (HASH, 2), b"ZADD": (ZSET_2, 2)}
IGNORED = (b"DEL", b"PEXPIREAT")
STREAM_COMMANDS = (b"XADD", b"XSETID", b"XGROUP", b"XCLAIM", b"XDEL", b"XTRIM")


class Serialized:
    """A value in Redis's form: its type and value in pieces, and the version that knows the type."""

    def __init__(self, kind: int, pieces: list[bytes], version: int = VERSION) -> None:
        self.pieces = [bytes((kind,)), *pieces]
        self.version = version


def serialize(commands: Commands, now_ms: int) -> Generator[None, None, Serialized]:
    """Return the value that these commands make, after a step for each command.

    `now_ms` is when the consumers of a stream were last seen, because no command says it.
    """
    count, kind, end = 0, STRING, 0
    pieces: list[bytes] = []
    texts: list[bytes] = []
    deadlines: dict[bytes, int] = {}
    stream: StreamWriter | None = None
    for name, key, *words in commands:
        if name in KINDS:
            kind, step = KINDS[name]
            count += len(words) // step
            pieces += map(string, words) if kind != ZSET_2 else _scored(words)
        elif name in STREAM_COMMANDS:
            stream = stream or StreamWriter(now_ms)
            stream.apply([name, key, *words])
        elif name == b"SET":
            texts = words[:1]
        elif name == b"APPEND":
            texts += words
        elif name == b"SETRANGE":  # of a long string, from its start on
            start, part = int(words[0]), words[1]
            texts += [bytes(start - end), part]
            end = start + len(part)
        elif name == b"HPEXPIREAT":
            deadlines.update(dict.fromkeys(words[3:], int(words[0])))
        elif name not in IGNORED:
            raise ValueError(f"no form of a value is made by {name!r}")
        yield
    if stream is not None:
        return Serialized(STREAM, (yield from stream.pieces()))
    if deadlines:
        return Serialized(HASH_METADATA, _with_deadlines(pieces, deadlines), NEWEST_VERSION)
    if kind == STRING:
        return Serialized(STRING, [string(b"".join(texts))])
    return Serialized(kind, [length(count), *pieces])


def _scored(words: list[bytes]) -> list[bytes]:
    """Return members with their scores, from scores and their members."""
    scores, members = words[::2], words[1::2]
    return [string(member) + pack("<d", float(score)) for score, member in zip(scores, members, strict=True)]


def _with_deadlines(pieces: list[bytes], deadlines: dict[bytes, int]) -> list[bytes]:
    """Return the fields and values of a hash, a deadline before each: 0, or 1 more than its distance to the first."""
    first_ms = min(deadlines.values())
    places = {string(field): length(deadline_ms - first_ms + 1) for field, deadline_ms in deadlines.items()}
    written = [first_ms.to_bytes(8, "little"), length(len(pieces) // 2)]
    for field, value in zip(pieces[::2], pieces[1::2], strict=True):
        written += (places.get(field, b"\0"), field, value)
    return written
