# Every Python block of README.md and of docs/ runs, in the order in which it stands on its page.
#
# Rule 1: the blocks of a page share one namespace, as a reader's session would. Sybil finds them.
# Rule 2: a block that is not to be run is not marked `python`, or has the comment `<!-- skip: next -->` before it with
#         the reason in it.

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PARSERS = (PythonCodeBlockParser(), SkipParser())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_blocks_of_a_page_run(page):
    """What a reader copies from a page works."""
    for example in Document.parse(str(page), *PARSERS).examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_exist(page):
    """No link inside of the repository leads nowhere."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text) + re.findall(r"`(examples/\w+\.py)`", text)
    missing = [link for link in links if not ((page.parent / link).exists() or (ROOT / link).exists())]
    assert not missing
