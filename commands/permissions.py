"""Whether the user of a client may run a request: the check, its error, and what ACL LOG keeps of it.

1. Only the requests of a restricted user are checked (`User.is_restricted`): for others a request costs nothing.
2. A request in a transaction is checked when it is queued, and once more when EXEC runs it, because the user may have
   changed.
"""

from __future__ import annotations

from functools import cache

from commands import NO_AUTH, PUBSUB, Command
from commands.clients import describe
from commands.introspection import all_rows, categories
from commands.key_access import READING, WRITING, accesses
from commands.key_positions import StoreOption
from errors import NOT_PERMITTED, SORT_PATTERN_DENIED, CommandError
from session import Session
from users.registry import LogEntry
from users.rules import Commands
from users.user import READ, WRITE, Denial, Need, User

CHANNELS = {  # command -> the last argument that is a channel
    b"PUBLISH": 1,
    b"SPUBLISH": 1,
    b"SUBSCRIBE": -1,
    b"SSUBSCRIBE": -1,
    b"PSUBSCRIBE": -1,
}


# What Redis has and Godis refuses or lacks, by category: the rules of users may name it, as files made for Redis do.
REFUSED = {
    b"@slow @admin @dangerous": b"failover module|loadex psync replconf replicaof slaveof sync",
    b"@slow @admin @dangerous @hyperloglog": b"pfselftest",
    b"@slow @admin @dangerous @hyperloglog @write": b"pfdebug",
    b"@slow @dangerous @keyspace @write": b"migrate restore-asking",
    b"@fast @connection": b"asking readonly readwrite",
    b"@slow": b"cluster",
}
OF_CLUSTER = {
    b"@slow": b"countkeysinslot getkeysinslot help info keyslot links myid nodes shards slots",
    b"@slow @admin @dangerous": b"addslots addslotsrange bumpepoch count-failure-reports delslots delslotsrange "
    b"failover flushslots forget meet replicas replicate reset saveconfig set-config-epoch setslot slaves",
}


@cache
def catalogue() -> Commands:
    """Return the names of all commands with their categories, which the rules of users are about."""
    known = {row.name.lower(): categories(row) for row in all_rows()}
    known |= {name: found.split() for found, names in REFUSED.items() for name in names.split()}
    return known | {
        b"cluster|%b" % name: found.split() for found, names in OF_CLUSTER.items() for name in names.split()
    }


def need_of(row: Command, argv: list[bytes]) -> Need:
    """Return what a request needs. `row`: that of the subcommand, if the request has one; its arity must be right."""
    keys: list[tuple[bytes, int]] = []
    if row.has_keys and not row.flags & PUBSUB:
        for key, flags in accesses(row, argv):
            access = READ * (not READING.isdisjoint(flags)) | WRITE * (not WRITING.isdisjoint(flags))
            keys.append((key, access))
    last = CHANNELS.get(row.name, 0)
    channels = argv[1 : last + 1 or None] if last else []
    first = argv[1] if len(argv) > 1 else None
    return Need(row.name.lower(), first, bool(row.flags & NO_AUTH), keys, channels, row.name == b"PSUBSCRIBE")


def denial_of(user: User, row: Command, argv: list[bytes]) -> Denial | None:
    """Return why a user may not run a request, or None if it may."""
    return user.denial(need_of(row, argv))


def check(session: Session, row: Command, argv: list[bytes]) -> None:
    """Raise CommandError if the client's user may not run a request, and log that."""
    denial = denial_of(session.user, row, argv)
    if denial is not None:
        log(session, denial)
        text = NOT_PERMITTED[denial.reason]
        raise CommandError(b"NOPERM " + (text % denial.name if b"%b" in text else text))
    check_patterns(session.user, row, argv)


def check_patterns(user: User, row: Command, argv: list[bytes]) -> None:
    """Raise CommandError if SORT would read keys that it does not name, unless the user may read all keys."""
    option = row.keys.pattern_option(argv) if isinstance(row.keys, StoreOption) else None
    if option is not None and not any(selector.keys.allows_all for selector in user.selectors):
        raise CommandError(SORT_PATTERN_DENIED % option)


def log(session: Session, denial: Denial, user: bytes | None = None) -> None:
    """Log a denial for ACL LOG. `user`: the name that a client gave, if it is not that of the client's user."""
    instance = session.instance
    now_ms = session.store.now_ms
    context = (
        "lua"
        if session.runs_script
        else "multi"
        if session.transaction is not None or session.is_executing
        else "toplevel"
    )
    name = user if user is not None else session.user.name
    client = describe(session).rstrip(b"\n")
    entry = LogEntry(denial.reason, context, denial.name, name, client, now_ms, now_ms, 0)
    instance.users.log_denial(entry, instance.config.acllog_max_len)


def log_wrong_password(session: Session, user: bytes) -> None:
    """Log that a client gave a wrong user name or password."""
    log(session, Denial("auth", b"AUTH"), user)
