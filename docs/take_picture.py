# The picture of the demo in README.md: Chromium, on the demo as `nox -s demo` starts it.
#
#     python docs/take_picture.py        rewrites docs/pictures/demo.png; needs playwright and Chromium
#
# Rule: nothing is staged, except that the machine's name is left out. The picture shows what the buttons did.

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "demo.png"
PORT = 8642
ORDERS = ("Open 50 clients", "Kick 5", "Stall 5", "Restart the server")


@contextmanager
def demo() -> Iterator[str]:
    """Run the demo and give its URL."""
    process = subprocess.Popen([sys.executable, ROOT / "examples" / "demo", "--port", str(PORT)])  # noqa: S603
    try:
        yield f"http://127.0.0.1:{PORT}/"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def visit(page: Page, url: str) -> None:
    """Open the page as soon as the server listens."""
    for _ in range(100):
        try:
            page.goto(url)
        except Exception:  # noqa: BLE001 -- playwright has no narrower error for a refused connection
            time.sleep(0.2)
        else:
            return


def main() -> None:
    """Take the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    with demo() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 604}, color_scheme="light")
        visit(page, url)
        for order in ORDERS:
            page.get_by_role("button", name=order).click(timeout=30_000)
            time.sleep(4)
        time.sleep(14)  # sse-starlette's server is killed after ten seconds, and its clients come back
        page.evaluate("document.getElementById('host').textContent = 'This machine'")
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
