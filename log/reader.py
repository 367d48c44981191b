"""The log's format: it encodes batches and decodes bytes to whole units. It writes no file and applies no command.

    file     = *line-of-the-original *(batch / command / comment)
    batch    = "#" bytes " " crc32 " " unix-ms " " previous [ " by " client ] CRLF payload
               payload: `bytes` long, RESP commands; client: who asked for them, with --log-clients
    command  = a RESP array of bulk strings outside a batch     what a redis-server wrote
    comment  = "# " ... CRLF / "#TS:" seconds CRLF              "# note" by an operator; "#TS:1700000000" by Redis

1. The checksum covers everything after it: the time, `previous`, CRLF and the payload. A wrong length misplaces the
   end, so the checksum detects it, too.
2. `previous` is the checksum of the batch before. So the batches are a chain, and `linked` finds a batch that is
   missing, doubled, out of order or from another log. (Refused: a sequence number. It does not detect a batch of
   another log, and costs as much.)
3. `read_command`, `read_payload` and UnitReader take bytes and a position and return a unit. They raise `Incomplete`
   with the end that they need, or `Damage` with a reason. They know no file.
4. `units` feeds them from a file in blocks, so memory is bounded by a block and the largest unit.
5. `find_batch`, `find_command` and `is_hole` search for whole units after a fault. `log/replay.py` classifies the fault
   by what they find.

A payload is read by column or by hiredis, and then encoded again. If the bytes are equal, it was commands. Both
together take a third of the time of `read_command`, and are safe because the checksum proves that Godis wrote the
payload. `read_command` checks every byte; it reads commands outside batches, which have no checksum. (Refused for them:
protocol.RequestParser, which knows no offsets and reads lines of text as commands.)

docs/log-format.md has the whole grammar, an example and the faults. The module is one because format, reading and
search share the patterns below.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import BinaryIO, NamedTuple

import hiredis

from protocol import encode_command
from wire.columns import split_columns

BLOCK_BYTES = 1 << 20
CRC_POLYNOMIAL = 0xEDB88320
HEAD = re.compile(
    rb"#([1-9][0-9]{0,9}) ([0-9a-f]{8}) ([0-9]{1,14})"
    rb"(?: ([0-9a-f]{8})(?: ([0-9a-f]{8}))?(?: by ([!-~]{1,200}))?)?\r\n"
)  # bytes, checksum, time, previous, next, client
LONGEST_CLIENT = 200
UNPRINTABLE = re.compile(rb"[^!-~]")
LONGEST_HEAD = 1 + 10 + 1 + 8 + 1 + 14 + 1 + 8 + 1 + 8 + 4 + LONGEST_CLIENT + 2
LATEST_MS = 10**14 - 1  # the latest time that fits a head
FIRST_LINK = b"00000000"  # the `previous` of the first batch of a log
UNLINKED = "the batch does not follow the one before it: batches are missing, doubled, out of order or from another log"
# A line that ends as a head does is no comment but a head with a damaged start: its payload must not pass unverified.
COMMENT = re.compile(
    rb"#(?![^\r\n]*[0-9a-f]{8} [0-9]{1,14}(?: [0-9a-f]{8}){0,2}(?: by [!-~]+)?\r\n)(?: [^\r\n]*|TS:[0-9]{1,20})\r?\n"
)
LONGEST_COMMENT = 1024
COUNT = re.compile(rb"\*([1-9][0-9]{0,9})\r\n")
SIZE = re.compile(rb"\$(0|[1-9][0-9]{0,9})\r\n")
LONGEST_HEADER = 1 + 10 + 2
SOME_COMMAND = re.compile(rb"\*[1-9][0-9]{0,9}\r\n\$")
TEXT_OPENING = re.compile(rb"[A-Za-z]+[ \r\n]")
TEXT_COMMAND = re.compile(rb"^(?:SET|SETEX|DEL) ", re.MULTILINE)
SECTOR_BYTES = 512  # the smallest block of a disk
LEAST_ZEROS = 8  # of a lost page, where a batch should begin; fewer may be a damaged byte
UNSYNCED_MS = 2000  # the greatest age of an unsynced batch under `everysec`
HUGE_COUNT = re.compile(rb"\n[*~>|%][0-9]{7}")  # hiredis would allocate memory for all elements at once
SELECT_0 = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"


class Incomplete(Exception):
    """The unit continues after the given bytes, at least to `end`."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


class Damage(Exception):
    """The bytes are not a unit of a log. `certain` is True if no unfinished write can have left them."""

    def __init__(self, reason: str, certain: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.certain = certain


class Fault(Exception):
    """A log's unit at `offset` cannot be read."""

    def __init__(self, offset: int, reason: str, certain: bool = False, incomplete: bool = False) -> None:
        super().__init__(offset, reason)
        self.offset = offset
        self.reason = reason
        self.certain = certain
        self.incomplete = incomplete


class Kind(Enum):
    """The kind of a unit."""

    BATCH = "batch"
    COMMAND = "command"
    TEXT = "text line"
    COMMENT = "comment"


class Unit(NamedTuple):
    """A whole unit of a log, from `start` to `end`. The command of a text line is its words.

    The `previous` of the next batch must be this batch's `link`. A batch of an older Godis has no `previous`.
    """

    kind: Kind
    start: int
    end: int
    commands: Sequence[list[bytes]]
    time_ms: int = 0
    previous: bytes = b""
    link: bytes = FIRST_LINK
    client: bytes = b""


def frame(payload: bytes, now_ms: int, previous: bytes = b"", link: bytes = b"", client: bytes = b"") -> bytes:
    """Return a batch. `link` is the `previous` of the next batch, if that is not this one's checksum.

    `client` says who asked for it: at most LONGEST_CLIENT printable characters without a space.
    """
    rest = _rest_of_head(now_ms, previous, link, client)
    return b"#%d %08x %b%b" % (len(payload), zlib.crc32(payload, zlib.crc32(rest)), rest, payload)


def frame_head(
    payload: Sequence[bytes | memoryview],
    now_ms: int,
    previous: bytes,
    checksum: int | None = None,
    link: bytes = b"",
) -> bytes:
    """Return the head of a batch whose payload is in pieces. `checksum` is the payload's, if it is known."""
    rest, size = _rest_of_head(now_ms, previous, link), sum(map(len, payload))
    whole = zlib.crc32(rest)
    if checksum is None:
        for piece in payload:
            whole = zlib.crc32(piece, whole)
    else:
        whole = join_checksums(whole, checksum, size)
    return b"#%d %08x %b" % (size, whole, rest)


def _rest_of_head(now_ms: int, previous: bytes, link: bytes, client: bytes = b"") -> bytes:
    """Return the part of a head after the checksum. A time that does not fit is clamped."""
    time_ms = now_ms if 0 <= now_ms <= LATEST_MS else 0 if now_ms < 0 else LATEST_MS
    if not previous:
        return b"%d\r\n" % time_ms
    by = b" by " + client if client else b""
    return b"%d %b %b%b\r\n" % (time_ms, previous, link, by) if link else b"%d %b%b\r\n" % (time_ms, previous, by)


def client_note(address: str, user: bytes, name: bytes) -> bytes:
    """Return the `client` of a head: these three, separated by commas. Only the name may contain a comma."""
    words = address.encode(), user.replace(b",", b"?"), name
    return UNPRINTABLE.sub(b"?", b",".join(words))[:LONGEST_CLIENT]


def link_of(batch: bytes) -> bytes:
    """Return the checksum in the head of a batch, which is the `previous` of the next one."""
    start = batch.index(b" ") + 1
    return batch[start : start + len(FIRST_LINK)]


def join_checksums(first: int, second: int, size: int) -> int:
    """Return the CRC-32 of two concatenated pieces from theirs; `size` is the second one's. O(log size).

    This is zlib's crc32_combine, which Python does not have: the first checksum times x to the power of the second's
    bits. In such a polynomial the highest of the 32 bits is x**0.
    """
    power, square = 1 << 31, 1 << 23  # x**0, x**8
    while size:
        if size & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        size >>= 1
    return _multiply(power, first) ^ second


def _multiply(left: int, right: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (CRC_POLYNOMIAL if right & 1 else 0)
    return product


# Bytes to units


def read_command(data: bytes, start: int) -> tuple[list[bytes], int]:
    """Read one RESP array of bulk strings strictly. Return its argv and its end. Raises Incomplete or Damage."""
    count, position = _read_number(COUNT, data, start)
    argv = []
    for _ in range(count):
        size, position = _read_number(SIZE, data, position)
        end = position + size
        if len(data) < end + 2:
            raise Incomplete(end + 2)
        if data[end : end + 2] != b"\r\n":
            raise Damage("a bulk string is longer than it says")
        argv.append(data[position:end])
        position = end + 2
    return argv, position


def _read_number(pattern: re.Pattern[bytes], data: bytes, start: int) -> tuple[int, int]:
    match = pattern.match(data, start)
    if match is not None:
        return int(match[1]), match.end()
    if len(data) < start + LONGEST_HEADER and data.find(b"\n", start) < 0:
        raise Incomplete(len(data) + 1)
    raise Damage("not a RESP array of bulk strings")


def read_payload(reader: hiredis.Reader, data: bytes, start: int, end: int) -> Sequence[list[bytes]]:
    """Read the commands of a batch whose checksum is right. Raises Damage.

    Commands of one length, as in most batches, are read by column. Others are read by hiredis, which is fast but reads
    replies: it also accepts numbers, nulls, nested arrays and more. So its result must encode to the same bytes. If it
    does not, the strict reader finds the place of the error. The strict reader also reads arrays with a huge count, for
    which hiredis would allocate gigabytes.
    """
    payload = data[start:end]
    columns = split_columns(payload)
    if columns is not None:
        return columns
    if HUGE_COUNT.search(payload) or HUGE_COUNT.match(b"\n" + payload[:LONGEST_HEADER]):
        return [argv for _, argv in strictly(payload)]
    reader.feed(payload)
    try:
        commands: list[list[bytes]] = list(iter(reader.gets, False))
        if all(commands) and b"".join(map(encode_command, commands)) == payload:
            return commands
    except (hiredis.ProtocolError, TypeError):
        pass
    return [argv for _, argv in strictly(payload)]


def strictly(payload: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the commands of a payload by the strict reader, each with its position. Raises Damage."""
    position = 0
    try:
        while position < len(payload):
            start = position
            argv, position = read_command(payload, start)
            yield start, argv
    except (Incomplete, Damage) as error:
        raise Damage(f"the payload is not RESP commands, from its byte {start} on", certain=True) from error


class UnitReader:
    """Reads one unit at a position of some bytes. With `text`, lines of text are read until the first batch."""

    def __init__(self, text: bool) -> None:
        self.text = text
        self._payload_reader = hiredis.Reader()

    def read(self, data: bytes, start: int, base: int = 0) -> Unit:
        """Read the unit at `start` of bytes that are at `base` in the file. Raises Incomplete or Damage."""
        first = data[start : start + 1]
        if first == b"#" and (head := HEAD.match(data, start)) is not None:
            return self._read_batch(data, head, base)
        if self.text:
            return self._read_line(data, start, base)
        if first == b"#":
            return self._read_comment(data, start, base)
        if first == b"*":
            argv, end = read_command(data, start)
            return Unit(Kind.COMMAND, base + start, base + end, [argv])
        raise Damage("neither a batch nor a command starts here")

    def _read_batch(self, data: bytes, head: re.Match[bytes], base: int) -> Unit:
        payload = head.end()
        end = payload + int(head[1])
        if len(data) < end:
            raise Incomplete(end)
        if zlib.crc32(data[head.start(3) : end]) != int(head[2], 16):
            raise Damage("the checksum is wrong")
        commands = read_payload(self._payload_reader, data, payload, end)
        self.text = False
        return Unit(
            Kind.BATCH,
            base + head.start(),
            base + end,
            commands,
            int(head[3]),
            previous=head[4] or b"",
            link=head[5] or head[2],
            client=head[6] or b"",
        )

    def _read_comment(self, data: bytes, start: int, base: int) -> Unit:
        match = COMMENT.match(data, start)
        if match is not None:
            return Unit(Kind.COMMENT, base + start, base + match.end(), [])
        if len(data) < start + LONGEST_COMMENT and data.find(b"\n", start) < 0:
            raise Incomplete(len(data) + 1)
        raise Damage("the head of a batch is damaged")

    def _read_line(self, data: bytes, start: int, base: int) -> Unit:
        end = data.find(b"\n", start) + 1
        if not end:
            raise Incomplete(len(data) + 1)
        if SOME_COMMAND.match(data, start):
            raise Damage("a command without a batch after lines of text")
        if end == len(data) and COUNT.match(data, start):  # the next bytes decide whether it is a command
            raise Incomplete(end + 1)
        return Unit(Kind.TEXT, base + start, base + end, [data[start:end].rstrip(b"\r\n").split(b" ")])


def is_text_log(opening: bytes) -> bool:
    """Return True if a file with this beginning is a log of the original program, which has lines of text."""
    return TEXT_OPENING.match(opening) is not None and TEXT_COMMAND.search(opening) is not None


# A file to units


def units(
    file: BinaryIO, size: int, text: bool = False, block_bytes: int = BLOCK_BYTES, start: int = 0
) -> Iterator[Unit]:
    """Yield the units of the first `size` bytes of a log, from `start` on. Raises Fault at an unreadable unit."""
    reader = UnitReader(text)
    file.seek(start)
    data, base, position = b"", start, 0  # data: the bytes of the file from `base` on
    while base + position < size:
        try:
            if position == len(data):
                raise Incomplete(position + 1)
            unit = reader.read(data, position, base)
        except Incomplete as more:
            if base + more.end > size:
                raise Fault(base + position, "the file ends inside it", incomplete=True) from more
            rest = data[position:]
            fresh = file.read(max(block_bytes, more.end - len(data), len(rest)))
            if not fresh:
                raise Fault(base + position, "the file became shorter while it was read", certain=True) from more
            data, base, position = rest + fresh, base + position, 0
        except Damage as damage:
            raise Fault(base + position, damage.reason, certain=damage.certain) from damage
        else:
            yield unit
            position = unit.end - base


def linked(found: Iterable[Unit]) -> Iterator[Unit]:
    """Yield units from the start of a log. Raises Fault at a batch that does not follow the one before it."""
    link = FIRST_LINK
    for unit in found:
        if unit.kind is Kind.BATCH:
            if unit.previous and unit.previous != link:
                raise Fault(unit.start, UNLINKED, certain=True)
            link = unit.link
        yield unit


def find_batch(file: BinaryIO, start: int, size: int) -> tuple[int, int] | None:
    """Return the offset and the time of the first whole batch at or after `start`; None if there is none.

    Values may contain many heads, each of which costs a checksum. To bound the time, the search ends after checksums of
    sixteen times the bytes of the file, and returns the cautious answer: the next head, as if its batch were whole.
    """
    budget = 16 * (size - start) + BLOCK_BYTES
    base = start
    while base < size:
        file.seek(base)
        data = file.read(BLOCK_BYTES)
        for match in HEAD.finditer(data):
            end = base + match.end() + int(match[1])
            if end > size:
                continue
            budget -= end - base - match.start()
            if budget < 0 or _checksum(file, base + match.start(3), end) == int(match[2], 16):
                return base + match.start(), int(match[3])
        base += max(len(data) - LONGEST_HEAD, LONGEST_HEAD)
    return None


def is_hole(file: BinaryIO, start: int, size: int) -> bool:
    """Return True if the damage at `start` is a page that did not reach the disk before a power loss.

    The system writes unsynced pages in any order. A lost page reads as zeros up to its end, and the zeros begin where a
    batch should begin. A flipped bit does not look so, and zeros inside a batch prove nothing, because a value may hold
    them. After the hole there may be whole batches of the same two seconds, and further holes.
    """
    first_ms = -1
    while (batch := find_batch(file, start + 1, size)) is not None:
        offset, time_ms = batch
        first_ms = time_ms if first_ms < 0 else first_ms
        if not _has_zeros_to_a_sector(file, start):
            return False
        try:
            for unit in units(file, size, start=offset):
                if unit.kind is not Kind.BATCH or abs(unit.time_ms - first_ms) > UNSYNCED_MS:
                    return False
            return True
        except Fault as fault:
            if fault.certain or fault.offset == offset:
                return False
            start = fault.offset
    return first_ms >= 0


def _has_zeros_to_a_sector(file: BinaryIO, start: int) -> bool:
    """Return True if only zeros, and at least LEAST_ZEROS, fill the bytes from `start` to the end of a sector."""
    length = LEAST_ZEROS + -(start + LEAST_ZEROS) % SECTOR_BYTES
    file.seek(start)
    return file.read(length) == bytes(length)


def _checksum(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    checksum = 0
    while start < end:
        block = file.read(min(BLOCK_BYTES, end - start))
        checksum = zlib.crc32(block, checksum)
        start += len(block)
    return checksum


def find_command(file: BinaryIO, start: int, size: int) -> bool:
    """Return True if there is a whole command, outside a batch, after `start`."""
    overlap = BLOCK_BYTES // 16
    while start < size:
        file.seek(start)
        data = file.read(BLOCK_BYTES)
        for match in SOME_COMMAND.finditer(data, 1):
            try:
                read_command(data, match.start())
                return True
            except (Incomplete, Damage):
                continue
        start += max(len(data) - overlap, overlap)
    return False
