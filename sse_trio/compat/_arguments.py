# Checks of what sse-starlette's constructor takes, when the response is made.

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from inspect import iscoroutine

from .._arguments.checks import check_coroutine_function, check_function, check_instance, wrong
from .._arguments.http import check_background, check_headers, check_media_type, check_status_code
from .._groups.group import StreamGroup

__all__ = ("check_content", "check_functions", "check_http", "check_shutdown")


def check_content(content: object) -> None:
    """Raise TypeError for what can't be iterated."""
    if not isinstance(content, (AsyncIterable, Iterable)):
        what_to_do = "call the generator function"
        if iscoroutine(content):
            content.close()
            what_to_do = "await the coroutine, if it returns one"
        raise wrong(TypeError, "content", f"an async iterable or an iterable: {what_to_do}", content)


def check_http(status_code: object, headers: object, media_type: object, background: object) -> None:
    """Check the arguments of any Starlette response."""
    check_status_code(status_code)
    if headers is not None:
        check_headers(headers)
    if media_type is not None:
        check_media_type(media_type)
    if background is not None:
        check_background(background)


def check_shutdown(event: object, group: object) -> None:
    """Check what a shutdown takes."""
    if event is not None and (isinstance(event, type) or not hasattr(event, "set")):
        raise wrong(TypeError, "shutdown_event", "an anyio.Event, or None", event)
    if group is not None:
        check_instance("group", group, StreamGroup, "a StreamGroup, or None for the default one")


def check_functions(factory: object, data_sender: object, close_handler: object) -> None:
    """Check the functions that the response calls."""
    if factory is not None:
        check_function("ping_message_factory", factory)
    if data_sender is not None:
        check_coroutine_function("data_sender_callable", data_sender)
    if close_handler is not None:
        check_coroutine_function("client_close_handler_callable", close_handler)
