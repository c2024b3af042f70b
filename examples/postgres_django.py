# Django: a row and the event about it are one transaction, in an ordinary view with `transaction.atomic()`. Django runs
# as an ASGI application beside the streams.
#
#     pip install django "sse-trio[uvicorn,postgres]"
#     DATABASE_URL=postgresql://me@localhost/shop python examples/postgres_django.py
#     curl -N http://127.0.0.1:8000/events
#     curl http://127.0.0.1:8000/orders -H "Content-Type: application/json" -d '{"item": "tea", "count": 2}'
#     curl http://127.0.0.1:8000/orders -H "Content-Type: application/json" -d '{"item": "tea", "count": 0}'   # neither

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from _serve import serve_uvicorn
from anyio import to_thread
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from sse_trio import EventSourceResponse, Hub, ServerBridge, ServerSentEvent, last_event_id, open_hub
from sse_trio.stores.postgres import PostgresStore

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")
TABLE = (
    "CREATE TABLE IF NOT EXISTS example_django (id serial, item text, count int CHECK (count > 0))"  # yours: a model
)
store = PostgresStore(DATABASE_URL, name="orders")

url = urlsplit(DATABASE_URL)
database = {
    "NAME": url.path[1:],
    "USER": url.username,
    "HOST": url.hostname,
    "PORT": url.port,
    "PASSWORD": url.password,
}
settings.configure(  # yours are in settings.py
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="change me",  # noqa: S106
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **database}},
)


def order(request: HttpRequest) -> JsonResponse:
    """Keep an order, and tell about it, or neither."""
    new = json.loads(request.body)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO example_django (item, count) VALUES (%s, %s)", [new["item"], new["count"]])
            store.publish_in(connection, "orders/new", ServerSentEvent.json(new, event="order"))
    except IntegrityError:
        return JsonResponse({"detail": "count must be positive"}, status=422)
    return JsonResponse(new, status=201)


urlpatterns = [path("orders", order)]  # yours are in urls.py


def make_table() -> None:
    """Make the table where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
    connection.close()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Hub]]:
    """Make the table, and open the hub."""
    await to_thread.run_sync(make_table)
    async with open_hub(PostgresStore(DATABASE_URL, name="orders")) as hub:
        yield {"hub": hub}


async def events(request: Request) -> EventSourceResponse:
    """Stream the orders."""
    return EventSourceResponse(request.state.hub.subscribe("orders/*", after=last_event_id(request), replay=1))


django_app = get_asgi_application()
app = Starlette(routes=[Route("/events", events), Mount("/", django_app)], lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve_uvicorn(app, int(os.environ.get("PORT", "8000")))
