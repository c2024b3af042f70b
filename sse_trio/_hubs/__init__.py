# The same events for many subscribers: topics, fan-out, exact resume.
#
#   hub.py           open_hub() and Hub, the handle: publish, subscribe, statistics
#   publisher.py     events to the store, and from a store of this process to the fan-out
#   fanout.py        which feeds an event belongs to, and when their readers are woken
#   feed.py          the latest events of one choice of topics, encoded once
#   subscription.py  Subscription, the handle: receive, close, statistics
#   source.py        one subscriber, as its stream and its hub see it
#   position.py      where in its feed it reads on
#   history.py       what it has missed, read from the store; gaps
#   filtering.py     which events a subscriber's filter lets through
#   state.py         what all of them share: the store, the subscribers, the counters

from __future__ import annotations

__all__ = ()
