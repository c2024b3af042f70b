# How a stream learns that its uvicorn is shutting down. The rules are in _servers/discovery.py.
#
# uvicorn has no event for it. Its `Server` has a flag, `should_exit`, which a signal handler or a program sets, and
# which the server checks ten times a second. At `--limit-max-requests` not even the flag is set; but in either case the
# server then closes its listening sockets.
#
# Rule 1: this is the one notice that has to be polled (_groups/shutdown_watch.py), because no event exists. Each server
#         with open streams is polled once for all of them.
# Rule 2: the `Server` is found by the `ServerState` that it shares with the request's protocol. The protocol doesn't
#         lead to the server, but a task of this loop is inside of `Server.serve()`, and Python shows what a coroutine
#         awaits. Each server is searched for once.
# Rule 3: only the frames of uvicorn's own functions are opened. In Python 3.12 and earlier `f_locals` keeps alive what
#         it shows, and the user's objects must not live longer because we looked at them.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary, ref

from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("UvicornExit", "exit_of")

_METHODS = frozenset(("serve", "_serve", "main_loop", "shutdown"))


class UvicornExit:
    """Whether one uvicorn server has begun to shut down, for any reason. One object for all its connections."""

    __slots__ = ("_server",)

    def __init__(self, server: Any) -> None:
        self._server = ref(server)

    def is_set(self) -> bool:
        """Look at the server."""
        server = self._server()
        if server is None or server.should_exit:
            return True
        for listener in getattr(server, "servers", ()):  # noqa: SIM110 -- a generator costs every stream 1 us
            if not listener.is_serving():
                return True
        return False


_Exits: TypeAlias = "WeakKeyDictionary[object, UvicornExit | None]"

_exits: RunVar[_Exits] = RunVar("sse_trio._uvicorn_exits")


def exit_of(state: object) -> UvicornExit | None:
    """Return the exit of the server with this ``ServerState``, or ``None`` if it isn't found."""
    try:
        exits = _exits.get()
    except LookupError:
        new: _Exits = WeakKeyDictionary()
        _exits.set(new)
        exits = new
    if state not in exits:
        server = _find_server(state)
        exits[state] = None if server is None else UvicornExit(server)
    return exits[state]


def _find_server(state: object) -> Any:
    from asyncio import all_tasks  # noqa: PLC0415 -- uvicorn runs on nothing else

    for task in all_tasks():
        for owner in _uvicorns_in(task.get_coro()):
            if getattr(owner, "server_state", None) is state and hasattr(owner, "should_exit"):
                return owner
    return None


def _uvicorns_in(coroutine: Any) -> Iterator[object]:
    # The `self` of each method of uvicorn.server that this coroutine is in, or one that it awaits.
    while coroutine is not None:
        code = getattr(coroutine, "cr_code", None)
        frame = None if code is None or code.co_name not in _METHODS else coroutine.cr_frame
        if frame is not None and frame.f_globals.get("__name__") == "uvicorn.server":
            yield frame.f_locals.get("self")
        coroutine = _awaited_by(coroutine)


def _awaited_by(coroutine: Any) -> Any:
    # A coroutine, or a generator that acts as one (types.coroutine).
    return getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
