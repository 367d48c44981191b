"""Commands about the pool that the instance is a member of.

They read `PoolState`, which `pool/` keeps up to date. They send no request to etcd or to another instance.
"""

from __future__ import annotations

from commands import LOADING, STALE, command, container, fold
from commands.introspection import describe_subcommands
from errors import NO_POOL, UNKNOWN_READ_MODE, CommandError
from replies import OK, Reply
from session import PoolState, Session

container("POOL", since="Godis 1.1")


def _pool(session: Session) -> PoolState:
    pool = session.instance.pool
    if pool is None:
        raise CommandError(NO_POOL)
    return pool


@command("POOL|STATUS", arity=2, flags=LOADING | STALE, since="Godis 1.1")
def pool_status(session: Session, argv: list[bytes]) -> Reply:
    """List the live instances of the pool: name, address, log index, lag in entries.

    Differs from Redis, which does not have this command. The figures of other instances are up to 2 s old, because each
    instance announces its own every 2 s.
    """
    pool = _pool(session)
    lines = []
    for member in sorted(pool.members, key=lambda member: (member.name, member.id)):
        is_self = member.id == pool.id
        index, entries = (pool.index, pool.entries) if is_self else (member.index, member.entries)
        lag = max(0, pool.head_entries - entries)
        mark = " self" if is_self else ""
        lines.append(f"id={member.id} name={member.name} addr={member.address} index={index} lag={lag}{mark}")
    return [line.encode("utf-8", "surrogateescape") for line in lines]


@command("POOL|HELP", arity=2, flags=LOADING | STALE, since="Godis 1.1")
def pool_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of POOL."""
    return describe_subcommands(b"POOL")


@command("READMODE", "mode", arity=2, flags=LOADING | STALE, since="Godis 1.1")
def readmode(session: Session, argv: list[bytes]) -> Reply:
    """Choose the consistency of reads: LOCAL, this instance's state; LINEARIZABLE, all acknowledged writes of the pool.

    Differs from Redis, which does not have this command.
    """
    _pool(session)
    mode = fold(argv[1]).lower()
    if mode not in (b"local", b"linearizable"):
        raise CommandError(UNKNOWN_READ_MODE)
    session.linearizable = mode == b"linearizable"
    return OK
