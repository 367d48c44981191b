"""The row of a type: the functions of a value through which the rest of the program uses it.

1. The Python class of a value identifies its type, so each type has a class of its own. Strings have two, and two rows
   of one name: see `long_string.py`.
2. A value changes in place only between `Keyspace.change` (or `create`) and `Keyspace.done`. `bytes` never change.
3. `size_bytes` and `is_large` are O(1), because both are called at each change.
4. `copy` is called within a request, in one step. It takes less than 20 ms for a million elements; see "Large values"
   in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from values.entry import NO_DEADLINE

Commands = Iterable[Sequence[bytes]]


class ValueType(NamedTuple):
    """The row of a type.

    `python_type()` makes an empty value. A value has a length. So that a large one can be freed in slices, it has a
    `free_some()` that removes some hundred elements, or a `pop()` (a dict: `popitem`) that
    removes one. `bytes` have neither, because none is large.
    """

    name: bytes  # the reply of TYPE
    python_type: type
    encoding: Callable[[Any], bytes]  # the reply of OBJECT ENCODING
    # key, value, deadline -> the commands that create the key or replace it: see `made_anew`
    rebuild: Callable[[bytes, Any, int], Commands]
    copy: Callable[[Any], Any]  # an independent copy
    size_bytes: Callable[[Any], int]  # the memory of the value, its elements included
    is_large: Callable[[Any], bool]  # to copy, write or free it may take longer than a millisecond
    may_be_empty: bool = False  # if not, a key is deleted when its value becomes empty


def made_anew(key: bytes, commands: Commands, deadline_ms: int) -> Iterator[Sequence[bytes]]:
    """Yield a DEL of the key, the commands that create its value, and a PEXPIREAT if it has a deadline."""
    yield (b"DEL", key)
    yield from commands
    if deadline_ms != NO_DEADLINE:
        yield (b"PEXPIREAT", key, b"%d" % deadline_ms)
