"""The type of strings: `bytes`, which never change in place."""

from __future__ import annotations

from sys import getsizeof

from values.entry import NO_DEADLINE
from values.row import Commands, ValueType

EMBEDDED_BYTES = 44  # Redis encodes a longer string as `raw`
LOW, HIGH = -(2**63), 2**63 - 1
LONGEST_INTEGER = len(b"%d" % LOW)


def is_integer(value: bytes) -> bool:
    """Return True if a string is a signed 64-bit integer in canonical form: no plus sign, spaces or leading zeros."""
    if len(value) > LONGEST_INTEGER:
        return False
    try:
        number = int(value)
    except ValueError:
        return False
    return b"%d" % number == value and LOW <= number <= HIGH


def encoding(value: bytes) -> bytes:
    """Return the encoding that Redis uses for a string that was just set."""
    if is_integer(value):
        return b"int"
    return b"embstr" if len(value) <= EMBEDDED_BYTES else b"raw"


def rebuild(key: bytes, value: bytes, deadline_ms: int) -> Commands:
    """Return the command that sets the string."""
    option = () if deadline_ms == NO_DEADLINE else (b"PXAT", b"%d" % deadline_ms)
    return ((b"SET", key, value, *option),)


STRING = ValueType(
    name=b"string",
    python_type=bytes,
    encoding=encoding,
    rebuild=rebuild,
    copy=bytes,
    size_bytes=getsizeof,
    is_large=lambda _value: False,
    may_be_empty=True,
)
