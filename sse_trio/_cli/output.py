# How the command line shows events, and its status line.
#
# Rule 1: text from a server is shown to people without control sequences that a terminal might obey, and without
#         invisible characters.
# Rule 2: only terminals get colours and the status line. NO_COLOR (https://no-color.org) turns colours off.
# Rule 3: each event goes to stdout at once; all other text goes to stderr.

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TextIO, TypeAlias

import typer

from .._wire.event import ServerSentEvent
from .._wire.received import ReceivedEvent
from .._wire.visible import visible

__all__ = ("Screen", "as_json", "as_text", "as_wire", "style_for")

Style: TypeAlias = Callable[..., str]

_CLEAR_LINE = "\r\x1b[K"


def style_for(stream: TextIO) -> Style:
    """Return a function that colours text on this stream, or leaves it unchanged."""
    return typer.style if stream.isatty() and not os.environ.get("NO_COLOR") else _unstyled


def _unstyled(text: str, **_: object) -> str:
    return text


def as_text(event: ReceivedEvent, style: Style) -> str:
    """Return the event for people: its name, its id, its data; further lines of data indented."""
    name = style(visible(event.event), fg="cyan", bold=True)
    number = style(f" #{visible(event.id)}", dim=True) if event.id else ""
    data = "\n    ".join(visible(line) for line in event.data.split("\n"))
    return f"{name}{number}  {data}\n"


def as_json(event: ReceivedEvent) -> str:
    """Return the event as a JSON object on one line, in ASCII."""
    return json.dumps(event._asdict()) + "\n"


def as_wire(event: ReceivedEvent) -> str:
    """Return the event as it could have been sent; its id is the last event id as of this event."""
    name = None if event.event == "message" else event.event
    return ServerSentEvent(event.data, event=name, id=event.id or None).encode().decode()


def _write(stream: TextIO, text: str) -> None:
    stream.buffer.write(text.encode("utf-8", "backslashreplace"))
    stream.flush()


class Screen:
    """Writes events, the status line and errors.

    Args:
        format_event: returns the text of an event.
    """

    def __init__(self, format_event: Callable[[ReceivedEvent], str]) -> None:
        self._format = format_event
        self._style = style_for(sys.stderr)
        self._status = ""

    def event(self, event: ReceivedEvent) -> None:
        """Write an event."""
        status = self._status
        self.status("")
        _write(sys.stdout, self._format(event))
        self.status(status)

    def status(self, text: str) -> None:
        """Show a status in the last line of the terminal, until other text is shown. Terminals only."""
        if sys.stderr.isatty():
            line = self._style(visible(text), dim=True) if text else ""
            _write(sys.stderr, _CLEAR_LINE * bool(self._status) + line)
            self._status = text

    def error(self, text: str) -> None:
        """Write an error on one line."""
        self.status("")
        _write(sys.stderr, self._style("error: ", fg="red") + visible(text) + "\n")
