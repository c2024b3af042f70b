# A hub's log in Redis: the arguments of the scripts, and the meaning of their answers. No connections, no retries.
#
# Rule 1: the caller passes the client, and no other task uses it during the call.
# Rule 2: every answer names the epoch and the newest id. Every call sends the newest id seen, so that the script
#         notices if the server has lost events that this process knows of.

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha1
from typing import cast, final

from coredis import Redis
from coredis.exceptions import NoScriptError

from .._follower import FOLLOWED_AT_ONCE
from .._gaps import Start, asked_for, make_page
from .._group_commit import AGAIN, LOST, Append, Result
from .._holds import Claim, Held
from .._protocol import EventId, Page, StoredEvent, new_epoch
from .._retention import KEY_SECONDS, MAX_FORGOTTEN, Retention, narrowest_age
from .._scan import events_of_a_step
from .._topics import TopicFilter
from .scripts import APPEND, HOLDS, READ

__all__ = ("RedisLog",)

_SCAN = 2048  # entries that one script looks at: 2 or 3 ms in which the server does nothing else
_INDEXED = 8192  # index entries that one script merges, for topics that are named: 2 or 3 ms, too


@final
class RedisLog:
    """The log of one hub.

    Args:
        name: of the hub; all its keys begin with it, in braces.
        hub: limits of the whole.
        topic: limits of each topic.
        clock: seconds since 1970.
        remember_keys: seconds for which keys are remembered.
    """

    def __init__(
        self,
        name: str,
        hub: Retention,
        topic: Retention,
        clock: Callable[[], float],
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        self._remember_keys = remember_keys
        self._root = f"{{{name}}}:"
        self._clock = clock
        self._writer = secrets.token_hex(8)
        self._generation = ""
        self._seen = EventId("", 0)
        limits = (hub.max_events, hub.max_bytes, narrowest_age(hub, topic), topic.max_events, topic.max_bytes)
        self._limits = [-1 if limit is None else limit for limit in limits]

    @property
    def epoch(self) -> str:
        """The epoch of the newest answer."""
        return self._seen.epoch

    async def append(self, client: Redis[bytes], group: Sequence[Append], number: int) -> list[Result]:
        """Append a group. Sent again with the same number, which grows with every group, it is appended once."""
        args: list[str | bytes | float] = []
        for append in group:
            args.append("" if append.key is None else f"{append.key[0]}:{append.key[1]}")
            args += ["" if append.claim is None else "1", len(append.items)]
            if append.claim is not None:
                args += _claim_args(append.claim)
            for topic, payload in append.items:
                args += [topic, payload]
        results = await self._append(client, self._writer, number, args)
        epoch = self._seen.epoch
        return [
            _result(EventId(epoch, int(first)), int(count))
            for first, count in zip(results[::2], results[1::2], strict=True)
        ]

    async def maintain(self, client: Redis[bytes]) -> None:
        """Trim events that are too old."""
        await self._append(client, "", 0, [])

    async def _append(
        self, client: Redis[bytes], writer: str, number: int, args: Iterable[str | bytes | float]
    ) -> list[bytes]:
        head: list[str | bytes | float] = [self._clock(), writer, number, math.ceil(self._remember_keys)]
        epoch, sequence, *results = await self._run(client, APPEND, [*head, *self._limits, MAX_FORGOTTEN, *args])
        self._saw(EventId(epoch.decode(), int(sequence)))
        return results

    async def read(self, client: Redis[bytes], topics: TopicFilter, after: EventId | Page | None, limit: int) -> Page:
        """See :meth:`EventStore.read`."""
        id_, known_to = asked_for(after)
        start: Start | None = None
        while True:
            asked = id_ if id_ is not None else EventId("", -1)
            answer = await self._read(client, topics, "after", asked, known_to, limit)
            start = start or Start(asked.sequence, answer.missed)  # a later look no longer reports the same gap
            if answer.events or answer.last == answer.tip.sequence or not start.missed:
                return make_page(after, start, answer.events, answer.last, answer.tip, answer.trimmed_to)
            id_, known_to = EventId(answer.tip.epoch, answer.last), answer.trimmed_to

    async def read_last(self, client: Redis[bytes], topics: TopicFilter, count: int) -> Page:
        """See :meth:`EventStore.read_last`."""
        first = await self._read(client, topics, "last", EventId("", 2**53), 0, count)
        answer = first
        newest = list(answer.events)
        while len(newest) < count and answer.last > 0:
            answer = await self._read(client, topics, "last", EventId("", answer.last), 0, count - len(newest))
            newest += answer.events
        events = tuple(sorted(newest))
        return Page(events, first.tip, None, first.tip, EventId(first.tip.epoch, first.trimmed_to))

    async def _read(
        self, client: Redis[bytes], topics: TopicFilter, way: str, asked: EventId, known_to: int, limit: int
    ) -> _Answer:
        if not topics.prefixes:
            limit = min(limit, max(1, _INDEXED // len(topics.exact)))
        scan = events_of_a_step(_SCAN, topics)
        args: list[str | bytes | float] = [way, asked.epoch, asked.sequence, known_to, limit, scan]
        args += [len(topics.exact), *topics.exact, *topics.prefixes]
        generation, *fields = await self._run(client, READ, args)
        self._generation = generation.decode()
        answer = _Answer(fields)
        self._saw(answer.tip)
        return answer

    async def held(self, client: Redis[bytes], *what: str | float) -> list[Held]:
        """Return the record of a topic (``"one", topic``), or those due first (``"due", prefix, limit``)."""
        generation, epoch, sequence, *fields = await self._run(client, HOLDS, what)
        self._generation = generation.decode()
        self._saw(EventId(epoch.decode(), int(sequence)))
        records = zip(fields[::4], fields[1::4], fields[2::4], fields[3::4], strict=True)
        return [_as_held(epoch.decode(), *record) for record in records]

    async def wait_page(self, client: Redis[bytes], after: EventId | Page, seconds: float) -> Page | None:
        """Wait for events of the hub. None if there were none, or if only the script can tell what happened."""
        id_, known_to = asked_for(after)
        assert id_ is not None
        log = f"{self._root}{self._generation}:log"
        found = await client.xread({log: f"{id_.sequence}-0"}, count=FOLLOWED_AT_ONCE, block=round(seconds * 1000))
        events: list[StoredEvent] = []
        for entry in next(iter(found.values())) if found else ():
            sequence = int(cast("bytes", entry.identifier).partition(b"-")[0])
            topic, payload, _, epoch = cast("Iterable[bytes]", entry.field_values.values())
            if sequence != id_.sequence + len(events) + 1 or epoch.decode() != id_.epoch:
                break  # a hole, or another history: only the script can tell what it means
            events.append(StoredEvent(EventId(id_.epoch, sequence), topic.decode(), payload))
        if not events:
            return None
        self._saw(events[-1].id)
        return Page(tuple(events), events[-1].id, None, events[-1].id, EventId(id_.epoch, known_to))

    async def _run(self, client: Redis[bytes], script: str, args: Iterable[str | bytes | float]) -> list[bytes]:
        known = (new_epoch(), self._seen.epoch, self._seen.sequence)
        keys, values = [f"{self._root}meta"], [*known, *args]
        try:
            answer = await client.evalsha(sha1(script.encode()).hexdigest(), keys, values)  # noqa: S324 -- Redis' name
        except NoScriptError:  # the server is new, or has dropped its scripts
            answer = await client.eval(script, keys, values)
        return cast("list[bytes]", answer)

    def _saw(self, id_: EventId) -> None:
        if id_.epoch != self._seen.epoch or id_.sequence > self._seen.sequence:
            self._seen = id_


def _claim_args(claim: Claim) -> list[str | bytes | float]:
    return [
        claim.topic,
        claim.expected or "",
        claim.token or "",
        claim.value or "",
        "" if claim.seconds is None else claim.seconds,
        "1" if claim.clear else "",
    ]


def _result(first: EventId, count: int) -> Result:
    if count == LOST:
        return LOST
    return AGAIN if count == AGAIN else [EventId(first.epoch, first.sequence + n) for n in range(count)]


def _as_held(epoch: str, topic: bytes, token: bytes, value: bytes, due_in: bytes) -> Held:
    sequence, _, value = value.partition(b" ")
    return Held(topic.decode(), token.decode(), value, float(due_in), EventId(epoch, int(sequence)))


class _Answer:
    """The answer of the script READ, without the generation."""

    def __init__(self, answer: list[bytes]) -> None:
        epoch = answer[0].decode()
        self.tip = EventId(epoch, int(answer[1]))
        self.trimmed_to = int(answer[2])
        self.missed = bool(int(answer[3]))
        self.last = int(answer[4])
        found = zip(answer[5::3], answer[6::3], answer[7::3], strict=True)
        self.events = tuple(
            [StoredEvent(EventId(epoch, int(sequence)), topic.decode(), payload) for sequence, topic, payload in found]
        )
