# What the docs take from the code is what the code says: docs/generate.py makes it.

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

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


def test_each_figure_says_when_and_how_it_was_measured():
    """Each figure that pages share has a date and the command that gave it, and is on a page."""
    pages = "".join(page.read_text(encoding="utf-8") for page in generate["pages"]())
    for name, figure in generate["figures"]().items():
        assert {*figure} == {"value", "date", "command"}
        assert f"<!-- figure: {name} -->" in pages
