# What anyio lacks, for each event loop: a bare wait and wake-up, a task outside every task group, one ticker for all.
#
#   loop.py         the protocols
#   current.py      current_loop(): the one that runs
#   cancellation.py  whose cancellation it is: a scope's, a task's, or nobody's
#   trio.py         trio's side; nothing else imports trio
#   asyncio.py      asyncio's side; nothing else imports asyncio
#   ticker.py       the one clock of all streams of a run

from __future__ import annotations

__all__ = ()
