# What a stream promises, behind nginx and HAProxy with the configuration that docs/deployment.md has.
#
# Rule 1: one proxy of each kind before each server for all tests that leave both alive.
# Rule 2: an event that has come within WAIT has not been pushed out by a later one: `idle` sends one and no ping.

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, Client
from ._h2_client import H2Client
from ._proxies import PROXIES, READ_TIMEOUT, Proxy, serve_proxy
from ._servers import Server, patience, serve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

BEHIND = ("uvicorn-httptools", "hypercorn-trio")
SOON = 2.0  # seconds


@pytest.fixture(scope="module", params=PROXIES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=BEHIND)
def setup(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def behind(setup: str, server_of: Callable[[str], Server]) -> Server:
    return server_of(setup)


@pytest.fixture(scope="module")
def proxy(kind: str, behind: Server, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with serve_proxy(kind, tmp_path_factory.mktemp(kind), behind.port, certificate) as running:
        yield running


def name_of(kind: str, what: str) -> str:
    """A stream's name, once per proxy: the server behind keeps its reports of all of them."""
    return f"{kind}-{what}"


def test_first_event(proxy: Proxy, tls: ssl.SSLContext) -> None:
    """The first event is there at once, over HTTP/1.1 and HTTP/2, without a later one to push it."""
    began = time.monotonic()
    with Client(proxy.port) as client:
        head = client.get("/idle?name=first")
        assert head.headers["content-type"].startswith("text/event-stream")
        client.read_until(b"data: open\n\n")
    with H2Client(proxy.tls_port, tls) as client:
        stream = client.get("/idle?name=first-2")
        client.pump_until(lambda: b"data: open\n\n" in client.body[stream], "the first event")
    assert time.monotonic() - began < SOON * patience()


def test_end(proxy: Proxy) -> None:
    """A stream that completes has its final chunk; one that fails after events has none."""
    with Client(proxy.port) as client:
        client.get("/count?name=end")
        assert client.read_to_end().count(b"data: ") == 3
        client.get("/fail?name=failed")
        with pytest.raises(EOFError):
            client.read_to_end()


@pytest.mark.parametrize("way", [Client.close, Client.reset])
@pytest.mark.parametrize("producer", ["idle", "ticks"])
def test_disconnect(proxy: Proxy, kind: str, behind: Server, producer: str, way: Callable[[Client], None]) -> None:
    """A client that goes away from the proxy, with a FIN or a RST, ends the stream behind it."""
    name = name_of(kind, f"{producer}-{way.__name__}")
    with Client(proxy.port) as client:
        client.get(f"/{producer}?name={name}")
        client.read_until(b"data: ")
        way(client)
        behind.wait_report("cleaned", name)
    assert behind.wait_report("closed", name).more == {"reason": "disconnected"}


def test_reset_of_one_stream(proxy: Proxy, kind: str, behind: Server, tls: ssl.SSLContext) -> None:
    """A reset of one HTTP/2 stream ends that one behind the proxy, and the next to it goes on."""
    gone, kept = name_of(kind, "h2-gone"), name_of(kind, "h2-kept")
    with H2Client(proxy.tls_port, tls) as client:
        reset, stays = client.get(f"/idle?name={gone}"), client.get(f"/ticks?name={kept}")
        client.pump_until(lambda: client.body[reset] and client.body[stays], "the first events")
        client.reset_stream(reset)
        assert behind.wait_report("closed", gone).more == {"reason": "disconnected"}
        size = len(client.body[stays])
        client.pump_until(lambda: len(client.body[stays]) > size + 50, "more events")
        assert kept not in behind.reported("closed")
    behind.wait_report("closed", kept)


def test_stalled_client(proxy: Proxy, kind: str, behind: Server) -> None:
    """A client that takes nothing stalls the server too, once the buffers on the way are full: send_timeout holds."""
    name = name_of(kind, "stalled")
    with Client(proxy.port, receive_buffer=SMALL) as client:
        client.get(f"/flood?name={name}&send_timeout=1")
        assert behind.wait_report("closed", name, within=20).more == {"reason": "send_timeout"}


def test_pings_hold_the_timeout(
    kind: str, server_of: Callable[[str], Server], certificate: Path, tmp_path: Path
) -> None:
    """At the proxy's timeout a silent stream is cut off, and heard of; one with pings more often goes on."""
    server = server_of("uvicorn-httptools")
    with (
        serve_proxy(kind, tmp_path, server.port, certificate, READ_TIMEOUT[kind]) as proxy,
        Client(proxy.port) as silent,
        Client(proxy.port) as pinged,
    ):
        pinged.get(f"/idle?name={kind}-pinged&ping=0.3")
        silent.get(f"/idle?name={kind}-silent")
        with pytest.raises(EOFError):
            silent.read_to_end()
        server.wait_report("closed", f"{kind}-silent")
        for _ in range(5):
            assert pinged.read_chunk()


COMPRESSING = {
    "nginx": {"location / {": "gzip on; gzip_types text/event-stream; location / {"},
    "haproxy": {"server app1": "compression algo gzip\n    compression type text/event-stream\n    server app1"},
}
KNOWS_NO_TRANSFORM = {"nginx": False, "haproxy": True}


def test_a_proxy_that_compresses(
    kind: str, server_of: Callable[[str], Server], certificate: Path, tmp_path: Path
) -> None:
    """HAProxy leaves a stream alone that says no-transform; nginx compresses it, and holds nothing back."""
    server = server_of("uvicorn-httptools")
    with (
        serve_proxy(kind, tmp_path, server.port, certificate, COMPRESSING[kind]) as proxy,
        Client(proxy.port) as client,
    ):
        head = client.get(f"/idle?name={kind}-compressed", "accept-encoding: gzip")
        assert ("content-encoding" not in head.headers) == KNOWS_NO_TRANSFORM[kind]
        decoder = zlib.decompressobj(wbits=31)
        text = b""
        while b"data: open\n\n" not in text:
            chunk = client.read_chunk()
            text += chunk if KNOWS_NO_TRANSFORM[kind] else decoder.decompress(chunk)


@pytest.mark.parametrize("setup", BEHIND)
def test_shutdown(kind: str, setup: str, certificate: Path, tls: ssl.SSLContext, tmp_path: Path) -> None:
    """SIGTERM to the server: every client of the proxy has the farewell and the end, and the server is gone in time."""
    with (
        serve(setup, tmp_path / "server") as server,
        serve_proxy(kind, tmp_path / "proxy", server.port, certificate) as proxy,
        Client(proxy.port) as idle,
        Client(proxy.port) as ticking,
        H2Client(proxy.tls_port, tls) as client,
    ):
        for each, producer in ((idle, "idle"), (ticking, "ticks")):
            each.get(f"/{producer}?name={producer}")
            each.read_until(b"data: ")
        streams = [client.get(f"/{producer}?name=h2-{producer}") for producer in ("idle", "ticks")]
        client.pump_until(lambda: all(client.body[stream] for stream in streams), "the first events")
        asked = server.terminate()
        for each in (idle, ticking):
            assert each.read_to_end().endswith(b"event: bye\ndata: farewell\n\n")
        client.pump_until(lambda: client.ended >= set(streams), "the end of both streams")
        for stream in streams:
            assert client.body[stream].endswith(b"event: bye\ndata: farewell\n\n")
        assert server.wait_gone(12) - asked < SOON * patience()
