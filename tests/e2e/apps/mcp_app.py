# A server of the Model Context Protocol, by its own package `mcp`, whose one import of sse-starlette is replaced.
#
# `sse_trio.compat.install()` replaces it: `from sse_starlette import EventSourceResponse` in mcp/server/sse.py and
# mcp/server/streamable_http.py finds ours. Nothing of `mcp` is changed.
# `/sse` is its SSE transport, `/mcp` its streamable HTTP.

from __future__ import annotations

import anyio
from _report import report

import sse_trio.compat

sse_trio.compat.install()

import mcp.server.sse  # noqa: E402
import mcp.server.streamable_http  # noqa: E402
from mcp.server.mcpserver import Context, MCPServer  # noqa: E402

for module in (mcp.server.sse, mcp.server.streamable_http):
    assert module.EventSourceResponse is sse_trio.compat.EventSourceResponse

server = MCPServer("counter")


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and tell of it."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"at {number}")
    return f"counted to {to}"


@server.tool()
async def wait(name: str, ctx: Context) -> str:
    """Wait until the client has left."""
    try:
        await ctx.report_progress(0)
        await anyio.sleep_forever()
    finally:
        report("cleaned up", name)
    return ""


inner = server.streamable_http_app()
inner.router.routes.extend(server.sse_app().routes)


async def app(scope, receive, send):
    """Say when the application has returned from a GET: by then its stream has ended."""
    try:
        await inner(scope, receive, send)
    finally:
        if scope.get("method") == "GET":
            report("returned", scope["path"])
