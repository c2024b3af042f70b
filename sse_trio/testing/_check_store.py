# The conformance kit for event stores: the checks in their order, and the message of a failure.
#
# Rule 1: each check tests a promise of `EventStore`'s docstring, and its failure begins with the promise's name.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from anyio import fail_after

from .._arguments.checks import check_flag, check_function
from . import _store_checks as checks
from . import _store_races as races
from ._store_locations import Locations, MakeStore

__all__ = ("MakeStore", "check_event_store")

_PATIENCE = 30.0


async def check_event_store(make_store: MakeStore, *, durable: bool = True, shared: bool = True) -> None:
    """Check every guarantee of :class:`EventStore` on stores that ``make_store`` makes.

    Runs on the current event loop; call it once on each loop that you support. Takes a few seconds.

    Args:
        make_store: makes a store at a location.
        durable: whether a location keeps its events when no store is open at it.
        shared: whether several stores can be open at one location, as in several processes.

    Raises:
        AssertionError: a guarantee doesn't hold; the message begins with its name in EventStore's docstring.
    """
    check_function("make_store", make_store, "a function that makes a store at a location")
    check_flag("durable", durable)
    check_flag("shared", shared)
    for check in _checks(durable=durable, shared=shared):
        await _run(check, make_store)


async def _run(check: Callable[[Locations], Awaitable[None]], make_store: MakeStore) -> None:
    try:
        with fail_after(_PATIENCE):
            await check(Locations(make_store, check.__name__))
    except TimeoutError as exc:
        raise AssertionError(f"{check.__name__}: the check was still waiting after {_PATIENCE:g} s") from exc
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


def _checks(*, durable: bool, shared: bool) -> tuple[Callable[[Locations], Awaitable[None]], ...]:
    gaps = (checks.gap, checks.gap_while_reading, checks.deep, checks.rare)
    always = (checks.order, checks.durable, checks.idempotent, *gaps, checks.closed)
    at_once = (races.join, races.follow, races.falling_behind, races.unknown_outcome)
    restart = checks.restart if durable else checks.new_epoch
    return (*always, restart, *at_once, *((races.shared,) if shared else ()))
