# A coroutine that was run by hand until it had to wait, as one of which a task runs the remainder. asyncio only.
#
# A coroutine that is stepped costs 0.4 us, an eager task (Python 3.12+) 0.7 us, a task with its pass of the loop 3 us.
#
# Rule 1: the code must not depend on the task that runs it. What belongs to a task and is held across a wait (a scope
#         of anyio's, asyncio.timeout()) breaks. Futures and locks are fine: they wake any task that waits for them.
# Rule 2: what the coroutine waits for when it is left is what the task waits for first: nothing is lost, or done twice.
# Rule 3: a task that is cancelled before it has run raises inside the coroutine all the same. (It would never enter an
#         `async def` around it: where it is awaited, its owner closes it then.)

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, cast

__all__ = ("Remainder",)


class Remainder(Coroutine[Any, Any, None]):
    """What is left of a coroutine that waits for this. A task may run it as its own coroutine, or await it."""

    __slots__ = ("_coroutine", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: object) -> None:
        self._coroutine = coroutine
        self._first: tuple[object] | None = (waits_for,)

    def __await__(self) -> Generator[Any, Any, None]:
        """Go on in the coroutine that awaits it. Once."""
        return cast("Generator[Any, Any, None]", self)  # as an iterator with send() and throw(), which is all it needs

    def __next__(self) -> Any:
        """Go on, as send(None)."""
        return self.send(None)

    def send(self, value: Any, /) -> Any:
        """Go on; the first time, wait for what the coroutine waits for."""
        first, self._first = self._first, None
        return self._coroutine.send(value) if first is None else first[0]

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Raise this exception where the coroutine waits. A task gives one argument."""
        del val, tb
        self._first = None
        return self._coroutine.throw(typ)

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()
