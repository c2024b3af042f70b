# FastAPI with SQLAlchemy: an order and the event about it are one transaction, so clients hear of an order exactly if
# there is one.
#
# The path operation that writes is a plain `def`, which FastAPI runs in a thread, so SQLAlchemy's ordinary sessions do.
#
#     pip install fastapi sqlalchemy "sse-trio[hypercorn,postgres]"
#     DATABASE_URL=postgresql://me@localhost/shop python examples/postgres_orders.py
#     curl -N http://127.0.0.1:8000/events
#     curl http://127.0.0.1:8000/orders -H "Content-Type: application/json" -d '{"item": "tea", "count": 2}'
#     curl http://127.0.0.1:8000/orders -H "Content-Type: application/json" -d '{"item": "tea", "count": 0}'   # neither

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from _serve import serve
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import CheckConstraint, create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sse_trio import EventSourceResponse, Hub, ServerBridge, ServerSentEvent, last_event_id, open_hub
from sse_trio.stores.postgres import PostgresStore

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")

engine = create_engine(DATABASE_URL.replace("postgresql:", "postgresql+psycopg:"))
store = PostgresStore(DATABASE_URL, name="orders")


class Base(DeclarativeBase):
    """The tables."""


class Order(Base):
    """A row of the table."""

    __tablename__ = "example_orders"
    __table_args__ = (CheckConstraint("count > 0"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    count: Mapped[int]


class NewOrder(BaseModel):
    """What a client sends."""

    item: str
    count: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Hub]]:
    """Make the table where there is none, and open the hub."""
    Base.metadata.create_all(engine)
    async with open_hub(PostgresStore(DATABASE_URL, name="orders")) as hub:
        yield {"hub": hub}


app = FastAPI(lifespan=lifespan)
app.add_middleware(ServerBridge)


@app.post("/orders", status_code=201)
def order(new: NewOrder) -> int:
    """Keep an order, and tell about it, or neither."""
    with Session(engine) as session:
        row = Order(item=new.item, count=new.count)
        session.add(row)
        try:
            store.publish_in(session, "orders/new", ServerSentEvent.json(new, event="order"))
            session.commit()
        except IntegrityError:
            raise HTTPException(422, "count must be positive") from None
        return row.id


@app.get("/events")
async def events(request: Request) -> EventSourceResponse:
    """Stream the orders."""
    return EventSourceResponse(request.state.hub.subscribe("orders/*", after=last_event_id(request), replay=1))


if __name__ == "__main__":
    serve(app)
