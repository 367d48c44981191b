"""INFO keysizes: how many keys of each type have a length between two powers of two.

    db0_distrib_lists_items:1=2,4=7,2K=1     two lists of one element, seven of 4 to 7, one of 2048 to 4095

1. The length is that of a string in bytes, and the number of elements of a list, set, sorted set or hash. Streams are
   not counted, as in Redis.
2. All keys are read for it, in slices. Refused: counters that each change keeps up to date, as Redis has them. They
   would cost each write, for a section that few ask for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator

from commands.memory_report import Field
from store import Keyspace, Store
from values import type_of

NAMES = {  # TYPE -> what the field is called, in Redis's order
    b"string": "strings_sizes",
    b"list": "lists_items",
    b"set": "sets_items",
    b"zset": "zsets_items",
    b"hash": "hashes_items",
}
UNITS = " KMGTPE"

Levels = Counter[int]  # number of bits of a length -> keys


def keysizes(store: Store) -> Generator[None, None, list[Field]]:
    """Return the fields of all databases, in slices. O(keys)."""
    fields: list[Field] = []
    for db in store.databases:
        levels: defaultdict[bytes, Levels] = defaultdict(Counter)
        yield from _count(db, levels)
        for kind, name in NAMES.items():
            if kind in levels:
                counted = ",".join(f"{_label(bits)}={keys}" for bits, keys in sorted(levels[kind].items()))
                fields.append((f"db{db.index}_distrib_{name}", counted))
    return fields


def _count(db: Keyspace, levels: defaultdict[bytes, Levels]) -> Generator[None, None, None]:
    for keys in db.walk():
        for key in keys:
            value = db.peek(key)
            levels[type_of(value).name][len(value).bit_length()] += 1
        yield


def _label(bits: int) -> str:
    """Return the least length of so many bits, as Redis writes it, such as 512 or 1K."""
    if not bits:
        return "0"
    thousands, rest = divmod(bits - 1, 10)
    return f"{1 << rest}{UNITS[thousands].strip()}"
