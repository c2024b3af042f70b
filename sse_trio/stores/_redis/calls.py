# What the scripts are called with, and what the answer of APPEND means. No I/O: a store calls them through coredis
# (log.py), a Publisher through redis-py.
#
# Rule 1: every call sends the newest id seen, so that the script notices if the server has lost events that this
#         process knows of. Every answer names the epoch and the newest id.

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha1
from typing import TypeAlias, final

from .._append import Append
from .._protocol import EventId, new_epoch
from .._retention import KEY_SECONDS, MAX_FORGOTTEN, Retention, narrowest_age

__all__ = ("RedisCalls", "Value", "sha_of")

Value: TypeAlias = "str | bytes | float"


@final
class RedisCalls:
    """The calls of one process to the scripts of one hub.

    Args:
        name: of the hub; all its keys begin with it, in braces.
        hub: limits of the whole.
        topic: limits of each topic.
        clock: seconds since 1970.
    """

    def __init__(self, name: str, hub: Retention, topic: Retention, clock: Callable[[], float]) -> None:
        self.root: str = f"{{{name}}}:"
        self.keys: list[str] = [f"{self.root}meta"]
        self.seen: EventId = EventId("", 0)
        """The newest id of any answer."""
        self._clock = clock
        self._writer = secrets.token_hex(8)
        limits = (hub.max_events, hub.max_bytes, narrowest_age(hub, topic), topic.max_events, topic.max_bytes)
        self._limits = [-1 if limit is None else limit for limit in limits]

    def values(self, args: Iterable[Value]) -> list[Value]:
        """Return the arguments of either script, with what both begin with."""
        return [new_epoch(), self.seen.epoch, self.seen.sequence, *args]

    def append(self, group: Sequence[Append], number: int) -> list[Value]:
        """Return the arguments for a group, which is appended once however often they are sent.

        ``number`` grows with every group.
        """
        args = self._head(self._writer, number)
        for append in group:
            args += ["" if append.key is None else f"{append.key[0]}:{append.key[1]}", len(append.items)]
            for topic, payload in append.items:
                args += [topic, payload]
        return args

    def maintain(self) -> list[Value]:
        """Return the arguments for a call that only trims what is too old."""
        return self._head("", 0)

    def _head(self, writer: str, number: int) -> list[Value]:
        return [self._clock(), writer, number, round(KEY_SECONDS), *self._limits, MAX_FORGOTTEN]

    def appended(self, answer: Sequence[bytes]) -> list[list[EventId]]:
        """Return the ids of each append of a group, from the answer."""
        epoch, sequence, *results = answer
        self.saw(EventId(epoch.decode(), int(sequence)))
        return [
            [EventId(self.seen.epoch, int(first) + n) for n in range(int(count))]
            for first, count in zip(results[::2], results[1::2], strict=True)
        ]

    def saw(self, id_: EventId) -> None:
        """Note the newest id of an answer."""
        if id_.epoch != self.seen.epoch or id_.sequence > self.seen.sequence:
            self.seen = id_


def sha_of(script: str) -> str:
    """Return the name under which the server knows a script."""
    return sha1(script.encode()).hexdigest()  # noqa: S324 -- Redis' name for it
