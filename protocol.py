r"""The wire format: parses bytes into argv, and encodes replies, in RESP2, RESP3 and the text dialect.

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

The module has more than 500 lines because parser and encoder are the two halves of one format.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain
from typing import Any, ClassVar

import hiredis

from errors import QUERY_TOO_BIG, TEXT_NO_KEY, CommandError, ProtocolError
from replies import (
    OK,
    BigNumber,
    Block,
    Deleted,
    Entries,
    Farewell,
    FlatMap,
    LongArray,
    LongBulk,
    LongEntries,
    LongMap,
    LongPairs,
    LongSet,
    Members,
    Messages,
    NoReply,
    NullArray,
    PairMap,
    Pairs,
    Push,
    Replies,
    Status,
    Strings,
    Verbatim,
)
from wire.columns import CRLF, HEADS, TABLED, Columns, split_columns
from wire.doubles import format_float
from wire.telnet import IAC, take_out

MAX_BULK_BYTES = 512 * 1024 * 1024
MAX_QUERY_BYTES = 1024 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
LONG_LINE_BYTES = 8 * 1024
MAX_ELEMENTS = 1024 * 1024
MAX_ELEMENTS_BEFORE_AUTH = 10
MAX_BULK_BYTES_BEFORE_AUTH = 16 * 1024

HUGE_BYTES = 4 << 20
MOST_HUGE_WORDS = 2048  # a request of more words runs in slices in any case
BLOCK_BYTES = 1 << 16  # a larger piece is not joined with others, because that would copy it
SMALL_BYTES = 4096  # for a longer first request of a pipeline, the searches of the proof cost more than hiredis gains
SMALLER_BYTES = 2048  # the same limit for `split_columns`, which searches every byte of a value for CRLF
SHORT_STRINGS = 512  # members of an array of strings that is encoded at once
SHORT_LIST = 128  # members; a longer list is encoded in slices
OK_PIECE = b"+OK\r\n"
OK_PIECES = [OK_PIECE]  # what `encode_short` returns for the one reply OK; not to be changed
NULL_BULK, NULL_RESP3 = b"$-1\r\n", b"_\r\n"
SKIPPED_PIPELINES = 16  # after a pipeline of different requests, the next 16 are not tried by column
HEADERS = [b"$%d\r\n" % size for size in range(TABLED)]
_SIZES = {head: size for size, head in enumerate(HEADS[:1024])}  # sizes within every limit
_COUNTS = {b"*%d" % count: count for count in range(1, MAX_ELEMENTS_BEFORE_AUTH + 1)}
_STAR, _CR, _LF = b"*\r\n"
_TLS_HANDSHAKE = b"\x16\x03"  # the beginning of a TLS handshake, to which a client would wait for an answer for ever

# Heads that make hiredis allocate before it reads an element. There is one pattern for each first byte, because the
# search for a pattern that begins with a literal is eight times as fast as for one that begins with a set.
_LONG_ARRAY = re.compile(rb"\*\d{5}")
_LONG_OTHERS = [(byte, re.compile(rb"[%c]\d{5}" % byte)) for byte in b"~>|%"]
_OTHER_TYPES = b"+(=~>|%"


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
# A chunk with one of these bytes is not split at spaces: they are special in a line, or begin another kind of input.
_NOT_PLAIN = re.compile(rb"""["'\v\f*\x16\xff]""")
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


# ---------------------------------------------------------------------------------------------- replies

Put = Callable[[Any], None]  # takes bytes or a memoryview


def bulk_header(size: int) -> bytes:
    """Return the head of a bulk string: `$size` and CRLF."""
    return HEADERS[size] if size < TABLED else b"$%d\r\n" % size


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to blocks of BLOCK_BYTES or more; pass larger pieces on without a copy."""
    block: list[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) < BLOCK_BYTES:
            block.append(piece)
            size += len(piece)
            if size < BLOCK_BYTES:
                continue
        if block:
            yield b"".join(block)
            block, size = [], 0
        if len(piece) >= BLOCK_BYTES:
            yield piece
    if block:
        yield b"".join(block)


BETWEEN = [CRLF + header for header in HEADERS]  # from the end of a word to the next one


def encode_command(argv: Sequence[bytes]) -> bytes:
    """Return a request, or the fields of an entry, as a RESP array of bulk strings.

    The lengths of most effects are unrolled: 0.24, 0.28 and 0.35 µs instead of 0.6, 0.8 and 1.0, of some 4 in all.
    """
    try:
        if len(argv) == 3:
            a, b, c = argv
            return b"".join((b"*3", BETWEEN[len(a)], a, BETWEEN[len(b)], b, BETWEEN[len(c)], c, CRLF))
        if len(argv) == 4:
            a, b, c, d = argv
            begin = (b"*4", BETWEEN[len(a)], a, BETWEEN[len(b)], b)
            return b"".join((*begin, BETWEEN[len(c)], c, BETWEEN[len(d)], d, CRLF))
        if len(argv) == 5:
            a, b, c, d, e = argv
            begin = (b"*5", BETWEEN[len(a)], a, BETWEEN[len(b)], b)
            return b"".join((*begin, BETWEEN[len(c)], c, BETWEEN[len(d)], d, BETWEEN[len(e)], e, CRLF))
    except IndexError:  # a size is beyond the table
        pass
    return b"".join(command_pieces(argv))


def command_pieces(argv: Sequence[bytes]) -> list[bytes]:
    """Return the result of `encode_command` in pieces, without a copy of any word."""
    pieces = [b"*%d\r\n" % len(argv)]
    for value in argv:
        size = len(value)
        pieces += (HEADERS[size] if size < TABLED else b"$%d\r\n" % size, value, CRLF)
    return pieces


def entry_pieces(entries: Sequence[tuple[bytes, tuple[bytes, ...]]]) -> list[bytes]:
    """Return entries of a stream, a piece each: with `encode` for each member it takes eight times as long."""
    try:  # the usual entries have one field
        return [
            b"".join((b"*2", BETWEEN[len(key)], key, b"\r\n*2", BETWEEN[len(a)], a, BETWEEN[len(b)], b, CRLF))
            for key, (a, b) in entries
        ]
    except (IndexError, ValueError):
        return [b"*2%b%b\r\n%b" % (BETWEEN[len(key)], key, encode_command(fields)) for key, fields in entries]


def encode(reply: Any, put: Put, resp3: bool) -> None:
    """Pass the encoded reply to `put`, piece by piece. Raises TypeError for a value that is no reply."""
    if isinstance(reply, bytes):
        if isinstance(reply, Status):
            put(b"+%b\r\n" % reply)
        elif resp3 and isinstance(reply, Verbatim):
            put(b"=%d\r\n%b:%b\r\n" % (len(reply) + 4, reply.form, reply))
        elif resp3 and isinstance(reply, BigNumber):
            put(b"(%b\r\n" % reply)
        else:
            put(bulk_header(len(reply)))
            put(reply)
            put(CRLF)
    elif isinstance(reply, memoryview):
        put(bulk_header(len(reply)))
        put(reply)
        put(CRLF)
    elif isinstance(reply, LongBulk):
        put(bulk_header(len(reply)))
        for piece in reply.pieces():
            put(piece)
        put(CRLF)
    elif reply is None:
        put(NULL_RESP3 if resp3 else NULL_BULK)
    elif isinstance(reply, bool):
        put((b"#t\r\n" if reply else b"#f\r\n") if resp3 else b":%d\r\n" % reply)
    elif isinstance(reply, int):
        put(b":%d\r\n" % reply)
    elif isinstance(reply, float):
        text = format_float(reply)
        put(b",%b\r\n" % text if resp3 else b"%b%b\r\n" % (bulk_header(len(text)), text))
    elif isinstance(reply, (list, tuple, set, frozenset, dict)):
        head, members = aggregate(reply, resp3)
        put(head)
        for member in members:
            encode(member, put, resp3)
    elif isinstance(reply, (CommandError, ProtocolError)):
        put(b"-%b\r\n" % reply.text.translate(_ONE_LINE))
    elif isinstance(reply, NullArray):
        put(b"_\r\n" if resp3 else b"*-1\r\n")
    elif isinstance(reply, Entries):
        for piece in chain.from_iterable(entries_parts(reply)):
            put(piece)
    elif isinstance(reply, LongArray):  # within another reply
        encode(reply.members(), put, resp3)
    elif isinstance(reply, Messages):
        for message in reply.messages:
            encode(message, put, resp3)
    elif not isinstance(reply, NoReply):
        raise TypeError(f"not a reply: {reply!r}")


def encode_short(replies: Sequence[Any], resp3: bool) -> list[bytes] | None:
    """Encode short replies of frequent types at once; return None if one of them is long or of another type.

    With `encode` for each reply instead, a GET at P=100 takes 15 % longer, a SET 3 %, an INCR 70 ns.
    """
    first = replies[0]
    if len(replies) == 1:
        if first is OK:
            return OK_PIECES
        if type(first) is bytes and (size := len(first)) < TABLED:
            return [HEADERS[size], first, CRLF]
        if type(first) is int:
            return [b":%d\r\n" % first]
    if first is OK and replies.count(OK) == len(replies):
        return [OK_PIECE * len(replies)]
    if type(first) is int and set(map(type, replies)) == {int}:
        return [(":%d\r\n" * len(replies) % tuple(replies)).encode()]
    pieces: list[bytes] = []
    for reply in replies:
        if type(reply) is bytes:
            size = len(reply)
            if size < TABLED:
                pieces += (HEADERS[size], reply, CRLF)
            elif size < BLOCK_BYTES:
                pieces += (b"$%d\r\n" % size, reply, CRLF)
            else:
                return None
        elif reply is None:
            pieces.append(NULL_RESP3 if resp3 else NULL_BULK)
        elif type(reply) is int or type(reply) is Deleted:
            pieces.append(b":%d\r\n" % reply)
        elif reply is OK:
            pieces.append(OK_PIECE)
        elif type(reply) is Status:
            pieces.append(b"+%b\r\n" % reply)
        elif type(reply) is float:
            text = format_float(reply)
            pieces += (b",", text, CRLF) if resp3 else (HEADERS[len(text)], text, CRLF)
        elif type(reply) is Strings and (encoded := encode_strings(reply)):
            pieces.append(encoded)
        elif type(reply) is Entries and len(reply) <= SHORT_LIST and all(map(_is_short_block, reply.blocks)):
            pieces += chain.from_iterable(entries_parts(reply))
        elif (
            (type(reply) is list or type(reply) is Replies or (type(reply) is Pairs and not resp3))
            and 0 < len(reply) <= SHORT_LIST
            and (members := encode_short(reply, resp3))
        ):
            pieces.append(b"*%d\r\n" % len(reply))
            pieces += members
        elif type(reply) is FlatMap and (encoded := encode_strings(reply, is_map=resp3)):
            pieces.append(encoded)
        else:
            return None
    return pieces


def encode_strings(reply: Strings | FlatMap, is_map: bool = False) -> bytes | None:
    """Encode strings at once; return None if there are many, or they are long."""
    size = b"%%%d" % (len(reply) // 2) if is_map else b"*%d" % len(reply)
    if not reply:
        return size + CRLF
    if len(reply) > SHORT_STRINGS or len(reply) * len(reply[0]) > BLOCK_BYTES:
        return None
    try:
        if len(reply[0]) == len(reply[-1]) and len(set(map(len, reply))) == 1:  # a third of the time again
            head = HEADERS[len(reply[0])]
            return b"%b\r\n%b%b\r\n" % (size, head, (CRLF + head).join(reply))
        pieces = [size]
        for member in reply:
            pieces += (BETWEEN[len(member)], member)
        pieces.append(CRLF)
        encoded = b"".join(pieces)
        return encoded if len(encoded) <= 2 * BLOCK_BYTES else None
    except IndexError:
        return None


def entries_parts(reply: Entries) -> Iterator[list[bytes]]:
    """Encode entries of a stream in parts: their number, then each block."""
    yield [b"*%d\r\n" % len(reply)]
    for block in reply.blocks:
        if block.names is None:
            yield entry_pieces(block.entries())
        else:
            yield [_columns_piece(block.ids, block.names, block.columns)]


def _is_short_block(block: Block) -> bool:
    return block.names is not None or len(block.ids) * len(block.columns[0][-1]) <= BLOCK_BYTES


def _columns_piece(ids: Sequence[bytes], names: tuple[bytes, ...], columns: Sequence[Sequence[bytes]]) -> bytes:
    """Encode entries that have the same names, column by column.

    With the entries made, and encoded by `entry_pieces`, it takes twice as long.
    """
    step = 2 + 2 * len(names)
    try:
        before = [b"\r\n*2", *[BETWEEN[len(name)] + name for name in names]]
        before[1] = b"\r\n*%d%b" % (2 * len(names), before[1])
        pieces = [b""] * (step * len(ids))
        for place, words in enumerate((ids, *columns)):
            sizes = list(map(len, words))
            if sizes.count(sizes[0]) == len(sizes):
                pieces[2 * place :: step] = [before[place] + BETWEEN[sizes[0]]] * len(sizes)
            else:
                pieces[2 * place :: step] = [before[place] + BETWEEN[size] for size in sizes]
            pieces[2 * place + 1 :: step] = words
    except IndexError:
        return b"".join(entry_pieces(Block(ids, names, columns).entries()))
    pieces[0] = pieces[0][2:]
    pieces.append(CRLF)
    return b"".join(pieces)


def encode_head(reply: LongArray, put: Put, is_text: bool, resp3: bool) -> None:
    """Pass the head of a long array to `put`. The caller encodes the members with `encode_chunk`."""
    if reply.before is not None:
        if is_text:
            put(shown(reply.before) + CRLF)
        else:
            put(b"*2\r\n%b%b\r\n" % (bulk_header(len(reply.before)), reply.before))
    if not is_text:
        kind = b"%" if isinstance(reply, LongMap) else b"~" if isinstance(reply, LongSet) else b"*"
        are_pairs = resp3 and isinstance(reply, LongPairs)
        put(b"%b%d\r\n" % (kind if resp3 else b"*", reply.size // 2 if are_pairs else reply.size))
    elif not reply.size:
        put(b"(empty array)\r\n")


def encode_chunk(reply: LongArray, chunk: Sequence[Any], put: Put, resp3: bool) -> None:
    """Pass some members of a long array to `put`."""
    if isinstance(reply, LongEntries):
        for piece in entry_pieces(chunk):
            put(piece)
        return
    are_pairs = resp3 and isinstance(reply, LongPairs) and not isinstance(reply, LongMap)
    short = encode_short(chunk, resp3) if chunk and not are_pairs else None
    if short is not None:  # a third of the time
        for piece in short:
            put(piece)
        return
    for member in zip(chunk[::2], chunk[1::2], strict=True) if are_pairs else chunk:
        encode(member, put, resp3)


_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")  # an error may quote bytes of the client


def aggregate(reply: Any, resp3: bool) -> tuple[bytes, Iterable[Any]]:
    """Return the head of an array, map, set or push, and its members."""
    kind, count, members = b"*", len(reply), reply
    if isinstance(reply, dict):
        members = chain.from_iterable(reply.items())
        kind, count = (b"%", count) if resp3 else (b"*", 2 * count)
    elif resp3 and isinstance(reply, (set, frozenset, Members)):
        kind = b"~"
    elif resp3 and isinstance(reply, PairMap):
        kind, members = b"%", chain.from_iterable(reply)
    elif resp3 and isinstance(reply, Push):
        kind = b">"
    elif resp3 and isinstance(reply, FlatMap):
        kind, count = b"%", count // 2
    elif resp3 and isinstance(reply, Pairs):
        count, members = count // 2, zip(reply[::2], reply[1::2], strict=True)
    return b"%b%d\r\n" % (kind, count), members


TEXT_BLOCK_BYTES = 1 << 14
_PRINTABLE = re.compile(rb"[ -~]*")
_ESCAPES: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in (*range(32), 127)},
    **{code: f"\\xc2\\x{code:02x}" for code in range(128, 160)},  # C1 control characters in UTF-8
    **{0xDC00 + code: f"\\x{code:02x}" for code in range(128, 256)},  # surrogates: bytes that are not UTF-8
    **{ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"},
}
_ESCAPES_IN_LINES = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\r\n"}


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
        yield b"-" * signs + shown(reply.text.translate(_ONE_LINE)) + CRLF
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
