# What needs a socket to be shown: bytes that no client of ours would send, and what the server itself sees to.
#
# Rule 1: one server for all of it. It is one that checks the headers it is given (h11), as a bad one is an error there.

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ._client import Client
from ._servers import Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

IDS = {  # where the id is, what it is, and the statuses that are an answer to it
    "blanks": ("?lastEventId=%20x%20", b"", {200}),
    "line breaks": ("?lastEventId=a%0d%0aX-Evil:%201%0d%0a%0d%0ab", b"", {200}),
    "NUL": ("?lastEventId=a%00b", b"", {200}),
    "latin-1": ("", b"\xff\xfe", {200}),
    "UTF-8": ("", "\u00e9\u2028".encode(), {200}),
    "an escape": ("", b"\x1b[31m", {200, 400}),
    "a NUL in the header": ("", b"a\0b", {400}),
    "15 KB": ("?lastEventId=" + "9" * 15_000, b"", {200}),  # what this server takes of a head is 16 KB
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a hub on hypercorn's trio worker, which waits one second for a request's head."""
    folder = tmp_path_factory.mktemp("security")
    with serve("hypercorn-trio", folder, "--keep-alive", "1", app="resume_app:app") as server:
        yield server


@pytest.mark.parametrize("name", IDS)
def test_an_id_of_any_bytes(server: Server, name: str) -> None:
    """Whatever bytes a client sends as its id are a gap, or refused by the server; no header of theirs, no log."""
    query, header, statuses = IDS[name]
    with Client(server.port) as client:
        lines = [b"GET /events%s HTTP/1.1" % query.encode(), b"host: x", b"last-event-id: " + header, b"", b""]
        client.socket.sendall(b"\r\n".join(line for line in lines if line != b"last-event-id: "))
        head = client.read_head()
        assert head.status in statuses
        assert "x-evil" not in head.headers
        if head.status == 200:
            assert len(head.headers["event-stream-gap"]) <= 200
            assert b"event: gap" in client.read_until(b"\n\n")
    assert len(server.log.items) == 1, server.text


def test_a_head_that_never_ends(server: Server) -> None:
    """Half a request is hypercorn's affair: it drops the connection after `keep_alive_timeout`, however it trickles."""
    with Client(server.port) as client:
        client.socket.sendall(b"GET /events HTTP/1.1\r\n")
        client.socket.settimeout(0.2)
        began = time.monotonic()
        while time.monotonic() - began < 10:
            try:
                if client.socket.recv(1) == b"":
                    break
            except TimeoutError:
                client.socket.sendall(b"x-a: b\r\n")
            except ConnectionError:
                break
        assert time.monotonic() - began < 10
