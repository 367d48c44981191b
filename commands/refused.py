"""Commands that are refused in a special way, because the usual error would do harm. COMMAND does not list them.

1. POST and `Host:` are lines of an HTTP request, which an attacker can make a browser send. They close the connection,
   so that nothing after them runs.
2. `redis-cli --rdb` and `redis-cli --replica` send SYNC and PSYNC as text lines. They wait for ever unless the reply
   begins with `-`.
3. What needs replicas, a cluster or modules is refused in Redis's words, which libraries and tools know.
"""

from __future__ import annotations

import logging

from commands import command, fold
from commands.connection import ALWAYS
from errors import NO_CLUSTER, NO_FAILOVER, NO_REPLICAS, NO_REPLICATION, SYNTAX, CommandError
from replies import NO_REPLY, OK, Reply
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


@command("REPLICAOF", arity=3, hidden=True)
@command("SLAVEOF", arity=3, hidden=True)
def replicaof(session: Session, argv: list[bytes]) -> Reply:
    """Stay what it is if it is to be the replica of nobody; refuse to be one."""
    if [fold(word) for word in argv[1:]] == [b"NO", b"ONE"]:
        return OK
    raise CommandError(NO_REPLICATION % fold(argv[0]))


@command("FAILOVER", arity=-1, hidden=True)
def failover(session: Session, argv: list[bytes]) -> Reply:
    """Refuse, because there is no replica to hand over to."""
    words = [fold(word) for word in argv[1:]]
    if words == [b"ABORT"]:
        raise CommandError(NO_FAILOVER)
    if words and words[0] not in (b"TO", b"TIMEOUT", b"FORCE"):
        raise CommandError(SYNTAX)
    raise CommandError(NO_REPLICAS)


@command("CLUSTER", arity=-2, hidden=True)
@command("READONLY", arity=1, hidden=True)
@command("READWRITE", arity=1, hidden=True)
@command("ASKING", arity=1, hidden=True)
def cluster(session: Session, argv: list[bytes]) -> Reply:
    """Refuse, because this is no node of a Redis Cluster."""
    raise CommandError(NO_CLUSTER)
