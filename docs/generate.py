# What the docs show and other files decide: the table of endings, the picture of the packages, examples and figures.
#
#     python docs/generate.py            rewrites them; tests/test_generated_docs.py fails where they are out of date
#
# Rule 1: nothing here is written by hand a second time. The table is ENDINGS (sse_trio/_reasons.py); the picture is
#         made of the imports, and of the ranks in tests/test_layering.py.
# Rule 2: a page shows a file between `<!-- file: examples/name -->` and `<!-- /file -->`: all of it, or what stands
#         between its marks `docs: begin` and `docs: end`.
# Rule 3: a figure that we have measured stands in docs/figures.json, with its date and its command. A page takes it
#         between `<!-- figure: name -->` and `<!-- /figure -->`. A value that is a list is the lines of a table, below
#         which the page says when and how it was measured. docs/figures.md lists all of them.

from __future__ import annotations

import ast
import json
import logging
import re
from itertools import chain
from pathlib import Path
from typing import TypedDict

from sse_trio import CloseReason
from sse_trio._reasons import ENDINGS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sse_trio"
PAGE = ROOT / "docs" / "contract.md"
LIST_PAGE = ROOT / "docs" / "figures.md"
PICTURE = ROOT / "docs" / "plots" / "packages.svg"
BEGIN, END = "<!-- endings: made by docs/generate.py -->\n", "<!-- /endings -->\n"

COLUMNS = {
    "ends because": lambda reason, _: f"`{reason.name}`",
    "grace": lambda _, ending: ending.grace,
    "buffer is written": lambda _, ending: not ending.client_lost,
    "farewell": lambda _, ending: ending.farewell,
    "final chunk": lambda _, ending: ending.final_frame,
    "within 1 s": lambda _, ending: ending.bounded,
    "log": lambda _, ending: logging.getLevelName(ending.log_level),
}


def endings_table() -> str:
    """Return ENDINGS as a Markdown table."""
    rows = [[column(reason, ENDINGS[reason]) for column in COLUMNS.values()] for reason in CloseReason]
    lines = [[*COLUMNS], ["---"] * len(COLUMNS), *[[_cell(value) for value in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "yes" if value else ""


def with_table(page: str) -> str:
    """Return the page with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + endings_table() + END + rest.partition(END)[2]


def pages() -> list[Path]:
    """Return the pages that may show files and figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


FILE = re.compile(r"(<!-- file: (\S+) -->\n).*?(<!-- /file -->)", re.DOTALL)
MARKED = re.compile(r"^# docs: begin\n(.*?)^# docs: end$", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".js": "javascript", ".jsx": "jsx", ".yaml": "yaml", "": "dockerfile"}


def with_files(page: str) -> str:
    """Return a page with the files that it shows."""
    return FILE.sub(lambda shown: shown[1] + file_block(shown[2]) + shown[3], page)


def file_block(name: str) -> str:
    """Return a file, or its marked part, as a code block."""
    text = (ROOT / name).read_text(encoding="utf-8")
    marked = MARKED.search(text)
    return f"```{LANGUAGES[Path(name).suffix]}\n{(marked[1] if marked else text).strip()}\n```\n"


FIGURE = re.compile(r"(<!-- figure: ([\w-]+) -->).*?(<!-- /figure -->)", re.DOTALL)


class Figure(TypedDict):
    """Something that was measured."""

    what: str
    value: str | list[str]
    date: str
    command: str


def figures() -> dict[str, Figure]:
    """Return the figures that were measured, by name."""
    return json.loads((ROOT / "docs" / "figures.json").read_text(encoding="utf-8"))


def with_figures(page: str) -> str:
    """Return a page with its figures as docs/figures.json has them."""
    known = figures()
    return FIGURE.sub(lambda shown: shown[1] + figure_text(known[shown[2]]) + shown[3], page)


def figure_text(figure: Figure) -> str:
    """Return what a page shows of a figure: the value in its sentence, or a table and where it comes from."""
    value = figure["value"]
    if isinstance(value, str):
        return value
    return (
        "\n"
        + "\n".join(value)
        + f"\n\nMeasured on {figure['date']} ([all figures](figures.md)): `{figure['command']}`.\n"
    )


LIST = re.compile(r"(<!-- all figures: made by docs/generate.py -->\n).*?(<!-- /all figures -->)", re.DOTALL)


def with_list_of_figures(page: str) -> str:
    """Return docs/figures.md with all figures, below the command that gave them."""
    sources = sorted({(figure["command"], figure["date"]) for figure in figures().values()})
    groups = "\n".join(_figures_of(command, date) for command, date in sources)
    return LIST.sub(lambda marks: marks[1] + "\n" + groups + "\n" + marks[2], page)


def _figures_of(command: str, date: str) -> str:
    source = {"command": command, "date": date}
    lines = [_figure_line(name, figure) for name, figure in figures().items() if source.items() <= figure.items()]
    return f"`{command}`, on {date}:\n\n{''.join(lines)}"


def _figure_line(name: str, figure: Figure) -> str:
    value = figure["value"] if isinstance(figure["value"], str) else "a table"
    links = ", ".join(f"[{page.stem}]({page.name})" for page in _pages_with(name))
    return f"- {figure['what']}: {value} ({links})\n"


def _pages_with(name: str) -> list[Path]:
    return [page for page in pages() if f"<!-- figure: {name} -->" in _text(page)]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def import_graph() -> dict[str, set[str]]:
    """Return which folder of the package imports which, type-only imports included."""
    graph: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.glob("**/*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in {"__init__", "__main__"}:
            graph.setdefault(parts[0], set()).update(_folders_imported_by(path, parts) - {parts[0]})
    return graph


def _folders_imported_by(path: Path, parts: tuple[str, ...]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = (*parts[: -node.level], *(node.module or "").split("."))
            found.update([target[0]] if target[0] else [alias.name for alias in node.names])
    return found


def floors(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the folders from the bottom to the top: each stands just above the highest of those it imports."""
    height: dict[str, int] = {}

    def height_of(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((height_of(below) for below in graph[name]), default=-1)
        return height[name]

    tallest = max(map(height_of, graph))
    return [[name for name in graph if height[name] == floor] for floor in range(tallest + 1)]


def without_detours(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph without arrows to what is reached by way of others anyhow, or it would be a carpet."""
    reach: dict[str, set[str]] = {}

    def reach_of(name: str) -> set[str]:
        if name not in reach:
            reach[name] = graph[name].union(*map(reach_of, graph[name]))
        return reach[name]

    return {name: below - set(chain.from_iterable(map(reach_of, below))) for name, below in graph.items()}


WIDTH, ROW, BOX, TEXT = 1080, 92, 34, 7.6
STYLE = """<style>
text{font:13px ui-monospace,monospace;text-anchor:middle;fill:#16202c}
rect{fill:#e8f0f8;stroke:#5b7a99} line{stroke:#8aa0b5;stroke-width:1.2}
@media(prefers-color-scheme:dark){text{fill:#e6edf3} rect{fill:#1d2a38;stroke:#6d8cab} line{stroke:#5d7389}}
</style>"""
ARROW_HEAD = """<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#8aa0b5"/></marker></defs>"""


def picture() -> str:
    """Return the packages as an SVG: who imports whom, from the top to the bottom."""
    graph = import_graph()
    rows = floors(graph)[::-1]
    at = {name: place for y, row in enumerate(rows) for name, place in _places(row, y)}
    arrows = [
        _arrow(at[name], at[below]) for name, targets in without_detours(graph).items() for below in sorted(targets)
    ]
    boxes = [_box(name, *at[name]) for name in at]
    height = len(rows) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>The packages of sse_trio. An arrow points from a package to one that it imports.</title>",
            STYLE,
            ARROW_HEAD,
            *sorted(arrows),
            *boxes,
            "</svg>\n",
        ]
    )


def _places(row: list[str], y: int) -> list[tuple[str, tuple[float, float]]]:
    step = WIDTH / len(row)
    return [(name, (round(step * (x + 0.5), 1), y * ROW + ROW / 2)) for x, name in enumerate(row)]


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    y1, y2 = start[1] + BOX / 2, end[1] - BOX / 2 - 1
    return f'<line x1="{start[0]}" y1="{y1}" x2="{end[0]}" y2="{y2}" marker-end="url(#a)"/>'


def _box(name: str, x: float, y: float) -> str:
    width = len(name) * TEXT + 22
    rect = f'<rect x="{x - width / 2:.1f}" y="{y - BOX / 2}" width="{width:.1f}" height="{BOX}" rx="7"/>'
    return f'{rect}<text x="{x}" y="{y + 4.5}">{name}</text>'


def main() -> None:
    """Rewrite what is generated."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for page in pages():
        page.write_text(with_figures(with_files(page.read_text(encoding="utf-8"))), encoding="utf-8")
    LIST_PAGE.write_text(with_list_of_figures(_text(LIST_PAGE)), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
