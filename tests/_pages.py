# The code blocks of a page of docs/, as a reader who copies them has them. Without `test_` pytest doesn't collect it.

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[1] / "docs"
SAVE = re.compile(r"[Ss]ave (?:this|it) as\s+`(\w+\.py)`")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def saved_files(page: Path) -> Iterator[tuple[str, str, str]]:
    """Each file that a page has saved: its name, its blocks, and the text from the line that says so to the next."""
    _, *parts = SAVE.split(page.read_text(encoding="utf-8"))
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        yield name, "\n".join(BLOCK.findall(text)), text


@contextmanager
def saved_as_main(namespace: dict[str, Any], text: str = "") -> Iterator[None]:
    """Let a block import from `main`, where a reader has saved the blocks before it, with what the page exports set."""

    def find(name: str) -> Any:
        if name in namespace:
            return namespace[name]
        raise AttributeError(name)

    module = ModuleType("main")
    module.__dict__["__getattr__"] = find
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(sys.modules, "main", module)
        for name in re.findall(r"^export (\w+)=", text, re.MULTILINE):
            monkeypatch.setenv(name, 43 * "s")  # as long as `secrets.token_urlsafe()`
        yield


def namespace_of(page: str) -> dict[str, Any]:
    """The names that the blocks of a page define, also where `<!-- skip -->` keeps test_docs.py from running them."""
    document = Document.parse(str(DOCS / f"{page}.md"), PythonCodeBlockParser())
    document.namespace["__name__"] = f"page_{page.replace('-', '_')}"
    module = ModuleType(document.namespace["__name__"])
    module.__dict__.update(document.namespace)
    sys.modules[module.__name__] = module  # Django and FastAPI look names up by the name of the module
    with saved_as_main(document.namespace, document.text):
        for example in document.examples():
            example.evaluate()
            module.__dict__.update(document.namespace)
    return document.namespace
