# The clients of the demo: they read the numbers of one server, look for lost and repeated ones, and stall when told to.
#
# Rule 1: a client is sse_trio's own, for both servers. It reconnects as a browser does, with its `Last-Event-ID`.
# Rule 2: a number is lost if a client gets a later one without it, and twice if it comes again. A client counts from
#         the first number that it got.

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from itertools import islice

import anyio
import httpx
from anyio.abc import TaskGroup

from sse_trio.client import open_event_source

__all__ = ("Client", "Crew", "open_http")

STALL = 10.0  # seconds that a client stalls: longer than the server waits for it
RETRY = 0.2  # seconds until it connects again


def open_http() -> httpx.AsyncClient:
    """Return a client for many streams, with small receive buffers, so that one that stalls is noticed soon."""
    options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)]
    transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None), socket_options=options)
    return httpx.AsyncClient(transport=transport, trust_env=False)


@dataclass
class Client:
    """What one client has seen."""

    name: str
    last: int | None = None
    events: int = 0
    lost: int = 0
    twice: int = 0
    stalled: bool = False
    _reads: anyio.Event = field(default_factory=anyio.Event)

    def note(self, number: int) -> None:
        """Count a number that has come."""
        self.events += 1
        if self.last is not None:
            self.lost += max(0, number - self.last - 1)
            self.twice += number <= self.last
        self.last = number if self.last is None else max(self.last, number)

    async def stall(self) -> None:
        """Read nothing for a while, then go on."""
        self.stalled = True
        await anyio.sleep(STALL)
        self.stalled = False
        self._reads.set()
        self._reads = anyio.Event()

    async def wait_reading(self) -> None:
        """Wait while this client stalls."""
        while self.stalled:
            await self._reads.wait()


class Crew:
    """The clients of one server."""

    def __init__(self, url: str, http: httpx.AsyncClient, task_group: TaskGroup) -> None:
        self.clients: list[Client] = []
        self._url = url
        self._http = http
        self._task_group = task_group

    def open(self, count: int) -> None:
        """Open this many clients more."""
        for _ in range(count):
            client = Client(str(len(self.clients)))
            self.clients.append(client)
            self._task_group.start_soon(self._run, client)

    def stall(self, count: int) -> None:
        """Let this many clients read nothing for a while."""
        for client in islice((client for client in self.clients if not client.stalled), count):
            self._task_group.start_soon(client.stall)

    def report(self) -> dict[str, int]:
        """What all clients have seen."""
        clients = self.clients
        return {
            "clients": len(clients),
            "stalled": sum(client.stalled for client in clients),
            "events": sum(client.events for client in clients),
            "lost": sum(client.lost for client in clients),
            "twice": sum(client.twice for client in clients),
        }

    async def _run(self, client: Client) -> None:
        url = f"{self._url}numbers?client={client.name}"
        async with open_event_source(url, client=self._http, retry=RETRY, max_retry=5 * RETRY) as source:
            async for event in source:
                if (
                    event.event == "message"
                ):  # not a `gap`: numbers that are no longer kept count when the next one comes
                    client.note(int(event.data.partition(" ")[0]))
                await client.wait_reading()
