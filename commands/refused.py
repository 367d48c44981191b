"""Commands that are refused in a special way, because the usual error would do harm. COMMAND does not list them.

1. POST and `Host:` are lines of an HTTP request, which an attacker can make a browser send. They close the connection,
   so that nothing after them runs.
2. `redis-cli --rdb` and `redis-cli --replica` send SYNC and PSYNC as text lines. They wait for ever unless the reply
   begins with `-`.
"""

from __future__ import annotations

import logging

from commands import command
from commands.connection import ALWAYS
from errors import NO_REPLICATION, CommandError
from replies import NO_REPLY, Reply
from session import Session

logger = logging.getLogger("godis")


@command("POST", arity=-1, flags=ALWAYS, hidden=True)
@command("HOST:", arity=-1, flags=ALWAYS, hidden=True)
def close_browser(session: Session, argv: list[bytes]) -> Reply:
    """Close a connection that sends an HTTP request, so that no command after it runs."""
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
