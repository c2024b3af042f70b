# A script without an event loop, as cron runs it, that tells subscribers what it has found.
#
#     python examples/publishers/script.py

from __future__ import annotations

import os
import shutil

from sse_trio import ServerSentEvent
from sse_trio.publisher import Publisher


def main() -> None:
    """Publish how full the disk is."""
    usage = shutil.disk_usage("/")
    with Publisher(os.environ.get("STORE", "events.sqlite")) as publisher:
        id_ = publisher.publish("disk", ServerSentEvent.json({"free": usage.free, "total": usage.total}))
    print(id_)


if __name__ == "__main__":
    main()
