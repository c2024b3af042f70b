# Kicks that come through a hub's log: the groups of this event loop end the streams that are meant.
#
# Rule 1: hubs and groups don't know each other. A group's run is listed here when it begins; a hub that gets an order
#         hands it to all that are listed in its event loop.
# Rule 2: the list holds no run that nothing else holds.

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol
from weakref import WeakSet

from anyio.lowlevel import RunVar

from ..stores._kicks import Kick, unpack_kick

__all__ = ("KickSender", "Kickable", "add_kickable", "kick_here")

logger = logging.getLogger("sse_trio")

_kickables: RunVar[WeakSet[Kickable]] = RunVar("sse_trio._kickables")


class Kickable(Protocol):
    """A group's streams in one event loop."""

    def obey(self, kick: Kick) -> None:
        """End the streams that the kick chooses. Must not raise."""


class KickSender(Protocol):
    """A hub, as a group uses it."""

    async def kick(self, labels: Mapping[str, str], *, group: str | None = None) -> object:
        """Tell every process that has this hub open."""
        ...


def add_kickable(kickable: Kickable) -> None:
    """Have this run of a group obey the kicks that hubs of the running event loop hear of."""
    try:
        kickables = _kickables.get()
    except LookupError:
        _kickables.set(kickables := WeakSet())
    kickables.add(kickable)


def kick_here(payload: bytes) -> None:
    """Obey an order that came through a hub."""
    kick = unpack_kick(payload)
    if kick is None:
        logger.warning("a kick that came through the hub's store makes no sense; was it written by another version?")
        return
    for kickable in [*_kickables.get(WeakSet[Kickable]())]:
        kickable.obey(kick)
