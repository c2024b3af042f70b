# What OpenAPI is told of a stream: one event as a schema, its name bound to the schema of its data.
#
# Rule 1: fields of an event are strings on the wire (OpenAPI 3.2, Special Considerations for Server-Sent Events), so
#         `data` is a string with a contentSchema.
# Rule 2: OpenAPI 3.2 has `itemSchema` for one event. 3.1 has no word for it: there `schema` is that of one event, as
#         tools read it that know event streams (Schemathesis, Speakeasy), and says so in its description.
# Rule 3: the data's schemas are those of the library that writes the data. They become components of the document;
#         in FastAPI of its own making, so that a model which other routes use as well is there once.
# Rule 4: pydantic makes its components under names of its choice, and rewrites references to them in schemas only
#         that it has made itself. So what is to be in the document is made by way of pydantic (_Events, _Struct).

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from .._arguments.checks import wrong
from .payload import Payload

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema
    from typing_extensions import Self

__all__ = ("Schema", "Version", "make_components", "make_responses")

Version = Literal["3.1", "3.2"]
Schema = dict[str, Any]

DESCRIPTION = "A stream of server-sent events"
REF = "#/components/schemas/"


def make_components(payloads: Mapping[str, Payload], name: str, version: Version) -> dict[str, dict[str, Any]]:
    """Return a Components Object: the schemas of the events and their data, and a response, both by this name.

    Raises:
        ImportError: no library that describes the types is installed.
        ValueError: the name can't be a component's, or is that of a part of the data; or there is no such version.
    """
    _check(name, version)
    libraries = _libraries_of(payloads)
    describe = _describe_by_msgspec if libraries == {"msgspec"} else _describe_by_pydantic
    one_event, schemas = describe(payloads)
    if name in schemas:
        raise ValueError(f"the data has a type named {name!r}, too; give another name: components('{name}Events')")
    one = {"$ref": REF + name}
    content = {"schema": one} if version == "3.1" else {"itemSchema": one}
    response = {"description": DESCRIPTION, "content": {"text/event-stream": content}}
    return {"schemas": {name: one_event, **schemas}, "responses": {name: response}}


def make_responses(payloads: Mapping[str, Payload], name: str, version: Version) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI's ``responses=`` takes: a 200 with a model, of which FastAPI makes schema and components.

    Raises:
        ImportError: there is no pydantic.
        ValueError: the name can't be a component's, or is not there for it; or there is no such version.
    """
    _check(name, version)
    _libraries_of(payloads)
    response: dict[str, Any] = {"description": DESCRIPTION}
    if version == "3.1":
        response["model"] = Annotated[Any, _Events(payloads)]
        _json_schema(response["model"])  # raises here what FastAPI would raise for who asks for the document
    else:
        # FastAPI makes `schema` of the model, and nothing else. That of the whole body is an array (OpenAPI 3.2,
        # Sequential Media Types); itemSchema refers to the component that its items are. To be one, it must be a type
        # and no annotation.
        response["model"] = GenericAlias(list, (_Events(payloads, name),))
        response["content"] = {"text/event-stream": {"itemSchema": {"$ref": REF + name}}}
        _check_component(response["model"], name)
    return {200: response}


def _check(name: str, version: str) -> None:
    if version not in ("3.1", "3.2"):
        raise wrong(ValueError, "version", "'3.1' or '3.2', of OpenAPI", version)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"{name!r} can't be the name of a component: letters, digits, '_' and '-' only")


def _libraries_of(payloads: Mapping[str, Payload]) -> set[str]:
    """The libraries that describe the types; ImportError if there is none."""
    libraries: set[str] = {payload.library for payload in payloads.values()}
    if "json" in libraries:
        raise ImportError("to describe events takes pydantic or msgspec; install sse-trio[json]")
    return libraries


def _check_component(model: Any, name: str) -> None:
    """Raise ValueError if pydantic makes another name of the component's, as it does where there are two."""
    if _json_schema(model)["items"]["$ref"] != REF + name:
        raise ValueError(f"the data has a type named {name!r}, too; give another name: responses(name='{name}Events')")


def _one_event(schemas: Mapping[str, Schema]) -> Schema:
    """The schema of one event; `schemas` are those of the data by the event's name."""
    return {
        "type": "object",
        "description": "One event. The body is a stream of any number of them.",
        "properties": {
            "event": {"type": "string"},
            "data": {"type": "string"},
            "id": {"type": "string"},
            "retry": {"type": "integer", "minimum": 0},
        },
        "required": ["event", "data"],
        "oneOf": [_branch(name, schema) for name, schema in schemas.items()],
    }


def _branch(name: str, schema: Schema) -> Schema:
    data = {"contentMediaType": "application/json", "contentSchema": schema}
    return {"title": name, "properties": {"event": {"const": name}, "data": data}}


# --- by msgspec alone


def _describe_by_msgspec(payloads: Mapping[str, Payload]) -> tuple[Schema, dict[str, Schema]]:
    schemas, components = _schemas_of_msgspec(payloads, REF + "{name}")
    return _one_event(schemas), components


def _schemas_of_msgspec(
    payloads: Mapping[str, Payload], ref_template: str
) -> tuple[dict[str, Schema], dict[str, Schema]]:
    import msgspec  # noqa: PLC0415 -- who declares a Struct has it

    types = {name: payload.declared for name, payload in payloads.items() if payload.library == "msgspec"}
    schemas, components = msgspec.json.schema_components(types.values(), ref_template=ref_template)
    return dict(zip(types, schemas, strict=True)), components


# --- by pydantic


def _describe_by_pydantic(payloads: Mapping[str, Payload]) -> tuple[Schema, dict[str, Schema]]:
    one_event = _json_schema(Annotated[Any, _Events(payloads)])
    return one_event, one_event.pop("$defs", {})


def _json_schema(type_: Any) -> Schema:
    from pydantic import TypeAdapter  # noqa: PLC0415 -- an extra

    return TypeAdapter(type_).json_schema(mode="serialization", ref_template=REF + "{model}")


class _Parts:
    """What pydantic asks for its schemas: a tuple to it, so that it makes those of the parts, and their components."""

    def __init__(self, parts: Mapping[str, Any], ref: str | None) -> None:
        self._parts = parts
        self._ref = ref

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 -- pydantic is there, or who would call this?

        parts = [self._part(part, handler) for part in self._parts.values()]
        return core_schema.tuple_schema(parts, ref=self._ref)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        # Older versions have made a component of it by now, newer ones make one of what is returned.
        parts = handler.resolve_ref_schema(handler(schema)).get("prefixItems", ())
        return self._whole(dict(zip(self._parts, parts, strict=True)))

    def __deepcopy__(self, memo: object) -> Self:
        return self  # FastAPI copies a response with the model in it, and nothing here changes

    def _part(self, part: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(part)

    def _whole(self, parts: dict[str, Schema]) -> Schema:
        raise NotImplementedError


class _Events(_Parts):
    """One event, out of the types of the data; a component, if it has a name."""

    def __init__(self, payloads: Mapping[str, Payload], name: str | None = None) -> None:
        types: dict[str, Any] = {key: payload.declared for key, payload in payloads.items()}
        if any(payload.library == "msgspec" for payload in payloads.values()):
            schemas, components = _schemas_of_msgspec(payloads, "{name}")
            types |= {key: Annotated[Any, _Struct(schema, components)] for key, schema in schemas.items()}
        super().__init__(types, name and f"sse_trio.{name}:{id(payloads)}")
        self._payloads = payloads  # as long as they live, their id is theirs

    def _whole(self, parts: dict[str, Schema]) -> Schema:
        return _one_event(parts)


class _Struct(_Parts):
    """A schema by msgspec, out of the components that it refers to; one itself, if it has a name."""

    def __init__(
        self,
        schema: Schema,
        components: Mapping[str, Schema],
        name: str | None = None,
        within: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__({ref: ref for ref in sorted(set(_refs_in(schema)))}, name and self._ref_of(name, components))
        self._schema = schema
        self._components = components
        self._within = within

    @staticmethod
    def _ref_of(name: str, components: Mapping[str, Schema]) -> str:
        # The same for the same: a Struct that two routes send is one component.
        reached = {ref: components[ref] for ref in sorted(_reached_from(name, components))}
        return f"msgspec.{name}:{hash(repr(reached))}"

    def _part(self, part: str, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 -- see above

        if part in self._within:
            return core_schema.definition_reference_schema(self._ref_of(part, self._components))
        within = self._within | {part}
        return handler.generate_schema(_Struct(self._components[part], self._components, part, within))

    def _whole(self, parts: dict[str, Schema]) -> Schema:
        return cast("Schema", _with_refs(self._schema, parts))


def _refs_in(schema: object) -> Iterator[str]:
    """The names that a schema refers to."""
    if isinstance(schema, dict):
        mapping = cast("Schema", schema)
        if "$ref" in mapping:
            yield mapping["$ref"]
        for value in mapping.values():
            yield from _refs_in(value)
    elif isinstance(schema, list):
        for value in cast("list[object]", schema):
            yield from _refs_in(value)


def _reached_from(name: str, components: Mapping[str, Schema]) -> set[str]:
    """The names of a component and of all that it is made of."""
    reached, pending = set[str](), {name}
    while pending:
        reached |= pending
        pending = {ref for reference in pending for ref in _refs_in(components[reference])} - reached
    return reached


def _with_refs(schema: object, refs: Mapping[str, Schema]) -> object:
    """The schema with its references as pydantic has them."""
    if isinstance(schema, dict):
        mapping = cast("Schema", schema)
        ref = refs[mapping["$ref"]] if "$ref" in mapping else {}
        return {**{key: _with_refs(value, refs) for key, value in mapping.items() if key != "$ref"}, **ref}
    if isinstance(schema, list):
        return [_with_refs(value, refs) for value in cast("list[object]", schema)]
    return schema
