# EventType: one event of a stream, its name and the type of its data. Turns values into events, and events into values.
#
# Rule 1: the data is JSON on one line, by the library that knows its type best (_typed/payload.py).
# Rule 2: a declaration refuses a name that the wire can't carry, or that a client could never receive.

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, cast, final, overload

from .._arguments.checks import check_instance, check_text
from .._errors import InvalidEventError, UnknownEventError
from .._wire.event import ServerSentEvent
from .._wire.received import ReceivedEvent
from .payload import Payload, name_of, open_payload

__all__ = ("EventType", "check_received", "decode_payload", "payload_of")

T = TypeVar("T")


@final
class EventType(Generic[T]):
    """One event of an :class:`EventTypes`: its name, and the type of its data. Calling it makes an event.

    Args:
        type: a pydantic model, a dataclass, a ``msgspec.Struct``, or any other type that pydantic or msgspec can write
            as JSON: a ``TypedDict``, ``list[Tick]``, ``Tick | None``, ``str``, ``None``. The data is always JSON.
        name: the name on the wire; by default the name of the attribute.

    Raises:
        TypeError: the type has no JSON form.
        ValueError: no event can have this name.
    """

    __slots__ = ("_name", "_payload")

    @overload
    def __init__(self, type: type[T], /, *, name: str | None = None) -> None: ...
    @overload
    def __init__(self: EventType[Any], type: object, /, *, name: str | None = None) -> None: ...
    def __init__(self, type: object, /, *, name: str | None = None) -> None:  # noqa: A002 -- what it is
        self._name = None if name is None else _check_name(name)
        self._payload = open_payload(type)

    def __set_name__(self, owner: object, name: str) -> None:
        if self._name is None:
            self._name = _check_name(name)

    def __repr__(self) -> str:
        return f"EventType({name_of(self._payload.declared)}, name={self._name!r})"

    @property
    def name(self) -> str:
        """The name of the event on the wire.

        Raises:
            AttributeError: it has no name, because none was given and it is not an attribute of a class.
        """
        if self._name is None:
            raise AttributeError("this EventType has no name; write EventType(..., name=...)")
        return self._name

    def __call__(
        self,
        value: T,
        /,
        *,
        id: str | None = None,  # noqa: A002 -- as in ServerSentEvent
        retry: int | None = None,
        comment: str | None = None,
    ) -> ServerSentEvent:
        """Return an event with this name and with ``value`` as JSON on one line.

        The other arguments are those of :class:`ServerSentEvent`.

        Raises:
            TypeError: the value is not an instance of the declared class.
            ValueError: a field of the value has another type, or no JSON form, such as NaN; the message names it.
        """
        payload = self._payload
        if not isinstance(value, payload.record):
            msg = f"the value of event {self.name!r} must be of type {name_of(payload.declared)}; got {_kind_of(value)}"
            raise TypeError(msg)
        try:
            data = payload.to_json(value)
        except Exception as exc:
            msg = (
                f"the value of event {self.name!r} must match {name_of(payload.declared)}; "
                f"got {_kind_of(value)}: {payload.reason(exc)}"
            )
            raise ValueError(msg) from exc
        return ServerSentEvent(data, event=self.name, id=id, retry=retry, comment=comment)

    def decode(self, event: ReceivedEvent) -> T:
        """Return the value that an event carries.

        Raises:
            InvalidEventError: its data is not of the type. This is the server's fault.
            UnknownEventError: the event has another name.
            ImportError: neither pydantic nor msgspec is installed.
        """
        check_received(event)
        if event.event != self.name:
            raise UnknownEventError(event, (self.name,))
        return cast("T", decode_payload(self._payload, event))


payload_of: Final = cast("Callable[[EventType[Any]], Payload]", attrgetter("_payload"))
"""Return how the values of an event type are written and read. For this package; users have no need of it."""


def decode_payload(payload: Payload, event: ReceivedEvent) -> object:
    """Return the value that an event of this payload carries. InvalidEventError: it carries something else."""
    try:
        return payload.from_json(event.data)
    except ValueError as exc:  # both libraries raise subclasses of it
        raise InvalidEventError(event, name_of(payload.declared), payload.reason(exc)) from exc


def check_received(event: object) -> None:
    """Raise TypeError for anything but a received event."""
    check_instance("event", event, ReceivedEvent, "a ReceivedEvent, as a client gets it")


def _kind_of(value: object) -> str:
    # Not the value itself: it may hold a secret.
    return f"an object of type {type(value).__name__}"


def _check_name(name: str) -> str:
    check_text("name", name)
    if not name:
        raise ValueError("name must not be empty: a client would receive the event as 'message'")
    ServerSentEvent(event=name)  # raises for what the wire can't carry
    return name
