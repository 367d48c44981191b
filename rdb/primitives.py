"""Numbers and strings in the form of a snapshot; `rdb/source.py` reads them."""

from __future__ import annotations

LONGEST_INTEGER = 11  # digits of 32 bits, and a sign
WIDTHS = ((b"\xc0", 1), (b"\xc1", 2), (b"\xc2", 4))


def length(number: int) -> bytes:
    """Return a length in its shortest form."""
    if number < 1 << 6:
        return bytes((number,))
    if number < 1 << 14:
        return (number | 0x4000).to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def string(value: bytes) -> bytes:
    """Return a string with its length, or as an integer of 32 bits if it is one."""
    if len(value) <= LONGEST_INTEGER and value[-1:].isdigit():
        try:
            number = int(value)
        except ValueError:
            number = 1 << 32
        if -(1 << 31) <= number < 1 << 31 and b"%d" % number == value:
            for first, width in WIDTHS:
                if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
                    return first + number.to_bytes(width, "little", signed=True)
    return length(len(value)) + value


def backward_bytes(size: int) -> int:
    """Return how many bytes hold the size of a listpack's element behind it: about 7 bits a byte."""
    return 1 if size <= 127 else 2 if size < 16383 else 3 if size < 2097151 else 4 if size < 268435455 else 5
