# The pair: a send channel and a receive channel, and what a writer takes from any source.
#
#   ends.py         open_event_channel() and the two handles that users hold
#   state.py        what the two ends share: accept, wait, drop, close
#   pacer.py        when a send() returns at once, and when it owes other tasks a turn
#   waiters.py      sends that wait for room, receivers that wait for an event
#   buffer.py       the queue between them, in events and bytes
#   source.py       what a stream is written from: a channel's state, or a hub's subscription

from __future__ import annotations

__all__ = ()
