"""ServerSentEvent.json(): the values that it knows, with and without the extra, and those that it refuses."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import sys
import uuid
from typing import Any, ClassVar

import pydantic
import pytest

from sse_trio import ServerSentEvent

UTC = datetime.timezone.utc
INDIA = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
LMT = datetime.timezone(datetime.timedelta(seconds=30))


@dataclasses.dataclass
class Point:
    """A dataclass with what a dataclass may have."""

    x: Any
    _hidden: int = 1
    count: ClassVar[int] = 3


class Color(enum.Enum):
    RED = "red"
    NOTHING = None


class Level(enum.IntEnum):
    HIGH = 1


class Model(pydantic.BaseModel):
    when: datetime.datetime
    name: str = pydantic.Field(serialization_alias="Name")


@pydantic.dataclasses.dataclass
class ModelPoint:
    x: int

    @pydantic.field_serializer("x")
    def _double(self, x: int) -> int:
        return 2 * x


class Refuses(pydantic.BaseModel):
    x: int

    @pydantic.field_serializer("x")
    def _refuse(self, x: int) -> int:
        raise LookupError(x)


@pytest.fixture(params=["with the extra", "without it"])
def extra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether pydantic-core can be imported."""
    if request.param == "without it":
        monkeypatch.setitem(sys.modules, "pydantic_core", None)
    return bool(request.param == "with the extra")


def dumps(value: object) -> str:
    """The JSON of a value."""
    text = ServerSentEvent.json(value).data
    assert text is not None
    return text


@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True], "b": {"c": "d"}}, '{"a":[1,2.5,null,true],"b":{"c":"d"}}'),
        ("Grüße", '"Grüße"'),
        ("two\nlines", '"two\\nlines"'),
        (Point(1), '{"x":1,"_hidden":1}'),
        (Point(Point(Color.RED)), '{"x":{"x":"red","_hidden":1},"_hidden":1}'),
        (Point({None: 1, 2: 3, 1.5: 4, True: 5}), '{"x":{"null":1,"2":3,"1.5":4,"true":5},"_hidden":1}'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5), '"2020-01-02T03:04:05"'),  # noqa: DTZ001 -- naive on purpose
        (datetime.datetime(2020, 1, 2, 3, 4, 5, 6000, tzinfo=UTC), '"2020-01-02T03:04:05.006000Z"'),
        (datetime.datetime(2020, 1, 2, tzinfo=INDIA), '"2020-01-02T00:00:00+05:30"'),
        (datetime.datetime(2020, 1, 2, tzinfo=LMT), '"2020-01-02T00:00:00+00:00:30"'),
        (datetime.date(2020, 1, 2), '"2020-01-02"'),
        (datetime.time(3, 4, tzinfo=UTC), '"03:04:00Z"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (Color.RED, '"red"'),
        (Color.NOTHING, "null"),
        (Level.HIGH, "1"),
        ({1}, "[1]"),
        (frozenset({"a"}), '["a"]'),
    ],
)
def test_known_values(value: object, text: str) -> None:
    """These values have one JSON form with and without the extra: one line, compact, non-ASCII kept."""
    assert dumps(value) == text


def test_models() -> None:
    """With the extra, pydantic's models and dataclasses are encoded by their own serializers, however deep they are."""
    when = datetime.datetime(2020, 1, 2, tzinfo=UTC)
    assert json.loads(dumps(Model(when=when, name="n"))) == {"when": "2020-01-02T00:00:00Z", "Name": "n"}
    assert dumps(ModelPoint(2)) == '{"x":4}'
    assert dumps(Point([ModelPoint(2)])) == '{"x":[{"x":4}],"_hidden":1}'
    assert dumps(datetime.timedelta(seconds=1)) == '"PT1S"'


@pytest.mark.parametrize("value", [object(), Point(object()), {"a": object()}])
def test_unknown_type(extra: bool, value: object) -> None:
    """An unknown type is refused by name, and the error says what to do about it."""
    with pytest.raises(TypeError, match=r"type object can't be converted to JSON.*dumps="):
        dumps(value)


def test_arrays() -> None:
    """What numpy has in place of numbers and lists is told to become them; the extra, which can't help, isn't named."""

    class Array:
        def tolist(self) -> list[int]:
            """Python's own list."""
            return [1]

    with pytest.raises(TypeError, match=r"Array can't be converted to JSON; write value\.tolist\(\), or pass dumps=$"):
        dumps({"a": Array()})


def test_what_only_the_extra_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error names it."""
    monkeypatch.setitem(sys.modules, "pydantic_core", None)
    with pytest.raises(TypeError, match=r"type timedelta.*install sse-trio\[json\]"):
        dumps(datetime.timedelta(seconds=1))


def test_error_of_a_serializer_is_not_lost() -> None:
    """If a model's own serializer raises, its exception is the cause of the error."""
    with pytest.raises(TypeError, match="type Refuses") as info:
        dumps(Refuses(x=1))
    assert "LookupError" in str(info.value.__cause__)


@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"a": math.nan}, Point(math.nan)])
def test_what_json_has_no_form_for(value: object) -> None:
    """NaN and the infinities are refused, however deep they are, and the error says what to do."""
    with pytest.raises(ValueError, match=r"Out of range.*no NaN and no infinity.*dumps="):
        dumps(value)


@pytest.mark.usefixtures("extra")
def test_circle() -> None:
    """Other errors of the serializer are raised unchanged."""
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular reference detected$"):
        dumps(circle)


def test_lone_surrogates() -> None:
    """A lone surrogate, which JSON could escape but the wire can't carry, is refused as in any event."""
    with pytest.raises(ValueError, match="lone surrogate"):
        dumps("\ud800")


def test_own_serializer() -> None:
    """``dumps`` replaces the library's serializer, and may return str or bytes."""
    assert ServerSentEvent.json(math.nan, dumps=json.dumps).data == "NaN"
    assert ServerSentEvent.json([1, 2], dumps=lambda value: json.dumps(value, indent=1).encode()).encode() == (
        b"data: [\ndata:  1,\ndata:  2\ndata: ]\n\n"
    )


def test_other_fields() -> None:
    """The other fields of a JSON event are those of any event."""
    event = ServerSentEvent.json([1], event="e", id="i", retry=5, comment="c")
    assert event == ServerSentEvent("[1]", event="e", id="i", retry=5, comment="c")
