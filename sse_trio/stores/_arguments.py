# What callers give to a store, checked before it goes anywhere.
#
# Rule 1: appends of many callers are committed together, so a mistake of one has to be found before they meet: it is
#         raised in the call that made it, and costs nobody else anything.

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sse_trio._topics import check_topic

__all__ = ("check_items", "check_key", "check_limit")


def check_items(items: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the items of an append. TypeError or ValueError for what is no topic or no payload."""
    return [(check_topic(topic), _check_payload(payload)) for topic, payload in items]


def _check_payload(payload: bytes) -> bytes:
    if not isinstance(cast("object", payload), bytes):
        raise TypeError(f"a payload must be bytes, not {type(payload).__name__}; pack_event(event) makes them")
    return payload


def check_key(key: tuple[str, int] | None) -> tuple[str, int] | None:
    """Return the key of an append. TypeError or ValueError for what is none."""
    if key is not None:
        producer, sequence = key
        if not isinstance(cast("object", producer), str) or not isinstance(cast("object", sequence), int):
            raise TypeError(f"a key must be (producer, sequence), a str and an int, not {key!r}")
        producer.encode()  # ValueError for a lone surrogate
        if not 0 <= sequence < 2**63:
            raise ValueError(f"key={key!r}: a sequence is not negative and has 63 bits")
    return key


def check_limit(limit: int) -> int:
    """Return the limit of a page. ValueError if no event would fit on it."""
    if limit < 1:
        raise ValueError(f"limit={limit}: a page has room for at least one event")
    return limit
