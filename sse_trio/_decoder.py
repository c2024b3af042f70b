# EventDecoder: the bytes of an event stream in, its events out. No I/O, no clock, no anyio.
#
# Rule 1: every parsing decision of WHATWG HTML 9.2.6 is made in this file and in no other.
# Rule 2: what comes out does not depend on how the bytes were cut into chunks, the error included.
# Rule 3: each byte is searched and copied a fixed number of times, whatever the chunking. Nothing that has been
#         looked at is looked at again when more arrives, and nothing is concatenated twice.
# Rule 4: what is held between two calls is bounded by `max_event_size`.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import EventTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("EventDecoder", "ReceivedEvent")

_BOM = b"\xef\xbb\xbf"
# Short lines are cheapest split and decoded all in one call, a longer one by itself, with fewer copies. They break
# even at about this many bytes (benchmarks/decoder.py).
_LONG_LINE = 512
# The most bytes that are decoded in one go, so that a feed() of 100 MB needs no second 100 MB.
_WINDOW = 262_144
# 2**63 has 19 digits. A longer retry is taken for the garbage that it is, as Chromium does; int() would also raise
# at 4300 digits.
_RETRY_DIGITS = 18


# A tuple, because making these is most of what decoding costs: a frozen dataclass takes three times as long to make.
class ReceivedEvent(NamedTuple):
    """One event as an ``EventSource`` would dispatch it (WHATWG HTML 9.2.6). Immutable."""

    event: str = "message"
    """The event's type; ``"message"`` where the server named none."""
    data: str = ""
    """The values of its ``data`` lines, joined by ``"\\n"``."""
    id: str = ""
    """The last event id as it stood when this event ended, which an earlier event may have set. ``""`` for none."""

    def json(self) -> Any:
        """Parse `data` as JSON.

        Returns:
          What ``json.loads(data)`` returns.

        Raises:
          json.JSONDecodeError: (a ``ValueError``) `data` isn't JSON; the server's fault, or the caller's for asking.
        """
        return json.loads(self.data)


class EventDecoder:
    """Decodes one event stream, WHATWG HTML 9.2.6 to the letter.

    Handled: a leading byte order mark; CR, LF and CRLF, also when a chunk ends between CR and LF; invalid UTF-8
    (replaced by U+FFFD). An event is dispatched at the first byte of its blank line's end, so a CR doesn't wait for
    a LF. An event that the end of the stream cuts off is never dispatched. A connection's bytes need a decoder of
    their own: make a new one for each.

    Arguments:
      max_event_size: the most bytes that one event may take: its lines, comments left out, each line end counted as
        one byte. A line that hasn't ended yet counts, whatever it is.
      last_event_id: the last event id of an earlier connection, which holds until the stream sets another.

    Raises:
      ValueError: `max_event_size` is less than 1.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_event",
        "_id",
        "_last_event_id",
        "_max_event_size",
        "_more_data",
        "_retry",
        "_size",
        "_tail",
        "_too_large",
        "_window",
    )

    def __init__(self, *, max_event_size: int = 1_048_576, last_event_id: str = "") -> None:
        if max_event_size < 1:
            raise ValueError(f"max_event_size must be at least 1 byte, not {max_event_size!r}")
        self._max_event_size = max_event_size
        # Half the limit, so that what is held and a window exceed it together only if an event may be too large.
        self._window = min(_WINDOW, max_event_size // 2 or 1)
        self._too_large = False
        # The bytes of a byte order mark seen so far; None once it is known whether there is one.
        self._at_start: bytes | None = b""
        self._after_cr = False
        # The line that hasn't ended. A bytearray grows in place, so a long line in small chunks stays linear.
        self._tail = bytearray()
        # The event that hasn't ended: its bytes without _tail, and its fields. The first data line is apart because
        # most events have no other.
        self._size = 0
        self._event = ""
        self._data: str | None = None
        self._more_data: list[str] = []
        self._id = last_event_id
        self._last_event_id = last_event_id
        self._retry: int | None = None

    @property
    def last_event_id(self) -> str:
        """What a reconnection sends as ``Last-Event-ID``: committed at each blank line, with data or without."""
        return self._last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time the stream last asked for, in milliseconds; ``None`` if it hasn't.

        Holds from the end of the ``retry`` line, without waiting for a blank line. A value of more than 18 digits is
        ignored.
        """
        return self._retry

    def feed(self, data: bytes) -> list[ReceivedEvent]:
        """Take the next bytes of the stream, in whatever chunks they come.

        Returns:
          The events that ended in them, oldest first; often none.

        Raises:
          EventTooLargeError: an event is larger than `max_event_size`; the server's fault. The events that ended
            before it in this call are in the error's `events`, and `last_event_id` is that of the last of them, so
            that a reconnection can go on from there. The decoder has dropped what it held and is of no further use:
            every later call raises the same.
        """
        events: list[ReceivedEvent] = []
        if self._too_large:
            raise EventTooLargeError(self._max_event_size, events)
        if self._after_cr or self._at_start is not None or b"\r" in data:
            data = self._with_plain_line_ends(data)
        for start in range(0, len(data), self._window):
            window = data[start : start + self._window]
            if self._size + len(self._tail) + len(window) <= self._max_event_size:
                self._take(window, events)
            else:
                self._take_line_by_line(window, events)
        return events

    def _with_plain_line_ends(self, data: bytes) -> bytes:
        """`data` without a leading byte order mark and with every line end a LF."""
        if self._at_start is not None:
            data = self._without_bom(self._at_start + data)
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = _replace_cr(data)
        return data

    def _without_bom(self, data: bytes) -> bytes:
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._at_start = data
            return b""
        self._at_start = None
        return data.removeprefix(_BOM)

    def _take_line_by_line(self, window: bytes, events: list[ReceivedEvent]) -> None:
        """Take a window in which some event may be too large: the limit is exact, and the same for any chunking."""
        for line in window.splitlines(keepends=True):
            is_blank = line == b"\n" and not self._tail
            if not is_blank and self._size + len(self._tail) + len(line) > self._max_event_size:
                self._too_large = True
                self._tail, self._data, self._more_data = bytearray(), None, []
                raise EventTooLargeError(self._max_event_size, events)
            self._take(line, events)

    def _take(self, window: bytes, events: list[ReceivedEvent]) -> None:
        """Interpret the lines that end in `window` and keep the rest. The caller has checked the limit."""
        cut = window.rfind(b"\n") + 1
        if not cut:
            self._tail += window
            return
        lines: bytes | bytearray = window[:cut]
        if self._tail:
            lines, self._tail = self._tail, bytearray()
            lines += window[:cut]
        if cut < len(window):
            self._tail += window[cut:]
        if _has_long_lines(lines):
            self._interpret_long(lines, events)
        else:
            self._interpret_short(lines, events)
        self._size = 0 if lines.endswith(b"\n\n") else _size_after(lines, self._size)

    def _interpret_short(self, lines: bytes | bytearray, events: list[ReceivedEvent]) -> None:
        # A LF ends any UTF-8 sequence, so decoding many lines at once replaces what decoding each would.
        text = str(lines, "utf-8", "replace")
        # Many streams have a single data line in each event. A run of those comes apart without a loop over lines.
        if not self._size and text.startswith("data: ") and text.endswith("\n\n"):
            values = text[6:-2].split("\n\ndata: ")
            if text.count("\n") == 2 * len(values):
                new, event_id = tuple.__new__, self._id
                events += [new(ReceivedEvent, ("message", value, event_id)) for value in values]
                return
        self._interpret(text.split("\n")[:-1], events)

    def _interpret(self, lines: Iterable[str], events: list[ReceivedEvent]) -> None:
        """Process complete lines. The hot loop: what small events are made of is done right here."""
        append, new = events.append, tuple.__new__  # the named tuple's own __new__ would take as long as all the rest
        for line in lines:
            if line:
                # Most servers put a space after the colon. Then this is right at once, and so it is for a name alone.
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
                if (data := self._data) is not None:
                    if self._more_data:
                        data = "\n".join((data, *self._more_data))
                        self._more_data = []
                    append(new(ReceivedEvent, (self._event or "message", data, self._id)))
                    self._data = None
                self._event = ""

    def _interpret_long(self, lines: bytes | bytearray, events: list[ReceivedEvent]) -> None:
        """As `_interpret`, but a long value is copied once only, when it is decoded."""
        view = memoryview(lines)
        start = 0
        while start < len(lines):
            end = lines.index(b"\n", start)
            colon = lines.find(b":", start, end)
            if colon < 0 or end - start < _LONG_LINE:
                self._interpret((str(view[start:end], "utf-8", "replace"),), events)
            else:
                value = colon + 2 if lines.startswith(b" ", colon + 1) else colon + 1
                self._process_field(str(view[start:colon], "utf-8", "replace"), str(view[value:end], "utf-8", "replace"))
            start = end + 1

    def _process_field(self, name: str, value: str) -> None:
        """The field rules of 9.2.6. A comment is a field without a name; what isn't known is ignored."""
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


def _has_long_lines(data: bytes | bytearray) -> bool:
    """Whether the line in the middle is long. It stands for all, as only speed depends on it."""
    middle = len(data) // 2
    return middle > _LONG_LINE and data.find(b"\n", middle, middle + _LONG_LINE) < 0


def _replace_cr(data: bytes) -> bytes:
    """`data` with every CRLF and CR a LF."""
    if _has_long_lines(data):
        # Searching for one byte is much faster than for two.
        first, *others = data.split(b"\r")
        return b"\n".join((first, *(part.removeprefix(b"\n") for part in others)))
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _size_after(lines: bytes | bytearray, size: int) -> int:
    """The size of the unfinished event after `lines`, where it was `size` before them."""
    blank = lines.rfind(b"\n\n")
    if blank >= 0:
        lines, size = lines[blank + 2 :], 0
    elif lines.startswith(b"\n"):
        lines, size = lines[1:], 0
    if lines.startswith(b":") or b"\n:" in lines:
        return size + sum(len(line) + 1 for line in lines.splitlines() if not line.startswith(b":"))
    return size + len(lines)
