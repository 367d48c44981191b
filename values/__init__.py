"""The types of values: a row for each type (`row.py`), and the table that finds the row of a value.

1. TYPE, OBJECT, SCAN TYPE, COPY, DUMP, MEMORY USAGE, the account of memory, the log's rewrite and the snapshots of a
   pool use nothing of a type but its row.
2. Nothing here knows sessions, the keyspace, requests or files.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Any

from values.entry import Entry
from values.hashes import HASH
from values.lists import LIST
from values.long_string import LONG_STRING, LongString
from values.row import Commands, ValueType, made_anew
from values.sets import SET_TYPE
from values.sorted_sets import SORTED_SET
from values.stream_type import STREAM
from values.strings import STRING

__all__ = [
    "LIST",
    "SORTED_SET",
    "STRING",
    "TYPES",
    "Commands",
    "LongString",
    "ValueType",
    "is_large",
    "is_string",
    "made_anew",
    "rebuild",
    "size_of",
    "type_of",
]

TYPES: dict[type, ValueType] = {
    row.python_type: row for row in (STRING, LONG_STRING, HASH, SET_TYPE, LIST, SORTED_SET, STREAM)
}


def type_of(value: Any) -> ValueType:
    """Return the row of a value's type."""
    return TYPES[type(value)]


def is_string(value: Any) -> bool:
    """Return True if a value is a string, which may have two classes."""
    return type(value) is bytes or type(value) is LongString


def is_large(value: Any) -> bool:
    """Return True if to copy, write or free a value may take longer than a millisecond. O(1)."""
    return type(value) is not bytes and TYPES[type(value)].is_large(value)


def rebuild(key: bytes, value: Any, deadline_ms: int) -> Commands:
    """Return the commands that create a key with this value, or replace it; each has some dozen elements at most."""
    return TYPES[type(value)].rebuild(key, value, deadline_ms)


def size_of(entry: Entry) -> int:
    """Return the bytes of memory of an entry, its value included. O(1)."""
    if type(entry) is bytes:
        return getsizeof(entry)
    value = entry[0]
    return getsizeof(entry) + TYPES[type(value)].size_bytes(value)
