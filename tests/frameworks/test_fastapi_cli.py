"""``fastapi dev`` and ``fastapi run``: the applications on our pages are found by FastAPI's own discovery."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

discover = pytest.importorskip("fastapi_cli.discover")

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def applications() -> list[tuple[str, str]]:
    """The blocks that are a whole FastAPI application, each with the name of its page."""
    return [
        (page.stem, example.parsed)
        for page in PAGES
        for example in Document.parse(str(page), PythonCodeBlockParser()).examples()
        if "import FastAPI\n" in example.parsed and "= FastAPI(" in example.parsed
    ]


@pytest.mark.parametrize(("page", "source"), applications(), ids=[page for page, _ in applications()])
def test_fastapi_finds_the_application(
    page: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved as `main.py`, what stands on a page is an application that `fastapi dev` serves, bridge included."""
    (tmp_path / "main.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        found = discover.get_import_data()  # as without an argument
        assert found.import_string == "main:app"
        bridged = [middleware.cls.__name__ for middleware in sys.modules["main"].app.user_middleware]
        assert bridged == ["ServerBridge"]
    finally:
        sys.modules.pop("main", None)


def test_pages_have_applications() -> None:
    """The README, the front page and FastAPI's page have one each."""
    assert {"README", "index", "fastapi"} <= {page for page, _ in applications()}
