# install(): `import sse_starlette`, in packages that can't be changed, finds the adapter.
#
# Rule 1: the modules have the names of sse-starlette 3.7 that the adapter implements. Importing any other is an error.
# Rule 2: install() comes first or not at all. Modules that have imported sse-starlette before would keep it, and a
#         program with half of its streams on each would be worse than an error.

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Iterator
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any, Final

from ._app_status import AppStatus
from ._event import JSONServerSentEvent, ServerSentEvent, ensure_bytes
from ._response import EventSourceResponse, SendTimeoutError

__all__ = ("VERSION", "install")

VERSION: Final = "3.7.0"
"""The version of sse-starlette whose names and bytes these are."""

CONTENT_TYPES: Final = MappingProxyType(
    {
        "Content": Any,
        "SyncContentStream": Iterator[Any],
        "AsyncContentStream": AsyncIterable[Any],
        "ContentStream": AsyncIterable[Any] | Iterator[Any],
    }
)
"""sse-starlette's names for what is streamed, which applications annotate with."""
NAME = "sse_starlette"
TOO_LATE = (
    "sse_starlette was imported before sse_trio.compat.install() could take its place; call install() first, at the "
    "top of the module that starts your application"
)


def install() -> None:
    """Have every later ``import sse_starlette`` in this process find this adapter.

    For packages that import sse-starlette themselves. Call it before they are imported; calling it twice does no harm.
    These imports then work, whether ``sse_starlette`` is installed or not::

        from sse_starlette import EventSourceResponse, JSONServerSentEvent, ServerSentEvent, __version__, event, sse
        from sse_starlette.event import JSONServerSentEvent, ServerSentEvent, ensure_bytes
        from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError, ServerSentEvent, ensure_bytes
        from sse_starlette.sse import AsyncContentStream, Content, ContentStream, SyncContentStream

    ``__version__`` is the version of sse-starlette that the adapter follows, ``"3.7.0"``.

    Raises:
        RuntimeError: ``sse_starlette`` was imported before.
    """
    present = sys.modules.get(NAME)
    if present is not None and getattr(present, "EventSourceResponse", None) is EventSourceResponse:
        return
    if any(name.partition(".")[0] == NAME for name in sys.modules):
        raise RuntimeError(TOO_LATE)
    for module in _modules():
        sys.modules[module.__name__] = module


def _modules() -> tuple[ModuleType, ModuleType, ModuleType]:
    events = {"JSONServerSentEvent": JSONServerSentEvent, "ServerSentEvent": ServerSentEvent}
    event = _module(f"{NAME}.event", ensure_bytes=ensure_bytes, **events)
    sse = _module(
        f"{NAME}.sse",
        AppStatus=AppStatus,
        EventSourceResponse=EventSourceResponse,
        SendTimeoutError=SendTimeoutError,
        ServerSentEvent=ServerSentEvent,
        ensure_bytes=ensure_bytes,
        **CONTENT_TYPES,
    )
    package = _module(NAME, EventSourceResponse=EventSourceResponse, **events)
    exported = ["EventSourceResponse", "ServerSentEvent", "JSONServerSentEvent"]  # sse-starlette's
    vars(package).update(__all__=exported, __version__=VERSION, event=event, sse=sse)
    return package, event, sse


def _module(name: str, **names: object) -> ModuleType:
    module = ModuleType(name, "sse_trio.compat, in the place of sse-starlette's module.")
    module.__spec__ = ModuleSpec(name, None, origin="sse_trio.compat.install()", is_package=name == NAME)
    if module.__spec__.submodule_search_locations is not None:
        module.__path__ = module.__spec__.submodule_search_locations  # empty: there are no other submodules
    vars(module).update(names)
    return module
