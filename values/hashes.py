"""The type of hashes: fields and their values in a table.

1. A field is a key of the table (`values/table.py`): to get, set, remove, and choose one at random takes O(1).
2. The order of the fields depends only on what was set and removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from values.row import Commands, ValueType, made_anew
from values.table import Table

PART_FIELDS = 128  # of a step of long work
REBUILT_FIELDS = 24  # of a command that rebuilds a hash
LARGE_FIELDS = 1000
LARGE_BYTES = 1 << 16
LISTPACK_FIELDS, LISTPACK_BYTES = 128, 64  # a hash with more fields, or longer ones, is a hashtable in Redis

Item = tuple[bytes, bytes]  # a field and its value


class Hash(Table):
    """The fields of a hash."""

    __slots__ = ()

    def parts(self, size: int = PART_FIELDS) -> Iterator[list[Item]]:
        """Yield all fields with their values, `size` at a time. The hash must not change meanwhile."""
        items = self.items()
        while part := list(islice(items, size)):
            yield part


def encoding(fields: Hash) -> bytes:
    """Return the encoding that Redis uses for a hash of these fields that was just made."""
    is_short = len(fields) <= LISTPACK_FIELDS and all(
        len(word) <= LISTPACK_BYTES for item in fields.items() for word in item
    )
    return b"listpack" if is_short else b"hashtable"


def rebuild(key: bytes, fields: Hash, deadline_ms: int) -> Commands:
    """Return the commands that make a hash."""
    parts = ((b"HSET", key, *chain.from_iterable(part)) for part in fields.parts(REBUILT_FIELDS))
    return made_anew(key, parts, deadline_ms)


HASH = ValueType(
    name=b"hash",
    python_type=Hash,
    encoding=encoding,
    rebuild=rebuild,
    copy=Hash.copy,
    size_bytes=Hash.size_bytes,
    is_large=lambda fields: len(fields) > LARGE_FIELDS or fields.size_bytes() > LARGE_BYTES,
)
