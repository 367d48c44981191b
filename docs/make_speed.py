"""Draw docs/speed.svg and write the README's table of speed from two reports of bench/; a test compares them.

    python docs/make_speed.py

1. The README links the two reports: the first `…-bench.md` and the first `…-compare.md` in bench/results. To show a
   newer run, change the link and run this.
2. The picture and the first rows of the table are of the first report, the other rows of the second one.
3. Every figure is in its report as it is shown here, but for the rounding of throughputs to thousands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "speed.svg"
BEGIN, END = re.compile(r"(<!-- Made by docs/make_speed\.py .*: begin -->\n)"), "<!-- end -->"

DEPTHS = (1, 16, 100)
# What the README calls a row -> its title in the report, where {} is the depth.
OF_THE_BENCH = {
    "SET": "SET P={}",
    "GET": "GET P={}",
    "SET, `appendfsync always`": "SET P={}, log always",
}
OF_THE_COMPARISON = {
    "INCR": "INCR P={}",
    "MSET of ten keys": "MSET P={}",
    "GETs and SETs mixed, a million keys": "MIX P={}, 1,000,000 keys",
    "SET of 1 KiB": "SET P={}, 1024 B",
    "GET of 1 KiB": "GET P={}, 1024 B",
    "SET of 16 KiB": "SET P={}, 16384 B, 10,000 keys",
    "GET of 16 KiB": "GET P={}, 16384 B, 10,000 keys",
    "SET as a line of text": "TEXT-SET P={}",
    "GET as a line of text": "TEXT-GET P={}",
}
DRAWN = [title.format(depth) for title in ("SET P={}", "GET P={}") for depth in DEPTHS] + [
    f"SET P={depth}, log always" for depth in (1, 16)
]

LEFT, PANEL_WIDTH, GAP, NUMBER_WIDTH = 150, 240, 30, 50
TOP, ROW_HEIGHT, BAR_HEIGHT = 62, 36, 12
COLORS = {"Godis": "#2563eb", "redis-server": "#b4532a"}


@dataclass(frozen=True)
class Line:
    """A line of a report: throughput, and CPU time a request, of Godis and of redis-server."""

    per_second: tuple[float, float]
    ratio: str
    cpu_us: tuple[float, float]


def linked(readme: str, kind: str) -> Path:
    """Return the report of a kind that the README links first."""
    found = re.search(rf"\((bench/results/\S+-{kind}\.md)\)", readme)
    if found is None:
        raise SystemExit(f"README.md links no report bench/results/…-{kind}.md")
    return ROOT / found[1]


def lines(report: str) -> dict[str, Line]:
    """Read the lines of a report that compare throughput and CPU time."""
    rows = re.findall(
        r"^\| (\S[^|]*?) \| ([\d.]+)k ±\d+% \| ([\d.]+)k ±\d+% \| \*{0,2}([\d.]+)\*{0,2}[^|]*"
        r"\| ([\d.]+) \([^|]*\| ([\d.]+) \([^|]*\|",
        report,
        re.MULTILINE,
    )
    return {
        title: Line((float(godis), float(peer)), ratio, (float(cpu), float(peer_cpu)))
        for title, godis, peer, ratio, cpu, peer_cpu in rows
    }


def table(bench: dict[str, Line], comparison: dict[str, Line]) -> str:
    """Write the table of ratios."""
    head = ["requests a second, Godis / redis-server", *(f"P={depth}" for depth in DEPTHS)]
    text = [f"| {' | '.join(head)} |", "|---|" + "---:|" * len(DEPTHS)]
    for found, titles in ((bench, OF_THE_BENCH), (comparison, OF_THE_COMPARISON)):
        for name, title in titles.items():
            cells = [found[key].ratio if (key := title.format(depth)) in found else "" for depth in DEPTHS]
            text.append(f"| {name} | {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(text) + "\n"


def picture(found: dict[str, Line], source: str) -> str:
    """Draw pairs of bars: on the left requests a second, on the right CPU time a request."""
    width = LEFT + 2 * (PANEL_WIDTH + NUMBER_WIDTH) + GAP
    height = TOP + ROW_HEIGHT * len(DRAWN) + 30
    rows = [found[title] for title in DRAWN]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *legend(),
        *panel(LEFT, "requests a second (longer is better)", [row.per_second for row in rows], "{:.0f}k"),
        *panel(
            LEFT + PANEL_WIDTH + NUMBER_WIDTH + GAP,
            "CPU µs a request (shorter is better)",
            [row.cpu_us for row in rows],
            "{:.1f}",
        ),
    ]
    for number, title in enumerate(DRAWN):
        parts.append(label(LEFT - 8, TOP + ROW_HEIGHT * number + 16, title, anchor="end"))
    parts += [label(8, height - 10, f"from {source}", color="#666666"), "</svg>"]
    return "\n".join(parts) + "\n"


def legend() -> Iterator[str]:
    """Draw which color is whose."""
    for number, (name, color) in enumerate(COLORS.items()):
        x = LEFT + 90 * number
        yield f'<rect x="{x}" y="10" width="12" height="12" fill="{color}"/>'
        yield label(x + 17, 20, name)


def panel(x: int, title: str, rows: list[tuple[float, float]], form: str) -> Iterator[str]:
    """Draw the bars of one figure. Their axis begins at 0."""
    yield label(x, TOP - 14, title, weight="bold")
    longest = max(max(row) for row in rows)
    for number, row in enumerate(rows):
        for place, (value, color) in enumerate(zip(row, COLORS.values(), strict=True)):
            y = TOP + ROW_HEIGHT * number + (BAR_HEIGHT + 1) * place
            length = value / longest * PANEL_WIDTH
            yield f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" fill="{color}"/>'
            yield label(x + length + 4, y + 10, form.format(value), size=11)


def label(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    color: str = "#222222",
    weight: str = "normal",
    size: int = 12,
) -> str:
    """Write a text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-weight="{weight}" '
        f'font-size="{size}">{text}</text>'
    )


def render() -> tuple[str, str]:
    """Return the README with its table, and the picture."""
    readme = README.read_text(encoding="utf-8")
    source = linked(readme, "bench")
    bench = lines(source.read_text(encoding="utf-8"))
    comparison = lines(linked(readme, "compare").read_text(encoding="utf-8"))
    before, mark, rest = BEGIN.split(readme, maxsplit=1)
    after = rest[rest.index(END) :]
    drawn = picture(bench, source.relative_to(ROOT).as_posix())
    return f"{before}{mark}\n{table(bench, comparison)}\n{after}", drawn


if __name__ == "__main__":
    README_TEXT, SVG = render()
    README.write_text(README_TEXT, encoding="utf-8")
    PICTURE.write_text(SVG, encoding="utf-8")
