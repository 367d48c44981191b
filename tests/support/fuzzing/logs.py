"""A log file judged on any bytes: replay, check and repair agree, and damage is never silently wrong.

Of any file:
- replay takes it whole, or cuts a torn tail off, or refuses it with a LogError; at any size of a block the same;
- check finds losses exactly where replay is not content, and what it keeps is what replay finds, which takes a batch
  at once where it can, as check does not;
- what repair leaves replays without a word, holds what check said it would, and the original is kept.

Of a file that is whole, damage is made in some of its batches: replay refuses it or gives the batches before the
damage, and repair keeps every other batch. What is damaged, and how, follows from the file itself.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from random import Random
from typing import NamedTuple

from instances import WHOLE_SECOND_MS, Replay, State, state_of

from errors import DamagedLog, LogError
from log.check import Examiner, Findings, repair
from log.reader import BLOCK_BYTES, FIRST_LINK, HEAD, Fault, Kind, Unit, frame, link_of, units
from log.replay import replay
from protocol import encode_command

TTL_MS = 3_600_000
LOOSE_HEAD = re.compile(rb"#[0-9]{1,10} [0-9a-f]{8} ([0-9]{1,14})( [0-9a-f]{8})?( [0-9a-f]{8})?\r\n")

TOKENS = [
    frame(encode_command([b"SET", b"a", b"1"]), WHOLE_SECOND_MS),
    frame(encode_command([b"SELECT", b"1"]), WHOLE_SECOND_MS),
    frame(encode_command([b"SET", b"a", b"2"]), WHOLE_SECOND_MS, FIRST_LINK),
    frame(encode_command([b"SET", b"a", b"3"]), WHOLE_SECOND_MS, FIRST_LINK, FIRST_LINK),
    *(
        encode_command(line.split(b" "))
        for line in [
            *[
                b"SET a 1",
                b"SET b 2 PXAT 4102444800000",
                b"SET b 2 PXAT 1",
                b"DEL a",
                b"DEL a b",
                b"RENAME a b",
                b"MULTI",
            ],
            *[b"EXEC", b"SELECT 1", b"SELECT 16", b"INCRBY a 2", b"APPEND a x", b"FLUSHALL", b"FLUSHDB", b"SWAPDB 0 1"],
            *[b"PEXPIREAT a 4102444800000", b"PEXPIREAT a 1", b"PERSIST a", b"COPY a b", b"MSET a 1 b 2", b"PING"],
            *[b"MOVE a 1", b"SETRANGE a 5 x", b"INCRBYFLOAT a 0.5", b"GETDEL a", b"SHUTDOWN", b"SETEX a 10 b"],
        ]
    ),
    *[
        b"# note\r\n",
        b"#TS:1700000000\r\n",
        b"SET a 1\n",
        b"SETEX a 1 10\n",
        b"DEL a\n",
        b"\r\n",
        b"\n",
        b"#",
        b"*1\r\n",
    ],
    *[
        b"*2\r\n",
        b"*3\r\n",
        b"$1\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b":1\r\n",
        b"\0" * 16,
        b"REDIS0",
        b"file a seq 1 type b\n",
    ],
]


class Verdict(NamedTuple):
    """What a replay made of a file: `outcome` is whole, torn or refused."""

    outcome: str
    end: int
    state: State
    reason: str = ""


def checked_state(player: Replay) -> State:
    """Return what is true of an instance that applied a log."""
    for database in player.store.databases:
        database.check()
    return state_of(player.store)


def replayed(path: Path, block_bytes: int = BLOCK_BYTES) -> Verdict:
    """Replay a file, which may cut it, into a store of its own."""
    player = Replay()
    try:
        report = replay(
            str(path),
            player.engine.apply,
            WHOLE_SECOND_MS,
            TTL_MS,
            apply_many=player.engine.apply_many,
            block_bytes=block_bytes,
        )
    except LogError as error:
        return Verdict("refused" if isinstance(error, DamagedLog) else "foreign", 0, {}, str(error))
    return Verdict("torn" if report.torn_bytes else "whole", report.bytes, checked_state(player))


def examined(path: str | Path) -> tuple[Findings, State]:
    """Examine a file as `check` does."""
    player = Replay()
    with open(path, "rb") as log:
        return Examiner(str(path), log, player.engine.apply, WHOLE_SECOND_MS, TTL_MS).examine(), checked_state(player)


def check(content: bytes, work: Path) -> None:
    """Assert all that is said above, in an empty directory for work, which is empty again afterwards."""
    path = work / "log.txt"
    try:
        path.write_bytes(content)
        verdict = replayed(path)
        assert path.read_bytes()[: verdict.end] == content[: verdict.end], "replay changed what it took"
        random = Random(zlib.crc32(content))
        _check_blocks(path, content, verdict, random)
        if verdict.outcome == "foreign":
            assert "REDIS" in verdict.reason or "Redis" in verdict.reason, verdict.reason
            return
        path.write_bytes(content)
        _check_repair(path, content, verdict)
        _empty(work)
        batches = whole_batches(path, content) if verdict.outcome == "whole" else []
        if batches:
            _check_damage(path, content, batches, random)
    finally:
        _empty(work)


def _empty(work: Path) -> None:
    for path in work.iterdir():
        path.unlink()


def _check_blocks(path: Path, content: bytes, verdict: Verdict, random: Random) -> None:
    block_bytes = random.choice([1, 2, 7, 64, 1000])
    _empty(path.parent)
    path.write_bytes(content)
    again = replayed(path, block_bytes)
    assert again == verdict, f"in blocks of {block_bytes}: {again}, else {verdict}"
    _empty(path.parent)


def _check_repair(path: Path, content: bytes, verdict: Verdict) -> None:
    found, state = examined(path)
    outcome = "whole" if not found.losses else "torn" if found.only_torn and found.is_log else "refused"
    assert outcome == verdict.outcome, f"check says {outcome}, replay {verdict.outcome}: {found} {verdict.reason}"
    if verdict.outcome != "refused":
        assert state == verdict.state, "check and replay read different keys"
    if not found.losses or not found.is_log:
        return
    states: list[State] = []

    def examine(copy: str) -> Findings:
        findings, after = examined(copy)
        states.append(after)
        return findings

    kept = repair(str(path), found, examine)
    assert Path(kept).read_bytes() == content, "the original is not kept"
    mended = replayed(path)
    assert mended.outcome == "whole", f"what repair left is {mended}"
    assert mended.state == states[-1], "repair left other keys than check found"


def whole_batches(path: Path, content: bytes) -> list[Unit]:
    """Return the batches of a log of nothing but batches, no value of which could be taken for a batch; else none."""
    path.write_bytes(content)
    try:
        with open(path, "rb") as log:
            found = list(units(log, len(content)))
    except Fault:  # lines of text
        return []
    plain = all(unit.kind is Kind.BATCH for unit in found)
    if not plain or any(HEAD.search(word) for unit in found for argv in unit.commands for word in argv):
        return []
    return found


def _check_damage(path: Path, content: bytes, batches: list[Unit], random: Random) -> None:
    """Damage some batches: replay must not pass over it, and repair must keep the others."""
    hit = set(random.sample(range(len(batches)), random.randint(1, min(2, len(batches)))))
    pieces = [content[batch.start : batch.end] for batch in batches]
    damaged = [damage(piece, random) if index in hit else piece for index, piece in enumerate(pieces)]
    path.write_bytes(b"".join(damaged))
    found, _ = examined(path)
    assert found.losses, f"the damage of batches {hit} was not seen"
    verdict = replayed(path)
    assert verdict.outcome != "whole"
    if verdict.outcome == "torn":
        kept = path.read_bytes()
        assert kept == b"".join(pieces[: min(hit)]), "replay gave something else than what came before the damage"
    path.write_bytes(b"".join(damaged))
    if not found.is_log:  # nothing but damage
        assert hit == set(range(len(batches))), f"batches are sound beside {hit}"
        return
    sound = places_kept(path, found)
    position = 0
    for index, piece in enumerate(damaged):
        if index not in hit:
            assert (position, position + len(piece)) in sound, f"batch {index} is lost though only {hit} are damaged"
        position += len(piece)


def places_kept(path: Path, found: Findings) -> set[tuple[int, int]]:
    """Return where the batches lie that a repair keeps, be it without some of their commands."""
    kept = {(loss.start, loss.end) for loss in found.losses if loss.dropped}
    starts = [0, *(loss.end for loss in found.losses)]
    ends = [*(loss.start for loss in found.losses), found.size]
    with open(path, "rb") as log:
        for start, end in zip(starts, ends, strict=True):
            kept |= {(unit.start, unit.end) for unit in units(log, end, start=start)}
    return kept


def damage(piece: bytes, random: Random) -> bytes:
    """Damage a batch as a disk might: bits, bytes, a zeroed or lost stretch."""
    changed = bytearray(piece)
    while changed == piece:
        at = random.randrange(len(piece))
        size = random.randint(1, 8)
        match random.randrange(4):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at : at + size] = random.randbytes(len(changed[at : at + size]))
            case 2:
                changed[at : at + size] = bytes(len(changed[at : at + size]))
            case _:
                del changed[at : at + size]
    return bytes(changed)


def with_right_checksums(content: bytes) -> bytes:
    """Give each batch the length and the checksum of what follows up to the next, or a fuzzer would get no further.

    One that gives a `previous` follows the one before it, but for those that give another `link`, too.
    """
    heads = [*LOOSE_HEAD.finditer(content)]
    if not heads:
        return content
    ends = [head.start() for head in heads[1:]] + [len(content)]
    framed, link = content[: heads[0].start()], FIRST_LINK
    for head, end in zip(heads, ends, strict=True):
        previous = b"" if head[2] is None else link if head[3] is None else head[2][1:]
        batch = frame(content[head.end() : end], int(head[1]), previous, (head[3] or b"")[1:])
        link = head[3][1:] if head[3] else link_of(batch)
        framed += batch
    return framed
