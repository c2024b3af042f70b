"""The first program of docs/runs.md does what the page says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from sse_trio.testing import open_test_stream

PAGE = Path(__file__).parents[2] / "docs" / "runs.md"
LONGEST = 10  # lines, beside the imports and the producer


@pytest.fixture
def blocks():
    """The page's first two blocks: the imports with a producer, and the application."""
    return list(Document.parse(str(PAGE), PythonCodeBlockParser()).examples())[:2]


def test_the_page_begins_with_ten_lines(blocks):
    """The application has ten lines of code."""
    assert len([line for line in blocks[1].parsed.splitlines() if line.strip()]) <= LONGEST


@pytest.mark.anyio
@pytest.mark.usefixtures("real_clock")
async def test_the_answer_survives(blocks, tmp_path, monkeypatch):
    """A POST streams the answer, and a GET streams it again, from another process too."""
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        block.evaluate()
    app = blocks[1].namespace["app"]
    answers = []
    for method, question in (("POST", "why?"), ("GET", "")):
        async with open_test_stream(app, "/42", method=method, content=question, lifespan=True) as stream:
            answers.append([(event.event, event.data, event.id) async for event in stream])
    assert [data for _, data, _ in answers[0]] == ["You", "said:", "why?", '{"state":"completed"}']
    assert answers[0] == answers[1]
