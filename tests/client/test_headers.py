"""headers= as a function: asked at each attempt, and again after a 401."""

from __future__ import annotations

import anyio
import httpx
import pytest

from sse_trio.client import ConnectionState, EventSourceError, open_event_source

pytestmark = pytest.mark.anyio


class Tokens:
    """A function that returns a new token each time."""

    def __init__(self):
        self.given = 0

    def __call__(self):
        self.given += 1
        return {"authorization": f"Bearer {self.given}"}


def as_async(function):
    async def ask():
        await anyio.sleep(1)
        return function()

    return ask


def as_lambda(function):
    ask = as_async(function)
    return lambda: [ask()][0]


TOKENS = httpx.Request("GET", "http://tokens/")
KINDS = pytest.mark.parametrize("kind", [lambda function: function, as_async, as_lambda])


def tokens_of(server):
    return [request.headers.get("authorization") for request in server.requests]


@KINDS
async def test_headers_are_asked_for_at_each_attempt(serve, stream, answer, kind):
    """The headers function is called for each attempt, however the one before ended."""
    server = serve(
        answer(error=httpx.ConnectError("refused")), stream("data: x\n\n"), stream(status=503), stream(status=204)
    )
    async with server.client() as client, open_event_source("/", client=client, headers=kind(Tokens())) as source:
        assert [event.data async for event in source] == ["x"]
    assert tokens_of(server) == ["Bearer 1", "Bearer 2", "Bearer 3", "Bearer 4"]


@KINDS
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_401_refreshes(serve, stream, kind, method):
    """After a 401 the headers function is called once more, and the request, even a POST, is made again at once."""
    server = serve(stream(status=401, retry_after="100"), stream("data: x\n\n"), stream(status=401), stream(status=204))
    waits = []

    def note(source):
        if source.state is ConnectionState.CONNECTING:
            waits.append(max(0.0, source.connect_at - anyio.current_time()))

    async with (
        server.client() as client,
        open_event_source(
            "/", client=client, method=method, reconnect=True, headers=kind(Tokens()), on_state_change=note
        ) as source,
    ):
        assert [event.data async for event in source] == ["x"]
    assert tokens_of(server) == ["Bearer 1", "Bearer 2", "Bearer 3", "Bearer 4"]
    assert waits[:2] == [0, 0]
    assert 3 <= waits[2] <= 3.6
    assert waits[3] == 0


@pytest.mark.parametrize("reconnect", [True, False])
async def test_a_second_401_is_final(serve, stream, reconnect):
    """A second 401 with new headers is final."""
    server = serve(stream(status=401))
    with pytest.raises(EventSourceError) as info:
        async with (
            server.client() as client,
            open_event_source("/", client=client, reconnect=reconnect, headers=Tokens()),
        ):
            pytest.fail("opened")
    assert info.value.is_unauthorized
    assert tokens_of(server) == ["Bearer 1", "Bearer 2"]


async def test_a_401_without_a_function_is_final(serve, stream):
    """Fixed headers are not sent twice after a 401."""
    server = serve(stream(status=401))
    with pytest.raises(EventSourceError):
        async with server.client() as client, open_event_source("/", client=client, headers={"authorization": "x"}):
            pytest.fail("opened")
    assert len(server.requests) == 1


async def test_the_clients_auth_refreshes(serve, stream):
    """An httpx.Auth that answers a 401 with another token works as everywhere else."""

    class Refreshing(httpx.Auth):
        async def async_auth_flow(self, request):
            response = yield request
            if response.status_code == 401:
                request.headers["authorization"] = "Bearer new"
                yield request

    tokens = []

    def answer(request):
        tokens.append(request.headers.get("authorization"))
        return stream(status=401) if len(tokens) == 1 else stream(status=204)

    server = serve(answer)
    async with server.client(auth=Refreshing()) as client, open_event_source("/", client=client) as source:
        assert [event async for event in source] == []
    assert tokens == [None, "Bearer new"]


@KINDS
@pytest.mark.parametrize(
    "error",
    [
        LookupError("no such user"),
        KeyboardInterrupt(),
        httpx.HTTPStatusError("503", request=TOKENS, response=httpx.Response(503, request=TOKENS)),
    ],
    ids=repr,
)
async def test_what_the_function_raises_comes_out(serve, stream, kind, error):
    """An exception of the headers function is raised, and nothing is sent."""

    def fail():
        raise error

    server = serve(stream())
    with pytest.raises(type(error)):
        async with server.client() as client, open_event_source("/", client=client, headers=kind(fail)):
            pytest.fail("opened")
    assert server.requests == []


async def test_a_token_server_that_cannot_be_reached_is_a_failed_attempt(serve, stream):
    """A network error in the headers function is retried after the usual wait."""
    errors = [httpx.ConnectError("no token server")]

    def ask():
        if errors:
            raise errors.pop()
        return {"authorization": "Bearer 1"}

    server = serve(stream("data: x\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, headers=ask) as source:
        assert (await anext(source)).data == "x"
    assert server.times[0] >= 3


async def test_idle_timeout_is_not_for_the_function(serve, stream):
    """Fetching a token may take longer than a connection may be silent."""

    async def ask():
        await anyio.sleep(60)
        return {"authorization": "Bearer 1"}

    server = serve(stream("data: x\n\n", 100))
    async with (
        server.client() as client,
        open_event_source("/", client=client, headers=ask, idle_timeout=5) as source,
    ):
        assert (await anext(source)).data == "x"
    assert server.times == [60]


@pytest.mark.parametrize("act", ["close", "restart"])
async def test_close_and_restart_interrupt_the_function(serve, stream, act):
    """close() and restart() interrupt a headers function that hangs."""
    asked = []

    async def ask():
        asked.append(anyio.current_time())
        await anyio.sleep(1000 if len(asked) == 2 else 0)
        return {}

    server = serve(stream("data: x\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, headers=ask) as source:
        assert (await anext(source)).data == "x"
        async with anyio.create_task_group() as tasks:

            async def iterate():
                assert [event async for event in source] == []

            tasks.start_soon(iterate)
            await anyio.sleep(10)
            getattr(source, act)()
    assert anyio.current_time() == 10
    assert len(asked) == (2 if act == "close" else 3)


@KINDS
@pytest.mark.parametrize(
    ("returned", "error"),
    [
        (None, TypeError),
        ("authorization: x", TypeError),
        ({"authorization": None}, TypeError),
        ({"authorization": "Bearer SECRET\n"}, ValueError),
    ],
)
async def test_what_the_function_returns_is_checked(serve, stream, kind, returned, error):
    """A headers function that returns no valid headers raises an error that names the header, not its value."""
    server = serve(stream())
    with pytest.raises(error, match=r"^the return value of headers must ") as info:
        async with server.client() as client, open_event_source("/", client=client, headers=kind(lambda: returned)):
            pytest.fail("opened")
    assert "SECRET" not in str(info.value)
    assert server.requests == []
