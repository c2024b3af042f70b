# The parts of PostgresStore: the schema, its connections, its one writer, its readers, and what follows.

from __future__ import annotations

__all__ = ()
