# A value to one line of JSON: compact, non-ASCII kept, NaN refused. Used by ServerSentEvent.json().
#
# Rule 1: the same value gives the same text whether or not pydantic-core (the extra `json`) is installed;
#         with it more types are known, none differently: it is asked for what is not known here, and only for that.
# Rule 2: the standard library writes the text, so that NaN is refused in either case: no serializer that
#         knows the other types does that.

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from typing import Any, cast

__all__ = ("dumps_compact",)


def dumps_compact(value: object) -> str:
    """Return ``value`` as JSON without spaces or line breaks. ValueError for NaN, TypeError for a foreign type."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_jsonable)
    except ValueError as exc:
        if "digits" in str(exc):
            msg = "an int in the JSON has more digits than Python prints (sys.set_int_max_str_digits); send it as a str"
            raise ValueError(msg) from None
        if "Out of range" not in str(exc):
            raise
        msg = f"{exc}: JSON has no NaN and no infinity; send None or a string, or pass dumps= to decide yourself"
        raise ValueError(msg) from None


def _to_jsonable(value: Any) -> object:  # Any: anything may be asked of it  # noqa: PLR0911 -- one for each kind
    if hasattr(value, "__pydantic_serializer__"):
        return _to_jsonable_by_pydantic(value)  # its dataclasses are dataclasses too, with serializers of their own
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
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


def _to_jsonable_by_pydantic(value: object) -> object:
    try:
        from pydantic_core import PydanticSerializationError, to_jsonable_python  # noqa: PLC0415 -- an extra
    except ImportError:
        raise _unknown_type(value) from None
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError as exc:
        raise _unknown_type(value) from exc  # which may be the error of a model's own serializer


def _unknown_type(value: object) -> TypeError:
    return TypeError(
        f"an object of type {type(value).__name__} has no JSON form here; convert it first, pass dumps=, "
        "or install sse-trio[json], which knows more types"
    )
