"""A server for httpx clients that lives in memory, so that its tests run in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import httpx
import pytest


@dataclass
class Answer:
    """What the server does with one request: wait, fail, or answer with a body that comes piece by piece.

    A piece of the body is bytes, a number of seconds to wait, an exception that breaks the connection, or a function
    that is called for the next bytes.
    """

    pieces: tuple = ()
    status: int = 200
    headers: dict = field(default_factory=dict)
    after: float = 0.0
    error: Exception | None = None


def stream(*pieces, status=200, content_type="text/event-stream", **headers):
    """An answer with these pieces; str is a chunk too."""
    pieces = tuple(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(pieces, status, {"content-type": content_type} | headers if content_type else headers)


class FakeServer(httpx.AsyncBaseTransport):
    """Answers the requests in turn, the last answer for ever, and notes what happened and when."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.times = []
        self.open_bodies = 0
        self.closes_slowly = True
        self.close_seconds = 0
        self.read_timeouts = set()

    async def handle_async_request(self, request):
        self.requests.append(request)
        self.times.append(anyio.current_time())
        self.read_timeouts.add(request.extensions["timeout"]["read"])
        await request.aread()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(request)
        await anyio.sleep(answer.after)
        if answer.error is not None:
            raise answer.error
        return httpx.Response(answer.status, headers=answer.headers, stream=Body(self, answer.pieces))

    @property
    def waits(self):
        """The seconds between one request and the next."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]

    @property
    def ids(self):
        """The Last-Event-ID of each request, as bytes; None where there was none."""
        return [dict(request.headers.raw).get(b"last-event-id") for request in self.requests]

    def client(self, **options):
        return httpx.AsyncClient(transport=self, base_url="http://test", **options)


class Body(httpx.AsyncByteStream):
    """The pieces, one by one; nested like httpcore's, which close no generator but the outermost."""

    def __init__(self, server, pieces):
        self.server = server
        self.pieces = pieces
        self.is_closed = False
        server.open_bodies += 1

    async def __aiter__(self):
        async for chunk in self.inner():
            yield chunk

    async def inner(self):
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                await anyio.lowlevel.checkpoint()
                yield piece
            elif callable(piece):
                yield piece()
            else:
                await anyio.sleep(piece)

    async def aclose(self):
        if not self.is_closed:
            self.is_closed = True
            if self.server.closes_slowly:
                await anyio.sleep(self.server.close_seconds)
            self.server.open_bodies -= 1


@pytest.fixture
def answer():
    """The class of a server's answer."""
    return Answer


@pytest.fixture(name="stream")
def stream_fixture():
    """Makes an answer that is an event stream, unless told otherwise."""
    return stream


@pytest.fixture
def serve():
    """Makes a server in memory from its answers. At the end, it has no body open."""
    servers = []

    def make(*answers):
        servers.append(FakeServer(*answers))
        return servers[-1]

    yield make
    assert [server.open_bodies for server in servers] == [0] * len(servers)
    assert {timeout for server in servers for timeout in server.read_timeouts} <= {None}
