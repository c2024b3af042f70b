# The commands of python -m sse_trio: tail, decode, and publish (publish.py). Needs typer and httpx, the extra `cli`.
#
# Rule 1: main() takes arguments and returns an exit code. It never ends the process. It shows a traceback only for our
#         own bugs.
# Rule 2: a wrong argument is reported before anything is done, in the command line's words and on one line. Therefore
#         rich_markup_mode is off: its boxes break lines.
# Rule 3: Ctrl+C, and a program that stops reading the output, are ways to end and not errors.

from __future__ import annotations

import logging
import math
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import anyio
import httpx
import typer
from typer.core import TyperGroup

from .._errors import EventTooLargeError, SSEError
from .._wire.decoder import EventDecoder
from .._wire.received import ReceivedEvent
from ..client import ConnectionState, EventSource, open_event_source
from . import output as _output
from .completion import Shell, completion_for
from .connection import body_of, client_for, with_content_type
from .output import Screen
from .publish import publish

__all__ = ("main",)

FAILED = 1
WRONG_ARGUMENTS = 2
INTERRUPTED = 128 + signal.SIGINT
_EXPECTED = (SSEError, httpx.InvalidURL, BrokenPipeError)
_CHUNK = 65_536
# RFC 9110, 5.1 and 5.5; httpx takes ASCII only.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
# What Python makes of bytes in the arguments that are not UTF-8.
_NO_UTF_8 = re.compile("[\ud800-\udfff]")
_NOT_IN_IDS = re.compile("[\r\n\0\ud800-\udfff]")  # WHATWG HTML 9.2.6

_HELP = (
    "Look at streams of server-sent events, and publish to them.\n\n"
    "Exit codes: 0, the stream ended, or the program that read the output stopped; "
    f"{FAILED}, it was refused, it broke and --no-reconnect was given, or an event was too large; "
    f"{WRONG_ARGUMENTS}, wrong arguments; 3, a package is missing; {INTERRUPTED}, Ctrl+C."
)


def _check_url(url: str) -> str:
    if _NO_UTF_8.search(url):
        raise typer.BadParameter("the URL must be UTF-8; percent-encode other bytes")
    return url


def _check_last_event_id(event_id: str) -> str:
    if _NOT_IN_IDS.search(event_id):
        raise typer.BadParameter(f"an id must be UTF-8 without line breaks and NUL; got {event_id[:80]!r}")
    return event_id


def _check_idle_timeout(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise typer.BadParameter(
            f"must be a finite number of seconds, more than 0; got {seconds:g}; leave the option out to wait for ever"
        )
    return seconds


def _check_method(method: str | None) -> str | None:
    if method is not None and not _HEADER_NAME.fullmatch(method):  # both are tokens: RFC 9110, 9.1
        raise typer.BadParameter(f"must be an HTTP method, such as POST; got {method[:80]!r}")
    return method


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object for each event, on its own line.")]
AsWire = Annotated[bool, typer.Option("--raw", help="Each event as it is sent: its fields and a blank line.")]
MaxEventSize = Annotated[int, typer.Option(min=1, metavar="BYTES", help="The most bytes that an event may have.")]
_DEFAULT_SIZE = 1_048_576


def main(argv: Sequence[str], program: str = "python -m sse_trio") -> int:
    """Run one command and return its exit code. The program's name is for messages."""
    # The screen shows what the client would log.
    logging.getLogger("sse_trio.client").addHandler(logging.NullHandler())
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True, help=_HELP
    )
    app.callback()(_options)
    app.command()(tail)
    app.command()(decode)
    app.command()(publish)
    code: object = 0
    try:
        app(args=list(argv), prog_name=program)
    except SystemExit as exc:
        code = exc.code
    return code if isinstance(code, int) else FAILED


def _show_version(wanted: bool) -> None:  # noqa: FBT001 -- typer's callback
    if wanted:
        typer.echo(f"sse-trio {version('sse-trio')}")
        raise typer.Exit


def _print_completion(context: typer.Context, shell: Shell | None) -> None:
    if shell is not None:
        assert isinstance(context.command, TyperGroup)
        typer.echo(completion_for(shell, context.command), nl=False)
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
    print_completion: Annotated[
        Shell | None,
        typer.Option(
            callback=_print_completion,
            is_eager=True,
            help="Print a script that completes the commands, and exit.",
        ),
    ] = None,
) -> None:
    pass


def tail(
    url: Annotated[str, typer.Argument(callback=_check_url, help="Where the stream is.", show_default=False)],
    *,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A header to send; may be repeated."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-X",
            callback=_check_method,
            help="The HTTP method. By default GET, or POST with --data.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="TEXT|@FILE",
            help="The body, or @ and a file with it (@- for stdin). It is JSON, unless -H has another Content-Type.",
        ),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates to trust, in PEM, in place of the usual ones.")
    ] = None,
    proxy: Annotated[str | None, typer.Option(metavar="URL", help="The proxy to go through.")] = None,
    last_event_id: Annotated[
        str, typer.Option(callback=_check_last_event_id, metavar="ID", help="Go on after this event.")
    ] = "",
    no_reconnect: Annotated[bool, typer.Option("--no-reconnect", help="End when the stream ends or breaks.")] = False,
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            callback=_check_idle_timeout, metavar="SECONDS", help="Connect again when nothing has come for this long."
        ),
    ] = None,
    max_event_size: MaxEventSize = _DEFAULT_SIZE,
    as_json: AsJson = False,
    as_wire: AsWire = False,
) -> None:
    """Show the events of a stream as they come, and connect again when it breaks.

    A stream of another method than GET is connected once, because the request may start something.
    """
    screen, body = _screen(as_json=as_json, as_wire=as_wire), body_of(data)
    headers = with_content_type(_headers(header or ()), body)
    client = client_for(ca, proxy)

    async def follow() -> int:
        try:
            async with (
                client,
                open_event_source(
                    url,
                    client=client,
                    method=_method(method, body),
                    content=body,
                    headers=headers,
                    last_event_id=last_event_id,
                    reconnect=False if no_reconnect else None,
                    idle_timeout=idle_timeout,
                    max_event_size=max_event_size,
                    on_state_change=lambda source: screen.status(_describe(source)),
                ) as source,
            ):
                async for event in source:
                    screen.event(event)
        except _EXPECTED as exc:
            return _report(screen, exc)
        return 0

    raise typer.Exit(anyio.run(_until_interrupted, follow, backend="trio"))


def decode(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="A file, or - for stdin.", show_default=False)],
    *,
    max_event_size: MaxEventSize = _DEFAULT_SIZE,
    as_json: AsJson = False,
    as_wire: AsWire = False,
) -> None:
    """Show the events in a stream's bytes, from a file or from another program."""
    screen = _screen(as_json=as_json, as_wire=as_wire)
    decoder = EventDecoder(max_event_size=max_event_size)
    try:
        # read1: what another program writes is shown at once.
        while chunk := file.read1(_CHUNK):
            for event in _feed(decoder, chunk):
                screen.event(event)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except _EXPECTED as exc:
        raise typer.Exit(_report(screen, exc)) from None


def _feed(decoder: EventDecoder, chunk: bytes) -> Iterator[ReceivedEvent]:
    """Yield the events of a chunk, and then raise its error, if it has one."""
    try:
        yield from decoder.feed(chunk)
    except EventTooLargeError as exc:
        yield from exc.events
        raise


def _screen(*, as_json: bool, as_wire: bool) -> Screen:
    if as_json and as_wire:
        raise typer.BadParameter("--json and --raw can't be combined; choose one")
    if as_json:
        return Screen(_output.as_json)
    return Screen(_output.as_wire if as_wire else partial(_output.as_text, style=_output.style_for(sys.stdout)))


def _headers(lines: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not (colon and _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            # Without the value: it may be a password, and this output may go to a log.
            which = f"that begins with {name!r}" if colon else "without a colon"
            raise typer.BadParameter(f"must be 'NAME: VALUE', a header in ASCII; got a line {which}", param_hint="-H")
        headers[name] = value
    return headers


def _method(method: str | None, body: bytes | None) -> str:
    return ("GET" if body is None else "POST") if method is None else method.upper()


def _describe(source: EventSource) -> str:
    """Return the status line of an event source."""
    if source.state is ConnectionState.OPEN:
        return f"open, connection {source.attempt}"
    wait = source.connect_at - anyio.current_time()
    if source.state is ConnectionState.CONNECTING and wait <= 0:
        return "connecting"
    if source.state is ConnectionState.CONNECTING:
        return f"{source.error or 'the stream ended'}; connecting again in {wait:.1f} s"
    return ""


async def _until_interrupted(follow: Callable[[], Awaitable[int]]) -> int:
    """Return the exit code of ``follow()``. Ctrl+C cancels it, because a KeyboardInterrupt could come anywhere."""
    code = INTERRUPTED

    async def cancel_on_sigint() -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_on_sigint)
        code = await follow()
        tasks.cancel_scope.cancel()
    return code


def _report(screen: Screen, exc: Exception) -> int:
    """Show what went wrong, and return the exit code."""
    if not isinstance(exc, BrokenPipeError):
        screen.error(str(exc))
        return WRONG_ARGUMENTS if isinstance(exc, httpx.InvalidURL) else FAILED
    # Python's documentation on SIGPIPE: otherwise Python complains at exit that it can't flush stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
