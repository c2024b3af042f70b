# The parts of MemoryStore: what is kept and what goes (hub_log.py), and what that is made of.

from __future__ import annotations

__all__ = ()
