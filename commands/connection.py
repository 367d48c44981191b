"""Commands about the connection itself: protocol version, authentication, database, end.

1. The state of a connection is in `Session`. CLIENT, which also reads other connections, is in `commands/clients.py`.
2. Without ACL rules there is one user, `default`, as in Redis. Its password is `requirepass`. While that is empty,
   every client is authenticated.
"""

from __future__ import annotations

import logging

from commands import ALLOW_BUSY, ALONE, FAST, LOADING, NO_AUTH, NOSCRIPT, NOT_QUEUED, STALE, command, fold
from commands.arguments import (
    MAX_INTEGER,
    MIN_INTEGER,
    check_client_name,
    check_option_words,
    parse_bounded,
    parse_database,
)
from commands.permissions import log_wrong_password
from errors import (
    AUTH_WITHOUT_PASSWORD,
    HELLO_OPTION,
    HELLO_UNAUTHENTICATED,
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
from users.registry import DEFAULT_USER
from version import HELLO_VERSION

logger = logging.getLogger("godis")

ALWAYS = (
    NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY
)  # allowed before AUTH and in every state of the server


def authenticate(session: Session, user: bytes, password: bytes) -> None:
    """Make a client a user. Raises WRONGPASS. The comparison takes the same time for any wrong password."""
    found = session.instance.users.by_name.get(user)
    if found is None or not found.accepts(password):
        logger.warning("refused a wrong password or user from %s", session.address)
        log_wrong_password(session, user)
        raise CommandError(WRONG_PASSWORD)
    session.user = found
    session.authenticated = True


@command("PING", "[message]", arity=-1, flags=FAST, text_signs=True)
def ping(session: Session, argv: list[bytes]) -> Reply:
    """Return PONG, or the message."""
    if len(argv) <= 2 and session.must_only_subscribe:
        return [b"pong", b"".join(argv[1:])]
    if len(argv) == 1:
        return PONG
    if len(argv) == 2:
        return argv[1]
    raise CommandError(WRONG_ARITY % b"ping")


@command("ECHO", "message", arity=2, flags=LOADING | STALE | FAST)
def echo(session: Session, argv: list[bytes]) -> Reply:
    """Return the message."""
    _, message = argv
    return message


@command("AUTH", "[username] password", arity=-2, flags=ALWAYS, text_signs=True)
def auth(session: Session, argv: list[bytes]) -> Reply:
    """Authenticate the connection."""
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    if len(argv) == 2 and session.instance.users.default.needs_no_password:
        raise CommandError(AUTH_WITHOUT_PASSWORD)
    authenticate(session, argv[1] if len(argv) == 3 else DEFAULT_USER, argv[-1])
    return OK


@command(
    "HELLO", "[protover [AUTH username password] [SETNAME clientname]]", arity=-1, flags=ALWAYS | ALONE, since="6.0.0"
)
def hello(session: Session, argv: list[bytes]) -> Reply:
    """Choose RESP2 or RESP3, authenticate and name the connection; returns the server's properties.

    After a HELLO with a version, requests in text lines get replies in RESP, too.
    """
    version = parse_bounded(argv[1], MIN_INTEGER, MAX_INTEGER, INVALID_PROTOCOL) if len(argv) > 1 else None
    if version not in (None, 2, 3):
        raise CommandError(NOPROTO)
    check_option_words(argv)
    _apply_hello_options(session, argv[2:])
    if not session.authenticated:
        raise CommandError(HELLO_UNAUTHENTICATED)
    if version is not None:
        session.resp3 = version == 3
        session.lines_in_resp = True
        session.update_restricted()
    return {
        b"server": b"redis",
        b"version": HELLO_VERSION.encode(),
        b"proto": 3 if session.resp3 else 2,
        b"id": session.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }


def _apply_hello_options(session: Session, words: list[bytes]) -> None:
    """Apply the options of HELLO in order. As in Redis, the options before a wrong one remain in effect."""
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
    """Select the database of this connection."""
    _, index_text = argv
    session.db = parse_database(index_text, session.store)
    return OK


@command("QUIT", arity=-1, flags=ALWAYS | NOT_QUEUED, text_signs=True)
def quit_(session: Session, argv: list[bytes]) -> Reply:
    """Close the connection after all replies are sent."""
    session.closing = True
    return Farewell(b"OK")


@command("EXIT", arity=-1, flags=ALWAYS | NOT_QUEUED, since="Godis 1.0")
def exit_(session: Session, argv: list[bytes]) -> Reply:
    """Close the connection, as QUIT does; a text line gets no reply.

    Differs from Redis, which does not have this command; the original program did.
    """
    return quit_(session, argv)


@command("RESET", arity=1, flags=ALWAYS | NOT_QUEUED | ALONE, since="6.2.0")
def reset(session: Session, argv: list[bytes]) -> Reply:
    """Reset the connection to its initial state."""
    session.reset()
    return Status(b"RESET")
