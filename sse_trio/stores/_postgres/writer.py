# Writing to the log: a group of appends, what users have published in their transactions, and what retention takes, in
# one transaction. Blocks; runs in a thread.
#
# Rule 1: the row of the hub is locked first, so that one transaction at a time writes to a hub. What the group needs is
#         read by a few queries, changed in memory, and written at once.
# Rule 2: a group that is sent again, because its answer was lost, is recognized: each writer leaves the number of its
#         latest group and what came of it. The lock tells when an earlier try has ended.
# Rule 3: the clock is read once in a transaction, and ages are computed as in _cuts.py.
# Rule 4: if the server has less than this process knows of, it has lost events, and the history gets a new epoch. After
#         a failover _postgres/failover.py knows more.

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

from .._append import Append
from .._protocol import EventId, new_epoch
from .._retention import KEY_SECONDS, MAX_FORGOTTEN, Retention
from .._sweeps import Sweeps
from .._topic_limits import TopicLimits
from .connection import PostgresConnection, PostgresServer, pipeline, transaction
from .failover import Failovers
from .group import Group
from .names import channel_of
from .outbox import take_waiting
from .tables import HubRow

__all__ = ("Committed", "PostgresWriter")

_HUB = (
    "SELECT id, epoch, sequence, latest, events, bytes, trimmed_to, floor, cut_upto, cut_time, "
    "extract(epoch FROM clock_timestamp())::float8 FROM hubs WHERE name = %s FOR NO KEY UPDATE"
)


class Committed(NamedTuple):
    """What came of a group: its epoch, and the first sequence and the number of events of each append."""

    epoch: str
    results: list[tuple[int, int]]


@final
class PostgresWriter:
    """Writes to one hub.

    Args:
        server: for its statements that begin transactions.
        hub: its name.
        limits: of the whole.
        topic: limits of each topic.
        clock: seconds since 1970; ``None``: the server's.
        remember_keys: seconds for which keys are remembered.
        retry_for: seconds for which a group is sent again.
    """

    def __init__(
        self,
        server: PostgresServer,
        hub: str,
        limits: Retention,
        topic: TopicLimits,
        clock: Callable[[], float] | None,
        remember_keys: float = KEY_SECONDS,
        retry_for: float = 0.0,
    ) -> None:
        self._begin = server.begin_write
        self._hub = hub
        self._channel = channel_of(server.schema, hub)
        self._limits = limits
        self._topic_limits = topic
        self._max_age = topic.hub_age
        self._sweeps = Sweeps(topic)
        self._clock = clock
        self._remember_keys = remember_keys
        # Others forget a writer after KEY_SECONDS, so one that may come back later notes a later time.
        self._comes_back = max(0.0, 2 * retry_for - KEY_SECONDS)
        self._writer = secrets.token_bytes(16)
        self.failovers = Failovers(hub, (server.begin_read, server.begin_write), self._notify)

    def commit(self, connection: PostgresConnection, group: Sequence[Append], number: int, *, again: bool) -> Committed:
        """Append a group, and before it what waits in the outbox.

        Args:
            connection: nothing else uses it meanwhile.
            group: the appends.
            number: of the group; it grows with every group.
            again: whether this group may have been committed already.
        """
        while True:
            with transaction(connection, self._begin):
                work = self._start(connection)
                known = work.results_of(self._writer, number) if again else None
                if known is None:
                    known = self._append(connection, work, group, number)
            self.failovers.note(EventId(work.epoch, work.sequence))
            if known is not None:
                return Committed(work.epoch, known)

    def _append(
        self, connection: PostgresConnection, work: Group, group: Sequence[Append], number: int
    ) -> list[tuple[int, int]] | None:
        # None if so much waits in the outbox that this transaction has moved a part of it, and nothing else.
        waiting, is_all = take_waiting(connection, self._hub)
        work.append(waiting, self._topic_limits)
        results = work.append(group, self._topic_limits) if is_all else None
        work.trim(self._limits, self._max_age)
        self._finish(connection, work)
        if results is not None:
            work.note_results(self._writer, number, results, self._comes_back)
        return results

    def move(self, connection: PostgresConnection) -> None:
        """Move what users have published in their transactions to the log, unless another process is at it."""
        with transaction(connection, self._begin):
            row = connection.run(f"{_HUB} SKIP LOCKED", (self._hub,)).fetchone()
            waiting, _ = ([], True) if row is None else take_waiting(connection, self._hub)
            if row is not None and waiting:
                work = self._group(connection, HubRow(*row))
                work.append(waiting, self._topic_limits)
                work.trim(self._limits, self._max_age)
                self._finish(connection, work)

    def maintain(self, connection: PostgresConnection) -> bool:
        """Trim what is too old: events, keys, ends of topics beyond the number remembered, writers that are gone.

        Returns whether there is more to trim.
        """
        with transaction(connection, self._begin):
            work = self._start(connection)
            work.expire()
            work.trim(self._limits, self._max_age)
            work.forget(KEY_SECONDS, self._remember_keys, MAX_FORGOTTEN)
            self._finish(connection, work)
        return work.has_more

    def sweep(self, connection: PostgresConnection) -> bool:
        """Trim by the ages that some topics have and others have not. Return whether there is more to look at."""
        if not self._sweeps.limits.ages:
            return False
        with transaction(connection, self._begin):
            work = self._start(connection)
            marks = self._sweeps.marks(work.epoch)
            steps = {age: work.sweep(self._sweeps.limits, age, after) for age, after in marks.items()}
            self._finish(connection, work)
        return self._sweeps.note(steps)

    def make_hub(self, connection: PostgresConnection) -> None:
        """Add the row of the hub, unless there is one."""
        with transaction(connection, self._begin):
            self._start(connection)

    def _start(self, connection: PostgresConnection) -> Group:
        row = connection.run(_HUB, (self._hub,)).fetchone()
        if row is None:
            connection.run(
                "INSERT INTO hubs (name, epoch) VALUES (%s, %s) ON CONFLICT DO NOTHING", (self._hub, new_epoch())
            )
            row = connection.run(_HUB, (self._hub,)).fetchone()
        assert row is not None
        return self._group(connection, HubRow(*row))

    def _group(self, connection: PostgresConnection, hub: HubRow) -> Group:
        if self.failovers.lack(hub.epoch, hub.sequence):
            hub = hub._replace(epoch=new_epoch())
        now = hub.now if self._clock is None else self._clock()
        return Group(connection, hub, now, self._topic_limits.span, self._remember_keys)

    def _finish(self, connection: PostgresConnection, work: Group) -> None:
        with pipeline(connection):
            work.write()
            self._notify(connection)

    def _notify(self, connection: PostgresConnection) -> None:
        connection.run("SELECT pg_notify(%s, '')", (self._channel,))
