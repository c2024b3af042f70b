"""Tools for testing applications that use sse_trio.

``StreamingASGITransport`` needs httpx (``pip install sse-trio[client]``), which is imported on first use. The pytest
plugin is ``sse_trio.testing.pytest_plugin``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._check_store import check_event_store as check_event_store
from ._clock import VirtualTimeError as VirtualTimeError
from ._clock import virtual_backend as virtual_backend
from ._clock import wait_all_tasks_blocked as wait_all_tasks_blocked
from ._stream import TestStream as TestStream
from ._stream import open_test_stream as open_test_stream

if TYPE_CHECKING:
    from ._transport import StreamingASGITransport as StreamingASGITransport

__all__ = (
    "StreamingASGITransport",
    "TestStream",
    "VirtualTimeError",
    "check_event_store",
    "open_test_stream",
    "virtual_backend",
    "wait_all_tasks_blocked",
)


def __getattr__(name: str) -> object:
    if name == "StreamingASGITransport":
        from ._transport import StreamingASGITransport  # noqa: PLC0415 -- httpx is imported on first use

        return StreamingASGITransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
