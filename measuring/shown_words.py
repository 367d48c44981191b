"""Requests as the slow log and monitors show them: without passwords, cut where they are long, and escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

REDACTED = b"(redacted)"
SECRET_SETTINGS = frozenset({b"REQUIREPASS", b"MASTERAUTH", b"MASTERUSER", b"TLS-KEY-FILE-PASS"})
SHOWN_MONITOR_WORDS = 2048
SHOWN_MONITOR_BYTES = 1 << 16
MOST_NAME_BYTES = 16  # longer than the name of a command that has a password among its words
NAMED = {b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\a": b"\\a", b"\b": b"\\b", b"\\": b"\\\\", b'"': b'\\"'}
SPECIAL = re.compile(rb'[\\"\x00-\x1f\x7f-\xff]')


def redact(argv: Sequence[bytes]) -> Sequence[bytes]:
    """Return a request with a placeholder for each secret word, as Redis does."""
    name = argv[0].upper() if len(argv[0]) <= MOST_NAME_BYTES else b""
    if name == b"AUTH":
        return [argv[0], *[REDACTED] * (len(argv) - 1)]
    if name in (b"HELLO", b"MIGRATE"):
        return _without_login(argv)
    second = argv[1].upper() if len(argv) > 1 and len(argv[1]) <= MOST_NAME_BYTES else b""
    if (name, second) == (b"CONFIG", b"SET"):
        return [
            REDACTED if place > 2 and place % 2 and argv[place - 1].upper() in SECRET_SETTINGS else word
            for place, word in enumerate(argv)
        ]
    if (name, second) == (b"ACL", b"SETUSER"):
        return [*argv[:2], *[REDACTED] * (len(argv) - 2)]
    return argv


def _without_login(argv: Sequence[bytes]) -> Sequence[bytes]:
    """Replace what follows AUTH in HELLO, and AUTH and AUTH2 in MIGRATE."""
    words, hidden = [argv[0]], 0
    of_auth = 2 if argv[0].upper() == b"HELLO" else 1
    for word in argv[1:]:
        words.append(REDACTED if hidden else word)
        hidden = max(0, hidden - 1) or {b"AUTH": of_auth, b"AUTH2": 2}.get(word[:6].upper(), 0) * (not hidden)
    return words


def cut(argv: Sequence[bytes], most_words: int, most_bytes: int) -> list[bytes]:
    """Return the first words, and the first bytes of each, with a note of how many more there are."""
    shown = argv if len(argv) <= most_words else argv[: most_words - 1]
    words = [
        bytes(word)
        if len(word) <= most_bytes
        else b"%b... (%d more bytes)" % (word[:most_bytes], len(word) - most_bytes)
        for word in shown
    ]
    if len(argv) > most_words:
        words.append(b"... (%d more arguments)" % (len(argv) - most_words + 1))
    return words


def quote(word: bytes) -> bytes:
    """Return a word in quotes, with what cannot be printed escaped."""
    return b'"%b"' % SPECIAL.sub(_escape, word)


def _escape(match: re.Match[bytes]) -> bytes:
    return NAMED.get(match[0]) or b"\\x%02x" % match[0][0]


def quoted_line(argv: Sequence[bytes]) -> bytes:
    """Return a request as MONITOR shows it."""
    return b" ".join(map(quote, cut(redact(argv), SHOWN_MONITOR_WORDS, SHOWN_MONITOR_BYTES)))
