"""A server filled by random commands of all families: each family in a database of its own."""

from __future__ import annotations

from random import Random

from contents import DATABASES, ask_all
from grammars import FAMILIES, Command, grammar
from servers import Raw

# They leave the database, or take much out of it.
LEAVE = {b"SELECT", b"SWAPDB", b"MOVE", b"RESET", b"FLUSHDB", b"FLUSHALL", b"HELLO"}
BATCH_COMMANDS = 25


def fill(raw: Raw, seed: int, count: int, for_redis: bool = True) -> None:
    """Run so many random commands of each family; `for_redis`: that redis-server 7.0 knows."""
    assert len(FAMILIES) <= DATABASES
    for db, family in enumerate(FAMILIES):
        random, rules = Random(f"{family}{seed}"), grammar(family)
        made = [rules.command(random, for_redis) for _ in range(count)]
        stay = [argv for argv in made if stays(argv)]
        for start in range(0, len(stay), BATCH_COMMANDS):
            ask_all(raw, [["SELECT", db], *stay[start : start + BATCH_COMMANDS]])


def stays(argv: Command) -> bool:
    """Return True for a command that changes nothing but the database that is chosen."""
    return argv[0].upper() not in LEAVE and b"DB" not in [word.upper() for word in argv]
