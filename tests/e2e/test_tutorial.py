# The service at the end of docs/tutorial.md, in a browser: its page, and the restart that nobody loses a line by.

from __future__ import annotations

import configparser
import shlex
import signal

import pytest

from .. import _tutorial as tutorial
from ._browser import AT_ONCE, PageServer

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

RESET = "net::ERR_CONNECTION_RESET"  # of a reconnect that the server accepted no more
LINES = "[...document.querySelectorAll('li')].map(line => line.textContent)"


@pytest.fixture
def wall(tmp_path):
    """The files of the page in a folder, and the service as the unit starts it, on another port."""
    (tmp_path / "wall.py").write_text(tutorial.final_wall())
    (tmp_path / "index.html").write_text(tutorial.index_page())
    unit = configparser.ConfigParser(interpolation=None)
    unit.read_string(tutorial.unit())
    program, *options = shlex.split(unit["Service"]["ExecStart"].replace("8000", "{port}"))
    assert program.endswith("/.venv/bin/hypercorn")
    with PageServer("-m", "hypercorn", *options, cwd=tmp_path, log=tmp_path / "log") as server:
        yield server


def write(page, line):
    """Write a line, as a visitor does."""
    page.fill("input", line)
    page.press("input", "Enter")
    page.wait_for_function(f"{LINES}[0] === {line!r}")


def test_the_wall_survives_a_restart(wall, open_page):
    """Both pages show once what a visitor writes, even after a restart; the service stops at once."""
    ann, bob = (open_page(wall, expected=[RESET]) for _ in range(2))
    write(ann, "hello")
    bob.wait_for_function(f"{LINES}[0] === 'hello'")
    assert wall.interrupt(signal.SIGTERM) < AT_ONCE
    assert wall.returncode == 0
    wall.start()
    write(bob, "is anybody there?")
    ann.wait_for_function(f"{LINES}[0] === 'is anybody there?'")
    assert ann.evaluate(LINES) == bob.evaluate(LINES) == ["is anybody there?", "hello"]
