"""What the rest of the program knows of a type of values: one row, made of functions of a value.

1. The Python class of a value says its type, so each type has a class that no other type has.
2. A value changes in place only between `Keyspace.change` (or `create`) and `Keyspace.done`. `bytes` never do.
3. `size_bytes` and `is_large` take the same time for any value: both are called at each change.
4. `copy` is called at once, in the middle of a request. It takes less than 20 ms for a million elements: see "Large
   values" in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from values.entry import NO_DEADLINE

Commands = Iterable[Sequence[bytes]]


class ValueType(NamedTuple):
    """The row of a type.

    `python_type()` makes an empty value. A value has a length, and a `pop` (a dict: `popitem`) that takes something out
    of it, so that a large one can be freed in slices. Strings alone have no `pop`, since none is large.
    """

    name: bytes  # what TYPE answers
    python_type: type
    encoding: Callable[[Any], bytes]  # what OBJECT ENCODING answers
    # key, value, deadline -> the commands that make the key, whatever was there: see `made_anew`
    rebuild: Callable[[bytes, Any, int], Commands]
    copy: Callable[[Any], Any]  # a value that no change of the first one changes
    size_bytes: Callable[[Any], int]  # what the value takes in memory, its elements included
    is_large: Callable[[Any], bool]  # it takes longer than a millisecond to copy, to write, or to free
    may_be_empty: bool = False  # else a key goes with the last element of its value


def made_anew(key: bytes, commands: Commands, deadline_ms: int) -> Iterator[Sequence[bytes]]:
    """Yield the commands that make a value, after one that deletes the key and before one that sets its deadline."""
    yield (b"DEL", key)
    yield from commands
    if deadline_ms != NO_DEADLINE:
        yield (b"PEXPIREAT", key, b"%d" % deadline_ms)
