# Functions that look as if a server's package had defined them.

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable


def by_package(name: str, function: Callable[..., object]) -> FunctionType:
    """Have a function look as if this module defined it."""
    function = cast("FunctionType", function)
    return FunctionType(function.__code__, {**function.__globals__, "__name__": name}, closure=function.__closure__)
