"""docs/durability.md names a test for each promise: that these tests are there, by the names that it gives them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from servers import ROOT
from tables import for_each

TESTS = ROOT / "tests"
PAGE = (ROOT / "docs" / "durability.md").read_text()
HOSTILE = PAGE.split("## Hostile and unlucky clients")[1].split("\n## ")[0]


def file_named(name: str) -> Path:
    """Return the test file of that name, whatever folder it lies in."""
    (path,) = TESTS.rglob(name)
    return path


def names_in(path: Path) -> set[str]:
    """Return the names of a module's tests without their prefix; a machine of Hypothesis is one, too."""
    body = ast.parse(path.read_text()).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    targets = {target for node in body if isinstance(node, ast.Assign) for target in node.targets}
    machines = {target.id for target in targets if isinstance(target, ast.Name)}
    return {name[len("test_") :] for name in functions if name.startswith("test_")} | {
        name[len("Test") :] for name in machines if name.startswith("Test")
    }


def matching(pattern: str, names: set[str]) -> list[str]:
    """Return the names that a pattern means, whose `…` stands for anything."""
    return [name for name in names if re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), name)]


def named_modules() -> list[str]:
    return sorted(set(re.findall(r"\btest_\w+\.py", PAGE)))


def patterns() -> list[str]:
    """Find what the second column of the table of clients names: tests of one module."""
    rows = [line.split("|") for line in HOSTILE.splitlines() if line.startswith("| ")]
    words = [word for row in rows for word in re.findall(r"`([^`]+)`", row[2])]
    return [word for word in words if re.fullmatch(r"[a-z_…]+", word)]


@for_each("name", named_modules())
def test_each_module_that_the_page_names_has_tests(name: str) -> None:
    assert names_in(file_named(name))


@for_each("pattern", patterns())
def test_each_test_of_hostile_clients_that_the_page_names_is_there(pattern: str) -> None:
    assert matching(pattern, names_in(file_named("test_hostile_clients.py")))


def test_each_test_of_hostile_clients_is_on_the_page() -> None:
    names = names_in(file_named("test_hostile_clients.py"))
    meant = {name for pattern in patterns() for name in matching(pattern, names)}
    assert len(names) > 20
    assert names - meant == set()


def test_each_selection_in_a_command_of_the_page_selects_something() -> None:
    commands = re.findall(r"`[^`]*(tests/\w+/test_\w+\.py) -k (\w+)`", PAGE)
    assert len(commands) >= 2
    for path, selection in commands:
        assert any(selection in name for name in names_in(ROOT / path)), (path, selection)


def test_the_page_says_something_of_each_module_of_faults() -> None:
    faults = ["test_kill", "test_faults", "test_power_loss", "test_power_loss_replies", "test_turn", "test_aof"]
    others = ["test_log_replay", "test_log_check", "test_log_tools", "test_soak", "test_fuzz", "test_hostile_clients"]
    missing = [name for name in [*faults, *others] if f"{name}.py" not in named_modules()]
    assert missing == []
