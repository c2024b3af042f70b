# The complete program of docs/postgres.md, as a reader saves it, on a real PostgreSQL.

from __future__ import annotations

import sys
from types import ModuleType

import anyio
import pytest

from sse_trio.testing import open_test_stream

from .._pages import DOCS, saved_files

pytest.importorskip("psycopg", reason="psycopg is not installed")
pytest.importorskip("fastapi", reason="FastAPI is not installed")


@pytest.fixture
def program(shared_postgres, name, monkeypatch):
    """The file `main.py` of the page, on a database of its own, which has nothing in it yet."""
    database = f"d{name}".lower().replace("-", "_")
    shared_postgres.sql(f'CREATE DATABASE "{database}"')
    monkeypatch.setenv("DATABASE_URL", shared_postgres.url_of("postgres", database))
    ((_, source, _),) = saved_files(DOCS / "postgres.md")
    module = ModuleType("the_main_of_postgres_md")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # FastAPI looks names up by the name of the module
    exec(compile(source, "main.py", "exec"), module.__dict__)
    return module


async def order_tea(app):
    """Open the stream, order, and return what the stream has of it."""
    async with (
        app.router.lifespan_context(app) as state,
        open_test_stream(app, "/orders/events", state=state) as stream,
    ):
        async with open_test_stream(app, "/orders?item=tea", method="POST", state=state) as answer:
            assert answer.status_code == 201
        with anyio.fail_after(30):
            event = await stream.receive()
        return event.event, event.json()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_order_reaches_the_subscriber(program, loop):
    """A reader's first POST, on a new database, is an event of the stream that the page shows."""
    assert anyio.run(order_tea, program.app, backend=loop) == ("order", {"id": 1, "item": "tea"})
