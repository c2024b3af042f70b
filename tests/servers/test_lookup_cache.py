"""What streams have found out about their servers, and how long they believe it."""

from __future__ import annotations

from types import FunctionType

import pytest

from sse_trio._servers.connection import Connection
from sse_trio._servers.lookup_cache import KnownServers
from sse_trio._servers.nobody_between import past_starlette
from sse_trio._servers.uvicorn import Uvicorn, UvicornHttp

from ._packages import by_package


class Shared:
    """What the connections of one server share."""


class OfServer(Connection):
    """A connection whose server may be known."""

    def __init__(self, server=None):
        super().__init__()
        self._server = server
        self.asked = 0

    @property
    def server(self):
        return self._server

    def shutdown_event(self):
        self.asked += 1
        return object()


def test_a_server_is_asked_once():
    """All connections of one server have the same notice, and another server is asked anew."""
    known, server = KnownServers(), Shared()
    first, second, other = OfServer(server), OfServer(server), OfServer(Shared())
    notice = known.shutdown_of(first)
    assert known.shutdown_of(second) is notice
    assert (first.asked, second.asked) == (1, 0)
    assert known.shutdown_of(other) is not notice
    assert known.shutdown_of(second) is not notice


def test_a_server_that_is_not_known_is_asked_each_time():
    """Connections that share nothing are asked one by one."""
    known, connection = KnownServers(), OfServer()
    assert known.shutdown_of(connection) is not known.shutdown_of(connection)


def test_a_server_that_is_gone_is_not_kept():
    """A server's objects live no longer because its streams knew it."""
    known, kept = KnownServers(), OfServer(Shared())
    known.shutdown_of(OfServer(Shared()))
    known.shutdown_of(kept)
    assert kept.asked == 1


async def server_send(message):
    """The server's."""


def only_sees_the_head(send):
    response_started = False

    async def sender(message):
        nonlocal response_started

        if message["type"] == "http.response.start":
            response_started = True
        await send(message)

    return sender


def of(module, send):
    return by_package(module, only_sees_the_head(send))


@pytest.mark.parametrize("times", [1, 2])
def test_wrappers_are_proven_once(times):
    """A known wrapper leads to its own inner `send`, whichever stream it belongs to."""
    known = KnownServers()
    namespace = {"__name__": "starlette.of_tests"}
    for _ in range(times):
        wrapped = only_sees_the_head(server_send)
        wrapped = FunctionType(wrapped.__code__, namespace, closure=wrapped.__closure__)
        assert known.past_starlette(wrapped) is server_send is past_starlette(wrapped)


def test_the_same_code_in_another_module_is_not_known():
    """What was proven of a function is not believed of one with the same code and other names around it."""
    known = KnownServers()
    assert known.past_starlette(of("starlette.of_tests", server_send)) is server_send
    other = of("somebody.else", server_send)
    assert known.past_starlette(other) is other


def test_a_wrapper_that_holds_itself():
    """The search ends."""
    known, cell = KnownServers(), []
    wrapped = of("starlette.of_tests", server_send)
    wrapped.__closure__[wrapped.__code__.co_freevars.index("send")].cell_contents = wrapped
    cell.append(known.past_starlette(wrapped))
    assert cell == [wrapped]


class Cycle:
    """An object behind a request's `receive` that no server has made."""

    async def receive(self):
        """Receive nothing."""


UvicornCycle = type("RequestResponseCycle", (Cycle,), {"__module__": "uvicorn.protocols"})


@pytest.mark.parametrize("extensions", [{}, None, {"other": {}}], ids=["empty", "none", "others'"])
def test_a_class_is_looked_at_once(extensions):
    """What a connection can do is found out for the first request of a server, and is the same for the next."""
    known, scope = KnownServers(), {"type": "http", "extensions": extensions}
    first, second = UvicornCycle(), UvicornCycle()
    of_first = known.connection_of(scope, first.receive, server_send)
    assert type(of_first) is Uvicorn
    assert known.connection_of(scope, first.receive, server_send) is not of_first
    first.transport = first.response_complete = first.disconnected = first.chunked_encoding = None
    first.response_started = None
    assert type(known.connection_of(scope, first.receive, server_send)) is (UvicornHttp if extensions else Uvicorn)
    assert type(known.connection_of(scope, second.receive, server_send)) is Uvicorn
    assert type(known.connection_of(scope, Cycle().receive, server_send)) is Connection


def test_what_is_in_the_scope_comes_first():
    """The connection that ServerBridge has placed there is the one."""
    known, placed, cycle = KnownServers(), Connection(), UvicornCycle()
    known.connection_of({}, cycle.receive, server_send)
    scope = {"extensions": {"sse_trio": {"connection": placed}}}
    assert known.connection_of(scope, cycle.receive, server_send) is placed
