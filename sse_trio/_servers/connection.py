# What a stream may ask of its client's connection, beyond ASGI.
#
# `Connection` itself gives the answers for a server that isn't known: what ASGI alone can do, which is nothing of this.
# Each known server has a subclass (uvicorn.py, hypercorn.py, hypercorn_h2.py) that overrides what its server can do.
#
# Rule 1: every method may be called at any time: before the head, after the end, twice, with the client gone.
# Rule 2: a server that can't do a thing says so by its answer, never by an error.
# Rule 3: a connection is dropped, or written to, only while it is this stream's: the next request on it belongs to
#         another response.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .inbox import Inbox

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from .._reasons import CloseReason
    from .direct_write import DirectWriter

__all__ = ("Connection", "HeadKeeper", "ServerShutdown")


class ServerShutdown(Protocol):
    """The server's own notice that it is shutting down; the same object for every connection of one server.

    Where the server has an event, this also has its ``async def wait()``, which returns once the server has begun to
    shut down, and is cancellable without effect.
    """

    def is_set(self) -> bool:
        """Whether the server has begun to shut down."""
        ...


class Connection:
    """The client's connection as the server sees it. This class is for a server that isn't known."""

    __slots__ = ("_inbox", "direct_writer")

    send_is_unbounded = False
    """Whether the server's ``send`` returns however little the client takes, so that the writer has to await
    :meth:`wait_flushed` after each call."""

    send_yields = False
    """Whether each call of the server's ``send`` waits for a pass of the loop or more, so that a direct write pays even
    for a single event."""

    tells_failure = True
    """Whether the server ends a response whose application raised after the head, so that the client can tell."""

    joins_final = False
    """Whether the server's ``send`` writes the last body and the end of the response together if both come in one
    message."""

    can_hold_back = False
    """Whether :meth:`hold_back` does anything: whether each call of the server's ``send`` is a packet, or more."""

    head_needs_body = False
    """Whether the server keeps the head back until it gets a body message, even an empty one."""

    def __init__(self) -> None:
        self._inbox: Inbox | None = None
        self.direct_writer: DirectWriter | None = None
        """Writes past the server's ``send``: from the beginning behind ``ServerBridge(express=True)``, and else from
        the moment that nobody is known to be in between, if it is so."""

    # --- what ServerBridge asks

    def bridge(self, receive: Receive, send: Send, *, direct_writes: bool) -> tuple[Receive, Send]:
        """Go between the server and the application: return the ``receive`` and ``send`` to call that with.

        From here on the stream can wait for the disconnect beside the application, and, if they are enabled and
        possible, has direct writes. Returns the very same callables where the server doesn't know of lost clients.
        """
        if self.is_lost is None:
            return receive, send
        self._inbox = Inbox(receive)
        self.direct_writer = self.new_direct_writer(send) if direct_writes else None
        return self._inbox, send if self.direct_writer is None else self.direct_writer.send

    def new_direct_writer(self, send: Send, /) -> DirectWriter | None:
        """Make what writes past this ``send``, or return ``None`` where bytes can't be written without waiting."""
        del send
        return None

    def is_own_send(self, send: Send, /) -> bool:
        """Whether this is the server's own ``send`` for this connection, with nobody in between.

        Such a ``send`` doesn't depend on the task that calls it (``_loops/by_hand.py``).
        """
        del send
        return False

    # --- the client

    @property
    def is_lost(self) -> bool | None:
        """Whether the server has noticed that the client is gone, or ``None`` where it can't be asked."""
        return None

    @property
    def has_inbox(self) -> bool:
        """Whether there is a :meth:`wait_disconnect`. If not, the stream has to call ``receive`` for that."""
        return self._inbox is not None

    async def wait_disconnect(self) -> None:
        """Return when the client is gone, without taking body messages from the application."""
        assert self._inbox is not None
        await self._inbox.wait_disconnect(self)

    def watch_hangup(self) -> None:
        """Have the server notice a client that leaves while the server isn't reading, until stream_closed()."""

    def says_gone(self, error: Exception, /) -> bool:
        """Whether an error of the server's ``send`` means that the client is gone, besides those that ASGI names."""
        del error
        return False

    # --- the connection

    def abort(self) -> bool:
        """Drop the client's connection now, unsent bytes included; over HTTP/2 only this stream of it.

        Returns:
            ``False`` if that can't be done, and then nothing has been done.
        """
        return False

    def cut_off(self) -> None:
        """End the connection after what was written to it, in the middle of the body; over HTTP/2 only this stream.

        Does nothing where that can't be done.
        """

    @property
    def is_flushed(self) -> bool | None:
        """Whether :meth:`wait_flushed` would return at once, or ``None`` where it is not known without calling it."""
        return None

    async def wait_flushed(self) -> None:
        """Return once this process holds no more bytes for the client, or the client is gone.

        An asyncio server's ``send`` returns while the transport still holds up to 64 KiB for a stalled client; closing
        it would wait for those forever. Returns at once where the server has no such buffer.
        A checkpoint only if it has to wait; cancelling leaves nothing behind.
        """

    def hold_back(self) -> None:
        """Have the kernel keep what is written from now on, so that it leaves as one packet, until let_go().

        It keeps less than a packet, and for a fifth of a second at most.
        """

    def let_go(self) -> None:
        """Have the kernel send what it keeps, and keep nothing more."""

    async def before_final(self) -> None:
        """Do what has to be done before the final message is given to ``send``. The writer calls it once.

        hypercorn closes an HTTP/2 connection as soon as its last stream has ended, without the frames that say so.
        """

    # --- the server

    @property
    def in_worker(self) -> bool:
        """Whether this is a worker process that its server's parent ends with SIGTERM, which it doesn't handle."""
        return False

    @property
    def server(self) -> object | None:
        """What all connections of one server share, if they have one shutdown_event(); None where nothing is known."""
        return None

    def shutdown_event(self) -> ServerShutdown | None:
        """The server's own notice of its shutdown, or ``None`` where there is none within reach."""
        return None

    def stream_closed(self, reason: CloseReason, /) -> None:
        """Take note of why the stream ended. The stream calls it once, when its producers are gone."""


class HeadKeeper(Connection):
    """The connection of a server that keeps the head back until there is a body. Nothing more is known of it."""

    __slots__ = ()

    head_needs_body = True
