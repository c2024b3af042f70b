# A dashboard that is fed by a trigger: whatever changes the table, a program that knows nothing of this one or a hand
# at psql, the clients see it when its transaction commits.
#
#     pip install "sse-trio[hypercorn,postgres]"
#     DATABASE_URL=postgresql://me@localhost/shop python examples/postgres_trigger.py
#     curl -N http://127.0.0.1:8000/machines
#     psql -c "UPDATE example_machines SET state = 'on fire'" postgresql://me@localhost/shop

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import psycopg
from _serve import serve
from anyio import create_task_group, sleep, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSourceResponse, Hub, ServerBridge, last_event_id, open_hub
from sse_trio.stores.postgres import PostgresStore

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")

# The topic is `machines/<id>`, the event's type insert, update or delete, its data the row as JSON.
TABLE = """
CREATE TABLE IF NOT EXISTS example_machines (id text PRIMARY KEY, state text);
INSERT INTO example_machines VALUES ('press', 'idle'), ('lathe', 'idle') ON CONFLICT DO NOTHING;
CREATE OR REPLACE TRIGGER tell_the_dashboard AFTER INSERT OR UPDATE OR DELETE ON example_machines
    FOR EACH ROW EXECUTE FUNCTION sse_trio.publish_row('factory', 'machines', 'id');
"""
WORK = """
UPDATE example_machines SET state = CASE state WHEN 'idle' THEN 'working' ELSE 'idle' END WHERE id = 'press';
"""


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub


def run_sql(statement: str) -> None:
    """Do something to the database, as any other program might."""
    with psycopg.connect(DATABASE_URL) as connection:
        connection.execute(statement.encode())


async def work() -> None:
    """Let the machines work, and the table say so."""
    while True:
        await to_thread.run_sync(run_sql, WORK)
        await sleep(0.5)


async def dashboard(request: Request) -> EventSourceResponse:
    """Answer with what happens to the table."""
    return EventSourceResponse(request.state.hub.subscribe("machines/*", after=last_event_id(request)))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """The store makes its own tables and functions first; the trigger needs one of them."""
    async with open_hub(PostgresStore(DATABASE_URL, name="factory")) as hub, create_task_group() as task_group:
        await to_thread.run_sync(run_sql, TABLE)
        task_group.start_soon(work)
        yield {"hub": hub}
        task_group.cancel_scope.cancel()


app = Starlette(routes=[Route("/machines", dashboard)], lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
