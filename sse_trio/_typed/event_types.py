# EventTypes: which events a stream has (_typed/event_type.py is one of them). Makes, decodes and documents events by
# that.
#
# Rule 1: a declaration is complete and checked when it is made; per event nothing is looked up but a name.
# Rule 2: any string may be the name of an event. What is not reached as an attribute, because it is no identifier
#         or the name of a method, is reached by index. So there are few methods.
# Rule 3: an event that is not declared is an error for decode() and a question of `in`: whether a server may send more
#         than a client knows is the client's decision.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType, UnionType
from typing import Any, ForwardRef, Generic, TypeVar, Union, cast, get_args, get_origin, overload

from .._arguments.checks import check_instance, check_text
from .._errors import UnknownEventError
from .._wire.received import ReceivedEvent
from .event_type import EventType, check_received, decode_payload
from .openapi import Version, make_components, make_responses
from .payload import is_class, name_of

__all__ = ("EventTypes",)

T = TypeVar("T")


class EventTypes(Generic[T]):
    """The events of a stream, by name. Makes them of values, decodes them to values, and documents them.

    ::

        events = EventTypes({"tick": Tick, "done": Done})

        await send_channel.send(events.tick(Tick(symbol="ACME", price=9.5), id="1"))  # in a producer

        async for event in source:  # in a client
            if event.event in events:  # a newer server may send more
                value = events.decode(event)

    As a class each event has its own static type; ``EventTypes[...]`` names what :meth:`decode` may return::

        class Ticker(EventTypes[Tick | Done]):
            tick = EventType(Tick)
            done = EventType(Done, name="job.done")

        ticker = Ticker()

    ``events["job.done"]`` is the :class:`EventType` of that name, whatever the name; ``"tick" in events``, and
    iterating gives the names.

    Args:
        types: the type of each event's data by the event's name, as :class:`EventType` takes them; beside what a
            subclass declares.

    Raises:
        TypeError: a type has no JSON form; or, where a subclass is defined, ``EventTypes[...]`` lacks a type.
        ValueError: a name that no event can have, or that is there twice; no event at all.
    """

    @overload
    def __init__(self, /) -> None: ...
    @overload
    def __init__(self, types: Mapping[str, type[T]], /) -> None: ...
    @overload
    def __init__(self: EventTypes[Any], types: Mapping[str, object], /) -> None: ...
    def __init__(self, types: Mapping[str, Any] = MappingProxyType({}), /) -> None:
        check_instance("types", types, Mapping, "a mapping of names to types, such as {'tick': Tick}")
        declared = list(_declared_in(type(self)))
        declared += [EventType(type_, name=name) for name, type_ in types.items()]
        if not declared:
            raise ValueError("EventTypes without an event; write EventTypes({'tick': Tick})")
        names = [event_type.name for event_type in declared]
        self._types: Mapping[str, EventType[Any]] = MappingProxyType(dict(zip(names, declared, strict=True)))
        if len(names) > len(self._types):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"declared twice: {', '.join(map(repr, twice))}; a name is of one event only")
        self._payloads = MappingProxyType({name: event_type._payload for name, event_type in self._types.items()})  # noqa: SLF001 -- two parts of one thing

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if isinstance(value, EventType):
                if hasattr(EventTypes, name):
                    raise TypeError(
                        f"{cls.__name__}.{name} hides what EventTypes has of that name; write "
                        f"{name}_ = EventType(..., name={name!r})"
                    )
                _check_argument(cls, name, value._payload.declared)  # noqa: SLF001

    def __repr__(self) -> str:
        types = ", ".join(f"{name!r}: {name_of(payload.declared)}" for name, payload in self._payloads.items())
        return f"{type(self).__name__}({{{types}}})"

    # Typed as what a mapping allows: any of its types. The attributes of a subclass are found before this is asked.
    def __getattr__(self, name: str) -> EventType[T]:
        if not name.startswith("_") and name in self._types:
            return self._types[name]
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}, and no event of that name is declared",
            name=name,
            obj=self,
        )

    def __getitem__(self, name: str) -> EventType[T]:
        """Return the event of this name; KeyError if none is declared."""
        return self._types[name]

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def decode(self, event: ReceivedEvent) -> T:
        """Return the value that an event carries, of the type that is declared for its name.

        Raises:
            InvalidEventError: its data is not of that type; the server's fault.
            UnknownEventError: no event of this name is declared. ``if event.event in events`` says so before.
            ImportError: neither pydantic nor msgspec is installed.
        """
        check_received(event)
        payload = self._payloads.get(event.event)
        if payload is None:
            raise UnknownEventError(event, tuple(self._types))
        return cast("T", decode_payload(payload, event))

    def responses(self, *, version: Version = "3.1", name: str | None = None) -> dict[int | str, dict[str, Any]]:
        """Return what a path operation of FastAPI takes as ``responses=``: a 200 that is a stream of these events.

        With it goes ``response_class=EventSourceResponse``, or FastAPI documents JSON as well. FastAPI makes the
        schema: a ``oneOf`` of the events, each with its name as ``const`` and with its data as ``contentSchema``; the
        models are components of the application's.

        Args:
            version: of OpenAPI. FastAPI writes 3.1, where ``schema`` is that of one event. With
                ``app.openapi_version = "3.2.0"`` say ``"3.2"``: ``itemSchema`` is that of one event then.
            name: of the component that ``itemSchema`` refers to, unlike any other component's; by default that of
                the subclass, or made of the names of the events: ``TickDoneEvent``.

        Raises:
            ImportError: there is no pydantic. FastAPI has it.
            ValueError: `version` is neither, or `name` is not the name of a component or that of a part of the data.
        """
        return make_responses(self._payloads, self._component(name), version)

    def components(self, name: str | None = None, *, version: Version = "3.1") -> dict[str, dict[str, Any]]:
        """Return a Components Object of OpenAPI, for the document of a Starlette application or any other.

        ``schemas`` has the event under this name, and its data under the names of the types. ``responses`` has the
        stream under this name, so that an operation says ``$ref: "#/components/responses/..."``.

        Args:
            name: by default as in :meth:`responses`.
            version: of OpenAPI: as in :meth:`responses`.

        Raises:
            ImportError: neither pydantic nor msgspec is installed.
            ValueError: as in :meth:`responses`.
        """
        return make_components(self._payloads, self._component(name), version)

    def _component(self, name: str | None) -> str:
        if name is not None:
            check_text("name", name)
            return name
        if type(self) is not EventTypes:
            return type(self).__name__
        words = re.findall("[A-Za-z0-9]+", " ".join(self._types))
        return "".join(word[:1].upper() + word[1:] for word in words) + "Event"


def _declared_in(cls: type) -> Iterator[EventType[Any]]:
    """The events that are attributes of a class, those of its bases first; who is overridden is none."""
    names = {name: None for base in reversed(cls.__mro__) for name in vars(base)}
    for name in names:
        attribute: EventType[Any] | object = getattr(cls, name, None)
        if isinstance(attribute, EventType):
            yield attribute


def _check_argument(cls: type, name: str, type_: object) -> None:
    """Raise TypeError if `EventTypes[...]` lacks the type of an event: decode() would return what it does not say."""
    bases = (base for ancestor in cls.__mro__ for base in vars(ancestor).get("__orig_bases__", ()))
    said = next((member for base in bases if get_origin(base) is EventTypes for member in get_args(base)), object)
    if not all(_is_said(part, _members(said)) for part in _members(type_)):
        raise TypeError(
            f"{cls.__name__}.{name} is of type {name_of(type_)}, which its EventTypes[{name_of(said)}] lacks; write "
            f"class {cls.__name__}(EventTypes[{name_of(said)} | {name_of(type_)}])"
        )


def _members(type_: object) -> tuple[object, ...]:
    if get_origin(type_) in {Union, UnionType}:
        return get_args(type_)
    return (type(None),) if type_ is None else (type_,)


def _is_said(part: object, said: tuple[object, ...]) -> bool:
    """Whether a type is one of these, or derived from one; or what is said is nothing that can be known here."""
    if any(member is Any or member is object or isinstance(member, (TypeVar, ForwardRef)) for member in said):
        return True
    return part in said or (is_class(part) and issubclass(part, tuple(filter(is_class, said))))
