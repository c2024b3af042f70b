# What README.md says, beyond that its code blocks run (test_docs.py): the commands, both applications, their test.
#
# Rule: a block of the README is a file, as its reader saves it; each test takes the one it is about.

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import sse_trio
from sse_trio import CloseReason
from sse_trio.testing import open_test_stream

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s"
ON_FASTAPI, ON_TRIO, TEST = (
    example.parsed for example in Document.parse(str(ROOT / "README.md"), PythonCodeBlockParser()).examples()
)

pytestmark = pytest.mark.anyio


def app_of(block):
    """Run a block as a file and return its application."""
    names = {}
    exec(compile(block, "main.py", "exec"), names)
    return names["app"]


@pytest.mark.parametrize("session", ["demo", "tests"])
def test_a_command_stands_in_a_block_of_its_own(session):
    """Each of the two commands can be copied as it stands, and is near the top."""
    block = f"```console\n{SET_UP} {session}\n```\n"
    assert README.count(block) == 1
    assert README.index(block) < README.index("\n## ")


def test_ci_calls_the_command_of_the_readme():
    """CI runs the same commands that the README gives."""
    assert f"\n{SET_UP} tests\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_it_reads_in_five_minutes():
    """The README has at most 150 lines."""
    assert len(README.splitlines()) <= 150


def test_its_endings_are_those_of_its_table():
    """How many cases each library passes is what the table shows."""
    rows = [line.split("|")[2:5] for line in README.splitlines() if line.startswith("| ")]
    passes = [sum(len(re.findall(r"\b[uht]\b", row[side].partition("(")[0])) for row in rows[1:]) for side in range(3)]
    cases = 3 * len(rows[1:])
    assert f"in {passes[0]} of {cases} cases; in {passes[1]} with sse-starlette, in {passes[2]} with FastAPI" in README


COLUMNS = ("CPU for a paced event", "memory of an idle one")


def test_its_figures_are_those_of_the_benchmarks():
    """Speed and memory are the medians of the table on the page of the benchmarks."""
    figures = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").partition("<!-- figures -->")[2]
    header, _, *rows = [[cell.strip() for cell in line.split("|")] for line in figures.splitlines() if line[:1] == "|"]
    table = {row[1]: dict(zip(header, row, strict=True)) for row in rows}
    ours, theirs = (
        [float(table[f"{name} on uvicorn"][column].split()[0]) for column in COLUMNS]
        for name in ("sse_trio", "sse_starlette")
    )
    assert f"takes {ours[0]:.1f} times the CPU of bare ASGI; {theirs[0]:.1f} times with sse-starlette" in README
    assert f"takes {ours[1]:.1f} times the memory of bare ASGI; {theirs[1]:.1f} times with sse-starlette" in README


def test_its_links_work_elsewhere_too():
    """Every link and picture is absolute, so that it also works on the package's page in a registry."""
    assert re.findall(r"\]\((?!https://|mailto:)[^)]*\)", README) == []


@pytest.mark.parametrize("block", [ON_FASTAPI, ON_TRIO], ids=["fastapi", "trio"])
async def test_its_clock_ticks(block, anyio_backend):
    """Each application sends a tick per second, on both loops, and its stream ends with the client."""
    async with open_test_stream(app_of(block), "/clock") as stream:
        assert [(await stream.receive()).data for _ in range(3)] == ["tick 0", "tick 1", "tick 2"]
        stream.disconnect()
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.DISCONNECTED


@pytest.mark.parametrize("block", [ON_FASTAPI, ON_TRIO], ids=["fastapi", "trio"])
async def test_its_page_follows_the_clock(block, anyio_backend):
    """Each application serves the page with the `EventSource` of its stream."""
    async with open_test_stream(app_of(block), "/") as answer:
        assert answer.status_code == 200
        assert b'new EventSource("/clock")' in await answer.read()


async def test_a_path_operation_may_yield(anyio_backend):
    """The second form sends what the path operation yields."""
    async with open_test_stream(app_of(ON_FASTAPI), "/numbers") as stream:
        assert [(await stream.receive()).data for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize("block", [ON_FASTAPI, ON_TRIO], ids=["fastapi", "trio"])
def test_its_test_passes(block, pytester, monkeypatch):
    """The test that the README gives passes on either application, on both loops."""
    pytester.makepyfile(main=block, test_main=TEST)
    monkeypatch.setenv("PYTHONPATH", str(Path(sse_trio.__file__).parents[1]))
    pytester.runpytest_inprocess("-p", "no:asyncio", "-p", "no:cacheprovider").assert_outcomes(passed=2)
