# Every Python block of README.md and of docs/ runs, in the order in which it stands on its page.
#
# Rule 1: the blocks of a page share one namespace, as a reader's session would. Sybil finds them.
# Rule 2: a block that is not to be run is not marked `python`, or has the comment `<!-- skip: next -->` before it with
#         the reason in it.

from __future__ import annotations

import importlib
import re
from pathlib import Path
from pkgutil import resolve_name, walk_packages

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import sse_trio

from ._pages import saved_as_main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PARSERS = (PythonCodeBlockParser(), SkipParser())
SITE = r"https://sse-trio\.readthedocs\.io/en/latest/"  # in README.md, which is also read where there are no files
REPOSITORY = r"https://(?:github\.com/sse-trio/sse-trio/blob|raw\.githubusercontent\.com/sse-trio/sse-trio)/main/"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_blocks_of_a_page_run(page):
    """Code that a reader copies from a page works."""
    document = Document.parse(str(page), *PARSERS)
    with saved_as_main(document.namespace, document.text):
        for example in document.examples():
            example.evaluate()


SKIP = re.compile(r"(?:^<!-- .* -->\n)?<!-- skip: (?:start|next).*-->", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_block_that_does_not_run_here_runs_elsewhere(page):
    """Beside each block that is skipped above stands the test that runs it, which names the page."""
    for skip in SKIP.findall(page.read_text(encoding="utf-8")):
        tests = re.findall(r"tests/[\w/]+\.py", skip)
        assert tests, skip
        assert all(page.stem in (ROOT / test).read_text(encoding="utf-8") for test in tests), skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_exist(page):
    """No link inside of the repository leads nowhere."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text) + re.findall(r"`(examples/\w+\.py)`", text)
    links += re.findall(rf"\({REPOSITORY}([^)#]+)", text)
    links += [f"docs/{name or 'index'}.md" for name in re.findall(rf"\({SITE}(?:(\w[\w-]*)\.html)?[)#]", text)]
    missing = [link for link in links if not ((page.parent / link).exists() or (ROOT / link).exists())]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_tables(page):
    """Rows that belong to a table have its header above them: a blank line between would show them as text."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert [block for block in blocks if not re.match(r".*\n\|[ :|-]+\n", block)] == []


def public_names():
    """All that can be imported from a module without an underscore."""
    modules = [info.name for info in walk_packages(sse_trio.__path__, "sse_trio.") if "._" not in info.name]
    for module in ("sse_trio", *modules):
        public = importlib.import_module(module)
        yield from ((f"{module}.{name}", getattr(public, name)) for name in getattr(public, "__all__", ()))


def test_the_reference_has_every_public_name():
    """Each public class, function and exception has its place in docs/api*.md, under one of its names."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("api*.md"))
    names = re.findall(r"^\.\. (?:auto\w+|py:data):: (sse_trio[\w.]+)", pages, re.MULTILINE)
    documented = [resolve_name(name) for name in names]
    missing = [name for name, thing in public_names() if not any(thing is other for other in documented)]
    assert missing == [], "give each an `autoclass` or `autofunction` in the page of its module"


def test_the_reference_begins_with_ten_names():
    """The first table of the reference has the ten names that most applications need, each of them public."""
    table = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("\n\n| name |")[2].partition("\n\n")[0]
    names = re.findall(r"^\| \[`(\w+)`\]", table, re.MULTILINE)
    assert len(names) == 10
    assert {*names} <= {name.rpartition(".")[2] for name, _ in public_names()}


def test_every_example_is_listed():
    """No program of examples/ is left out of the list of them."""
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    programs = [path.name for path in (ROOT / "examples").glob("*.py") if not path.name.startswith("_")]
    assert [name for name in programs if f"](../examples/{name})" not in page] == []


def test_the_options_of_sse_starlette_are_all_told():
    """Every option of sse-starlette's constructor is on the page for readers who come from there."""
    page = (ROOT / "docs" / "sse-starlette.md").read_text(encoding="utf-8")
    options = (
        "ping_message_factory background status_code headers media_type ping sep send_timeout data_sender_callable "
        "client_close_handler_callable shutdown_event shutdown_grace_period cleanup_timeout"
    )
    assert not [option for option in options.split() if not re.search(rf"`{option}\b", page)]
