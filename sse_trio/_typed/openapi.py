# The OpenAPI of a stream: a schema of one event, which binds its name to the schema of its data.
#
# Rule 1: fields of an event are strings on the wire (OpenAPI 3.2, Special Considerations for Server-Sent Events), so
#         `data` is a string with a contentSchema.
# Rule 2: OpenAPI 3.2 has `itemSchema` for one event. 3.1 has no keyword for it: there `schema` is the schema of one
#         event, and its description says so. Tools that know event streams (Schemathesis, Speakeasy) read it like that.
# Rule 3: the library that writes the data also makes its schemas. They become components of the document. FastAPI makes
#         its own, so that a model which other routes use as well is there once.
# Rule 4: pydantic chooses the names of its components, and rewrites references to them only in schemas that it has made
#         itself. So every schema goes into the document by way of pydantic (_Events, _Struct).

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
    """Return a Components Object: the schemas of the events and their data, and a response, both under this name.

    Raises:
        ImportError: no library that describes the types is installed.
        ValueError: the name can't be that of a component, or a part of the data has it; or the version is unknown.
    """
    _check(name, version)
    libraries = _libraries_of(payloads)
    describe = _describe_by_msgspec if libraries == {"msgspec"} else _describe_by_pydantic
    one_event, schemas = describe(payloads)
    if name in schemas:
        raise _name_is_taken(name, f"components('{name}Events')")
    one = {"$ref": REF + name}
    content = {"schema": one} if version == "3.1" else {"itemSchema": one}
    response = {"description": DESCRIPTION, "content": {"text/event-stream": content}}
    return {"schemas": {name: one_event, **schemas}, "responses": {name: response}}


def make_responses(payloads: Mapping[str, Payload], name: str, version: Version) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's ``responses=``: a 200 with a model, from which FastAPI makes schema and components.

    Raises:
        ImportError: pydantic is not installed.
        ValueError: the name can't be that of a component, or a part of the data has it; or the version is unknown.
    """
    _check(name, version)
    _libraries_of(payloads)
    response: dict[str, Any] = {"description": DESCRIPTION}
    if version == "3.1":
        response["model"] = Annotated[Any, _Events(payloads)]
        _json_schema(response["model"])  # raises here what FastAPI would raise when the document is requested
    else:
        # FastAPI makes only `schema` from the model: the whole body, an array (OpenAPI 3.2, Sequential Media Types).
        # itemSchema refers to the component of its items. Only a type becomes a component, an annotation doesn't.
        response["model"] = GenericAlias(list, (_Events(payloads, name),))
        response["content"] = {"text/event-stream": {"itemSchema": {"$ref": REF + name}}}
        _check_component(response["model"], name)
    return {200: response}


def _check(name: str, version: str) -> None:
    if version not in ("3.1", "3.2"):
        raise wrong(ValueError, "version", "'3.1' or '3.2', of OpenAPI", version)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise wrong(ValueError, "name", "the name of a component: letters, digits, '_' and '-' only", name)


def _name_is_taken(name: str, write: str) -> ValueError:
    return ValueError(f"name must differ from the names of the data's types; got {name!r}; write {write}")


def _libraries_of(payloads: Mapping[str, Payload]) -> set[str]:
    """The libraries that describe the types; ImportError if there is none."""
    libraries: set[str] = {payload.library for payload in payloads.values()}
    if "json" in libraries:
        raise ImportError("describing events needs pydantic or msgspec; install sse-trio[json]")
    return libraries


def _check_component(model: Any, name: str) -> None:
    """Raise ValueError if pydantic renames the component, as it does if two have the same name."""
    if _json_schema(model)["items"]["$ref"] != REF + name:
        raise _name_is_taken(name, f"responses(name='{name}Events')")


def _one_event(schemas: Mapping[str, Schema]) -> Schema:
    """The schema of one event; `schemas` has the schema of the data for each event's name."""
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
    import msgspec  # noqa: PLC0415 -- an extra; a declared Struct proves that it is there

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
    """A type to pydantic: a tuple of parts, so that pydantic makes the schemas of the parts and their components."""

    def __init__(self, parts: Mapping[str, Any], ref: str | None) -> None:
        self._parts = parts
        self._ref = ref

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 -- pydantic calls this, so it is there

        parts = [self._part(part, handler) for part in self._parts.values()]
        return core_schema.tuple_schema(parts, ref=self._ref)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        # Older versions have made it a component by now; newer ones make what is returned a component.
        parts = handler.resolve_ref_schema(handler(schema)).get("prefixItems", ())
        return self._whole(dict(zip(self._parts, parts, strict=True)))

    def __deepcopy__(self, memo: object) -> Self:
        return self  # FastAPI copies a response together with the model; nothing in here changes

    def _part(self, part: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(part)

    def _whole(self, parts: dict[str, Schema]) -> Schema:
        raise NotImplementedError


class _Events(_Parts):
    """One event, made from the types of the data; a component, if it has a name."""

    def __init__(self, payloads: Mapping[str, Payload], name: str | None = None) -> None:
        types: dict[str, Any] = {key: payload.declared for key, payload in payloads.items()}
        if any(payload.library == "msgspec" for payload in payloads.values()):
            schemas, components = _schemas_of_msgspec(payloads, "{name}")
            types |= {key: Annotated[Any, _Struct(schema, components)] for key, schema in schemas.items()}
        super().__init__(types, name and f"sse_trio.{name}:{id(payloads)}")
        self._payloads = payloads  # kept alive, so that nothing else gets their id

    def _whole(self, parts: dict[str, Schema]) -> Schema:
        return _one_event(parts)


class _Struct(_Parts):
    """A schema by msgspec, and the components that it refers to; a component itself, if it has a name."""

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
        # Equal schemas get equal refs: a Struct that two routes send is one component.
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
    """The names of a component and of all components that it refers to, directly or not."""
    reached, pending = set[str](), {name}
    while pending:
        reached |= pending
        pending = {ref for reference in pending for ref in _refs_in(components[reference])} - reached
    return reached


def _with_refs(schema: object, refs: Mapping[str, Schema]) -> object:
    """The schema with pydantic's references in place of its own."""
    if isinstance(schema, dict):
        mapping = cast("Schema", schema)
        ref = refs[mapping["$ref"]] if "$ref" in mapping else {}
        return {**{key: _with_refs(value, refs) for key, value in mapping.items() if key != "$ref"}, **ref}
    if isinstance(schema, list):
        return [_with_refs(value, refs) for value in cast("list[object]", schema)]
    return schema
