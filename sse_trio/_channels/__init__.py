# The pair of channels, and the interface that a stream's writer has to any source of events.
#
#   opening.py      open_event_channel(), and limits.py what it may be given
#   send_channel.py, receive_channel.py
#                   the two ends that users hold, and ends.py what they have in common
#   state.py        the state that both ends share: accept, wait, end
#   overflow.py     what goes when the buffer is full
#   pacer.py        when a send() returns at once, and when it first yields to other tasks
#   waiters.py      sends that wait for room, receivers that wait for an event
#   buffer.py       the queue between them, in events and bytes
#   source.py       the base class of a channel's state and of a hub's subscription, as a writer sees them

from __future__ import annotations

__all__ = ()
