# What callers give to a store, checked before it goes anywhere.
#
# Rule 1: appends of many callers are committed together, so a mistake of one has to be found before they meet: it is
#         raised in the call that made it, and costs nobody else anything.
# Rule 2: an argument of a wrong kind is a TypeError, one that makes no sense a ValueError. Both say what to write.
# Rule 3: a bool is not a number here, whatever Python thinks of it: `max_events=True` is a mistake.

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ._protocol import EventId, Page
from ._topics import TopicFilter, check_topic

__all__ = (
    "check_callable",
    "check_follow",
    "check_items",
    "check_key",
    "check_number",
    "check_read",
    "check_read_last",
    "check_seconds",
    "shown",
)

_MOST = 2**53  # what a float, and so a number in Lua, carries exactly
_MOST_SECONDS = 1e10  # some three hundred years; event loops and SQLite can wait so long
_MOST_OF_A_PAGE = 2**31 - 1


def check_items(items: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the items of an append. TypeError or ValueError for what is no topic or no payload."""
    return [(check_topic(topic), _check_payload(payload)) for topic, payload in map(_check_pair, items)]


def _check_pair(item: tuple[str, bytes]) -> tuple[str, bytes]:
    if not isinstance(cast("object", item), (tuple, list)) or len(item) != 2:
        raise TypeError(f"an item must be (topic, payload), a str and bytes, not {type(item).__name__}")
    return item


def _check_payload(payload: bytes) -> bytes:
    if not isinstance(cast("object", payload), bytes):
        raise TypeError(f"a payload must be bytes, not {type(payload).__name__}; pack_event(event) makes them")
    return payload


def check_key(key: tuple[str, int] | None) -> tuple[str, int] | None:
    """Return the key of an append. TypeError or ValueError for what is none."""
    if key is None:
        return None
    if not isinstance(cast("object", key), tuple) or len(key) != 2 or not _is_key(*key):
        raise TypeError(f"key must be (producer, sequence), a str and an int, not {shown(key)}")
    producer, sequence = key
    producer.encode()  # ValueError for a lone surrogate
    if not 0 <= sequence < 2**63:
        raise ValueError(f"key={shown(key)}: its sequence must be from 0 to 2**63 - 1")
    return key


def _is_key(producer: object, sequence: object) -> bool:
    return isinstance(producer, str) and isinstance(sequence, int) and not isinstance(sequence, bool)


def check_read(topics: TopicFilter, after: EventId | Page | None, limit: int) -> None:
    """Raise for what is not a question for a page."""
    _check_topics(topics)
    if after is not None and not isinstance(cast("object", after), (EventId, Page)):
        raise TypeError(f"after must be an EventId, a Page or None, not {shown(after)}; EventId.parse(text) makes one")
    _check_count("limit", limit, least=1)


def check_read_last(topics: TopicFilter, count: int) -> None:
    """Raise for what is not a question for the newest events."""
    _check_topics(topics)
    _check_count("count", count, least=0)


def _check_count(name: str, count: int, *, least: int) -> None:
    _check_int(name, count, "a number of events")
    if not least <= count <= _MOST_OF_A_PAGE:
        raise ValueError(f"{name}={shown(count)} must be a number of events, from {least} to 2**31 - 1")


def _check_topics(topics: TopicFilter) -> None:
    if not isinstance(cast("object", topics), TopicFilter):
        raise TypeError(f"topics must be a TopicFilter, not {shown(topics)}; write TopicFilter('prices/*')")


def check_follow(after: EventId) -> None:
    """Raise for what is not a place to follow from."""
    if not isinstance(cast("object", after), EventId):
        raise TypeError(f"after must be an EventId, not {shown(after)}; EventId(store.epoch, 0) is the start")


def check_number(name: str, value: object, unit: str) -> None:
    """Raise for what is not a limit of so many events or bytes, or None for no limit."""
    if value is None:
        return
    _check_int(name, value, f"a number of {unit}, or None for no limit")
    if not 0 < cast("int", value) <= _MOST:
        raise ValueError(f"{name}={shown(value)} must be from 1 to 2**53 {unit}, or None for no limit")


def check_seconds(name: str, value: object, *, least: float, none: str = "") -> None:
    """Raise for what is not a time of at least so many seconds; ``none`` says what None is for, if it is allowed."""
    alternative = f", or None for {none}" if none else ""
    if value is None and none:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds{alternative}, not {shown(value)}")
    if not least <= value <= _MOST_SECONDS:
        raise ValueError(f"{name}={shown(value)} must be from {least:g} to {_MOST_SECONDS:g} seconds{alternative}")


def check_callable(name: str, value: object) -> None:
    """Raise TypeError for what can't be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function that returns seconds, as time.time, not {shown(value)}")


def _check_int(name: str, value: object, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be {what}, not {shown(value)}; write an int")


def shown(value: object) -> str:
    """Show a value in a message, cut: an int may have more digits than Python is willing to write."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
