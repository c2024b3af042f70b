# examples/shared_tabs, in Chromium: more tabs than a browser opens connections, and one stream for all of them.

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from ._browser import PATIENCE, PageServer

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "shared_tabs"
TABS = 8
COMMAND = ("-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}", "tabs_app:app")


@pytest.mark.e2e
@pytest.mark.browser
def test_eight_tabs_share_one_stream(tmp_path, open_page):
    """Each of eight tabs shows the events of the one stream that is open, and goes on when the first tab is closed."""
    with PageServer(*COMMAND, cwd=EXAMPLE, log=tmp_path / "log") as server:
        tabs = [open_page(server)]
        for _ in range(TABS - 1):
            tab = tabs[0].context.new_page()
            tab.goto(server.url)
            tabs.append(tab)
        for tab in tabs:
            expect(tab.locator("h1")).to_have_text(re.compile(r"^\d+, streams: 1$"), timeout=PATIENCE)
        tabs[0].close()
        seen = tabs[1].locator("h1").inner_text()
        expect(tabs[1].locator("h1")).not_to_have_text(seen, timeout=PATIENCE)
        expect(tabs[1].locator("h1")).to_have_text(re.compile(", streams: 1$"))


def test_the_page_shows_the_example():
    """The scripts of docs/tabs.md are those of the example."""
    worker, follow = re.findall(
        r"```javascript\n(.*?)```", (ROOT / "docs/tabs.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert worker == (EXAMPLE / "worker.js").read_text(encoding="utf-8")
    assert textwrap.indent(follow, "  ") in (EXAMPLE / "page.html").read_text(encoding="utf-8")
