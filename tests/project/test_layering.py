"""The rules of the architecture that the syntax trees can show: who may import whom, and where state may live."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

from program_files import FLOOR_OF, PROGRAM, imported, imports, module_of, named, part_of, tree
from servers import ROOT
from tables import for_each

MOST_ROOT_MODULES = 11
WITHOUT_NETWORK = ("net.rate_limit", "net.descriptors", "net.pending_replies", "net.signals", "net.unsynced")
NETWORK_OF_THE_POOL = (
    *("snapshot_store", "etcd", "members", "neighbours", "pace", "pool", "appender", "reads", "network", "writes"),
)
# These read no clock and make no chance of their own: the log is replayed by them, alike on each instance of a pool.
DETERMINISTIC_PARTS = {"commands", "values", "keyspace", "store", "session"}
DETERMINISTIC_MODULES = {"pool.replica", "pool.entry", "pool.snapshot_format"}


def knows_network(module: str) -> bool:
    """Return True if a module may import gevent and sockets."""
    if part_of(module) == "net":
        return module not in WITHOUT_NETWORK
    return module == "cli.ping" or module in {f"pool.{name}" for name in NETWORK_OF_THE_POOL}


BELOW_THE_NETWORK = [path for path in PROGRAM if not knows_network(module_of(path))]
DETERMINISTIC = [
    path
    for path in PROGRAM
    if part_of(module_of(path)) in DETERMINISTIC_PARTS or module_of(path) in DETERMINISTIC_MODULES
]
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
COMMAND_TABLES = {"TABLE", "HIDDEN"}
CHANGES = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}


def imported_tests(path: Path) -> list[str]:
    """Return the lines that import a file of tests."""
    return re.findall(r"^ *(?:from|import) [^#\n]*\btest_\w+.*", path.read_text(encoding="utf-8"), re.MULTILINE)


@for_each("path", PROGRAM, ids=named)
def test_imports_go_down(path: Path) -> None:
    mine = FLOOR_OF[part_of(module_of(path))]
    assert not {module for module in imported(path) if FLOOR_OF[part_of(module)] > mine}


def circles(edges: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the ways from a module back to itself, one for each module that closes one."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, [*way, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles({module_of(path): imported(path) for path in PROGRAM}) == []


def test_each_error_text_has_a_name_of_its_own() -> None:
    names = [node.targets[0].id for node in tree(ROOT / "errors.py").body if isinstance(node, ast.Assign)]  # type: ignore[attr-defined]
    assert sorted(names) == sorted(set(names))


def test_the_root_fits_one_screen() -> None:
    assert len(list(ROOT.glob("*.py"))) <= MOST_ROOT_MODULES
    assert {path.stem for path in ROOT.glob("*.py")} <= set(FLOOR_OF)


def test_no_two_test_modules_have_one_name() -> None:
    """Pytest imports them by their names alone, so a whole run would refuse the second."""
    counts = Counter(path.name for path in ROOT.glob("tests/**/test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []


@for_each("path", BELOW_THE_NETWORK, ids=named)
def test_only_the_network_knows_gevent_and_sockets(path: Path) -> None:
    assert not {part_of(module) for module, _ in imports(path)} & {
        "gevent",
        "greenlet",
        "socket",
        "socketserver",
        "ssl",
        "asyncio",
    }


@for_each("path", DETERMINISTIC, ids=named)
def test_a_command_cannot_read_the_clock_or_throw_dice(path: Path) -> None:
    """Time is the store's, chance is the store's `Random`; anything else and a replica would come out different."""
    for module, name in imports(path):
        assert module not in ("time", "datetime", "secrets", "uuid", "threading")
        assert (module, name) == ("random", "Random") or module != "random"


def test_no_module_hides_one_of_the_standard_library() -> None:
    assert not {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in PROGRAM} & sys.stdlib_module_names


def test_an_instance_alone_imports_nothing_of_a_pool() -> None:
    modules = "sys, godis, cli.log_tools, server, net.listener"
    program = f"import {modules}; print([name for name in sys.modules if name[:4] == 'pool'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def containers(path: Path) -> set[str]:
    """Return the names of a module that are bound to a list, dict or set, or to something made by a call for one."""
    found = set()
    for node in tree(path).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and is_container(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def is_container(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in ("list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict")
    return isinstance(value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp))


@cache
def changed_names(path: Path) -> frozenset[str]:
    """Name what a module changes in place: by subscript, `del`, a method such as append, `global`."""
    return frozenset(_changed_names(path))


def _changed_names(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield last_name(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            yield last_name(node.func.value)
        elif isinstance(node, ast.AugAssign):
            yield last_name(node.target)
        elif isinstance(node, ast.Global):
            yield from node.names


def last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@for_each("path", PROGRAM, ids=named)
def test_the_tables_of_commands_are_the_only_module_level_state(path: Path) -> None:
    """Other tables at the top of a module are constants: named as constants, and changed nowhere in the program."""
    tables = containers(path) - COMMAND_TABLES
    assert {name for name in tables if not re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name) and name != "__all__"} == set()
    assert tables & {name for other in PROGRAM for name in changed_names(other)} == set()
    assert not [node for node in ast.walk(tree(path)) if isinstance(node, ast.Global)]


@for_each("path", PROGRAM, ids=named)
def test_modules_classes_and_public_functions_say_what_they_are(path: Path) -> None:
    public = [
        node
        for node in tree(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert ast.get_docstring(tree(path)), "the module"
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@for_each("path", PROGRAM, ids=named)
def test_a_docstring_opens_with_one_sentence_on_one_line(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.Module, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            first, _, rest = text.partition("\n")
            assert first.rstrip().endswith((".", ":")), first
            assert not rest.strip() or rest.startswith("\n"), first


@for_each("path", PROGRAM, ids=module_of)
def test_no_constant_of_a_module_is_defined_twice(path: Path) -> None:
    """The second of two error texts with one name would be the text of both commands."""
    names = [
        target.id
        for node in tree(path).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    ]
    assert sorted(names) == sorted(set(names))


def test_no_file_of_tests_is_imported() -> None:
    """What tests share is a module named for what it is; this sees an import in a program within a string, too."""
    assert {named(path): lines for path in TEST_FILES if (lines := imported_tests(path))} == {}


def test_the_rules_find_what_they_forbid(tmp_path: Path) -> None:
    """A checker that finds nothing anywhere would pass above."""
    bad = tmp_path / "bad.py"
    bad.write_text("import time\nfrom random import choice\ncache = {}\nSEEN = []\nSEEN.append(1)\n")
    assert set(imports(bad)) == {("time", ""), ("random", "choice")}
    assert containers(bad) == {"cache", "SEEN"}
    assert set(changed_names(bad)) == {"SEEN"}
    assert circles({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": []}) == [["a", "b", "c", "a"]]
    assert "engine" in imported(ROOT / "net" / "connection.py")
    assert "keyspace.gc_policy" in imported(ROOT / "store.py")
    assert len(PROGRAM) > 10
    bad.write_text("from net.test_turn import rig\nif True:\n    import test_aof as other\nfrom log import test_aof\n")
    assert len(imported_tests(bad)) == 3
    assert len(TEST_FILES) > 100
