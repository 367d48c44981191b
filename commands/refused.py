"""Commands that are known only to be refused in a way that harms nobody. COMMAND does not list them.

- MULTI closes the connection: otherwise the commands behind it would run one by one, although their client wants all of
  them or none. It is refused in the same way before AUTH, because an AUTH may follow it.
- POST and `Host:` begin the lines of HTTP: a browser was made to send them, so they close the connection, too.
- SYNC and PSYNC come as lines of text from `redis-cli --rdb` and `redis-cli --replica`, which wait for ever unless the
  answer begins with `-`.
"""

from __future__ import annotations

import logging

from commands import command
from commands.connection import ALWAYS
from errors import NO_REPLICATION, NO_TRANSACTIONS, CommandError
from replies import NO_REPLY, Reply
from session import Session

logger = logging.getLogger("godis")


@command("MULTI", arity=-1, flags=ALWAYS, text_signs=True, hidden=True)
def multi(session: Session, argv: list[bytes]) -> Reply:
    """Refuse a transaction as a whole."""
    logger.warning("closed %s: it sent MULTI, and there are no transactions", session.address)
    session.closing = True
    raise CommandError(NO_TRANSACTIONS)


@command("POST", arity=-1, flags=ALWAYS, hidden=True)
@command("HOST:", arity=-1, flags=ALWAYS, hidden=True)
def close_browser(session: Session, argv: list[bytes]) -> Reply:
    """Close the connection of a browser that was made to send an HTTP request: nothing behind it may run."""
    logger.warning("closed %s: an HTTP request, perhaps a cross-protocol attack", session.address)
    session.closing = True
    return NO_REPLY


@command("SYNC", arity=-1, text_signs=True, hidden=True)
def sync(session: Session, argv: list[bytes]) -> Reply:
    """Refuse to be copied as a primary is."""
    raise CommandError(NO_REPLICATION % b"SYNC")


@command("PSYNC", arity=-1, text_signs=True, hidden=True)
def psync(session: Session, argv: list[bytes]) -> Reply:
    """Refuse to be copied as a primary is."""
    raise CommandError(NO_REPLICATION % b"PSYNC")
