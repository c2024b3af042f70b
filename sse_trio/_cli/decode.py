# python -m sse_trio decode: the events in a stream's bytes.

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from .._errors import EventTooLargeError
from .._wire.decoder import EventDecoder
from .._wire.received import ReceivedEvent
from .exits import EXPECTED, INTERRUPTED, report
from .options import DEFAULT_SIZE, AsJson, AsWire, MaxEventSize, screen_for

__all__ = ("decode",)

_CHUNK = 65_536


def decode(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="A file, or - for stdin.", show_default=False)],
    *,
    max_event_size: MaxEventSize = DEFAULT_SIZE,
    as_json: AsJson = False,
    as_wire: AsWire = False,
) -> None:
    """Show the events in a stream's bytes, from a file or from another program."""
    screen = screen_for(as_json=as_json, as_wire=as_wire)
    decoder = EventDecoder(max_event_size=max_event_size)
    try:
        # read1: what another program writes is shown at once.
        while chunk := file.read1(_CHUNK):
            for event in _feed(decoder, chunk):
                screen.event(event)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except EXPECTED as exc:
        raise typer.Exit(report(screen, exc)) from None


def _feed(decoder: EventDecoder, chunk: bytes) -> Iterator[ReceivedEvent]:
    """Yield the events of a chunk, and then raise its error, if it has one."""
    try:
        yield from decoder.feed(chunk)
    except EventTooLargeError as exc:
        yield from exc.events
        raise
