"""Clients that people use, of browsers, PyPI and npm: each gets a hub's events, over pings and a reconnect."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ._browser import open_browser
from ._servers import Server, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e

NODE = Path(__file__).parent / "node"
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
EXPECTED = [
    (event, {"n": 10 * visit + n, "text": "line\u2026"})
    for visit in (1, 2)
    for n, event in enumerate(("message", "named", "message"))
]
Message = tuple[str, Any, str]  # the event, what its data is as JSON, the id


@pytest.fixture(scope="module", params=["uvicorn-h11", "hypercorn-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The hub, on both loops."""
    with serve(request.param, tmp_path_factory.mktemp("hub"), app="hub_app:app") as server:
        yield server


def read_with_node(kind: str, url: str) -> list[Message]:
    """Run one of npm's clients to the end."""
    if shutil.which("node") is None or not (NODE / "node_modules" / "eventsource-parser").exists():
        pytest.skip("needs `npm ci` in tests/e2e/node")
    done = subprocess.run(["node", NODE / "every_client.mjs", kind, url], check=True, capture_output=True, timeout=60)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [message for message in messages if "mistaken" in message]
    return [(message["event"], message["data"], message["id"]) for message in messages]


def read_with_httpx_sse(url: str) -> list[Message]:
    """Read by the code of docs/clients.md, to the 204."""
    pytest.importorskip("httpx_sse")
    page: dict[str, Any] = {}
    exec(PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0], page)
    with httpx.Client() as client:
        return [(event.event, event.json(), event.id) for event in page["read"](client, url, pause=0.0)]


def read_with_sseclient(url: str) -> list[Message]:
    """Read as its README shows, and connect again with the last id until there is a 204."""
    sseclient: Any = pytest.importorskip("sseclient")
    messages: list[Message] = []
    headers: dict[str, str] = {}
    while True:
        with httpx.stream("GET", url, headers=headers) as response:
            if response.status_code == 204:
                return messages
            for event in sseclient.SSEClient(response.iter_bytes()).events():
                messages.append((event.event, json.loads(event.data), event.id))
                headers["Last-Event-ID"] = event.id


READ = """url => new Promise(resolve => {
  const messages = [];
  const source = new EventSource(url);
  for (const name of ["message", "named"])
    source.addEventListener(name, event => messages.push([event.type, JSON.parse(event.data), event.lastEventId]));
  source.onerror = () => source.readyState === EventSource.CLOSED && resolve(messages);
})"""


def read_with_browser(url: str) -> list[Message]:
    """Read with Chromium's `EventSource`, until it is closed by a 204."""
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(url.rpartition("/")[0])  # whatever it is, it has the stream's origin
        return [(event, data, id_) for event, data, id_ in page.evaluate(READ, url)]


CLIENTS: dict[str, Callable[[str], list[Message]]] = {
    "EventSource": read_with_browser,
    "httpx-sse": read_with_httpx_sse,
    "sseclient-py": read_with_sseclient,
    "eventsource": lambda url: read_with_node("eventsource", url),
    "eventsource-parser": lambda url: read_with_node("eventsource-parser", url),
    "fetch-event-source": lambda url: read_with_node("fetch-event-source", url),
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_events_of_a_hub(server: Server, kind: str) -> None:
    """It gets each event once, no ping and no id as a message, and comes back once with the id of the last event."""
    messages = CLIENTS[kind](f"http://127.0.0.1:{server.port}/{kind}")
    assert [message[:2] for message in messages] == EXPECTED
    ids = [message[2] for message in messages]
    assert len(set(ids)) == len(EXPECTED)
    assert server.wait_report("visit", f"{kind}-1").more == {"id": None}
    assert server.wait_report("visit", f"{kind}-2").more == {"id": ids[2]}
    assert server.wait_report("visit", f"{kind}-3").more == {"id": ids[-1]}
    assert f"{kind}-4" not in server.reported("visit")


@pytest.mark.parametrize(
    ("status", "asks", "ends"),
    [
        (200, [3, 1], ["asks again", "done"]),
        (204, [1, 1], ["204", "204"]),
        (401, [1, 1], ["401", "401"]),
        (503, [3, 1], ["asks again", "503"]),
        (0, [3, 1], ["asks again", "no connection"]),
    ],
    ids=["answered", "no more", "refused", "full", "no connection"],
)
def test_the_programs_for_fetch_event_source(status: int, asks: list[int], ends: list[str]) -> None:
    """The program for a stream connects again unless it is refused for good; the one for a POST never asks twice."""
    assert read_with_node("fetch-event-source-asks", str(status)) == [("asks", [asks, ends], "")]
