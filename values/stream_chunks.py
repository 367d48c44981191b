"""The sealed chunks of a stream, and IDs: entries as one `bytes`.

1. An ID is an int: milliseconds << 64 | sequence number. So IDs compare as Redis's do.
2. A chunk is the `marshal` bytes of what its entries do not have in common. It takes a quarter of the memory of the
   objects. A chunk whose entries are long stays a tuple, because packing would copy what it does not make smaller.
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, repeat
from sys import getsizeof
from typing import Any, Union

from replies import Block

Chunk = Union[bytes, "tuple[tuple[int, ...], tuple[tuple[bytes, ...], ...]]"]

PACKED_BYTES = 1024  # an entry; entries that are longer on average are not packed
ENTRY_BYTES = 128  # an open entry beside its fields: its ID, its tuple, its places in two lists
FIELD_BYTES = 41 + 7  # a word of a field beside its bytes: its object, rounded up by malloc, and its place in the tuple
SEQUENCE_BITS = 64
MOST_SEQUENCE = (1 << SEQUENCE_BITS) - 1
ID_TEXT = b"%d-%d"
MOST_ID = (1 << 2 * SEQUENCE_BITS) - 1


def format_id(entry_id: int) -> bytes:
    """Return the text of an ID."""
    return ID_TEXT % (entry_id >> SEQUENCE_BITS, entry_id & MOST_SEQUENCE)


def format_ids(times: Sequence[int], sequences: Sequence[int]) -> list[bytes]:
    """Return the texts of IDs whose two halves are given."""
    if sequences.count(sequences[0]) == len(sequences):  # most often, and it takes half the time
        return (f"%d-{sequences[0]} " * len(times) % tuple(times)).encode().split()
    return list(map(ID_TEXT.__mod__, zip(times, sequences)))  # noqa: B905


def open_bytes_of(fields: tuple[bytes, ...]) -> int:
    """Return the bytes of memory of an entry that is not packed."""
    return ENTRY_BYTES + FIELD_BYTES * len(fields) + sum(map(len, fields))


def bytes_of(chunk: Chunk) -> int:
    """Return the bytes of memory of a sealed chunk."""
    if isinstance(chunk, bytes):
        return getsizeof(chunk)
    return sum(map(open_bytes_of, chunk[1]))


def pack(ids: Sequence[int], rows: Sequence[tuple[bytes, ...]], open_bytes: int) -> Chunk:
    """Seal a chunk: as `bytes`, or as a tuple if its entries are long.

    Times are stored as differences, and integers in the least number of bytes. Names that all entries have in common
    are stored once, and values by column.
    """
    if open_bytes > PACKED_BYTES * len(rows):
        return tuple(ids), tuple(rows)
    times = [entry_id >> SEQUENCE_BITS for entry_id in ids]
    steps = [after - before for before, after in zip(times, times[1:])]  # noqa: B905, RUF007 - the second is shorter
    sequences = [entry_id & MOST_SEQUENCE for entry_id in ids]
    head = (times[0], *_shrunk([0, *steps]), *_shrunk(sequences))
    if len(set(map(len, rows))) == 1:
        columns = list(zip(*rows, strict=True))
        if all(column.count(column[0]) == len(column) for column in columns[::2]):
            names = tuple([column[0] for column in columns[::2]])
            return marshal.dumps((*head, names, tuple(columns[1::2])), 2)
    return marshal.dumps((*head, None, tuple(rows)), 2)


def _shrunk(numbers: list[int]) -> tuple[str, bytes]:
    """Return the type code and the bytes of an array of unsigned integers."""
    most = max(numbers)
    code = "B" if most < 1 << 8 else "H" if most < 1 << 16 else "I" if most < 1 << 32 else "Q"
    return code, array(code, numbers).tobytes()


def unpack(chunk: bytes) -> tuple[list[int], Sequence[tuple[bytes, ...]]]:
    """Return the IDs and the fields of the entries of a packed chunk."""
    times, sequences, names, columns = _loaded(chunk)
    rows = columns if names is None else zip(*chain.from_iterable(zip(map(repeat, names), columns)))  # noqa: B905
    return [time_ms << SEQUENCE_BITS | each for time_ms, each in zip(times, sequences)], list(rows)  # noqa: B905


def block_of(chunk: bytes, count: int, is_reverse: bool) -> Block:
    """Return the first `count` entries of a packed chunk, from its end if `is_reverse`."""
    times, sequences, names, columns = _loaded(chunk)
    part = slice(None, -count - 1, -1) if is_reverse else slice(count)
    ids = format_ids(times[part], sequences[part])
    return Block(ids, names, columns[part] if names is None else [column[part] for column in columns])


def _loaded(chunk: bytes) -> tuple[list[int], Sequence[int], tuple[bytes, ...] | None, Any]:
    """Return the two halves of the IDs of a packed chunk; its names and columns, or None and the fields."""
    first_ms, step_code, steps, sequence_code, sequences, names, columns = marshal.loads(chunk)
    times = list(accumulate(array(step_code, steps), initial=first_ms))
    return times[1:], array(sequence_code, sequences), names, columns  # the first step is 0
