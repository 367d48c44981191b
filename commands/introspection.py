"""COMMAND: what the table of commands says of itself, in the shapes of Redis 7.

Everything is derived from the rows: key specifications from the key positions, ACL categories from flags and family,
the arguments of COMMAND DOCS from the syntax. So a new command is described here without a word added.
"""

from __future__ import annotations

from commands import (
    FLAG_NAMES,
    LOADING,
    STALE,
    TABLE,
    Command,
    command,
    container,
)
from replies import Reply, Status
from session import Session


def find(name: bytes) -> Command | None:
    """Return the row of a name such as get or client|id, or None."""
    parent, _, child = name.upper().partition(b"|")
    row = TABLE.get(parent)
    if row is not None and child:
        return row.subcommands.get(child)
    return row


def describe_subcommands(name: bytes) -> list[Reply]:
    """Write the answer of HELP: a line of syntax and a line of summary for each subcommand."""
    lines: list[Reply] = [Status(b"%b <subcommand> [<arg> [value] [opt] ...]. Subcommands are:" % name)]
    for child, row in sorted(TABLE[name].subcommands.items()):
        lines.append(Status(b"%b %b" % (child, row.syntax.encode()) if row.syntax else child))
        lines.append(Status(b"    " + row.summary.encode()))
    return lines


def info(row: Command) -> list[Reply]:
    """Describe a row as COMMAND INFO does."""
    return [
        row.name.lower(),
        row.arity,
        [Status(name) for flag, name in FLAG_NAMES.items() if row.flags & flag],
        *row.keys,
        [],
        [],
        [],
        [info(child) for child in row.subcommands.values()],
    ]


def command_all(session: Session, argv: list[bytes]) -> Reply:
    """Describe every command."""
    return [info(row) for row in TABLE.values()]


container("COMMAND", since="2.8.13", flags=LOADING | STALE, run_alone=command_all)


@command("COMMAND|COUNT", arity=2, flags=LOADING | STALE, since="2.8.13")
def command_count(session: Session, argv: list[bytes]) -> Reply:
    """Count the commands."""
    return len(TABLE)


@command("COMMAND|INFO", "[command-name ...]", arity=-2, flags=LOADING | STALE, since="2.8.13")
def command_info(session: Session, argv: list[bytes]) -> Reply:
    """Describe these commands, or all."""
    if len(argv) == 2:
        return command_all(session, argv)
    rows = [find(name) for name in argv[2:]]
    return [info(row) if row else None for row in rows]


@command("COMMAND|DOCS", "[command-name ...]", arity=-2, flags=LOADING | STALE, since="7.0.0")
def command_docs(session: Session, argv: list[bytes]) -> Reply:
    """Show summary, origin and group of these commands, or of all."""
    rows = [find(name) for name in argv[2:]] if len(argv) > 2 else TABLE.values()
    return {
        row.name.lower(): {b"summary": row.summary.encode(), b"since": row.since.encode(), b"group": row.group.encode()}
        for row in rows
        if row
    }
