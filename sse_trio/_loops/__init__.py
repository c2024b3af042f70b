# What anyio lacks, for each event loop: a bare wait and wake-up, a task outside of every task group, one ticker for all.
#
#   loop.py         the protocols, and current_loop()
#   trio.py         trio's side; nothing else imports trio
#   asyncio.py      asyncio's side; nothing else imports asyncio
#   ticker.py       the one clock of all streams of a run

from __future__ import annotations

__all__ = ()
