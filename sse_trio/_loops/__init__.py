# What anyio lacks, for each event loop: bare waiting and waking, a task outside every task group, one ticker.
#
#   loop.py         the protocols
#   current.py      current_loop(): the running loop
#   cancellation.py  where a cancellation comes from: a scope, Task.cancel(), or neither
#   trio.py         the trio implementation; no other file imports trio
#   asyncio.py      the asyncio implementation; no other file imports asyncio
#   uninterrupted.py  what is done to its end, whoever cancels
#   ticker.py       calls every stream of a run when its next deadline comes

from __future__ import annotations

__all__ = ()
