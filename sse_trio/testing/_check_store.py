# The conformance kit for event stores: the checks in their order, and the message of a failure.
#
# Rule 1: each check tests a promise of `EventStore`'s docstring, and its failure begins with the promise's name.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from anyio import fail_after

from .._arguments.checks import check_flag, check_function
from ..stores._expiry import ExpiringStore
from ..stores._holds import HoldingStore
from . import _store_checks as checks
from . import _store_holds as holds
from . import _store_races as races
from ._store_by_prefix import by_prefix
from ._store_expiry import expiry
from ._store_locations import Locations, MakeStore, MakeStoreByPrefix

__all__ = ("MakeStore", "MakeStoreByPrefix", "check_event_store")

_PATIENCE = 60.0


async def check_event_store(
    make_store: MakeStore,
    *,
    durable: bool = True,
    shared: bool = True,
    make_by_prefix: MakeStoreByPrefix | None = None,
) -> None:
    """Check every guarantee of :class:`EventStore` on stores that ``make_store`` makes.

    Runs on the current event loop; call it once on each loop that you support. Takes a few seconds.

    Args:
        make_store: makes a store at a location.
        durable: whether a location keeps its events when no store is open at it.
        shared: whether several stores can be open at one location, as in several processes.
        make_by_prefix: makes a store whose topics have limits by pattern, if your stores can have those.

    Raises:
        AssertionError: a guarantee doesn't hold; the message begins with its name in EventStore's docstring.
    """
    check_function("make_store", make_store, "a function that makes a store at a location")
    if make_by_prefix is not None:
        check_function(
            "make_by_prefix", make_by_prefix, "a function that makes a store with limits by pattern, or None"
        )
    check_flag("durable", durable)
    check_flag("shared", shared)
    example = Locations(make_store, "hold").open()
    holding = isinstance(example, HoldingStore)
    if isinstance(example, ExpiringStore):
        await _run("expiry", partial(expiry, Locations(make_store, "expiry")))
    if make_by_prefix is not None:
        await _run("by_prefix", lambda: by_prefix(make_by_prefix))
    for check in _checks(durable=durable, shared=shared, holding=holding):
        await _run(check.__name__, partial(check, Locations(make_store, check.__name__)))


async def _run(name: str, check: Callable[[], Awaitable[None]]) -> None:
    try:
        with fail_after(_PATIENCE):
            await check()
    except TimeoutError as exc:
        raise AssertionError(f"{name}: the check was still waiting after {_PATIENCE:g} s") from exc
    except Exception as exc:
        failure = next((one for one in _leaves(exc) if isinstance(one, AssertionError)), None)
        if failure is None:
            raise
        raise failure from None  # several tasks of a check may fail for one cause


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    inner: tuple[BaseException, ...] = getattr(exc, "exceptions", ())  # of a group
    if not inner:
        yield exc
    for one in inner:
        yield from _leaves(one)


def _checks(*, durable: bool, shared: bool, holding: bool) -> tuple[Callable[[Locations], Awaitable[None]], ...]:
    gaps = (checks.gap, checks.gap_while_reading, checks.deep, checks.rare)
    always = (checks.order, checks.durable, checks.idempotent, *gaps, checks.closed)
    at_once = (races.join, races.follow, races.falling_behind, races.unknown_outcome)
    restart = checks.restart if durable else checks.new_epoch
    of_holds = (holds.hold, holds.due, holds.held, holds.clear, holds.keeps_up) if holding else ()
    kept = (holds.hold_restart,) if holding and durable else ()
    return (*always, restart, *at_once, *of_holds, *kept, *((races.shared,) if shared else ()))
