# What needs a socket to be shown: bytes that no client of ours would send.
#
# Rule 1: one server for all of it: h11 on uvicorn, where a header that is not legal is an error.

from __future__ import annotations

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
    "50 KB": ("?lastEventId=" + "9" * 50_000, b"", {200}),  # what this server takes of a head is 64 KB
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a hub on it, with no more in its log than what went wrong and where it listens."""
    with serve("uvicorn-h11", tmp_path_factory.mktemp("security"), app="resume_app:app") as server:
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
    assert "Traceback" not in server.text
