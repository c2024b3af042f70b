# open_event_channel(): like trio's memory channel, for events that will be sent as bytes.

from __future__ import annotations

from collections.abc import Callable, Hashable

from .._arguments.checks import check_function
from .._wire.event import ServerSentEvent, TextErrors, check_errors
from .buffer import ConflatingBuffer, FifoBuffer
from .limits import check_limits
from .overflow import Overflow
from .receive_channel import EventReceiveChannel
from .send_channel import EventSendChannel
from .state import ChannelState

__all__ = ("new_channel_state", "open_event_channel")


def open_event_channel(
    max_buffer_size: float = 64,
    *,
    max_buffer_bytes: float = 65_536,
    overflow: Overflow = "wait",
    conflate: Callable[[ServerSentEvent], Hashable] | None = None,
    errors: TextErrors = "strict",
) -> tuple[EventSendChannel, EventReceiveChannel]:
    """Open a channel for events. Data flows from left to right.

    Args:
        max_buffer_size: how many events the channel may buffer. With ``0`` a send waits for a receive, as in trio; a
            response receives from before its producer runs, except while it writes. ``math.inf`` is allowed if
            ``max_buffer_bytes`` is finite.
        max_buffer_bytes: how many bytes, as on the wire, the channel may buffer. A larger event passes alone.
        overflow: what a send does when there is no room. ``"wait"`` waits; ``"drop_oldest"`` and ``"drop_newest"`` drop
            an event and count it in ``statistics()``; ``"close"`` closes the channel: buffered events are still
            received, and senders get :exc:`anyio.BrokenResourceError`.
        conflate: a function that gets each event that is sent and returns a key. A new event replaces the buffered
            event with the same key. An event with the key ``None`` replaces none. Use it for values of which only the
            latest counts.
        errors: how to treat text that UTF-8 can't encode, in each ``str`` and mapping that is sent, as in
            :class:`ServerSentEvent`: ``"replace"`` replaces it with U+FFFD.

    Returns:
        ``(send_channel, receive_channel)``. Close both when you are done.

    Raises:
        ValueError, TypeError: an argument is invalid; the message says what to write.
    """
    check_limits(max_buffer_size, max_buffer_bytes, overflow)
    if conflate is not None:
        check_function("conflate", conflate, "a function of an event that returns its key")
    if errors != "strict":
        check_errors(errors)
    state = new_channel_state(max_buffer_size, max_buffer_bytes, overflow, conflate, errors)
    return EventSendChannel(state), EventReceiveChannel(state)


def new_channel_state(
    max_buffer_size: float,
    max_buffer_bytes: float,
    overflow: Overflow,
    conflate: Callable[[ServerSentEvent], Hashable] | None,
    errors: TextErrors,
) -> ChannelState:
    """Open a channel with options that are checked already. Make its ends as you need them."""
    buffer = FifoBuffer() if conflate is None else ConflatingBuffer(conflate)
    state = ChannelState(buffer, max_buffer_size, max_buffer_bytes, overflow)
    state.errors = errors
    return state
