# A program for each client: its output line by line, and its end when the client leaves.
#
#     python examples/subprocess_output.py
#     curl -N http://127.0.0.1:8000/logs/app       # Ctrl+C here stops the program there
#
# docs/subprocess.md shows what stands between the two marks, and explains it.

from __future__ import annotations

# docs: begin
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge

LOGS = {"app": os.environ.get("LOG", "app.log")}  # what clients may ask for


@asynccontextmanager
async def running(command: Sequence[str]) -> AsyncIterator[Process]:
    """Run a program, and stop it and everything that it has started."""
    process = await anyio.open_process(command, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            signal_group(process, signal.SIGTERM)
            with anyio.move_on_after(2):
                await process.wait()
            signal_group(process, signal.SIGKILL)
            await process.aclose()


def signal_group(process: Process, number: int) -> None:
    """Send a signal to a program and its children."""
    with suppress(ProcessLookupError):  # they have all ended
        os.killpg(process.pid, number)


async def program_output(send_channel: EventSendChannel, command: Sequence[str]) -> None:
    """Send each line of a program's output, and its exit code at the end."""
    async with running(command) as process:
        assert process.stdout is not None
        unfinished = ""
        async for text in TextReceiveStream(process.stdout, errors="replace"):
            *lines, unfinished = (unfinished + text).split("\n")
            for line in lines:
                await send_channel.send(line)
        if unfinished:
            await send_channel.send(unfinished)
        await send_channel.send({"event": "exit", "data": await process.wait()})


async def watch(request: Request) -> EventSourceResponse:
    """Follow a log file until the client leaves."""
    name = request.path_params["name"]
    if name not in LOGS:
        raise HTTPException(404, "there is no such log")
    return EventSourceResponse(program_output, ("tail", "-n", "+1", "-F", LOGS[name]))


app = Starlette(routes=[Route("/logs/{name}", watch)])
app.add_middleware(ServerBridge)
# docs: end

if __name__ == "__main__":
    from _serve import serve

    serve(app)
