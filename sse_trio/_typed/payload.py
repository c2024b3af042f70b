# What an event's data is: a declared type, to and from JSON, by the library that knows the type best.
#
# Rule 1: pydantic for what it knows, msgspec for its Structs and for what pydantic does not know, or where there is no
#         pydantic. With neither, the standard library writes what ServerSentEvent.json() knows, and reads nothing.
# Rule 2: one library for one type, chosen when the type is declared: it writes, it reads and it describes, so that the
#         three agree. Its own JSON writer is used, with what the type has configured for it.
# Rule 3: what the reader of the same type would refuse is refused where it is sent. A NaN as null is such a thing.
# Rule 4: no library is imported before a type is declared, and msgspec's types import no pydantic.

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any, Literal, NoReturn, TypeGuard, cast, get_args

from .._arguments.checks import shown, wrong
from .._wire.json import dumps_compact

__all__ = ("Library", "Payload", "is_class", "name_of", "open_payload")

Library = Literal["pydantic", "msgspec", "json"]

NOT_FINITE = "JSON has no NaN and no infinity"


@dataclasses.dataclass(frozen=True, slots=True)
class Payload:
    """A declared type, and what its library makes of values and of JSON."""

    declared: object
    library: Library
    record: type[Any]
    """What a value has to be an instance of: the type, if it is a class with fields; else ``object``."""
    to_json: Callable[[Any], str | bytes]
    """Raises an error of the library's for a value that has another form than the type says, or none in JSON."""
    from_json: Callable[[str], Any]
    """Raises ValueError for a text that is not of the type."""
    reason: Callable[[Exception], str]
    """What was wrong, and in which field, out of an error of either function; of a text without what stood in it."""


def name_of(type_: object) -> str:
    """Return a type's name as one would write it."""
    if is_class(type_):
        return type_.__name__
    try:
        return inspect.formatannotation(type_)
    except Exception:  # noqa: BLE001 -- its __repr__ is anybody's
        return shown(type_)


def is_class(type_: object) -> TypeGuard[type]:
    """Whether a type is a class, and no generic alias, which isinstance() takes for one before Python 3.11."""
    return isinstance(type_, type) and not get_args(type_)


def open_payload(type_: object) -> Payload:
    """Return what writes and reads the values of a type.

    Raises:
        TypeError: no library that is installed knows a JSON form of the type; or it is the name of one, which nothing
            says where to look for.
    """
    if isinstance(type_, str):
        raise TypeError(f"{type_!r} is the name of a type, and would have to be the type itself: without the quotes")
    if isinstance(type_, (int, float, bytes, list, dict, FunctionType, BuiltinFunctionType, partial)):
        wanted = "a type, such as a pydantic model, a dataclass or list[int]"
        raise wrong(TypeError, "type", wanted, cast("object", type_))
    errors: list[Exception] = []
    for opener in (_of_msgspec,) if _mentions_struct(type_) else (_of_pydantic, _of_msgspec):
        try:
            return opener(type_)
        except ImportError:
            pass
        except Exception as exc:  # noqa: BLE001 -- whatever a library, or a hook of the type's own, finds wrong with it
            errors.append(exc)
    if errors:
        why = str(errors[0]).partition("\n")[0]
        raise TypeError(f"{name_of(type_)} is no type that has a JSON form: {why}") from errors[0]
    return _of_stdlib(type_)


def _mentions_struct(type_: object) -> bool:
    """Whether a Struct of msgspec is, or is part of, what was declared: ``Tick``, ``list[Tick]``, ``Tick | None``."""
    return hasattr(type_, "__struct_fields__") or any(_mentions_struct(part) for part in get_args(type_))


def _record_of(type_: object) -> type[Any]:
    """The type itself, if it is a class with fields, whose values are its instances."""
    marks = ("__pydantic_decorators__", "__struct_fields__", "__dataclass_fields__")
    return type_ if is_class(type_) and any(hasattr(type_, mark) for mark in marks) else object


def _of_pydantic(type_: Any) -> Payload:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 -- an extra

    adapter: TypeAdapter[Any] = TypeAdapter(type_)

    def to_json(value: Any) -> bytes:
        # By alias, as a client reads it. A warning of pydantic's says that a field is not of its type.
        try:
            text = adapter.dump_json(value, by_alias=True, warnings="error")
        except ValueError:
            # The reader names the field in every version of pydantic, and says it better than the writer's warning.
            adapter.validate_json(adapter.dump_json(value, by_alias=True, warnings=False))
            raise
        if b"null" in text or b"NaN" in text or b"Infinity" in text:
            check_finite(value, text)
        return text

    def check_finite(value: Any, text: bytes) -> None:
        _refuse_constants(text)
        # A NaN is written as null, unless the type says otherwise: then there are more of them than without that.
        values = adapter.dump_python(value, mode="json", by_alias=True)
        if json.dumps(values).count("null") < text.count(b"null"):
            try:
                adapter.validate_json(text)  # which says where
            except ValidationError as exc:
                raise ValueError(f"{_where(exc.errors())}{NOT_FINITE}") from None
            raise ValueError(NOT_FINITE)

    def reason(exc: Exception) -> str:
        if not isinstance(exc, ValidationError):
            return " ".join(str(exc).split())
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return f"{_where(errors)}{errors[0]['msg']}{more}"

    return Payload(type_, "pydantic", _record_of(type_), to_json, adapter.validate_json, reason)


def _of_msgspec(type_: Any) -> Payload:
    import msgspec  # noqa: PLC0415 -- who declares a Struct has it

    msgspec.json.schema(type_)  # raises what a Decoder would only raise when it is used
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(type_).decode

    def to_json(value: Any) -> bytes:
        # A Struct checks nothing when it is made, so what is written is read at once. Both take 0.3 us together.
        text = encode(value)
        try:
            decode(text)
        except msgspec.ValidationError as exc:
            hint = " (as a NaN is written)" if "got `null`" in str(exc) else ""
            raise ValueError(f"{exc}{hint}") from exc
        return text

    return Payload(type_, "msgspec", _record_of(type_), to_json, decode, str)


def _of_stdlib(type_: object) -> Payload:
    def from_json(_: str) -> NoReturn:
        raise ImportError(
            f"to decode a {name_of(type_)} takes pydantic or msgspec, and neither is installed; "
            "install sse-trio[json], or read event.json()"
        )

    return Payload(type_, "json", _record_of(type_), dumps_compact, from_json, str)


def _where(errors: Sequence[Any]) -> str:
    """The path to the field of the first of pydantic's errors; nothing if it is the whole value."""
    where = ".".join(map(str, errors[0]["loc"]))
    return f"{where}: " if where else ""


def _refuse_constants(text: bytes) -> None:
    """Raise ValueError for a NaN or Infinity that stands in the text as such."""
    json.loads(text, parse_constant=_refuse)


def _refuse(_: str) -> NoReturn:
    raise ValueError(NOT_FINITE)
