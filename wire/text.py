r"""The text dialect, for a person at telnet: a line becomes words, and a reply becomes lines.

    SET k "hello world"\n    words are separated by spaces; quotes and escapes are as in Redis
    1\r\n                   each value is a line; control characters are shown escaped

The parser of requests decides what is a line: see `protocol.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from errors import TEXT_NO_KEY, CommandError, ProtocolError
from replies import (
    Deleted,
    Entries,
    Farewell,
    LongArray,
    LongBulk,
    Messages,
    NoReply,
    NullArray,
    Pairs,
    Push,
    Status,
    Verbatim,
)
from wire.columns import CRLF
from wire.doubles import format_float

TEXT_BLOCK_BYTES = 1 << 14
ONE_LINE = bytes.maketrans(b"\r\n", b"  ")  # an error may quote bytes of the client
_PRINTABLE = re.compile(rb"[ -~]*")
_ESCAPES: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in (*range(32), 127)},
    **{code: f"\\xc2\\x{code:02x}" for code in range(128, 160)},  # C1 control characters in UTF-8
    **{0xDC00 + code: f"\\x{code:02x}" for code in range(128, 256)},  # surrogates: bytes that are not UTF-8
    **{ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"},
}
_ESCAPES_IN_LINES = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\r\n"}

_WORD = re.compile(
    rb"""([^ \t\r\n"']*)                                           # a word may begin unquoted
         (?: (?: "([^"\\]*(?:\\.[^"\\]*)*)"                        # and end in a quoted piece
               | '([^'\\]*(?:\\'[^'\\]*|\\(?!')[^'\\]*)*)' ) (?=\s|\Z)
           | (?=[ \t\r\n]|\Z) )
         \s*""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SPECIAL = re.compile(rb"""["'\v\f]""")  # form feed and vertical tab separate words only before a word
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_line(line: bytes) -> list[bytes] | None:
    r"""Split a line into words by Redis's rules; None if a quote is open, or not followed by a space.

    In "double" quotes \n \r \t \b \a and \xff are escapes, and any other escaped byte stands for itself. In 'single'
    quotes the only escape is \'.
    """
    if not _SPECIAL.search(line):
        return line.split()
    line = line.lstrip()
    words = []
    position = 0
    while position < len(line):
        match = _WORD.match(line, position)
        if match is None:
            return None
        bare, double, single = match.groups(b"")
        if b"\\" in double:
            double = _ESCAPE.sub(_unescape, double)
        words.append(bare + double + single.replace(b"\\'", b"'"))
        position = match.end()
    return words


def _unescape(match: re.Match[bytes]) -> bytes:
    what: bytes = match[1]
    return bytes([int(what[1:], 16)]) if len(what) == 3 else _ESCAPED.get(what, what)


def shown(value: bytes, escapes: dict[int, str] = _ESCAPES) -> bytes:
    r"""Escape a value for a terminal: \n, \x1b, \xff for control characters and bytes that are not UTF-8."""
    if _PRINTABLE.fullmatch(value):
        return value
    return value.decode("utf-8", "surrogateescape").translate(escapes).encode()


def text_pieces(reply: Any, null: bytes = b"(nil)", signs: bool = False) -> Iterator[bytes]:
    """Yield a reply in the text dialect, in pieces that take a few ms at most.

    `null` is the text of a null outside a list. With `signs` a status begins with `+` and an error with `-`.
    """
    if isinstance(reply, (bytes, memoryview, LongBulk)):
        if isinstance(reply, Farewell) and not signs:
            return  # the end of the connection is the reply
        if signs and isinstance(reply, Status):
            yield b"+"
        escapes = _ESCAPES_IN_LINES if isinstance(reply, Verbatim) else _ESCAPES
        begin, size = 0, len(reply)
        while begin < size:
            end = begin + TEXT_BLOCK_BYTES
            if end < size:  # do not split a character of UTF-8, which has at most four bytes
                end = next((place for place in range(end, end - 4, -1) if reply[place] & 0xC0 != 0x80), end)
            yield shown(bytes(reply[begin:end]), escapes)
            begin = end
        yield CRLF
    elif isinstance(reply, Deleted):
        for value in reply.values:  # a value of another type counts as 1
            yield from text_pieces(value if value is None or isinstance(value, (bytes, LongBulk)) else 1, TEXT_NO_KEY)
    elif isinstance(reply, Messages):
        for message in reply.messages:
            yield from text_pieces(message)
    elif isinstance(reply, Push):
        words = [b"".join(text_pieces(word))[:-2] for word in reply]
        yield b" ".join(words) + CRLF
    elif isinstance(reply, Pairs) and reply:
        for first, second in zip(reply[::2], reply[1::2], strict=True):
            *pieces, _ = text_pieces(first)
            yield from (*pieces, b" ")
            yield from text_pieces(second)
    elif isinstance(reply, (Entries, LongArray)):  # within another reply
        yield from text_pieces(reply.members())
    elif isinstance(reply, (list, tuple, set, frozenset, dict)):
        members = chain.from_iterable(reply.items()) if isinstance(reply, dict) else reply
        if not reply:
            yield b"(empty array)\r\n"
        for member in members:
            yield from text_pieces(member)
    elif isinstance(reply, (CommandError, ProtocolError)):
        yield b"-" * signs + shown(reply.text.translate(ONE_LINE)) + CRLF
    elif not isinstance(reply, NoReply):
        yield _text_line(reply, null) + CRLF


def _text_line(reply: Any, null: bytes) -> bytes:
    if reply is None or isinstance(reply, NullArray):
        return null
    if isinstance(reply, int):
        return b"%d" % reply
    if isinstance(reply, float):
        return format_float(reply)
    raise TypeError(f"not a reply: {reply!r}")
