# A value to one line of JSON: compact, non-ASCII kept, NaN refused. Used by ServerSentEvent.json().
#
# Rule 1: a value gives the same text with and without pydantic-core (the extra `json`). pydantic-core only serializes
#         types that this module doesn't know.
# Rule 2: the standard library writes the text, because it can refuse NaN; the serializers that know more types can't.

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from typing import Any, ClassVar, Protocol, TypeAlias, cast

from .._arguments.type_name import type_name

__all__ = ("Model", "dumps_compact", "is_model")


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _PydanticModel(Protocol):
    __pydantic_serializer__: ClassVar[Any]


Model: TypeAlias = _Dataclass | _PydanticModel
"""An object of a pydantic model, or of a dataclass."""


def is_model(value: object) -> bool:
    """Return whether the value is a :data:`Model`; its class is not."""
    return not isinstance(value, type) and (
        hasattr(value, "__pydantic_serializer__") or dataclasses.is_dataclass(value)
    )


def dumps_compact(value: object) -> str:
    """Return ``value`` as JSON without spaces or line breaks. ValueError for NaN, TypeError for an unknown type."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_jsonable)
    except ValueError as exc:
        if "digits" in str(exc):
            msg = "an int in the JSON has more digits than Python prints (sys.set_int_max_str_digits); send it as a str"
            raise ValueError(msg) from None
        if "Out of range" not in str(exc):
            raise
        msg = f"{exc}: JSON has no NaN and no infinity; send None or a str, or pass your own dumps="
        raise ValueError(msg) from None


def _to_jsonable(value: Any) -> object:  # Any: its attributes are unknown  # noqa: PLR0911 -- one for each kind
    if hasattr(value, "__pydantic_serializer__"):
        return _to_jsonable_by_pydantic(value)  # before dataclasses: pydantic's have their own serializers
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value)
    if isinstance(value, (datetime.datetime, datetime.time)):
        text = value.isoformat()
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return list(cast("set[object]", value))
    return _to_jsonable_by_pydantic(value)


def _fields_of(value: Any) -> dict[str, object]:
    try:
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    except AttributeError as exc:  # a field that was never set
        raise _unknown_type(value) from exc


def _to_jsonable_by_pydantic(value: object) -> object:
    try:
        from pydantic_core import PydanticSerializationError, to_jsonable_python  # noqa: PLC0415 -- an extra
    except ImportError:
        raise _unknown_type(value, ", or install sse-trio[json], which knows more types") from None
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError as exc:
        raise _unknown_type(value) from exc  # `exc` may come from a model's own serializer


def _unknown_type(value: object, otherwise: str = "") -> TypeError:
    how = "write value.tolist()" if hasattr(value, "tolist") else "convert it first"  # numpy's scalars and arrays
    return TypeError(
        f"an object of type {type_name(value)} can't be converted to JSON; {how}, or pass dumps={otherwise}"
    )
