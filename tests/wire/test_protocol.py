"""The wire: one grammar under two parsers, cut in every way, against tables, against each other, and against Redis.

The fixture `parse` runs a test once with the whole parser and once with its state machine alone.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable

import hypothesis.strategies as st
import pytest
from fuzzing.parsers import PING, Outcome, StateMachine, cut, outcome
from hypothesis import example, given, settings
from servers import RedisProcess
from tables import for_each

import protocol
from protocol import (
    MAX_BULK_BYTES,
    MAX_BULK_BYTES_BEFORE_AUTH,
    MAX_ELEMENTS,
    MAX_LINE_BYTES,
    UNBALANCED,
    LongLine,
    RequestParser,
    encode_command,
)
from wire.telnet import take_out

Parse = Callable[[Iterable[bytes]], Outcome]

PARSERS = {"fast path": RequestParser, "state machine": StateMachine}


@pytest.fixture(params=PARSERS)
def parse(request: pytest.FixtureRequest) -> Parse:
    return lambda chunks: outcome(PARSERS[request.param](), chunks)


def ways_to_cut(wire: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and at each split in two."""
    halves = [[wire[:at], wire[at:]] for at in range(1, min(len(wire), 200))]
    return [[wire], [wire[at : at + 1] for at in range(len(wire))], *halves]


def resp(*argv: bytes) -> tuple[str, list[bytes]]:
    return "RESP", list(argv)


def text(*argv: bytes) -> tuple[str, list[bytes]]:
    return "text", list(argv)


VALID = {
    "one word": (PING, [resp(b"PING")]),
    "three words": (encode_command([b"SET", b"k", b"v"]), [resp(b"SET", b"k", b"v")]),
    "four words": (encode_command([b"SET", b"k", b"v", b"NX"]), [resp(b"SET", b"k", b"v", b"NX")]),
    "twelve words": (encode_command([b"DEL", *[b"k"] * 11]), [resp(b"DEL", *[b"k"] * 11)]),
    "an empty word": (encode_command([b"SET", b"", b""]), [resp(b"SET", b"", b"")]),
    "a pipeline": (PING * 3, [resp(b"PING")] * 3),
    "a value that is a request": (encode_command([b"ECHO", PING]), [resp(b"ECHO", PING)]),
    "requests in values, pipelined": (encode_command([b"ECHO", PING * 2]) * 2, [resp(b"ECHO", PING * 2)] * 2),
    "a value that looks like a long array": (
        encode_command([b"ECHO", b"*99999999\r\n"]) * 2,
        [resp(b"ECHO", b"*99999999\r\n")] * 2,
    ),
    "values that look like other types": (
        encode_command([b"ECHO", b"+(=~>|%:_,#!-"]) * 3,
        [resp(b"ECHO", b"+(=~>|%:_,#!-")] * 3,
    ),
    "every byte": (encode_command([b"ECHO", bytes(range(256))]) * 2, [resp(b"ECHO", bytes(range(256)))] * 2),
    "only line ends": (encode_command([b"\r\n", b"\r", b"\n"]) * 2, [resp(b"\r\n", b"\r", b"\n")] * 2),
    "an empty array": (b"*0\r\n" + PING, [resp(b"PING")]),
    "an empty array between requests": (PING + b"*0\r\n" + PING, [resp(b"PING")] * 2),
    "a null array between requests": (PING * 2 + b"*-1\r\n" + PING, [resp(b"PING")] * 3),
    "a null array": (b"*-1\r\n" + PING * 2, [resp(b"PING")] * 2),
    "a negative array": (b"*-9223372036854775808\r\n" + PING, [resp(b"PING")]),
    "a value without its line end": (b"*1\r\n$4\r\nPING??" + PING, [resp(b"PING")] * 2),
    "such values in a pipeline": (b"*1\r\n$4\r\nPING**" * 3 + PING, [resp(b"PING")] * 4),
    "lone CR ends a head": (b"*1\r?$4\r?PING\r\n" + PING * 2, [resp(b"PING")] * 3),
    "a line": (b"PING\r\n", [text(b"PING")]),
    "a line that ends in LF": (b"PING\n", [text(b"PING")]),
    "a line that ends in CRCRLF": (b"PING\r\r\n", [text(b"PING")]),
    "a line of two words": (b"GET  key\r\n", [text(b"GET", b"key")]),
    "blank lines": (b"\r\n\n  \r\nPING\n", [text(b"PING")]),
    "a blank line before RESP": (b"\r\n" + PING, [resp(b"PING")]),
    "text, RESP, text": (b"PING\n" + PING + b"PING\n", [text(b"PING"), resp(b"PING"), text(b"PING")]),
    "RESP, RESP, text": (PING * 2 + b"PING\n", [resp(b"PING"), resp(b"PING"), text(b"PING")]),
    "RESP, text, RESP, RESP": (
        PING + b"PING\r\n" + PING * 2,
        [resp(b"PING"), text(b"PING"), resp(b"PING"), resp(b"PING")],
    ),
    "a reply is a line": (b"+PING\r\n$4\r\n", [text(b"+PING"), text(b"$4")]),
    "another aggregate is a line": (
        PING * 2 + b"~1\r\n" + PING * 2,
        [*[resp(b"PING")] * 2, text(b"~1"), *[resp(b"PING")] * 2],
    ),
    "false is a line": (PING + b"#f\r\n" + PING, [resp(b"PING"), text(b"#f"), resp(b"PING")]),
    "null is a line": (PING + b"_\r\n" + PING, [resp(b"PING"), text(b"_"), resp(b"PING")]),
    "a quoted line": (b'SET k "a b"\n', [text(b"SET", b"k", b"a b")]),
    "an empty word in a line": (b'""\n', [text(b"")]),
}

INVALID = {
    "count with a plus": (b"*+1\r\n", b"invalid multibulk length"),
    "count with a zero before it": (b"*01\r\n", b"invalid multibulk length"),
    "count with a space": (b"* 1\r\n", b"invalid multibulk length"),
    "count with a space behind it": (b"*1 \r\n", b"invalid multibulk length"),
    "no count": (b"*\r\n", b"invalid multibulk length"),
    "minus nothing": (b"*-0\r\n", b"invalid multibulk length"),
    "count with LF only": (b"*1\n$4\nPING\n\r\n", b"invalid multibulk length"),
    "count over 31 bits": (b"*2147483648\r\n", b"invalid multibulk length"),
    "count over 64 bits": (b"*99999999999999999999\r\n", b"invalid multibulk length"),
    "count under 64 bits": (b"*-9223372036854775809\r\n", b"invalid multibulk length"),
    "null bulk": (b"*1\r\n$-1\r\n", b"invalid bulk length"),
    "no size": (b"*1\r\n$\r\n", b"invalid bulk length"),
    "size with a zero before it": (b"*1\r\n$04\r\nPING\r\n", b"invalid bulk length"),
    "size with a plus": (b"*1\r\n$+4\r\nPING\r\n", b"invalid bulk length"),
    "size of many digits": (b"*1\r\n$%b\r\n" % (b"1" * 30), b"invalid bulk length"),
    "size over 512 MB": (b"*1\r\n$%d\r\n" % (MAX_BULK_BYTES + 1), b"invalid bulk length"),
    "integer element": (b"*1\r\n:4\r\n", b"expected '$', got ':'"),
    "status element": (b"*1\r\n+PING\r\n", b"expected '$', got '+'"),
    "status element that holds a dollar": (b"*1\r\n+$PING\r\n", b"expected '$', got '+'"),
    "big number element": (b"*1\r\n(123\r\n", b"expected '$', got '('"),
    "verbatim element": (b"*1\r\n=8\r\ntxt:PING\r\n", b"expected '$', got '='"),
    "verbatim element that hides a request": (b"*1\r\n=6\r\n\r\n$:ab\r\n", b"expected '$', got '='"),
    "nested array": (b"*1\r\n*1\r\n$4\r\nPING\r\n", b"expected '$', got '*'"),
    "nested empty array": (b"*1\r\n*0\r\n", b"expected '$', got '*'"),
    "nested set": (b"*1\r\n~1\r\n$4\r\nPING\r\n", b"expected '$', got '~'"),
    "nested map": (b"*1\r\n%1\r\n*0\r\n$1\r\na\r\n", b"expected '$', got '%'"),
    "null element": (b"*1\r\n_\r\n", b"expected '$', got '_'"),
    "boolean element": (b"*1\r\n#f\r\n", b"expected '$', got '#'"),
    "error element": (b"*1\r\n-ERR\r\n", b"expected '$', got '-'"),
    "bare element": (b"*1\r\nPING\r\n", b"expected '$', got 'P'"),
    "empty element": (b"*1\r\n\r\n", b"expected '$', got ' '"),
    "LF for an element": (b"*1\r\n\n\r\n", b"expected '$', got ' '"),
    "high byte element": (b"*1\r\n\xff\r\n", b"expected '$', got '\xff'"),
    "long line": (b"x" * (MAX_LINE_BYTES + 1), b"too big inline request"),
    "long count": (b"*" + b"1" * MAX_LINE_BYTES, b"too big mbulk count string"),
    "long size": (b"*1\r\n$" + b"1" * MAX_LINE_BYTES, b"too big bulk count string"),
}
# Redis says nothing, and lets the client wait.
INVALID_HERE = {"a handshake of TLS": (b"\x16\x03\x01\x02\x00\x01", b"this port does not speak TLS")}
ERRORS = {name: (wire, b"ERR Protocol error: " + message) for name, (wire, message) in (INVALID | INVALID_HERE).items()}


@for_each("wire_and_requests", VALID.values(), ids=VALID)
def test_valid_input_gives_its_requests_however_it_is_cut(
    parse: Parse, wire_and_requests: tuple[bytes, list[tuple[str, list[bytes]]]]
) -> None:
    wire, requests = wire_and_requests
    for chunks in ways_to_cut(wire):
        assert parse(chunks) == (requests, None)


@for_each("wire_and_requests", VALID.values(), ids=VALID)
@for_each("rest", [b"*", b"*3\r\n$3\r\nSET\r\n$9\r\nab", b"PIN", b"*2\r\n", b"*1\r\n$4\r\nPING\r"])
def test_valid_input_gives_its_requests_when_more_has_begun(
    parse: Parse, wire_and_requests: tuple[bytes, list[tuple[str, list[bytes]]]], rest: bytes
) -> None:
    wire, requests = wire_and_requests
    for chunks in ways_to_cut(wire + rest):
        assert parse(chunks) == (requests, None)


@for_each("wire_and_error", ERRORS.values(), ids=ERRORS)
def test_invalid_input_gives_its_error_however_it_is_cut(parse: Parse, wire_and_error: tuple[bytes, bytes]) -> None:
    wire, error = wire_and_error
    for chunks in ways_to_cut(wire) if len(wire) < 1000 else [[wire], [wire[:40000], wire[40000:]]]:
        assert parse(chunks) == ([], error)


@for_each("wire_and_error", ERRORS.values(), ids=ERRORS)
def test_what_came_before_an_error_is_still_answered_and_nothing_behind_it(
    parse: Parse, wire_and_error: tuple[bytes, bytes]
) -> None:
    wire, error = wire_and_error
    assert parse([PING * 2 + wire + b"\r\n" + PING * 2]) == ([resp(b"PING")] * 2, error)


@for_each("size", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1])
@for_each("cut", [1, 2, 3, 30_000])
@for_each(("begin", "end"), [(b"", b"\n"), (b"*", b"\r\n"), (b"*1\r\n$", b"\r\n")])
def test_a_long_line_is_judged_the_same_however_it_is_cut(
    parse: Parse, size: int, cut: int, begin: bytes, end: bytes
) -> None:
    line = begin + b"1" * (size - len(begin.rpartition(b"\n")[2]))
    wire = line + end
    whole = parse([wire])
    assert parse([wire[:-cut], wire[-cut:]]) == whole
    assert (b"too big" in (whole[1] or b"")) == (size > MAX_LINE_BYTES)


# ---- what the fast path must not believe

LONG = b"2000000000\r\n"
ELEMENTS = [
    *[b"$1\r\na\r\n", b"$0\r\n\r\n", b"$2\r\n\r\n\r\n", b"$1\r\n*\r\n", b"$3\r\n\r\n*\r\n", b"$1\r\n$\r\n"],
    *[b"$2\r\na\r\n$", b"$2\r\na\r\n*", b"$1\r\n\r\n*", b"$-1\r\n", b"$1\r\na=(", b"$1\r\na~1"],
    *[b"+a\r\n", b"+$\r\n", b"+\r\n", b"(1\r\n", b"=5\r\ntxt:a\r\n", b"=4\r\n$$$:\r\n", b"=4\r\n\r\n$:\r\n"],
    *[b":1\r\n", b",1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b"-a\r\n"],
    *[b"*0\r\n", b"*-1\r\n", b"*1\r\n", b"*2\r\n", b"~0\r\n", b"~1\r\n", b">1\r\n", b"|1\r\n", b"%0\r\n", b"%1\r\n"],
    *[kind + LONG for kind in (b"*", b"~", b">", b"|", b"%", b"$")],
    *[b"PING\r\n", b"\r\n", b"\n", b"\r", b"GET 'a b'\n", encode_command([b"SET", b"k", b"v"]), PING],
]


@st.composite
def mutated_requests(draw: st.DrawFn) -> bytes:
    """Draw valid requests, with bytes changed, lost or added here and there."""
    words = st.binary(max_size=12) | st.sampled_from([b"", b"\r\n", b"*", b"\r\n*1\r\n", b"$", b"=+(~>|%", b"x" * 1200])
    requests = st.lists(words, min_size=1, max_size=4).map(encode_command)
    lines = st.sampled_from([b"PING\n", b"SET k 'a b'\r\n", b"\r\n", b"*0\r\n"])
    wire = bytearray(b"".join(draw(st.lists(requests | lines, min_size=1, max_size=6))))
    piece = st.binary(min_size=1, max_size=2) | st.sampled_from([*ELEMENTS, b"*", b"$", b"\r\n"])
    for at, lost, added in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), piece), max_size=3)):
        wire[at : at + lost] = added
    return bytes(wire)


hostile_input = st.lists(st.sampled_from([b"*1\r\n", b"*2\r\n", *ELEMENTS]), min_size=1, max_size=12).map(b"".join)
places = st.lists(st.integers(1, 200), max_size=4)


@settings(max_examples=200)
@given(wire=mutated_requests() | hostile_input, places=places, first=places)
@example(wire=b"*1\r\n+$PING\r\n" + PING, places=[], first=[])
@example(wire=b"*2\r\n$1\r\na\r\n*+status\r\n" + PING, places=[], first=[])
@example(wire=b"~1\r\n$2\r\na\r\n*" + PING, places=[], first=[])
@example(wire=PING + b"~1\r\n$2\r\na\r\n*" + PING, places=[], first=[])
def test_both_parsers_agree_on_any_input_cut_in_any_way(wire: bytes, places: list[int], first: list[int]) -> None:
    expected = outcome(StateMachine(), [wire] if wire else [])
    assert outcome(StateMachine(), cut(wire, first)) == expected
    assert outcome(RequestParser(), cut(wire, places)) == expected
    assert outcome(RequestParser(), [wire] if wire else []) == expected


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), max_size=20), places)
def test_what_is_encoded_is_parsed_back(requests: list[list[bytes]], places: list[int]) -> None:
    wire = b"".join(map(encode_command, requests))
    assert outcome(RequestParser(), cut(wire, places)) == ([("RESP", argv) for argv in requests], None)


@given(wire=mutated_requests() | hostile_input, places=places)
def test_no_input_leaves_anything_behind_in_what_parsers_share(wire: bytes, places: list[int]) -> None:
    outcome(RequestParser(), cut(wire, places))
    assert outcome(RequestParser(), [PING * 3]) == ([resp(b"PING")] * 3, None)


PRINTABLE = [b"v" * 64, b"a+b=c (d) ~ 5 > 4 | 100%", b"$5 * 3", b'{"a": [1, 2]}', b"line\r\nline", b"v" * 900]


@pytest.mark.parametrize("value", PRINTABLE)
@pytest.mark.parametrize(("rest", "calls"), [(b"", 0), (b"*1\r\n$4\r\nPI", 1)])
def test_hiredis_reads_pipelines_whatever_their_values_look_like(
    monkeypatch: pytest.MonkeyPatch, value: bytes, rest: bytes, calls: int
) -> None:
    counted = []
    original = RequestParser._parse

    def count(self: RequestParser) -> list[bytes] | None:
        counted.append(self)
        return original(self)

    monkeypatch.setattr(RequestParser, "_parse", count)
    requests = [[b"SET", b"key", value], [b"SET", b"key", value, b"NX"]] * 5  # not of one length: see columns
    wire = b"".join(map(encode_command, requests)) + rest
    assert list(RequestParser().feed(wire, len(wire))) == requests
    assert len(counted) == calls


# ---- limits


@for_each("before", [b"", PING, PING * 2])
@for_each(
    "announcement",
    [b"*1000000000\r\n", b"*1048577\r\n", b"*1048576\r\n", b"~4000000000\r\n", b"*1\r\n$536870912\r\n"]
    + [b"*1\r\n" + kind + b"4000000000\r\n" for kind in (b"*", b"~", b">", b"|", b"%")],
)
def test_an_announcement_of_a_billion_elements_allocates_nothing(
    parse: Parse, announcement: bytes, before: bytes
) -> None:
    parse([PING])
    tracemalloc.start()
    try:
        parse([before + announcement + PING])
        parse([before + announcement])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 150_000


def test_elements_up_to_the_limit_are_taken_and_one_more_is_refused(parse: Parse) -> None:
    assert parse([b"*%d\r\n" % (MAX_ELEMENTS + 1)])[1] == b"ERR Protocol error: invalid multibulk length"
    assert parse([b"*%d\r\n" % MAX_ELEMENTS]) == ([], None)
    wire = encode_command([b"MSET", *[b"k", b"v"] * 6000])
    assert parse(cut(wire, range(16384, len(wire), 16384))) == ([resp(b"MSET", *[b"k", b"v"] * 6000)], None)


@pytest.mark.parametrize("kind", PARSERS.values(), ids=PARSERS)
def test_the_limits_of_bulk_and_query_can_be_set(kind: type[RequestParser]) -> None:
    value = b"v" * 3000
    wire = encode_command([b"SET", b"k", value])
    assert outcome(kind(max_bulk_bytes=3000), [wire, wire * 2]) == ([resp(b"SET", b"k", value)] * 3, None)
    for chunks in ([wire], [wire * 2], [PING + wire]):
        assert outcome(kind(max_bulk_bytes=2999), chunks)[1] == b"ERR Protocol error: invalid bulk length"
    halves = [encode_command([b"MSET", b"a", value, b"b", value])[:-1], b"\n"]
    assert outcome(kind(max_query_bytes=7000), halves)[1] is None
    assert outcome(kind(max_query_bytes=6000), halves) == ([], b"ERR Protocol error: too big query buffer")


@pytest.mark.parametrize("kind", PARSERS.values(), ids=PARSERS)
def test_the_bytes_of_an_unfinished_request_are_counted(kind: type[RequestParser]) -> None:
    parser = kind()
    wire = encode_command([b"SET", b"key", b"v" * 5000])
    for at in range(len(wire) - 1):
        assert list(parser.feed(wire[at : at + 1], 1)) == []
        assert parser.pending_bytes == at + 1
    assert list(parser.feed(wire[-1:] + b"PI", 3)) == [[b"SET", b"key", b"v" * 5000]]
    assert parser.pending_bytes == 2
    assert list(parser.feed(b"NG\n", 3)) == [[b"PING"]]
    assert parser.pending_bytes == 0


def test_a_request_that_dribbles_in_costs_its_bytes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each element is read once: the work is counted, not timed."""
    heads = []
    original = RequestParser._bulk_size

    def counted(self: RequestParser, head: bytes) -> int:
        heads.append(head)
        return original(self, head)

    monkeypatch.setattr(RequestParser, "_bulk_size", counted)
    parser = RequestParser()
    wire = encode_command([b"MSET", *[b"v" * 1500] * 500])
    requests = [argv for at in range(0, len(wire), 64) for argv in parser.feed(wire[at : at + 64], 64)]
    assert [len(argv) for argv in requests] == [501]
    assert len(heads) == 500


# ---- before AUTH


@for_each(
    ("wire", "error"),
    [
        (b"*11\r\n", b"ERR Protocol error: unauthenticated multibulk length"),
        (b"*1\r\n$%d\r\n" % (MAX_BULK_BYTES_BEFORE_AUTH + 1), b"ERR Protocol error: unauthenticated bulk length"),
        (b"*10\r\n", None),
        (b"*1\r\n$%d\r\n" % MAX_BULK_BYTES_BEFORE_AUTH, None),
    ],
)
@for_each("kind", PARSERS.values(), ids=PARSERS)
def test_limits_are_narrow_before_auth(kind: type[RequestParser], wire: bytes, error: bytes | None) -> None:
    for chunks in ([wire], [PING + wire], [wire[:2], wire[2:]]):
        parser = kind()
        parser.authenticated = False
        assert outcome(parser, chunks)[1] == error
        assert outcome(kind(), chunks)[1] is None


@pytest.mark.parametrize("kind", PARSERS.values(), ids=PARSERS)
def test_auth_counts_for_the_next_request_of_the_same_packet(kind: type[RequestParser]) -> None:
    parser = kind()
    parser.authenticated = False
    long = encode_command([b"DEL", *[b"k"] * 20])
    wire = encode_command([b"AUTH", b"x"]) + long * 2
    words = []
    for argv in parser.feed(wire, len(wire)):
        words.append(argv[0])
        parser.authenticated = True
    assert (words, parser.error) == ([b"AUTH", b"DEL", b"DEL"], None)
    parser.authenticated = False
    assert list(parser.feed(long, len(long))) == []
    assert parser.error == b"ERR Protocol error: unauthenticated multibulk length"


# ---- against Redis


@for_each("name", INVALID)
def test_redis_gives_the_same_protocol_error(redis_server: RedisProcess, name: str) -> None:
    wire, error = ERRORS[name]
    with redis_server.raw() as client:
        client.send(wire)
        assert client.read_all() == b"-%b\r\n" % error


@for_each("wire_and_requests", VALID.values(), ids=VALID)
def test_redis_takes_the_same_requests_from_valid_input(
    redis_server: RedisProcess, wire_and_requests: tuple[bytes, list[tuple[str, list[bytes]]]]
) -> None:
    wire, requests = wire_and_requests
    with redis_server.raw() as client:
        client.send(wire + encode_command([b"ECHO", b"the end"]))
        replies = 0
        while client.read_reply() != b"$7\r\nthe end\r\n":
            replies += 1
    assert replies == len(requests)


# ---- telnet

IP, TM, AYT = b"\xff\xf4", b"\xff\xfd\x06", b"\xff\xf6"
TELNET = [
    (IP + TM + b"GET a\n", [[b"GET", b"a"]], b"\xff\xfc\x06"),
    (b"SET a b" + IP + TM + b"c\r\n", [[b"SET", b"a", b"bc"]], b"\xff\xfc\x06"),
    (b"SET a '\xff\xff \xff\xff'\n", [[b"SET", b"a", b"\xff \xff"]], b""),
    (b"\xff\xfb\x1f\xff\xfd\x03\xff\xfe\x01\xff\xfc\x01PING\n", [[b"PING"]], b"\xff\xfe\x1f\xff\xfc\x03"),
    (AYT + b"\nPING\n", [[b"PING"]], b"[Yes]\r\n"),
    (b"SET a \xff\nSET b \xffx\n", [[b"SET", b"a", b"\xff"], [b"SET", b"b", b"\xffx"]], b""),
    (b"PING\n" + IP + b"\n" + encode_command([b"GET", IP]) + b"GET " + IP + b"b\n",
     [[b"PING"], [b"GET", IP], [b"GET", b"b"]], b""),
]  # fmt: skip


@for_each("size", [1, 2, 3, 5, 1000])
@for_each(("wire", "requests", "answers"), TELNET)
def test_telnets_commands_are_taken_out_of_lines_and_answered(
    wire: bytes, requests: list[list[bytes]], answers: bytes, size: int
) -> None:
    parser = RequestParser()
    found = [argv for start in range(0, len(wire), size) for argv in parser.feed(wire[start : start + size], size)]
    assert (found, parser.telnet_answers, parser.error) == (requests, answers, None)


def test_a_command_of_telnet_is_answered_before_its_line_ends() -> None:
    parser = RequestParser()
    assert list(parser.feed(IP + TM, 5)) == []
    assert parser.telnet_answers == b"\xff\xfc\x06"
    assert parser.pending_bytes == 0


def test_a_line_full_of_telnets_commands_is_read_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte is looked at once, also where they come one by one behind a long beginning."""
    parser = RequestParser()
    beginning = b"SET k " + b"\xff\xff" * 16000
    assert list(parser.feed(beginning, len(beginning))) == []
    texts: list[bytes] = []

    def noted(text: bytes) -> tuple[bytes, bytes, bytes]:
        texts.append(text)
        return take_out(text)

    monkeypatch.setattr(protocol, "take_out", noted)
    for _ in range(100):
        assert list(parser.feed(b"\xff\xff", 2)) == []
    assert sum(map(len, texts)) == 200
    assert list(parser.feed(b"\n", 1)) == [[b"SET", b"k", b"\xff" * 16100]]


def test_a_long_line_is_parsed_when_it_is_taken_and_not_before() -> None:
    parser = RequestParser()
    line = b"SET k " + b"'a b' " * 3000
    wire = line + b"\nGET k\n" + b"*1\r\n$4\r\nPING\r\n"
    requests: list[list[bytes]] = []
    kinds = []
    for start in range(0, len(wire), 5000):
        some = parser.feed(wire[start : start + 5000], len(wire[start : start + 5000]))
        kinds.append(type(some))
        requests += some
    assert requests == [[b"SET", b"k", *[b"a b"] * 3000], [b"GET", b"k"], [b"PING"]]
    assert kinds[-1] is LongLine
    waiting = parser.feed(line, len(line))
    assert list(waiting) == []
    taken = parser.feed(b"'\n", 2)
    assert type(taken) is LongLine
    assert list(taken) == [[UNBALANCED]]
    assert parser.error is None
