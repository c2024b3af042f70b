"""What OpenAPI is told of typed events: by FastAPI's own document, by Starlette's, and by msgspec alone."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any, Optional

import fastapi
import jsonschema
import msgspec
import pydantic
import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.schemas import SchemaGenerator

from sse_trio import EventSourceResponse, EventType, EventTypes, ServerSentEvent

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")


class Quote(pydantic.BaseModel):
    bid: float


class Tick(pydantic.BaseModel):
    symbol: str = pydantic.Field(alias="Symbol")
    quote: Quote
    next: Optional[Tick] = None  # noqa: UP045 -- evaluated by pydantic, on Python 3.10 too


@dataclasses.dataclass
class Done:
    why: str = "sold out"


class Bid(msgspec.Struct):
    price: float


class Bids(msgspec.Struct):
    """A list that goes on."""

    bid: Bid
    more: Optional[Bids] = None  # noqa: UP045 -- evaluated by msgspec


EVERY_LIBRARY = {"tick": Tick, "job.done": Done, "bids": Bids, "all": list[Bids], "end": None}
TICK = Tick(Symbol="ACME", quote=Quote(bid=9.5))
VERSIONS = ["3.1", "3.2"]


def fastapi_document(events: EventTypes[Any], version: Any = "3.1", **options: Any) -> dict[str, Any]:
    """The document of an application with two streams of these events, one of which takes what the other sends."""
    app = fastapi.FastAPI()
    app.openapi_version = f"{version}.0"
    responses = events.responses(version=version, **options)

    @app.get("/events", response_class=EventSourceResponse, responses=responses)
    async def stream() -> EventSourceResponse: ...

    @app.post("/events", response_class=EventSourceResponse, responses={**responses, 404: {"description": "no"}})
    async def stream_of(tick: Tick) -> EventSourceResponse: ...

    return app.openapi()


def media_type(document: dict[str, Any], path: str = "/events", method: str = "get") -> dict[str, Any]:
    """The one Media Type Object of a stream's 200."""
    content = resolve(document, document["paths"][path][method]["responses"]["200"])["content"]
    assert list(content) == ["text/event-stream"]
    return dict(content["text/event-stream"])


def resolve(document: dict[str, Any], thing: Any) -> Any:
    """What a reference refers to, or the thing itself."""
    while "$ref" in thing:
        found: Any = document
        for part in thing["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        thing = found
    return thing


def check_event(document: dict[str, Any], schema: dict[str, Any], event: ServerSentEvent) -> None:
    """Assert that one branch is that of the event, and that its data is what the branch says."""
    instance = {"event": event.event, "data": event.data}
    whole = {**schema, "components": document["components"]}  # where references look
    jsonschema.validate(instance, whole, jsonschema.Draft202012Validator)
    (branch,) = [
        branch for branch in resolve(document, schema)["oneOf"] if branch["properties"]["event"]["const"] == event.event
    ]
    data = branch["properties"]["data"]
    assert data["contentMediaType"] == "application/json"
    assert event.data is not None
    whole = {**data["contentSchema"], "components": document["components"]}
    jsonschema.validate(json.loads(event.data), whole, jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(object(), whole, jsonschema.Draft202012Validator)


def check_document(document: dict[str, Any], schema: dict[str, Any], events: EventTypes[Any]) -> None:
    """Assert that a document is valid, and that it describes what is sent, and nothing else."""
    validate(document)
    bids = Bids(Bid(1), Bids(Bid(2)))
    for event in (
        events.tick(TICK),
        events["job.done"](Done()),
        events.bids(bids),
        events.all([bids]),
        events.end(None),
    ):
        check_event(document, schema, event)
    whole = {**schema, "components": document["components"]}
    for wrong in ({"event": "other", "data": "1"}, {"event": "tick"}, {"event": "tick", "data": 1}, {"data": "1"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, whole, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_document_of_fastapi(version: Any) -> None:
    """Valid, with a branch for each event; the types are components, each once, those of msgspec as well."""
    events: EventTypes[Any] = EventTypes(EVERY_LIBRARY)
    document = fastapi_document(events, version)
    content = media_type(document)
    types = {"Tick", "Quote", "Done", "Bid", "Bids", "HTTPValidationError", "ValidationError"}
    if version == "3.1":
        assert "itemSchema" not in content
        one_event = content["schema"]
    else:
        one_event = {"$ref": "#/components/schemas/TickJobDoneBidsAllEndEvent"}
        assert content["itemSchema"] == one_event
        assert (content["schema"]["type"], content["schema"]["items"]) == ("array", one_event)
        types.add("TickJobDoneBidsAllEndEvent")
    names = set(document["components"]["schemas"])
    # FastAPI has two for a model that is sent and received, where they differ.
    assert {name.removesuffix("-Output").removesuffix("-Input") for name in names} == types
    check_document(document, one_event, events)
    assert media_type(document, method="post").keys() == content.keys()
    assert "404" in document["paths"]["/events"]["post"]["responses"]


def test_two_streams_of_the_same_types_share_them() -> None:
    """A Struct, a model or a dataclass that several declarations mention is one component."""
    app = fastapi.FastAPI()
    for number, types in enumerate(({"bids": Bids}, {"bid": Bid, "bids": Bids, "job.done": Done}, {"job.done": Done})):
        responses = EventTypes(types).responses()  # type: ignore[arg-type]
        app.get(f"/{number}", response_class=EventSourceResponse, responses=responses)(lambda: None)
    document = app.openapi()
    validate(document)
    assert set(document["components"]["schemas"]) == {"Bid", "Bids", "Done"}


def test_structs_of_one_name_are_kept_apart() -> None:
    """Two types of one name are two components, and each event refers to its own."""

    class Other(msgspec.Struct):
        n: int

    Other.__name__ = Other.__qualname__ = "Bid"
    app = fastapi.FastAPI()
    for name, type_ in (("a", Bid), ("b", Other)):
        app.get(f"/{name}", response_class=EventSourceResponse, responses=EventTypes({name: type_}).responses())(
            lambda: None
        )
    document = app.openapi()
    check_event(document, media_type(document, "/a")["schema"], EventTypes({"a": Bid}).a(Bid(1)))
    check_event(document, media_type(document, "/b")["schema"], EventTypes({"b": Other}).b(Other(1)))
    assert len(document["components"]["schemas"]) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_the_document_of_starlette(version: Any) -> None:
    """Starlette's generator takes the components as they are, and an operation refers to the response."""
    events: EventTypes[Any] = EventTypes(EVERY_LIBRARY)
    components = events.components("Prices", version=version)

    async def prices(request: Any) -> EventSourceResponse:
        """Stream prices.
        ---
        responses:
          200: {$ref: "#/components/responses/Prices"}
        """
        raise NotImplementedError

    app = Starlette(routes=[Route("/events", prices)])
    base = {"openapi": f"{version}.0", "info": {"title": "Prices", "version": "1"}, "components": components}
    generated = SchemaGenerator(base).get_schema(app.routes)
    document = json.loads(json.dumps(generated))  # its status codes are numbers, in YAML
    content = media_type(document)
    assert content == {"schema" if version == "3.1" else "itemSchema": {"$ref": "#/components/schemas/Prices"}}
    assert set(components["schemas"]) == {"Prices", "Tick", "Quote", "Done", "Bid", "Bids"}
    check_document(document, {"$ref": "#/components/schemas/Prices"}, events)


def test_without_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    """By msgspec alone, for its types and for dataclasses."""
    for name in ("pydantic", "pydantic_core"):
        monkeypatch.setitem(sys.modules, name, None)
    events: EventTypes[Any] = EventTypes({"bids": Bids, "job.done": Done})
    components = events.components()
    monkeypatch.undo()
    assert set(components["schemas"]) == {"BidsJobDoneEvent", "Bid", "Bids", "Done"}
    document = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {}, "components": components}
    validate(document)
    for event in (events.bids(Bids(Bid(1))), events["job.done"](Done())):
        check_event(document, {"$ref": "#/components/schemas/BidsJobDoneEvent"}, event)


def test_an_event_needs_its_name_and_its_data() -> None:
    """Also where there is one event only, and no other branch that could apply."""
    schema = EventTypes({"end": None}).components("End")["schemas"]["End"]
    jsonschema.validate({"event": "end", "data": "null", "id": "1", "retry": 10}, schema)
    for wrong in ({"data": "null"}, {"event": "end"}, {"event": "end", "data": "null", "retry": -1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a library, asking for the schema raises, and the error says what to install."""
    for name in ("pydantic", "pydantic_core", "msgspec"):
        monkeypatch.setitem(sys.modules, name, None)
    events = EventTypes({"done": Done})
    for describe in (events.components, events.responses):
        with pytest.raises(ImportError, match=r"pydantic or msgspec; install sse-trio\[json\]"):
            describe()


class Ticker(EventTypes[Tick]):
    tick = EventType(Tick)


@pytest.mark.parametrize(
    ("events", "name"),
    [
        (Ticker(), "Ticker"),
        (EventTypes({"tick": Tick}), "TickEvent"),
        (EventTypes({"job.done": Done, "snake_case": Done, "camelCase": Done}), "JobDoneSnakeCaseCamelCaseEvent"),
        (EventTypes({"größe": Done, "a/b c": Done}), "GrEABCEvent"),
    ],
)
def test_the_name_of_the_component(events: EventTypes[Any], name: str) -> None:
    """That of the subclass, or made of the names of the events; a component's name has few characters."""
    assert list(events.components()["responses"]) == [name]


@pytest.mark.parametrize("describe", ["components", "responses"])
def test_a_name_that_is_none_or_taken(describe: str) -> None:
    """Refused where it is given, with another one to give."""
    events = EventTypes({"tick": Tick})
    with pytest.raises(ValueError, match="name must be the name of a component: .*; got 'a b'"):
        getattr(events, describe)(name="a b", version="3.2")
    with pytest.raises(ValueError, match=rf"name must differ.*; got 'Quote'; write {describe}\(.*'QuoteEvents'"):
        getattr(events, describe)(name="Quote", version="3.2")
    with pytest.raises(ValueError, match="version must be '3.1' or '3.2', of OpenAPI; got '3.0'"):
        getattr(events, describe)(version="3.0")
