# Starts the demo: `python examples/demo [--server hypercorn|uvicorn] [--host HOST] [--port PORT]`.
#
# This process starts the server (serve.py), and the same with sse-starlette on the next port, if that is installed. It
# publishes the numbers, runs the clients that read them (crew.py), and obeys the buttons of the page.
#
# Rule 1: Ctrl+C ends the demo at once, with the page open. The servers would wait for open streams; the streams end
#         because `ServerBridge` in app.py tells them that the server wants to stop.
# Rule 2: until a visitor presses a button there is one server and no client, and nothing is published.

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from crew import Crew, open_http
from process import PATIENCE, ServerProcess
from shared import FILLER, ORDERS, REPORTS, TOPIC, Tally, open_shared_hub

from sse_trio import Hub, ServerSentEvent

MANY, FEW = 50, 5  # clients that are opened, stalled or kicked by a button
RATE = 20  # numbers a second
REPORT_EVERY = 0.5  # seconds
log = logging.getLogger("demo")


class Side:
    """One library: its server, its clients, and its producers."""

    def __init__(self, server: ServerProcess, crew: Crew, tally: Tally) -> None:
        self.server = server
        self.crew = crew
        self._tally = tally
        self._left_behind = 0

    def report(self) -> dict[str, object]:
        """What there is to show of it."""
        started, cleaned_up = self._tally.count()
        return {
            **self.crew.report(),
            "started": started,
            "cleaned_up": cleaned_up,
            "left_behind": self._left_behind,
            "stopped_in": self.server.stopped_in,
        }

    async def restart(self) -> None:
        """Stop the server and start it again. A producer that has not cleaned up by then never will."""
        await self.server.stop()
        started, cleaned_up = self._tally.count()
        self._left_behind = started - cleaned_up
        await self.server.start()


class Demo:
    """What the buttons do."""

    def __init__(self, hub: Hub, sides: dict[str, Side]) -> None:
        self._hub = hub
        self._sides = sides
        self._number = 0
        self._is_active = False
        self._restarting = False

    async def obey(self) -> None:
        """Carry out what the visitors order."""
        orders = {"open": self._open, "stall": self._stall, "kick": self._kick, "restart": self._restart}
        async with self._hub.subscribe(ORDERS) as subscription, anyio.create_task_group() as task_group:
            async for order in subscription:
                task_group.start_soon(orders[str(order.data)])

    async def _open(self) -> None:
        if not self._is_active and len(self._sides) > 1:
            await self._sides["sse-starlette"].server.start()
        for side in self._sides.values():
            side.crew.open(MANY)
        if not self._is_active:
            self._is_active = True
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(self._publish)
                task_group.start_soon(self._report)

    async def _stall(self) -> None:
        for side in self._sides.values():
            side.crew.stall(FEW)

    async def _kick(self) -> None:
        for client in self._sides["sse_trio"].crew.clients[:FEW]:
            await self._hub.kick({"client": client.name})

    async def _restart(self) -> None:
        if self._restarting:
            return
        self._restarting = True
        sides = [*self._sides.values()] if self._is_active else [self._sides["sse_trio"]]
        async with anyio.create_task_group() as task_group:
            for side in sides:
                task_group.start_soon(side.restart)
        self._restarting = False

    async def _publish(self) -> None:
        while True:
            self._number += 1
            await self._hub.publish(TOPIC, f"{self._number} {FILLER}")
            await anyio.sleep(1 / RATE)

    async def _report(self) -> None:
        last: dict[str, object] = {}
        while True:
            report: dict[str, object] = {name: side.report() for name, side in self._sides.items()}
            if report != last:
                await self._hub.publish(REPORTS, ServerSentEvent.json(report))
            last = report
            await anyio.sleep(REPORT_EVERY)


@asynccontextmanager
async def open_sides(
    modules: dict[str, str], server: str, host: str, port: int, folder: str
) -> AsyncIterator[dict[str, Side]]:
    """Run the server, and the clients of both; stop all of it at the end."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http())
        sides: dict[str, Side] = {}
        for number, (name, module) in enumerate(modules.items()):
            process = ServerProcess(server, module, host, port + number, folder)
            stack.push_async_callback(stop_surely, process, PATIENCE if module == "app" else 0.0)
            tally = stack.enter_context(Tally(Path(folder) / name))
            task_group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(task_group.cancel_scope.cancel)
            sides[name] = Side(process, Crew(process.url, http, task_group), tally)
        await sides["sse_trio"].server.start()
        yield sides


async def stop_surely(process: ServerProcess, patience: float) -> None:
    """Stop a server, also when the demo is cancelled."""
    with anyio.CancelScope(shield=True):
        await process.stop(patience)


async def run(modules: dict[str, str], server: str, host: str, port: int) -> int:
    """Run the demo until Ctrl+C or SIGTERM; return its exit status."""
    status = 0
    with TemporaryDirectory() as folder:
        async with (
            open_shared_hub(folder) as hub,
            open_sides(modules, server, host, port, folder) as sides,
            anyio.create_task_group() as task_group,
        ):
            task_group.start_soon(Demo(hub, sides).obey)
            task_group.start_soon(cancel_at_signal, task_group.cancel_scope)
            status = await sides["sse_trio"].server.wait_failed()
            task_group.cancel_scope.cancel()
    return status


async def cancel_at_signal(scope: anyio.CancelScope) -> None:
    """Cancel the demo at Ctrl+C and SIGTERM."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def main() -> None:
    """Read the command line and run until told to stop."""
    parser = argparse.ArgumentParser(description="Shows Server-Sent Events that nothing can stop.")
    parser.add_argument("--server", choices=("hypercorn", "uvicorn"), default="hypercorn")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--alone", action="store_true", help="leave sse-starlette out, although it is installed")
    options = parser.parse_args()
    modules = {"sse_trio": "app"}
    if not options.alone and find_spec("sse_starlette"):
        modules["sse-starlette"] = "theirs"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for chatty in ("httpx", "sse_trio"):  # of the clients, each of which would say that it connects again
        logging.getLogger(chatty).setLevel(logging.ERROR)
    log.info("http://%s:%s, %s. Ctrl+C ends it.", options.host, options.port, options.server)
    sys.exit(anyio.run(run, modules, options.server, options.host, options.port, backend="trio"))


if __name__ == "__main__":
    main()
