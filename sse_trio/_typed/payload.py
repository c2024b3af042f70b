# Payload: the declared type of an event's data, to and from JSON, by the library that knows the type best.
#
# Rule 1: pydantic handles every type it knows. msgspec handles its Structs, and every type if pydantic doesn't know it
#         or is not installed. With neither, the standard library writes what ServerSentEvent.json() knows, and reads
#         nothing.
# Rule 2: one library for one type, chosen when the type is declared: it writes, it reads and it describes, so that the
#         three agree. Its own JSON writer is used, with the type's own configuration.
# Rule 3: a value is refused where it is sent if the reader of the same type would refuse it, such as a NaN as null.
# Rule 4: no library is imported before a type is declared, and msgspec's types don't import pydantic.

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
    """A declared type, and its library's functions for values and for JSON."""

    declared: object
    library: Library
    record: type[Any]
    """The class that a value must be an instance of: the type, if it is a class with fields; otherwise ``object``."""
    to_json: Callable[[Any], str | bytes]
    """Raises an error of the library for a value that doesn't match the type, or has no JSON form."""
    from_json: Callable[[str], Any]
    """Raises ValueError for a text that doesn't match the type."""
    reason: Callable[[Exception], str]
    """Returns what was wrong and in which field, given an error of either function. It quotes nothing of a text."""


def name_of(type_: object) -> str:
    """Return a type's name as you would write it."""
    if is_class(type_):
        return type_.__name__
    try:
        return inspect.formatannotation(type_)
    except Exception:  # noqa: BLE001 -- a user's __repr__ may raise anything
        return shown(type_)


def is_class(type_: object) -> TypeGuard[type]:
    """Whether a type is a class. A generic alias isn't, though isinstance() says so before Python 3.11."""
    return isinstance(type_, type) and not get_args(type_)


def open_payload(type_: object) -> Payload:
    """Return the payload of a type.

    Raises:
        TypeError: no installed library knows a JSON form of the type; or it is a type's name in quotes, which can't
            be looked up here.
    """
    if isinstance(type_, str):
        raise wrong(TypeError, "type", "the type itself, without the quotes", type_)
    if isinstance(type_, (int, float, bytes, list, dict, FunctionType, BuiltinFunctionType, partial)):
        wanted = "a type, such as a pydantic model, a dataclass or list[int]"
        raise wrong(TypeError, "type", wanted, cast("object", type_))
    errors: list[Exception] = []
    for opener in (_of_msgspec,) if _mentions_struct(type_) else (_of_pydantic, _of_msgspec):
        try:
            return opener(type_)
        except ImportError:
            pass
        except Exception as exc:  # noqa: BLE001 -- a library, or a hook of the type, may raise anything
            errors.append(exc)
    if errors:
        why = str(errors[0]).partition("\n")[0]
        raise TypeError(f"type must have a JSON form; got {name_of(type_)}: {why}") from errors[0]
    return _of_stdlib(type_)


def _mentions_struct(type_: object) -> bool:
    """Whether a type is a Struct of msgspec or has one in it: ``Tick``, ``list[Tick]``, ``Tick | None``."""
    return hasattr(type_, "__struct_fields__") or any(_mentions_struct(part) for part in get_args(type_))


def _record_of(type_: object) -> type[Any]:
    """The type itself, if it is a class with fields; otherwise ``object``."""
    marks = ("__pydantic_decorators__", "__struct_fields__", "__dataclass_fields__")
    return type_ if is_class(type_) and any(hasattr(type_, mark) for mark in marks) else object


def _of_pydantic(type_: Any) -> Payload:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 -- an extra

    adapter: TypeAdapter[Any] = TypeAdapter(type_)

    def to_json(value: Any) -> bytes:
        # By alias, as a client reads it. A warning of pydantic means that a field has another type.
        try:
            text = adapter.dump_json(value, by_alias=True, warnings="error")
        except ValueError:
            # The reader names the field in every version of pydantic, and explains it better than the writer's warning.
            adapter.validate_json(adapter.dump_json(value, by_alias=True, warnings=False))
            raise
        if b"null" in text or b"NaN" in text or b"Infinity" in text:
            check_finite(value, text)
        return text

    def check_finite(value: Any, text: bytes) -> None:
        _refuse_constants(text)
        # pydantic writes a NaN as null, unless the type says otherwise: then the text has more nulls than the values.
        values = adapter.dump_python(value, mode="json", by_alias=True)
        if json.dumps(values).count("null") < text.count(b"null"):
            try:
                adapter.validate_json(text)  # its error says where
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
    import msgspec  # noqa: PLC0415 -- an extra

    msgspec.json.schema(type_)  # raises now what a Decoder would raise later
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(type_).decode

    def to_json(value: Any) -> bytes:
        # A Struct checks nothing when it is made, so the text is read back at once. Both take 0.3 us together.
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
            f"decoding a {name_of(type_)} needs pydantic or msgspec, and neither is installed; "
            "install sse-trio[json], or read event.json()"
        )

    return Payload(type_, "json", _record_of(type_), dumps_compact, from_json, str)


def _where(errors: Sequence[Any]) -> str:
    """The path to the field of pydantic's first error; empty if it is the whole value."""
    where = ".".join(map(str, errors[0]["loc"]))
    return f"{where}: " if where else ""


def _refuse_constants(text: bytes) -> None:
    """Raise ValueError for a bare NaN or Infinity in the text."""
    json.loads(text, parse_constant=_refuse)


def _refuse(_: str) -> NoReturn:
    raise ValueError(NOT_FINITE)
