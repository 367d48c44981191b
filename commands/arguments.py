"""Parse the arguments that many commands share: integers, deadlines, database indexes, names.

1. Integers follow Redis's rules, which are stricter than Python's: no space, no plus sign, no leading zero, no
   underscore, at most 64 bits.
2. No function here reads a key.
"""

from __future__ import annotations

from errors import (
    CLIENT_NAME_TOO_LONG,
    DB_OUT_OF_RANGE,
    INVALID_CLIENT_NAME,
    INVALID_EXPIRE,
    NOT_AN_INT,
    NOT_AN_INTEGER,
    TOO_MANY_WORDS,
    CommandError,
)
from store import Keyspace, Store

MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)
MOST_OPTION_WORDS = 128  # in a request with options; no command has nearly as many options
MOST_READ_WORDS = 2048  # in a request that looks at one key after another, and may wait for all of them
SMALL_INTEGERS = {b"%d" % number: number for number in range(-128, 1025)}
LONGEST_CLIENT_NAME_BYTES = 1024
LONGEST_INTEGER = len(b"%d" % MIN_INTEGER)

# option -> (milliseconds per unit, whether it counts from now)
EXPIRY_OPTIONS = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


def parse_integer(text: bytes) -> int:
    """Parse a 64-bit integer in its canonical form. Raises CommandError for any other text."""
    if len(text) > LONGEST_INTEGER:  # a long text takes long to parse
        raise CommandError(NOT_AN_INTEGER)
    known = SMALL_INTEGERS.get(text)
    if known is not None:  # a fifth of the time
        return known
    try:
        number = int(text)
    except ValueError:
        raise CommandError(NOT_AN_INTEGER) from None
    if b"%d" % number != text or not MIN_INTEGER <= number <= MAX_INTEGER:
        raise CommandError(NOT_AN_INTEGER)
    return number


def check_option_words(argv: list[bytes]) -> None:
    """Raise CommandError if a request has more than MOST_OPTION_WORDS words. Redis reads a million of them."""
    if len(argv) > MOST_OPTION_WORDS:
        raise CommandError(TOO_MANY_WORDS % (argv[0].lower(), MOST_OPTION_WORDS))


def check_read_words(argv: list[bytes]) -> None:
    """Raise CommandError if a request has more than MOST_READ_WORDS words."""
    if len(argv) > MOST_READ_WORDS:
        raise CommandError(TOO_MANY_WORDS % (argv[0].lower(), MOST_READ_WORDS))


def parse_bounded(text: bytes, low: int, high: int, error: bytes = NOT_AN_INTEGER) -> int:
    """Parse an integer from `low` to `high`, both included. Raises CommandError with the text `error`."""
    try:
        number = parse_integer(text)
    except CommandError:
        raise CommandError(error) from None
    if not low <= number <= high:
        raise CommandError(error)
    return number


def parse_deadline(option: bytes, text: bytes, now_ms: int, command: bytes) -> int:
    """Return the deadline, in Unix ms, of EX, PX, EXAT or PXAT and its amount. Raises CommandError."""
    amount = parse_integer(text)
    unit_ms, from_now = EXPIRY_OPTIONS[option]
    deadline_ms = amount * unit_ms + (now_ms if from_now else 0)
    if amount <= 0 or deadline_ms > MAX_INTEGER:
        raise CommandError(INVALID_EXPIRE % command)
    return deadline_ms


def parse_database(text: bytes, store: Store) -> Keyspace:
    """Return the database with an index. Raises CommandError if there is none."""
    index = parse_integer(text)
    if not -(2**31) <= index < 2**31:
        raise CommandError(NOT_AN_INT)
    if not 0 <= index < len(store.databases):
        raise CommandError(DB_OUT_OF_RANGE)
    return store.databases[index]


def is_plain(word: bytes) -> bool:
    """Return True if a word is visible ASCII without spaces, so that it cannot break a line of CLIENT LIST."""
    return all(33 <= byte <= 126 for byte in word)


def check_client_name(name: bytes) -> None:
    """Raise CommandError if a connection name is not plain or longer than 1024 bytes."""
    if len(name) > LONGEST_CLIENT_NAME_BYTES:
        raise CommandError(CLIENT_NAME_TOO_LONG)
    if not is_plain(name):
        raise CommandError(INVALID_CLIENT_NAME)
