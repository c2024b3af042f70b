# Held topics in the file: their records, and their events that the limits of the hub would have taken. Blocks.
#
# Rule 1: the tables are made by the first transaction that writes, because older files don't have them, and opening a
#         file takes no write lock (file.py, rule 4). A reader finds them or not.
# Rule 2: when the limits of the hub reach an event of a held topic, it moves to `kept_events`, once. So trimming never
#         passes over the same events again, and a read by topic reads `kept_events` first: what it has is older.
# Rule 3: for prefixes, an event that was moved is gone: `moved_to` is the newest of them in each topic.

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import final

from .._holds import ANYONE, Claim

__all__ = ("HoldsReader", "HoldsWriter", "Record")

_TABLES = (
    """CREATE TABLE IF NOT EXISTS holds (
    topic TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    value BLOB NOT NULL,
    due REAL NOT NULL,                      -- seconds since 1970
    upto INTEGER NOT NULL,                  -- the newest id when the value was set
    moved_to INTEGER NOT NULL               -- the newest id that is in kept_events
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS kept_events (
    topic TEXT NOT NULL,
    id INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (topic, id)
) WITHOUT ROWID""",
)

_KNOWN_TOPICS = 10_000

Row = tuple[int, str, bytes]
Record = tuple[str, str, bytes, float, int]
"""Topic, token, value, the time when it is due, the newest sequence when its value was set."""


@final
class HoldsWriter:
    """The records, for as long as nothing else writes to the file."""

    __slots__ = ("_execute", "_known")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._known: dict[str, str | None] = {}

    @staticmethod
    def make_tables(connection: sqlite3.Connection) -> None:
        """Make the tables, unless there are some."""
        for table in _TABLES:
            connection.execute(table)

    def token_of(self, topic: str) -> str | None:
        """Return the token of a topic, if it is held."""
        if topic not in self._known:
            found = self._execute("SELECT token FROM holds WHERE topic = ?", (topic,)).fetchone()
            self._known[topic] = None if found is None else found[0]
        return self._known[topic]

    def forget_some(self) -> None:
        """Keep what is known of topics from growing without a bound."""
        if len(self._known) > _KNOWN_TOPICS:
            self._known.clear()

    def allows(self, claim: Claim) -> bool:
        """Whether the topic has the token that the claim expects."""
        return claim.expected in (ANYONE, self.token_of(claim.topic))

    def change(self, claim: Claim, now: float, end: int) -> None:
        """Change the record as the claim says. ``end`` is the newest sequence of the hub after it."""
        topic, expected, token, value, seconds, _ = claim
        if token == ANYONE or (token is not None and token == expected and value is None and seconds is None):
            return  # the latter is what a run does with each event
        if token is None:
            self._execute("DELETE FROM holds WHERE topic = ?", (topic,))
        elif self.token_of(topic) is None:
            row = (topic, token, value or b"", now + (seconds or 0.0), end)
            self._execute("INSERT INTO holds VALUES (?, ?, ?, ?, ?, 0)", row)
        else:
            self._update(claim, now, end)
        self._known[topic] = token

    def _update(self, claim: Claim, now: float, end: int) -> None:
        changes: dict[str, object] = {"token": claim.token}
        if claim.value is not None:
            changes |= {"value": claim.value, "upto": end}
        if claim.seconds is not None:
            changes["due"] = now + claim.seconds
        names = ", ".join(f"{name} = ?" for name in changes)
        self._execute(f"UPDATE holds SET {names} WHERE topic = ?", (*changes.values(), claim.topic))  # noqa: S608

    def keep(self, upto: int) -> None:
        """Copy the events up to this id that are of held topics, before they are deleted."""
        held = "FROM events WHERE id <= ? AND topic IN (SELECT topic FROM holds)"
        self._execute(f"INSERT INTO kept_events (topic, id, payload) SELECT topic, id, payload {held}", (upto,))
        newest = f"SELECT topic, max(id) {held} GROUP BY topic"
        for topic, last in self._execute(newest, (upto,)).fetchall():
            self._execute("UPDATE holds SET moved_to = ? WHERE topic = ?", (last, topic))

    def clear(self, topic: str) -> int:
        """Delete what was kept of a topic; return the newest sequence of it, or 0."""
        query = "SELECT coalesce(max(id), 0) FROM kept_events WHERE topic = ?"
        (last,) = self._execute(query, (topic,)).fetchone()
        if last:
            self._execute("DELETE FROM kept_events WHERE topic = ?", (topic,))
        return int(last)


@final
class HoldsReader:
    """Reads the records and the events that were kept."""

    __slots__ = ("_execute", "_exists")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._exists = False

    def exists(self) -> bool:
        """Whether any process has made the tables."""
        if not self._exists:
            query = "SELECT count(*) FROM sqlite_master WHERE name IN ('holds', 'kept_events')"
            self._exists = self._execute(query).fetchone() == (2,)
        return self._exists

    def get(self, topic: str) -> Record | None:
        """Return the record of a topic."""
        if not self.exists():
            return None
        query = "SELECT topic, token, value, due, upto FROM holds WHERE topic = ?"
        found: Record | None = self._execute(query, (topic,)).fetchone()
        return found

    def due(self, bounds: tuple[str, str], limit: int) -> list[Record]:
        """Return the records within these bounds that are due first."""
        if not self.exists():
            return []
        query = "SELECT topic, token, value, due, upto FROM holds WHERE topic >= ? AND topic < ? ORDER BY due LIMIT ?"
        return self._execute(query, (*bounds, limit)).fetchall()

    def events_after(self, topic: str, after: int) -> Iterator[Row]:
        """Return the events of a topic that were kept, the oldest first."""
        if not self.exists():
            return iter(())
        query = "SELECT id, topic, payload FROM kept_events WHERE topic = ? AND id > ? ORDER BY id"
        return self._execute(query, (topic, after))

    def newest_first(self, topic: str) -> Iterator[Row]:
        """Return the same, the newest first."""
        if not self.exists():
            return iter(())
        return self._execute("SELECT id, topic, payload FROM kept_events WHERE topic = ? ORDER BY id DESC", (topic,))

    def moved_to(self, bounds: tuple[str, str]) -> int:
        """Return the newest event below a prefix that was moved, or 0."""
        if not self.exists():
            return 0
        query = "SELECT coalesce(max(moved_to), 0) FROM holds WHERE topic >= ? AND topic < ?"
        (last,) = self._execute(query, bounds).fetchone()
        return int(last)
