# Who pings: the ticker calls each stream (deadlines.py), and this decides whether a ping is due, and has the writer
# write it.
#
# Rule 1: a ping is for a silence: it is due `ping` seconds after the last write, and never during one.
# Rule 2: pings need not be punctual. Those that are due within a fiftieth of their period are sent together: waking the
#         ticker costs more than a ping, and it wakes once for all of them.
# Rule 3: no client takes a ping for a message: the default one is a comment (_wire/event.py).

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from .._reasons import CloseReason
from .._wire.event import LINE_ENDS, ServerSentEvent
from .._wire.returned import returned_event

if TYPE_CHECKING:
    from .options import StreamOptions
    from .teardown import Teardown

__all__ = ("ping", "ping_if_due")

PINGS = MappingProxyType({sep: ServerSentEvent(comment="ping").encode(sep) for sep in LINE_ENDS})


def ping_if_due(stream: Teardown, now: float) -> float:
    """Write a ping after a silence; return when to look again."""
    outlet = stream.writer.outlet
    seconds, idle_since = stream.options.ping, outlet.idle_since
    if not seconds or seconds == math.inf or stream.reason is not None:
        return math.inf
    if idle_since is None or idle_since + seconds > now:
        return _on_grid((now if idle_since is None else idle_since) + seconds, seconds)
    if outlet.connection.is_lost:  # uvicorn reports a disconnect to its newest request only
        stream.end(CloseReason.DISCONNECTED)
        return math.inf
    try:
        stream.writer.ping(ping(stream.options))
    except Exception as exc:  # noqa: BLE001 -- of the user's factory; raised by serve()
        stream.fail(exc)
    return _on_grid(now + seconds, seconds)


def ping(options: StreamOptions) -> bytes:
    """Return what is written after a silence."""
    if options.ping_message_factory is None:
        return PINGS[options.sep]
    return returned_event("ping_message_factory", options.ping_message_factory()).encode(options.sep)


def _on_grid(at: float, seconds: float) -> float:
    grid = 2.0 ** math.floor(math.log2(seconds / 50))  # a power of two rounds no time down
    return math.ceil(at / grid) * grid
