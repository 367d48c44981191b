"""Write docs/commands.md, and the README's table of commands, from the table; a test says when they are out of date.

    python docs/make_commands.py

A row gives its name, syntax, origin and the first line of its docstring. A paragraph of the docstring that begins with
"Differs from Redis" says how.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import engine  # noqa: E402, F401  (fills the table)
from commands import TABLE, Command  # noqa: E402
from commands.introspection import all_rows  # noqa: E402
from version import REDIS_VERSION  # noqa: E402

TARGET = ROOT / "docs" / "commands.md"
README = ROOT / "README.md"
DIFFERENCE = "Differs from Redis"
SECTIONS = {  # title -> modules of commands/
    "Strings": ["strings", "string_conditions", "string_parts", "numbers"],
    "Lists": ["lists", "blocking_lists"],
    "Hashes": ["hashes", "hash_deadlines"],
    "Sets": ["sets"],
    "Sorted sets": [
        "sorted_sets",
        "sorted_set_ranges",
        "sorted_set_pops",
        "sorted_set_algebra",
        "blocking_sorted_sets",
    ],
    "Streams": ["streams", "stream_deletions", "stream_groups", "stream_group_reads", "stream_claims", "stream_info"],
    "Bitmaps": ["bitmaps", "bitfields"],
    "HyperLogLog": ["hyperloglog"],
    "Geo": ["geo"],
    "Keys": ["keys", "sort", "dump", "waits"],
    "Transactions": ["transactions"],
    "Publish and subscribe": ["pubsub"],
    "Scripts": ["scripting", "functions"],
    "Connection": ["connection", "clients", "tracking"],
    "Server": ["server", "info", "introspection", "monitoring", "acl"],
    "Pool": ["pool"],
}
OPENING = """\
# Commands

Made by `python docs/make_commands.py` from the table of commands in `commands/`; do not edit.

Arity, options, replies and error texts are those of Redis {redis}; what differs is said in *italics*. Names and
options may be written in any case. "Since" is the version of Redis that first had the command.

{count} commands; those with a subcommand count once.
"""


def difference(row: Command) -> str:
    """Return what the docstring says of the difference from Redis, or nothing."""
    paragraphs = (inspect.getdoc(row.run) or "").split("\n\n")
    return next((" ".join(text.split()) for text in paragraphs[1:] if text.startswith(DIFFERENCE)), "")


def line(row: Command) -> str:
    """Write a row of a table."""
    request = f"{row.name.decode().replace('|', ' ')} {row.syntax}".strip().replace("|", "\\|")
    text = " ".join(filter(None, [row.summary, f"*{difference(row)}*" if difference(row) else ""]))
    return f"| `{request}` | {text} | {row.since} |"


def render() -> str:
    """Write the page."""
    parts = [OPENING.format(redis=REDIS_VERSION, count=len(TABLE))]
    for title, modules in SECTIONS.items():
        rows = [row for row in all_rows() if row.group in modules and (not row.subcommands or row.arity == -1)]
        if rows:
            lines = "\n".join(map(line, sorted(rows, key=lambda row: modules.index(row.group))))
            parts.append(f"## {title}\n\n| Command | What it does | Since |\n|---|---|---|\n{lines}\n")
    return "\n".join(parts)


def readme(text: str) -> str:
    """Return the README with its table of commands: a line a family, its names in the order of the table."""
    lines = []
    for title, modules in SECTIONS.items():
        rows = [row for row in TABLE.values() if row.group in modules]
        names = [row.name.decode() for row in sorted(rows, key=lambda row: modules.index(row.group))]
        if names:
            lines.append(f"| {title.lower()} | {' '.join(names)} |\n")
    return re.sub(r"(?:^\| [a-z ]+ \| [A-Z][A-Z_ ]+ \|\n)+", "".join(lines), text, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
