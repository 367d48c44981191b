"""Random commands out of the grammars, for comparisons with redis-server and for the fuzzing of servers.

One command in eight is spoilt (a word lost, one too many, junk for a word), because errors are replies too. A key is
one of a few, so that commands meet on the same ones. `grammars/__init__.py` says what a grammar is.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from grammars import FAMILIES, JUNK, KEYS, Command, Slot, grammar, words

__all__ = [
    "FAMILIES",
    "JUNK",
    "KEYS",
    "Command",
    "Slot",
    "fill",
    "of_any_family",
    "random_command",
    "templates",
    "words",
]


def random_command(random: Random, family: str = "strings", for_redis: bool = False) -> Command:
    """Make up one command of a family, now and then a wrong one; `for_redis`: that redis-server 7.0 knows."""
    return grammar(family).command(random, for_redis)


def of_any_family(random: Random) -> Command:
    """Make up one command of any family."""
    return random_command(random, random.choice(FAMILIES))


def templates(name: str) -> list[tuple[str, list[str]]]:
    """Return the templates of a command, each with its family."""
    return [(family, line) for family in FAMILIES for line in grammar(family).templates if line[0] == name]


def fill(slot: str, random: Random, family: str = "strings") -> Iterator[bytes]:
    """Fill one place of a template of a family."""
    return grammar(family).fill(slot, random)
