# The same events for many subscribers: topics, fan-out, exact resume.
#
#   hub.py               open_hub() and Hub: publish, subscribe, statistics
#   feed.py              the latest events of one choice of topics, encoded once
#   subscription.py      one subscriber: a cursor, and the history that it has missed
#   filtering.py         which events a subscriber's filter lets through

from __future__ import annotations

__all__ = ()
