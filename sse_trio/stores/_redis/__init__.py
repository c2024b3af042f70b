# The parts of RedisStore: the connections, the log that this process reads, and the scripts that run in Redis.

from __future__ import annotations

__all__ = ()
