# Typed events as type checkers see them. Checked by mypy and by pyright, never run; for the rules see api.py.
#
# Rule 1: where the two differ, the line says so: mypy joins the types of a dict's values to their common base, where
#         pyright makes a union of them.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from typing_extensions import assert_never, assert_type

from sse_trio import EventSourceResponse, EventType, EventTypes, ReceivedEvent, ServerSentEvent


@dataclass
class Tick:
    price: float


@dataclass
class Done:
    why: str


# --- as a class: each event has its own type


class Ticker(EventTypes[Tick | Done]):
    tick = EventType(Tick)
    done = EventType(Done, name="job.done")
    ticks = EventType(list[Tick])
    maybe: EventType[Tick | None] = EventType(Tick | None)


ticker = Ticker()
assert_type(ticker.tick, EventType[Tick])
assert_type(ticker.ticks, EventType[list[Tick]])
assert_type(ticker.tick(Tick(1), id="1", retry=10, comment="c"), ServerSentEvent)
ticker.maybe(None)
ticker.tick(Done("sold out"))  # type: ignore[arg-type]
ticker.tick({"price": 1})  # type: ignore[arg-type]
ticker.tick()  # type: ignore[call-arg]
ticker.tick(Tick(1), event="other")  # type: ignore[call-arg]


def receive(event: ReceivedEvent) -> None:
    assert_type(ticker.tick.decode(event), Tick)
    value = ticker.decode(event)
    assert_type(value, Tick | Done)
    match value:
        case Tick(price=price):
            assert_type(price, float)
        case Done():
            pass
        case _:
            assert_never(value)


# --- as a mapping: each event has the type of them all


events: EventTypes[Tick | Done] = EventTypes({"tick": Tick, "job.done": Done})
assert_type(events.tick, EventType[Tick | Done])
assert_type(events["job.done"], EventType[Tick | Done])
events.tick(Done("refused when it is run"))
events.tick("neither")  # type: ignore[arg-type]


def receive_any_of(event: ReceivedEvent) -> None:
    assert_type(events.decode(event), Tick | Done)


assert_type(EventTypes({"tick": Tick}), EventTypes[Tick])
assert_type(EventTypes[Tick | Done]({"tick": Tick, "done": Done}), EventTypes[Tick | Done])
assert_type(EventTypes({"maybe": Tick | None}), EventTypes[Any])
EventTypes(["tick"])  # type: ignore[call-overload]
EventTypes({1: Tick})  # type: ignore[dict-item]


# --- in FastAPI

app = FastAPI()


@app.get("/", response_class=EventSourceResponse, responses=events.responses(version="3.2", name="Events"))
async def stream() -> EventSourceResponse:
    raise NotImplementedError


assert_type(events.components("Events"), dict[str, dict[str, Any]])
events.responses(version="3.0")  # type: ignore[arg-type]
events.responses("3.1")  # type: ignore[call-arg]
