# Looking into the closures that a framework puts around the server's `receive` and `send`.
#
# Rule 1: nothing is called or changed, only looked at.
# Rule 2: a closure that holds itself must not keep us: callers stop after MOST_WRAPPERS.

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import CellType

__all__ = ("MOST_WRAPPERS", "closed_over", "innermost_send")

MOST_WRAPPERS = 32  # Starlette has two, and one for each route and mount; each middleware may add one


def closed_over(function: object, name: str) -> object | None:
    """Return what a closure holds under this name; ``None`` where it holds nothing."""
    names: tuple[str, ...] = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells: tuple[CellType, ...] = getattr(function, "__closure__", None) or ()
    try:
        return cast("object", cells[names.index(name)].cell_contents)
    except (IndexError, ValueError):  # no such name, a function that isn't written in Python, or an empty cell
        return None


def innermost_send(send: object) -> object:
    """Return what lies behind all wrappers that are closures over the `send` that they call."""
    for _ in range(MOST_WRAPPERS):
        inner = closed_over(send, "send")
        if inner is None:
            break
        send = inner
    return send
