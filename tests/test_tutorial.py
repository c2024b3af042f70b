# docs/tutorial.md, step by step: what it says that a reader will see is what there is. As a service, and in a browser:
# e2e/test_tutorial.py.

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

import sse_trio
from sse_trio.testing import open_test_stream

from . import _tutorial as tutorial

OPTIONS = ("-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error")


def app_of(source):
    names = {}
    exec(compile(source, "wall.py", "exec"), names)
    return names["app"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_what_curl_shows(anyio_backend, capsys):
    """The first stream is on the wire what the page says; the careful one prints who came and left."""
    wire, printed = tutorial.blocks("text")
    async with open_test_stream(app_of(tutorial.first_wall()), "/lines") as stream:
        for _ in range(2):
            await stream.receive()
        assert stream.body.decode() == f"{wire}\n"
    async with open_test_stream(app_of(tutorial.careful_wall()), "/lines?name=Ann") as stream:
        await stream.receive()
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("step", ["careful", "shared", "final"])
def test_the_tests_of_the_page_pass(step, pytester, monkeypatch):
    """The reader's own tests pass, after each step that has some."""
    source, tests = {
        "careful": (tutorial.careful_wall(), tutorial.careful_tests()),
        "shared": (tutorial.shared_wall(), tutorial.shared_tests()),
        "final": (tutorial.final_wall(), tutorial.final_tests()),
    }[step]
    pytester.makeconftest(tutorial.blocks("python", "# conftest.py")[0])
    pytester.makepyfile(wall=source, test_wall=tests)
    monkeypatch.setenv("PYTHONPATH", str(Path(sse_trio.__file__).parents[1]))
    pytester.runpytest_inprocess(*OPTIONS).assert_outcomes(passed=2)


def test_the_unit_stops_hypercorn_first():
    """The unit's SIGTERM goes to hypercorn alone, which has longer than its own timeout to stop."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(tutorial.unit())
    service = unit["Service"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 3  # hypercorn's graceful_timeout
    assert service["ExecStart"].startswith(service["WorkingDirectory"])
