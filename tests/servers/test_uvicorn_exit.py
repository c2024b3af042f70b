"""How the `Server` of uvicorn is found from a request, and what counts as its shutdown."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace, coroutine
from typing import Any

import pytest

from sse_trio._servers.discovery import connection_of
from sse_trio._servers.uvicorn_exit import exit_of
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

# A function knows the module that it was made in, so the tests make their servers in a module with uvicorn's name.
SOURCE = """
class Server:
    def __init__(self, state):
        self.server_state = state
        self.should_exit = False
        self.servers = []

    async def serve(self, until):
        await self.main_loop(until)

    async def main_loop(self, until):
        await until.wait()
"""


@pytest.fixture(params=[{}, {"use_uvloop": True}], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The loops that uvicorn runs on."""
    return "asyncio", request.param


class State:
    """uvicorn's ServerState, of which only the identity counts."""


def make_server(state: object) -> Any:
    """Make a server as uvicorn's module does."""
    module: dict[str, Any] = {"__name__": "uvicorn.server"}
    exec(SOURCE, module)
    return module["Server"](state)


class Protocol:
    """uvicorn's protocol, and the request that it is at."""

    __module__ = "uvicorn.protocols.http.fake_impl"

    def __init__(self, state: object) -> None:
        self.server_state = state
        self.on_response = self.on_response_complete

    async def receive(self) -> Any:
        raise NotImplementedError

    def on_response_complete(self) -> None:
        raise NotImplementedError


async def nowhere(*_: object) -> None:
    raise NotImplementedError


def shutdown_of(state: object) -> Any:
    """Return what a stream on a connection with this state gets."""
    return connection_of(Protocol(state).receive, nowhere).shutdown_event()


@pytest.fixture
def until() -> asyncio.Event:
    """What the servers of a test wait for."""
    return asyncio.Event()


async def test_flag_and_listeners(until: asyncio.Event) -> None:
    """A server shuts down when its flag is set or one of its sockets is closed; all connections share one answer."""
    for begin in (
        lambda server: setattr(server, "should_exit", True),
        lambda server: server.servers[1].close(),
    ):
        state = State()
        server = make_server(state)
        for _ in range(2):
            server.servers.append(await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0))
        task = asyncio.create_task(server.serve(until))
        await wait_all_tasks_blocked()
        shutdown = shutdown_of(state)
        assert shutdown is shutdown_of(state)
        assert not shutdown.is_set()
        begin(server)
        assert shutdown.is_set()
        for listener in server.servers:
            listener.close()
        task.cancel()


async def test_servers_are_told_apart(until: asyncio.Event) -> None:
    """Of several servers in one loop, each connection finds its own."""
    states = [State() for _ in range(3)]
    servers = [make_server(state) for state in states]
    tasks = [asyncio.create_task(server.serve(until)) for server in servers]
    await wait_all_tasks_blocked()
    shutdowns = [shutdown_of(state) for state in states]
    servers[1].should_exit = True
    assert [shutdown.is_set() for shutdown in shutdowns] == [False, True, False]
    assert len(tasks) == 3


@coroutine
def awaited_by_generator(awaitable: Any) -> Any:
    """Be the kind of awaitable that there was before `async def`."""
    return (yield from awaitable)


@pytest.mark.parametrize("wrap", [awaited_by_generator, lambda awaitable: asyncio.wait_for(awaitable, None)])
async def test_awaited_from_afar(until: asyncio.Event, wrap: Any) -> None:
    """The server is found in whichever coroutine awaits it."""

    async def program() -> None:
        await wrap(server.serve(until))

    state = State()
    server = make_server(state)
    task = asyncio.create_task(program())
    await wait_all_tasks_blocked()
    assert not shutdown_of(state).is_set()
    assert not task.done()


async def test_server_that_is_gone(until: asyncio.Event) -> None:
    """A server that is gone counts as shut down."""
    state = State()
    server = make_server(state)
    task = asyncio.create_task(server.serve(until))
    await wait_all_tasks_blocked()
    shutdown = shutdown_of(state)
    task.cancel()
    await asyncio.wait([task])
    del server, task
    gc.collect()
    assert shutdown.is_set()


async def test_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol without a server, or one that is built differently, has no notice and is searched once."""
    state = State()
    assert shutdown_of(state) is None
    monkeypatch.setattr(asyncio, "all_tasks", None)
    assert exit_of(state) is None
    assert connection_of(Protocol(None).receive, nowhere).shutdown_event() is None
    assert connection_of(SimpleNamespace(receive=nowhere).receive, nowhere).shutdown_event() is None


async def test_nothing_of_others_is_held(until: asyncio.Event) -> None:
    """The search keeps alive nothing that other coroutines have released."""

    class Kept:
        pass

    async def serve(wait: Any) -> None:
        kept = Kept()
        seen.append(weakref.ref(kept))
        await wait
        del kept
        await until.wait()

    seen: list[Any] = []
    first = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(first))
    await wait_all_tasks_blocked()
    assert shutdown_of(State()) is None
    first.set_result(None)
    await wait_all_tasks_blocked()
    assert seen[0]() is None
    assert not task.done()
