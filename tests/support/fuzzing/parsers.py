"""The parser pair judged on any bytes: both parsers say the same, however the bytes are cut.

The two are RequestParser with its fast paths, and StateMachine, which has none. How an input is cut, and with what
limits, follows from the input itself, so that a file of the corpus says all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random

from protocol import MAX_BULK_BYTES, RequestParser, TextRequest, encode_command

Outcome = tuple[list[tuple[str, list[bytes]]], bytes | None]

PING = encode_command([b"PING"])
CUT_EVERYWHERE = 12  # bytes; a longer input is cut at some places only

TOKENS = [
    *[
        b"*1\r\n",
        b"*2\r\n",
        b"*3\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"$0\r\n\r\n",
        b"$1\r\na\r\n",
        b"$4\r\nPING\r\n",
        b"$-1\r\n",
    ],
    *[
        b"\r\n",
        b"\n",
        b"\r",
        b"+$\r\n",
        b"~1\r\n",
        b"%1\r\n",
        b"|1\r\n",
        b">1\r\n",
        b"=4\r\n",
        b"(1\r\n",
        b":1\r\n",
        b"_\r\n",
    ],
    *[b"#t\r\n", b",1\r\n", b"-a\r\n", b"!1\r\n", b"PING\r\n", b"\\x", b'"', b"'", b"*1\r\n$4\r\nPING\r\n", b"$65\r\n"],
    *[b"*10000\r\n", b"*1048577\r\n", b"$536870913\r\n", b"18446744073709551616", b"\r\n*", b"$2\r\na\r\n*"],
]


class StateMachine(RequestParser):
    """The parser without its fast paths."""

    def feed(self, data: bytes | bytearray | memoryview, size: int) -> Iterable[list[bytes]]:
        if self.error is None:
            self._chunk += bytes(data[:size])
        return self._one_by_one()


def outcome(parser: RequestParser, chunks: Iterable[bytes], authenticated_after: int = 0) -> Outcome:
    """Feed chunks as the server does, from one buffer that is overwritten each time."""
    requests: list[tuple[str, list[bytes]]] = []
    parser.authenticated = parser.authenticated and not authenticated_after
    for chunk in chunks:
        buffer = bytearray(chunk)
        taken = []
        for argv in parser.feed(buffer, len(chunk)):
            taken.append(argv)
            parser.authenticated = parser.authenticated or len(requests) + len(taken) == authenticated_after
        buffer[:] = b"*" * len(buffer)
        for argv in taken:
            assert argv, "an empty request reached a command"
            assert all(type(word) is bytes for word in argv), f"not only bytes: {argv}"
            assert type(argv) in (list, TextRequest)
            requests.append(("text" if type(argv) is TextRequest else "RESP", list(argv)))
    if parser.error is not None:
        assert list(parser.feed(b"PING\r\n", 6)) == [], "a broken connection was parsed on"
    return requests, parser.error


def cut(wire: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut bytes at these places, as far as they have them."""
    borders = [0, *sorted(place for place in places if place < len(wire)), len(wire)]
    return [wire[begin:end] for begin, end in pairwise(borders) if begin < end]


def ways_to_cut(wire: bytes, random: Random) -> Iterator[list[bytes]]:
    """Give ways to cut: none, in two at any place of a short input, at some places of any."""
    size = len(wire)
    yield [wire] if wire else []
    if 1 < size <= CUT_EVERYWHERE:
        yield from ([wire[:at], wire[at:]] for at in range(1, size))
        yield [wire[at : at + 1] for at in range(size)]
    elif size > CUT_EVERYWHERE:
        for pieces in (1, 2, 5):
            yield cut(wire, random.sample(range(1, size), pieces))
        begin = random.randrange(size)
        yield cut(wire, range(begin, begin + CUT_EVERYWHERE))


def check(wire: bytes) -> None:
    """Assert that both parsers give the same requests and the same error, and leave nothing behind."""
    random = Random(zlib.crc32(wire))
    max_bulk_bytes = random.choice([MAX_BULK_BYTES, 64])
    authenticated_after = random.choice([0, 0, 0, 1, 3])
    whole = [wire] if wire else []
    expected = outcome(StateMachine(max_bulk_bytes), whole, authenticated_after)
    for chunks in ways_to_cut(wire, random):
        for parser in (StateMachine(max_bulk_bytes), RequestParser(max_bulk_bytes)):
            found = outcome(parser, chunks, authenticated_after)
            assert found == expected, (type(parser).__name__, chunks, found, expected)
    assert outcome(RequestParser(), [PING * 3]) == ([("RESP", [b"PING"])] * 3, None), "something was left behind"
    if authenticated_after == 0 and max_bulk_bytes == MAX_BULK_BYTES:
        again = b"".join(encode_command(argv) for _, argv in expected[0])
        assert outcome(RequestParser(), [again] if again else [])[0] == [("RESP", argv) for _, argv in expected[0]]
