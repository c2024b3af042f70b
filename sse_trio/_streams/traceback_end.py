# Where an exception was raised: the module of the innermost frame of its traceback.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("raised_in",)


def raised_in(traceback: TracebackType | None) -> str:
    """Return the name of the module whose code raised it; an empty text if there is no traceback."""
    name = ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return name
