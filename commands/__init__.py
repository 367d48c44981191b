"""The table of commands, and the decorator that fills it.

1. A command is a plain function `(session, argv) -> Reply` under `@command`, in the module of its family.
2. It unpacks `argv` on its first line. It returns a Python value (see `replies`) or raises CommandError. Long work is a
   generator (`long_commands.py`). A command that waits returns `wait_for(…)` (`blocking.py`).
3. It logs the effect of every change, with `db.done`, `db.end_at`, `db.effect` or the log itself.
4. It does not know the dialect, the socket or the clock.

COMMAND's replies, the arity tests and docs/commands.md are all generated from this table:

    @command("SETEX", "key seconds value", arity=4, flags=WRITE | DENYOOM, keys=FIRST, since="2.0.0")
    def setex(session: Session, argv: list[bytes]) -> Reply:
        '''Set the string value of a key and its time to live in seconds.'''

A frequent command may have a second form, which runs a whole pipeline of it at once: see `for_many`.

A subcommand is a row named `CLIENT|ID`; `container("CLIENT")` makes the row of its container. A row that COMMAND does
not list is in `HIDDEN`. These two tables are the only mutable state of a module in the program.

Refused: one class per command, which triples the lines; discovery by function name, which leaves no room for arity and
flags.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from commands.key_positions import (
    ALL,
    FIRST,
    FIRST_TWO,
    NO_KEYS,
    PAIRS,
    AfterWord,
    Counted,
    Keys,
    Positions,
    StoreOption,
)
from errors import NAMED_BYTES, UNKNOWN_SUBCOMMAND, WRONG_ARITY, CommandError
from measuring.command_counts import CommandCount
from replies import Reply
from session import Session

__all__ = [
    "ALL",
    "FIRST",
    "FIRST_TWO",
    "NO_KEYS",
    "PAIRS",
    "AfterWord",
    "Counted",
    "Keys",
    "StoreOption",
]

Run = Callable[[Session, "list[bytes]"], Reply]
RunMany = Callable[..., Sequence[Reply] | None]

LONGEST_NAME_BYTES = 64  # longer than any name of a command or an option

# flags, named as COMMAND names them
WRITE = 1
READONLY = 2
DENYOOM = 4
FAST = 8
ADMIN = 16
NOSCRIPT = 32
LOADING = 64
STALE = 128
NO_AUTH = 256
ALLOW_BUSY = 512
NO_ASYNC_LOADING = 1024
BLOCKING = 2048
NO_MULTI = 4096
PUBSUB = 8192
SKIP_MONITOR = 1 << 14  # the command shows itself to monitors, before what it runs
SKIP_SLOWLOG = 1 << 15  # what it runs is measured alone
NO_MANDATORY_KEYS = 1 << 16
EVERYWHERE = 1 << 22  # in a pool every instance runs the command, as it does a write; COMMAND omits it
ALONE = 1 << 20  # the command changes how replies are encoded, so earlier replies are encoded first; COMMAND omits it
MAY_REPLICATE = 1 << 21  # the command reads, and may log that it changed something; Redis logs it; COMMAND omits it
SCRIPT = 1 << 23  # the command runs a script, which may touch any key; COMMAND omits it
QUICK = 1 << 24  # the command takes microseconds, though Redis does not call it fast; COMMAND omits it
NOT_QUEUED = 1 << 25  # the command runs at once also after MULTI; COMMAND omits it
FLAG_NAMES = {
    WRITE: b"write",
    READONLY: b"readonly",
    DENYOOM: b"denyoom",
    FAST: b"fast",
    ADMIN: b"admin",
    NOSCRIPT: b"noscript",
    LOADING: b"loading",
    STALE: b"stale",
    NO_AUTH: b"no_auth",
    ALLOW_BUSY: b"allow_busy",
    NO_ASYNC_LOADING: b"no_async_loading",
    BLOCKING: b"blocking",
    NO_MULTI: b"no_multi",
    PUBSUB: b"pubsub",
    SKIP_MONITOR: b"skip_monitor",
    SKIP_SLOWLOG: b"skip_slowlog",
    NO_MANDATORY_KEYS: b"no_mandatory_keys",
}

NOT_COUNTED = CommandCount()


@dataclass(eq=False, repr=False, slots=True)
class Command:
    """A row of the table. `arity` includes the name; a negative arity is a minimum."""

    name: bytes
    syntax: str
    arity: int
    flags: int
    keys: Positions
    since: str
    group: str
    summary: str
    run: Run
    text_null: bytes
    text_signs: bool = False
    run_many: RunMany | None = None
    subcommands: dict[bytes, Command] = field(default_factory=dict)
    count: CommandCount = NOT_COUNTED  # of a row of an engine: its calls
    least_words: int = field(init=False)  # what has fewer, and not `arity`, is refused
    alone: bool = field(init=False)
    has_keys: bool = field(init=False)
    swift: bool = field(init=False)  # takes some microseconds, so not each call is measured

    def __post_init__(self) -> None:
        self.least_words = -self.arity if self.arity < 0 else sys.maxsize
        self.alone = bool(self.flags & ALONE)
        self.has_keys = self.keys is not NO_KEYS
        self.swift = bool(self.flags & (FAST | QUICK)) or self.run_many is not None

    def accepts(self, count: int) -> bool:
        """Return True if a request may have `count` words, the name included."""
        return count == self.arity or count >= self.least_words

    def wrong_arity(self) -> CommandError:
        """Return the error for a request with a wrong number of words."""
        return CommandError(WRONG_ARITY % self.name.lower())

    def of(self, argv: Sequence[bytes]) -> Command:
        """Return the row of the subcommand that a request names, if there is one, else this row."""
        return self.subcommands.get(fold(argv[1]), self) if self.subcommands and len(argv) > 1 else self

    def subcommand(self, argv: list[bytes]) -> Command:
        """Return the row of the subcommand that a request names. Raises CommandError for a wrong name or arity."""
        row = self.subcommands.get(fold(argv[1]))
        if row is None:
            raise CommandError(UNKNOWN_SUBCOMMAND % (argv[1][:NAMED_BYTES], self.name))
        if not row.accepts(len(argv)):
            raise row.wrong_arity()
        return row

    def resolved(self, argv: list[bytes]) -> Command:
        """Return the row of the request's subcommand, if the command has some, else this row. Raises CommandError."""
        return self.subcommand(argv) if self.subcommands and len(argv) > 1 else self

    def names_keys(self, argv: list[bytes]) -> bool:
        """Return True if a request touches no keys but those that it names."""
        return self.has_keys and not (type(self.keys) is StoreOption and self.keys.pattern_option(argv))

    def key_arguments(self, argv: list[bytes]) -> list[bytes]:
        """Return the keys of a request, whose arity must be right."""
        return self.keys.find(argv)


TABLE: dict[bytes, Command] = {}
HIDDEN: dict[bytes, Command] = {}  # commands that COMMAND does not list: refused ones and aliases


def fold(word: bytes) -> bytes:
    """Return a command's or an option's name in upper case, cut to LONGEST_NAME_BYTES."""
    return word[:LONGEST_NAME_BYTES].upper()


def command(
    name: str,
    syntax: str = "",
    *,
    arity: int,
    flags: int = 0,
    keys: Positions = NO_KEYS,
    since: str = "1.0.0",
    text_null: bytes = b"(nil)",
    text_signs: bool = False,
    hidden: bool = False,
) -> Callable[[Run], Run]:
    """Register a function in the table and return it unchanged.

    `text_null` is the text of a null reply in the text dialect. With `text_signs` a status in the text dialect begins
    with `+` and an error with `-`, because programs send this command as a line and expect Redis's reply. COMMAND does
    not list a `hidden` command.
    """

    def enter(run: Run) -> Run:
        summary = (run.__doc__ or "").strip().split("\n")[0]
        group = run.__module__.rpartition(".")[2]
        row = Command(name.encode(), syntax, arity, flags, keys, since, group, summary, run, text_null, text_signs)
        parent, _, child = row.name.partition(b"|")
        if hidden:
            HIDDEN[row.name] = row
        elif child:
            TABLE[parent].subcommands[child] = row
            TABLE[parent].group = group
        else:
            TABLE[parent] = row
        return run

    return enter


def for_many(name: str) -> Callable[[RunMany], RunMany]:
    """Register the form of a command that runs a pipeline at once, and return it unchanged.

    The form takes the session and the arguments by column: a sequence of all keys, a sequence of all values, in the
    order of the requests. It has the same effects and replies as the requests run one by one. If it cannot guarantee
    that, it changes nothing and returns None, and the engine runs the requests one by one. It raises nothing.
    """

    def enter(run_many: RunMany) -> RunMany:
        TABLE[name.encode()].run_many = run_many
        TABLE[name.encode()].swift = True
        return run_many

    return enter


def container(name: str, *, since: str = "1.0.0", flags: int = 0, run_alone: Run | None = None) -> None:
    """Register a command that has subcommands. `run_alone` runs a request that names none."""

    def run(session: Session, argv: list[bytes]) -> Reply:
        if len(argv) == 1 and run_alone is not None:
            return run_alone(session, argv)
        return TABLE[name.encode()].subcommand(argv).run(session, argv)

    run.__doc__ = run_alone.__doc__ if run_alone else f"A container for the {name} commands."
    command(name, arity=-1 if run_alone else -2, flags=flags, since=since)(run)
