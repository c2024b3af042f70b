# The two readers of one request: the application, which reads the body, and the stream, which waits for the disconnect.
#
# Rule 1: at most one call of the server's `receive` is under way. The first reader that needs a message makes the call,
#         for both; if it is cancelled, the other one calls instead.
# Rule 2: a body message leaves the inbox only by being returned to the application. What is read ahead is bounded, so
#         the server slows down a client that keeps posting just as it would without an inbox.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from starlette.types import Message, Receive

__all__ = ("Inbox", "LostFlag")

_READ_AHEAD = 65_536  # bytes of a request's body; uvicorn and hypercorn read as much at a time
_MESSAGE_COST = 256  # bytes that a parked message counts besides its body, to bound a body that comes byte by byte
_LOOK_AGAIN = 1.0  # seconds; only while a full inbox hides the disconnect, for which no server has another event


class LostFlag(Protocol):
    """A server that can be asked whether the client is gone."""

    @property
    def is_lost(self) -> bool | None:
        """Whether the server has noticed that the client is gone."""
        ...


class Inbox:
    """The application's ``receive``, and a way to wait for the disconnect that takes no body message from it."""

    __slots__ = ("_changed", "_disconnected", "_parked", "_parked_bytes", "_pulling", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._parked: list[Message] = []  # rarely more than one; an empty deque takes ten times the memory
        self._parked_bytes = 0
        self._pulling = False  # invariant: a task is inside self._receive()
        self._disconnected = False  # invariant: the server has sent http.disconnect, its last message
        self._changed: anyio.Event | None = None  # there only while a task waits for it

    async def __call__(self) -> Message:
        """ASGI's ``receive``: the body's messages in order, then ``http.disconnect``, again and again.

        Not a checkpoint if a message is at hand, as with the servers' own ``receive``: ``Request.is_disconnected()``
        calls it in a cancelled scope. Cancelling a call loses no message.
        """
        while not self._parked:
            if self._disconnected:
                return {"type": "http.disconnect"}
            await self._pull()
        message = self._parked.pop(0)
        self._parked_bytes -= _cost(message)
        self._notify()
        return message

    async def wait_disconnect(self, server: LostFlag) -> None:
        """Return when the client is gone; body messages that come first are parked for ``__call__``, up to 64 KiB.

        If more of the body than that is unread, the disconnect behind it stays unread too; then the client counts as
        gone when the server has seen a write to it fail. Cancelling loses no message.
        """
        while not self._disconnected:
            if self._parked_bytes < _READ_AHEAD:
                await self._pull()
            elif server.is_lost:
                return
            else:
                with anyio.move_on_after(_LOOK_AGAIN):
                    await self._wait_changed()

    async def _pull(self) -> None:
        if self._pulling:
            await self._wait_changed()
            return
        self._pulling = True
        try:
            self._take(await self._receive())
        finally:
            self._pulling = False
            self._notify()

    def _take(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._disconnected = True
        else:
            self._parked.append(message)
            self._parked_bytes += _cost(message)

    async def _wait_changed(self) -> None:
        changed = self._changed = self._changed or anyio.Event()
        await changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _cost(message: Message) -> int:
    return len(message.get("body", b"")) + _MESSAGE_COST
