"""What writes and reads the data of typed events: pydantic, msgspec or the standard library, and what each refuses."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from typing_extensions import TypedDict

from sse_trio import EventTypes, ReceivedEvent
from sse_trio._typed import payload as _payload
from sse_trio._typed.payload import Payload, open_payload


class Model(pydantic.BaseModel):
    price: float = pydantic.Field(alias="Price")
    note: float | None = None


@dataclasses.dataclass
class Data:
    price: float
    note: float | None = None


class Struct(msgspec.Struct):
    price: float
    note: float | None = None


class Fields(TypedDict):
    price: float


class Unknown:
    pass


@pytest.fixture(params=["no pydantic", "neither"])
def lacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is not installed."""
    missing = ("pydantic", "pydantic_core", *(("msgspec",) if request.param == "neither" else ()))
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    return str(request.param)


def text_of(payload: Payload, value: Any) -> str:
    text = payload.to_json(value)
    return text if isinstance(text, str) else text.decode()


DAY = datetime.date(2020, 1, 2)


@pytest.mark.parametrize(
    ("type_", "value", "text", "library"),
    [
        (Model, Model(Price=1), '{"Price":1.0,"note":null}', "pydantic"),
        (Data, Data(1.5), '{"price":1.5,"note":null}', "pydantic"),
        (Struct, Struct(1.5), '{"price":1.5,"note":null}', "msgspec"),
        (list[Struct], [Struct(1.5, 2)], '[{"price":1.5,"note":2}]', "msgspec"),
        (Struct | None, None, "null", "msgspec"),
        (Annotated[Struct, "a note"], Struct(1), '{"price":1,"note":null}', "msgspec"),
        (Fields, {"price": 1.5}, '{"price":1.5}', "pydantic"),
        (Model | Data, Data(2, 3), '{"price":2.0,"note":3.0}', "pydantic"),
        (str, "Grüße\n\u2028", '"Grüße\\n\u2028"', "pydantic"),
        (str, "null and NaN", '"null and NaN"', "pydantic"),
        (None, None, "null", "pydantic"),
        (dict[str, datetime.date], {"day": DAY}, '{"day":"2020-01-02"}', "pydantic"),
    ],
)
def test_there_and_back(type_: Any, value: Any, text: str, library: str) -> None:
    """One line of compact JSON, by the library that knows the type, which reads the same value out of it."""
    payload = open_payload(type_)
    assert payload.library == library
    assert text_of(payload, value) == text
    assert payload.from_json(text) == value


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        (Model, Model(Price=math.nan), "must match Model.*: Price: JSON has no NaN and no infinity"),
        (Data, Data(math.inf), "must match Data.*: price: JSON has no NaN and no infinity"),
        (Data, Data(1, math.nan), "must match Data.*: JSON has no NaN and no infinity"),
        (Struct, Struct(math.nan), r"must match Struct.*got `null` - at `\$\.price` \(as a NaN is written\)"),
        (Struct, Struct("x"), r"must match Struct.*got `str` - at `\$\.price`$"),  # type: ignore[arg-type]
        (Data, Data("x"), "must match Data.*: price: "),  # type: ignore[arg-type]
        (
            list[Data],
            [Data(1), Data("x", "y")],
            r"must match list\[.*Data\]; got an object of type list: 1\.price: .*\(and 1 more\)",
        ),  # type: ignore[arg-type]
        (Data, Data("1.5"), "must match Data.*: .*Expected `float`"),  # type: ignore[arg-type]  # the reader's no error
        (int, "1x", "must match int; got an object of type str: .*integer"),
    ],
)
def test_a_value_that_its_type_does_not_accept(type_: Any, value: Any, message: str) -> None:
    """Refused where it is sent, not where it is received; the error names the event and, as far as known, the field."""
    with pytest.raises(ValueError, match=rf"^the value of event 'event' {message}"):
        EventTypes({"event": type_}).event(value)


def test_what_a_type_says_of_nan_holds() -> None:
    """A model that writes NaN as a string has a form for it, and one that writes it bare has none in JSON."""

    class AsString(pydantic.BaseModel, ser_json_inf_nan="strings"):
        x: float
        y: None = None

    class Bare(pydantic.BaseModel, ser_json_inf_nan="constants"):
        x: float

    assert text_of(open_payload(AsString), AsString(x=math.nan)) == '{"x":"NaN","y":null}'
    with pytest.raises(ValueError, match="no NaN"):
        open_payload(Bare).to_json(Bare(x=-math.inf))


def test_a_serializer_of_the_users_own_that_fails() -> None:
    """A value that the reader would accept and the writer can't write is the writer's error."""

    class Refuses(pydantic.BaseModel):
        x: int

        @pydantic.field_serializer("x")
        def _refuse(self, x: int) -> int:
            raise LookupError("nothing there")

    with pytest.raises(ValueError, match="nothing there"):
        EventTypes({"event": Refuses}).event(Refuses(x=1))


def test_the_name_of_a_type() -> None:
    """Refused in the declaration: nothing there says whose name it is."""
    with pytest.raises(TypeError, match="without the quotes"):
        EventTypes({"event": "Tick"})


@pytest.mark.parametrize("type_", [Unknown, list[Unknown], Struct | Unknown, object()])
def test_a_type_that_no_library_knows(type_: Any) -> None:
    """Refused in the declaration, by its name."""
    with pytest.raises(TypeError, match="type must have a JSON form; got .*: ") as info:
        EventTypes({"event": type_})
    assert "\n" not in str(info.value)


def test_data_classes_without_pydantic(lacking: str) -> None:
    """They can be sent in any case; to read them takes a library, and the error says so only then."""
    events = EventTypes({"data": Data})
    event = events.data(Data(1.5))
    assert event.data is not None
    assert json.loads(event.data) == {"price": 1.5, "note": None}
    received = ReceivedEvent("data", event.data)
    if lacking == "no pydantic":
        assert events.decode(received) == Data(1.5)
    else:
        with pytest.raises(ImportError, match=r"decoding a Data.*sse-trio\[json\]"):
            events.decode(received)


@pytest.mark.usefixtures("lacking")
def test_what_is_refused_without_pydantic() -> None:
    """Another class, and NaN."""
    events = EventTypes({"data": Data})
    with pytest.raises(TypeError, match="must be of type Data; got an object of type dict"):
        events.data({"price": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        events.data(Data(math.nan))


def test_a_struct_takes_no_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    """If you declare msgspec's types, pydantic is not imported, whether or not it is there."""
    monkeypatch.setattr(_payload, "_of_pydantic", lambda _: pytest.fail("pydantic was asked"))
    assert open_payload(list[Struct]).library == "msgspec"
    for name in ("pydantic", "pydantic_core"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "schemas" in EventTypes({"struct": Struct}).components()


@pytest.mark.parametrize(
    "make", [lambda: Struct(1), lambda: Data(1), lambda: Model(Price=1)], ids=["msgspec", "data", "pydantic"]
)
def test_subclasses_are_instances(make: Callable[[], Any]) -> None:
    """A value of a derived class is one of the declared class."""
    value = make()
    derived = type("Derived", (type(value),), {})
    instance = derived(**{"Price" if isinstance(value, Model) else "price": 1})
    assert text_of(open_payload(type(value)), instance) == text_of(open_payload(type(value)), value)
    assert EventTypes({"event": type(value)}).event(instance).event == "event"
