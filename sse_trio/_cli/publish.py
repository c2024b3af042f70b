# python -m sse_trio publish: one event, or one for each line, to a hub's store.
#
# Rule 1: an event's id is written when the store keeps it, and not before.
# Rule 2: a mistyped path must not make a new database that no server reads.

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from .._errors import StoreUnavailableError
from .._wire.event import ServerSentEvent
from ..publisher import Publisher, PublisherOptions
from ..publisher._places import sqlite_path
from .exits import EXTRA_MISSING, FAILED, INTERRUPTED
from .output import Screen, as_json

__all__ = ("publish",)


def publish(
    url: Annotated[
        str,
        typer.Argument(
            help="The hub's store: the path of a SQLite file, sqlite:///path, redis://host, or postgresql://host/database.",
            show_default=False,
        ),
    ],
    topic: Annotated[str, typer.Argument(help="Where to publish.", show_default=False)],
    data: Annotated[str, typer.Argument(help="The event's data, or - for stdin.", show_default=False)],
    *,
    event: Annotated[str | None, typer.Option(help="The type of the event.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="With -: each line of stdin is an event.")] = False,
    name: Annotated[str | None, typer.Option(help="The name of the hub in Redis or PostgreSQL.")] = None,
    ttl: Annotated[float | None, typer.Option(help="Seconds after which the event expires.", metavar="SECONDS")] = None,
) -> None:
    """Publish to a hub, and show the ids that the events got."""
    if lines and data != "-":
        raise typer.BadParameter("--lines reads stdin; write - in the place of the data")
    _check_file(url)
    screen = Screen(as_json)
    try:
        with _publisher(url, name) as publisher:
            for text in _texts(data, lines=lines):
                typer.echo(publisher.publish(topic, ServerSentEvent(text, event=event), ttl=ttl))
    except (ValueError, TypeError) as exc:
        raise typer.BadParameter(str(exc)) from None
    except StoreUnavailableError as exc:
        screen.error(str(exc))
        raise typer.Exit(FAILED) from None
    except ImportError as exc:
        screen.error(str(exc))
        raise typer.Exit(EXTRA_MISSING) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _check_file(url: str) -> None:
    path = sqlite_path(url)
    if path is not None and not os.path.exists(path):  # noqa: PTH110 -- it may be any text
        raise typer.BadParameter(f"there is no file {path!r}; start the server that makes it, or correct the path")


def _publisher(url: str, name: str | None) -> Publisher:
    options: PublisherOptions = {} if name is None else {"name": name}
    return Publisher(url, **options)


def _texts(data: str, *, lines: bool) -> Iterator[str]:
    if data != "-":
        yield data
    elif lines:
        for line in sys.stdin.buffer:
            yield line.decode().rstrip("\r\n")
    else:
        yield sys.stdin.buffer.read().decode().removesuffix("\n")
