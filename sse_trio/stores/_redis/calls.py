# What the scripts are called with, and what their answers mean. No I/O but a line in the log: a store calls them
# through coredis (log.py), a Publisher through redis-py.
#
# Rule 1: a script names two keys: the hub's record, and one that never exists. While the slot moves to another node of
#         a cluster, key by key, the node refuses a script of which a key is missing (TRYAGAIN, ASK) before it begins.
#         Without that, a script would fail where it meets the first key that has gone, and have written half.
# Rule 2: every call sends the newest id seen, so that the script notices if the server has lost events that this
#         process knows of. Every answer names the epoch and the newest id.

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha1
from typing import TypeAlias, final

from .._append import AGAIN, LOST, Append, Result
from .._holds import Claim
from .._protocol import EventId, new_epoch
from .._retention import KEY_SECONDS, MAX_FORGOTTEN, Retention
from .._topic_limits import TopicLimits

__all__ = ("RedisCalls", "Value", "sha_of")

_logger = logging.getLogger("sse_trio")
Value: TypeAlias = "str | bytes | float"


@final
class RedisCalls:
    """The calls of one process to the scripts of one hub.

    Args:
        name: of the hub; all its keys begin with it, in braces.
        hub: limits of the whole.
        topic: limits of each topic.
        clock: seconds since 1970.
        remember_keys: seconds for which keys are remembered.
        retry_for: seconds for which a group is sent again.
    """

    def __init__(
        self,
        name: str,
        hub: Retention,
        topic: TopicLimits,
        clock: Callable[[], float],
        remember_keys: float = KEY_SECONDS,
        retry_for: float = 0.0,
    ) -> None:
        self.root: str = f"{{{name}}}:"
        self.keys: list[str] = [f"{self.root}meta", f"{self.root}never"]
        self.seen: EventId = EventId("", 0)
        """The newest id of any answer."""
        self._own = EventId("", 0)  # the newest that this process was given for an event that it appended
        self._clock = clock
        self._remember_keys = math.ceil(remember_keys)
        self._writer = secrets.token_hex(8)
        # Longer than a group is sent again, however short keys last.
        self._remember_groups = math.ceil(max(KEY_SECONDS, remember_keys, 2 * retry_for))
        self._limits: list[Value] = [
            *_limits_of(hub, topic.hub_age),
            *map(_number, topic.span),
            MAX_FORGOTTEN,
            self._remember_groups,
            len(topic.patterns),
        ]
        for pattern, limits in topic.patterns.items():
            self._limits += [pattern, *_limits_of(limits, limits.max_age)]
        self._marks: dict[float, int] = dict.fromkeys(topic.ages, 0)  # up to where old events were looked at

    def values(self, args: Iterable[Value]) -> list[Value]:
        """Return the arguments of any of the scripts, with what all begin with."""
        return [new_epoch(), self.seen.epoch, self.seen.sequence, *args]

    def append(self, group: Sequence[Append], number: int) -> list[Value]:
        """Return the arguments for a group, which is appended once however often they are sent.

        ``number`` grows with every group.
        """
        args = self._head(self._writer, number)
        for append in group:
            args.append("" if append.key is None else f"{append.key[0]}:{append.key[1]}")
            args += ["" if append.claim is None else "1", len(append.items)]
            if append.claim is not None:
                args += _claim_args(append.claim)
            for topic, payload in append.items:
                args += [topic, payload]
        return args

    def maintain(self) -> list[Value]:
        """Return the arguments for a call that only trims what is too old."""
        args = self._head("", 0)
        for age, mark in self._marks.items():
            args += [age, mark]
        return args

    def maintained(self, answer: Sequence[bytes]) -> bool:
        """Note how far a call came that only trims; return whether there is more to look at."""
        epoch, sequence, is_done, *marks = answer
        self.saw(EventId(epoch.decode(), int(sequence)))
        self._marks = {age: int(mark) for age, mark in zip(self._marks, marks, strict=True)}
        return not int(is_done)

    def _head(self, writer: str, number: int) -> list[Value]:
        return [self._clock(), writer, number, self._remember_keys, *self._limits]

    def appended(self, answer: Sequence[bytes]) -> list[Result]:
        """Return the result of each append of a group, from the answer."""
        epoch, sequence, *results = answer
        self.saw(EventId(epoch.decode(), int(sequence)))
        pairs = zip(results[::2], results[1::2], strict=True)
        found: list[Result] = [_result(self.seen.epoch, int(first), int(count)) for first, count in pairs]
        for ids in found:
            if isinstance(ids, list) and ids and _is_newer(ids[-1], self._own):
                self._own = ids[-1]
        return found

    def adopt(self, replication_id: str) -> list[Value]:
        """Return the arguments for telling the hub which server it is on."""
        return [replication_id, self._own.epoch, self._own.sequence]

    def adopted(self, answer: Sequence[bytes]) -> None:
        """Note the answer. Log a warning if events that this process was given ids for are gone."""
        epoch, sequence, is_gone = answer
        self.saw(EventId(epoch.decode(), int(sequence)))
        if int(is_gone):
            _logger.warning(
                "a failover of Redis has lost events that hub %s acknowledged to this process; the newest is %s",
                self.root[1:-2],
                self._own,
            )
            self._own = EventId("", 0)  # told once

    def saw(self, id_: EventId) -> None:
        """Note the newest id of an answer."""
        if id_.epoch != self.seen.epoch:
            self._marks = dict.fromkeys(self._marks, 0)
        if _is_newer(id_, self.seen):
            self.seen = id_


def _is_newer(id_: EventId, other: EventId) -> bool:
    return id_.epoch != other.epoch or id_.sequence > other.sequence


def sha_of(script: str) -> str:
    """Return the name under which the server knows a script."""
    return sha1(script.encode()).hexdigest()  # noqa: S324 -- Redis' name for it


def _limits_of(limits: Retention, max_age: float | None) -> list[Value]:
    return [_number(limits.max_events), _number(limits.max_bytes), _number(max_age)]


def _number(limit: float | None) -> Value:
    return -1 if limit is None else limit


def _claim_args(claim: Claim) -> list[Value]:
    return [
        claim.topic,
        claim.expected or "",
        claim.token or "",
        claim.value or "",
        "" if claim.seconds is None else claim.seconds,
        "1" if claim.clear else "",
    ]


def _result(epoch: str, first: int, count: int) -> Result:
    if count == LOST:
        return LOST
    return AGAIN if count == AGAIN else [EventId(epoch, first + n) for n in range(count)]
