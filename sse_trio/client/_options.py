# EventSourceOptions: the options of an event source, after client/_arguments.py has checked them.

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

import httpx

__all__ = ("EventSourceOptions",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceOptions:
    """The arguments of open_event_source() of the same names."""

    reconnect: bool
    idle_timeout: float | None
    head_timeout: float | None
    max_event_size: int
    skip_too_large: bool
    take_unfinished: bool
    max_answer_size: int
    accept: Callable[[httpx.Response], bool] | None
    retry_statuses: Container[int]

    @property
    def seconds_to_answer(self) -> float | None:
        """How long an answer may take. Silence before the head counts as silence, too."""
        return min((t for t in (self.idle_timeout, self.head_timeout) if t is not None), default=None)
