"""WAIT and WAITAOF: wait until writes are elsewhere, or on the disk.

1. There are no replicas, so WAIT for one waits until its timeout, as in a Redis without replicas.
2. WAITAOF waits for an fsync of all that is in the log now, and begins one: it does not wait for the next second.
3. In a pool a write is answered when its entry is in etcd's log, and etcd syncs that: WAITAOF need not wait.
"""

from __future__ import annotations

from commands import NOSCRIPT, command
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_bounded, parse_integer
from errors import (
    COUNT_NEGATIVE,
    NUMLOCAL_OUT_OF_RANGE,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_AN_INTEGER,
    TIMEOUT_OUT_OF_RANGE,
    WAITAOF_WITHOUT_LOG,
    CommandError,
)
from replies import Blocked, Reply, UntilSynced
from session import LogState, Session


def _timeout_seconds(session: Session, text: bytes) -> float:
    """Parse a timeout in milliseconds; return seconds, 0: for ever."""
    timeout_ms = parse_bounded(text, MIN_INTEGER, MAX_INTEGER, TIMEOUT_NOT_AN_INTEGER)
    if timeout_ms < 0:
        raise CommandError(TIMEOUT_NEGATIVE)
    if timeout_ms > MAX_INTEGER - session.store.now_ms:
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    return timeout_ms / 1000


def _is_synced(log: LogState) -> bool:
    return log.failure is None and not log.pieces and log.synced_bytes >= log.written_bytes


@command("WAIT", "numreplicas timeout", arity=3, flags=NOSCRIPT, since="3.0.0")
def wait(session: Session, argv: list[bytes]) -> Reply:
    """Wait for replicas. There are none, so 0 is returned: at once if numreplicas is 0, else after the timeout."""
    replicas, seconds = parse_integer(argv[1]), _timeout_seconds(session, argv[2])
    if replicas <= 0 or session.is_executing:
        return 0
    return Blocked({}, object, seconds, 0, lambda _: argv)


@command("WAITAOF", "numlocal numreplicas timeout", arity=4, flags=NOSCRIPT, since="7.2.0")
def waitaof(session: Session, argv: list[bytes]) -> Reply:
    """Wait until what was written so far is on the disk; returns 1 if it is, and 0, because there are no replicas.

    Differs from Redis: it waits for the writes of all clients. In a pool 1 is returned at once, because a write is
    answered when a majority of etcd's members has it on the disk.
    """
    local = parse_integer(argv[1])
    if not 0 <= local <= 1:
        raise CommandError(NUMLOCAL_OUT_OF_RANGE)
    replicas = parse_bounded(argv[2], 0, MAX_INTEGER, COUNT_NEGATIVE)
    seconds = _timeout_seconds(session, argv[3])
    instance = session.instance
    if instance.pool is None and not instance.config.appendonly:
        if local:
            raise CommandError(WAITAOF_WITHOUT_LOG)
        is_synced = False
    else:
        is_synced = instance.pool is not None or _is_synced(instance.log)
    reply = [int(is_synced), 0]
    if session.is_executing or (not replicas and is_synced >= local):
        return reply
    return UntilSynced(seconds, reply) if not replicas else Blocked({}, object, seconds, reply, lambda _: argv)
