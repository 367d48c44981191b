"""Replies of commands as values of Lua, and what a script returns as a reply.

1. A reply becomes a value that lupa passes on by itself (bytes, an integer, a boolean, None), or a tuple: Lua then has
   two values, the text of a status or an error, and which of them it is. A short list is a table.
2. Every other reply is encoded as RESP, and read from there, as Redis itself does it: one mechanism for all kinds of
   replies, in both protocols. Tables are made by `lua.table_from`.
3. A script's result is flat, in preorder, because a table of Lua is slow to read from Python: see `put` in sandbox.lua.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from errors import CommandError
from protocol import encode
from replies import OK, AnyMap, BigNumber, Deleted, Members, Reply, Status, Strings, Verbatim
from wire.text import ONE_LINE

Tables = Callable[[Any], Any]  # makes a table of Lua of a list or a dict
SHORT_BYTES = 1 << 16  # so much there is always room for: see runtime.py
MEMBER_BYTES = 150  # of a member in a table of Lua, besides its text
SHORT_LIST = 200
SIMPLE = frozenset((bytes, int))
LEAST, MOST = -(1 << 63), (1 << 63) - 1


class TooLarge(Exception):
    """A reply does not fit into the memory of scripts."""


def to_lua(reply: Reply, resp3: bool, table_from: Tables, free_bytes: Callable[[], int]) -> Any:
    """Return a reply as lupa is to pass it on. Raises TooLarge."""
    kind = type(reply)
    if kind is int:
        return reply
    if kind is bytes:
        if len(reply) > SHORT_BYTES and len(reply) > free_bytes():  # type: ignore[arg-type]
            raise TooLarge
        return reply
    if reply is None:
        return None if resp3 else False
    if kind is Deleted:
        return int(reply)  # type: ignore[arg-type]
    if reply is OK:
        return b"OK", b"ok"
    if isinstance(reply, CommandError):
        return reply.text.translate(ONE_LINE), b"err"
    if _is_short(reply):
        return table_from(reply)
    pieces: list[Any] = []
    encode(reply, pieces.append, resp3)
    data = b"".join(pieces)
    if len(data) > SHORT_BYTES and len(data) + MEMBER_BYTES * data.count(b"\r\n") > free_bytes():
        raise TooLarge
    return _Parser(data, table_from).value(is_outer=True)


def _is_short(reply: Any) -> bool:
    """Return True if a reply is a list of few strings and integers."""
    return (
        type(reply) in (list, Strings)
        and len(reply) <= SHORT_LIST
        and set(map(type, reply)) <= SIMPLE
        and sum([len(each) for each in reply if type(each) is bytes]) <= SHORT_BYTES
    )


class _Parser:
    """Reads one encoded reply as Redis does for a script."""

    def __init__(self, data: bytes, table_from: Tables) -> None:
        self.data = data
        self.place = 0
        self.table_from = table_from

    def _line(self) -> bytes:
        end = self.data.index(b"\r\n", self.place)
        line = self.data[self.place : end]
        self.place = end + 2
        return line

    def _bulk(self, size: int) -> bytes:
        text = self.data[self.place : self.place + size]
        self.place += size + 2
        return text

    def value(self, is_outer: bool = False) -> Any:
        """Return the next value. An outermost status or error is a tuple, as in `to_lua`."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return False if rest == b"-1" else self._bulk(int(rest))
        if kind == b":":
            return int(rest)
        if kind in b"*~%":
            return False if rest == b"-1" else self._aggregate(kind, int(rest))
        if kind in b"+-":
            if is_outer:
                return rest, b"ok" if kind == b"+" else b"err"
            return self.table_from({b"ok" if kind == b"+" else b"err": rest})
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return self.table_from({b"double": float(rest)})
        if kind == b"(":
            return self.table_from({b"big_number": rest})
        assert kind == b"="
        text = self._bulk(int(rest))
        return self.table_from({b"verbatim_string": self.table_from({b"string": text[4:], b"format": text[:3]})})

    def _aggregate(self, kind: bytes, count: int) -> Any:
        if kind == b"*":
            members = [self.value() for _ in range(count)]
            if None in members:
                return self.table_from(dict(enumerate(members, 1)))
            return self.table_from(members)
        if kind == b"~":
            return self.table_from({b"set": self.table_from({self.value(): True for _ in range(count)})})
        pairs = {}
        for _ in range(count):
            name = self.value()
            pairs[name] = self.value()
        return self.table_from({b"map": self.table_from(pairs)})


def from_lua(values: Sequence[Any], resp3: bool) -> Reply:
    """Return the reply that a script's flat result stands for. In RESP2 true is 1, and false is null."""
    reply: Reply = _Result(iter(values), resp3).next()
    return reply


def integer(number: float) -> int:
    """Return a number of Lua as Redis replies it: without its fraction, and the least integer if it is out of range."""
    return int(number) if LEAST <= number <= MOST else LEAST


class _Result:
    def __init__(self, values: Iterator[Any], resp3: bool) -> None:
        self.values = values
        self.resp3 = resp3

    def next(self) -> Any:
        """Return the next value, with all that it holds."""
        value = next(self.values)
        if type(value) is bytes:
            return value
        if type(value) is bool:
            return boolean(value, self.resp3)
        parameter = next(self.values)
        return self._of_kind(value, parameter)

    def _members(self, count: int) -> list[Any]:
        return [self.next() for _ in range(count)]

    def _of_kind(self, kind: int, parameter: Any) -> Any:
        if kind == 0:
            return integer(parameter)
        if kind == 1:
            return self._members(parameter)
        if kind == 2:
            return Status(parameter.translate(ONE_LINE))
        if kind == 3:
            return CommandError(parameter)
        if kind == 4:
            return float(parameter)
        if kind == 5:
            return AnyMap(self._members(parameter))
        if kind == 6:
            return Members(self._members(parameter))
        if kind == 7:
            return BigNumber(parameter.translate(ONE_LINE))
        if kind == 8:
            text = Verbatim(next(self.values))
            text.form = parameter[:3].ljust(3)
            return text
        return None


def boolean(value: bool, resp3: bool) -> Reply:
    """Return a boolean of Lua as a reply."""
    return value if resp3 else 1 if value else None
