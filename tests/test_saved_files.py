# What the pages tell a reader to save as a file, and to install: each file has all that it uses.
#
# Rule 1: the blocks of a file are those from "Save this as `name.py`" up to the next such line. Other blocks of a page,
#         and pages that have no such line, are not looked at.
# Rule 2: what a file imports is installed by a `pip install` above it, or before the next file begins.

from __future__ import annotations

import builtins
import re
import sys
from symtable import SymbolTable, symtable
from typing import NamedTuple

import pytest

from ._pages import DOCS, SAVE, saved_files

INSTALL = re.compile(r"(?:pip install |`requirements\.txt` has `)([^\n`#]+)")
IMPORT = re.compile(r"^ *(?:from|import) ([\w.]+)", re.MULTILINE)
BRINGS = {  # what is imported, by what is installed
    "sse-trio": "sse_trio anyio trio starlette",
    "sse-trio[client]": "httpx sse_trio.client",
    "sse-trio[json]": "pydantic",
    "sse-trio[redis]": "sse_trio.stores.redis",
    "sse-trio[postgres]": "sse_trio.stores.postgres psycopg",
    "sse-trio[metrics]": "sse_trio.metrics",
    "fastapi[standard]": "fastapi pydantic httpx",
    "pyjwt": "jwt",
    "quart-trio": "quart quart_trio",
    "openai": "openai httpx",
}
EXTRA_NEEDED = {name for names in BRINGS.values() for name in names.split() if name.startswith("sse_trio.")}


class File(NamedTuple):
    """A file that a reader has saved."""

    page: str
    name: str
    source: str
    modules: frozenset[str]
    """What can be imported when it runs."""

    def __str__(self) -> str:
        return f"{self.page}-{self.name}"


def brought_by(text: str) -> set[str]:
    """What can be imported after the `pip install` lines of a text."""
    modules: set[str] = set()
    for line in INSTALL.findall(text):
        for package, extras in re.findall(r"([\w-]+)(?:\[([\w,]+)\])?", line):
            for key in (package, *(f"{package}[{extra}]" for extra in extras.split(",") if extra)):
                modules |= {*BRINGS.get(key, key).split()}
    return modules


def files() -> list[File]:
    """The files of all pages."""
    found = []
    for page in (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))):
        before, *_ = SAVE.split(page.read_text(encoding="utf-8"))
        modules = brought_by(before)
        for name, source, text in saved_files(page):
            # The sentence before the blocks may have the command; what the files before it have is there, too.
            modules |= {*brought_by(text), name.removesuffix(".py")}
            found.append(File(page.stem, name, source, frozenset(modules)))
    return found


FILES = files()


def undefined(table: SymbolTable, defined: set[str]) -> set[str]:
    """The global names that a file uses and doesn't define."""
    used = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
    return used.union(*(undefined(child, defined) for child in table.get_children())) - defined


def defined_in(source: str) -> set[str]:
    """The names that a file defines, and those that are always there."""
    symbols = symtable(source, "file", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()} | {*dir(builtins)}


def test_the_files_of_the_cookbook_are_found() -> None:
    """The pages have files to look at, those of authentication among them."""
    assert {"main.py", "test_main.py", "follow.py"} <= {file.name for file in FILES if file.page == "authentication"}
    assert len(FILES) > 20


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_defines_what_it_uses(file: File) -> None:
    """A file that a reader saves imports or defines every name in it, and borrows none of another file's."""
    table = symtable(file.source, "file", "exec")
    used = undefined(table, set()) | {each.get_name() for each in table.get_symbols() if each.is_referenced()}
    assert used - defined_in(file.source) - {"__name__", "__file__"} == set()


@pytest.mark.parametrize("file", FILES, ids=str)
def test_what_a_file_imports_is_installed(file: File) -> None:
    """A page's own `pip install` lines bring all that its file imports, extras of ours included."""
    imported = {
        module if module in EXTRA_NEEDED else module.partition(".")[0]
        for module in IMPORT.findall(file.source)
        if module.partition(".")[0] not in sys.stdlib_module_names
    }
    assert imported - file.modules == set()
