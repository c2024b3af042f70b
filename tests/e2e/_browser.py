# Debian's Chromium, as the tests that need a real browser start it, the servers of their pages, and what they look for.

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import sse_trio

from ._lifeline import Lifeline

ROOT = Path(__file__).parents[2]
PACKAGE_AT = str(Path(sse_trio.__file__).parents[1])  # a server imports the package that the tests import
ARTIFACTS = ROOT / "artifacts"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
NARROW = {"width": 320, "height": 640}
PATIENCE = 15_000  # ms that the page has for what a person would see within two seconds
# What a browser says of a server that is gone, whatever it was doing at that moment.
NOTICES = tuple(
    f"net::ERR_{name}"
    for name in ("CONNECTION_REFUSED", "CONNECTION_RESET", "EMPTY_RESPONSE", "INCOMPLETE_CHUNKED_ENCODING")
)
AT_ONCE = 3.0  # seconds: slow for a loaded machine, and what hypercorn would wait for open streams; uvicorn, for ever
GROUND = "getComputedStyle(document.body).backgroundColor"

# The elements whose text doesn't fit into them.
CUT_OFF = """[...document.querySelectorAll("body *")]
  .filter(element => !element.matches(".unseen, .u-wrap *, pre, option") && element.clientWidth)
  .filter(element => element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline")
  .map(element => element.outerHTML.slice(0, 80))"""

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_browser():
    """Run a Chromium. While it runs, no test of the same thread can run asyncio: playwright does."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("chromium is not installed")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class PageServer:
    """A server process with its log, on a port that it keeps when it is started again. It runs within `with`."""

    def __init__(self, *command: object, cwd: Path, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._command = [sys.executable, *(str(part).format(port=self.port) for part in command)]
        self._cwd = cwd
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: Lifeline | None = None

    def __enter__(self) -> PageServer:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": PACKAGE_AT}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._cwd, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._lifeline = Lifeline(self._process)
        self._wait_listening(deadline=time.monotonic() + 20)

    def interrupt(self, number: int = signal.SIGINT) -> float:
        """Press Ctrl+C, or send another signal, and return how many seconds the process took to end."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(timeout=20)
        took = time.monotonic() - began
        self.kill()
        return took

    def wait_gone(self) -> None:
        """Wait until the process has ended by itself, then end what it has left behind."""
        assert self._process is not None
        self._process.wait(timeout=20)
        self.kill()

    @property
    def returncode(self) -> int | None:
        assert self._process is not None
        return self._process.returncode

    def kill(self) -> None:
        """End what there still is of it, its workers included."""
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            lifeline.cut()

    def _wait_listening(self, deadline: float) -> None:
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.05)  # no server tells another process when it listens
            else:
                return
        pytest.fail(f"the server does not listen:\n{self.log}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def page_opener(browser):
    """Open pages, each in a context of its own; at the end, see what they complained of and whom they asked."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def open_page(server, path="", *, viewport=DESKTOP, expected=(), **options):
            context = browser.new_context(viewport=viewport, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: note_message(message, complaints, expected))
            page.on("request", lambda request: note_stranger(request.url, server.url, complaints))
            page.goto(server.url + path)
            return page

        yield open_page
    assert complaints == []


def note_message(message, complaints, expected):
    if message.type in {"error", "warning"} and not any(notice in message.text for notice in (*NOTICES, *expected)):
        complaints.append(message.text)


def note_stranger(url, origin, complaints):
    if not url.startswith(origin):
        complaints.append(f"the page asked for {url}")


def wait_true(page, expression):
    """Wait until this JavaScript is true. (Playwright's own waiting needs `eval`, which the page's policy forbids.)"""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression} did not become true"
        page.wait_for_timeout(50)


def shoot(page, name, **options):
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", **options)
