"""Requests by column: what is read so is what the whole grammar reads, and nothing else is read so."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import example, given
from tables import for_each

from protocol import RequestParser, encode_command
from wire.columns import TABLED, Columns, columns_of, split_columns

words = st.binary(max_size=5) | st.sampled_from(
    [b"", b"*1", b"$1", b"\r", b"\n", b"\r\n", b"v" * (TABLED - 1), b"v" * TABLED]
)
like_requests = st.integers(1, 4).flatmap(
    lambda length: st.lists(st.lists(words, min_size=length, max_size=length), min_size=1, max_size=5)
)
BYTES_OF_THE_GRAMMAR = [bytes((byte,)) for byte in b"*$+-:_#,(=%~>\r\n0129a"]


def by_the_grammar(wire: bytes) -> list[list[bytes]] | None:
    """Read requests by the state machine; None where it finds an error, a line of text or something unfinished."""
    parser = RequestParser()
    requests = parser._parse_rest(wire)
    return None if parser.error or parser.text_seen or parser.pending_bytes else requests


@given(requests=like_requests)
def test_requests_of_one_length_come_back_unless_a_word_holds_a_line_end(requests: list[list[bytes]]) -> None:
    found = split_columns(b"".join(map(encode_command, requests)))
    if any(b"\r\n" in word for argv in requests for word in argv):
        assert found is None or list(found) == requests
    else:
        assert found is not None
        assert list(found) == requests
        assert columns_of(found) == list(map(list, zip(*requests, strict=True)))


@given(
    requests=like_requests,
    position=st.integers(0, 1000),
    change=st.sampled_from([b"", *BYTES_OF_THE_GRAMMAR]),
    cut=st.integers(0, 3),
)
@example(requests=[[b"a"]] * 2, position=0, change=b"a", cut=0)
def test_what_is_read_by_column_is_what_the_grammar_says(
    requests: list[list[bytes]], position: int, change: bytes, cut: int
) -> None:
    wire = b"".join(map(encode_command, requests))
    position %= len(wire)
    wire = wire[:position] + change + wire[position + 1 : len(wire) - cut]
    found = split_columns(wire)
    assert found is None or list(found) == by_the_grammar(wire)


@for_each(
    "wire",
    [
        b"",
        b"\r\n",
        b"PING\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\r\n",
        b"*1\r\n$1\r\na",
        b"*01\r\n$1\r\na\r\n",
        b"*1\r\n$01\r\na\r\n",
        b"*1\r\n$1\r\na\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"*1\r\n$2\r\na\r\n",
        b"*1\r\n:1\r\na\r\n",
        b"*1\r\n+$1\r\na\r\n",
        b"*" + b"9" * 5000 + b"\r\n$1\r\na\r\n",
        b"*9999999\r\n" + b"$1\r\na\r\n" * 3,
    ],
)
def test_all_else_is_left_to_others(wire: bytes) -> None:
    assert split_columns(wire) is None


def test_columns_are_a_sequence_of_requests() -> None:
    requests = [[b"GET", b"a"], [b"GET", b"b"], [b"GET", b"c"]]
    columns = split_columns(b"".join(map(encode_command, requests)))
    assert isinstance(columns, Columns)
    assert (len(columns), columns[1], columns[-1], list(columns[1:])) == (3, requests[1], requests[-1], requests[1:])
    assert columns_of(requests) == [(b"GET",) * 3, (b"a", b"b", b"c")]
    assert columns_of([[b"GET", b"a"], [b"PING"]]) is None
