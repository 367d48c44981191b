r"""The wire: bytes to argv, reply to bytes, in RESP2, RESP3 and the text dialect. No I/O, no command, no session.

    *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n     a RESP request: an array of bulk strings
    SET k "hello"\n                                  a text request: one line, Redis's quoting rules

The first byte of a request says which it is. One grammar, two parsers that must agree on every input:

`_parse` is the whole grammar with every limit, a state machine that can stop at any byte and go on with the next;
what it has taken it does not look at again, only a line's beginning (64 KiB at most). 1.7 µs for a SET.

`_whole_requests` is the fast path for a pipeline of RESP requests, 0.27 µs for a SET: hiredis, which reads replies.
Those are a larger language than requests (integers, nulls, nested arrays, maps, other strings, arrays of any size),
so its result counts only when it is proven to be what the state machine would have said. The proof:

1. A head that announces 10 000 elements or more is looked for before hiredis could allocate for it.
2. hiredis is given what seems to be whole requests (all, up to a CRLF at the end, or what lies before the last
   CRLF-and-star), and then an empty array as a probe: if that comes out as it went in, hiredis stood between two
   requests, and nothing is left in it.
3. Each request must be a non-empty list of bytes; join() refuses all else.
4. Of the other types, those that begin with one of `+(=~>|%` also give bytes or lists. If there is such a byte, the
   values that came out must hold as many of them as the input does, so that none can have been a type. (It is no proof
   that none stands at the start of a line: hiredis passes over any two bytes behind a bulk string.)

`_one_request` is the fast path for one small request in the buffer: split at CRLF, each size checked in a table. That
is as fast as hiredis with its proof. Whatever a fast path does not accept goes to the state machine.

Refused: one split of the whole buffer (1.5 times as slow as hiredis with its proof, and lost at the first value that
holds CRLF); to count `*` and `$` as proof of 3 and 4 (`*1`, then `+$PING`, passes it).
Encoder and parser stay in one module, though it is long: they are the two halves of one format.
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
from replies import OK, Deleted, Farewell, LongArray, Members, NoReply, NullArray, Push, Status, Verbatim
from wire.columns import CRLF, HEADS, TABLED, Columns, split_columns
from wire.telnet import IAC, take_out

MAX_BULK_BYTES = 512 * 1024 * 1024
MAX_QUERY_BYTES = 1024 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
LONG_LINE_BYTES = 8 * 1024
MAX_ELEMENTS = 1024 * 1024
MAX_ELEMENTS_BEFORE_AUTH = 10
MAX_BULK_BYTES_BEFORE_AUTH = 16 * 1024

HUGE_BYTES = 4 << 20
MOST_HUGE_WORDS = 2048  # a request of more is executed in slices in any case
BLOCK_BYTES = 1 << 16  # what is larger is not joined, which would copy it
SMALL_BYTES = 4096  # of a first request in a pipeline: for larger ones the search in the proof costs more than it gains
SMALLER_BYTES = 2048  # the same for CRLF, which every byte of a value is looked at for
SHORT_LIST = 64  # members; a longer list is encoded bit by bit
OK_PIECE = b"+OK\r\n"
NULL_BULK, NULL_RESP3 = b"$-1\r\n", b"_\r\n"
UNLIKE_PIPELINES = 16  # after a pipeline of different requests, so many are not tried by column
HEADERS = [b"$%d\r\n" % size for size in range(TABLED)]
_SIZES = {head: size for size, head in enumerate(HEADS[:1024])}  # within any limit
_COUNTS = {b"*%d" % count: count for count in range(1, MAX_ELEMENTS_BEFORE_AUTH + 1)}
_STAR, _CR, _LF = b"*\r\n"
_TLS_HANDSHAKE = b"\x16\x03"  # how a client of TLS begins; it would wait for ever for an answer to that

# Heads that make hiredis allocate before it sees an element, by their first byte. One pattern a byte, because a pattern
# that begins with a literal is searched for eight times as fast as one that begins with a set.
_LONG_ARRAY = re.compile(rb"\*\d{5}")
_LONG_OTHERS = [(byte, re.compile(rb"[%c]\d{5}" % byte)) for byte in b"~>|%"]
_OTHER_TYPES = b"+(=~>|%"


_UNFINISHED = object()  # hiredis's own mark for it is False, which is also what `#f` parses to


def _new_reader() -> hiredis.Reader:
    return hiredis.Reader(notEnoughData=_UNFINISHED)


UNBALANCED = b'"'  # the name of the request that is made of a line whose quotes are not balanced


class TextRequest(list[bytes]):
    """An argv that came as a line of text: answered in text."""


class LongLine(Iterator[list[bytes]]):
    """Requests of which the first is a long line, so that to take it takes long: 12 ms for 60 KB of quotes."""

    def __init__(self, requests: Iterator[list[bytes]]) -> None:
        self._requests = requests

    def __next__(self) -> list[bytes]:
        return next(self._requests)


class HugeRequest(list[bytes]):
    """An argv of so many bytes that what it does may take long: see `Engine.execute_huge`."""


# ---------------------------------------------------------------------------------------------- requests


class RequestParser:
    """Bytes to requests, for one connection."""

    # One for all connections, since nothing is left in it between two calls; its buffer would be 32 KiB for each.
    _reader: ClassVar[hiredis.Reader] = _new_reader()

    def __init__(self, max_bulk_bytes: int = MAX_BULK_BYTES, max_query_bytes: int = MAX_QUERY_BYTES) -> None:
        # for the life of the connection
        self.max_bulk_bytes = max_bulk_bytes
        self.max_query_bytes = max_query_bytes
        self._short_bytes = min(TABLED, max_bulk_bytes)
        self.authenticated = True
        self.error: bytes | None = None
        self.text_seen = False  # whether any request so far came as text
        # input that is not parsed yet, from `_position` on; between two feeds at most a piece of a line
        self._chunk = b""
        self._position = 0
        # the request under way, of which `_taken_bytes` are no longer in the chunk
        self._argv: list[bytes] = []
        self._missing_elements = 0
        self._bulk = BytesIO()
        self._missing_bulk_bytes = 0
        self._taken_bytes = 0
        self._clean_bytes = 0  # of a line under way, in which telnet's commands were looked for
        self.telnet_answers = b""  # to be sent, and emptied, by the connection
        self._unlike = 0  # how many pipelines are not to be tried by column

    @property
    def pending_bytes(self) -> int:
        """How many bytes are held of a request that is not complete."""
        return self._taken_bytes + len(self._chunk) - self._position

    def feed(self, data: bytes | bytearray | memoryview, size: int) -> Iterable[list[bytes]]:
        """Return the requests that the first `size` bytes of `data` complete; nothing of `data` itself is kept.

        Take all of them before the next call, then look at `error`. Before AUTH each is parsed only when it is
        taken, so that what one of them does holds for the next; after it, all are parsed at once.
        """
        chunk = bytes(data[:size])
        if self._chunk or self._taken_bytes or not self.authenticated or self.error is not None or not chunk:
            return self._go_on(chunk)
        if chunk.rfind(b"*") == 0:  # one RESP request in the buffer: the most frequent case
            argv = _one_request(chunk) if size < self._short_bytes else None
            return [argv] if argv is not None else self._rest(chunk)
        return self._all(chunk)

    def _go_on(self, chunk: bytes) -> Iterable[list[bytes]]:
        """Return requests when one is under way; what comes behind it may take the fast path again."""
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
        requests = [argv, *self._all(chunk)] if chunk else [argv]
        return iter(requests) if type(argv) is HugeRequest else requests  # what is no list is executed with care

    def _is_at_text(self) -> bool:
        """Return True if what is under way is a line of text."""
        begun = self._argv or self._missing_elements or self._missing_bulk_bytes
        return not begun and self._chunk[self._position] != _STAR

    def _all(self, chunk: bytes) -> Sequence[list[bytes]]:
        """Return all requests of a chunk that begins with a request."""
        if chunk[0] != _STAR:
            return self._lines(chunk) or self._rest(chunk)
        if chunk.find(b"*", 1, SMALL_BYTES) < 0 or len(chunk) > self.max_bulk_bytes:
            return self._rest(chunk)
        if chunk.endswith(CRLF) and (requests := self._like_requests(chunk) or self._whole_requests(chunk)):
            return requests
        # Three bytes are searched for at 3 GB/s, one at 20: so from the last star on.
        boundary = chunk.rfind(b"\r\n*", 0, chunk.rfind(b"*") + 1) + 2
        whole = chunk[:boundary]
        if boundary > 1 and (requests := self._like_requests(whole) or self._whole_requests(whole)):
            rest = self._rest(chunk[boundary:])
            return [*requests, *rest] if rest else requests
        return self._rest(chunk)

    def _lines(self, chunk: bytes) -> list[list[bytes]] | None:
        """Return the requests of a chunk that is whole lines of plain words, or None if it is anything else.

        A line of three words in 0.5 µs, and by way of the state machine in 1.1.
        """
        if chunk[-1] != _LF or len(chunk) > MAX_LINE_BYTES or _NOT_PLAIN.search(chunk):
            return None
        self.text_seen = True
        return [TextRequest(words) for line in chunk.split(b"\n") if (words := line.split())]

    def _rest(self, chunk: bytes) -> list[list[bytes]]:
        """Return the requests of a chunk by way of the state machine, which keeps what is left over."""
        self._chunk = chunk
        return list(self._one_by_one())

    def _like_requests(self, chunk: bytes) -> Columns | None:
        """Return the requests of a chunk by column, if they are of one length; a client's mostly are, or never.

        Of 100 requests each 60 ns less for a GET and 40 for a SET: 4 % and 3 % of all that they cost.
        """
        if self._unlike:
            self._unlike -= 1
            return None
        if chunk[2] != _CR or chunk.find(b"*", 1, SMALLER_BYTES) < 0:  # a column takes its time, so not more than nine
            return None
        requests = split_columns(chunk)
        if requests is None:
            self._unlike = UNLIKE_PIPELINES
        return requests

    def _whole_requests(self, chunk: bytes) -> list[list[bytes]] | None:
        """Return the requests of a chunk by way of hiredis, or None where that is not proven right.

        ns a request in a pipeline of 100 SETs of 64 bytes: hiredis 150, join 55, search 40, all the rest 20.
        """
        suspects = [byte for byte in _OTHER_TYPES if byte in chunk]
        if _LONG_ARRAY.search(chunk) or (
            suspects and any(byte in suspects and long.search(chunk) for byte, long in _LONG_OTHERS)
        ):
            return None
        reader = self._reader
        try:
            reader.feed(chunk)
            requests = list(iter(reader.gets, _UNFINISHED))
            reader.feed(b"*0\r\n")
            if reader.gets() == [] and all(requests):
                if not suspects:
                    deque(map(b"".join, requests), 0)  # only for its TypeError; one join of all: 66
                    return requests
                values = b"".join(chain.from_iterable(requests))
                # One pass deletes them all: 180 ns a request of random bytes, and 430 to count each.
                if _other_types(chunk) == _other_types(values):
                    return requests
        except (hiredis.HiredisError, TypeError):
            pass  # no request, or not one of bytes: the state machine will say what is wrong
        RequestParser._reader = _new_reader()
        return None

    def _one_by_one(self) -> Iterator[list[bytes]]:
        while (argv := self._next()) is not None:
            yield argv

    def _next(self) -> list[bytes] | None:
        """Return the next request of the input; None if it is not complete, or broken."""
        if self.error:
            return None
        try:
            return self._parse()
        except ProtocolError as error:
            self.error = b"ERR Protocol error: " + error.text
            self.forget()
            return None

    def _parse(self) -> list[bytes] | None:
        """Go on where the last call stopped, to the end of one request: the state machine."""
        chunk, position = self._chunk, self._position
        argv, missing = self._argv, self._missing_elements
        length = len(chunk)
        begin = position - self._taken_bytes  # where the request would begin if all of it were in the chunk
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
        self._hold(begin, position, argv, missing)
        return None

    def _without_telnet(self, line: bytes) -> bytes:
        """Return a line, or what is there of one, without telnet's commands, whose answers are due at once."""
        if line.find(IAC, self._clean_bytes) >= 0:
            clean, answers, rest = take_out(line[self._clean_bytes :])
            line = line[: self._clean_bytes] + clean
            self.telnet_answers += answers
            self._clean_bytes = len(line)
            return line + rest
        self._clean_bytes = len(line)
        return line

    def _hold(self, begin: int, position: int, argv: list[bytes], missing: int) -> None:
        """Keep an unfinished request for the next feed: `argv`, and what lies behind `position`."""
        self._chunk, self._position = self._chunk[position:], 0
        self._argv, self._missing_elements, self._taken_bytes = argv, missing, position - begin
        if self.pending_bytes > self.max_query_bytes:
            raise ProtocolError(QUERY_TOO_BIG)

    def forget(self) -> None:
        """Give up the request under way."""
        self._chunk, self._position = b"", 0
        self._argv, self._missing_elements = [], 0
        self._bulk, self._missing_bulk_bytes = BytesIO(), 0
        self._taken_bytes = self._clean_bytes = 0

    def _fill_bulk(self, chunk: bytes) -> int:
        """Give the open bulk string what the chunk has of it; return the place behind it."""
        position = min(self._missing_bulk_bytes, len(chunk))
        self._bulk.write(chunk[:position])
        self._missing_bulk_bytes -= position
        if not self._missing_bulk_bytes:
            self._bulk.truncate(self._bulk.tell() - 2)
            self._argv.append(self._bulk.getvalue())  # no copy, as one of a bytearray would be: 0.2 s for 512 MB
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
    """Count the bytes that could be another type. No value holds one that its input does not hold."""
    return len(text) - len(text.translate(None, _OTHER_TYPES))


def _one_request(chunk: bytes) -> list[bytes] | None:
    """Return the request that a chunk of less than TABLED bytes is, or None if it is anything else.

    Two and three words are written out: 0.30 and 0.39 µs, against 0.75 and 0.9 the general way, of some 7 µs that a
    request costs in all.
    """
    pieces = chunk.split(CRLF)
    if len(pieces) == 8:
        count, head1, word1, head2, word2, head3, word3, rest = pieces
        if (
            count == b"*3"
            and head1 == HEADS[len(word1)]  # looking the size up by its head instead: 0.47 µs
            and head2 == HEADS[len(word2)]
            and head3 == HEADS[len(word3)]
            and not rest
        ):
            return [word1, word2, word3]
    elif len(pieces) == 6:
        count, head1, word1, head2, word2, rest = pieces
        if count == b"*2" and head1 == HEADS[len(word1)] and head2 == HEADS[len(word2)] and not rest:
            return [word1, word2]
    elif len(pieces) % 2 == 0 and not pieces[-1]:
        argv = pieces[2::2]
        if argv and pieces[0] == b"*%d" % len(argv) and pieces[1:-1:2] == [HEADS[len(word)] for word in argv]:
            return argv
    return None


def _check_line(size: int, what: bytes) -> None:
    if size > MAX_LINE_BYTES:
        raise ProtocolError(b"too big " + what)


def _integer(text: bytes) -> int | None:
    """Read a number as Redis does: 64 bits, no plus, no spaces, no leading zeros."""
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
    rb"""([^ \t\r\n"']*)                                           # a word may begin bare
         (?: (?: "([^"\\]*(?:\\.[^"\\]*)*)"                        # and end in a quoted piece
               | '([^'\\]*(?:\\'[^'\\]*|\\(?!')[^'\\]*)*)' ) (?=\s|\Z)
           | (?=[ \t\r\n]|\Z) )
         \s*""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SPECIAL = re.compile(rb"""["'\v\f]""")  # form feed and the like part words only where a word could begin
# What keeps a chunk of lines from being split at spaces: what is special in a line, and how one of another kind begins.
_NOT_PLAIN = re.compile(rb"""["'\v\f*\x16\xff]""")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_line(line: bytes) -> list[bytes] | None:
    r"""Split a line into words by Redis's rules; None if a quote is open or is followed by more than a space.

    In "double" quotes \n \r \t \b \a and \xff are escapes and any other escaped byte is itself; in 'single' ones
    only \' is.
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

Put = Callable[[Any], None]  # takes bytes, or a part of some


def bulk_header(size: int) -> bytes:
    """Return `$size` and the line's end."""
    return HEADERS[size] if size < TABLED else b"$%d\r\n" % size


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to blocks, and pass large ones as they are."""
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


def encode_command(argv: Sequence[bytes]) -> bytes:
    """Return a request as a RESP array of bulk strings."""
    if len(argv) == 3:  # most effects that are no SET: 0.2 µs instead of 0.4, of 2 that an INCR takes in the engine
        name, key, word = argv
        return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(key), key, len(word), word)
    return b"".join(command_pieces(argv))


def command_pieces(argv: Sequence[bytes]) -> list[bytes]:
    """Return what `encode_command` does, in pieces: nothing is copied."""
    pieces = [b"*%d\r\n" % len(argv)]
    for value in argv:
        size = len(value)
        pieces += (HEADERS[size] if size < TABLED else b"$%d\r\n" % size, value, CRLF)
    return pieces


def format_float(x: float) -> bytes:
    """Return the shortest text that reads back as `x`: 3 and not 3.0; inf, -inf, nan."""
    text = repr(x)
    return (text[:-2] if text.endswith(".0") else text).encode()


def encode(reply: Any, put: Put, resp3: bool) -> None:
    """Hand the wire form of a reply to `put`, piece by piece."""
    if isinstance(reply, bytes):
        if isinstance(reply, Status):
            put(b"+%b\r\n" % reply)
        elif resp3 and isinstance(reply, Verbatim):
            put(b"=%d\r\ntxt:%b\r\n" % (len(reply) + 4, reply))
        else:
            put(bulk_header(len(reply)))
            put(reply)
            put(CRLF)
    elif isinstance(reply, memoryview):
        put(bulk_header(len(reply)))
        put(reply)
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
    elif not isinstance(reply, NoReply):
        raise TypeError(f"not a reply: {reply!r}")


def encode_short(replies: Sequence[Any], resp3: bool) -> list[bytes] | None:
    """Return the wire form of short replies; None where one of them is long, or of another kind.

    The plain way is `encode` for each. It takes 15 % more of a GET at P=100, 3 % of a SET, 70 ns of an INCR.
    """
    first = replies[0]
    if first is OK:
        if len(replies) == 1:
            return [OK_PIECE]
        if replies.count(OK) == len(replies):
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
        elif type(reply) is list and 0 < len(reply) <= SHORT_LIST and (members := encode_short(reply, resp3)):
            pieces.append(b"*%d\r\n" % len(reply))
            pieces += members
        else:
            return None
    return pieces


def encode_head(reply: LongArray, put: Put, is_text: bool) -> None:
    """Hand what comes before the members of a long array to `put`; they follow one by one."""
    if not is_text:
        put(b"*%d\r\n" % reply.size)
    elif not reply.size:
        put(b"(empty array)\r\n")


_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")  # an error may quote what the client sent


def aggregate(reply: Any, resp3: bool) -> tuple[bytes, Iterable[Any]]:
    """Return the head of an array, map, set or push, and the replies that follow it."""
    kind, count, members = b"*", len(reply), reply
    if isinstance(reply, dict):
        members = chain.from_iterable(reply.items())
        kind, count = (b"%", count) if resp3 else (b"*", 2 * count)
    elif resp3 and isinstance(reply, (set, frozenset, Members)):
        kind = b"~"
    elif resp3 and isinstance(reply, Push):
        kind = b">"
    return b"%b%d\r\n" % (kind, count), members


TEXT_BLOCK_BYTES = 1 << 14
_PRINTABLE = re.compile(rb"[ -~]*")
_ESCAPES: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in (*range(32), 127)},
    **{code: f"\\xc2\\x{code:02x}" for code in range(128, 160)},  # C1, as UTF-8 has them
    **{0xDC00 + code: f"\\x{code:02x}" for code in range(128, 256)},  # surrogates: what is no UTF-8
    **{ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"},
}
_ESCAPES_IN_LINES = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\r\n"}


def shown(value: bytes, escapes: dict[int, str] = _ESCAPES) -> bytes:
    r"""Return a value as a terminal may have it: \n, \x1b or \xff for control characters and for what is no UTF-8."""
    if _PRINTABLE.fullmatch(value):
        return value
    return value.decode("utf-8", "surrogateescape").translate(escapes).encode()


def text_pieces(reply: Any, null: bytes = b"(nil)", signs: bool = False) -> Iterator[bytes]:
    """Spell a reply as lines for people, in pieces that take some ms at most.

    `null`: what a null is that is not part of a list. `signs`: a status begins with `+` and an error with `-`.
    """
    if isinstance(reply, (bytes, memoryview)):
        if isinstance(reply, Farewell) and not signs:
            return  # a person sees that the connection closes
        if signs and isinstance(reply, Status):
            yield b"+"
        escapes = _ESCAPES_IN_LINES if isinstance(reply, Verbatim) else _ESCAPES
        begin, size = 0, len(reply)
        while begin < size:
            end = begin + TEXT_BLOCK_BYTES
            if end < size:  # not inside a character, which has four bytes at most
                end = next((place for place in range(end, end - 4, -1) if reply[place] & 0xC0 != 0x80), end)
            yield shown(bytes(reply[begin:end]), escapes)
            begin = end
        yield CRLF
    elif isinstance(reply, Deleted):
        for value in reply.values:  # of a value that is no string: that one went
            yield from text_pieces(value if value is None or isinstance(value, bytes) else 1, TEXT_NO_KEY)
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
