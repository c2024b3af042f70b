# EventTypes: the events of a stream (_typed/event_type.py is one of them). Makes, decodes and documents them.
#
# Rule 1: a declaration is complete and checked when it is made; for each event, only its name is looked up.
# Rule 2: any string may be the name of an event. An index reaches every event; an attribute reaches those whose name is
#         an identifier and not the name of a method. So there are few methods.
# Rule 3: decode() raises for an event that is not declared, and `in` tells whether it is: the client decides whether a
#         server may send events that it doesn't know.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType, UnionType
from typing import Any, ForwardRef, Generic, TypeGuard, TypeVar, Union, cast, get_args, get_origin, overload

from .._arguments.checks import check_instance, check_text
from .._errors import UnknownEventError
from .._wire.received import ReceivedEvent
from .event_type import EventType, check_received, decode_payload, payload_of
from .openapi import Version, make_components, make_responses
from .payload import is_class, name_of

__all__ = ("EventTypes",)

T = TypeVar("T")


class EventTypes(Generic[T]):
    """The events of a stream, by name. Makes events from values, decodes them to values, and documents them.

    ::

        events = EventTypes({"tick": Tick, "done": Done})

        await send_channel.send(events.tick(Tick(symbol="ACME", price=9.5), id="1"))  # in a producer

        async for event in source:  # in a client
            if event.event in events:  # a newer server may send more
                value = events.decode(event)

    In a subclass each event has its own static type; ``EventTypes[...]`` names what :meth:`decode` may return::

        class Ticker(EventTypes[Tick | Done]):
            tick = EventType(Tick)
            done = EventType(Done, name="job.done")

        ticker = Ticker()

    ``events["job.done"]`` is the :class:`EventType` of that name, ``"tick" in events`` tells whether there is one, and
    iterating gives the names.

    Args:
        types: the type of each event's data by the event's name, as :class:`EventType` takes them. They are added to
            the events that a subclass declares.

    Raises:
        TypeError: a type has no JSON form; or, when you define a subclass, ``EventTypes[...]`` lacks a type.
        ValueError: no event can have this name, or two have it, or there are no events.
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
            raise ValueError("types must have at least one event, such as {'tick': Tick}; got none")
        names = [event_type.name for event_type in declared]
        self._types: Mapping[str, EventType[Any]] = MappingProxyType(dict(zip(names, declared, strict=True)))
        if len(names) > len(self._types):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"each event must have its own name; declared twice: {', '.join(map(repr, twice))}")
        self._payloads = MappingProxyType({name: payload_of(event_type) for name, event_type in self._types.items()})

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if _is_event_type(value):
                if hasattr(EventTypes, name):
                    raise TypeError(
                        f"{cls.__name__}.{name} must have another name, because EventTypes has one of that name; "
                        f"write {name}_ = EventType(..., name={name!r})"
                    )
                _check_argument(cls, name, payload_of(value).declared)

    def __repr__(self) -> str:
        types = ", ".join(f"{name!r}: {name_of(payload.declared)}" for name, payload in self._payloads.items())
        return f"{type(self).__name__}({{{types}}})"

    # A mapping's types are not known one by one, so this may be any of them. Python finds a subclass's own attributes
    # first, and calls this for the others.
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
            InvalidEventError: its data is not of that type. This is the server's fault.
            UnknownEventError: no event of this name is declared. Ask ``if event.event in events`` to skip it.
            ImportError: neither pydantic nor msgspec is installed.
        """
        check_received(event)
        payload = self._payloads.get(event.event)
        if payload is None:
            raise UnknownEventError(event, tuple(self._types))
        return cast("T", decode_payload(payload, event))

    def responses(self, *, version: Version = "3.1", name: str | None = None) -> dict[int | str, dict[str, Any]]:
        """Return the ``responses=`` of a FastAPI path operation: a 200 that is a stream of these events.

        Use it together with ``response_class=EventSourceResponse``, or FastAPI documents JSON as well. FastAPI makes
        the schema: a ``oneOf`` of the events, each with its name as ``const`` and its data as ``contentSchema``. The
        models become components of the application.

        Args:
            version: of OpenAPI. FastAPI writes 3.1, where ``schema`` is the schema of one event. With
                ``app.openapi_version = "3.2.0"`` say ``"3.2"``; then ``itemSchema`` is the schema of one event.
            name: the name of the component that ``itemSchema`` refers to. No other component may have it. By default
                the name of the subclass, or one made from the names of the events: ``TickDoneEvent``.

        Raises:
            ImportError: pydantic is not installed. FastAPI installs it.
            ValueError: `version` is neither of the two, or `name` can't be the name of a component, or a part of the
                data has that name.
        """
        return make_responses(self._payloads, self._component(name), version)

    def components(self, name: str | None = None, *, version: Version = "3.1") -> dict[str, dict[str, Any]]:
        """Return a Components Object of OpenAPI, for the document of a Starlette application or any other.

        ``schemas`` has the event under `name`, and its data under the names of the types. ``responses`` has the stream
        under `name`: an operation refers to it with ``$ref: "#/components/responses/..."``.

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
    """The events that are attributes of a class, those of its bases first, without those that are overridden."""
    names = {name: None for base in reversed(cls.__mro__) for name in vars(base)}
    for name in names:
        attribute: object = getattr(cls, name, None)
        if _is_event_type(attribute):
            yield attribute


def _is_event_type(value: object) -> TypeGuard[EventType[Any]]:
    return isinstance(value, EventType)


def _check_argument(cls: type, name: str, type_: object) -> None:
    """Raise TypeError if `EventTypes[...]` lacks the type of an event: decode() could return another type."""
    bases = (base for ancestor in cls.__mro__ for base in vars(ancestor).get("__orig_bases__", ()))
    named = next((member for base in bases if get_origin(base) is EventTypes for member in get_args(base)), object)
    if not all(_is_named(part, _members(named)) for part in _members(type_)):
        raise TypeError(
            f"{cls.__name__}.{name} must have a type that EventTypes[{name_of(named)}] names; got {name_of(type_)}; "
            f"write class {cls.__name__}(EventTypes[{name_of(named)} | {name_of(type_)}])"
        )


def _members(type_: object) -> tuple[object, ...]:
    if get_origin(type_) in {Union, UnionType}:
        return get_args(type_)
    return (type(None),) if type_ is None else (type_,)


def _is_named(part: object, named: tuple[object, ...]) -> bool:
    """Whether a type is one of these or derived from one. True as well if these can't be known here."""
    if any(member is Any or member is object or isinstance(member, (TypeVar, ForwardRef)) for member in named):
        return True
    return part in named or (is_class(part) and issubclass(part, tuple(filter(is_class, named))))
