# Who notices a disconnect: a wait in the server's `receive`, or in its inbox behind ServerBridge, beside the producers.
#
# Rule 1: only the server's code runs in the wait, in the context of the request, like every call of the server's
#         functions. If there are producers it is a detached task, because the server may hold it in a call that can't
#         be cancelled; a subscription has none, and its stream waits itself.
# Rule 2: a stream starts the task at the age of WATCH_SECONDS: for a short one it would be a tenth of the cost.
# Rule 3: `receive` also yields the request's body. Without the bridge it is dropped here, with a warning (C10).
# Rule 4: a client that disconnects is not an error. Two others notice it too: a `send` that raises (writer.py), and the
#         server's own flag, which a ping looks at (pings.py).

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._loops.cancellation import is_asked_for, is_cancellation, stray_cancellation
from .._reasons import CloseReason

if TYPE_CHECKING:
    from starlette.types import Receive

    from .teardown import Teardown

__all__ = ("WATCH_SECONDS", "watch_beside", "watch_disconnect")

logger = logging.getLogger("sse_trio")

WATCH_SECONDS = 0.05
"""Age at which a stream starts the task."""

DROPPED = (
    "event stream %r: %d bytes of the request's body arrived while it waited for the disconnect, and were dropped; "
    "read the body before you return the response, or wrap the application in ServerBridge"
)


async def watch_beside(stream: Teardown, receive: Receive, path: str) -> None:
    """Be the task: as watch_disconnect(); a stray cancellation is a failure of the server's."""
    try:
        await watch_disconnect(stream, receive, path)
    except BaseException as exc:
        if not is_cancellation(exc) or await is_asked_for(stream.run.loop) or stream.reason is not None:
            raise
        stream.fail(stray_cancellation("the server's `receive`", exc))


async def watch_disconnect(stream: Teardown, receive: Receive, path: str) -> None:
    """Wait until the client is gone, and end the stream."""
    dropped = 0
    connection = stream.writer.outlet.connection
    connection.watch_hangup()
    try:
        if connection.has_inbox:
            await connection.wait_disconnect()
        else:
            while not (message := await receive())["type"].endswith("disconnect"):
                dropped += len(message.get("body", b""))
        _hear_disconnect(stream)
    except Exception as exc:  # noqa: BLE001 -- raised by serve()
        stream.fail(exc)
    finally:
        if dropped:
            logger.warning(DROPPED, path, dropped)


def _hear_disconnect(stream: Teardown) -> None:
    outlet = stream.writer.outlet
    if not outlet.final_began:
        stream.end(CloseReason.DISCONNECTED)
    elif stream.writer.outcome is None and outlet.connection.is_lost is None:
        # Servers also send http.disconnect after a complete response, some before the last `send` has returned. So
        # it counts only if `send` is still stuck a little later, and only on an unknown server: on a known server
        # `send` returns when the client is gone, and a client that only reads nothing must be dropped (C11).
        stream.expect_gone()
