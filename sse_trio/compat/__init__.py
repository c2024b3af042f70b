"""sse-starlette's names on this machinery: what uses sse-starlette changes one import.

::

    from sse_trio.compat import EventSourceResponse, ServerSentEvent  # was: from sse_starlette import ...

A package that imports sse-starlette itself finds the adapter after :func:`install`. What differs is in the docstring of
:class:`EventSourceResponse`, and why in ``docs/sse-starlette.md``. For new code there is
:class:`sse_trio.EventSourceResponse`.
"""

# Rule 1: the wire is sse-starlette's, byte for byte, and so is what it is called with. tests/compat/test_compat.py runs
#         both.
# Rule 2: there is no machinery in here: each response makes one of sse_trio's when it is called, and that streams.
# Rule 3: what can't be meant is an error that says what to write instead.

from ._app_status import AppStatus as AppStatus
from ._event import JSONServerSentEvent as JSONServerSentEvent
from ._event import ServerSentEvent as ServerSentEvent
from ._event import ensure_bytes as ensure_bytes
from ._install import install as install
from ._response import EventSourceResponse as EventSourceResponse
from ._response import SendTimeoutError as SendTimeoutError

__all__ = (
    "AppStatus",
    "EventSourceResponse",
    "JSONServerSentEvent",
    "SendTimeoutError",
    "ServerSentEvent",
    "ensure_bytes",
    "install",
)
