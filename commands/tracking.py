"""Client-side caching: CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR. `keyspace/tracking.py` does the work."""

from __future__ import annotations

from collections.abc import Iterable

import commands.clients  # noqa: F401  (it makes the container)
from commands import LOADING, NOSCRIPT, STALE, command, fold
from commands.arguments import parse_integer
from errors import (
    CACHING_WITHOUT_OPTIN,
    CACHING_WITHOUT_OPTOUT,
    CACHING_WITHOUT_TRACKING,
    REDIRECT_TWICE,
    REDIRECT_UNKNOWN,
    SYNTAX,
    TRACKING_BCAST_AND_OPT,
    TRACKING_OPTIN_AND_OPTOUT,
    TRACKING_PREFIX_EXISTS,
    TRACKING_PREFIX_TWICE,
    TRACKING_PREFIX_WITHOUT_BCAST,
    TRACKING_SWITCHES_BCAST,
    TRACKING_SWITCHES_OPT,
    CommandError,
)
from keyspace.tracking import Mode
from replies import OK, Members, Reply
from session import Session

PLAIN = NOSCRIPT | LOADING | STALE


@command(
    "CLIENT|TRACKING",
    "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
    arity=-3,
    flags=PLAIN,
    since="6.0.0",
)
def client_tracking(session: Session, argv: list[bytes]) -> Reply:
    """Get a message when a key has changed that this connection has read, or that begins with a prefix.

    Differs from Redis: SWAPDB invalidates all keys. In a pool a client gets its own changes, too, in spite of NOLOOP,
    and what an EXEC that writes has read is not tracked.
    """
    mode, prefixes = _parse(session, argv[3:])
    switch = fold(argv[2])
    if switch == b"ON":
        _check(mode, prefixes, session.tracking)
        mode.prefixes = dict.fromkeys(prefixes or [b""]) if mode.bcast else {}
        session.instance.tracking.begin(session, mode)
    elif switch == b"OFF":
        session.instance.tracking.end(session)
    else:
        raise CommandError(SYNTAX)
    return OK


def _parse(session: Session, words: list[bytes]) -> tuple[Mode, list[bytes]]:
    mode, prefixes = Mode(), list[bytes]()
    rest = iter(words)
    for word in rest:
        option = fold(word)
        if option in (b"REDIRECT", b"PREFIX"):
            value = next(rest, None)
            if value is None:
                raise CommandError(SYNTAX)
            if option == b"PREFIX":
                prefixes.append(value)
                continue
            if mode.redirect:
                raise CommandError(REDIRECT_TWICE)
            mode.redirect = parse_integer(value)
            if mode.redirect not in session.instance.clients:
                raise CommandError(REDIRECT_UNKNOWN)
        elif option in (b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"):
            setattr(mode, option.decode().lower(), True)
        else:
            raise CommandError(SYNTAX)
    return mode, prefixes


def _check(mode: Mode, prefixes: list[bytes], known: Mode | None) -> None:
    """Raise CommandError if the options exclude each other, or the mode that the client has."""
    if prefixes and not mode.bcast:
        raise CommandError(TRACKING_PREFIX_WITHOUT_BCAST)
    if known is not None and known.bcast != mode.bcast:
        raise CommandError(TRACKING_SWITCHES_BCAST)
    if mode.bcast and (mode.optin or mode.optout):
        raise CommandError(TRACKING_BCAST_AND_OPT)
    if mode.optin and mode.optout:
        raise CommandError(TRACKING_OPTIN_AND_OPTOUT)
    if known is not None and ((mode.optin and known.optout) or (mode.optout and known.optin)):
        raise CommandError(TRACKING_SWITCHES_OPT)
    present = sorted(known.prefixes) if known is not None else []
    colliding = _colliding([*present, *prefixes])
    for number, prefix in enumerate(prefixes):
        if prefix in colliding:
            _check_prefix(prefix, present, TRACKING_PREFIX_EXISTS)
            _check_prefix(prefix, prefixes[number + 1 :], TRACKING_PREFIX_TWICE)


def _colliding(prefixes: Iterable[bytes]) -> set[bytes]:
    """Return those of some prefixes that begin with another one, or with which another one begins. O(n log n)."""
    found: set[bytes] = set()
    shortest = None
    for prefix in sorted(prefixes):
        if shortest is not None and prefix.startswith(shortest):
            found |= {shortest, prefix}
        else:
            shortest = prefix
    return found


def _check_prefix(prefix: bytes, others: Iterable[bytes], error: bytes) -> None:
    for other in others:
        if prefix.startswith(other) or other.startswith(prefix):
            raise CommandError(error % (prefix, other))


@command("CLIENT|CACHING", "<YES | NO>", arity=3, flags=PLAIN, since="6.0.0")
def client_caching(session: Session, argv: list[bytes]) -> Reply:
    """Track the keys of the next request (OPTIN), or do not (OPTOUT)."""
    mode, answer = session.tracking, fold(argv[2])
    if mode is None:
        raise CommandError(CACHING_WITHOUT_TRACKING)
    if answer not in (b"YES", b"NO"):
        raise CommandError(SYNTAX)
    if not (mode.optin if answer == b"YES" else mode.optout):
        raise CommandError(CACHING_WITHOUT_OPTIN if answer == b"YES" else CACHING_WITHOUT_OPTOUT)
    mode.caching = True
    return OK


@command("CLIENT|TRACKINGINFO", arity=2, flags=PLAIN, since="6.2.0")
def client_trackinginfo(session: Session, argv: list[bytes]) -> Reply:
    """Describe how this connection tracks keys."""
    mode = session.tracking
    if mode is None:
        return {b"flags": Members([b"off"]), b"redirect": -1, b"prefixes": []}
    flags = {
        b"on": True,
        b"bcast": mode.bcast,
        b"optin": mode.optin,
        b"caching-yes": mode.optin and mode.caching,
        b"optout": mode.optout,
        b"caching-no": mode.optout and mode.caching,
        b"noloop": mode.noloop,
        b"broken_redirect": mode.is_broken,
    }
    return {
        b"flags": Members(name for name, is_set in flags.items() if is_set),
        b"redirect": mode.redirect,
        b"prefixes": sorted(mode.prefixes),
    }


@command("CLIENT|GETREDIR", arity=2, flags=PLAIN, since="6.0.0")
def client_getredir(session: Session, argv: list[bytes]) -> Reply:
    """Get the id of the client that receives the messages of this one: 0 for itself, -1 without tracking."""
    return -1 if session.tracking is None else session.tracking.redirect
