# Streams that share one HTTP/2 connection: what happens to one of them is nothing to the others.

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, wait_reset
from ._h2_client import WIDE, H2Client
from ._servers import HYPERCORN, WITHOUT_EXPRESS, Server, patience, serve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

CANCEL = 0x8  # RFC 9113 section 7


@pytest.fixture(scope="module", params=HYPERCORN)
def setup(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(setup: str, options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(setup, tmp_path_factory.mktemp(setup), *options) as running:
        yield running


def open_streams(client: H2Client, path: str, count: int) -> list[int]:
    """Open this many streams, and return their ids once each has had an event; `{n}` in the path is a number."""
    opened = [client.get(path.format(n=n)) for n in range(count)]
    client.pump_until(lambda: all(b"data: " in client.body[stream] for stream in opened), "the first events")
    return opened


def go_on(client: H2Client, streams: list[int], events: int) -> float:
    """Receive this many more events on each of these streams, and return how long that took."""
    began = time.monotonic()
    before = {stream: client.body[stream].count(b"\n\n") for stream in streams}
    client.pump_until(
        lambda: all(client.body[stream].count(b"\n\n") >= before[stream] + events for stream in streams),
        f"{events} more events on each of {len(streams)} streams",
    )
    return time.monotonic() - began


def test_stalled_stream_does_not_delay_others(server: Server, tls: ssl.SSLContext) -> None:
    """One of 20 streams that is stalled by flow control leaves the other 19 at their pace of 50 ms an event."""
    with H2Client(server.port, tls) as client:
        others = open_streams(client, "/ticks?name=paced-{n}", 19)
        paced = go_on(client, others, 5)
        stalled = client.get("/flood?name=h2-flow")
        client.stalled.add(stalled)
        client.pump_until(lambda: server.reported("stuck").get("h2-flow"), "the stalled stream to be stuck")
        assert go_on(client, others, 5) < (2 * paced + 0.5) * patience()
        assert len(client.body[stalled]) == 65_535, "its whole window, and no byte more"


def test_reset_stream(server: Server, tls: ssl.SSLContext) -> None:
    """A stream that the client resets is cleaned up, idle or ticking or stalled, and the others go on."""
    with H2Client(server.port, tls) as client:
        [kept] = open_streams(client, "/ticks?name=h2-kept", 1)
        for producer in ("idle", "ticks", "flood"):
            name = f"h2-reset-{producer}"
            stream = client.get(f"/{producer}?name={name}")
            client.stalled.add(stream)
            client.pump_until(lambda stream=stream: client.body[stream], "the stream to begin")
            client.reset_stream(stream)
            server.wait_report("cleaned", name)
            assert server.wait_report("closed", name).more == {"reason": "disconnected"}
        go_on(client, [kept], 5)


def test_stalled_stream_is_reset(server: Server, tls: ssl.SSLContext) -> None:
    """At its send_timeout a stalled stream alone is reset, with CANCEL; the connection and the others stay."""
    with H2Client(server.port, tls) as client:
        others = open_streams(client, "/ticks?name=h2-beside-{n}", 3)
        stalled = client.get("/flood?name=h2-stalled&send_timeout=1")
        client.stalled.add(stalled)
        client.pump_until(lambda: client.reset, "the reset")
        assert client.reset == {stalled: CANCEL}
        cleaned, stuck = server.wait_report("cleaned", "h2-stalled"), server.wait_report("stuck", "h2-stalled")
        assert 0.5 < cleaned.at - stuck.more["since"] < 2 * patience()
        assert server.wait_report("closed", "h2-stalled").more == {"reason": "send_timeout"}
        go_on(client, others, 5)
        assert open_streams(client, "/count?name=h2-after", 1)


@pytest.mark.parametrize("path", ["/fail", "/wrapped/fail"])
def test_failure_after_events(server: Server, tls: ssl.SSLContext, path: str) -> None:
    """What was sent before a failure arrives, then the stream is reset, and the connection's others go on."""
    with H2Client(server.port, tls) as client:
        others = open_streams(client, "/ticks?name=beside-a-failure-{n}", 3)
        failing = client.get(f"{path}?name={path}")
        client.pump_until(lambda: failing in client.ended or failing in client.reset, "the end of the stream")
        assert client.body[failing].count(b"data: ") == 5
        assert failing in client.reset
        go_on(client, others, 3)


def test_stalled_connection_is_dropped(server: Server, tls: ssl.SSLContext) -> None:
    """If the client reads nothing at all, a reset can't be sent, and the connection is dropped."""
    names = ("h2-deaf-1", "h2-deaf-2")
    with H2Client(server.port, tls, receive_buffer=SMALL) as client:
        for name in names:
            client.get(f"/flood?name={name}&send_timeout=1", window=WIDE)
        for name in names:
            cleaned = server.wait_report("cleaned", name)
            assert cleaned.at - server.wait_report("stuck", name).more["since"] < 2 * patience()
        assert wait_reset(client.socket, 5) - cleaned.at < patience()


def test_shutdown(setup: str, options: list[str], tls: ssl.SSLContext, tmp_path: Path) -> None:
    """At SIGTERM 19 streams end with END_STREAM; a stalled one and a client that doesn't read delay none."""
    with (
        serve(setup, tmp_path, *options) as server,
        H2Client(server.port, tls, receive_buffer=SMALL) as deaf,
        H2Client(server.port, tls) as client,
    ):
        ticking = open_streams(client, "/ticks?name=h2-ticks-{n}", 10)
        others = [*ticking, *open_streams(client, "/idle?name=h2-idle-{n}", 9)]
        client.stalled.add(client.get("/flood?name=h2-held"))
        client.pump_until(lambda: "h2-held" in server.reported("stuck"), "the stalled stream to be stuck")
        deaf.get("/flood?name=h2-deaf", window=WIDE)
        server.wait_report("stuck", "h2-deaf")
        asked = server.terminate()
        client.pump_until(lambda: client.ended.issuperset(others), "the ends of the streams")
        assert all(client.body[stream].endswith(b"event: bye\ndata: farewell\n\n") for stream in others)
        client.pump_to_eof()
        # A second for the last writes, half a second for the reset that the deaf client does not take.
        assert server.wait_gone(12) - asked < 3 * patience()
        names = [f"h2-{producer}-{n}" for producer, count in (("ticks", 10), ("idle", 9)) for n in range(count)]
        server.wait_reports("cleaned", [*names, "h2-held", "h2-deaf"])


# Over HTTP/2 there are no direct writes: the end of a connection is the same with express.
@pytest.mark.parametrize("setup", [name for name in HYPERCORN if name in WITHOUT_EXPRESS])
def test_every_stream_ends(setup: str, options: list[str], tls: ssl.SSLContext, tmp_path: Path) -> None:
    """At SIGTERM each stream of a connection ends with END_STREAM before it is closed, the last one as well."""
    connections = {"polite": ("", 10), "curt": ("&no_farewell", 10), "alone": ("&no_farewell", 1)}
    with serve(setup, tmp_path, *options) as server, ExitStack() as clients:
        opened = {}
        for name, (farewell, count) in connections.items():
            client = clients.enter_context(H2Client(server.port, tls))
            paths = [f"/{producer}?name={name}-{producer}-{{n}}{farewell}" for producer in ("ticks", "idle")]
            opened[client] = {stream for path in paths for stream in open_streams(client, path, count)}
        server.terminate()
        for client, streams in opened.items():
            client.pump_to_eof()
            assert client.ended == streams
        server.wait_gone(12)
