# Streams over HTTP/3: what holds on hypercorn, and what hypercorn doesn't pass on; and behind Caddy, which does.
#
# Rule 1: what is a server's fault is tested as it is, so that a new version which mends it is noticed here.

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from ._browser import free_port
from ._proxies import serve_caddy
from ._servers import START_WITHIN, Server, patience, serve

pytest.importorskip("aioquic", reason="aioquic is not installed")

from ._h3_client import open_h3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme

pytestmark = pytest.mark.e2e

_QUIC = re.compile(r"running on https://[^ ]*:(\d+) \(QUIC\)", re.IGNORECASE)
COMPRESSED = (b"accept-encoding", b"gzip")
FAREWELL = b"event: bye\ndata: farewell\n\n"


@pytest.fixture(params=["hypercorn-trio", "hypercorn-asyncio"])
def server(request: pytest.FixtureRequest, options: list[str], tmp_path: Path) -> Iterator[Server]:
    """A server of its own, whose port is that of QUIC."""
    with serve(request.param, tmp_path, "--quic-bind=127.0.0.1:0", "--graceful-timeout=1", *options) as running:
        found = running.log.wait(
            lambda lines: next((found[1] for line in lines if (found := _QUIC.search(line))), None), START_WITHIN
        )
        running.port = int(found)
        yield running


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


def test_a_stream_s_life(server: Server, trusted: Path) -> None:
    """First event at once, a clean end, farewell at SIGTERM, gone at graceful_timeout; a client's leaving is unheard.

    What ends the stream of a client that has gone is max_lifetime.
    """

    async def run() -> float:
        async with open_h3(server.port, trusted) as client:
            idle, ticks, count = (client.get(f"/{name}?name={name}") for name in ("idle", "ticks", "count"))
            await client.wait_until(lambda: client.body[idle] and client.body[ticks], "the first events")
            await client.wait_until(lambda: count in client.ended, "the end")
            assert client.body[count].count(b"data: ") == 3
            for reason in await asyncio.gather(go("reset"), go("close")):
                assert reason == {"reason": "lifetime"}
            asked = server.terminate()
            await client.wait_until(lambda: client.ended >= {idle, ticks}, "the end of both")
            assert client.body[idle].endswith(FAREWELL)
            assert client.body[ticks].endswith(FAREWELL)
            return asked

    async def go(way: str) -> object:
        async with open_h3(server.port, trusted) as client:
            gone = client.get(f"/idle?name={way}&max_lifetime=1")
            await client.wait_until(lambda: client.body[gone], "the first event")
            if way == "close":
                client.close()
                await client.wait_closed()
            else:
                client.cancel(gone)
            return (await asyncio.to_thread(server.wait_report, "closed", way)).more

    asked = asyncio.run(run())
    server.wait_reports("cleaned", {"idle", "ticks", "reset", "close"})
    assert server.wait_gone(12) - asked < 3 * patience()


@pytest.mark.parametrize("setup", ["uvicorn-httptools", "hypercorn-trio"])
def test_behind_caddy(setup: str, trusted: Path, certificate: Path, tmp_path: Path) -> None:
    """Behind a proxy that speaks HTTP/3, a reset and a connection that closes are heard of, and streams end cleanly."""

    async def run() -> None:
        async with open_h3(port, trusted) as client:
            reset, ticks = (client.get(f"/{what}", COMPRESSED) for what in ("idle?name=reset", "ticks?name=ticks"))
            await client.wait_until(lambda: client.body[reset] and client.body[ticks], "the first events")
            flood = client.get("/flood?name=flood", COMPRESSED)  # large events, which Caddy would compress
            await client.wait_until(lambda: client.body[flood], "the first event")
            assert b"content-encoding" not in client.headers[flood]
            client.cancel(flood)
            await go("flood")
            client.cancel(reset)
            await go("reset")
            async with open_h3(port, trusted) as other:
                closed = other.get("/idle?name=closed")
                await other.wait_until(lambda: other.body[closed], "the first event")
                other.close()
                await other.wait_closed()
            await go("closed")
            server.terminate()
            await client.wait_until(lambda: ticks in client.ended, "the end")
            assert client.body[ticks].endswith(FAREWELL)

    async def go(name: str) -> None:
        report = await asyncio.to_thread(server.wait_report, "closed", name)
        assert report.more == {"reason": "disconnected"}

    port = free_port()
    with (
        serve(setup, tmp_path / "server") as server,
        serve_caddy(tmp_path, port, server.port, certificate),
    ):
        asyncio.run(run())
