"""Help for people who type requests: HELP, and a hint about quotes after an error.

Only requests in text lines get the hint. COMMAND does not list HELP, because client libraries do not use it.
"""

from __future__ import annotations

from commands import Command, command, fold
from commands.connection import ALWAYS
from errors import QUOTES_HINT, SYNTAX, UNBALANCED_QUOTES, CommandError
from replies import Reply
from session import Session

LINES = [
    b'SET key value             set a value; if it has spaces: SET key "two words"',
    b"SETEX key seconds value   set a value that ends after so many seconds",
    b"GET key                   show a value",
    b"DEL key [key ...]         delete keys, and show what they held",
    b"TTL key                   show how many seconds a key has left; -1: no end",
    b"INCR key                  count",
    b"KEYS pattern              list keys: KEYS * or KEYS user:*",
    b"AUTH password             log in, where the server has a password",
    b"INFO [section]            show the state of the server; COMMAND LIST lists all commands",
    b"exit                      close the connection",
]


@command("HELP", arity=-1, flags=ALWAYS, hidden=True)
@command("?", arity=-1, flags=ALWAYS, hidden=True)
def help_(session: Session, argv: list[bytes]) -> Reply:
    """List the most useful commands, with an explanation each."""
    return LINES.copy()


@command('"', arity=-1, flags=ALWAYS, hidden=True)
def unbalanced(session: Session, argv: list[bytes]) -> Reply:
    """Refuse a line with unbalanced quotes; the parser gives such a line this name."""
    raise CommandError(UNBALANCED_QUOTES)


def with_hint(row: Command, argv: list[bytes], reply: Reply) -> Reply:
    """Return the reply to a text line. An error about too many words gets a hint about quotes."""
    if not isinstance(reply, CommandError):
        return reply
    if row.subcommands and len(argv) > 1:
        row = row.subcommands.get(fold(argv[1]), row)
    too_many = len(argv) > abs(row.arity) and reply.text in (SYNTAX, row.wrong_arity().text)
    return CommandError(reply.text + QUOTES_HINT) if too_many else reply
