# open_runs(): a place for runs, in the lifespan of an application.

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from anyio import CancelScope, create_task_group

from .._arguments.checks import wrong
from .._arguments.opening import opening
from .._failures import collapse, raise_again
from .._hubs.hub import Hub
from ..stores._items import RESERVED
from ..stores._topics import check_topic
from .ending import OnEnd
from .options import RunsOptions
from .runs import Runs

__all__ = ("open_runs",)


@opening
@asynccontextmanager
async def open_runs(
    hub: Hub,
    *,
    ttl: float = 3600.0,
    lease: float = 10.0,
    grace: float = 0.0,
    on_end: OnEnd | None = None,
    max_events: int | None = 100_000,
    max_bytes: int | None = 64 * 1024 * 1024,
    max_duration: float | None = None,
    stop_when_unwatched: float | None = None,
    prefix: str = "runs",
) -> AsyncGenerator[Runs]:
    """Open a place for runs, as an async context manager, in the lifespan of the application, inside ``open_hub()``.

    Args:
        hub: its store keeps the runs; processes that share the store share the runs.
        ttl: seconds for which a run is kept after its end.
        lease: seconds after which a process that has not been heard of counts as gone. Its runs are ``interrupted``
            then, for every watcher. The same in all processes: one with a longer lease looks for those that are gone
            less often.
        grace: seconds that producers have to finish when this is left, before they are cancelled. What has not finished
            is ``interrupted``.
        on_end: what clients are sent as the last event of a run: takes the :class:`RunEnd` and returns the event, or
            ``None`` for none. Default: ``event: end`` with ``{"state": "completed"}``, or another state, as its data.
        max_events: the most events that one run may keep. One that sends more has failed.
        max_bytes: the most bytes of them.
        max_duration: seconds after which a run is stopped, unless ``start()`` says otherwise.
        stop_when_unwatched: seconds without a watcher after which a run is stopped, unless ``start()`` says otherwise.
        prefix: runs of different prefixes don't know of each other. The events of a run have the topic ``prefix/key``.

    Raises:
        TypeError: the store of the hub can't keep runs.
        ValueError, TypeError: an argument that makes no sense.
    """
    options = RunsOptions(
        ttl=ttl,
        lease=lease,
        grace=grace,
        on_end=on_end,
        max_events=max_events,
        max_bytes=max_bytes,
        max_duration=max_duration,
        stop_when_unwatched=stop_when_unwatched,
    )
    if f"{check_topic(prefix)}/".startswith(RESERVED):
        raise wrong(ValueError, "prefix", f"a str that does not begin with {RESERVED}", prefix)
    if not isinstance(cast("object", hub), Hub):
        raise wrong(TypeError, "hub", "a Hub, from open_hub()", hub)
    try:
        async with create_task_group() as nursery:
            runs = Runs(hub, nursery, options, prefix)
            await runs.serve()
            try:
                yield runs
            finally:
                with CancelScope(shield=True):
                    await runs.close()
                nursery.cancel_scope.cancel()
    except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's own layer
        raise_again(collapse(exc))
