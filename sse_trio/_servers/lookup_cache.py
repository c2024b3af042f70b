# What the streams of one event loop have found out about their servers, so that the next one needs only a look.
#
# A stream asks three times: what its connection can do, how it will learn of its server's shutdown, and what lies
# between it and its server. The answers are found by looking into objects that most streams share, and would be a tenth
# of the cost of a short one.
#
# Rule: an answer is for exactly the object that was looked at: the class of what answers for this request, this server,
# the code and the module of this wrapper.

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import ref

from .closures import MOST_WRAPPERS
from .discovery import find_connection
from .nobody_between import sees_only_the_head
from .uvicorn import Uvicorn

if TYPE_CHECKING:
    from types import CodeType

    from starlette.types import Receive, Scope, Send

    from .connection import Connection, ServerShutdown

__all__ = ("KnownServers",)


class KnownServers:
    """The answers."""

    __slots__ = ("_kinds", "_server", "_shutdown", "_wrappers")

    def __init__(self) -> None:
        self._kinds: dict[type, type[Uvicorn]] = {}
        self._server: ref[Any] | None = None
        self._shutdown: ServerShutdown | None = None
        self._wrappers: dict[CodeType, tuple[dict[str, Any], int]] = {}

    def connection_of(self, scope: Scope, receive: Receive, send: Send) -> Connection:
        """Return the connection behind these callables, as find_connection() does."""
        if scope.get("extensions"):  # ServerBridge may have placed it there
            return find_connection(scope, receive, send)
        cycle: object = getattr(receive, "__self__", None)
        kind = self._kinds.get(type(cycle))
        if kind is not None:
            return kind(cycle)
        connection = find_connection(scope, receive, send)
        if isinstance(connection, Uvicorn) and connection.is_of(cycle):
            self._kinds[type(cycle)] = type(connection)
        return connection

    def shutdown_of(self, connection: Connection) -> ServerShutdown | None:
        """Return the server's own notice of its shutdown (``Connection.shutdown_event``)."""
        server = connection.server
        if server is None:
            return connection.shutdown_event()
        if self._server is None or self._server() is not server:
            self._server, self._shutdown = ref(server), connection.shutdown_event()
        return self._shutdown

    def past_starlette(self, send: Send) -> Send:
        """Return the `send` for messages after the head, as nobody_between.past_starlette() does."""
        for _ in range(MOST_WRAPPERS):
            if type(send) is not FunctionType:
                break
            known = self._wrappers.get(send.__code__)
            if known is None or known[0] is not send.__globals__:
                if not sees_only_the_head(send):
                    break
                known = self._wrappers[send.__code__] = send.__globals__, send.__code__.co_freevars.index("send")
            assert send.__closure__ is not None  # it holds the inner `send`
            send = send.__closure__[known[1]].cell_contents
        return send
