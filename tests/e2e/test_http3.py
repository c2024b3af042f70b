# Streams over HTTP/3, on hypercorn: what holds there, and what hypercorn doesn't pass on.
#
# Rule 1: what is a server's fault is tested as it is, so that a new version which mends it is noticed here.

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from ._servers import START_WITHIN, Server, patience, serve

pytest.importorskip("aioquic", reason="aioquic is not installed")

from ._h3_client import open_h3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme

pytestmark = pytest.mark.e2e

_QUIC = re.compile(r"running on https://[^ ]*:(\d+) \(QUIC\)", re.IGNORECASE)
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
