# One transaction that writes to a hub: its state in memory, from what is read first to what is written last. Blocks.
#
# Rule 1: here is what is decided; the statements are in tables.py.
# Rule 2: sequences are counted up from the hub's row.
# Rule 3: a transaction takes a bounded number of events out of the log, besides as many as it adds. So publishers don't
#         wait for long, and no statement takes longer than is waited for its answer, in whatever try. The next
#         transaction goes on.

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import final

from .._append import LOST, Append
from .._cuts import Cuts
from .._holds import Claim
from .._retention import Retention
from .._sweeps import SWEPT_AT_ONCE, Step, look_at
from .._topic_limits import TopicLimits
from .connection import PostgresConnection
from .figures import Figures
from .holds import HoldsWriter
from .names import digest_of, from_text, to_text
from .outbox import OutboxAppend
from .tables import HubRow, Key, Result, Row, Tables

__all__ = ("Group",)

_TRIMMED_AT_ONCE = 500  # events that are looked at by one query
_TAKEN_OUT = 10_000  # events of one transaction, besides as many as it adds


@final
class Group:
    """The state of a hub within one transaction.

    Args:
        connection: in a transaction that has locked the hub.
        row: of the hub.
        now: the time, in seconds since 1970.
        ages: the shortest and the longest age of events, in seconds, or None.
        remember_keys: seconds for which keys are remembered.
    """

    def __init__(
        self,
        connection: PostgresConnection,
        row: HubRow,
        now: float,
        ages: tuple[float | None, float | None],
        remember_keys: float,
    ) -> None:
        self._tables = Tables(connection, row.id)
        self.epoch = row.epoch
        self.sequence = row.sequence
        self._now = now
        self._stamp = max(now, row.latest)
        self._latest = row.latest
        self._figures = Figures(row.events, row.size, row.trimmed_to)
        self._floor = row.floor
        self._cuts = Cuts(zip(row.cut_upto, row.cut_time, strict=True), ages, remember_keys)
        self._holds = HoldsWriter(connection, row.id)
        self._topics: dict[str, Figures] = {}
        self._keys: dict[Key, Result] = {}
        self._new_keys: list[tuple[bytes, int, int, int]] = []
        self._rows: list[tuple[int, str, bytes]] = []
        self._may_take = _TAKEN_OUT
        self.has_more: bool = False
        """Whether there may be more to trim than one transaction takes out."""

    # --- what came of a group

    def results_of(self, writer: bytes, number: int) -> list[Result] | None:
        """Return what came of a group, if it was committed."""
        return self._tables.results_of(writer, number)

    def note_results(self, writer: bytes, number: int, results: Sequence[Result], comes_back: float) -> None:
        """Note what came of a group, and for how many seconds longer than usual its writer may come back."""
        self._tables.write_results(writer, number, results, self._now + comes_back)

    # --- appending

    def append(self, group: Sequence[Append], topic_limits: TopicLimits) -> list[Result]:
        """Add the events of a group, and trim the topics that have grown."""
        if not group:
            return []
        self._load_topics({to_text(topic) for append in group for topic, _ in append.items})
        self._load_keys([key for append in group if (key := _key_of(append)) is not None])
        results = [self._append_one(append) for append in group]
        self._insert()
        for name in [*self._topics]:
            self._trim_topic(name, topic_limits.of(from_text(name)))
        return results

    def _append_one(self, append: Append) -> Result:
        key = _key_of(append)
        if key is not None and key in self._keys:
            return self._keys[key]
        if append.claim is not None and not self._take(append.claim, len(append.items)):
            return 0, LOST
        first = self.sequence + 1
        for topic, payload in append.items:
            self._add(to_text(topic), payload)
        result = first, len(append.items)
        if key is not None:
            self._keys[key] = result
            self._new_keys.append((*key, *result))
        return result

    def _take(self, claim: Claim, appended: int) -> bool:
        if not self._holds.allows(claim):
            return False
        if claim.clear:
            self._insert()
            self._clear(to_text(claim.topic))
        self._holds.change(claim, self.sequence + appended)
        return True

    def _add(self, topic: str, payload: bytes) -> None:
        self.sequence += 1
        self._may_take += 1
        self._latest = self._stamp
        self._rows.append((self.sequence, topic, payload))
        self._topics[topic].add(len(payload))
        self._figures.add(len(payload))

    def _insert(self) -> None:
        if self._rows:
            self._tables.insert_events(self._rows, self._stamp)
            self._rows.clear()

    def _load_topics(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self._topics]
        found = self._tables.topics(new)
        self._topics |= {name: found.get(name) or Figures(0, 0, self._floor) for name in new}

    def _load_keys(self, keys: Sequence[Key]) -> None:
        if keys:
            self._keys |= self._tables.keys(keys)

    def _clear(self, name: str) -> None:
        events, size, last = self._tables.clear(name)
        last = max(last, self._holds.clear(name))
        self._load_topics([name])
        self._figures.drop(events, size, last)
        topic = self._topics[name]
        topic.drop(topic.events, topic.size, last)

    # --- trimming

    def expire(self) -> None:
        """Delete what has expired; first, because it counts no more against any limit."""
        gone = self._tables.delete_expired(self._now, _TAKEN_OUT)
        self.has_more = len(gone) == _TAKEN_OUT
        if gone:
            self._load_topics({topic for topic, _ in gone})
        for topic, size in gone:
            for figures in (self._topics[topic], self._figures):
                figures.events, figures.size = figures.events - 1, figures.size - size

    def _trim_topic(self, name: str, limits: Retention) -> None:
        topic = self._topics[name]
        if limits.max_age is None and not limits.exceeded_by(topic.events, topic.size):
            return
        if self._holds.token_of(name) is not None:
            return
        last, most, oldest = 0, 1, self._oldest_time(limits.max_age)
        while limits.max_age is not None or limits.exceeded_by(topic.events, topic.size):
            most = min(most, self._may_take)
            rows = self._tables.oldest_of(name, last, most)
            for n, (sequence, size, stamp) in enumerate(rows):
                if not (limits.exceeded_by(topic.events, topic.size) or self._is_older(sequence, stamp, oldest)):
                    rows = rows[:n]
                    break
                topic.trim(sequence, size)
                self._figures.trim(sequence, size)
                last = sequence
            self._may_take -= len(rows)
            if len(rows) < most or not self._may_take:
                break
            most = _TRIMMED_AT_ONCE  # mostly a topic loses an event for each that it gets
        if last:
            self._tables.delete_of(name, last)

    def _oldest_time(self, max_age: float | None) -> float:
        return -math.inf if max_age is None else self._now - max_age

    def _is_older(self, sequence: int, stamp: float, time: float) -> bool:
        return self._cuts.time_of(sequence, stamp, self._now) < time

    def sweep(self, limits: TopicLimits, age: float, after: int) -> Step:
        """Look at events after this id, and delete what is too old of the topics that have this age."""
        rows = self._tables.oldest(after, SWEPT_AT_ONCE)
        tokens = {row[1]: row[4] for row in rows}
        oldest = self._oldest_time(age)

        def goes(topic: str) -> bool:
            return limits.of(from_text(topic)).max_age == age and tokens[topic] is None

        step = look_at(
            (row[:4] for row in rows), after, lambda sequence, stamp: self._is_older(sequence, stamp, oldest), goes
        )
        if step.gone:
            self._load_topics({topic for _, topic, _ in step.gone})
            self._tables.delete_events([sequence for sequence, _, _ in step.gone])
        for sequence, topic, size in step.gone:
            self._topics[topic].trim(sequence, size)
            self._figures.trim(sequence, size)
        return step

    def trim(self, limits: Retention, max_age: float | None) -> None:
        """Trim the hub by size and age."""
        self._cuts.see(self._now, self._latest, self.sequence)
        oldest = self._oldest_time(max_age)
        last, moves = 0, False
        while max_age is not None or limits.exceeded_by(self._figures.events, self._figures.size):
            most = min(_TRIMMED_AT_ONCE, self._may_take)
            rows = self._tables.oldest(last, most)
            self._load_topics({row[1] for row in rows})
            gone = self._count_trimmed(rows, limits, oldest)
            moves = moves or any(row[4] is not None for row in rows[:gone])
            last = rows[gone - 1][0] if gone else last
            self._may_take -= gone
            if gone < most or not self._may_take:
                self.has_more = self.has_more or not self._may_take
                break
        if moves:
            self._holds.keep(last)
        if last:
            self._tables.delete_up_to(last)

    def _count_trimmed(self, rows: Sequence[Row], limits: Retention, oldest: float) -> int:
        """Take out of the figures what has to go, and return how many of these rows that is."""
        for n, (sequence, topic, size, stamp, token) in enumerate(rows):
            too_old = self._is_older(sequence, stamp, oldest)
            if not too_old and not limits.exceeded_by(self._figures.events, self._figures.size):
                return n
            if token is None:
                self._topics[topic].trim(sequence, size)
            self._figures.trim(sequence, size)
        return len(rows)

    def forget(self, remember_writers: float, remember_keys: float, most_topics: int) -> None:
        """Drop old keys, the ends of topics beyond the number remembered, and the writers that are gone."""
        self._write_topics()
        old = self._now - remember_keys
        self._tables.forget_keys(old, self._now, self._cuts.older_than(old))
        self._tables.forget_writers(self._now - remember_writers)  # longer than a group is sent again
        self._floor = max(self._floor, self._tables.forget_topics(most_topics))

    # --- writing

    def write(self) -> None:
        """Write the figures."""
        self._cuts.forget(self._now)
        self._write_topics()
        if self._new_keys:
            self._tables.insert_keys(self._new_keys, self._stamp)
        self._tables.write_hub(self.epoch, self.sequence, self._latest, self._figures, self._floor, self._cuts.pairs)

    def _write_topics(self) -> None:
        """Write the figures of the topics, whose rows are not in memory after that."""
        self._tables.write_topics(self._topics)
        self._topics.clear()


def _key_of(append: Append) -> Key | None:
    if append.key is None:
        return None
    producer, number = append.key
    digest = append.digest if isinstance(append, OutboxAppend) else None
    return (digest if digest is not None else digest_of(producer)), number
