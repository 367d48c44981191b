"""Small modules and functions: what is longer says in its docstring why."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from program_files import PROGRAM
from servers import ROOT
from tables import for_each

MOST_LINES_OF_A_MODULE, MOST_LINES_OF_A_FUNCTION = 400, 60
WHY = re.compile(
    "(more than [0-9]+ lines|longer than most|module is long|The module is one) .*because|makes it long, because"
)


def too_long(text: str) -> list[str]:
    """Return the names of the functions, and the number of lines of the module, that are long without a reason."""
    tree = ast.parse(text)
    found = [str(text.count("\n"))] if text.count("\n") > MOST_LINES_OF_A_MODULE and not gives_reason(tree) else []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
            is_long = node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION
            found += [node.name] if is_long and not gives_reason(node) else []
    return found


def gives_reason(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return WHY.search(" ".join((ast.get_docstring(node) or "").split())) is not None


@for_each("path", PROGRAM, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_long_says_why(path: Path) -> None:
    assert too_long(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("docstring", "found"), [("It does much.", ["f"]), ("It has more than 60 lines because\n    of its state.", [])]
)
def test_a_long_function_needs_a_reason(docstring: str, found: list[str]) -> None:
    body = "    pass\n" * MOST_LINES_OF_A_FUNCTION
    assert too_long(f'def f():\n    """{docstring}"""\n{body}') == found
