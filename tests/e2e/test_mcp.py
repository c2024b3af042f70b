# The proof of sse_trio.compat: the server of the package `mcp`, written for sse-starlette, serves its own client.
#
# apps/mcp_app.py says how the import is replaced. On uvicorn it runs on asyncio, on hypercorn's trio worker on trio.

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import sse_trio

from ._servers import HERE, Server, patience, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

REASON = "not applicable: mcp 2 needs newer versions than the oldest that are tested"
pytest.importorskip("mcp.client", reason=REASON)

from mcp import MCPError  # noqa: E402
from mcp.client.session import ClientSession  # noqa: E402
from mcp.client.sse import sse_client  # noqa: E402
from mcp.client.streamable_http import streamable_http_client  # noqa: E402

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

TRACEBACK = "Traceback (most recent call last)"
# mcp answers with an empty response of its own when the stream has ended. hypercorn complains where the client has
# left; it does so with sse-starlette, too.
SECOND_HEAD = "hypercorn.utils.UnexpectedMessageError: Unexpected message type, http.response.start given the state"
TRANSPORTS = {"/sse": sse_client, "/mcp": streamable_http_client}


@pytest.fixture(scope="module", params=["uvicorn-httptools", "hypercorn-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    paths = os.pathsep.join([str(Path(sse_trio.__file__).parents[1]), str(HERE / "apps")])
    with serve(request.param, tmp_path_factory.mktemp("mcp"), app="mcp_app:app", PYTHONPATH=paths) as server:
        yield server
        server.terminate()
        server.wait_gone(2 * patience())
        assert server.text.count(TRACEBACK) == server.text.count(SECOND_HEAD)


@asynccontextmanager
async def open_session(server, path):
    """The official client of that transport, initialized."""
    url = f"http://127.0.0.1:{server.port}{path}"
    async with TRANSPORTS[path](url) as streams, ClientSession(*streams[:2]) as session:
        initialized = await session.initialize()
        assert initialized.server_info.name == "counter"
        yield session


# The client of /mcp leaves async generators of httpx2 unfinished, of which trio complains.
@pytest.mark.parametrize(("path", "anyio_backend"), [("/sse", "asyncio"), ("/sse", "trio"), ("/mcp", "asyncio")])
async def test_a_server_of_mcp(server, path, anyio_backend_name):
    """It is initialized, lists its tools, calls one with its progress, and has cleaned up when its client has left."""
    name = f"{path} on {anyio_backend_name}"
    progress, waiting = [], anyio.Event()

    async def note(*update):
        progress.append(update)

    async def note_waiting(*_):
        waiting.set()

    async def call_and_leave(session):
        with pytest.raises(MCPError):
            await session.call_tool("wait", {"name": name}, progress_callback=note_waiting)

    # The call outlives the session: one that is cancelled would tell the server, and that is not to be what ends it.
    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group, open_session(server, path) as session:
            assert {tool.name for tool in (await session.list_tools()).tools} == {"count", "wait"}
            result = await session.call_tool("count", {"to": 3}, progress_callback=note)
            assert [content.text for content in result.content] == ["counted to 3"]
            assert progress == [(1.0, 3.0, "at 1"), (2.0, 3.0, "at 2"), (3.0, 3.0, "at 3")]
            task_group.start_soon(call_and_leave, session)
            await waiting.wait()
    server.wait_report("cleaned up", name)
    server.wait_report("returned", path)
