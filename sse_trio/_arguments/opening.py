# What open_hub() and open_runs() return: an async context manager that says that it has to be entered.
#
# contextlib's own has a private name, and its error ("'_AsyncGeneratorContextManager' object has no attribute
# 'publish'") doesn't say what to write, to somebody who has made a hub in a global variable.
#
# Rule: type checkers see contextlib's, so that `open_hub().publish` stays an error for them.

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("opening",)

_MakesManager = TypeVar("_MakesManager", bound=Callable[..., AbstractAsyncContextManager[Any]])


class _Opening(AbstractAsyncContextManager[Any]):
    """A context manager whose other attributes are errors that show its `async with`."""

    _call = ""  # for copies, which are made without __init__()

    def __init__(self, manager: AbstractAsyncContextManager[Any], call: str) -> None:
        self._manager = manager
        self._call = call

    def __repr__(self) -> str:
        return f"<{self._call}(), not entered>"

    async def __aenter__(self) -> Any:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(exc_type, exc, tb)

    def __getattr__(self, name: str) -> NoReturn:
        msg = (
            f"{self._call}() has to be entered before it has {name!r}: write `async with {self._call}(...) as "
            f"{self._call.removeprefix('open_')}:`, in the lifespan of the application"
        )
        raise AttributeError(msg)


def opening(make: _MakesManager) -> _MakesManager:
    """Decorate what ``asynccontextmanager`` has made. What it returns says how it is entered."""

    def open_it(*args: Any, **kwargs: Any) -> _Opening:
        return _Opening(make(*args, **kwargs), make.__name__)

    return cast("_MakesManager", update_wrapper(open_it, make))
