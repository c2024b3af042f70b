# EventDecoder: takes the bytes of an event stream and returns its events. No I/O, no clock, no anyio.
#
# Rule 1: this file makes every parsing decision of WHATWG HTML 9.2.6; no other file makes any.
# Rule 2: the events and the error don't depend on how the bytes were cut into chunks.
# Rule 3: time is linear in the bytes, however they are cut. Bytes are not looked at again when more arrive, and held
#         data is only appended to, or joined after it has grown by a fixed share.
# Rule 4: ``max_event_size`` bounds the bytes that are held between two calls.
#
# Over 250 lines, because the machine is one: each method reads or sets the same few fields of the event that is being
# parsed.

from __future__ import annotations

from typing import TYPE_CHECKING

from .._arguments.checks import check_flag, check_instance, shown, wrong
from .errors import EventTooLargeError
from .line_ends import PlainLineEnds, has_long_lines
from .oversize import OversizeEvent
from .received import ReceivedEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ("EventDecoder", "ReceivedEvent")

# How many bytes are decoded in one go, so that a feed() of 100 MB doesn't take another 100 MB.
_WINDOW = 262_144
# The size of each line of an unfinished event as an object: about this many bytes, whatever its length.
_STR_SIZE = 64
_MANY_LINES = 1024
# The standard has no limit for retry. Like Chromium, ignore numbers that are too long for 64 bits; int() would raise at
# 4300 digits.
_RETRY_DIGITS = 18


def _check(max_event_size: object, last_event_id: object, skip_too_large: object) -> None:
    if not isinstance(max_event_size, int) or isinstance(max_event_size, bool):
        raise wrong(TypeError, "max_event_size", "an int, the maximum size of an event in bytes", max_event_size)
    if max_event_size < 1:
        raise wrong(ValueError, "max_event_size", "at least 1 byte", max_event_size)
    check_instance("last_event_id", last_event_id, str, 'a str, or "" if there is none')
    check_flag("skip_too_large", skip_too_large)


# The named tuple's own __new__ is a Python function. It takes as long as all other work for a small event.
_new_event: Callable[[type[ReceivedEvent], tuple[str, str, str]], ReceivedEvent]
_new_event = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


class EventDecoder:
    """Decodes one event stream, exactly as WHATWG HTML 9.2.6 says.

    It handles a leading byte order mark; CR, LF and CRLF, also when a chunk ends between CR and LF; and invalid UTF-8,
    which becomes U+FFFD. :meth:`feed` returns an event at the first byte of its blank line's end, so a CR doesn't wait
    for a LF. An event that the end of the stream cuts off is dropped; :meth:`flush` returns it if you want it. Make a
    new decoder for each connection.

    Args:
        max_event_size: the maximum size of one event in bytes: its lines without comments, with each line end counted
            as one byte, and the line that hasn't ended yet, even if it is a comment.
        last_event_id: the last event id of an earlier connection, valid until this stream sets another.
        skip_too_large: drop an event that is larger and go on after it, instead of raising. Its ``id`` and ``retry``
            count, so a reconnection doesn't get it again.

    Raises:
        TypeError: ``max_event_size`` is not an int, ``last_event_id`` not a str, or ``skip_too_large`` not a bool.
        ValueError: ``max_event_size`` is less than 1.
    """

    __slots__ = (
        "_data",
        "_event",
        "_id",
        "_last_event_id",
        "_line_ends",
        "_max_event_size",
        "_more_data",
        "_oversize",
        "_retry",
        "_size",
        "_skip_too_large",
        "_skipped",
        "_tail",
        "_too_large",
        "_window",
    )

    def __init__(
        self, *, max_event_size: int = 1_048_576, last_event_id: str = "", skip_too_large: bool = False
    ) -> None:
        _check(max_event_size, last_event_id, skip_too_large)
        self._max_event_size = max_event_size
        # Half the limit, so that a window and the held bytes together exceed it only if an event may be too large.
        self._window = min(_WINDOW, max_event_size // 2 or 1)
        self._too_large = False
        self._skip_too_large = skip_too_large
        # The event that is being dropped, or None.
        self._oversize: OversizeEvent | None = None
        self._skipped = 0
        self._line_ends = PlainLineEnds()
        # The line that hasn't ended. A bytearray grows in place, so a long line in small chunks stays linear.
        self._tail = bytearray()
        # The event that hasn't ended: its bytes without _tail, and its fields. The first data line is kept apart,
        # because most events have only one.
        self._size = 0
        self._event = ""
        self._data: str | None = None
        self._more_data: list[str] = []
        self._id = last_event_id
        self._last_event_id = last_event_id
        self._retry: int | None = None

    def __repr__(self) -> str:
        held = self._size + len(self._tail)
        return f"<EventDecoder: last_event_id={shown(self._last_event_id)}, {held} bytes of an unfinished event>"

    @property
    def last_event_id(self) -> str:
        """The ``Last-Event-ID`` for a reconnection. Each blank line commits it, also one of an event without data."""
        return self._last_event_id

    @property
    def retry(self) -> int | None:
        """The last reconnection time that the stream asked for, in milliseconds, or ``None``.

        It is set at the end of the ``retry`` line, without a blank line. A value of more than 18 digits is ignored.
        """
        return self._retry

    @property
    def skipped(self) -> int:
        """How many events have been dropped because of their size."""
        return self._skipped

    def feed(self, data: bytes) -> list[ReceivedEvent]:
        """Take the next bytes of the stream, cut into chunks in any way.

        Returns:
            The events that ended in these bytes, oldest first; often none.

        Raises:
            EventTooLargeError: an event is larger than ``max_event_size``. Never raised with ``skip_too_large``. The
                error's ``events`` are the events that ended before it in this call, and ``last_event_id`` is that of
                the last of them. A reconnection from there gets the large event again; one from the error's
                ``event_id`` doesn't. The decoder can't be used any more: it has dropped all held data, and every later
                call raises the same error, without events.
        """
        events: list[ReceivedEvent] = []
        if self._too_large:
            raise self._error(events)
        if b"\r" in data or self._line_ends.is_pending:
            data = self._line_ends.feed(data)
        for start in range(0, len(data), self._window):
            window = data[start : start + self._window]
            if self._size + len(self._tail) + len(window) <= self._max_event_size:
                self._take(window, events)
            else:
                self._take_line_by_line(window, events)
        return events

    def flush(self) -> list[ReceivedEvent]:
        """End the last event with the end of the stream, and return that event if there is one.

        The standard says to drop an event without a blank line, because a broken connection looks the same. Use this
        only for a server that is known to leave out the last blank line. Call it once, at the end of the stream.

        Raises:
            EventTooLargeError: :meth:`feed` raised it before.
        """
        events: list[ReceivedEvent] = []
        if self._too_large:
            raise self._error(events)
        while self._oversize is not None:
            self._skip(b"\n")
        # The end of a line that hasn't ended, and the blank line.
        for end in (b"\n", b"\n") if self._tail else (b"\n",):
            self._take(end, events)
        return events

    def _take_line_by_line(self, window: bytes, events: list[ReceivedEvent]) -> None:
        """Take a window in which an event may be too large. The limit is exact, however the bytes were cut."""
        for line in window.splitlines(keepends=True):
            is_blank = line == b"\n" and not self._tail
            fits = is_blank or self._size + len(self._tail) + len(line) <= self._max_event_size
            if fits and self._oversize is None:
                self._take(line, events)
            elif self._skip_too_large:
                self._skip(line)
            else:
                self._too_large = True
                self._tail, self._data, self._more_data = bytearray(), None, []
                raise self._error(events)

    def _skip(self, line: bytes) -> None:
        """Take a line, or a part of one, of an event that is dropped. Only its id and retry count."""
        if self._oversize is None:
            self._oversize = OversizeEvent(self._tail, self._max_event_size)
            self._tail, self._data, self._more_data, self._event = bytearray(), None, [], ""
            self._size = self._max_event_size  # so that feed() brings each line here
        field = self._oversize.take(line)
        if field:
            name, _, value = field.partition(":")
            self._process_field(name, value.removeprefix(" "))
        if self._oversize.is_done:
            self._oversize, self._size = None, 0
            self._skipped += 1
            self._last_event_id = self._id

    def _error(self, events: list[ReceivedEvent]) -> EventTooLargeError:
        return EventTooLargeError(self._max_event_size, events, None if self._id == self._last_event_id else self._id)

    def _take(self, window: bytes, events: list[ReceivedEvent]) -> None:
        """Interpret the lines that end in `window` and keep the remainder. The caller has checked the limit."""
        cut = window.rfind(b"\n") + 1
        if not cut:
            self._tail += window
            return
        if not self._tail:
            lines: bytes | bytearray = window[:cut]
        else:
            lines, self._tail = self._tail, bytearray()
            lines += memoryview(window)[:cut]
        if cut < len(window):
            self._tail += memoryview(window)[cut:]
        # Short lines are fastest decoded all in one call, long ones one by one with fewer copies.
        if has_long_lines(lines):
            self._interpret_long(lines, events)
        else:
            self._interpret_short(lines, events)
        self._size = 0 if lines.endswith(b"\n\n") else _size_after(lines, self._size)
        # Many short lines take much memory as objects. Joining them once they outweigh the joined data stays linear.
        many = len(self._more_data)
        if many > _MANY_LINES and many * _STR_SIZE > len(self._data or ""):
            self._join_data()

    def _interpret_short(self, lines: bytes | bytearray, events: list[ReceivedEvent]) -> None:
        # A LF ends any UTF-8 sequence, so decoding many lines at once gives the same U+FFFDs as decoding each.
        text = str(lines, "utf-8", "replace")
        # Many streams have one data line in each event. A run of such events is split without a loop over lines.
        if not self._size and text.startswith("data: ") and text.endswith("\n\n"):
            values = text[6:-2].split("\n\ndata: ")
            if text.count("\n") == 2 * len(values):
                new, event_id = _new_event, self._id
                events += [new(ReceivedEvent, ("message", value, event_id)) for value in values]
                return
        self._interpret(text.split("\n")[:-1], events)

    def _interpret(self, lines: Iterable[str], events: list[ReceivedEvent]) -> None:
        """Process complete lines. This is the hot loop, so the common fields are processed inline."""
        append, new = events.append, _new_event
        for line in lines:
            if line:
                # Right for a line with a space after the colon, as most servers write it, or without a colon.
                name, _, value = line.partition(": ")
                if name == "data":
                    if self._data is None:
                        self._data = value
                    else:
                        self._more_data.append(value)
                elif name == "event":
                    self._event = value
                elif name == "id" and "\0" not in value:
                    self._id = value
                else:
                    name, _, value = line.partition(":")
                    self._process_field(name, value.removeprefix(" "))
            else:
                self._last_event_id = self._id
                if self._data is not None:
                    if self._more_data:
                        self._join_data()
                    append(new(ReceivedEvent, (self._event or "message", self._data, self._id)))
                    self._data = None
                self._event = ""

    def _interpret_long(self, lines: bytes | bytearray, events: list[ReceivedEvent]) -> None:
        """Like `_interpret`, but copy a long value only once, when it is decoded."""
        view = memoryview(lines)
        start = 0
        while start < len(lines):
            end = lines.index(b"\n", start)
            colon = lines.find(b":", start, end)
            if colon < 0:
                self._interpret((str(view[start:end], "utf-8", "replace"),), events)
            else:
                name = str(view[start:colon], "utf-8", "replace")
                value = colon + 2 if lines.startswith(b" ", colon + 1) else colon + 1
                self._process_field(name, str(view[value:end], "utf-8", "replace"))
            start = end + 1

    def _join_data(self) -> None:
        self._data = "\n".join((self._data or "", *self._more_data))
        self._more_data = []

    def _process_field(self, name: str, value: str) -> None:
        """Apply the field rules of 9.2.6. A comment is a field without a name; unknown fields are ignored."""
        if name == "data":
            if self._data is None:
                self._data = value
            else:
                self._more_data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            digits = value.lstrip("0") or "0"
            if len(digits) <= _RETRY_DIGITS:
                self._retry = int(digits)


def _size_after(lines: bytes | bytearray, size: int) -> int:
    """Return the size of the unfinished event after `lines`, if it was `size` before them."""
    blank = lines.rfind(b"\n\n")
    if blank >= 0:
        lines, size = lines[blank + 2 :], 0
    elif lines.startswith(b"\n"):
        lines, size = lines[1:], 0
    if lines.startswith(b":") or b"\n:" in lines:
        return size + sum(len(line) + 1 for line in lines.splitlines() if not line.startswith(b":"))
    return size + len(lines)
