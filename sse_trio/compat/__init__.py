"""sse-starlette's names on sse_trio's streams: code that uses sse-starlette changes one import.

::

    from sse_trio.compat import EventSourceResponse, ServerSentEvent  # was: from sse_starlette import ...

A package that imports sse-starlette itself finds the adapter after :func:`install`. The docstring of
:class:`EventSourceResponse` lists what differs, and ``docs/sse-starlette.md`` says why. New code should use
:class:`sse_trio.EventSourceResponse`.
"""

# Rule 1: the bytes on the wire are sse-starlette's, and so are the arguments. tests/compat/test_compat.py runs both.
# Rule 2: nothing in here streams: each response makes one of sse_trio's when it is called, and that streams.
# Rule 3: a use that has no meaning here is an error that says what to write instead.

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
