"""The subcommand `log`: what the log says has happened, a line a command, with its time.

1. It reads a log at any time, also one in use, and never changes it. It does not know the keyspace.
2. On a terminal a line is for a person: long words are cut. Otherwise it is JSON, with all of each word.
3. With --follow it goes on with what is appended, also after a rewrite has put another file in the log's place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from json import dumps
from math import inf
from time import sleep, time
from typing import BinaryIO

from cli.log_tools import WHOLE, parse_moment, show_time
from commands import TABLE
from log.export import is_text, no_progress, open_existing, whole_units
from log.reader import FIRST_LINK, Fault, Kind, Unit, find_batch, units
from log.replay import Player, Refused, ReplayReport, damaged
from measuring.shown_words import SPECIAL, cut, quote
from values.glob import Pattern

POLL_SECONDS = 0.1
MOST_WORDS, MOST_WORD_BYTES = 24, 100  # of a command, on a terminal
OF_ALL_KEYS = frozenset({b"FLUSHALL", b"FLUSHDB", b"SWAPDB"})


def show_log(
    path: str, key: str | None, since: str | None, until: str | None, follow: bool, default_ttl_ms: int
) -> int:
    """Print the commands of a log that are of these keys and times, and return the exit code. Raises LogError."""
    matches = None if key is None else Pattern(os.fsencode(key)).matches
    since_ms = 0 if since is None else parse_moment("--since", since)
    until_ms = inf if until is None else parse_moment("--until", until)
    show = _show_line if sys.stdout.isatty() else _show_json
    now_ms, client = 0, b""  # of the last batch; 0: not known

    def apply(database: int, argv: list[bytes]) -> None:
        if since_ms <= now_ms < until_ms and (matches is None or _touches(argv, matches)):
            show(now_ms, database, argv, client)

    with open_existing(path) as log:
        text = is_text(path, log)
        dated = find_batch(log, 0, os.fstat(log.fileno()).st_size) if text else None
        player = Player(apply, ReplayReport(), dated[1] if dated else int(time() * 1000), default_ttl_ms)
        try:
            for unit in _following(path, log, text) if follow else whole_units(path, log, text, no_progress):
                now_ms, client = unit.time_ms or now_ms, unit.client
                player.play(unit)
        except Fault as fault:
            raise damaged(path, fault.offset, fault.reason) from fault
        except Refused as error:
            raise damaged(path, error.start, f"a command there makes no sense: {error.text}") from error
    return WHOLE


def _following(path: str, log: BinaryIO, text: bool) -> Iterator[Unit]:
    """Yield the units of a log, and those that are appended to it, for ever. Raises Fault."""
    position, link, known = 0, FIRST_LINK, True  # `known`: all that follows in the file is new
    while True:
        try:
            for unit in units(log, os.fstat(log.fileno()).st_size, text, start=position):
                position, text = unit.end, text and unit.kind is not Kind.BATCH
                if known:
                    yield unit
                    link = unit.link if unit.kind is Kind.BATCH else link
                known = known or unit.link == link  # a rewrite's file has the last batch of the old one, or its link
        except Fault as fault:
            if not fault.incomplete:
                raise
        sys.stdout.flush()
        sleep(POLL_SECONDS)
        try:
            is_same = os.path.samestat(os.stat(path), os.fstat(log.fileno()))
        except FileNotFoundError:
            continue
        if not is_same:
            log.close()
            log = open_existing(path)
            position, known = 0, False


def _touches(argv: Sequence[bytes], matches: Callable[[bytes], bool]) -> bool:
    """Return True if a command may change a key that matches."""
    name = argv[0].upper()
    row = TABLE.get(name)
    if name in OF_ALL_KEYS:
        return True
    return any(map(matches, argv[1:2] if row is None else row.of(argv).key_arguments(list(argv))))


def _show_line(time_ms: int, database: int, argv: Sequence[bytes], client: bytes = b"") -> None:
    short = cut(argv, MOST_WORDS, MOST_WORD_BYTES)
    words = [quote(word) if not word or b" " in word or SPECIAL.search(word) else word for word in short]
    by = f"  # by {client.decode().replace(',', ' ', 2).rstrip()}" if client else ""
    print(f"{show_time(time_ms) if time_ms else '-':29}  db{database}  {b' '.join(words).decode()}{by}")


def _show_json(time_ms: int, database: int, argv: Sequence[bytes], client: bytes) -> None:
    words = [word.decode("utf-8", "surrogateescape") for word in argv]
    shown: dict[str, object] = {"time_ms": time_ms or None, "db": database, "command": words}
    if client:
        shown["client"] = dict(zip(("address", "user", "name"), client.decode().split(",", 2), strict=False))
    print(dumps(shown))
