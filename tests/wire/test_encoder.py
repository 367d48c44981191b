"""Replies in bytes: each has its form in RESP2, in RESP3 and in text, whichever way it is encoded."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tables import for_each

from errors import CommandError
from replies import NO_REPLY, NULL_ARRAY, OK, PONG, Deleted, Push, Status, Strings, Verbatim
from wire import encoder
from wire.columns import CRLF, TABLED
from wire.encoder import BLOCK_BYTES, SHORT_STRINGS, bulk_header, encode, encode_short
from wire.text import text_pieces


class Named(bytes):
    """A subclass that no encoder knows."""


def deleted(*values: bytes | None) -> Deleted:
    reply = Deleted(len([value for value in values if value is not None]))
    reply.values = list(values)
    return reply


REPLIES: list[tuple[Any, bytes, bytes, bytes]] = [
    # the reply, in RESP2, in RESP3, in text
    (b"a b", b"$3\r\na b\r\n", b"$3\r\na b\r\n", b"a b\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n", b"\r\n"),
    (b"x" * 2000, b"$2000\r\n%b\r\n" % (b"x" * 2000), b"$2000\r\n%b\r\n" % (b"x" * 2000), b"x" * 2000 + b"\r\n"),
    (Named(b"a"), b"$1\r\na\r\n", b"$1\r\na\r\n", b"a\r\n"),
    (OK, b"+OK\r\n", b"+OK\r\n", b"OK\r\n"),
    (PONG, b"+PONG\r\n", b"+PONG\r\n", b"PONG\r\n"),
    (b"PONG", b"$4\r\nPONG\r\n", b"$4\r\nPONG\r\n", b"PONG\r\n"),
    (Status(b"QUEUED"), b"+QUEUED\r\n", b"+QUEUED\r\n", b"QUEUED\r\n"),
    (Verbatim(b"a\nb"), b"$3\r\na\nb\r\n", b"=7\r\ntxt:a\nb\r\n", b"a\nb\r\n"),
    (None, b"$-1\r\n", b"_\r\n", b"(nil)\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n", b"(nil)\r\n"),
    (NO_REPLY, b"", b"", b""),
    (0, b":0\r\n", b":0\r\n", b"0\r\n"),
    (-5, b":-5\r\n", b":-5\r\n", b"-5\r\n"),
    (True, b":1\r\n", b"#t\r\n", b"1\r\n"),
    (False, b":0\r\n", b"#f\r\n", b"0\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n", b"1.5\r\n"),
    (3.0, b"$1\r\n3\r\n", b",3\r\n", b"3\r\n"),
    ([], b"*0\r\n", b"*0\r\n", b"(empty array)\r\n"),
    ([b"a", None, 1], b"*3\r\n$1\r\na\r\n$-1\r\n:1\r\n", b"*3\r\n$1\r\na\r\n_\r\n:1\r\n", b"a\r\n(nil)\r\n1\r\n"),
    ([0, [1, [2]]], *[b"*2\r\n:0\r\n*2\r\n:1\r\n*1\r\n:2\r\n"] * 2, b"0\r\n1\r\n2\r\n"),  # type: ignore[list-item]
    ({b"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n", b"a\r\n1\r\n"),
    ({}, b"*0\r\n", b"%0\r\n", b"(empty array)\r\n"),
    ({b"a"}, b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n", b"a\r\n"),
    (Push([b"a", 1]), b"*2\r\n$1\r\na\r\n:1\r\n", b">2\r\n$1\r\na\r\n:1\r\n", b"a 1\r\n"),
    (CommandError(b"ERR no"), b"-ERR no\r\n", b"-ERR no\r\n", b"ERR no\r\n"),
    (CommandError(b"ERR 'a\r\n+OK'"), b"-ERR 'a  +OK'\r\n", b"-ERR 'a  +OK'\r\n", b"ERR 'a  +OK'\r\n"),
    ([CommandError(b"ERR no")], b"*1\r\n-ERR no\r\n", b"*1\r\n-ERR no\r\n", b"ERR no\r\n"),
    (deleted(b"a", None, b"c"), b":2\r\n", b":2\r\n", b"a\r\nERR key not found\r\nc\r\n"),
]  # fmt: skip


@for_each(("reply", "resp2", "resp3", "in_text"), REPLIES)
def test_a_reply_has_its_form_in_each_dialect(reply: Any, resp2: bytes, resp3: bytes, in_text: bytes) -> None:
    forms = []
    for write in (partial(encode, resp3=False), partial(encode, resp3=True)):
        pieces: list[bytes] = []
        write(reply, pieces.append)
        forms.append(b"".join(pieces))
    forms.append(b"".join(text_pieces(reply)))
    assert forms == [resp2, resp3, in_text]
    for count in (1, 2):
        for resp, form in ((False, resp2), (True, resp3)):
            short = encode_short([reply] * count, resp)
            assert short is None or b"".join(short) == form * count


def test_a_null_has_the_text_that_its_command_gives_it_but_not_within_a_list() -> None:
    pieces = [*text_pieces(None, b"ERR value not found or expired")]
    pieces += text_pieces([None], b"ERR value not found or expired")
    assert b"".join(pieces) == b"ERR value not found or expired\r\n(nil)\r\n"


def test_what_is_no_reply_is_refused() -> None:
    with pytest.raises(TypeError, match="not a reply"):
        encode("text", print, True)
    with pytest.raises(TypeError, match="not a reply"):
        list(text_pieces("text"))


def test_heads_of_any_size_are_right() -> None:
    for size in (0, 1, TABLED - 1, TABLED, 10**9):
        assert bulk_header(size) == b"$%d\r\n" % size
    assert len(encoder.HEADERS) == TABLED
    assert CRLF == b"\r\n"


@for_each("count", [0, 1, 2, 128, 129, SHORT_STRINGS, SHORT_STRINGS + 1])
@for_each("sizes", [[3], [0], [3, 5, 0], [4095, 4096], [5000]])
def test_an_array_of_strings_is_spelled_as_any_array(count: int, sizes: list[int]) -> None:
    members = [b"x" * sizes[number % len(sizes)] for number in range(count)]
    pieces: list[bytes] = []
    encode(members, pieces.append, resp3=False)
    short = encode_short([Strings(members)], resp3=False)
    assert short is None or b"".join(short) == b"".join(pieces)
    is_long = max(sizes[:count], default=0) >= TABLED or count * sizes[0] > BLOCK_BYTES
    assert (short is None) == (count > SHORT_STRINGS or is_long)
