"""The text dialect: how a line is split into words, and what a person sees of a value."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given
from servers import RedisProcess
from tables import for_each

from errors import CommandError
from protocol import MAX_LINE_BYTES
from replies import Deleted, Verbatim
from wire.encoder import bulk_header
from wire.text import TEXT_BLOCK_BYTES, shown, split_line, text_pieces

# ---- lines

LINES = [
    (b"", []),
    (b"  a\tb  ", [b"a", b"b"]),
    (b"a\rb", [b"a", b"b"]),
    (b"\x0b\x0ca\x0b", [b"a\x0b"]),
    (b"a \x0cb\x0bc", [b"a", b"b\x0bc"]),
    (b'"a b" c', [b"a b", b"c"]),
    (b"\"\" ''", [b"", b""]),
    (b'a"b c"', [b"ab c"]),
    (b"a'b c'", [b"ab c"]),
    (rb'"\x41\n\r\t\b\a\q\"\\\x4"', [b'A\n\r\t\b\aq"\\x4']),
    (rb'"\xff\xFF\x00"', [b"\xff\xff\x00"]),
    (rb"'\x41\'\n'", [rb"\x41'\n"]),
    (rb"'a\\' b", None),
    (rb"'a\\'' b", [rb"a\'", b"b"]),
    (rb"a\"b\"", None),
    (b"a\\ b", [b"a\\", b"b"]),
    (b'"a"b', None),
    (b'"a""b"', None),
    (b"'a'b", None),
    (b'"a', None),
    (b"'a", None),
    (b'"a\\', None),
    (b"  'a", None),
    (b"a'", None),
    (b'"a"\x0b', [b"a"]),
    (b'"a"\x0bb', [b"a", b"b"]),
    (b"it's", None),
]


@for_each(("line", "words"), LINES)
def test_a_line_is_split_by_the_rules_of_redis(line: bytes, words: list[bytes] | None) -> None:
    assert split_line(line) == words


@given(st.lists(st.binary(), min_size=1))
def test_words_that_are_quoted_come_back(words: list[bytes]) -> None:
    quoted = b" ".join(b'"' + b"".join(b"\\x%02x" % byte for byte in word) + b'"' for word in words)
    assert split_line(quoted) == words


def test_a_line_of_quotes_is_split_in_one_pass() -> None:
    assert split_line(b"'" * (MAX_LINE_BYTES - 1)) is None
    assert split_line(b'"' + b"\\" * (MAX_LINE_BYTES - 2) + b'"') == [b"\\" * (MAX_LINE_BYTES // 2 - 1)]


@for_each(("line", "words"), [case for case in LINES if b"\0" not in case[0]])
def test_redis_splits_the_same_words(redis_server: RedisProcess, line: bytes, words: list[bytes] | None) -> None:
    with redis_server.raw() as client:
        client.send(b"DEL words\nRPUSH words first " + line + b"\nLRANGE words 1 -1\n")
        client.read_reply()
        pushed = client.read_reply()
        if words is None:
            assert pushed == b"-ERR Protocol error: unbalanced quotes in request\r\n"
        else:
            assert client.read_reply() == b"*%d\r\n" % len(words) + b"".join(
                bulk_header(len(word)) + word + b"\r\n" for word in words
            )


# ---- what a person sees

SHOWN = [
    (b'plain text, \\ and "quotes"', b'plain text, \\ and "quotes"'),
    ("grün, 日本, 😀".encode(), "grün, 日本, 😀".encode()),
    (b"two\nlines\r\n\tand a tab", rb"two\nlines\r\n\tand a tab"),
    (b"\x1b[2J\x07\x00\x7f", rb"\x1b[2J\x07\x00\x7f"),
    ("\x9b2J".encode(), rb"\xc2\x9b2J"),  # C1's other spelling of the same sequence
    (b"\x9b2J", rb"\x9b2J"),
    (b"\xff\xf4\xc3", rb"\xff\xf4\xc3"),  # telnet's own commands, and half a character
    (b"\xed\xa0\x80", rb"\xed\xa0\x80"),  # a surrogate, which UTF-8 does not have
]


@for_each(("value", "line"), SHOWN)
def test_a_terminal_is_shown_control_characters_escaped(value: bytes, line: bytes) -> None:
    removed = Deleted(1)
    removed.values = [value]
    members = {bytes: value, list: [value], dict: {b"k": value}, Deleted: removed}
    for kind, reply in members.items():
        assert b"".join(text_pieces(reply)) == (b"k\r\n" if kind is dict else b"") + line + b"\r\n"
    assert b"".join(text_pieces(memoryview(value))) == line + b"\r\n"
    error = b"".join(text_pieces(CommandError(b"ERR unknown command '%b'" % value)))
    assert error == b"ERR unknown command '%b'\r\n" % line.replace(rb"\n", b" ").replace(rb"\r", b" ")


def test_a_text_of_ours_keeps_its_lines() -> None:
    assert b"".join(text_pieces(Verbatim(b"# Server\r\nname:\x1b[2J\n"))) == b"# Server\r\nname:\\x1b[2J\n\r\n"


@given(st.text(), st.integers(0, 4), st.binary(max_size=3))
def test_a_long_value_is_shown_as_a_short_one_is(text: str, shift: int, rest: bytes) -> None:
    """Its pieces are short, and none ends inside a character."""
    value = b"x" * shift + (text.encode("utf-8", "surrogatepass") + "ü€😀\n".encode()) * 3000 + rest
    pieces = list(text_pieces(value))
    assert max(map(len, pieces)) <= 8 * TEXT_BLOCK_BYTES
    assert b"".join(pieces) == shown(value) + b"\r\n"
