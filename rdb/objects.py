"""Values: the serialized form of each type and encoding, read as the commands that make the value.

1. `commands` yields commands of some dozen elements, and None after each step of work that yields no command. So a
   value of any size can be read in slices.
2. It yields the commands before it has read the whole value. Who needs all or nothing collects them first.
3. It checks what the commands would refuse: a score that is no number, a field without a value, a stream whose entries
   are not in order. So none of the commands can fail.
4. Whatever the value knows that no command sets is lost: the time at which a consumer was last seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from math import isnan
from struct import unpack
from typing import Union

from rdb import streams
from rdb.packed import intset, listpack, ziplist, zipmap
from rdb.source import BadFormat, Source

Command = list[bytes]
Steps = Iterator[Union[Command, None]]
Words = Iterator[Union[bytes, None]]  # None after a step of work without a word

STRING, LIST, SET, ZSET, HASH, ZSET_2 = 0, 1, 2, 3, 4, 5
MODULE, MODULE_2 = 6, 7
HASH_METADATA = 24
PART_WORDS = 64  # of a command
PART_BYTES = 1 << 16
PACKED, PLAIN = 2, 1  # the forms of a node of a quicklist
LATEST_FIELD_MS = 2**46 - 1  # of the deadline of a field, as in Redis
SCORE = re.compile(rb"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?|inf(?:inity)?)", re.IGNORECASE)
LONGEST_SCORE = 330
MODULE_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class EmptyValue(BadFormat):
    """The value has no elements, so there is no key. A few versions of Redis have written such values."""


class ModuleValue(BadFormat):
    """The value belongs to a module, whose format only the module knows."""


def commands(kind: int, source: Source, key: bytes) -> Steps:
    """Yield the commands that make a value of an RDB type under a key that does not exist."""
    read = READERS.get(kind)
    if read is not None:
        return read(source, key)
    if kind in (MODULE, MODULE_2):
        raise ModuleValue(f"a value of the module {module_name(source.length())}, which Godis does not have")
    raise BadFormat(f"there is no type of values with the number {kind}")


def is_value(kind: int) -> bool:
    """Return True if a byte of a file is the type of a value."""
    return kind in READERS or kind in (MODULE, MODULE_2)


def module_name(number: int) -> str:
    """Return the name of the module whose identity is this number: nine characters of six bits, then its version."""
    return "".join(MODULE_NAME[number >> shift & 63] for shift in range(58, 9, -6))


# ---- words to commands


def _in_parts(name: bytes, key: bytes, words: Iterable[bytes | None], step: int = 1) -> Steps:
    """Yield commands of some dozen words each; a command has a multiple of `step` words."""
    part, size, is_empty = [name, key], 0, True
    for word in words:
        if word is None:
            yield None
            continue
        part.append(word)
        size += len(word)
        if (len(part) >= PART_WORDS or size >= PART_BYTES) and not len(part) % step:
            yield part
            part, size, is_empty = [name, key], 0, False
    if (len(part) - 2) % step:
        raise BadFormat("an element has no value")
    if len(part) > 2:
        yield part
    elif is_empty:
        raise EmptyValue("the value is empty")


def _long_string(source: Source) -> Generator[None, None, bytes]:
    """Read a string of any length, in steps."""
    string = source.string()
    return (yield from source.expand()) if string is None else string


def _strings(source: Source, count: int) -> Words:
    """Read so many strings."""
    for _ in range(count):
        string = source.string()
        if string is None:
            string = yield from source.expand()
        yield string


def _packed(source: Source, elements: Callable[[bytes], Iterator[bytes]]) -> Words:
    """Read a string that is a packed collection, and yield its elements."""
    yield from elements((yield from _long_string(source)))


# ---- types


def _read_string(source: Source, key: bytes) -> Steps:
    yield [b"SET", key, (yield from _long_string(source))]


def _read_plain(name: bytes, step: int = 1) -> Callable[[Source, bytes], Steps]:
    def read(source: Source, key: bytes) -> Steps:
        return _in_parts(name, key, _strings(source, step * source.length()), step)

    return read


def _read_packed(
    name: bytes, elements: Callable[[bytes], Iterator[bytes]], step: int = 1
) -> Callable[[Source, bytes], Steps]:
    def read(source: Source, key: bytes) -> Steps:
        return _in_parts(name, key, _packed(source, elements), step)

    return read


def _read_quicklist(source: Source, key: bytes) -> Steps:
    return _in_parts(b"RPUSH", key, _nodes(source, ziplist, has_form=False))


def _read_quicklist_2(source: Source, key: bytes) -> Steps:
    return _in_parts(b"RPUSH", key, _nodes(source, listpack, has_form=True))


def _nodes(source: Source, elements: Callable[[bytes], Iterator[bytes]], *, has_form: bool) -> Words:
    for _ in range(source.length()):
        form = source.length() if has_form else PACKED
        if form == PACKED:
            yield from _packed(source, elements)
        elif form == PLAIN:
            yield (yield from _long_string(source))
        else:
            raise BadFormat(f"a list has no nodes of form {form}")


# ---- sorted sets


def _read_zset(source: Source, key: bytes) -> Steps:
    return _in_parts(b"ZADD", key, _scored(source, _text_score), 2)


def _read_zset_2(source: Source, key: bytes) -> Steps:
    return _in_parts(b"ZADD", key, _scored(source, _binary_score), 2)


def _scored(source: Source, read_score: Callable[[Source], bytes]) -> Words:
    for _ in range(source.length()):
        member = yield from _long_string(source)
        yield read_score(source)
        yield member


def _read_packed_zset(elements: Callable[[bytes], Iterator[bytes]]) -> Callable[[Source, bytes], Steps]:
    def read(source: Source, key: bytes) -> Steps:
        return _in_parts(b"ZADD", key, _score_first(_packed(source, elements)), 2)

    return read


def _score_first(words: Words) -> Words:
    """Yield a score and its member for each member and its score."""
    member = None
    for word in words:
        if word is None:
            yield None
        elif member is None:
            member = word
        else:
            yield _score(word)
            yield member
            member = None
    if member is not None:
        raise BadFormat("a member has no score")


def _text_score(source: Source) -> bytes:
    """Read a score as Redis up to 3 writes it."""
    size = source.byte()
    if size == 253:
        raise BadFormat("a score is not a number")
    return b"inf" if size == 254 else b"-inf" if size == 255 else _score(source.take(size))


def _binary_score(source: Source) -> bytes:
    (score,) = unpack("<d", source.take(8))
    return _show_score(score)


def _score(text: bytes) -> bytes:
    if len(text) > LONGEST_SCORE or SCORE.fullmatch(text) is None:
        raise BadFormat("a score is not a number")
    return _show_score(float(text))


def _show_score(score: float) -> bytes:
    """Return a score as text that has the same value."""
    if isnan(score):
        raise BadFormat("a score is not a number")
    return b"%d" % score if score.is_integer() and abs(score) < 1e15 and str(score) != "-0.0" else repr(score).encode()


# ---- hashes whose fields have deadlines (Redis 7.4)


def _read_hash_metadata(source: Source, key: bytes) -> Steps:
    least_ms = source.milliseconds()

    def fields() -> Iterator[tuple[bytes, bytes, int] | None]:
        for _ in range(source.length()):
            offset = source.length()
            field = yield from _long_string(source)
            value = yield from _long_string(source)
            yield field, value, least_ms + offset - 1 if offset else 0

    return _with_deadlines(key, fields())


def _read_hash_listpack_ex(source: Source, key: bytes) -> Steps:
    source.milliseconds()  # of the field that expires first

    def fields() -> Iterator[tuple[bytes, bytes, int] | None]:
        words: list[bytes] = []
        for word in _packed(source, listpack):
            if word is None:
                yield None
                continue
            words.append(word)
            if len(words) == 3:
                if not words[2].isdigit() or len(words[2]) > 20:
                    raise BadFormat("the deadline of a field is not a number")
                yield words[0], words[1], int(words[2])
                words = []
        if words:
            raise BadFormat("a field has no deadline")

    return _with_deadlines(key, fields())


def _with_deadlines(key: bytes, fields: Iterator[tuple[bytes, bytes, int] | None]) -> Steps:
    ending: list[tuple[int, bytes]] = []

    def words() -> Words:
        for item in fields:
            if item is None:
                yield None
                continue
            field, value, deadline_ms = item
            if not 0 <= deadline_ms <= LATEST_FIELD_MS:
                raise BadFormat("the deadline of a field is out of range")
            if deadline_ms:
                ending.append((deadline_ms, field))
            yield field
            yield value

    yield from _in_parts(b"HSET", key, words(), 2)
    for deadline_ms, field in ending:
        yield [b"HPEXPIREAT", key, b"%d" % deadline_ms, b"FIELDS", b"1", field]


def _read_stream(version: int) -> Callable[[Source, bytes], Steps]:
    def read(source: Source, key: bytes) -> Steps:
        return streams.commands(source, key, version)

    return read


READERS: dict[int, Callable[[Source, bytes], Steps]] = {
    STRING: _read_string,
    LIST: _read_plain(b"RPUSH"),
    SET: _read_plain(b"SADD"),
    ZSET: _read_zset,
    HASH: _read_plain(b"HSET", 2),
    ZSET_2: _read_zset_2,
    9: _read_packed(b"HSET", zipmap, 2),
    10: _read_packed(b"RPUSH", ziplist),
    11: _read_packed(b"SADD", intset),
    12: _read_packed_zset(ziplist),
    13: _read_packed(b"HSET", ziplist, 2),
    14: _read_quicklist,
    15: _read_stream(1),
    16: _read_packed(b"HSET", listpack, 2),
    17: _read_packed_zset(listpack),
    18: _read_quicklist_2,
    19: _read_stream(2),
    20: _read_packed(b"SADD", listpack),
    21: _read_stream(3),
    HASH_METADATA: _read_hash_metadata,
    25: _read_hash_listpack_ex,
}


def collect(steps: Iterable[Sequence[bytes] | None]) -> list[Sequence[bytes]]:
    """Return all commands at once."""
    return [command for command in steps if command is not None]
