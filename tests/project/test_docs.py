"""What the documents say, compared with the program where that can be done."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import redis
from program_files import PROGRAM, imports, part_of
from servers import ROOT, GodisProcess
from tables import for_each

from commands import TABLE

README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def section(text: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]


def test_the_readmes_table_of_commands_has_each_command_in_its_family() -> None:
    families = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["SECTIONS"]
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([A-Z_ ]+) \|$", section(README, "Commands"), re.MULTILINE))
    said = {family: sorted(names.split()) for family, names in rows.items()}
    assert said == {
        title.lower(): sorted(row.name.decode() for row in TABLE.values() if row.group in modules)
        for title, modules in families.items()
        if any(row.group in modules for row in TABLE.values())
    }


def modules_of_the_tree() -> dict[str, bool]:
    """Return the modules that docs/architecture.md shows, and whether a star says that they import gevent."""
    tree = re.findall(r"^    .*$", section(ARCHITECTURE, "The modules"), re.MULTILINE)
    found: dict[str, bool] = {}
    folders: list[tuple[int, str]] = []
    for line in tree:
        indent = len(line) - len(line.lstrip())
        folders = [(place, name) for place, name in folders if place < indent]
        if folder := re.match(r" +(\w+)/(?: |$)", line):
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
    importing = {name for name in shown if "gevent" in {part_of(module) for module, _ in imports(files[name])}}
    assert {name for name, star in shown.items() if star} == importing


def test_every_package_that_is_installed_is_named() -> None:
    applications = ROOT / "tests" / "applications" / "requirements.txt"  # docs/applications.md names them
    requirements = [path for path in ROOT.rglob("*requirements*.txt") if ".venv" not in str(path)]
    requirements.remove(applications)
    named = set()
    for path in requirements:
        named |= set(re.findall(r"^([a-z][\w-]*)", path.read_text(), re.MULTILINE))
    first_column = " ".join(re.findall(r"^\| (.*?) \|", section(CONTRIBUTING, "Dependencies"), re.MULTILINE))
    assert named - set(re.findall(r"[\w-]+", first_column)) == set()
    needed = re.findall(r"^[a-z][\w-]*", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    words = {3: "three", 4: "four", 5: "five"}
    assert f"installs {words[len(needed)]} packages" in README
    last = README.split(f"It needs {words[len(needed)]} packages: ")[1]
    assert [name for name in needed if name not in last] == []


def test_the_readme_has_at_most_180_lines() -> None:
    assert len(README.splitlines()) <= 180


def anchors(page: Path) -> set[str]:
    """Return the names that a page's headings have in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@for_each("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_documents_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        other = page.parent / target if target else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), f"{target}#{anchor}"


@for_each("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_file_that_a_page_names_with_its_folder_is_there(page: Path) -> None:
    named = re.findall(r"`([\w.]+/[\w./-]+\.(?:py|md|yml|svg))`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_of_the_documents_is_linked_in_the_readme() -> None:
    linked = set(re.findall(r"\]\(([\w./-]+\.md)\)", README))
    assert {str(page.relative_to(ROOT)) for page in PAGES} - linked == {"README.md"}


def test_redis_py_speaks_what_the_readme_says_by_default(shared_godis: GodisProcess) -> None:
    said = re.search(r"redis\.Redis\(\) +# RESP3 since redis-py (\d+), RESP2 before", README)
    assert said
    with redis.Redis(port=shared_godis.port) as client:
        protocol = 3 if int(redis.__version__.partition(".")[0]) >= int(said[1]) else 2
        assert client.client_info()["resp"] == str(protocol)


# ---- figures


SPEED = runpy.run_path(str(ROOT / "docs" / "make_speed.py"))


def report() -> str:
    """Return the report of the run that the README's picture is made of."""
    path: Path = SPEED["linked"](README, "bench")
    return path.read_text(encoding="utf-8")


def test_the_picture_and_the_table_of_speed_are_what_their_script_makes_of_the_reports() -> None:
    readme, picture = SPEED["render"]()
    assert readme == README, "run: make docs"
    assert picture == (ROOT / "docs" / "speed.svg").read_text(encoding="utf-8"), "run: make docs"


def test_the_script_reads_throughput_ratio_and_cpu_of_a_line_of_a_report() -> None:
    text = (
        "| GET P=16 | 551.4k ±2% | 780.6k ±3% | **0.71** (≥ 0.65 ok) | 1.79 (1.40 + 0.40; busy 0.99) "
        "| 1.27 (0.86 + 0.37; busy 0.99) | **1.42** (≤ 1.5 ok) |\n"
    )
    found = SPEED["lines"](text)["GET P=16"]
    assert (found.per_second, found.ratio, found.cpu_us) == ((551.4, 780.6), "0.71", (1.79, 1.27))


def test_the_longest_bar_of_the_picture_is_the_greatest_figure_and_the_others_are_in_proportion() -> None:
    line = type("Line", (), {"per_second": (300.0, 600.0), "ratio": "0.5", "cpu_us": (2.0, 1.0)})
    picture = SPEED["picture"](dict.fromkeys(SPEED["DRAWN"], line), "a report")
    widths = re.findall(r'width="([\d.]+)" height="12" fill="#(?!fff)', picture)[2:]  # the first two are the legend
    assert widths == ["120.0", "240.0"] * 8 + ["240.0", "120.0"] * 8


@for_each(
    ("said", "measured"),
    [
        (r"million SETs loads ([\d.]+) times as fast", r"^\| Godis \| [\d.]+ \| [\d,]+ \| \d+ \| \*\*([\d.]+)\*\*"),
        (r"key with a TTL takes ([\d.]+) times the memory", r"^\| a key with a TTL of its own.*\*\*([\d.]+)\*\*"),
        (r"idle connection takes ([\d.]+) KiB", r"^\| an idle connection, .*?\| ([\d.]+) KiB"),
        (r"`KEYS \*` .* waits ([\d.]+) ms", r"^\| KEYS \* \| [\d.]+ / [\d.]+ / ([\d.]+)"),
        (r"`KEYS \*` .* with redis-server, ([\d.]+) ms", r"^\| KEYS \* \| .*? \| [\d.]+ / [\d.]+ / ([\d.]+)"),
        (r"creates a million .* waits ([\d.]+) ms", r"^\| as many new keys \| [\d.]+ / [\d.]+ / ([\d.]+)"),
        (
            r"creates a million .* redis-server, ([\d.]+) ms",
            r"^\| as many new keys \| .*? \| [\d.]+ / [\d.]+ / ([\d.]+)",
        ),
        (r"SET's latency is ([\d.]+) times", r"^\| SET at [\d.]+k/s, Godis .*\*\*([\d.]+)\*\*"),
        (r"of a GET's ([\d.]+) times", r"^\| GET at [\d.]+k/s, Godis .*\*\*([\d.]+)\*\*"),
    ],
)
def test_a_figure_of_the_readme_is_that_of_the_report(said: str, measured: str) -> None:
    in_readme, in_report = re.search(said, README.replace("\n  ", " ")), re.search(measured, report(), re.MULTILINE)
    assert in_readme
    assert in_report
    assert in_readme[1] == in_report[1]


def tables_of_reports() -> list[tuple[str, str, str]]:
    """Return each row of figures in a section that links reports: its page and section, the row, and the reports."""
    found = []
    for name in ("performance.md", "pool.md"):
        for part in (ROOT / "docs" / name).read_text(encoding="utf-8").split("\n## ")[1:]:
            links = re.findall(r"\]\(\.\./(bench/results/[^)]*)\)", part)
            reports = "\n".join((ROOT / link).read_text(encoding="utf-8") for link in links)
            for table in re.findall(r"^\|---.*\n((?:\|.*\n)+)", part + "\n", re.MULTILINE) if links else []:
                found += [(f"{name}, {part.splitlines()[0]}", row, reports) for row in table.splitlines()]
    return found


def test_the_figures_in_the_tables_of_performance_and_pool_are_in_the_reports_that_their_section_links() -> None:
    rows = tables_of_reports()
    missing = []
    for section_name, row, reports in rows:
        measured = set(re.findall(r"\d[\d,]*(?:\.\d+)?", reports))
        figures = re.findall(r"\d[\d,]*(?:\.\d+)?", row.split("|", 2)[2])
        missing += [f"{section_name}: {row}: {figure}" for figure in figures if figure not in measured]
    assert len(rows) > 60
    assert missing == []


def test_the_readme_names_each_application_that_is_tested_with_its_version() -> None:
    """As docs/applications.md has them: `| name, name (where from) | version, version |`."""
    page = (ROOT / "docs" / "applications.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \| ([0-9.]+(?:, [0-9.]+)*) \|", page, re.MULTILINE)
    assert len(rows) > 25
    named = [
        f"{name} {version}"
        for names, versions in rows
        for name, version in zip(re.sub(r" \(.*", "", names).split(", "), versions.split(", "), strict=False)
    ]
    assert [each for each in named if each not in README] == []
