# From what users publish to the items of an append: checked, encoded, and of no topic that is reserved.
#
# Rule 1: everything that publishes comes through here, a hub and a Publisher alike, so that they take the same and
#         refuse the same.
# Rule 2: topics below `$sse_trio/` carry what the processes of a hub tell each other. No user may publish to them,
#         since the name of a topic may come from outside.

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from .._arguments.checks import is_series, members_of, wrong
from .._wire.event import Sendable, as_event
from ._protocol import pack_event
from ._topics import check_topic

__all__ = ("RESERVED", "pack_item", "pack_items")

RESERVED = "$sse_trio/"


def pack_item(topic: str, event: Sendable) -> tuple[str, bytes]:
    """Return the item to append. ValueError or TypeError for a bad topic or event."""
    if check_topic(topic).startswith(RESERVED):
        raise wrong(ValueError, "a topic to publish to", f"a str that does not begin with {RESERVED}", topic)
    return topic, pack_event(as_event(event))


def pack_items(events: Iterable[tuple[str, Sendable]]) -> list[tuple[str, bytes]]:
    """Return the items of several events. TypeError for anything but pairs; otherwise as :func:`pack_item`."""
    wanted = 'an iterable of (topic, event) pairs, such as [("news", "hello")]'
    if not is_series(events):
        raise wrong(TypeError, "events", wanted, events)
    return [_pack_pair(pair, wanted) for pair in events]


def _pack_pair(pair: tuple[str, Sendable], wanted: str) -> tuple[str, bytes]:
    if len(members_of(pair)) != 2:
        raise wrong(TypeError, "events", wanted, cast("object", pair))
    return pack_item(*pair)
