"""Read the arguments that many commands share: integers, and when a key is to end.

It owns what counts as a number for Redis, which is stricter than Python: no space, no sign but a minus, no leading
zero, no underscore, and not beyond 64 bits. It must not look at keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from errors import DB_OUT_OF_RANGE, INVALID_EXPIRE, NOT_AN_INT, NOT_AN_INTEGER, TOO_MANY_WORDS, CommandError
from store import Keyspace, Store

MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)
MOST_OPTION_WORDS = 128  # of a request with options: far more than there are options
LONGEST_INTEGER = len(b"%d" % MIN_INTEGER)

# option -> milliseconds in its unit, whether it counts from now
EXPIRY_OPTIONS = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


def parse_integer(text: bytes) -> int:
    """Return the 64-bit integer that a text spells. Raises CommandError unless it is spelled in the one right way."""
    if len(text) > LONGEST_INTEGER:  # to read it takes long
        raise CommandError(NOT_AN_INTEGER)
    try:
        number = int(text)
    except ValueError:
        raise CommandError(NOT_AN_INTEGER) from None
    if b"%d" % number != text or not MIN_INTEGER <= number <= MAX_INTEGER:
        raise CommandError(NOT_AN_INTEGER)
    return number


def check_option_words(argv: list[bytes]) -> None:
    """Raise CommandError if a request has many more words than there are options. Redis reads a million of them."""
    if len(argv) > MOST_OPTION_WORDS:
        raise CommandError(TOO_MANY_WORDS % (argv[0].lower(), MOST_OPTION_WORDS))


def all_alike(words: Sequence[bytes]) -> bool:
    """Return True if the words of a column are one and the same."""
    return words.count(words[0]) == len(words)


def parse_bounded(text: bytes, low: int, high: int, error: bytes = NOT_AN_INTEGER) -> int:
    """Return an integer from `low` to `high`, both included. Raises CommandError with the given text."""
    try:
        number = parse_integer(text)
    except CommandError:
        raise CommandError(error) from None
    if not low <= number <= high:
        raise CommandError(error)
    return number


def parse_deadline(option: bytes, text: bytes, now_ms: int, command: bytes) -> int:
    """Return the deadline that EX, PX, EXAT or PXAT with this amount means. Raises CommandError."""
    amount = parse_integer(text)
    unit_ms, from_now = EXPIRY_OPTIONS[option]
    deadline_ms = amount * unit_ms + (now_ms if from_now else 0)
    if amount <= 0 or deadline_ms > MAX_INTEGER:
        raise CommandError(INVALID_EXPIRE % command)
    return deadline_ms


def parse_database(text: bytes, store: Store) -> Keyspace:
    """Return the database that an index names. Raises CommandError."""
    index = parse_integer(text)
    if not -(2**31) <= index < 2**31:
        raise CommandError(NOT_AN_INT)
    if not 0 <= index < len(store.databases):
        raise CommandError(DB_OUT_OF_RANGE)
    return store.databases[index]
