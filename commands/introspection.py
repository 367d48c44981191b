"""COMMAND: the table of commands, in the reply formats of Redis 7.

The replies are derived from the rows: key specifications from the positions of the keys, ACL categories from flags and
family, the arguments of COMMAND DOCS from the syntax. Godis has no ACLs; the categories are for clients that classify
commands by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from commands import (
    ADMIN,
    BLOCKING,
    FAST,
    FLAG_NAMES,
    LOADING,
    PUBSUB,
    READONLY,
    SCRIPT,
    STALE,
    TABLE,
    WRITE,
    Command,
    command,
    container,
    fold,
)
from commands.key_access import accesses
from commands.long_commands import PART_WORDS, word_by_word
from commands.syntax import arguments
from errors import INVALID_ARGUMENTS, INVALID_COMMAND, INVALID_COMMAND_ARITY, NO_KEY_ARGUMENTS, SYNTAX, CommandError
from replies import LongArray, Members, Reply, Status, Work
from session import Session
from values.glob import MAX_PATTERN_BYTES, Pattern

GROUPS = {  # module of commands/ -> Redis's name for the family
    "strings": "string",
    "string_conditions": "string",
    "string_parts": "string",
    "numbers": "string",
    "keys": "generic",
    "clients": "connection",
    "info": "server",
    "introspection": "server",
    "pool": "server",
    "transactions": "transactions",
    "pubsub": "pubsub",
    "scripting": "scripting",
    "functions": "scripting",
    "acl": "server",
    "monitoring": "server",
    "tracking": "connection",
    "waits": "generic",
    "lists": "list",
    "blocking_lists": "list",
    "blocking_sorted_sets": "sorted-set",
    "hashes": "hash",
    "hash_deadlines": "hash",
    "sets": "set",
    "sorted_sets": "sorted-set",
    "sorted_set_algebra": "sorted-set",
    "sorted_set_ranges": "sorted-set",
    "sorted_set_pops": "sorted-set",
    "streams": "stream",
    "stream_claims": "stream",
    "stream_deletions": "stream",
    "stream_group_reads": "stream",
    "stream_groups": "stream",
    "stream_info": "stream",
    "bitmaps": "bitmap",
    "bitfields": "bitmap",
    "sort": "generic",
    "dump": "generic",
}
GROUP_CATEGORIES = {
    "string": b"@string",
    "generic": b"@keyspace",
    "connection": b"@connection",
    "list": b"@list",
    "hash": b"@hash",
    "set": b"@set",
    "sorted-set": b"@sortedset",
    "stream": b"@stream",
    "bitmap": b"@bitmap",
    "hyperloglog": b"@hyperloglog",
    "geo": b"@geo",
    "transactions": b"@transaction",
    "scripting": b"@scripting",
}
FLAG_CATEGORIES = {
    WRITE: [b"@write"],
    READONLY: [b"@read"],
    ADMIN: [b"@admin", b"@dangerous"],
    FAST: [b"@fast"],
    BLOCKING: [b"@blocking"],
    PUBSUB: [b"@pubsub"],
}
FURTHER_CATEGORIES = {  # categories in Redis that the rules do not yield
    b"COMMAND": [b"@connection"],  # and its subcommands
    b"WAIT": [b"@connection"],
    b"WAITAOF": [b"@connection"],
    b"INFO": [b"@dangerous"],
    b"ROLE": [b"@admin", b"@dangerous"],
    b"LASTSAVE": [b"@admin", b"@dangerous"],
    b"KEYS": [b"@dangerous"],
    b"FLUSHDB": [b"@dangerous"],
    b"FLUSHALL": [b"@dangerous"],
    b"SWAPDB": [b"@dangerous"],
    b"SORT": [b"@list", b"@set", b"@sortedset", b"@dangerous"],
    b"SORT_RO": [b"@list", b"@set", b"@sortedset", b"@dangerous"],
    b"RESTORE": [b"@dangerous"],
}


# ---- rows


def find(name: bytes) -> Command | None:
    """Return the row of a name such as get or client|id, or None if there is none."""
    parent, _, child = fold(name).partition(b"|")
    row = TABLE.get(parent)
    if row is not None and child:
        return row.subcommands.get(child)
    return row


def all_rows() -> Iterable[Command]:
    """Return all rows; those of subcommands follow their container's."""
    for row in TABLE.values():
        yield row
        yield from row.subcommands.values()


def group_of(row: Command) -> str:
    """Return Redis's name for a command's family."""
    return GROUPS.get(row.group, row.group)


def categories(row: Command) -> list[bytes]:
    """Return the ACL categories of a command."""
    flags = row.flags & ~READONLY if row.flags & SCRIPT else row.flags  # as in Redis, a script's category is its own
    found = [name for flag, names in FLAG_CATEGORIES.items() if flags & flag for name in names]
    if not row.flags & FAST:
        found.append(b"@slow")
    if group_of(row) in GROUP_CATEGORIES and not row.subcommands and row.group not in ("sort", "waits"):
        found.append(GROUP_CATEGORIES[group_of(row)])
    return found + FURTHER_CATEGORIES.get(row.name.partition(b"|")[0], [])


def describe_subcommands(name: bytes) -> list[Reply]:
    """Return the reply to HELP: a line of syntax and a line of summary for each subcommand."""
    lines: list[Reply] = [Status(b"%b <subcommand> [<arg> [value] [opt] ...]. Subcommands are:" % name)]
    for child, row in sorted(TABLE[name].subcommands.items()):
        lines.append(Status(b"%b %b" % (child, row.syntax.encode()) if row.syntax else child))
        lines.append(Status(b"    " + row.summary.encode()))
    return lines


# ---- COMMAND INFO


@cache  # 25 µs each
def _info(row: Command) -> list[Reply]:
    access = b"RO" if row.flags & READONLY else b"RW"
    return [
        row.name.lower(),
        row.arity,
        Members(Status(name) for name in _flag_names(row)),
        *row.keys.fixed,
        Members(map(Status, categories(row))),
        Members(),  # tips, which only proxies of clusters use
        Members({b"flags": Members([Status(access)]), **keys} for keys in row.keys.specifications()),
        Members(map(_info, row.subcommands.values())),
    ]


def _flag_names(row: Command) -> Iterator[bytes]:
    yield from (name for flag, name in FLAG_NAMES.items() if row.flags & flag)
    if row.keys.fixed is not row.keys:
        yield b"movablekeys"


def command_all(session: Session, argv: list[bytes]) -> Reply:
    """Describe every command."""
    return [_info(row) for row in TABLE.values()]


container("COMMAND", since="2.8.13", flags=LOADING | STALE, run_alone=command_all)


@command("COMMAND|INFO", "[command-name [command-name ...]]", arity=-2, flags=LOADING | STALE, since="2.8.13")
def command_info(session: Session, argv: list[bytes]) -> Reply:
    """Describe the named commands, or all: arity, flags, positions of the keys.

    Differs from Redis: the list of tips for proxies is empty.
    """
    if len(argv) == 2:
        return command_all(session, argv)
    return word_by_word(argv, _infos(argv))


def _infos(argv: list[bytes]) -> Work:
    chunks: list[tuple[Reply, ...]] = []
    for start in range(2, len(argv), PART_WORDS):
        rows = map(find, argv[start : start + PART_WORDS])
        chunks.append(tuple(_info(row) if row else None for row in rows))
        yield
    return LongArray(chunks)


# ---- COMMAND DOCS


@cache  # all docs take 10 ms, a stall of the event loop
def _docs(row: Command) -> dict[Reply, Reply]:
    docs: dict[Reply, Reply] = {
        b"summary": row.summary.encode(),
        b"since": row.since.encode(),
        b"group": group_of(row).encode(),
    }
    if row.syntax:
        docs[b"arguments"] = list(arguments(row.syntax))
    if row.subcommands:
        docs[b"subcommands"] = {child.name.lower(): _docs(child) for child in row.subcommands.values()}
    return docs


@command("COMMAND|DOCS", "[command-name [command-name ...]]", arity=-2, flags=LOADING | STALE, since="7.0.0")
def command_docs(session: Session, argv: list[bytes]) -> Reply:
    """Show the summary, version, group and arguments of the named commands, or of all.

    Differs from Redis: complexity and history are absent.
    """
    if len(argv) == 2:
        return {row.name.lower(): _docs(row) for row in TABLE.values()}
    return word_by_word(argv, _some_docs(argv))


def _some_docs(argv: list[bytes]) -> Work:
    docs: dict[Reply, Reply] = {}
    for start in range(2, len(argv), PART_WORDS):
        docs |= {row.name.lower(): _docs(row) for row in map(find, argv[start : start + PART_WORDS]) if row}
        yield
    return docs


# ---- COMMAND COUNT, LIST, GETKEYS


@command("COMMAND|COUNT", arity=2, flags=LOADING | STALE, since="2.8.13")
def command_count(session: Session, argv: list[bytes]) -> Reply:
    """Count the commands."""
    return len(TABLE)


@command(
    "COMMAND|LIST",
    "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
    arity=-2,
    flags=LOADING | STALE,
    since="7.0.0",
)
def command_list(session: Session, argv: list[bytes]) -> Reply:
    """List the names of all commands, or of those that match a filter."""
    if len(argv) == 2:
        return [row.name.lower() for row in all_rows()]
    if len(argv) != 5 or fold(argv[2]) != b"FILTERBY":
        raise CommandError(SYNTAX)
    kind, text = fold(argv[3]), argv[4][: MAX_PATTERN_BYTES + 1].lower()
    if kind == b"ACLCAT":
        return [row.name.lower() for row in all_rows() if b"@" + text in categories(row)]
    if kind == b"PATTERN":
        matches = Pattern(text).matches
        return [row.name.lower() for row in all_rows() if matches(row.name.lower())]
    if kind == b"MODULE":
        return []  # there are no modules
    raise CommandError(SYNTAX)


@command("COMMAND|GETKEYS", "command [arg [arg ...]]", arity=-4, flags=LOADING | STALE, since="2.8.13")
def command_getkeys(session: Session, argv: list[bytes]) -> Reply:
    """List the keys of a request."""
    row, request = _with_keys(argv)
    return list(row.key_arguments(request))


@command("COMMAND|GETKEYSANDFLAGS", "command [arg [arg ...]]", arity=-4, flags=LOADING | STALE, since="7.0.0")
def command_getkeysandflags(session: Session, argv: list[bytes]) -> Reply:
    """List the keys of a request, each with how it is used."""
    return [[key, Members(map(Status, flags))] for key, flags in accesses(*_with_keys(argv))]


def _with_keys(argv: list[bytes]) -> tuple[Command, list[bytes]]:
    """Return the row and the words of the request behind COMMAND GETKEYS. Raises CommandError if it has no keys."""
    request = argv[2:]
    row = TABLE.get(fold(request[0]))
    if row is not None and row.subcommands:
        row = row.subcommands.get(fold(request[1]))
    if row is None:
        raise CommandError(INVALID_COMMAND)
    if not row.has_keys:
        raise CommandError(NO_KEY_ARGUMENTS)
    if not row.accepts(len(request)):
        raise CommandError(INVALID_COMMAND_ARITY)
    if not row.key_arguments(request):
        raise CommandError(INVALID_ARGUMENTS)
    return row, request


@command("COMMAND|HELP", arity=2, flags=LOADING | STALE, since="5.0.0")
def command_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of COMMAND."""
    return describe_subcommands(b"COMMAND")
