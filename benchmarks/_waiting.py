# How a benchmark waits for what tasks and servers do.

from __future__ import annotations

import anyio

PATIENCE = 120  # seconds after which something hangs


async def comes_true(condition):
    """Return whether this is true within PATIENCE."""
    with anyio.move_on_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.02)
        return True
    return False
