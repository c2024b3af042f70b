# What a channel may be given as its limits.

from __future__ import annotations

import math

from .._arguments.checks import wrong
from .overflow import OVERFLOWS

__all__ = ("check_limits",)


def check_limits(max_buffer_size: float, max_buffer_bytes: float, overflow: str = "wait") -> None:
    """Raise TypeError or ValueError for invalid limits."""
    if max_buffer_size == math.inf:
        if max_buffer_bytes == math.inf:
            raise wrong(ValueError, "max_buffer_size", "finite if max_buffer_bytes is math.inf", max_buffer_size)
    elif type(max_buffer_size) is not int or max_buffer_size < 0:
        _check_size(max_buffer_size)
    if type(max_buffer_bytes) is not int or max_buffer_bytes < 1:
        _check_bytes(max_buffer_bytes)
    if overflow not in OVERFLOWS:
        raise wrong(ValueError, "overflow", f"one of {', '.join(map(repr, OVERFLOWS))}", overflow)


def _check_size(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(TypeError, "max_buffer_size", "an int or math.inf, 0 or more events", value)
    if value < 0:
        raise wrong(ValueError, "max_buffer_size", "0 or more events, or math.inf", value)


def _check_bytes(value: object) -> None:
    # A float is allowed: the limit may be computed. An event larger than the limit still passes.
    wanted = "more than 0 bytes, or math.inf"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong(TypeError, "max_buffer_bytes", wanted, value)
    if not value > 0:
        raise wrong(ValueError, "max_buffer_bytes", wanted, value)
