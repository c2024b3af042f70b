# The parts of SQLiteStore: the file, its one writer, its readers, and how other processes are woken.

from __future__ import annotations

__all__ = ()
