# Kicks in the log: how one process of a hub asks all of them to end streams. No I/O.
#
# Rule 1: a kick is an event of a reserved topic, so that it is kept, ordered and delivered like any other: a process
#         that could not reach the store for a while hears of it afterwards. It never reaches a subscriber.
# Rule 2: an order that makes no sense, from a program of another version, is None: it must not end a hub.

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple, cast

from .._arguments.checks import check_labels, check_text, wrong
from .._wire.event import ServerSentEvent
from ._items import RESERVED
from ._protocol import pack_event, unpack_event

__all__ = ("KICKS", "Kick", "check_kick_labels", "pack_kick", "unpack_kick")

KICKS = f"{RESERVED}kick"


class Kick(NamedTuple):
    """Which streams to end."""

    labels: Mapping[str, str]
    """Those that have all of these labels."""
    group: str | None
    """Those in groups of this name; ``None``: in any group."""

    def chooses(self, labels: Mapping[str, str], group: str) -> bool:
        """Whether a stream with these labels, in this group, has to end."""
        return self.group in (None, group) and all(labels.get(name) == value for name, value in self.labels.items())


def check_kick_labels(labels: Mapping[str, str], name: str = "labels") -> None:
    """Raise unless these labels can choose streams. The name is the parameter's."""
    check_labels(labels, name)
    if not labels:
        raise wrong(ValueError, name, 'one label or more, such as {"user": "ann"}', labels)


def pack_kick(labels: Mapping[str, str], group: str | None) -> tuple[str, bytes]:
    """Return the item to append. ValueError or TypeError for labels or a group that can't be meant."""
    check_kick_labels(labels)
    if group is not None:
        check_text("group", group, "the name of a StreamGroup, or None for all")
    order = json.dumps({"labels": dict(labels), "group": group})
    return KICKS, pack_event(ServerSentEvent(order, event="kick"))


def unpack_kick(payload: bytes) -> Kick | None:
    """Return what a payload asks for, or None if it makes no sense."""
    try:
        order: object = json.loads(unpack_event(payload).data or "")
        labels, group = cast("dict[str, object]", order)["labels"], cast("dict[str, object]", order)["group"]
        check_kick_labels(cast("Mapping[str, str]", labels))
        if group is not None:
            check_text("group", group)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return Kick(cast("Mapping[str, str]", labels), cast("str | None", group))
