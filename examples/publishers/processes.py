# Processes of multiprocessing that share a publisher, which is a global of their module.
#
#     python examples/publishers/processes.py

from __future__ import annotations

import multiprocessing
import os

from sse_trio.publisher import Publisher

publisher = Publisher(os.environ.get("STORE", "events.sqlite"))


def square(number: int) -> int:
    """Publish the square of a number, in one of the processes."""
    publisher.publish("squares", number * number)
    return number * number


def main() -> None:
    """Square some numbers."""
    publisher.publish("squares", {"event": "begin", "data": 8})
    with multiprocessing.Pool(4) as pool:
        print(sum(pool.map(square, range(8))))
    publisher.publish("squares", {"event": "end"})


if __name__ == "__main__":
    main()
