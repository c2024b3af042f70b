# The check of limits by pattern: which pattern counts for a topic, and that it is all that counts.

from __future__ import annotations

import random
from itertools import islice
from types import MappingProxyType
from typing import Final

from ..stores import Retention
from ..stores._topics import TopicFilter
from ._store_locations import MakeStoreByPrefix, plain, read_all
from ._store_model import StoreModel

__all__ = ("by_prefix",)

_LIMITS: Final = MappingProxyType(
    {
        "a": Retention(max_events=2),
        "p/*": Retention(max_bytes=60),
        "p/2/*": Retention(max_events=3),
        "p/2/x": Retention(),
        "no/*": Retention(max_events=1),
    }
)
_TOPICS: Final = ("a", "ab", "b", "p", "p/1", "p/2", "p/2/3", "p/2/x", "p/2/x/y", "p/23")
_HUB: Final = Retention(max_events=150)


async def by_prefix(make_store: MakeStoreByPrefix) -> None:
    """The longest pattern that matches a topic limits it, alone; a topic that none matches has no limits."""
    chance = random.Random(7)  # noqa: S311 -- a test
    for number, limits in enumerate((_LIMITS, {**_LIMITS, "*": Retention(max_events=4)})):
        async with make_store(f"by-prefix-{number}", _HUB, limits) as store:
            model = StoreModel(store.epoch, _HUB, limits)
            for _ in range(20):
                items = [(topic, b"x" * chance.randrange(30)) for topic in chance.choices(_TOPICS, k=10)]
                model.appended(await store.append(items), items)
            for patterns in (("*",), ("p/*",), ("p/2/*", "b"), *((topic,) for topic in _TOPICS)):
                for after in islice(model.every_id(), number, None, 3):
                    expected = model.expected(TopicFilter(*patterns), after)
                    events, gap = await read_all(store, TopicFilter(*patterns), after)
                    what = f"{patterns} after {after}, limits by pattern"
                    assert plain(events) == expected.events, f"retention: other events than are to be kept: {what}"
                    assert (gap is not None) == expected.gap, f"gap: not as it must be: {what}"
