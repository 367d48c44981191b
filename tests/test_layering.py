"""The rules of the architecture that the syntax trees can show: who may import whom, and where state may live."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from program_files import PROGRAM, as_in_order, imports, tree
from servers import ROOT

# Whoever stands left may import what stands right of it, and what that may import.
ORDER = """
godis -> command_line -> leaves
godis -> service -> server -> connection -> engine
engine -> commands -> session -> eviction -> store -> usage -> expiry -> leaves
store -> point_in_time -> expiry
store -> key_order -> expiry
commands -> many_keys -> store
point_in_time -> values
usage -> values -> leaves
aof -> log_records -> protocol
unsynced -> log_records
engine -> aof -> log_lock -> log_replay -> log_reader -> protocol -> leaves
service -> tls -> leaves
service -> descriptors -> leaves
server -> tls
server -> listening -> leaves
godis -> ping -> tls
connection -> outbox -> turn -> rewrite -> commands
turn -> scheduler -> session
server -> scheduler
turn -> unsynced -> commands
turn -> held -> aof
held -> session
rewrite -> aof
rewrite -> kept_logs -> leaves
offline -> progress -> leaves
service -> progress
log_export -> kept_logs
unsynced -> aof
godis -> offline -> engine
offline -> log_check -> log_export -> log_replay
service -> pool.server -> pool.pool -> pool.recovery -> pool.archive -> pool.replica -> pool.snapshot -> engine
pool.server -> server
pool.pool -> pool.writes -> pool.post -> pool.etcd -> leaves
pool.pool -> pool.members -> pool.etcd
pool.pool -> pool.reads -> leaves
pool.pool -> pool.pace -> leaves
pool.pool -> pool.watchdog -> leaves
pool.archive -> pool.local_snapshot -> log_replay
pool.pool -> pool.room -> pool.entry
pool.room -> commands
pool.archive -> pool.neighbours -> pool.etcd
pool.archive -> pool.documents -> leaves
pool.members -> pool.documents
pool.replica -> pool.entry -> protocol
pool.writes -> pool.entry
pool.writes -> pool.clock -> leaves
pool.writes -> session
pool.post -> session
pool.members -> session
"""
LEAVES = {
    "claim",
    "collector",
    "telnet_commands",
    "columns",
    "config",
    "diagnostics",
    "entries",
    "errors",
    "files",
    "replies",
    "signals",
    "version",
}

NETWORK = {"ping", "listening", "server", "connection", "outbox", "turn", "scheduler", "tls"}
POOL_NETWORK = {
    f"pool.{name}" for name in ("archive", "etcd", "members", "pace", "pool", "post", "reads", "server", "writes")
}
CLOCKLESS = {
    "values",
    "session",
    "eviction",
    "store",
    "usage",
    "expiry",
    "key_order",
    "many_keys",
    "point_in_time",
    "pool.replica",
    "pool.entry",
    "pool.snapshot",
}


def module_of(path: Path) -> str:
    """Name the module as the order does: `commands` is one module there, `pool` is many."""
    return as_in_order(".".join(path.relative_to(ROOT).with_suffix("").parts))


BELOW_THE_NETWORK = [path for path in PROGRAM if module_of(path) not in NETWORK | POOL_NETWORK]
DETERMINISTIC = [path for path in PROGRAM if module_of(path) in {"commands"} | CLOCKLESS]
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
COMMAND_TABLES = {"TABLE", "HIDDEN"}
CHANGES = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def reachable(module: str) -> set[str]:
    """Say which modules of the program a module may import, by the order above."""
    edges: dict[str, set[str]] = {}
    for line in ORDER.strip().splitlines():
        names = line.split(" -> ")
        for left, right in pairwise(names):
            edges.setdefault(left, set()).add(right)
    found: set[str] = set()
    todo = [module]
    while todo:
        new = edges.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found | LEAVES if module not in LEAVES else {"errors", "files"} - {module}


def imported_tests(path: Path) -> list[str]:
    """Return the lines that import a file of tests."""
    return re.findall(r"^ *(?:from|import) [^#\n]*\btest_\w+.*", path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", PROGRAM, ids=named)
def test_imports_go_one_way(path: Path) -> None:
    program = {module_of(other) for other in PROGRAM}
    mine = module_of(path)
    wrong = {module for module, _ in imports(path) if module in program} - reachable(mine) - {mine}
    assert not wrong


@pytest.mark.parametrize("path", BELOW_THE_NETWORK, ids=named)
def test_only_the_network_knows_gevent_and_sockets(path: Path) -> None:
    assert not {module for module, _ in imports(path)} & {
        "gevent",
        "greenlet",
        "socket",
        "socketserver",
        "ssl",
        "asyncio",
    }


@pytest.mark.parametrize("path", DETERMINISTIC, ids=named)
def test_a_command_cannot_read_the_clock_or_throw_dice(path: Path) -> None:
    """Time is the store's, chance is the store's `Random`; anything else and a replica would come out different."""
    for module, name in imports(path):
        assert module not in ("time", "datetime", "secrets", "uuid", "threading")
        assert (module, name) == ("random", "Random") or module != "random"


def test_no_module_hides_one_of_the_standard_library() -> None:
    assert not {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in PROGRAM} & sys.stdlib_module_names


def test_an_instance_alone_imports_nothing_of_a_pool() -> None:
    program = "import sys, godis, offline, service, server; print([name for name in sys.modules if name[:4] == 'pool'])"
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


@pytest.mark.parametrize("path", PROGRAM, ids=named)
def test_the_tables_of_commands_are_the_only_module_level_state(path: Path) -> None:
    """Other tables at the top of a module are constants: named as constants, and changed nowhere in the program."""
    tables = containers(path) - COMMAND_TABLES
    assert {name for name in tables if not re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name) and name != "__all__"} == set()
    assert tables & {name for other in PROGRAM for name in changed_names(other)} == set()
    assert not [node for node in ast.walk(tree(path)) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("path", PROGRAM, ids=named)
def test_modules_classes_and_public_functions_say_what_they_are(path: Path) -> None:
    public = [
        node
        for node in tree(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert ast.get_docstring(tree(path)), "the module"
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", PROGRAM, ids=named)
def test_a_docstring_opens_with_one_sentence_on_one_line(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.Module, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            first, _, rest = text.partition("\n")
            assert first.rstrip().endswith((".", ":")), first
            assert not rest.strip() or rest.startswith("\n"), first


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
    assert "engine" not in reachable("commands")
    assert "store" in reachable("server")
    assert "aof" not in reachable("store")
    assert len(PROGRAM) > 10
    bad.write_text("from net.test_turn import rig\nif True:\n    import test_aof as other\nfrom log import test_aof\n")
    assert len(imported_tests(bad)) == 3
    assert len(TEST_FILES) > 100
