# The same events for many subscribers: topics, fan-out, exact resume.
#
#   hub.py           open_hub() and Hub, the handle: publish, subscribe, statistics
#   publisher.py     events to the store, and from a store of this process to the fan-out
#   fanout.py        which rings an event is added to, and when their readers are woken
#   ring.py          the latest events of one topic or prefix, encoded once
#   ring_index.py    the rings of a hub, by topic
#   timeline.py      the order of the hub's events, as numbers
#   feed.py          one choice of topics: a view of their rings
#   subscription.py  Subscription, the handle: receive, close, statistics
#   source.py        one subscriber, as its stream and its hub see it
#   reading.py       what it takes next, and what happens when it falls behind
#   position.py      where in its feed it reads on
#   history.py       what it has missed, read from the store; gaps
#   filtering.py     which events a subscriber's filter lets through
#   state.py         what all of them share: the store, the subscribers, the counters

from __future__ import annotations

__all__ = ()
