# A hub's log in Redis, over coredis: what is read, and what is appended (calls.py). No connections, no retries.
#
# Rule 1: the caller passes the client, and no other task uses it during the call.
# Rule 2: every answer names the epoch and the newest id. Every call sends the newest id seen, so that the script
#         notices if the server has lost events that this process knows of.

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast, final

from coredis import Redis
from coredis.exceptions import NoScriptError

from .._append import Append, Result
from .._follower import FOLLOWED_AT_ONCE
from .._gaps import Start, asked_for, make_page
from .._holds import Held
from .._protocol import EventId, Page, StoredEvent
from .._retention import KEY_SECONDS, Retention
from .._scan import events_of_a_step
from .._topic_limits import TopicLimits
from .._topics import TopicFilter
from .calls import RedisCalls, sha_of
from .scripts import ADOPT, APPEND, HOLDS, READ

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
        self._calls = RedisCalls(name, hub, topic, clock, remember_keys, retry_for)
        self._root = self._calls.root
        self._generation = ""

    @property
    def key(self) -> str:
        """One of the hub's keys. All are in the same slot of a cluster."""
        return self._calls.keys[0]

    @property
    def epoch(self) -> str:
        """The epoch of the newest answer."""
        return self._calls.seen.epoch

    async def adopt(self, client: Redis[bytes], replication_id: str) -> None:
        """Tell the hub which server it is on: on another one it begins a new epoch, and keeps what it has."""
        self._calls.adopted(await self._run(client, ADOPT, self._calls.adopt(replication_id)))

    async def append(self, client: Redis[bytes], group: Sequence[Append], number: int) -> list[Result]:
        """Append a group. Sent again with the same number, which grows with every group, it is appended once."""
        return self._calls.appended(await self._run(client, APPEND, self._calls.append(group, number)))

    async def maintain(self, client: Redis[bytes]) -> bool:
        """Trim events that are too old. Return whether there is more to look at."""
        return self._calls.maintained(await self._run(client, APPEND, self._calls.maintain()))

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
        self._calls.saw(answer.tip)
        return answer

    async def held(self, client: Redis[bytes], *what: str | float) -> list[Held]:
        """Return the record of a topic (``"one", topic``), or those due first (``"due", prefix, limit``)."""
        generation, epoch, sequence, *fields = await self._run(client, HOLDS, what)
        self._generation = generation.decode()
        self._calls.saw(EventId(epoch.decode(), int(sequence)))
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
        self._calls.saw(events[-1].id)
        return Page(tuple(events), events[-1].id, None, events[-1].id, EventId(id_.epoch, known_to))

    async def _run(self, client: Redis[bytes], script: str, args: Iterable[str | bytes | float]) -> list[bytes]:
        keys, values = self._calls.keys, self._calls.values(args)
        try:
            answer = await client.evalsha(sha_of(script), keys, values)
        except NoScriptError:  # the server is new, or has dropped its scripts
            answer = await client.eval(script, keys, values)
        return cast("list[bytes]", answer)


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
