# The side channel from a server's process to the test: one JSON line for each thing that happened.

from __future__ import annotations

import json
import os
import time

__all__ = ("report",)


def report(what: str, name: str, **more: object) -> None:
    """Tell the test. Opened anew each time: the test holds the other end, so neither end ever waits for the other."""
    line = json.dumps({"what": what, "name": name, "at": time.monotonic(), "more": more}) + "\n"
    with open(os.environ["SSE_E2E_REPORTS"], "a", encoding="utf-8") as lines:  # noqa: PTH123
        lines.write(line)
