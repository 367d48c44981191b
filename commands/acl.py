"""ACL: users, and what they may do.

1. AUTH and HELLO make a client another user (`commands/connection.py`); the check of a request is in `permissions.py`.
2. A change of a user holds for its connected clients at once. Clients of a user that is deleted are closed, and so are
   those that have subscribed to a channel that is no longer allowed.
3. Users are in memory, and in the file of `--aclfile`: ACL SAVE writes it. Each instance of a pool has its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from commands import ADMIN, LOADING, NOSCRIPT, STALE, TABLE, Command, command, container, fold
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_bounded
from commands.introspection import describe_subcommands
from commands.permissions import catalogue, denial_of
from errors import (
    ACL_FILE_REFUSED,
    ACL_NO_SUCH_USER,
    ACL_NOT_SAVED,
    BAD_USER_NAME,
    DEFAULT_USER_STAYS,
    GENPASS_BITS,
    NO_ACL_FILE,
    NO_SUCH_COMMAND,
    NOT_AN_INTEGER,
    QUOTED_BYTES,
    RULE_REFUSED,
    UNKNOWN_CATEGORY,
    UNKNOWN_OR_WRONG_SUBCOMMAND,
    USER_CANNOT_BE_SAVED,
    WOULD_BE_DENIED,
    CommandError,
)
from keyspace.subscriptions import PATTERN
from replies import OK, Members, Reply, Status
from session import Instance, Session
from users.registry import DEFAULT_USER, LogEntry, UserFileError, can_be_saved
from users.rules import CATEGORIES, SPACES, RuleError, changed
from users.user import Selector, User

logger = logging.getLogger("godis")

ASKING = LOADING | STALE
RULING = ADMIN | NOSCRIPT | LOADING | STALE
LOG_ENTRIES = 10  # of ACL LOG without a number
MOST_PASSWORD_BITS = 4096
PASSWORD_BITS = 256

container("ACL", since="6.0.0")


# ---- what there is


@command("ACL|WHOAMI", arity=2, flags=ASKING | NOSCRIPT, since="6.0.0")
def acl_whoami(session: Session, argv: list[bytes]) -> Reply:
    """Get the name of the user of this connection."""
    return session.user.name


@command("ACL|USERS", arity=2, flags=RULING, since="6.0.0")
def acl_users(session: Session, argv: list[bytes]) -> Reply:
    """List the names of all users."""
    return [*sorted(session.instance.users.by_name)]


@command("ACL|LIST", arity=2, flags=RULING, since="6.0.0")
def acl_list(session: Session, argv: list[bytes]) -> Reply:
    """List all users with their rules.

    Differs from Redis 7.0: the rules of commands are shown in the order in which they were given, as Redis 7.2 does.
    """
    return [*session.instance.users.describe()]


@command("ACL|CAT", "[categoryname]", arity=-2, flags=ASKING | NOSCRIPT, since="6.0.0")
def acl_cat(session: Session, argv: list[bytes]) -> Reply:
    """List the categories, or the commands of one."""
    if len(argv) > 3:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"ACL"))
    if len(argv) == 2:
        return [*CATEGORIES]
    if argv[2].lower() not in CATEGORIES:
        raise CommandError(UNKNOWN_CATEGORY % argv[2][:QUOTED_BYTES])
    wanted = b"@" + argv[2].lower()
    return [name for name, categories in catalogue().items() if wanted in categories]


@command("ACL|GETUSER", "username", arity=3, flags=RULING, since="6.0.0")
def acl_getuser(session: Session, argv: list[bytes]) -> Reply:
    """Get the rules of a user."""
    user = session.instance.users.by_name.get(argv[2])
    if user is None:
        return None
    root, *further = user.selectors
    return {
        b"flags": Members(map(Status, user.flags)),
        b"passwords": [*user.password_hashes],
        **_describe(root),
        b"selectors": [_describe(selector) for selector in further],
    }


def _describe(selector: Selector) -> dict[Reply, Reply]:
    return {
        b"commands": selector.describe_commands(),
        b"keys": selector.describe_keys(),
        b"channels": selector.describe_channels(),
    }


# ---- changes


@command("ACL|SETUSER", "username [rule [rule ...]]", arity=-3, flags=RULING, since="6.0.0")
def acl_setuser(session: Session, argv: list[bytes]) -> Reply:
    """Create a user, or change its rules."""
    name, rules = argv[2], argv[3:]
    if not SPACES.isdisjoint(name):
        raise CommandError(BAD_USER_NAME)
    users = session.instance.users
    try:
        user = changed(users.by_name.get(name, User(name)), rules, catalogue())
    except RuleError as error:
        raise CommandError(RULE_REFUSED % (error.rule[:QUOTED_BYTES], error.reason)) from None
    if not can_be_saved(user, catalogue()):
        raise CommandError(USER_CANNOT_BE_SAVED)
    users.put(user)
    _follow(session, [users.by_name[name]], [])
    return OK


@command("ACL|DELUSER", "username [username ...]", arity=-3, flags=RULING, since="6.0.0")
def acl_deluser(session: Session, argv: list[bytes]) -> Reply:
    """Delete users, and close their connections."""
    if DEFAULT_USER in argv[2:]:
        raise CommandError(DEFAULT_USER_STAYS)
    deleted = [user for name in argv[2:] if (user := session.instance.users.delete(name)) is not None]
    _follow(session, [], deleted)
    return len(deleted)


def _follow(session: Session, changed_users: list[User], ended: Iterable[User]) -> None:
    """Let the clients of some users see their change, or close them. O(number of clients)."""
    ended = list(ended)
    for client in list(session.instance.clients.values()):
        if client.user in ended or (client.user in changed_users and not _may_stay_subscribed(client)):
            end(session, client)
        else:
            client.update_restricted()


def _may_stay_subscribed(client: Session) -> bool:
    return all(
        client.user.allows_channel(name, is_pattern=kind == PATTERN)
        for kind, names in client.subscribed.items()
        for name in names
    )


def end(session: Session, client: Session) -> None:
    """Close a client; the one that asks for it gets its reply first, and has no permissions until then."""
    client.authenticated = False
    if client is session:
        client.closing = True
    else:
        session.instance.kill(client)


# ---- the file


@command("ACL|LOAD", arity=2, flags=RULING, since="6.0.0")
def acl_load(session: Session, argv: list[bytes]) -> Reply:
    """Replace all users by those of the file of users, or none if it has an error."""
    instance = session.instance
    try:
        outdated = instance.users.load(_path(instance), catalogue())
    except UserFileError as error:
        raise CommandError(ACL_FILE_REFUSED % str(error).encode("utf-8", "surrogateescape")) from None
    _follow(session, [], [user for user in outdated if user.name != DEFAULT_USER])
    return OK


@command("ACL|SAVE", arity=2, flags=RULING, since="6.0.0")
def acl_save(session: Session, argv: list[bytes]) -> Reply:
    """Write all users to the file of users."""
    path = _path(session.instance)
    try:
        session.instance.users.save(path)
    except OSError as error:
        logger.error("the users could not be saved to %s: %s", path, error.strerror or error)
        raise CommandError(ACL_NOT_SAVED) from None
    return OK


def _path(instance: Instance) -> str:
    if not instance.config.aclfile:
        raise CommandError(NO_ACL_FILE)
    return instance.config.aclfile


# ---- tools


@command("ACL|GENPASS", "[bits]", arity=-2, flags=ASKING | NOSCRIPT, since="6.0.0")
def acl_genpass(session: Session, argv: list[bytes]) -> Reply:
    """Make a password that cannot be guessed, of 256 bits unless another number is given."""
    if len(argv) > 3:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"ACL"))
    bits = parse_bounded(argv[2], MIN_INTEGER, MAX_INTEGER, NOT_AN_INTEGER) if len(argv) == 3 else PASSWORD_BITS
    if not 0 < bits <= MOST_PASSWORD_BITS:
        raise CommandError(GENPASS_BITS)
    digits = (bits + 3) // 4
    return session.instance.secret_bytes((digits + 1) // 2).hex()[:digits].encode()


@command("ACL|DRYRUN", "username command [arg [arg ...]]", arity=-4, flags=RULING, since="7.0.0")
def acl_dryrun(session: Session, argv: list[bytes]) -> Reply:
    """Tell whether a user may run a request, without running it."""
    user = session.instance.users.by_name.get(argv[2])
    if user is None:
        raise CommandError(ACL_NO_SUCH_USER % argv[2][:QUOTED_BYTES])
    request = argv[3:]
    row = _row(request)
    if not row.accepts(len(request)):
        raise row.wrong_arity()
    denial = denial_of(user, row, request)
    return OK if denial is None else WOULD_BE_DENIED[denial.reason] % denial.name


def _row(request: list[bytes]) -> Command:
    row = TABLE.get(fold(request[0]))
    if row is None or (row.subcommands and len(request) > 1 and fold(request[1]) not in row.subcommands):
        raise CommandError(NO_SUCH_COMMAND % request[0][:QUOTED_BYTES])
    return row.of(request)


@command("ACL|LOG", "[count | RESET]", arity=-2, flags=RULING, since="6.0.0")
def acl_log(session: Session, argv: list[bytes]) -> Reply:
    """List what was denied lately, the newest first, or forget it."""
    if len(argv) > 3:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"ACL"))
    log = session.instance.users.log
    if len(argv) == 3 and fold(argv[2]) == b"RESET":
        log.clear()
        return OK
    wanted = parse_bounded(argv[2], MIN_INTEGER, MAX_INTEGER, NOT_AN_INTEGER) if len(argv) == 3 else LOG_ENTRIES
    return [_show(entry, session.store.now_ms) for entry in list(log)[: max(wanted, 0)]]


def _show(entry: LogEntry, now_ms: int) -> dict[Reply, Reply]:
    return {
        b"count": entry.count,
        b"reason": entry.reason.encode(),
        b"context": entry.context.encode(),
        b"object": entry.name,
        b"username": entry.user,
        b"age-seconds": (now_ms - entry.updated_ms) / 1000,
        b"client-info": entry.client,
        b"entry-id": entry.id,
        b"timestamp-created": entry.created_ms,
        b"timestamp-last-updated": entry.updated_ms,
    }


@command("ACL|HELP", arity=2, flags=ASKING, since="6.0.0")
def acl_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of ACL."""
    return describe_subcommands(b"ACL")
