# What a process knows of a hub's history, and whether a failover has lost some of it. Blocks.
#
# Rule 1: PostgreSQL counts its timelines: each promotion of a replica, and each restore to a moment, begins a new one.
#         Whoever uses a timeline first notes in the database at which event of the hub it began.
# Rule 2: a process that has seen a later event than that, on an earlier timeline, knows that events are gone which
#         somebody has: the history gets a new epoch, and every reader a gap. A failover that lost nothing
#         changes nothing.
# Rule 3: ids are not given twice. What an asynchronous replica lacked may have reached clients of processes that are
#         gone too. So the ids of a new timeline begin far beyond all that can have been given.
# Rule 4: an id in between was given by the primary that is gone. It belongs to no history that there is.
# Rule 5: what is noted is only added to. So what was read without the lock of the hub is true, if not all.

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, final

from .._protocol import EventId, new_epoch
from .connection import PostgresConnection, transaction

__all__ = ("SKIPPED", "Failovers")

SKIPPED = 1_000_000_000
"""Ids that nobody gets when a timeline begins: more than an asynchronous replica can lack."""

_NOTED_AS = bytes(16)  # the writer as which they are noted; others have random numbers
_HUB = "SELECT id, epoch, sequence FROM hubs WHERE name = %s"
_NOTED = "SELECT firsts, counts FROM writers WHERE hub = %s AND writer = %b"
_NOTE = (
    "INSERT INTO writers (hub, writer, number, firsts, counts, time) VALUES (%s, %b, 0, %s, %s, 'infinity') "
    "ON CONFLICT (hub, writer) DO UPDATE SET firsts = excluded.firsts, counts = excluded.counts"
)


class _Noted(NamedTuple):
    """The hub, the timelines that were used, and the newest event when each of them began."""

    hub: int
    epoch: str
    sequence: int
    timelines: list[int]
    began_after: list[int]


@final
class Failovers:
    """Of one hub, as one connection at a time sees it.

    Args:
        hub: its name.
        begins: the statements that begin a transaction that reads, and one that writes.
        notify: wakes the followers, when the transaction commits.
    """

    def __init__(self, hub: str, begins: tuple[str, str], notify: Callable[[PostgresConnection], object]) -> None:
        self._hub = hub
        self._begin_read, self._begin_write = begins
        self._notify = notify
        self._timeline: int | None = None
        self._seen = EventId("", 0)
        self._lost: EventId | None = None  # of a primary that is gone, known by a thread that told only later
        self._noted = _Noted(0, "", 0, [], [])

    def note(self, seen: EventId) -> None:
        """Note an event that is known. Threads may note theirs in another order than that of the events."""
        if self.has_lost(seen):
            self._lost = seen
        elif seen.epoch != self._seen.epoch or seen.sequence > self._seen.sequence:
            self._seen = seen

    def lack(self, epoch: str, sequence: int) -> bool:
        """Whether a history that ends there has less than is known of it."""
        return epoch == self._seen.epoch and sequence < self._seen.sequence

    def look(self, connection: PostgresConnection) -> None:
        """Look whether the server is on another timeline than it was, and note it."""
        timeline = connection.timeline
        if timeline is None or (timeline == self._timeline and self._lost is None):
            return
        with transaction(connection, self._begin_read):
            noted = self._read(connection, _HUB)
        if timeline not in noted.timelines or self._knows_of_more(noted):
            with transaction(connection, self._begin_write):
                noted = self._write(connection, timeline)
        self._noted = noted
        self._timeline = timeline
        self._lost = None

    def has_lost(self, id_: EventId) -> bool:
        """Whether a primary gave this id that is gone, and its event with it."""
        # No failover came before the first timeline.
        began = self._noted.began_after[1:] if id_.epoch == self._noted.epoch else []
        return any(end < id_.sequence < end + SKIPPED for end in began)

    def _knows_of_more(self, noted: _Noted) -> bool:
        if self._lost is not None and noted.epoch == self._lost.epoch:
            return True
        if self._timeline is None or noted.epoch != self._seen.epoch:
            return False
        later = [at for n, at in zip(noted.timelines, noted.began_after, strict=True) if n > self._timeline]
        return bool(later) and min(later) < self._seen.sequence

    def _read(self, connection: PostgresConnection, query: str) -> _Noted:
        hub, epoch, sequence = connection.run(query, (self._hub,)).fetchone() or (0, "", 0)
        began_after, timelines = connection.run(_NOTED, (hub, _NOTED_AS)).fetchone() or ([], [])
        return _Noted(hub, epoch, sequence, timelines, began_after)

    def _write(self, connection: PostgresConnection, timeline: int) -> _Noted:
        noted = self._read(connection, f"{_HUB} FOR NO KEY UPDATE")
        if not noted.hub:
            return noted  # the history is lost, and the next append starts another one
        sequence = noted.sequence
        if timeline not in noted.timelines:
            sequence += SKIPPED if noted.timelines else 0
            noted = noted._replace(
                timelines=[*noted.timelines, timeline], began_after=[*noted.began_after, noted.sequence]
            )
        epoch = new_epoch() if self._knows_of_more(noted) else noted.epoch
        connection.run(_NOTE, (noted.hub, _NOTED_AS, noted.began_after, noted.timelines))
        connection.run("UPDATE hubs SET epoch = %s, sequence = %s WHERE id = %s", (epoch, sequence, noted.hub))
        self._notify(connection)
        return noted._replace(epoch=epoch, sequence=sequence)
