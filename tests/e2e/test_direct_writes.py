# Direct writes on real servers and sockets: what a client gets is the ordinary stream, and it came the short way.

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

import pytest

from ._client import SMALL, Client
from ._servers import EXPRESS, SETUPS, WITHOUT_EXPRESS, Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=[name for name in SETUPS if name.endswith(EXPRESS)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(request.param, tmp_path_factory.mktemp("direct"), app="direct_app:app") as running:
        yield running


def events(count: int, size: int = 0) -> bytes:
    return b"".join(b"data: %d %b\n\n" % (n, b"x" * size) for n in range(count))


def test_events_come_the_short_way(server: Server) -> None:
    """The body is whole to another HTTP library, its connection serves on, and few of its messages were sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for name in ("first", "second"):
        connection.request("GET", f"/stream?name={name}&count=50")
        response = connection.getresponse()
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.read() == events(50)
        more = server.wait_report("closed", name).more
        assert more["reason"] == "completed"
        assert more["sent"] <= 10  # head, first event, the end; and where the machine was so slow that events met
    connection.close()


def test_each_event_is_a_chunk(server: Server) -> None:
    """Each direct write is a whole, correct chunk."""
    with Client(server.port) as client:
        client.get("/stream?name=chunks&count=20")
        chunks = []
        while chunk := client.read_chunk():
            chunks.append(chunk)
        assert b"".join(chunks) == events(20)
        assert len(chunks) >= 10


def test_a_chunk_that_the_socket_takes_in_parts(server: Server) -> None:
    """An event larger than the socket's buffers arrives whole and in order, to a client that takes it bit by bit."""
    size = 3_000_000
    with Client(server.port, receive_buffer=SMALL) as client:
        client.get(f"/stream?name=large&count=3&size={size}")
        time.sleep(0.1)  # by now the socket is full and takes no more
        assert client.read_to_end() == events(3, size)
    assert server.wait_report("closed", "large").more["reason"] == "completed"


def test_pings_come_the_short_way(server: Server) -> None:
    """A ping to an idle client needs no send of the server's."""
    with Client(server.port) as client:
        client.get("/stream?name=pings&count=60&ping=0.002")
        body = client.read_to_end()
    assert body.replace(b": ping\n", b"") == events(60)
    assert body.count(b": ping\n") > 20
    assert server.wait_report("closed", "pings").more["sent"] <= 10


def test_subscribers(server: Server) -> None:
    """Each subscriber of a hub gets every event, directly; one that leaves is noticed."""
    with Client(server.port) as first, Client(server.port) as second, Client(server.port) as publisher:
        for name, client in (("hub-1", first), ("hub-2", second)):
            client.get(f"/subscribe?name={name}")
            client.read_until(b"id: ")
        publisher.get("/publish?count=30")
        for client in (first, second):
            text = client.read_until(b"data: 29\n\n")
            assert [line for line in text.split(b"\n") if line.startswith(b"data")] == [
                b"data: %d" % n for n in range(30)
            ]
    for name in ("hub-1", "hub-2"):
        more = server.wait_report("closed", name).more
        assert more["reason"] == "disconnected"
        assert more["sent"] <= 10


def test_old_clients_get_the_ordinary_stream(server: Server) -> None:
    """To HTTP/1.0 no chunks of ours are written."""
    with Client(server.port) as client:
        client.socket.sendall(b"GET /stream?name=old&count=5 HTTP/1.0\r\nhost: x\r\n\r\n")
        received = b""
        while data := client.socket.recv(65_536):
            received += data
        assert b"data: 4 \n\n" in received
    assert server.wait_report("closed", "old").more["sent"] >= 7


@pytest.fixture(scope="module", params=["either", "bridged"])
def app(request: pytest.FixtureRequest) -> str:
    """Without the bridge, and with it."""
    return str(request.param)


@pytest.fixture(scope="module", params=WITHOUT_EXPRESS)
def ordinary_server(
    app: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serve(request.param, tmp_path_factory.mktemp("ordinary"), app=f"direct_app:{app}") as running:
        yield running


def test_they_are_the_default_where_nobody_is_in_between(ordinary_server: Server) -> None:
    """Behind Starlette's own wrappers alone, with or without the bridge, an idle stream's event is written directly."""
    with Client(ordinary_server.port) as client:
        client.get("/stream?name=direct&count=50")
        assert client.read_to_end() == events(50)
    more = ordinary_server.wait_report("closed", "direct").more
    assert more["reason"] == "completed"
    assert more["direct"] >= 40  # not the first; nor those that met on a slow machine, or gave others a turn


def test_a_middleware_of_the_application_is_not_bypassed(ordinary_server: Server) -> None:
    """It sees every message, unless ServerBridge(express=True) says otherwise."""
    with Client(ordinary_server.port) as client:
        client.get("/stream?name=somebody&count=20")
        assert client.read_to_end() == events(20)
    more = ordinary_server.wait_report("closed", "somebody").more
    assert more["direct"] == 0
    assert more["sent"] >= 10  # head, events of which some met, the end
