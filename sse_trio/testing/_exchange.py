# Exchange: one request to an ASGI application and its response, from the server's side. No sockets, no threads.
#
# Rule 1: the application runs in a task of the caller, and its exception is kept until the caller asks for it.
# Rule 2: `messages` is what the client got: a message is added when its `send` returns, and only then.
# Rule 3: this server is strict. Whatever a real server would garble or ignore (two sends at once, a second head, a send
#         after the application returned) is noted as a fault of the application and raised at the end.
# Rule 4: a disconnect is not a cancellation. The application gets `http.disconnect`, and later sends go nowhere.
#
# Over 250 lines, because the two sides of an exchange, the test's and the application's, share its state.

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping
    from typing import Protocol

    from starlette.types import ASGIApp, Message, Scope

    class RequestBody(Protocol):
        """The chunks of a request's body."""

        def __aiter__(self) -> AsyncIterator[bytes]: ...


__all__ = ("Exchange",)


class Exchange:
    """Run an application for one request, take what it sends, and fail on demand."""

    def __init__(self, app: ASGIApp, scope: Scope, body: RequestBody, *, max_unread_bytes: float = inf) -> None:
        self.scope = scope
        self.messages: list[Message] = []
        self.exception: Exception | None = None
        self.is_reported = False  # whether the caller has received the exception
        self.faults: list[str] = []
        self._app = app
        self._body = body.__aiter__()
        self._body_ended = False
        self._max_unread_bytes = max_unread_bytes
        self._unread: list[bytes] = []
        self._cancel_scope = anyio.CancelScope()
        self._sending = False
        self._stalled = False
        self._stall_is_shielded = False
        self._send_exception: Exception | None = None
        self._disconnected = False
        self._aborted = False
        self._cut_off = False
        self._finished = False
        self._changed = anyio.Event()

    # What the caller does

    async def run(self) -> None:
        """Run the application until it returns. Raises nothing of its own: see `exception`."""
        try:
            with self._cancel_scope:
                await self._app(self.scope, self.receive, self.send)
        except Exception as exc:  # noqa: BLE001 -- the reader of the response gets it
            self.exception = exc
        finally:
            self._finished = True
            self._notify()

    def disconnect(self) -> None:
        self._disconnected = True
        self._notify()

    def abort(self) -> None:
        """Drop the connection, as a server does."""
        self._aborted = self._aborted or not self._disconnected
        self.disconnect()

    def cut_off(self) -> None:
        """End the connection in the middle of the body, as a server does."""
        self._cut_off = True
        self.disconnect()

    def fail(self, exc: Exception) -> None:
        """End the exchange because the application has failed elsewhere, in its lifespan."""
        self.exception = self.exception or exc
        self.cut_off()
        self.cancel()

    def cancel(self) -> None:
        self._cancel_scope.cancel()

    def stall(self, *, shield: bool = False) -> None:
        self._stalled = True
        self._stall_is_shielded = shield

    def resume(self) -> None:
        self._stalled = False
        self._notify()

    def fail_send(self, exc: Exception) -> None:
        self._send_exception = exc
        self._notify()

    @property
    def head(self) -> Message | None:
        return self.messages[0] if self.messages else None

    @property
    def is_complete(self) -> bool:
        """Whether the client got the whole response."""
        return bool(self.messages) and _is_final(self.messages[-1])

    @property
    def unreported(self) -> Exception | None:
        """The exception, if the caller has not received it."""
        return None if self.is_reported else self.exception

    @property
    def is_disconnected(self) -> bool:
        return self._disconnected

    @property
    def is_aborted(self) -> bool:
        """Whether the server dropped the connection."""
        return self._aborted

    @property
    def is_left(self) -> bool:
        """Whether the client ended the connection."""
        return self._disconnected and not self._aborted and not self._cut_off

    @property
    def is_finished(self) -> bool:
        """Whether the application has returned or raised."""
        return self._finished

    @property
    def is_sending(self) -> bool:
        """Whether a `send` of the application is under way."""
        return self._sending

    async def wait_head(self) -> Message | None:
        """Block until the status and the headers arrive; None if the exchange ended without them."""
        while self.head is None and not self._is_over():
            await self._changed.wait()
        return self.head

    async def next_chunk(self) -> bytes:
        """Block until bytes of the body arrive.

        Raises:
            EndOfStream: the body is complete.
            BrokenResourceError: the body was cut off, by the application's exception if that is its cause.
        """
        while not self._unread and not self._is_over():
            await self._changed.wait()
        if self._unread:
            self._notify()
            return self._unread.pop(0)
        if self.is_complete:
            raise anyio.EndOfStream
        raise anyio.BrokenResourceError("the body ended before its last message") from self.exception

    async def wait_disconnect(self) -> None:
        while not self._disconnected:
            await self._changed.wait()

    async def wait_finished(self) -> None:
        while not self._finished:
            await self._changed.wait()

    async def close(self, within: float) -> None:
        """Disconnect and wait for the application to return; cancel it after ``within`` seconds, or if cancelled."""
        self.disconnect()
        try:
            with anyio.move_on_after(within):
                await self.wait_finished()
        finally:
            in_time = self._finished
            await self.cancel_and_wait()
        if not in_time:
            self.faults.append(f"the application still ran {within:g} s after http.disconnect, and was cancelled")

    async def cancel_and_wait(self) -> None:
        """Cancel, and wait for the clean-up however long it takes, like the end of a nursery."""
        self.cancel()
        with anyio.CancelScope(shield=True):
            await self.wait_finished()

    # What the application calls

    async def receive(self) -> Message:
        """ASGI's receive: the request's body, then http.disconnect once the client has left or has everything.

        Not a checkpoint if a message is ready, as on real servers: ``Request.is_disconnected()`` relies on that.
        """
        if not self._body_ended and not self._disconnected:
            return await self._next_request_message()
        while not (self._disconnected or self.is_complete):
            await self._changed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's send. A checkpoint, as on servers that have to wait; it takes a message whole or not at all."""
        self._check(message)
        self._sending = True
        try:
            await self._wait_writable()
            if not self._disconnected:
                self._take(dict(message))
        finally:
            self._sending = False

    def _check(self, message: MutableMapping[str, Any]) -> None:
        """Refuse a message that breaks the ASGI specification (HTTP: "Response Start", "Response Body")."""
        expected = "http.response.body" if self.messages else "http.response.start"
        if self._sending:
            self._fault(f"{message['type']} was sent while another send was under way")
        if self._finished:
            self._fault(f"{message['type']} was sent after the application had returned")
        if self.is_complete:
            self._fault(f"{message['type']} was sent after the last message of the body")
        if message["type"] != expected and not self._disconnected:
            self._fault(f"{message['type']} was sent where {expected} was expected")

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        raise AssertionError(text)

    async def _wait_writable(self) -> None:
        # Two checkpoints, so that a send takes a whole pass of the loop, whatever the order of its tasks. A second task
        # that sends at the same time is then noticed.
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        while self._is_blocked():
            with anyio.CancelScope(shield=self._stalled and self._stall_is_shielded):
                await self._changed.wait()
        if self._send_exception is not None:
            raise self._send_exception
        if self._finished:
            raise anyio.BrokenResourceError("the server closed the connection when the application returned")

    def _is_blocked(self) -> bool:
        if self._disconnected or self._finished or self._send_exception is not None:
            return False
        return self._stalled or sum(map(len, self._unread)) >= self._max_unread_bytes

    def _take(self, message: Message) -> None:
        self.messages.append(message)
        if message.get("body") and self.scope["method"] != "HEAD":
            self._unread.append(message["body"])
        self._notify()

    async def _next_request_message(self) -> Message:
        try:
            return {"type": "http.request", "body": await self._body.__anext__(), "more_body": True}
        except StopAsyncIteration:
            self._body_ended = True
            return {"type": "http.request", "body": b"", "more_body": False}

    def _is_over(self) -> bool:
        return self.is_complete or self._disconnected or self._finished

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _is_final(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)
