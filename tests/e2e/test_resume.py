# Resume, end to end: whoever is cut off in the middle of a stream, at any byte, misses nothing and gets nothing twice.
#
# Rule 1: a hub behind hypercorn on trio, a proxy that cuts, and a client as it is: a browser's EventSource, or ours.
# Rule 2: the client is asked for all that it received, in its order. A last event ends the test, so that one that is
#         lost makes it fail and not wait.

from __future__ import annotations

import os
from contextlib import contextmanager
from urllib.request import Request, urlopen

import anyio
import pytest

from sse_trio.client import open_event_source

from .._volume import volume
from ._browser import open_browser
from ._proxy import CuttingProxy
from ._servers import serve

EVENTS = int(os.environ.get("SSE_RESUME_EVENTS", volume(10_000)))
CUTS = int(os.environ.get("SSE_RESUME_CUTS", volume(100)))
BYTES_BETWEEN_CUTS = 2500  # on average: a response head takes some 200 of them, an event about 45
WITHIN = 40.0  # seconds

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@contextmanager
def proxied(folder, **env):
    """Run the application and the proxy in front of it."""
    with (
        serve("hypercorn-trio", folder, app="resume_app:app", **env) as server,
        CuttingProxy(server.port, seed=1, mean=BYTES_BETWEEN_CUTS) as proxy,
    ):
        yield server, proxy


def post(server, target):
    """Ask the application itself, past the proxy."""
    urlopen(Request(f"http://127.0.0.1:{server.port}{target}", method="POST"), timeout=10)


def check(received, proxy):
    """See that there is each number once, in order, nothing else, and that the client had to come back for them."""
    assert received == [str(number) for number in range(EVENTS)]
    assert proxy.cuts == CUTS


@pytest.mark.anyio
@pytest.mark.usefixtures("real_clock")
async def test_our_client_gets_each_event_once(tmp_path):
    """Our client is cut off again and again while events are published, and gets each of them once, in order."""
    received = []
    with proxied(tmp_path) as (server, proxy), anyio.fail_after(WITHIN):
        async with open_event_source(f"http://127.0.0.1:{proxy.port}/events") as source:
            post(server, "/begin")
            async for event in source:
                if event.event == "end":
                    break
                if not received:
                    proxy.start_cutting(CUTS)
                    post(server, f"/publish?count={EVENTS}")
                received.append(event.data if event.event == "message" else f"{event.event} {event.data}")
    check(received, proxy)


@pytest.mark.browser
def test_a_browser_gets_each_event_once(tmp_path):
    """A browser's EventSource is cut off again and again meanwhile, and gives its page each event once, in order."""
    store = str(tmp_path / "hub.sqlite")
    with open_browser() as browser, proxied(tmp_path / "server", STORE=store) as (server, proxy):
        page = browser.new_page()
        page.set_default_timeout(WITHIN * 1000)
        page.goto(f"http://127.0.0.1:{proxy.port}/")
        page.wait_for_selector("[data-opened]", state="attached")
        post(server, "/begin")
        page.wait_for_function("received.length")
        proxy.start_cutting(CUTS)
        post(server, f"/publish?count={EVENTS}")
        page.wait_for_selector("[data-ended]", state="attached")
        check(page.evaluate("received"), proxy)
