# EventType: one event of a stream, its name and what its data is. Makes events of values, and values of events.
#
# Rule 1: the data is JSON on one line, by the library that knows its type best (_typed/payload.py).
# Rule 2: a name that the wire can't carry, or that a client could never receive, is refused where it is declared.

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast, final, overload

from .._arguments.checks import check_instance, check_text
from .._errors import InvalidEventError, UnknownEventError
from .._wire.event import ServerSentEvent
from .._wire.received import ReceivedEvent
from .payload import Payload, name_of, open_payload

__all__ = ("EventType", "check_received", "decode_payload")

T = TypeVar("T")


@final
class EventType(Generic[T]):
    """One event of an :class:`EventTypes`: its name, and the type of its data. Calling it makes an event.

    Args:
        type: a pydantic model, a dataclass, a ``msgspec.Struct``, or what else pydantic or msgspec write as JSON: a
            ``TypedDict``, ``list[Tick]``, ``Tick | None``, ``str``, ``None``. The data is JSON in each case.
        name: the name on the wire; by default that of the attribute.

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
            AttributeError: it has none: it was given none, and is no attribute of a class.
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
            TypeError: the value is no instance of the declared class.
            ValueError: a field of the value is not of its type, or has no JSON form, as NaN; the message names it.
        """
        payload = self._payload
        if not isinstance(value, payload.record):
            raise TypeError(f"event {self.name!r} takes {name_of(payload.declared)}, not {type(value).__name__}")
        try:
            data = payload.to_json(value)
        except Exception as exc:
            raise ValueError(
                f"event {self.name!r} takes {name_of(payload.declared)}, and this {type(value).__name__} has "
                f"something else in it: {payload.reason(exc)}"
            ) from exc
        return ServerSentEvent(data, event=self.name, id=id, retry=retry, comment=comment)

    def decode(self, event: ReceivedEvent) -> T:
        """Return the value that an event carries.

        Raises:
            InvalidEventError: its data is not of the type; the server's fault.
            UnknownEventError: it is another event, by its name.
            ImportError: neither pydantic nor msgspec is installed.
        """
        check_received(event)
        if event.event != self.name:
            raise UnknownEventError(event, (self.name,))
        return cast("T", decode_payload(self._payload, event))


def decode_payload(payload: Payload, event: ReceivedEvent) -> object:
    """Return the value that an event of this payload carries. InvalidEventError: it carries something else."""
    try:
        return payload.from_json(event.data)
    except ValueError as exc:  # the errors of both libraries are
        raise InvalidEventError(event, name_of(payload.declared), payload.reason(exc)) from exc


def check_received(event: object) -> None:
    """Raise TypeError for what no client has received."""
    check_instance("event", event, ReceivedEvent, "a ReceivedEvent, as a client gets it")


def _check_name(name: str) -> str:
    check_text("name", name)
    if not name:
        raise ValueError("an event can't have the name '': a client would receive it as 'message'")
    ServerSentEvent(event=name)  # its errors say what the wire can't carry
    return name
