# The last writes of a stream whose producers have ended: the buffered events, the farewell, the final frame.
#
# Rule 1: the final frame says that the stream is complete, so it is written only after every producer has returned
#         (C6). A producer that closes its channel and then fails has failed.
# Rule 2: nothing waits for them without a bound (`bounded` in `ENDINGS`, and the send timeout). A write that is still
#         stuck is abandoned, and the connection is dropped (C11).
# Rule 3: a stream that has failed, or is cancelled, before its head was sent sends nothing, so that the caller can
#         answer with a status (C7, C13).

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, move_on_after

from .._failures import joined
from .._reasons import ENDINGS, CloseReason, Ending
from .._servers.middleware import count_base_middlewares
from .farewell import closing_notices
from .teardown import ABANDON_SECONDS, FINAL_SECONDS

if TYPE_CHECKING:
    from starlette.types import Receive

    from .teardown import Teardown

__all__ = ("drain",)


async def drain(stream: Teardown, receive: Receive, error: BaseException | None) -> None:
    """Write what is left, or nothing, and wait for the writer. `error` is what the producers raised."""
    writer = stream.writer
    try:
        if stream.lost is None:
            stream.source.refuse_sends()
            if _sends_nothing(stream):
                writer.abandon()
            else:
                writer.finish(_last_notices(stream, error), cut_after=_cut_after(stream, receive))
            with CancelScope(deadline=stream.drain_deadline(stream.reason)) as stream.drain_scope:
                stream.drain_scope.shield = _ending_of(stream).shielded
                await stream.wait_ended(by_writer=True)
    except BaseException:
        stream.end(CloseReason.CANCELLED)
        if not writer.has_begun:
            writer.abandon()
        with move_on_after(FINAL_SECONDS, shield=True):
            await stream.wait_ended(by_writer=True)
        if joined(error, stream.failure) is None:
            raise  # otherwise raise_own() raises the error, which must not be lost
    finally:
        if writer.outcome is None:
            stream.lose_client(stalled=stream.lost is None)
            with move_on_after(ABANDON_SECONDS, shield=True):
                await stream.wait_ended(by_writer=True)


def _last_notices(stream: Teardown, error: BaseException | None) -> bytes:
    try:
        return closing_notices(stream.options, stream.run.state, stream.reason, error)
    except Exception as exc:  # noqa: BLE001 -- raised by serve() when the stream has ended
        stream.failure = exc
        return b""


def _cut_after(stream: Teardown, receive: Receive) -> int | None:
    # None: write a final frame. Otherwise the stream has failed, and its connection is cut after this many more
    # messages if the server does not cut it; 0: the server cuts it.
    if _ending_of(stream).final_frame:
        return None
    return count_base_middlewares(receive) or (0 if stream.writer.outlet.connection.tells_failure else 1)


def _sends_nothing(stream: Teardown) -> bool:
    # A cancelled stream does not send a head even for events that it has accepted.
    if stream.writer.has_begun or stream.reason is CloseReason.CANCELLED:
        return not stream.writer.has_begun
    return stream.reason is CloseReason.FAILED and not (stream.source.started or stream.source.is_ready())


def _ending_of(stream: Teardown) -> Ending:
    return ENDINGS[stream.reason or CloseReason.COMPLETED]
