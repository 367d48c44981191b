"""Commands about the connection itself: greeting, password, database, farewell.

It owns what a client agrees with the server before and after the real work. The state lies in `Session`; CLIENT, which
looks at the other connections too, has a module of its own.

There is one user, `default`, as in a Redis whose ACLs nobody touched: its password is `requirepass`, and while that is
empty every client counts as authenticated.
"""

from __future__ import annotations

import logging
from hmac import compare_digest

from commands import ALLOW_BUSY, ALONE, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE, command, fold
from commands.arguments import MAX_INTEGER, MIN_INTEGER, check_option_words, parse_bounded, parse_database
from errors import (
    AUTH_WITHOUT_PASSWORD,
    CLIENT_NAME_TOO_LONG,
    HELLO_OPTION,
    HELLO_UNAUTHENTICATED,
    INVALID_CLIENT_NAME,
    INVALID_PROTOCOL,
    NOPROTO,
    QUOTED_BYTES,
    SYNTAX,
    WRONG_ARITY,
    WRONG_PASSWORD,
    CommandError,
)
from replies import OK, PONG, Farewell, Reply, Status
from session import Session
from version import REDIS_VERSION

logger = logging.getLogger("godis")

DEFAULT_USER = b"default"
LONGEST_CLIENT_NAME_BYTES = 1024
ALWAYS = NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY  # what a client may ask before anything else


def authenticate(session: Session, user: bytes, password: bytes) -> None:
    """Note that a client knows the password. Raises WRONGPASS; takes as long for any wrong password."""
    required = session.instance.config.requirepass.encode("utf-8", "surrogateescape")
    if user != DEFAULT_USER or (required and not compare_digest(password, required)):
        logger.warning("refused a wrong password or user from %s", session.address)
        raise CommandError(WRONG_PASSWORD)
    session.authenticated = True


def is_plain(word: bytes) -> bool:
    """Return True if a word has only visible ASCII, and so cannot spoil a line of CLIENT LIST."""
    return all(33 <= byte <= 126 for byte in word)


def check_client_name(name: bytes) -> None:
    """Refuse a name that is not plain, or so long that CLIENT LIST would be of names."""
    if len(name) > LONGEST_CLIENT_NAME_BYTES:
        raise CommandError(CLIENT_NAME_TOO_LONG)
    if not is_plain(name):
        raise CommandError(INVALID_CLIENT_NAME)


@command("PING", "[message]", arity=-1, flags=FAST, text_signs=True)
def ping(session: Session, argv: list[bytes]) -> Reply:
    """Answer PONG, or the message."""
    if len(argv) == 1:
        return PONG
    if len(argv) == 2:
        return argv[1]
    raise CommandError(WRONG_ARITY % b"ping")


@command("ECHO", "message", arity=2, flags=LOADING | STALE | FAST)
def echo(session: Session, argv: list[bytes]) -> Reply:
    """Answer the message."""
    _, message = argv
    return message


@command("AUTH", "[username] password", arity=-2, flags=ALWAYS, text_signs=True)
def auth(session: Session, argv: list[bytes]) -> Reply:
    """Authenticate the connection."""
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    if len(argv) == 2 and not session.instance.config.requirepass:
        raise CommandError(AUTH_WITHOUT_PASSWORD)
    authenticate(session, argv[1] if len(argv) == 3 else DEFAULT_USER, argv[-1])
    return OK


@command(
    "HELLO", "[protover [AUTH username password] [SETNAME clientname]]", arity=-1, flags=ALWAYS | ALONE, since="6.0.0"
)
def hello(session: Session, argv: list[bytes]) -> Reply:
    """Agree on RESP2 or RESP3, authenticate, name the connection; tell what the server is.

    From then on lines of text are answered in RESP, too.
    """
    version = parse_bounded(argv[1], MIN_INTEGER, MAX_INTEGER, INVALID_PROTOCOL) if len(argv) > 1 else None
    if version not in (None, 2, 3):
        raise CommandError(NOPROTO)
    check_option_words(argv)
    _take_greeting(session, argv[2:])
    if not session.authenticated:
        raise CommandError(HELLO_UNAUTHENTICATED)
    if version is not None:
        session.resp3 = version == 3
        session.lines_in_resp = True
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": 3 if session.resp3 else 2,
        b"id": session.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }


def _take_greeting(session: Session, words: list[bytes]) -> None:
    """Carry out the options of HELLO one after another, as Redis does: those before a wrong one hold."""
    place = 0
    while place < len(words):
        option, left = fold(words[place]), len(words) - place - 1
        if option == b"AUTH" and left >= 2:
            authenticate(session, *words[place + 1 : place + 3])
            place += 3
        elif option == b"SETNAME" and left >= 1:
            check_client_name(words[place + 1])
            session.name = words[place + 1]
            place += 2
        else:
            raise CommandError(HELLO_OPTION % words[place][:QUOTED_BYTES])


@command("SELECT", "index", arity=2, flags=LOADING | STALE | FAST)
def select(session: Session, argv: list[bytes]) -> Reply:
    """Change to another database."""
    _, index_text = argv
    session.db = parse_database(index_text, session.store)
    return OK


@command("QUIT", arity=-1, flags=ALWAYS, text_signs=True)
def quit_(session: Session, argv: list[bytes]) -> Reply:
    """Close the connection once all replies are sent."""
    session.closing = True
    return Farewell(b"OK")


@command("EXIT", arity=-1, flags=ALWAYS, since="Godis 1.0")
def exit_(session: Session, argv: list[bytes]) -> Reply:
    """Close the connection, as QUIT does; a line of text gets no answer.

    Differs from Redis, which does not have it; the original program did.
    """
    return quit_(session, argv)


@command("RESET", arity=1, flags=ALWAYS | ALONE, since="6.2.0")
def reset(session: Session, argv: list[bytes]) -> Reply:
    """Put the connection back as it was when it opened."""
    session.reset()
    return Status(b"RESET")
