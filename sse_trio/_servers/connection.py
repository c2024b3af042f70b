# What a stream may ask of the server that carries it, beyond ASGI, and the answers of a server that is not known.
#
# Rule 1: every method may be called at any time: before the head, after the end, twice, with the client gone.
# Rule 2: a server that cannot do a thing says so by its answer, never by an error.
# Rule 3: a connection is only dropped, or written to, while it is this stream's: the next request on it is somebody
#         else's.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .._reasons import CloseReason
    from .._wire.batch import Batch

__all__ = ("HeadKeeper", "ServerConnection", "ServerShutdown", "UnknownServer")


class ServerShutdown(Protocol):
    """The server's own notice that it is ending; the same object for every connection of one server.

    Where the server has an event, this also has its ``async def wait()``, which returns once the server has begun to
    shut down, and is cancellable without effect.
    """

    def is_set(self) -> bool:
        """Whether the server has begun to shut down."""
        ...


class ServerConnection(Protocol):
    """The client's connection as the server sees it. Each method is safe to call at any time."""

    wait_disconnect: Callable[[], Coroutine[Any, Any, None]] | None
    """Returns when the client is gone, without taking body messages from whoever reads them.

    Set by ``ServerBridge``; ``None`` means that the only way to wait for the disconnect is to call ``receive``.
    """

    try_write: Callable[[Batch], bool] | None
    """Writes the body of one message now, past the server's ``send``, or answers ``False``: then nobody has written
    it, and it has to be sent. Never waits, never raises; see ``_servers/express.py``.

    Set by ``ServerBridge(express=True)``; ``None`` means that everything has to be sent.
    """

    send_is_unbounded: bool
    """Whether the server's ``send`` returns however little the client takes, so that the one who sends has to
    await :meth:`wait_flushed` after each. It never changes."""

    tells_failure: bool
    """Whether the server ends a response whose application raised after the head, so that the client can tell. It
    never changes."""

    head_needs_body: bool
    """Whether the server keeps the head back until it is given a body message, if an empty one. It never changes."""

    @property
    def is_lost(self) -> bool | None:
        """Whether the server has noticed that the client is gone, or ``None`` where it cannot be asked."""
        ...

    @property
    def in_worker(self) -> bool:
        """Whether this is a worker process that its server's parent ends with SIGTERM, which it doesn't handle."""
        ...

    def abort(self) -> bool:
        """Drop the client's connection now, unsent bytes included; over HTTP/2 only this stream of it.

        Returns:
            ``False`` where that cannot be done, and then nothing has been done.
        """
        ...

    def cut_off(self) -> None:
        """End the connection after what was written to it, in the middle of the body; over HTTP/2 only this stream.

        Nothing where that cannot be done.
        """
        ...

    async def wait_flushed(self) -> None:
        """Return once this process holds no more bytes for the client, or the client is gone.

        An asyncio server's ``send`` returns while up to 64 KiB of a stalled client's are still in the transport;
        closing it would wait for those for ever. Returns at once where the server has no such buffer.
        A checkpoint only if it has to wait; cancelling leaves nothing behind.
        """
        ...

    async def before_final(self) -> None:
        """Do what has to be done before the final message is given to ``send``. Called once, by the writer.

        hypercorn closes an HTTP/2 connection as soon as its last stream has ended, without the frames that say so.
        """
        ...

    def shutdown_event(self) -> ServerShutdown | None:
        """The server's own notice of its shutdown, or ``None`` where there is none within reach."""
        ...

    def watch_hangup(self) -> None:
        """Have the server told of a client that leaves while it reads nothing from it, until stream_closed()."""
        ...

    def says_gone(self, error: Exception, /) -> bool:
        """Whether an error of the server's ``send`` means that the client is gone, beside those that ASGI names."""
        ...

    def stream_closed(self, reason: CloseReason, /) -> None:
        """Be told why the stream ended, once, when its producers are gone."""
        ...


class UnknownServer:
    """A server that cannot be asked anything, and the answers that a known one starts from."""

    __slots__ = ("try_write", "wait_disconnect")

    send_is_unbounded = False
    tells_failure = True
    head_needs_body = False

    def __init__(self) -> None:
        self.wait_disconnect: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.try_write: Callable[[Batch], bool] | None = None

    @property
    def is_lost(self) -> bool | None:
        """Nobody knows."""
        return None

    @property
    def in_worker(self) -> bool:
        """Not that anybody knows."""
        return False

    def abort(self) -> bool:
        """No way to do that."""
        return False

    def cut_off(self) -> None:
        """No way to do that."""

    async def wait_flushed(self) -> None:
        """No buffer within reach."""

    async def before_final(self) -> None:
        """Nothing: its ``send`` writes the end of the body."""

    def shutdown_event(self) -> ServerShutdown | None:
        """None within reach."""
        return None

    def watch_hangup(self) -> None:
        """No connection within reach."""

    def says_gone(self, error: Exception, /) -> bool:
        """It says no more than ASGI does."""
        del error
        return False

    def stream_closed(self, reason: CloseReason, /) -> None:
        """No server wants to know."""

    @property
    def has_lane(self) -> bool:
        """Whether bytes can be written to it at all without waiting."""
        return False

    @property
    def is_in_chunks(self) -> bool:
        """Nobody knows."""
        return False

    def write_nowait(self, chunk: bytes, /) -> int:
        """Nothing can be written past it."""
        del chunk
        return 0

    async def write_rest(self, rest: bytes, /) -> None:
        """For those whose `write_nowait` writes a part of a chunk."""
        raise NotImplementedError


class HeadKeeper(UnknownServer):
    """A server that keeps the head back until there is a body, and beyond that is not known."""

    __slots__ = ()

    head_needs_body = True
