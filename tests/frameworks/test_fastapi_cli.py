"""``fastapi dev`` and ``fastapi run``: the applications on our pages are found by FastAPI's own discovery."""

from __future__ import annotations

import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from .._pages import saved_files

if TYPE_CHECKING:
    from collections.abc import Iterator

discover = pytest.importorskip("fastapi_cli.discover")

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIRST_CONTACT = {"README", "index", "fastapi"}


def applications() -> Iterator[tuple[str, str]]:
    """Each FastAPI application of a page: a block that is a file, or all blocks up to the application."""
    for page in PAGES:
        blocks = [example.parsed for example in Document.parse(str(page), PythonCodeBlockParser()).examples()]
        for block, so_far in zip(blocks, accumulate(blocks), strict=True):
            if "= FastAPI(" in block and "\nfrom main import" not in block:
                yield page.stem, block if "from sse_trio import" in block else so_far


@pytest.mark.parametrize(("page", "source"), [pytest.param(*each, id=each[0]) for each in applications()])
def test_fastapi_finds_the_application(page: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved as `main.py`, what stands on a page is an application that `fastapi dev` serves, bridge included."""
    (tmp_path / "main.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OPENAI_API_KEY", "none")  # the page of the LLM's answer makes a client
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/none")  # the page of PostgreSQL makes a store
    try:
        found = discover.get_import_data()  # as without an argument
        assert found.import_string == "main:app"
        if page in FIRST_CONTACT:
            bridged = [middleware.cls.__name__ for middleware in sys.modules["main"].app.user_middleware]
            assert bridged == ["ServerBridge"]
    finally:
        sys.modules.pop("main", None)


@pytest.mark.parametrize(("page", "name"), [("llm", "chats")])
def test_a_second_application_beside_the_first(
    page: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second file of a page, which imports from its `main.py`, is found by `fastapi dev` with its name."""
    for file, source, _ in saved_files(ROOT / "docs" / f"{page}.md"):
        (tmp_path / file).write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    try:
        found = discover.get_import_data(path=Path(f"{name}.py"))
        assert found.import_string == f"{name}:{name}"
    finally:
        for module in ("main", name):
            sys.modules.pop(module, None)


def test_pages_have_applications() -> None:
    """The README, the front page and FastAPI's page have one each."""
    assert {page for page, _ in applications()} >= FIRST_CONTACT
