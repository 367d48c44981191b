"""Streams in the form of Redis 7.0, written from the commands that make them (`rdb/streams.py` reads it).

A node holds up to 100 entries or 4 kB. Its first elements are the fields of its first entry; an entry that has the same
fields holds its values only. Deleted entries are left out.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from itertools import takewhile

from rdb.primitives import backward_bytes, length, string
from rdb.streams import ID, MOST, NO_ID, SAME_FIELDS, UNKNOWN_READ, Group, Pending

STREAM = 19
NODE_ENTRIES = 100
NODE_BYTES = 4096
HEAD_BYTES = 6
UNKNOWN_COUNT = 0xFFFF
IS_ID = re.compile(rb"[0-9]+(?:-[0-9]+)?").fullmatch
NARROW_WIDTHS = ((0xF1, 2), (0xF2, 3), (0xF3, 4), (0xF4, 8))


def parse_id(text: bytes) -> ID:
    """Return the ID that a whole text names."""
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number or 0)


def integer(number: int) -> bytes:
    """Return an element of a listpack that is an integer of 64 bits."""
    if 0 <= number < 128:
        return bytes((number, 1))
    if -(1 << 12) <= number < 1 << 12:
        return _with_length((0xC000 | number & 0x1FFF).to_bytes(2, "big"))
    for head, width in NARROW_WIDTHS:
        if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
            return _with_length(bytes((head,)) + number.to_bytes(width, "little", signed=True))
    return element(b"%d" % number)


def element(value: bytes) -> bytes:
    """Return an element of a listpack that is a string."""
    size = len(value)
    if size < 1 << 6:
        return _with_length(bytes((0x80 | size,)) + value)
    if size < 1 << 12:
        return _with_length((0xE000 | size).to_bytes(2, "big") + value)
    return _with_length(b"\xf0" + size.to_bytes(4, "little") + value)


def _with_length(data: bytes) -> bytes:
    """Add the size of an element behind it: 7 bits a byte, the highest first, and a mark on all but that one."""
    size = len(data)
    if size < 128:
        return data + bytes((size,))
    shifts = range(7 * (backward_bytes(size) - 1), -7, -7)
    return data + bytes([size >> shift & 127 | (128 if place else 0) for place, shift in enumerate(shifts)])


class StreamWriter:
    """A stream in the making."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._entries: dict[ID, list[bytes]] = {}
        self._groups: dict[bytes, Group] = {}
        self._last_id = self._deleted_id = NO_ID
        self._entries_added = 0

    def apply(self, argv: Sequence[bytes]) -> None:
        """Run a command."""
        match argv:
            case [b"XADD", _, b"MAXLEN", b"0", entry_id, *_]:
                self._last_id = parse_id(entry_id)
                self._entries_added += 1
            case [b"XADD", _, entry_id, *words]:
                self._last_id = parse_id(entry_id)
                self._entries[self._last_id] = words
                self._entries_added += 1
            case [b"XDEL", _, *ids]:
                deleted = list(map(parse_id, ids))
                for each in deleted:
                    self._entries.pop(each, None)
                self._deleted_id = max(self._deleted_id, *deleted)
            case [b"XTRIM", _, b"MAXLEN", b"0"]:
                self._entries.clear()
            case [b"XSETID", _, last_id]:
                self._last_id = parse_id(last_id)
            case [b"XSETID", _, last_id, b"ENTRIESADDED", added, b"MAXDELETEDID", deleted_id]:
                self._last_id, self._deleted_id = parse_id(last_id), parse_id(deleted_id)
                self._entries_added = int(added)
            case [b"XGROUP", b"CREATE", _, name, last_id, *options]:
                entries_read = int(options[-1]) if b"ENTRIESREAD" in options else UNKNOWN_READ
                self._groups[name] = Group(name, parse_id(last_id), entries_read, [], {})
            case [b"XGROUP", b"SETID", _, name, last_id, b"ENTRIESREAD", read]:
                self._groups[name] = self._groups[name]._replace(last_id=parse_id(last_id), entries_read=int(read))
            case [b"XGROUP", b"CREATECONSUMER", _, name, consumer]:
                self._groups[name].consumers.append(consumer)
            case [b"XCLAIM", _, name, consumer, _, *words]:
                self._claim(self._groups[name], consumer, words)
            case _:
                raise ValueError(f"no stream is made by {argv[:2]!r}")

    @staticmethod
    def _claim(group: Group, consumer: bytes, words: list[bytes]) -> None:
        ids = list(takewhile(IS_ID, words))
        options = words[len(ids) :]
        time_ms = int(options[options.index(b"TIME") + 1])
        count = int(options[options.index(b"RETRYCOUNT") + 1])
        if consumer not in group.consumers:
            group.consumers.append(consumer)
        group.pending.update(dict.fromkeys(map(parse_id, ids), Pending(consumer, time_ms, count)))

    def pieces(self) -> Generator[None, None, list[bytes]]:
        """Return the stream, after some steps."""
        nodes = yield from self._nodes()
        first_id = next(iter(self._entries), NO_ID)
        pieces = [length(len(nodes) // 2), *nodes, length(len(self._entries))]
        pieces += map(_id, (self._last_id, first_id, self._deleted_id))
        pieces += (length(self._entries_added), length(len(self._groups)))
        for group in self._groups.values():
            pieces += (string(group.name), _id(group.last_id), length(group.entries_read & MOST))
            yield from self._pending(group, pieces)
        return pieces

    def _pending(self, group: Group, pieces: list[bytes]) -> Generator[None, None, None]:
        """Add the pending entries of a group and its consumers, in steps."""
        of_consumer: dict[bytes, list[ID]] = {consumer: [] for consumer in group.consumers}
        pieces.append(length(len(group.pending)))
        for entry_id, pending in sorted(group.pending.items()):
            of_consumer[pending.consumer].append(entry_id)
            pieces += (_raw_id(entry_id), pending.time_ms.to_bytes(8, "little"), length(pending.deliveries))
            yield
        pieces.append(length(len(of_consumer)))
        for consumer, ids in of_consumer.items():
            seen = self._now_ms.to_bytes(8, "little")
            pieces += (string(consumer), seen, length(len(ids)), *map(_raw_id, ids))
            yield

    def _nodes(self) -> Generator[None, None, list[bytes]]:
        """Return the ID and the listpack of each node, by turns, as strings."""
        nodes: list[bytes] = []
        listpack: Listpack | None = None
        for entry_id, words in self._entries.items():
            if listpack is None or listpack.is_full:
                if listpack is not None:
                    nodes += listpack.strings()
                listpack = Listpack(entry_id, words[::2])
            listpack.add(entry_id, words)
            yield
        if listpack is not None:
            nodes += listpack.strings()
        return nodes


class Listpack:
    """A node in the making: the elements of its entries. `fields` are those of the first one."""

    def __init__(self, master_id: ID, fields: list[bytes]) -> None:
        self._master_id = master_id
        self._fields = fields
        self._pieces: list[bytes] = []
        self._elements = 0
        self._entries = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Return True if another entry belongs to the next node."""
        return self._entries >= NODE_ENTRIES or self._bytes >= NODE_BYTES

    def add(self, entry_id: ID, words: list[bytes]) -> None:
        """Add an entry."""
        has_same = words[::2] == self._fields
        before = [SAME_FIELDS if has_same else 0, *map(_difference, entry_id, self._master_id)]
        if not has_same:
            before.append(len(words) // 2)
        stored = words[1::2] if has_same else words
        pieces = [*map(integer, before), *map(element, stored), integer(len(before) + len(stored))]
        self._pieces += pieces
        self._elements += len(pieces)
        self._bytes += sum(map(len, pieces))
        self._entries += 1

    def strings(self) -> tuple[bytes, bytes]:
        """Return the ID of the node and the node, as strings."""
        master = [integer(self._entries), integer(0), integer(len(self._fields))]
        master += [*map(element, self._fields), integer(0)]
        body = b"".join([*master, *self._pieces])
        count = min(len(master) + self._elements, UNKNOWN_COUNT)
        head = (HEAD_BYTES + len(body) + 1).to_bytes(4, "little") + count.to_bytes(2, "little")
        return b"\x10" + _raw_id(self._master_id), length(len(head) + len(body) + 1) + head + body + b"\xff"


def _difference(number: int, origin: int) -> int:
    """Return a difference as a signed 64-bit integer, which may wrap."""
    difference = number - origin & MOST
    return difference - (1 << 64) if difference >> 63 else difference


def _id(entry_id: ID) -> bytes:
    return length(entry_id[0]) + length(entry_id[1])


def _raw_id(entry_id: ID) -> bytes:
    return entry_id[0].to_bytes(8, "big") + entry_id[1].to_bytes(8, "big")
