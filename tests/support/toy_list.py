"""A list of the simplest kind, to try what the program promises to a type of values: its class and its row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from sys import getsizeof

from values import Commands, ValueType, made_anew

PART = 48  # elements of a command that rebuilds a list
LARGE = 1000  # elements


class Items(deque[bytes]):
    """The elements, and what they take in memory."""

    __slots__ = ("elements_bytes",)

    def __init__(self, elements: Iterable[bytes] = ()) -> None:
        super().__init__(elements)
        self.elements_bytes = sum(map(getsizeof, self))

    def push_right(self, elements: Sequence[bytes]) -> None:
        """Add elements behind the last one."""
        self.extend(elements)
        self.elements_bytes += sum(map(getsizeof, elements))

    def push_left(self, elements: Sequence[bytes]) -> None:
        """Add elements before the first one, one after another."""
        self.extendleft(elements)
        self.elements_bytes += sum(map(getsizeof, elements))

    def pop_left(self) -> bytes:
        """Take the first element out."""
        element = self.popleft()
        self.elements_bytes -= getsizeof(element)
        return element


def copy(items: Items) -> Items:
    """Copy a list, at C's speed."""
    copied = Items()
    copied.extend(items)
    copied.elements_bytes = items.elements_bytes
    return copied


def rebuild(key: bytes, items: Items, deadline_ms: int) -> Commands:
    """Return the commands that make a list."""
    return made_anew(key, ((b"RPUSH", key, *part) for part in _parts(items)), deadline_ms)


def _parts(items: Items) -> Iterator[tuple[bytes, ...]]:
    rest = iter(items)
    while part := tuple(islice(rest, PART)):
        yield part


LIST = ValueType(
    name=b"list",
    python_type=Items,
    encoding=lambda _items: b"quicklist",
    rebuild=rebuild,
    copy=copy,
    size_bytes=lambda items: getsizeof(items) + items.elements_bytes,
    is_large=lambda items: len(items) > LARGE or items.elements_bytes > 1 << 16,
)
