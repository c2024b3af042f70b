# The options that several commands have, and what they say of the output.

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated

import typer

from . import output
from .output import Screen

__all__ = ("DEFAULT_SIZE", "AsJson", "AsWire", "MaxEventSize", "screen_for")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object for each event, on its own line.")]
AsWire = Annotated[bool, typer.Option("--raw", help="Each event as it is sent: its fields and a blank line.")]
MaxEventSize = Annotated[int, typer.Option(min=1, metavar="BYTES", help="The most bytes that an event may have.")]
DEFAULT_SIZE = 1_048_576


def screen_for(*, as_json: bool, as_wire: bool) -> Screen:
    """Return what shows the events in this way."""
    if as_json and as_wire:
        raise typer.BadParameter("--json and --raw can't be combined; choose one")
    if as_json:
        return Screen(output.as_json)
    return Screen(output.as_wire if as_wire else partial(output.as_text, style=output.style_for(sys.stdout)))
