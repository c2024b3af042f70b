# Checks of what callers give to a store, in the wording of `sse_trio._arguments`.
#
# Rule 1: the appends of many callers are committed together, so each caller's mistake is raised in its own call, before
#         its append meets the others.
# Rule 2: limits are narrower here than elsewhere: a number must fit a number of Lua's, a time a wait of SQLite's.

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from .._arguments.checks import check_count, check_function, check_instance, wrong
from .._arguments.checks import check_key as check_given_key
from ._protocol import EventId, Page
from ._topics import TopicFilter, check_topic

__all__ = (
    "check_clock",
    "check_follow",
    "check_items",
    "check_key",
    "check_limit",
    "check_read",
    "check_read_last",
    "check_wait",
)

_LARGEST_LIMIT = 2**53  # the largest int that a float, and so a number in Lua, holds exactly
_LONGEST_WAIT = 1e10  # seconds, about 300 years: event loops and SQLite can wait that long
_LARGEST_PAGE = 2**31 - 1  # events


def check_items(items: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the items of an append. TypeError or ValueError for a bad topic or payload."""
    return [(check_topic(topic), _check_payload(payload)) for topic, payload in map(_check_pair, items)]


def _check_pair(item: tuple[str, bytes]) -> tuple[str, bytes]:
    if not isinstance(cast("object", item), (tuple, list)) or len(item) != 2:
        raise wrong(TypeError, "each item", "(topic, payload), a str and bytes", item)
    return item


def _check_payload(payload: bytes) -> bytes:
    if not isinstance(cast("object", payload), bytes):
        raise wrong(TypeError, "a payload", "bytes", payload)
    return payload


def check_key(key: tuple[str, int] | None) -> tuple[str, int] | None:
    """Return the key of an append. TypeError or ValueError for a bad one."""
    if key is not None:
        check_given_key(key)
    return key


def check_read(topics: TopicFilter, after: EventId | Page | None, limit: int) -> None:
    """Check the arguments of ``read``."""
    _check_topics(topics)
    if after is not None and not isinstance(cast("object", after), (EventId, Page)):
        raise wrong(TypeError, "after", "an EventId such as EventId.parse(text), a Page or None", after)
    check_count("limit", limit, most=_LARGEST_PAGE)


def check_read_last(topics: TopicFilter, count: int) -> None:
    """Check the arguments of ``read_last``."""
    _check_topics(topics)
    check_count("count", count, least=0, most=_LARGEST_PAGE)


def _check_topics(topics: TopicFilter) -> None:
    check_instance("topics", topics, TopicFilter, "a TopicFilter, such as TopicFilter('prices/*')")


def check_follow(after: EventId) -> None:
    """Check the argument of ``follow``."""
    check_instance("after", after, EventId, "an EventId; EventId(store.epoch, 0) is the start")


def check_limit(name: str, value: object) -> None:
    """Check a limit of retention: a number of events or bytes, or None."""
    if value is not None:
        check_count(name, value, most=_LARGEST_LIMIT, none=", or None for no limit")


def check_wait(name: str, value: object, *, least: float, none: str = "") -> None:
    """Check a time of ``least`` seconds or more.

    Args:
        name: the parameter's.
        value: the argument.
        least: the shortest time allowed.
        none: what ``None`` means, such as ``", or None for no limit"``; empty where ``None`` is refused.
    """
    if value is None and none:
        return
    wanted = f"a number of seconds, from {least:g} to {_LONGEST_WAIT:g}{none}"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong(TypeError, name, wanted, value)
    if not least <= value <= _LONGEST_WAIT:
        raise wrong(ValueError, name, wanted, value)


def check_clock(value: object) -> None:
    """Check a function that tells the time."""
    check_function("clock", value, "a function that returns seconds, such as time.time")
