"""The modules of the program, as files and as syntax trees: on which floor each stands, and what it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from servers import ROOT

# The floors of the house, from the ground up. A part imports what stands on its own floor or below, and no module
# imports one that imports it, however many stand between. A root module is the face of the folder beside it.
FLOORS = """
errors replies version
rdb
config wire protocol
values
keyspace store users
measuring
log aof
session
scripts
commands
engine
net
pool cli
server
godis
"""
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS.strip().splitlines()) for part in parts.split()}
FOLDERS = sorted(part for part in FLOOR_OF if (ROOT / part).is_dir())
PROGRAM = sorted([*ROOT.glob("*.py"), *[path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")]])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    return module.partition(".")[0]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the module of each import, and the name that is taken from it ("" for all of it)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the modules of the program that a module imports."""
    names = {module_of(other) for other in PROGRAM}
    found = set()
    for module, name in imports(path):
        found |= {each for each in (module, f"{module}.{name}") if each in names}
    return frozenset(found - {module_of(path)})
