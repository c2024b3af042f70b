"""``app.add_middleware(ServerBridge)``: what streams can do where the bridge is inside of the application."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ._client import SMALL, Client
from ._servers import SETUPS, patience, serve, serve_command, wait_accepting

pytestmark = pytest.mark.e2e

APP = "middleware_app:app"
OUTSIDE = {"": "fastapi", "opentelemetry": "opentelemetry.instrumentation.fastapi", "sentry": "sentry_sdk"}
# With others outside on three servers only, since each takes seconds to start with them.
FEWER = {
    "opentelemetry": ("uvicorn-h11", "hypercorn-trio+express", "hypercorn-asyncio"),
    "sentry": ("uvicorn-httptools+express", "hypercorn-trio", "hypercorn-asyncio"),
}
CASES = [(setup, outside) for outside in OUTSIDE for setup in FEWER.get(outside, SETUPS)]
OWN_EXIT = {"sentry": 3.0}  # seconds that its threads may take to end, with any application
GONE_WITHIN = 2.0  # seconds from a signal on; hypercorn would wait for open streams for 3, uvicorn for ever


def skip_without(module: str) -> None:
    """Skip the test if this package is missing."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}")


@pytest.mark.parametrize(("setup", "outside"), CASES)
def test_streams_end(setup: str, outside: str, tmp_path: Path) -> None:
    """A client that leaves, one that reads nothing and a shutdown end their streams, as behind the outermost bridge."""
    skip_without(OUTSIDE[outside])
    with serve(setup, tmp_path, app=APP, SSE_E2E_OUTSIDE=outside) as server, ExitStack() as clients:
        with Client(server.port) as client:
            client.get("/yield")
            assert client.read_to_end() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        with Client(server.port) as client:
            client.get("/ticks?name=left")
            client.read_until(b"data: ")
            client.close()
            server.wait_report("cleaned", "left")
        with Client(server.port, receive_buffer=SMALL) as client:
            client.get("/flood?name=stalled&send_timeout=1")
            assert client.wait_reset(10)
            assert server.wait_report("closed", "stalled").more == {"reason": "send_timeout"}
        opened = [clients.enter_context(Client(server.port)) for _ in range(3)]
        for n, client in enumerate(opened):
            client.get(f"/ticks?name=ticks-{n}")
            client.read_until(b"data: ")
        held = clients.enter_context(Client(server.port, receive_buffer=SMALL))
        held.get("/flood?name=held&send_timeout=30")
        server.wait_report("stuck", "held")
        at = server.terminate()
        for client in opened:
            assert b"event: bye" in client.read_to_end()
        assert server.wait_gone(30) - at < (GONE_WITHIN + OWN_EXIT.get(outside, 0.0)) * patience()
        reasons = [server.wait_report("closed", f"ticks-{n}").more["reason"] for n in range(3)]
        assert reasons == ["shutdown"] * 3
        # What ends in good order is no error in Sentry, which has seen the requests.
        assert ("transaction" in server.reported("sentry")) == (outside == "sentry")
        assert "event" not in server.reported("sentry"), server.reports.items


@pytest.mark.parametrize("setup", [name for name in SETUPS if name.endswith("+express")])
def test_a_middleware_outside_that_changes_bodies(setup: str, tmp_path: Path) -> None:
    """Nothing is written past a middleware that was added after the bridge and changes the stream."""
    outside = "upper case"
    with serve(setup, tmp_path, app=APP, SSE_E2E_OUTSIDE=outside) as server, Client(server.port) as client:
        client.get("/ticks?name=ticks")
        assert b"data" not in client.read_until(b"DATA: 20\n\n")


@pytest.mark.parametrize("run", ["run", "dev"])
def test_fastapi_run(run: str, tmp_path: Path) -> None:
    """``fastapi run`` and ``dev`` find the application themselves, and its streams end at a shutdown."""
    skip_without("fastapi_cli")
    command = [sys.executable, "-m", "fastapi", run, "middleware_app.py", "--port", "0", "--host", "127.0.0.1"]
    with serve_command(command, tmp_path, NO_COLOR="1", COLUMNS="200") as server:
        server.wait_started()
        wait_accepting(server.port)  # `dev` says the port before its worker has started
        with Client(server.port) as client:
            client.get("/yield")
            assert client.read_to_end() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        with Client(server.port) as client:
            client.get("/ticks?name=ticks")
            client.read_until(b"data: ")
            at = server.terminate()
            assert b"event: bye" in client.read_to_end()
            assert server.wait_gone(10) - at < GONE_WITHIN * patience()


def test_the_page_of_fastapi(tmp_path: Path) -> None:
    """The first program of docs/fastapi.md, saved as main.py, is found and served by ``fastapi run``."""
    skip_without("fastapi_cli")
    page = (Path(__file__).parents[2] / "docs" / "fastapi.md").read_text(encoding="utf-8")
    program = tmp_path / "app" / "main.py"
    program.parent.mkdir()
    program.write_text(page.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    command = [sys.executable, "-m", "fastapi", "run", str(program), "--port", "0", "--host", "127.0.0.1"]
    with serve_command(command, tmp_path / "reports", NO_COLOR="1", COLUMNS="200") as server:
        server.wait_started()
        with Client(server.port) as client:
            client.get("/clock")
            client.read_until(b'data: {"number":1}\n\n')
            at = server.terminate()
            client.read_to_end()
            assert server.wait_gone(10) - at < GONE_WITHIN * patience()
