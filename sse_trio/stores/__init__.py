"""Where a hub keeps its events: the protocol of a store, and the stores that need nothing beyond the standard library.

``RedisStore`` is in ``sse_trio.stores.redis``: it needs the extra ``redis``.
"""

from __future__ import annotations

from .._store import (
    EventId as EventId,
    EventStore as EventStore,
    Gap as Gap,
    Page as Page,
    StoredEvent as StoredEvent,
    new_epoch as new_epoch,
)
from .._topics import TopicFilter as TopicFilter, check_topic as check_topic

__all__ = ("EventId", "EventStore", "Gap", "Page", "StoredEvent", "TopicFilter", "check_topic", "new_epoch")
