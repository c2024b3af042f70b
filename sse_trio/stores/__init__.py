"""Where a hub keeps its events: the protocol of a store, and the stores that need nothing beyond the standard library.

``RedisStore`` is in ``sse_trio.stores.redis``: it needs the extra ``redis``.
"""

from __future__ import annotations

from sse_trio._store import (
    EventId as EventId,
)
from sse_trio._store import (
    EventStore as EventStore,
)
from sse_trio._store import (
    Gap as Gap,
)
from sse_trio._store import (
    Page as Page,
)
from sse_trio._store import (
    StoredEvent as StoredEvent,
)
from sse_trio._store import (
    new_epoch as new_epoch,
)
from sse_trio._topics import TopicFilter as TopicFilter
from sse_trio._topics import check_topic as check_topic

from ._retention import Retention as Retention
from .memory import MemoryStore as MemoryStore
from .sqlite import SQLiteStore as SQLiteStore

__all__ = (
    "EventId",
    "EventStore",
    "Gap",
    "MemoryStore",
    "Page",
    "Retention",
    "SQLiteStore",
    "StoredEvent",
    "TopicFilter",
    "check_topic",
    "new_epoch",
)
