"""The arguments that commands of streams share: IDs, ranges of IDs, trimming, options; and entries as replies.

1. An ID is `milliseconds-sequence`, both unsigned 64-bit integers, or the milliseconds alone.
2. Nothing here reads a key, except `group_of`.

The module has more than 400 lines because the commands share one grammar of options, which is read here as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from commands import fold
from commands.arguments import (
    MAX_INTEGER,
    MIN_INTEGER,
    MOST_OPTION_WORDS,
    check_read_words,
    parse_bounded,
    parse_integer,
)
from commands.blocking import wait_for
from commands.long_commands import PART_WORDS, collected, with_keys_locked
from errors import (
    CLAIM_NEGATIVE,
    CLAIM_NOT_AN_INTEGER,
    GROUP_MISSING,
    INVALID_STREAM_ID,
    INVALID_TIMEOUT,
    LIMIT_WITHOUT_STRATEGY,
    LIMIT_WITHOUT_TILDE,
    MAXLEN_AND_MINID,
    MAXLEN_NEGATIVE,
    NEGATIVE_TIMEOUT,
    NO_GROUP,
    NO_GROUP_OF_STREAM,
    NO_STRATEGY,
    ONLY_XREADGROUP,
    QUOTED_BYTES,
    RANGE_END_INVALID,
    RANGE_START_INVALID,
    SYNTAX,
    TOO_MANY_WORDS,
    TRIM_LIMIT_NEGATIVE,
    UNBALANCED_STREAMS,
    CommandError,
)
from replies import NULL_ARRAY, Entries, LongEntries, PairMap, Reply
from session import Session
from store import EffectLog, Store
from values.consumer_groups import Group
from values.stream_chunks import MOST_ID, MOST_SEQUENCE, SEQUENCE_BITS, format_id
from values.stream_type import STREAM
from values.streams import Stream

T = TypeVar("T")

# A number may have white space, a plus sign and zeros before it, as strtoull takes it in Redis.
NUMBER = rb"[ \t-\r]*\+?([0-9]{1,100})"
ID = re.compile(NUMBER + b"(?:-" + NUMBER + b")?")
NEXT_ID = re.compile(NUMBER + rb"-\*")
LONGEST_ID = 127

AT_ONCE_ENTRIES = 1024
MOST_SECONDS = 10**9  # of a timeout: thirty years
NO_CLAIM = -1
# Whoever waits and claims looks again after a tenth of the time that entries must have been idle, within these limits.
IDLE_PARTS, LEAST_PAUSE_MS, MOST_PAUSE_MS = 10, 100, 1000
MODES = KEEPREF, DELREF, ACKED = b"KEEPREF", b"DELREF", b"ACKED"  # what a deletion does to pending entries
DEFAULT_LIMIT = 10_000  # entries that MAXLEN ~ or MINID ~ deletes at most


# ---- IDs


def parse_id(word: bytes, missing_sequence: int = 0) -> int:
    """Return the ID that a word says; without a sequence number, that with `missing_sequence`. Raises CommandError."""
    found = ID.fullmatch(word) if len(word) <= LONGEST_ID else None
    if found is None:
        raise CommandError(INVALID_STREAM_ID)
    time_text, sequence_text = found.groups()
    time_ms, sequence = int(time_text), missing_sequence if sequence_text is None else int(sequence_text)
    if time_ms > MOST_SEQUENCE or sequence > MOST_SEQUENCE:
        raise CommandError(INVALID_STREAM_ID)
    return time_ms << SEQUENCE_BITS | sequence


def parse_time_of_next(word: bytes) -> int | None:
    """Return the milliseconds of `milliseconds-*`; None for a word of another form."""
    found = NEXT_ID.fullmatch(word) if word.endswith(b"-*") and len(word) <= LONGEST_ID else None
    if found is None or int(found[1]) > MOST_SEQUENCE:
        return None
    return int(found[1])


def parse_start(word: bytes) -> int:
    """Return the first ID of a range: an ID, `(` before one that is excluded, `-` or `+`."""
    if word[:1] == b"(" and len(word) > 1:
        start = parse_id(word[1:]) + 1
        if start > MOST_ID:
            raise CommandError(RANGE_START_INVALID)
        return start
    return 0 if word == b"-" else MOST_ID if word == b"+" else parse_id(word)


def parse_end(word: bytes) -> int:
    """Return the last ID of a range: an ID, `(` before one that is excluded, `-` or `+`."""
    if word[:1] == b"(" and len(word) > 1:
        end = parse_id(word[1:], MOST_SEQUENCE) - 1
        if end < 0:
            raise CommandError(RANGE_END_INVALID)
        return end
    return 0 if word == b"-" else MOST_ID if word == b"+" else parse_id(word, MOST_SEQUENCE)


# ---- trimming


class Trimming(NamedTuple):
    """What MAXLEN and MINID ask for. `limit` is that of the entries to delete; 0: none.

    Trimming is exact, also with `~`: it costs no more here.
    """

    is_by_id: bool
    threshold: int
    limit: int
    mode: bytes = KEEPREF

    def excess(self, stream: Stream) -> int:
        """Return how many entries are to be deleted."""
        excess = stream.count_below(self.threshold) if self.is_by_id else max(stream.length - self.threshold, 0)
        return min(excess, self.limit) if self.limit else excess


class Options(NamedTuple):
    """What stands between the key and the ID of XADD, or behind the key of XTRIM."""

    strategy: bytes  # MAXLEN, MINID, or nothing
    threshold: int
    is_approximate: bool
    limit: int | None
    makes_stream: bool
    mode: bytes  # of MODES, or nothing
    behind: int  # position of the first word that is no option

    def trimming(self, store: Store, is_required: bool = False) -> Trimming | None:
        """Return the trimming that is asked for. Raises CommandError if the options do not fit each other.

        redis-server logs the length that a trimming with LIMIT left, and leaves the LIMIT there: replay ignores it.
        """
        if self.limit and not self.strategy:
            raise CommandError(LIMIT_WITHOUT_STRATEGY)
        if is_required and not self.strategy:
            raise CommandError(NO_STRATEGY)
        is_replay = store.expired_until_ms == 0
        if self.limit is not None and not self.is_approximate and not is_replay:
            raise CommandError(LIMIT_WITHOUT_TILDE)
        if not self.strategy:
            return None
        limit = (DEFAULT_LIMIT if self.is_approximate else 0) if self.limit is None else self.limit
        return Trimming(self.strategy == b"MINID", self.threshold, 0 if is_replay else limit, self.mode or KEEPREF)


def parse_options(argv: Sequence[bytes], is_add: bool) -> Options:
    """Parse the options of XADD, which end before its ID, or of XTRIM. Raises CommandError."""
    strategy, threshold, is_approximate, makes_stream, mode = b"", 0, False, True, b""
    limit: int | None = None
    place = 2
    while place < len(argv):
        if place > MOST_OPTION_WORDS:
            raise CommandError(TOO_MANY_WORDS % (fold(argv[0]).lower(), MOST_OPTION_WORDS))
        word, has_more = fold(argv[place]), place + 1 < len(argv)
        if word in (b"MAXLEN", b"MINID") and has_more:
            if strategy:
                raise CommandError(MAXLEN_AND_MINID)
            strategy, place = word, place + 1
            is_approximate = argv[place] == b"~" and place + 1 < len(argv)
            if argv[place] in (b"~", b"=") and place + 1 < len(argv):
                place += 1
            threshold = parse_id(argv[place]) if word == b"MINID" else parse_integer(argv[place])
            if threshold < 0:
                raise CommandError(MAXLEN_NEGATIVE)
        elif word == b"LIMIT" and has_more:
            place += 1
            limit = parse_integer(argv[place])
            if limit < 0:
                raise CommandError(TRIM_LIMIT_NEGATIVE)
        elif word == b"NOMKSTREAM" and is_add:
            makes_stream = False
        elif word in MODES and not mode:
            mode = word
        else:
            break
        place += 1
    return Options(strategy, threshold, is_approximate, limit, makes_stream, mode, place)


# ---- groups


def group_of(stream: Stream | None, key: bytes, name: bytes, text: bytes = NO_GROUP) -> Group:
    """Return a group of a stream. Raises CommandError if there is no stream, or no such group."""
    group = None if stream is None else stream.groups.get(name)
    if group is None:
        raise CommandError(text % (key[:QUOTED_BYTES], name[:QUOTED_BYTES]))
    return group


def named_group(stream: Stream, key: bytes, name: bytes) -> Group:
    """Return a group of an existing stream. Raises CommandError, with the text of XGROUP and XINFO."""
    group = stream.groups.get(name)
    if group is None:
        raise CommandError(NO_GROUP_OF_STREAM % (name[:QUOTED_BYTES], key[:QUOTED_BYTES]))
    return group


# ---- writes that take long


def locked(session: Session, key: bytes, work: Generator[None, None, T]) -> Generator[None, None, T]:
    """Do work of which each step is a command of its own, with its key locked; log the effects of all as one."""
    (result,) = yield from all_locked(session, [(key, work)])
    return result


def all_locked(
    session: Session, works: Sequence[tuple[bytes, Generator[None, None, T]]]
) -> Generator[None, None, list[T]]:
    """Do works of which each step is a command of its own on a key, with all keys locked; return their results."""
    return with_keys_locked(session, [key for key, _ in works], lambda effects: _all_collected(session, effects, works))


def _all_collected(
    session: Session, all_effects: EffectLog, works: Sequence[tuple[bytes, Generator[None, None, T]]]
) -> Generator[None, None, list[T]]:
    """Do works, and collect their effects.

    A locked key may expire, and then its DEL is in the log before all effects. Those on this key are dropped then:
    XCLAIM and XGROUP would fail where there is no key.
    """
    db, log, results = session.db, session.store.log, []
    effects_of = [(key, log.begin()) for key, _ in works]
    try:
        for (_, work), (_, effects) in zip(works, effects_of, strict=True):
            results.append((yield from collected(session, effects, work)))
        return results
    finally:
        for key, effects in effects_of:
            if db.peek(key) is not None:
                all_effects.commit(effects, [{key}], [])


def ids_in_parts(words: list[bytes]) -> Generator[None, None, tuple[list[int], CommandError | None]]:
    """Parse many IDs, in slices. Return them, and the error if one is wrong."""
    ids: list[int] = []
    for start in range(0, len(words), PART_WORDS):
        try:
            ids += map(parse_id, words[start : start + PART_WORDS])
        except CommandError as error:
            return ids, error
        yield
    return ids, None


# ---- entries as replies


def entry_reply(entry_id: int, fields: tuple[bytes, ...]) -> Any:
    """Return an entry as commands reply with it."""
    return format_id(entry_id), fields


def range_reply(
    stream: Stream, start: int, end: int, count: int = 0, is_reverse: bool = False
) -> Entries | LongEntries:
    """Return the entries of a range, at most `count` (0: all)."""
    found, size = [], 0
    for block in stream.blocks(start, end, count or stream.length, is_reverse):
        found.append(block)
        size += len(block.ids)
        if size > AT_ONCE_ENTRIES:
            return _long_range(stream.copy(), start, end, count or stream.length, is_reverse)
    return Entries(found)


def _long_range(stream: Stream, start: int, end: int, count: int, is_reverse: bool) -> LongEntries:
    """Return the entries of a range of a stream that nobody changes; each chunk is unpacked when it is sent."""
    spans, size = stream.spans(start, end, count, is_reverse)
    held_bytes = stream.size_bytes() * size // stream.length
    return LongEntries(spans, held_bytes, size, lambda span: stream.read_span(span, is_reverse))


def read_reply(found: list[tuple[bytes, Stream, int]], count: int) -> Reply:
    """Return the entries of streams that follow an ID, as XREAD replies with them: `(key, stream, ID)` of each."""
    pairs, made = PairMap(), 0
    for key, stream, after in found:
        if made <= AT_ONCE_ENTRIES:
            entries = range_reply(stream, after + 1, MOST_ID, count)
        else:
            entries = _long_range(stream.copy(), after + 1, MOST_ID, count or stream.length, is_reverse=False)
        pairs.append((key, entries))
        made += len(entries) if isinstance(entries, Entries) else AT_ONCE_ENTRIES
    return pairs


# ---- XREAD and XREADGROUP


class Reading(NamedTuple):
    """What XREAD or XREADGROUP asks for."""

    most: int  # entries of each stream; 0: all
    block_ms: int | None
    group: bytes
    consumer: bytes
    is_group: bool
    is_noack: bool
    least_idle_ms: int  # of pending entries to claim, or NO_CLAIM
    keys: list[bytes]
    ids: list[bytes]


def parse_read(argv: list[bytes], is_group: bool) -> Reading:
    """Parse an XREAD or an XREADGROUP. Raises CommandError."""
    check_read_words(argv)
    count, block_ms, group, consumer, is_noack, least_idle_ms = 0, None, None, b"", False, NO_CLAIM
    place = 1
    while place < len(argv):
        word, more = fold(argv[place]), len(argv) - place - 1
        if word == b"BLOCK" and more:
            block_ms = _parse_timeout(argv[place + 1])
        elif word == b"COUNT" and more:
            count = max(parse_integer(argv[place + 1]), 0)
        elif word == b"STREAMS" and more:
            break
        elif word == b"GROUP" and more >= 2:
            _only_in_xreadgroup(word, is_group)
            group, consumer = argv[place + 1 : place + 3]
            place += 1
        elif word == b"CLAIM" and more:
            _only_in_xreadgroup(word, is_group)
            least_idle_ms = parse_bounded(argv[place + 1], MIN_INTEGER, MAX_INTEGER, CLAIM_NOT_AN_INTEGER)
            if least_idle_ms < 0:
                raise CommandError(CLAIM_NEGATIVE)
        elif word == b"NOACK":
            _only_in_xreadgroup(word, is_group)
            is_noack = True
            place -= 1
        else:
            raise CommandError(SYNTAX)
        place += 2
    else:
        raise CommandError(SYNTAX)
    rest = argv[place + 1 :]
    if len(rest) % 2:
        raise CommandError(UNBALANCED_STREAMS)
    if is_group and group is None:
        raise CommandError(GROUP_MISSING)
    half = len(rest) // 2
    keys, ids = rest[:half], rest[half:]
    return Reading(count, block_ms, group or b"", consumer, is_group, is_noack, least_idle_ms, keys, ids)


def _only_in_xreadgroup(word: bytes, is_group: bool) -> None:
    if not is_group:
        raise CommandError(ONLY_XREADGROUP % word)


def _parse_timeout(word: bytes) -> int:
    timeout_ms = parse_bounded(word, MIN_INTEGER, MAX_INTEGER, INVALID_TIMEOUT)
    if timeout_ms < 0:
        raise CommandError(NEGATIVE_TIMEOUT)
    return timeout_ms


def nothing_to_read(session: Session, reading: Reading, ids: Sequence[bytes]) -> Reply:
    """Return the reply to a read that found nothing behind these IDs: null, or with BLOCK that the client waits."""
    if reading.block_ms is None:
        return NULL_ARRAY
    id_of = dict(zip(reading.keys, ids, strict=True))
    options = [b"BLOCK", b"%d" % reading.block_ms, b"COUNT", b"%d" % reading.most]
    if reading.is_noack:
        options.append(b"NOACK")
    again_seconds = None
    if reading.least_idle_ms != NO_CLAIM:
        options += [b"CLAIM", b"%d" % reading.least_idle_ms]
        again_seconds = min(max(reading.least_idle_ms / IDLE_PARTS, LEAST_PAUSE_MS), MOST_PAUSE_MS) / 1000
    name = [b"XREADGROUP", b"GROUP", reading.group, reading.consumer] if reading.is_group else [b"XREAD"]
    seconds = min(reading.block_ms / 1000, MOST_SECONDS)

    def again(key: bytes) -> list[bytes]:
        return [*name, *options, b"STREAMS", key, id_of[key]]

    return wait_for(session, reading.keys, STREAM, seconds, NULL_ARRAY, again, again_seconds)
