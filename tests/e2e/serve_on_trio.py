# `hypercorn.trio.serve` in a program of one's own, with the shutdown trigger that such a program has to bring.

from __future__ import annotations

import signal
import sys
from importlib import import_module

import trio
from hypercorn.config import Config
from hypercorn.trio import serve


async def wait_sigterm(*, task_status: trio.TaskStatus[trio.Event]) -> None:
    asked = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started(asked)
        async for _ in signals:
            asked.set()


async def main(target: str, *options: str) -> None:
    module, _, name = target.partition(":")
    config = Config.from_mapping(bind=["127.0.0.1:0"], errorlog="-", graceful_timeout=3.0)
    for argument in options:
        key, _, value = argument.removeprefix("--").partition("=")
        option = key.replace("-", "_")
        setattr(config, option, type(getattr(config, option) or "")(value))
    async with trio.open_nursery() as nursery:
        asked = await nursery.start(wait_sigterm)
        await serve(getattr(import_module(module), name), config, shutdown_trigger=asked.wait)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
