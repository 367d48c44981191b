"""What the documents say, compared with the program where that can be done."""

from __future__ import annotations

import re
import runpy
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
import redis
from servers import ROOT, GodisProcess
from test_layering import PROGRAM, imports

from commands import TABLE

README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
FIGURE = r"\*{0,2}([0-9.,]+k?)\*{0,2}"


def section(text: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]


def test_the_readmes_table_of_commands_has_each_command_in_its_family() -> None:
    families = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["SECTIONS"]
    rows = dict(re.findall(r"^\| ([a-z]+) \| ([A-Z ]+) \|$", section(README, "Commands"), re.MULTILINE))
    said = {family: sorted(names.split()) for family, names in rows.items()}
    assert said == {
        title.lower(): sorted(row.name.decode() for row in TABLE.values() if row.group in modules)
        for title, modules in families.items()
    }


def modules_of_the_tree() -> dict[str, bool]:
    """Return the modules that docs/architecture.md shows, and whether a star says that they import gevent."""
    tree = re.findall(r"^    .*$", section(ARCHITECTURE, "The modules"), re.MULTILINE)
    found: dict[str, bool] = {}
    folders: list[tuple[int, str]] = []
    for line in tree:
        indent = len(line) - len(line.lstrip())
        folders = [(place, name) for place, name in folders if place < indent]
        if folder := re.match(r" +(\w+)/ ", line):
            folders.append((indent, folder[1] + "/"))
        place = folders[-1][1] if folders else ""
        for name, star in re.findall(r"\b(\w+\.py)(\*?)", line):
            inside = (ROOT / place / name).exists()
            found[place + name if inside else name] = bool(star)
    return found


def test_the_tree_of_modules_is_that_of_the_program_and_marks_what_imports_gevent() -> None:
    shown = modules_of_the_tree()
    files = {str(path.relative_to(ROOT)): path for path in PROGRAM if path.name != "__init__.py"}
    assert shown.keys() <= files.keys()
    alone = {name for name in files if not name.startswith(("commands/", "values/"))}  # shown as a folder
    assert alone <= shown.keys()
    importing = {name for name in shown if "gevent" in {module for module, _ in imports(files[name])}}
    assert {name for name, star in shown.items() if star} == importing


def test_the_readme_names_every_package_that_is_installed() -> None:
    requirements = [path for path in ROOT.rglob("*requirements*.txt") if ".venv" not in str(path)]
    named = set()
    for path in requirements:
        named |= set(re.findall(r"^([a-z][\w-]*)", path.read_text(), re.MULTILINE))
    first_column = " ".join(re.findall(r"^\| (.*?) \|", section(README, "Dependencies"), re.MULTILINE))
    assert named - set(re.findall(r"[\w-]+", first_column)) == set()
    needed = re.findall(r"^[a-z]", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    words = {3: "three", 4: "four", 5: "five"}
    assert f"installs {words[len(needed)]} packages" in README


def test_redis_py_speaks_what_the_readme_says_by_default(shared_godis: GodisProcess) -> None:
    said = re.search(r"redis\.Redis\(\) +# RESP3 since redis-py (\d+), RESP2 before", README)
    assert said
    with redis.Redis(port=shared_godis.port) as client:
        protocol = 3 if int(redis.__version__.partition(".")[0]) >= int(said[1]) else 2
        assert client.client_info()["resp"] == str(protocol)


# ---- figures


def report() -> str:
    """Return the report of the run that the README says its figures are of."""
    link = re.search(r"The whole run.*?\((bench/results/\S+?)\)|\[bench/results\]\((\S+?)\)", README, re.DOTALL)
    assert link
    return Path(ROOT, link[1] or link[2]).read_text(encoding="utf-8")


def rounded(text: str, like: str) -> str:
    """Write a figure with as many places as another."""
    number, places = text.rstrip("k"), len(like.rstrip("k").partition(".")[2])
    figure = Decimal(number).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return f"{figure}{'k' * text.endswith('k')}"


def test_the_readmes_table_of_speed_is_that_of_the_report() -> None:
    rows = re.findall(r"^\| ([SG]ET P=\d+)(, `appendfsync always`)? \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) >= 8
    for name, always, cells in rows:
        said = cells.split(" | ")
        line = re.search(rf"^\| {name}{', log always' * bool(always)} \|(.*)\|$", report(), re.MULTILINE)
        assert line, name
        measured = [re.match(FIGURE, cell.strip()) for cell in line[1].split("|")]
        found = [cell[1] for cell in measured if cell]
        assert said == [rounded(figure, like) for figure, like in zip(found, said, strict=True)], name


@pytest.mark.parametrize(
    ("said", "measured"),
    [
        (r"million SETs loads ([\d.]+) times as fast", r"^\| Godis \| [\d.]+ \| [\d,]+ \| \d+ \| \*\*([\d.]+)\*\*"),
        (r"key with a TTL takes ([\d.]+) times the memory", r"^\| a key with a TTL of its own.*\*\*([\d.]+)\*\*"),
    ],
)
def test_a_figure_of_the_readme_is_that_of_the_report(said: str, measured: str) -> None:
    in_readme, in_report = re.search(said, README), re.search(measured, report(), re.MULTILINE)
    assert in_readme
    assert in_report
    assert in_readme[1] == in_report[1]


def test_a_load_is_as_fast_in_both_documents() -> None:
    in_readme = re.search(r"million SETs loads ([\d.]+) times", README)
    elsewhere = re.findall(r"is ([\d.]+) today \(README\)", PERFORMANCE)
    assert in_readme
    assert elsewhere == [in_readme[1]]
