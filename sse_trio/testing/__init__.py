"""What sse_trio is tested with, for the tests of those who use it."""

from __future__ import annotations

from ._clock import VirtualTimeError as VirtualTimeError
from ._clock import virtual_backend as virtual_backend
from ._clock import wait_all_tasks_blocked as wait_all_tasks_blocked

__all__ = ("VirtualTimeError", "virtual_backend", "wait_all_tasks_blocked")
