"""The payload of DUMP and RESTORE: the type of a value, the value, the version of the format, and a checksum.

payload = type (1 byte)  value  version (2 bytes)  CRC-64 of all before (8 bytes)     little-endian
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from rdb.crc64 import BLOCK_BYTES, crc64
from rdb.primitives import string
from rdb.source import BadFormat, Source

VERSION = 10  # of Redis 7.0
NEWEST_VERSION = 12  # of Redis 7.4
TAIL_BYTES = 10
CHECKSUM_BYTES = 8
STEP_BYTES = BLOCK_BYTES
LONG_BYTES = 1 << 20
FUNCTION_2 = 245


class WrongChecksum(Exception):
    """A payload is not whole, or is of a newer Redis."""


class NoFunction(Exception):
    """A payload of functions holds something else."""


def seal(pieces: Iterable[bytes], version: int) -> Generator[None, None, bytes | memoryview]:
    """Return the payload of a type and its serialized value, after some steps. A long one is not copied to be bytes."""
    payload = bytearray()
    for piece in pieces:
        if len(piece) <= STEP_BYTES:
            payload += piece
            continue
        for start in range(0, len(piece), STEP_BYTES):
            payload += piece[start : start + STEP_BYTES]
            yield
    payload += version.to_bytes(2, "little")
    payload += yield from _checksum(payload, len(payload))
    return bytes(payload) if len(payload) <= LONG_BYTES else memoryview(payload)


def open_payload(payload: bytes) -> Generator[None, None, tuple[int, Source]]:
    """Return the type and the serialized value of a payload, after some steps. Raises WrongChecksum."""
    size = yield from _verified_size(payload)
    if size < 1:
        raise WrongChecksum
    return payload[0], Source(payload, 1, size)


def seal_libraries(codes: Iterable[bytes]) -> Generator[None, None, bytes | memoryview]:
    """Return the payload of libraries of functions: each is FUNCTION_2 and its code."""
    return seal([piece for code in codes for piece in (bytes((FUNCTION_2,)), string(code))], VERSION)


def open_libraries(payload: bytes) -> Generator[None, None, list[bytes]]:
    """Return the codes of a payload's libraries, after some steps. Raises WrongChecksum, BadFormat and NoFunction."""
    size = yield from _verified_size(payload)
    source, codes = Source(payload, 0, size), []
    while source.position < size:
        if source.byte() != FUNCTION_2:
            raise NoFunction
        codes.append(source.whole_string())
    return codes


def _verified_size(payload: bytes) -> Generator[None, None, int]:
    """Return the size of what a payload holds. Raises WrongChecksum."""
    size = len(payload) - TAIL_BYTES
    if size < 0 or int.from_bytes(payload[size : size + 2], "little") > NEWEST_VERSION:
        raise WrongChecksum
    checksum = yield from _checksum(payload, size + 2)
    if payload[-CHECKSUM_BYTES:] != checksum:
        raise WrongChecksum
    return size


def string_bytes(payload: bytes) -> int:
    """Return how long the string of a payload is; 0 for another type, and where that is not known."""
    try:
        return Source(payload[1:]).string_size() if payload[:1] == b"\0" else 0
    except BadFormat:
        return 0


def _checksum(data: bytes | bytearray, size: int) -> Generator[None, None, bytes]:
    checksum = 0
    for start in range(0, size, STEP_BYTES):
        checksum = crc64(data[start : min(size, start + STEP_BYTES)], checksum)
        if start + STEP_BYTES < size:
            yield
    return checksum.to_bytes(CHECKSUM_BYTES, "little")
