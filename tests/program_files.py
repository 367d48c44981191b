"""The files of the program, and what their syntax trees say of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from servers import ROOT

PROGRAM = sorted([*ROOT.glob("*.py"), *ROOT.glob("commands/*.py"), *ROOT.glob("pool/*.py"), *ROOT.glob("values/*.py")])


def as_in_order(module: str) -> str:
    return module.removesuffix(".__init__") if module.startswith("pool.") else module.partition(".")[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the module of each import as the order names it, and the name that is taken from it ("" for all of it)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((as_in_order(alias.name), "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((as_in_order(node.module or ""), alias.name) for alias in node.names)
