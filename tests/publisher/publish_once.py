# What test_publisher.py runs in a process of multiprocessing, which unpickles it by the name of this module.
#
# Rule: nothing of `tests` is imported here. Tests are no package that another process can import.

from __future__ import annotations

from sse_trio.publisher import Publisher


def publish_once(url, options, data):
    """Publish one event from a publisher of this process."""
    with Publisher(url, **options) as publisher:
        publisher.publish("pool", data)
