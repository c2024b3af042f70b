# The lifetime of every store: opened once, closed once.
#
# Rule 1: `_open` of a store is one async context manager, so that leaving it releases everything in order.
# Rule 2: an exception from the body of `async with store` comes out unchanged, not wrapped by the store's task group.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from anyio import ClosedResourceError, create_task_group
from anyio.abc import TaskGroup

from .._failures import collapse

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ("OpenedOnce", "bare_errors", "open_service_group")


class OpenedOnce(ABC):
    """The base of the stores: enter with ``async with`` once, call ``_check_open`` in every method."""

    def __init__(self) -> None:
        self._context: AbstractAsyncContextManager[None] | None = None
        self._is_open = False

    @abstractmethod
    def _open(self) -> AbstractAsyncContextManager[None]:
        """Return the context manager that opens the store and closes it."""

    async def __aenter__(self) -> Self:
        if self._context is not None:
            raise RuntimeError(f"a {type(self).__name__} can be opened once only; make a new one to open it again")
        self._context = self._open()
        await self._context.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None:
        assert self._context is not None
        self._is_open = False
        return await self._context.__aexit__(exc_type, exc, traceback)

    def _lifetime(self) -> str:
        """Where the store is in its life, for its ``repr``."""
        if self._is_open:
            return "open"
        return "not open yet" if self._context is None else "closed"

    def _check_open(self) -> None:
        if not self._is_open:
            raise ClosedResourceError(f"this {type(self).__name__} is not open; use it inside `async with`")


@contextmanager
def bare_errors() -> Generator[None]:
    """Unwrap what the body raises from the exception groups that task groups put around it."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as exc:
        error = exc
        while (inner := collapse(error)) is not error:
            error = inner
        if error is exc:
            raise
    if error is not None:
        raise error  # not inside `except`, where it would be given its own group as its context


@asynccontextmanager
async def open_service_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group whose tasks serve the body and are cancelled when it ends.

    What the body raises comes out bare. So does what one task raises; it cancels the body, as always.
    """
    with bare_errors():
        async with create_task_group() as task_group:
            try:
                yield task_group
            finally:
                task_group.cancel_scope.cancel()
