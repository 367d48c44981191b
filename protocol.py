r"""The wire format: this module parses bytes into argv, and is the face of what encodes replies.

    wire/encoder.py    replies in RESP2 and RESP3
    wire/text.py       the text dialect: a line to words, a reply to lines

1. No function does I/O, and none knows commands or sessions.
2. The first byte of a request selects its dialect.
3. The grammar has one complete parser and several fast paths. A fast path returns the same requests as the parser, or
   leaves the input to it.

    *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n     a RESP request: an array of bulk strings
    SET k "hello"\n                                  a text request: one line, Redis's quoting rules

`_parse`, the complete parser, is a state machine with every limit. It can stop at any byte and continue with the next.
It reads no byte twice, except the beginning of an incomplete line (64 KiB at most). A SET takes 1.7 µs.

`_whole_requests` is the fast path for a pipeline of RESP requests: 0.27 µs for a SET. It uses hiredis, which parses
replies. Replies are a larger language than requests: integers, nulls, nested arrays, maps, other strings, arrays of any
size. So its result is used only if it is proven equal to the state machine's. The proof:

1. A search finds any head that announces 10 000 elements or more, before hiredis could allocate for it.
2. hiredis gets what seems to be whole requests: all bytes if they end in CRLF, else those before the last
   CRLF-and-star. Then it gets an empty array as a probe. If hiredis returns the empty array, it was between two
   requests, and its buffer is empty.
3. Each request must be a non-empty list of bytes; join() raises TypeError for all else.
4. Other types that begin with one of `+(=~>|%` also yield bytes or lists. If the input has such a byte, the parsed
   values must contain as many of these bytes as the input, so that none was a type. (To check only the starts of lines
   proves nothing, because hiredis skips any two bytes after a bulk string.)

`_one_request` is the fast path for one small request: it splits at CRLF and checks each size by a table. It is as fast
as hiredis with its proof. `split_columns` (wire/columns.py) parses requests of one length. Input that a fast path does
not accept goes to the state machine.

Refused: one split of the whole buffer, which is 1.5 times as slow as hiredis with its proof, and fails at the first
value that contains CRLF; a count of `*` and `$` as the proof of 3 and 4, because `*1`, then `+$PING`, passes it.

The module has more than 400 lines because the fast paths are only right beside the parser whose results they give.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain
from typing import ClassVar

import hiredis

from errors import QUERY_TOO_BIG, ProtocolError
from wire.columns import CRLF, HEADS, TABLED, Columns, split_columns
from wire.encoder import (
    BETWEEN,
    BLOCK_BYTES,
    HEADERS,
    OK_PIECES,
    SHORT_STRINGS,
    aggregate,
    blocks,
    bulk_header,
    command_pieces,
    encode,
    encode_chunk,
    encode_command,
    encode_head,
    encode_short,
    entries_parts,
)
from wire.telnet import IAC, take_out
from wire.text import TEXT_BLOCK_BYTES, shown, split_line, text_pieces

__all__ = [
    "BETWEEN",
    "BLOCK_BYTES",
    "HEADERS",
    "MAX_BULK_BYTES",
    "MAX_BULK_BYTES_BEFORE_AUTH",
    "MAX_ELEMENTS",
    "MAX_LINE_BYTES",
    "OK_PIECES",
    "SHORT_STRINGS",
    "TEXT_BLOCK_BYTES",
    "UNBALANCED",
    "HugeRequest",
    "LongLine",
    "RequestParser",
    "TextRequest",
    "aggregate",
    "blocks",
    "bulk_header",
    "command_pieces",
    "encode",
    "encode_chunk",
    "encode_command",
    "encode_head",
    "encode_short",
    "entries_parts",
    "shown",
    "split_line",
    "text_pieces",
]

MAX_BULK_BYTES = 512 * 1024 * 1024
MAX_QUERY_BYTES = 1024 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
LONG_LINE_BYTES = 8 * 1024
MAX_ELEMENTS = 1024 * 1024
MAX_ELEMENTS_BEFORE_AUTH = 10
MAX_BULK_BYTES_BEFORE_AUTH = 16 * 1024

HUGE_BYTES = 4 << 20
MOST_HUGE_WORDS = 2048  # a request of more words runs in slices in any case
SMALL_BYTES = 4096  # for a longer first request of a pipeline, the searches of the proof cost more than hiredis gains
SMALLER_BYTES = 2048  # the same limit for `split_columns`, which searches every byte of a value for CRLF
SKIPPED_PIPELINES = 16  # after a pipeline of different requests, the next 16 are not tried by column
_SIZES = {head: size for size, head in enumerate(HEADS[:1024])}  # sizes within every limit
_COUNTS = {b"*%d" % count: count for count in range(1, MAX_ELEMENTS_BEFORE_AUTH + 1)}
_STAR, _CR, _LF = b"*\r\n"
_TLS_HANDSHAKE = b"\x16\x03"  # the beginning of a TLS handshake, to which a client would wait for an answer for ever

# Heads that make hiredis allocate before it reads an element. There is one pattern for each first byte, because the
# search for a pattern that begins with a literal is eight times as fast as for one that begins with a set.
_LONG_ARRAY = re.compile(rb"\*\d{5}")
_LONG_OTHERS = [(byte, re.compile(rb"[%c]\d{5}" % byte)) for byte in b"~>|%"]
_OTHER_TYPES = b"+(=~>|%"
# A chunk with one of these bytes is not split at spaces: they are special in a line, or begin another kind of input.
_NOT_PLAIN = re.compile(rb"""["'\v\f*\x16\xff]""")


_UNFINISHED = object()  # hiredis's default for an incomplete reply is False, which is also the value of `#f`


def _new_reader() -> hiredis.Reader:
    return hiredis.Reader(notEnoughData=_UNFINISHED)


UNBALANCED = b'"'  # the name of the request that stands for a line with unbalanced quotes


class TextRequest(list[bytes]):
    """An argv from a text line. Its reply is in text, except after HELLO."""


class LongLine(Iterator[list[bytes]]):
    """Requests that are parsed one by one, the first from a long line: 60 KB of quotes take 12 ms."""

    def __init__(self, requests: Iterator[list[bytes]]) -> None:
        self._requests = requests

    def __next__(self) -> list[bytes]:
        return next(self._requests)


class HugeRequest(list[bytes]):
    """An argv of more than HUGE_BYTES, whose command may take long: see `Engine.run_huge`."""


# ---------------------------------------------------------------------------------------------- requests


class RequestParser:
    """The parser of one connection's requests."""

    # Shared by all connections, because it is empty between two calls. One for each would have a buffer of 32 KiB.
    _reader: ClassVar[hiredis.Reader] = _new_reader()

    def __init__(self, max_bulk_bytes: int = MAX_BULK_BYTES, max_query_bytes: int = MAX_QUERY_BYTES) -> None:
        # The limits do not change during the connection.
        self.max_bulk_bytes = max_bulk_bytes
        self.max_query_bytes = max_query_bytes
        self._short_bytes = min(TABLED, max_bulk_bytes)
        self.authenticated = True
        self.error: bytes | None = None
        self.text_seen = False  # True after the first text line
        # Input that is not parsed yet, from `_position` on. Between two feeds it is at most a part of a line.
        self._chunk = b""
        self._position = 0
        # The incomplete request; `_taken_bytes` of it are no longer in the chunk.
        self._argv: list[bytes] = []
        self._missing_elements = 0
        self._bulk = BytesIO()
        self._missing_bulk_bytes = 0
        self._taken_bytes = 0
        self._clean_bytes = 0  # of an incomplete line, already searched for telnet's commands
        self.telnet_answers = b""  # the connection sends them and empties this
        self._pipelines_to_skip = 0  # the number of pipelines that are not to be tried by column

    @property
    def pending_bytes(self) -> int:
        """The bytes of the incomplete request that are kept."""
        return self._taken_bytes + len(self._chunk) - self._position

    def feed(self, data: bytes | bytearray | memoryview, size: int) -> Iterable[list[bytes]]:
        """Return the requests that the first `size` bytes of `data` complete. The bytes are copied.

        The caller consumes all requests before the next call, then checks `error`. Before AUTH, each request is parsed
        only when the iterator reaches it, so that an AUTH takes effect for the next. After AUTH all are parsed at once.
        """
        chunk = bytes(data[:size])
        if self._chunk or self._taken_bytes or not self.authenticated or self.error is not None or not chunk:
            return self._continue(chunk)
        star = chunk.rfind(b"*")
        # Probably one RESP request, the most frequent case; an XADD has one star more, with which no request begins.
        if star == 0 or (star == chunk.find(b"*", 1) and chunk.startswith(b"*\r\n", star)):
            argv = _one_request(chunk) if size < self._short_bytes else None
            return [argv] if argv is not None else self._parse_rest(chunk)
        return self._parse_all(chunk)

    def _continue(self, chunk: bytes) -> Iterable[list[bytes]]:
        """Return the requests that complete when one is incomplete; those after it may take the fast path again."""
        if self.error is not None:
            return ()
        self._chunk += chunk
        if len(self._chunk) > LONG_LINE_BYTES and self._is_at_text():
            return LongLine(self._one_by_one())
        if not self.authenticated:
            return self._one_by_one()
        argv = self._next()
        if argv is None:
            return ()
        chunk = self._chunk[self._position :]
        self._chunk, self._position = b"", 0
        requests = [argv, *self._parse_all(chunk)] if chunk else [argv]
        return iter(requests) if type(argv) is HugeRequest else requests  # the connection runs an iterator's one by one

    def _is_at_text(self) -> bool:
        """Return True if the incomplete request is a text line."""
        begun = self._argv or self._missing_elements or self._missing_bulk_bytes
        return not begun and self._chunk[self._position] != _STAR

    def _parse_all(self, chunk: bytes) -> Sequence[list[bytes]]:
        """Return all complete requests of a chunk that begins with a request."""
        if chunk[0] != _STAR:
            return self._parse_lines(chunk) or self._parse_rest(chunk)
        if chunk.find(b"*", 1, SMALL_BYTES) < 0 or len(chunk) > self.max_bulk_bytes:
            return self._parse_rest(chunk)
        if chunk.endswith(CRLF) and (requests := self._by_column(chunk) or self._whole_requests(chunk)):
            return requests
        # The search for three bytes reads 3 GB/s, the one for a single byte 20: so it starts at the last star.
        boundary = chunk.rfind(b"\r\n*", 0, chunk.rfind(b"*") + 1) + 2
        whole = chunk[:boundary]
        if boundary > 1 and (requests := self._by_column(whole) or self._whole_requests(whole)):
            rest = self._parse_rest(chunk[boundary:])
            return [*requests, *rest] if rest else requests
        return self._parse_rest(chunk)

    def _parse_lines(self, chunk: bytes) -> list[list[bytes]] | None:
        """Return the requests of a chunk of complete lines of plain words, or None for any other chunk.

        A line of three words takes 0.5 µs; in the state machine it takes 1.1.
        """
        if chunk[-1] != _LF or len(chunk) > MAX_LINE_BYTES or _NOT_PLAIN.search(chunk):
            return None
        self.text_seen = True
        return [TextRequest(words) for line in chunk.split(b"\n") if (words := line.split())]

    def _parse_rest(self, chunk: bytes) -> list[list[bytes]]:
        """Parse a chunk with the state machine, which keeps an incomplete request at the end."""
        self._chunk = chunk
        return list(self._one_by_one())

    def _by_column(self, chunk: bytes) -> Columns | None:
        """Return the requests of a chunk by column, or None if they differ in length.

        In a pipeline of 100 a GET takes 60 ns less than by hiredis, and a SET 40: 4 % and 3 % of their total cost.
        After a failure some pipelines are not tried, because a client's requests are mostly alike or never.
        """
        if self._pipelines_to_skip:
            self._pipelines_to_skip -= 1
            return None
        if chunk[2] != _CR or chunk.find(b"*", 1, SMALLER_BYTES) < 0:  # each column costs time, so nine at most
            return None
        requests = split_columns(chunk)
        if requests is None:
            self._pipelines_to_skip = SKIPPED_PIPELINES
        return requests

    def _whole_requests(self, chunk: bytes) -> list[list[bytes]] | None:
        """Parse a chunk with hiredis; return None unless the result is proven right.

        A SET of 64 bytes in a pipeline of 100 takes 265 ns: hiredis 150, join 55, search 40, the rest 20.
        """
        types = [byte for byte in _OTHER_TYPES if byte in chunk]
        if _LONG_ARRAY.search(chunk) or (
            types and any(byte in types and long.search(chunk) for byte, long in _LONG_OTHERS)
        ):
            return None
        reader = self._reader
        try:
            reader.feed(chunk)
            requests = list(iter(reader.gets, _UNFINISHED))
            reader.feed(b"*0\r\n")
            if reader.gets() == [] and all(requests):
                if not types:
                    deque(map(b"".join, requests), 0)  # only for the TypeError; one join of all values takes 66 ns
                    return requests
                values = b"".join(chain.from_iterable(requests))
                # One pass that deletes them takes 180 ns for a request of random bytes; a count of each takes 430.
                if _other_types(chunk) == _other_types(values):
                    return requests
        except (hiredis.HiredisError, TypeError):
            pass  # not a request, or not one of bytes: the state machine finds the error
        RequestParser._reader = _new_reader()
        return None

    def _one_by_one(self) -> Iterator[list[bytes]]:
        while (argv := self._next()) is not None:
            yield argv

    def _next(self) -> list[bytes] | None:
        """Return the next request of the input; None if it is incomplete or malformed (see `error`)."""
        if self.error:
            return None
        try:
            return self._parse()
        except ProtocolError as error:
            self.error = b"ERR Protocol error: " + error.text
            self.forget()
            return None

    def _parse(self) -> list[bytes] | None:
        """Continue where the last call stopped, up to the end of one request: the state machine.

        It has more than 60 lines because its state is in local variables, which its parts would have to pass around.
        """
        chunk, position = self._chunk, self._position
        argv, missing = self._argv, self._missing_elements
        length = len(chunk)
        begin = position - self._taken_bytes  # the request's beginning, relative to the chunk
        end = 0
        line = b""
        if self._missing_bulk_bytes:
            position = self._fill_bulk(chunk)
            missing -= not self._missing_bulk_bytes
        while not self._missing_bulk_bytes:
            if missing:
                end = chunk.find(_CR, position)
                if end < 0 or end + 2 > length:
                    line = b"bulk count string"
                    break
                head = chunk[position:end]
                size = _SIZES.get(head)
                if size is None:
                    size = self._bulk_size(head)
                first = end + 2
                position = first + size
                if position + 2 > length:
                    self._bulk.write(chunk[first:])
                    self._missing_bulk_bytes = position + 2 - length
                    position = length
                    break
                argv.append(chunk[first:position])
                position += 2
                missing -= 1
            elif argv:
                if self._taken_bytes > HUGE_BYTES and (len(argv) <= MOST_HUGE_WORDS or len(argv[0]) > MAX_LINE_BYTES):
                    argv = HugeRequest(argv)
                self._position, self._argv, self._missing_elements, self._taken_bytes = position, [], 0, 0
                return argv
            elif position >= length:
                self.forget()
                return None
            elif chunk[position] == _STAR:
                begin, end = position, chunk.find(_CR, position)
                if end < 0 or end + 2 > length:
                    line = b"mbulk count string"
                    break
                missing = self._element_count(chunk[position:end])
                position = end + 2
            else:
                begin, end = position, chunk.find(_LF, position)
                self.text_seen = True
                if chunk.startswith(_TLS_HANDSHAKE, position):
                    raise ProtocolError(b"this port does not speak TLS")
                if end < 0:
                    line = b"inline request"
                    self._chunk = chunk[:position] + self._without_telnet(chunk[position:])
                    length = len(self._chunk)
                    break
                argv = _text_request(self._without_telnet(chunk[position:end])) or []
                self._clean_bytes = 0
                position = end + 1
        if end < 0:
            _check_line(length - position, line)
        self._keep(begin, position, argv, missing)
        return None

    def _without_telnet(self, line: bytes) -> bytes:
        """Return a line, complete or not, without telnet's commands, and add their answers to `telnet_answers`."""
        if line.find(IAC, self._clean_bytes) >= 0:
            clean, answers, rest = take_out(line[self._clean_bytes :])
            line = line[: self._clean_bytes] + clean
            self.telnet_answers += answers
            self._clean_bytes = len(line)
            return line + rest
        self._clean_bytes = len(line)
        return line

    def _keep(self, begin: int, position: int, argv: list[bytes], missing: int) -> None:
        """Store an incomplete request for the next feed: `argv`, and the chunk from `position` on."""
        self._chunk, self._position = self._chunk[position:], 0
        self._argv, self._missing_elements, self._taken_bytes = argv, missing, position - begin
        if self.pending_bytes > self.max_query_bytes:
            raise ProtocolError(QUERY_TOO_BIG)

    def forget(self) -> None:
        """Discard the incomplete request."""
        self._chunk, self._position = b"", 0
        self._argv, self._missing_elements = [], 0
        self._bulk, self._missing_bulk_bytes = BytesIO(), 0
        self._taken_bytes = self._clean_bytes = 0

    def _fill_bulk(self, chunk: bytes) -> int:
        """Append the chunk's part of the incomplete bulk string; return the position after it."""
        position = min(self._missing_bulk_bytes, len(chunk))
        self._bulk.write(chunk[:position])
        self._missing_bulk_bytes -= position
        if not self._missing_bulk_bytes:
            self._bulk.truncate(self._bulk.tell() - 2)
            self._argv.append(self._bulk.getvalue())  # no copy; a bytearray would need one, 0.2 s for 512 MB
            self._bulk = BytesIO()
        return position

    def _element_count(self, head: bytes) -> int:
        count = _COUNTS.get(head)
        if count is not None:
            return count
        _check_line(len(head), b"mbulk count string")
        count = _integer(head[1:])
        if count is None or count > MAX_ELEMENTS:
            raise ProtocolError(b"invalid multibulk length")
        if count > MAX_ELEMENTS_BEFORE_AUTH and not self.authenticated:
            raise ProtocolError(b"unauthenticated multibulk length")
        return max(count, 0)

    def _bulk_size(self, head: bytes) -> int:
        _check_line(len(head), b"bulk count string")
        if head[:1] != b"$":
            raise ProtocolError(b"expected '$', got '%b'" % (head[:1].strip() or b" "))
        size = _integer(head[1:])
        if size is None or not 0 <= size <= self.max_bulk_bytes:
            raise ProtocolError(b"invalid bulk length")
        if size > MAX_BULK_BYTES_BEFORE_AUTH and not self.authenticated:
            raise ProtocolError(b"unauthenticated bulk length")
        return size


def _other_types(text: bytes) -> int:
    """Count the bytes that could begin another type. A parsed value has no such byte that its input lacks."""
    return len(text) - len(text.translate(None, _OTHER_TYPES))


def _one_request(chunk: bytes) -> list[bytes] | None:
    """Parse a chunk of less than TABLED bytes that is one request; return None for any other chunk.

    The code for two to five words is unrolled: 0.30, 0.39, 0.65, 0.73 µs instead of 0.75, 0.9, 1.3, 1.4. A request
    takes some 7 µs in all.
    """
    pieces = chunk.split(CRLF)
    size = len(pieces)
    if size == 8:
        count, head1, word1, head2, word2, head3, word3, rest = pieces
        if (
            count == b"*3"
            and head1 == HEADS[len(word1)]  # looking the size up by its head instead: 0.47 µs
            and head2 == HEADS[len(word2)]
            and head3 == HEADS[len(word3)]
            and not rest
        ):
            return [word1, word2, word3]
    elif size == 6:
        count, head1, word1, head2, word2, rest = pieces
        if count == b"*2" and head1 == HEADS[len(word1)] and head2 == HEADS[len(word2)] and not rest:
            return [word1, word2]
    elif size == 10:
        count, head1, word1, head2, word2, head3, word3, head4, word4, rest = pieces
        if (
            count == b"*4"
            and head1 == HEADS[len(word1)]
            and head2 == HEADS[len(word2)]
            and head3 == HEADS[len(word3)]
            and head4 == HEADS[len(word4)]
            and not rest
        ):
            return [word1, word2, word3, word4]
    elif size == 12:
        count, head1, word1, head2, word2, head3, word3, head4, word4, head5, word5, rest = pieces
        if (
            count == b"*5"
            and head1 == HEADS[len(word1)]
            and head2 == HEADS[len(word2)]
            and head3 == HEADS[len(word3)]
            and head4 == HEADS[len(word4)]
            and head5 == HEADS[len(word5)]
            and not rest
        ):
            return [word1, word2, word3, word4, word5]
    elif size % 2 == 0 and not pieces[-1]:
        argv = pieces[2::2]
        if argv and pieces[0] == b"*%d" % len(argv) and pieces[1:-1:2] == [HEADS[len(word)] for word in argv]:
            return argv
    return None


def _check_line(size: int, what: bytes) -> None:
    if size > MAX_LINE_BYTES:
        raise ProtocolError(b"too big " + what)


def _integer(text: bytes) -> int | None:
    """Parse an integer as Redis does: 64 bits, no plus, no spaces, no leading zeros. Return None for other texts."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > 19 or (digits[:1] == b"0" and len(text) > 1):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _text_request(line: bytes) -> list[bytes]:
    _check_line(len(line), b"inline request")
    argv = split_line(line[:-1] if line.endswith(b"\r") else line)
    return TextRequest([UNBALANCED] if argv is None else argv)
