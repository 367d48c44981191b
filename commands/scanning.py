"""What SCAN, SSCAN, HSCAN and ZSCAN have in common: the cursor, the options, and the reply.

The text of a cursor is read as C's strtoul reads it, because Redis does so. COUNT is limited: see `places_at_once`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from commands import fold
from commands.arguments import check_option_words, parse_integer
from commands.keyspace_walk import places_at_once
from errors import INVALID_CURSOR, SYNTAX, CommandError
from replies import Reply, Work
from session import Session
from values import ValueType
from values.glob import Pattern, is_quick

CURSOR = re.compile(rb"(?:[+-]?[0-9]{1,40})?")

Items = Sequence[tuple[bytes, Any]]  # of a table (`values/table.py`): a member or a field, and what belongs to it


def parse_cursor(text: bytes) -> int:
    """Parse a cursor as C's strtoul does, which also accepts a sign and an empty text."""
    if not CURSOR.fullmatch(text):
        raise CommandError(INVALID_CURSOR)
    cursor = int(text or b"0")
    if abs(cursor) >= 2**64:
        raise CommandError(INVALID_CURSOR)
    return cursor % 2**64


class ScanOptions(NamedTuple):
    """The options of SCAN and its like."""

    pattern: bytes
    most: int
    type_name: bytes | None
    has_values: bool


def parse_scan_options(words: list[bytes], further: bytes = b"") -> ScanOptions:
    """Parse the options; TYPE or NOVALUES is one only if it is `further`. Raises CommandError."""
    pattern, count, type_name, has_values = b"*", 10, None, True
    rest = iter(words)
    for word in rest:
        option = fold(word)
        if option == b"NOVALUES" and option == further:
            has_values = False
            continue
        value = next(rest, None)
        if value is None:
            raise CommandError(SYNTAX)
        if option == b"MATCH":
            pattern = value
        elif option == b"COUNT":
            count = parse_integer(value)
            if count < 1:
                raise CommandError(SYNTAX)
        elif option == b"TYPE" and option == further:
            type_name = fold(value).lower()
        else:
            raise CommandError(SYNTAX)
    return ScanOptions(pattern, count, type_name, has_values)


def scan_table(
    session: Session,
    argv: list[bytes],
    kind: ValueType,
    spell: Callable[[Items], list[Any]],
    spell_keys: Callable[[Items], list[Any]] | None = None,
) -> Reply:
    """Run SSCAN, HSCAN or ZSCAN on a value that is a table.

    `spell` makes items the second part of the reply; with NOVALUES `spell_keys` does, and without it there is no
    such option.
    """
    cursor = parse_cursor(argv[2])
    check_option_words(argv)
    table = session.db.value(argv[1], kind)
    if table is None:
        return [b"0", []]
    pattern, count, _, has_values = parse_scan_options(argv[3:], b"NOVALUES" if spell_keys else b"")
    if spell_keys is not None and not has_values:
        spell = spell_keys
    following, items = table.scan(cursor, min(count, places_at_once(pattern)))
    if pattern == b"*":
        return [b"%d" % following, spell(items)]
    matches = Pattern(pattern).matches
    if is_quick(pattern, [key for key, _ in items]):
        return [b"%d" % following, spell([item for item in items if matches(item[0])])]
    return _matched_in_slices(following, matches, items, spell)


def _matched_in_slices(
    following: int, matches: Callable[[bytes], bool], items: Items, spell: Callable[[Items], list[Any]]
) -> Work:
    """Match long keys with a long pattern, with a pause after each."""
    found = []
    for item in items:
        if matches(item[0]):
            found.append(item)
        yield
    return [b"%d" % following, spell(found)]
