"""Deletions that heed consumer groups: XDELEX, XACKDEL, and the trimming of XADD and XTRIM with DELREF or ACKED.

1. KEEPREF deletes the entry alone, DELREF makes it pending in no group any more, and ACKED leaves an entry that some
   group has not read or not acknowledged.
2. The effects are XACK, XDEL and XTRIM, which redis-server 7.0 knows.
3. Each step examines some entries; a command on many of them runs in slices, with its key locked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from commands import FAST, FIRST, WRITE, command, fold
from commands.arguments import MAX_INTEGER, parse_bounded
from commands.group_changes import STEP_ENTRIES, log_effects
from commands.keyspace_walk import at_once
from commands.long_commands import PART_WORDS, is_long
from commands.stream_arguments import ACKED, AT_ONCE_ENTRIES, DELREF, KEEPREF, MODES, Trimming, locked, parse_id
from errors import NUMIDS_DIFFERS, NUMIDS_NOT_POSITIVE, SYNTAX, CommandError
from replies import LongArray, Reply, Work
from session import Session
from values.stream_chunks import MOST_ID, format_id
from values.stream_type import STREAM
from values.streams import Stream

Operate = Callable[["list[int]"], "list[int]"]  # on IDs; returns what becomes of each
ABSENT, DELETED, KEPT = -1, 1, 2  # what becomes of an ID


@command(
    "XDELEX",
    "key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
    arity=-5,
    flags=WRITE | FAST,
    keys=FIRST,
    since="8.2.0",
)
def xdelex(session: Session, argv: list[bytes]) -> Reply:
    """Delete entries of a stream, as KEEPREF, DELREF or ACKED says; lists 1 for a deleted ID, 2 for a kept, else -1."""
    key = argv[1]
    session.db.value(key, STREAM)
    mode, words = _parse_mode(argv, 2)
    return _outcomes(session, argv, words, lambda ids: _delete(session, key, mode, ids))


@command(
    "XACKDEL",
    "key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
    arity=-6,
    flags=WRITE | FAST,
    keys=FIRST,
    since="8.2.0",
)
def xackdel(session: Session, argv: list[bytes]) -> Reply:
    """Acknowledge pending entries of a group and delete them, as KEEPREF, DELREF or ACKED says."""
    key, name = argv[1:3]
    stream: Stream | None = session.db.value(key, STREAM)
    mode, words = _parse_mode(argv, 3)
    if stream is None or name not in stream.groups:
        return [ABSENT] * len(words)
    return _outcomes(session, argv, words, lambda ids: _acknowledge(session, key, name, mode, ids))


def _parse_mode(argv: list[bytes], at: int) -> tuple[bytes, list[bytes]]:
    """Return the mode and the IDs, in either order. Raises CommandError."""
    mode, ids = b"", None
    while at < len(argv):
        option = fold(argv[at])
        if option in MODES and not mode:
            mode, at = option, at + 1
        elif option == b"IDS" and ids is None and at + 1 < len(argv):
            count = parse_bounded(argv[at + 1], 1, MAX_INTEGER, NUMIDS_NOT_POSITIVE)
            if count > len(argv) - at - 2:
                raise CommandError(NUMIDS_DIFFERS)
            ids, at = argv[at + 2 : at + 2 + count], at + 2 + count
        else:
            raise CommandError(SYNTAX)
    if ids is None:
        raise CommandError(SYNTAX)
    return mode or KEEPREF, ids


def _outcomes(session: Session, argv: list[bytes], words: list[bytes], operate: Operate) -> Reply:
    """Return what `operate` returns for these IDs, done in slices if they are many."""
    key = argv[1]
    if session.db.peek(key) is None:
        return [ABSENT] * len(words)
    if not is_long(argv):
        return operate(list(map(parse_id, words)))
    return locked(session, key, _in_parts(words, operate))


def _in_parts(words: list[bytes], operate: Operate) -> Work:
    ids: list[list[int]] = []
    for start in range(0, len(words), PART_WORDS):
        ids.append(list(map(parse_id, words[start : start + PART_WORDS])))
        yield
    chunks = []
    for part in ids:
        chunks.append(tuple(operate(part)))
        yield
    return LongArray(chunks)


def _delete(session: Session, key: bytes, mode: bytes, ids: list[int]) -> list[int]:
    stream: Stream | None = session.db.change(key, STREAM)
    if stream is None:
        return [ABSENT] * len(ids)
    found = stream.find(ids)
    outcomes = []
    for entry_id in ids:
        if mode == ACKED and _is_referenced(stream, entry_id):
            outcomes.append(KEPT)
        else:
            outcomes.append(ABSENT if found.pop(entry_id, None) is None else DELETED)
    gone = [entry_id for entry_id, outcome in zip(ids, outcomes, strict=True) if outcome == DELETED]
    effects = _drop_references(stream, key, ids) if mode == DELREF else []
    _log_deleted(session, key, stream, effects, gone)
    return outcomes


def _acknowledge(session: Session, key: bytes, name: bytes, mode: bytes, ids: list[int]) -> list[int]:
    stream: Stream | None = session.db.change(key, STREAM)
    if stream is None:
        return [ABSENT] * len(ids)
    group = stream.groups[name]
    outcomes, done, gone = [], [], []
    for entry_id in ids:
        if not group.acknowledge(entry_id):
            outcomes.append(ABSENT)
            continue
        done.append(entry_id)
        if mode == ACKED and _is_referenced(stream, entry_id):
            outcomes.append(KEPT)
        else:
            outcomes.append(DELETED)
            gone.append(entry_id)
    effects = [[b"XACK", key, name, *map(format_id, done)]] if done else []
    if mode == DELREF:
        effects += _drop_references(stream, key, gone)
    _log_deleted(session, key, stream, effects, gone)
    return outcomes


def _is_referenced(stream: Stream, entry_id: int) -> bool:
    """Return True if some group has not read an entry yet, or not acknowledged it."""
    return any(entry_id > group.last_id or group.pending.get(entry_id) is not None for group in stream.groups.values())


def _drop_references(stream: Stream, key: bytes, ids: Sequence[int]) -> list[list[bytes]]:
    """Make entries pending in no group; return the effects."""
    effects = []
    for name in sorted(stream.groups):
        done = [entry_id for entry_id in ids if stream.groups[name].acknowledge(entry_id)]
        if done:
            effects.append([b"XACK", key, name, *map(format_id, done)])
    return effects


def _log_deleted(session: Session, key: bytes, stream: Stream, effects: list[list[bytes]], ids: list[int]) -> None:
    """Delete entries, and store and log this and what has changed besides."""
    deleted = stream.delete(ids) if ids else []
    if deleted:
        effects.append([b"XDEL", key, *map(format_id, deleted)])
    if effects:
        log_effects(session, key, effects)


# ---- trimming


def trim_by_mode(session: Session, key: bytes, trimming: Trimming) -> Reply:
    """Trim a stream with DELREF or ACKED; returns how many entries it deleted."""
    work = _trim(session, key, trimming)
    return locked(session, key, work) if _is_long_stream(session, key) else at_once(work)


def add_and_trim(session: Session, key: bytes, add: Callable[[], Reply], trimming: Trimming) -> Reply:
    """Add an entry, and then trim with DELREF or ACKED; returns what `add` does."""
    work = _add_and_trim(session, key, add, trimming)
    return locked(session, key, work) if _is_long_stream(session, key) else at_once(work)


def _is_long_stream(session: Session, key: bytes) -> bool:
    stream: Stream | None = session.db.value(key, STREAM)
    return stream is not None and stream.length > AT_ONCE_ENTRIES


def _add_and_trim(session: Session, key: bytes, add: Callable[[], Reply], trimming: Trimming) -> Work:
    reply = add()
    if reply is not None:
        yield from _trim(session, key, trimming)
    return reply


def _trim(session: Session, key: bytes, trimming: Trimming) -> Work:
    """Examine some entries a step, from the first one on."""
    start, deleted, excess = 0, 0, MAX_INTEGER
    while excess > 0:
        stream: Stream | None = session.db.change(key, STREAM)
        if stream is None:
            break
        excess = trimming.excess(stream)
        if trimming.limit:
            excess = min(excess, trimming.limit - deleted)
        end = trimming.threshold - 1 if trimming.is_by_id else MOST_ID
        ids = [entry_id for entry_id, _ in islice(stream.entries(start, end), min(STEP_ENTRIES, max(excess, 0)))]
        if not ids:
            break
        start = ids[-1] + 1
        gone = ids if trimming.mode == DELREF else [each for each in ids if not _is_referenced(stream, each)]
        _trim_some(session, key, stream, trimming.mode, gone)
        deleted += len(gone)
        yield
    return deleted


def _trim_some(session: Session, key: bytes, stream: Stream, mode: bytes, ids: list[int]) -> None:
    """Delete some entries. The first ones of the stream are trimmed, which leaves no trace, as in Redis."""
    effects = _drop_references(stream, key, ids) if mode == DELREF else []
    if ids == [entry_id for entry_id, _ in islice(stream.entries(), len(ids))] and ids:
        session.store.garbage.append(stream.trim(len(ids)))
        effects.append([b"XTRIM", key, b"MAXLEN", b"=", b"%d" % stream.length])
        ids = []
    _log_deleted(session, key, stream, effects, ids)
