# python -m sse_trio tail: the events of a stream, as they come.

from __future__ import annotations

import math
import re
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated

import anyio
import typer

from ..client import ConnectionState, EventSource, open_event_source
from .connection import body_of, client_for, with_content_type
from .exits import EXPECTED, INTERRUPTED, report
from .options import DEFAULT_SIZE, AsJson, AsWire, MaxEventSize, screen_for

__all__ = ("tail",)

# RFC 9110, 5.1 and 5.5; httpx takes ASCII only.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
# What Python makes of bytes in the arguments that are not UTF-8.
_NO_UTF_8 = re.compile("[\ud800-\udfff]")
_NOT_IN_IDS = re.compile("[\r\n\0\ud800-\udfff]")  # WHATWG HTML 9.2.6


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
    max_event_size: MaxEventSize = DEFAULT_SIZE,
    as_json: AsJson = False,
    as_wire: AsWire = False,
) -> None:
    """Show the events of a stream as they come, and connect again when it breaks.

    A stream of another method than GET is connected once, because the request may start something.
    """
    screen, body = screen_for(as_json=as_json, as_wire=as_wire), body_of(data)
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
        except EXPECTED as exc:
            return report(screen, exc)
        return 0

    raise typer.Exit(anyio.run(_until_interrupted, follow, backend="trio"))


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
