"""Where a hub keeps its events: the protocol of a store, and the stores that need only the standard library.

``RedisStore`` is in ``sse_trio.stores.redis``: it needs the extra ``redis``. ``PostgresStore`` is in
``sse_trio.stores.postgres``: it needs the extra ``postgres``.
"""

from __future__ import annotations

from ._expiry import ExpiringStore as ExpiringStore
from ._holds import Claim as Claim
from ._holds import Held as Held
from ._holds import HoldingStore as HoldingStore
from ._protocol import (
    EventId as EventId,
)
from ._protocol import (
    EventStore as EventStore,
)
from ._protocol import (
    Gap as Gap,
)
from ._protocol import (
    Page as Page,
)
from ._protocol import (
    StoredEvent as StoredEvent,
)
from ._protocol import (
    new_epoch as new_epoch,
)
from ._retention import Retention as Retention
from ._topics import TopicFilter as TopicFilter
from ._topics import check_topic as check_topic
from .memory import MemoryStore as MemoryStore
from .sqlite import SQLiteStore as SQLiteStore

__all__ = (
    "Claim",
    "EventId",
    "EventStore",
    "ExpiringStore",
    "Gap",
    "Held",
    "HoldingStore",
    "MemoryStore",
    "Page",
    "Retention",
    "SQLiteStore",
    "StoredEvent",
    "TopicFilter",
    "check_topic",
    "new_epoch",
)
