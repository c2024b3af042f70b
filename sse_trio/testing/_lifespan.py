# The lifespan of an application under test, as a server runs it (ASGI specification, "Lifespan Protocol").
#
# Rule 1: it runs in a task of the caller. It has started when the block begins, and has shut down when it is left.
# Rule 2: an exception of the lifespan is raised by open_lifespan(): at the start, or at the end. One in between, as
#         of a background task, also goes to `on_failure`, because the test may be waiting for what that task does.

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from ._task_group import open_task_group

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, MutableMapping

    from starlette.types import ASGIApp, Message

__all__ = ("Lifespan", "open_lifespan")


class Lifespan:
    """The server's side of a lifespan."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self.exception: Exception | None = None
        self.on_failure: Callable[[Exception], object] | None = None
        self._app = app
        self._is_told = False
        self._started, self._stopping, self._finished = anyio.Event(), anyio.Event(), anyio.Event()

    async def run(self) -> None:
        """Run the application's lifespan. Raises nothing: see `exception`."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
            self._check_started()
        except Exception as exc:  # noqa: BLE001 -- open_lifespan() raises it
            self.exception = exc
            if self.on_failure is not None:
                self.on_failure(exc)
        finally:
            self._started.set()
            self._finished.set()

    async def start(self) -> None:
        """Return when the application has started; raise its exception if it has not."""
        await self._started.wait()
        if self._finished.is_set() and self.exception is not None:
            raise self.exception

    async def stop(self, within: float) -> None:
        """Have the application shut down, and raise its exception."""
        self._stopping.set()
        with anyio.move_on_after(within, shield=True):
            await self._finished.wait()
        if not self._finished.is_set():
            raise AssertionError(f"the application's lifespan did not shut down within {within:g} s")
        if self.exception is not None:
            raise self.exception

    def _check_started(self) -> None:
        if not self._started.is_set() and self.exception is None:
            raise RuntimeError("the application returned from its lifespan without lifespan.startup.complete")

    async def _receive(self) -> Message:
        if not self._is_told:
            self._is_told = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"].endswith(".failed"):
            self.exception = RuntimeError(f"{message['type']}: {message.get('message', '')}".rstrip(": "))
        elif message["type"] == "lifespan.startup.complete":
            self._started.set()


@asynccontextmanager
async def open_lifespan(app: ASGIApp, within: float) -> AsyncGenerator[Lifespan, None]:
    """Start the application, and shut it down when the block is left, in at most ``within`` seconds."""
    lifespan = Lifespan(app)
    async with open_task_group() as task_group:
        task_group.start_soon(lifespan.run)
        await lifespan.start()
        try:
            yield lifespan
        finally:
            await lifespan.stop(within)
