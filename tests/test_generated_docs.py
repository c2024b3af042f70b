# What the docs take from the code is what the code says: docs/generate.py makes it.

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from ._pages import namespace_of

ROOT = Path(__file__).parents[1]
generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
OUT_OF_DATE = "out of date; run: python docs/generate.py"


def test_the_table_of_endings_is_that_of_the_code():
    """The contract page says of each ending what ENDINGS says."""
    page = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    assert generate["with_table"](page) == page, OUT_OF_DATE


def test_the_picture_of_the_packages_is_that_of_the_imports():
    """The picture in docs/architecture.md shows the imports as they are."""
    assert generate["picture"]() == (ROOT / "docs" / "plots" / "packages.svg").read_text(encoding="utf-8"), OUT_OF_DATE


@pytest.mark.parametrize("page", generate["pages"](), ids=lambda page: page.stem)
def test_a_page_shows_files_and_figures_as_they_are(page):
    """The examples that a page shows are the files themselves, and its figures are those of docs/figures.json."""
    text = page.read_text(encoding="utf-8")
    assert generate["with_figures"](generate["with_files"](text)) == text, OUT_OF_DATE


FIGURES = generate["figures"]()
DOCS = sorted((ROOT / "docs").glob("*.md"))


def test_each_figure_says_when_and_how_it_was_measured():
    """Each figure says what it is, and has a date and the command that gave it, and is on a page."""
    pages = "".join(page.read_text(encoding="utf-8") for page in generate["pages"]())
    for name, figure in FIGURES.items():
        assert {*figure} == {"what", "value", "date", "command"}
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", figure["date"])
        assert f"<!-- figure: {name} -->" in pages


def test_the_list_of_figures_is_complete():
    """The page about figures lists each of them with its date, its command and the pages that show it."""
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert generate["with_list_of_figures"](page) == page, OUT_OF_DATE


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_a_page_with_figures_leads_to_their_list(page):
    """A reader who sees a figure is one click away from when and how it was measured."""
    text = page.read_text(encoding="utf-8")
    assert "<!-- figure: " not in text or "](figures.md)" in text


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_no_sentence_is_cut_by_a_figure(page):
    """A mark at the start of a line would begin a block of HTML in Markdown, which ends the paragraph before it."""
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^ *<!-- /?figure\b.*-->.*\S", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_microseconds_are_figures(page):
    """What can only be a measurement stands in docs/figures.json, on every page."""
    text = page.read_text(encoding="utf-8").partition("<!-- all figures")[0]
    elsewhere = re.sub(r"<!-- figures?\b.*?<!-- /figures? -->", "", text, flags=re.DOTALL)
    assert re.findall(r".*\d ?[µu]s\b.*", elsewhere) == []


def test_what_is_computed_begins_with_the_figures():
    """The calculations of the page about growing take the figures that it shows."""
    names = namespace_of("beyond-one-machine")
    for server, memory, delivery in [
        ("uvicorn", "idle-uvicorn", "delivery-uvicorn"),
        ("hypercorn", "idle-hypercorn", "delivery-hypercorn"),
        ("uvicorn_express", "idle-uvicorn", "direct-uvicorn"),
        ("hypercorn_express", "idle-hypercorn", "direct-hypercorn"),
    ]:
        assert f"{names[server].kb} KB" == FIGURES[memory]["value"]
        assert f"{names[server].us} µs" == FIGURES[delivery]["value"]


def test_the_sizes_of_stores_are_computed_from_the_figures():
    """The examples of how to size a store take the bytes for an event that the page shows."""
    page = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")
    taken = re.findall(r"bytes_kept\(50, [\d_* ]+, (\d+)\)", page)
    assert taken == [FIGURES[f"bytes-{store}"]["value"] for store in ("memory", "sqlite", "redis")]


def test_the_budget_of_an_idle_stream_is_that_of_the_tests():
    """The page about tuning says how many objects an idle stream may keep, as tests/test_budgets.py has it."""
    source = (ROOT / "tests" / "test_budgets.py").read_text(encoding="utf-8")
    budget = {(loop, kind): n for loop, kind, n in re.findall(r'\("(\w+)", "(\w+)"\): (\d+),', source)}
    trio, asyncio = ([budget[loop, kind] for kind in ("subscription", "producer")] for loop in ("trio", "asyncio"))
    page = " ".join((ROOT / "docs" / "tuning.md").read_text(encoding="utf-8").split())
    assert f"on trio {trio[0]} tracked objects for a subscription to a hub and {trio[1]} for a producer" in page
    assert f"on asyncio {asyncio[0]} and {asyncio[1]}, without" in page
