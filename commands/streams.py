"""Commands of streams: entries. Those of consumer groups are in `stream_groups.py`, XINFO is in `stream_info.py`.

1. An XADD is logged with the ID that the entry got, and with the length that trimming left.
2. What trims is logged as `MAXLEN = length`, whatever the option was: trimming always deletes the first entries.
   Only with ACKED it may leave some of them (`stream_deletions.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import commands.stream_claims
import commands.stream_group_reads
import commands.stream_groups
import commands.stream_info  # noqa: F401  (their rows)
from commands import BLOCKING, DENYOOM, FAST, FIRST, READONLY, WRITE, AfterWord, command, fold, for_many
from commands.arguments import check_option_words, parse_integer
from commands.long_commands import AT_ONCE_WORDS, PART_WORDS, is_long
from commands.stream_arguments import (
    KEEPREF,
    ids_in_parts,
    locked,
    nothing_to_read,
    parse_end,
    parse_id,
    parse_options,
    parse_read,
    parse_start,
    parse_time_of_next,
    range_reply,
    read_reply,
)
from commands.stream_deletions import add_and_trim, trim_by_mode
from errors import (
    ENTRIES_ADDED_NEGATIVE,
    NEW_IN_XREAD,
    NO_SUCH_KEY,
    STREAM_EXHAUSTED,
    STREAM_ID_TOO_SMALL,
    STREAM_ID_ZERO,
    SYNTAX,
    WRONG_ARITY,
    XSETID_BELOW_DELETED,
    XSETID_BELOW_LENGTH,
    XSETID_BELOW_TOP,
    CommandError,
)
from replies import NULL_ARRAY, OK, Reply, Work
from session import Session
from values.stream_chunks import MOST_ID, SEQUENCE_BITS, format_id
from values.stream_type import STREAM
from values.streams import Stream
from wire.columns import all_alike

AUTO = b"*"


@command(
    "XADD",
    "key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [< <MAXLEN | MINID> [= | ~] threshold [LIMIT count] >] < * | id >"
    " field value [field value ...]",
    arity=-5,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="5.0.0",
)
def xadd(session: Session, argv: list[bytes]) -> Reply:
    """Append an entry to a stream; returns its ID.

    Differs from Redis: trimming with `~` is exact, too.
    """
    key, word, place, makes_stream, trimming = argv[1], argv[2], 2, True, None
    asked, next_of_ms = 0, None
    if word != AUTO:
        if not word[:1].isdigit():
            options = parse_options(argv, is_add=True)
            place, makes_stream = options.behind, options.makes_stream
            word = argv[place] if place < len(argv) else AUTO
        if word != AUTO:
            next_of_ms = parse_time_of_next(word)
            asked = parse_id(word) if next_of_ms is None else 0
        if place > 2:
            trimming = options.trimming(session.store)
    fields = tuple(argv[place + 1 :])
    if not fields or len(fields) % 2:
        raise CommandError(WRONG_ARITY % b"xadd")
    if not asked and next_of_ms is None and word != AUTO:
        raise CommandError(STREAM_ID_ZERO)
    if trimming is not None and trimming.mode != KEEPREF:
        plain = [argv[0], key, *([] if makes_stream else [b"NOMKSTREAM"]), *argv[place:]]
        return add_and_trim(session, key, lambda: xadd(session, plain), trimming)
    db = session.db
    stream: Stream | None = db.create(key, STREAM) if makes_stream else db.change(key, STREAM)
    if stream is None:
        return None
    last_id = stream.last_id
    if last_id == MOST_ID:
        raise CommandError(STREAM_EXHAUSTED)
    if word == AUTO:
        asked = stream.next_id(session.store.now_ms)
    elif next_of_ms is not None:
        asked = next_of_ms << SEQUENCE_BITS
        if asked >> SEQUENCE_BITS == last_id >> SEQUENCE_BITS:
            asked = last_id + 1 if (last_id + 1) >> SEQUENCE_BITS == next_of_ms else 0
    if asked <= last_id:
        raise CommandError(STREAM_ID_TOO_SMALL)
    stream.append(asked, fields)
    entry_id = format_id(asked)
    if trimming is not None and (excess := trimming.excess(stream)):
        _trim(session, stream, excess)
        db.done(key, stream, b"XADD", key, b"MAXLEN", b"=", b"%d" % stream.length, entry_id, *fields)
        db.event(key, b"xtrim")
    else:
        db.done(key, stream, b"XADD", key, entry_id, *fields)
    return entry_id


def _trim(session: Session, stream: Stream, excess: int) -> None:
    """Delete the first entries of a stream; what they took is freed in slices if it is much."""
    dropped = stream.trim(excess)
    if len(dropped) > 1:
        session.store.garbage.append(dropped)


@for_many("XADD")
def xadd_many(
    session: Session, keys: Sequence[bytes], ids: Sequence[bytes], *columns: Sequence[bytes]
) -> Sequence[Reply] | None:
    """Run a pipeline of XADD with the ID `*` to one stream."""
    key = keys[0]
    if ids[0] != AUTO or len(columns) % 2 or not (all_alike(keys) and all_alike(ids)) or len(keys) > AT_ONCE_WORDS:
        return None
    try:
        stream: Stream = session.db.create(key, STREAM)
    except CommandError:
        return None
    now_ms = session.store.now_ms
    if stream.last_id > MOST_ID - len(keys):
        return None
    replies, effects = [], []
    for fields in zip(*columns):  # noqa: B905
        stream.append(stream.next_id(now_ms), fields)
        entry_id = format_id(stream.last_id)
        replies.append(entry_id)
        effects.append((b"XADD", key, entry_id, *fields))
    session.db.done(key, stream)
    append, index = session.store.log.append, session.db.index
    for effect in effects:
        append(index, effect)
    return replies


@command("XLEN", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="5.0.0")
def xlen(session: Session, argv: list[bytes]) -> Reply:
    """Get the number of entries of a stream."""
    _, key = argv
    stream: Stream | None = session.db.value(key, STREAM)
    return 0 if stream is None else stream.length


@command("XRANGE", "key start end [COUNT count]", arity=-4, flags=READONLY, keys=FIRST, since="5.0.0")
def xrange(session: Session, argv: list[bytes]) -> Reply:
    """List the entries of a stream whose IDs are in a range."""
    return _range(session, argv, parse_start(argv[2]), parse_end(argv[3]), is_reverse=False)


@command("XREVRANGE", "key end start [COUNT count]", arity=-4, flags=READONLY, keys=FIRST, since="5.0.0")
def xrevrange(session: Session, argv: list[bytes]) -> Reply:
    """List the entries of a stream whose IDs are in a range, the last one first."""
    return _range(session, argv, parse_start(argv[3]), parse_end(argv[2]), is_reverse=True)


def _range(session: Session, argv: list[bytes], start: int, end: int, is_reverse: bool) -> Reply:
    check_option_words(argv)
    count = None
    for place in range(4, len(argv), 2):
        if fold(argv[place]) != b"COUNT" or place + 1 == len(argv):
            raise CommandError(SYNTAX)
        count = max(parse_integer(argv[place + 1]), 0)
    stream: Stream | None = session.db.value(argv[1], STREAM)
    if stream is None:
        return []
    if count == 0:
        return NULL_ARRAY
    return range_reply(stream, start, end, count or 0, is_reverse)


@command("XDEL", "key id [id ...]", arity=-3, flags=WRITE | FAST, keys=FIRST, since="5.0.0")
def xdel(session: Session, argv: list[bytes]) -> Reply:
    """Delete entries of a stream; returns how many there were."""
    key = argv[1]
    if is_long(argv):
        return locked(session, key, _delete_in_parts(session, key, argv[2:]))
    if session.db.change(key, STREAM) is None:
        return 0
    return _delete(session, key, list(map(parse_id, argv[2:])))


def _delete(session: Session, key: bytes, ids: list[int]) -> int:
    db = session.db
    stream: Stream | None = db.change(key, STREAM)
    deleted = [] if stream is None else stream.delete(ids)
    if deleted:
        db.done(key, stream, b"XDEL", key, *map(format_id, deleted))
    return len(deleted)


def _delete_in_parts(session: Session, key: bytes, words: list[bytes]) -> Work:
    ids, error = yield from ids_in_parts(words)
    if session.db.change(key, STREAM) is None:
        return 0
    if error is not None:
        raise error
    deleted = 0
    for start in range(0, len(ids), PART_WORDS):
        deleted += _delete(session, key, ids[start : start + PART_WORDS])
        yield
    return deleted


@command(
    "XTRIM",
    "key < <MAXLEN | MINID> [= | ~] threshold [LIMIT count] > [KEEPREF | DELREF | ACKED]",
    arity=-4,
    flags=WRITE,
    keys=FIRST,
    since="5.0.0",
)
def xtrim(session: Session, argv: list[bytes]) -> Reply:
    """Delete the first entries of a stream, until it has a length or begins with an ID; returns how many.

    Differs from Redis: trimming with `~` is exact, too. ACKED that keeps an entry and deletes a later one sets
    `max-deleted-entry-id`.
    """
    key = argv[1]
    options = parse_options(argv, is_add=False)
    if options.behind < len(argv):
        raise CommandError(SYNTAX)
    trimming = options.trimming(session.store, is_required=True)
    if trimming is not None and trimming.mode != KEEPREF:
        return trim_by_mode(session, key, trimming)
    db = session.db
    stream: Stream | None = db.change(key, STREAM)
    excess = 0 if stream is None or trimming is None else trimming.excess(stream)
    if stream is not None and excess:
        _trim(session, stream, excess)
        db.done(key, stream, b"XTRIM", key, b"MAXLEN", b"=", b"%d" % stream.length)
    return excess


@command(
    "XSETID",
    "key last-id [ENTRIESADDED entries_added] [MAXDELETEDID max_deleted_entry_id]",
    arity=-3,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="5.0.0",
)
def xsetid(session: Session, argv: list[bytes]) -> Reply:
    """Set the last ID of a stream, and its counters: for the rewrite of the log."""
    check_option_words(argv)
    key, last_id = argv[1], parse_id(argv[2])
    added, deleted_id = -1, 0
    for place in range(3, len(argv), 2):
        option = fold(argv[place])
        if option not in (b"ENTRIESADDED", b"MAXDELETEDID") or place + 1 == len(argv):
            raise CommandError(SYNTAX)
        if option == b"ENTRIESADDED":
            added = parse_integer(argv[place + 1])
            if added < 0:
                raise CommandError(ENTRIES_ADDED_NEGATIVE)
        else:
            deleted_id = parse_id(argv[place + 1])
            if last_id < deleted_id:
                raise CommandError(XSETID_BELOW_DELETED)
    db = session.db
    stream: Stream | None = db.change(key, STREAM)
    if stream is None:
        raise CommandError(NO_SUCH_KEY)
    if stream.length and last_id < stream.newest_id():
        raise CommandError(XSETID_BELOW_TOP)
    if stream.length and 0 <= added < stream.length:
        raise CommandError(XSETID_BELOW_LENGTH)
    before = stream.last_id, stream.entries_added, stream.max_deleted_id
    stream.last_id = last_id
    stream.entries_added = added if added >= 0 else stream.entries_added
    stream.max_deleted_id = deleted_id or stream.max_deleted_id
    if before != (stream.last_id, stream.entries_added, stream.max_deleted_id):
        db.done(key, stream, b"XSETID", *argv[1:])
    db.event(key, b"xsetid")
    return OK


# ---- XREAD


@command(
    "XREAD",
    "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
    arity=-4,
    flags=READONLY | BLOCKING,
    keys=AfterWord(b"STREAMS", 1),
    since="5.0.0",
)
def xread(session: Session, argv: list[bytes]) -> Reply:
    """List the entries of streams that follow an ID of each; with BLOCK, wait for one if there is none."""
    request = parse_read(argv, is_group=False)
    streams = []
    for key, word in zip(request.keys, request.ids, strict=True):
        stream: Stream | None = session.db.value(key, STREAM)
        if word == b"$":
            after = 0 if stream is None else stream.last_id
        elif word == b">":
            raise CommandError(NEW_IN_XREAD)
        else:
            after = parse_id(word)
        streams.append((key, stream, after))
    found = [
        (key, stream, after) for key, stream, after in streams if stream is not None and after < stream.newest_id()
    ]
    if not found:
        return nothing_to_read(session, request, [format_id(after) for _, _, after in streams])
    return read_reply(found, request.most)
