# Producers: the user's code of one stream, its cancel scope, and what its exceptions mean.
#
# Rule 1: user code runs inside the cancel scope of serve() and nowhere else, and has ended when serve() returns (C1). A
#         single producer runs in the task that serves the stream, in the context of its request. Several run in a
#         nursery. (A nursery for one would double the cost of a short stream and the memory of an idle one.)
# Rule 2: the exceptions of producers are raised: one as it is, several as a group (C9). A send on a stream that has
#         ended is not a failure (C3), and a cancellation that nobody requested is one (C12).
# Rule 3: no reference to a producer that runs is kept, so that Python notices a channel that it forgets to close.

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from anyio import create_task_group

from .._channels.send_channel import EventSendChannel
from .._failures import cancellation_behind, collapse, is_client_disconnect, raise_again, without_own
from .._loops.cancellation import CancelRequests, is_asked_for, is_cancellation, stray_cancellation
from .._reasons import CloseReason
from .sources import Producer

if TYPE_CHECKING:
    from .._loops.loop import Loop
    from .teardown import Teardown

__all__ = ("Producers", "Producing", "run_all", "run_producer")

Producers: TypeAlias = list[tuple[Producer, EventSendChannel | None]]
"""Each with the send channel to close when it returns."""


class Producing(CancelRequests):
    """The scope in which the user's code runs (``ProducerScope``). Make it in the task that serves the stream."""

    __slots__ = ("cancel_scope", "has_producers")

    def __init__(self, loop: Loop, *, has_producers: bool) -> None:
        super().__init__(loop)
        self.has_producers = has_producers
        self.cancel_scope = loop.new_scope()

    def cancel(self) -> None:
        """Cancel it."""
        self.note_own()
        self.cancel_scope.cancel()


async def run_all(stream: Teardown, producers: Producers) -> None:
    """Run the producers, each in a task of its own, until all have returned. Empties ``producers``."""
    try:
        async with create_task_group() as nursery:
            while producers:
                nursery.start_soon(run_producer, stream, *producers.pop(0))
    except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's group
        raise_again(collapse(exc))


async def run_producer(
    stream: Teardown, producer: Producer, send_channel: EventSendChannel | None, requests: CancelRequests | None = None
) -> None:
    """Run a producer; raise what counts of its exceptions. ``requests``: those of this task, if it is the stream's."""
    running = producer()
    del producer  # with everything that only its arguments refer to
    try:
        await running
    except BaseException as exc:
        if is_cancellation(exc) and not await _is_asked_for(stream, requests):
            raise stray_cancellation("a producer", exc) from exc
        if is_client_disconnect(exc):
            stream.end(CloseReason.DISCONNECTED)
        others = without_own(exc, stream.source)
        if others is None and (stream.reason is not None or stream.source.refusing):
            cancellation = cancellation_behind(exc)
            if cancellation is None:
                return  # a send on a stream that has ended is not a failure
            raise cancellation from None
        if others is None or others is exc:
            raise
        raise others from others.__cause__
    finally:
        if send_channel is not None:
            send_channel.close()


async def _is_asked_for(stream: Teardown, requests: CancelRequests | None) -> bool:
    return await is_asked_for(stream.run.loop) if requests is None else requests.are_there()
