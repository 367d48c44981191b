"""LZF, the compression of strings in Redis's snapshots: decompression only, because no reader asks for the other.

A compressed string is a sequence of runs:

    000lllll                     l + 1 bytes follow, which are copied
    lllooooo oooooooo            l + 2 bytes (l: 1 to 6) are repeated from o + 1 bytes before
    111ooooo llllllll oooooooo   the same with l + 9 bytes
"""

from __future__ import annotations

from collections.abc import Generator


class Damaged(Exception):
    """The bytes are not a compressed string of the given length."""


def decompress(data: bytes, size: int) -> bytes:
    """Return the string of `size` bytes. Raises Damaged."""
    work = decompress_in_steps(data, size, len(data))
    try:
        while True:
            next(work)
    except StopIteration as end:
        string: bytes = end.value
    return string


def decompress_in_steps(data: bytes, size: int, step_bytes: int) -> Generator[None, None, bytes]:
    """Return the string of `size` bytes, after steps of so many compressed bytes. Raises Damaged."""
    string = bytearray()
    position, pause, end = 0, step_bytes, len(data)
    try:
        while position < end:
            control = data[position]
            position += 1
            if control < 32:
                behind = position + control + 1
                string += data[position:behind]
                position = behind
            else:
                length = control >> 5
                if length == 7:
                    length += data[position]
                    position += 1
                length += 2
                distance = ((control & 31) << 8 | data[position]) + 1
                position += 1
                place = len(string) - distance
                if place < 0:
                    raise Damaged
                if length <= distance:
                    string += string[place : place + length]
                else:  # the run repeats itself
                    string += (string[place:] * (length // distance + 1))[:length]
            if position >= pause:
                if len(string) > size:
                    raise Damaged
                pause += step_bytes
                yield
    except IndexError:
        raise Damaged from None
    if position != end or len(string) != size:
        raise Damaged
    return bytes(string)
