"""A hub and runs that are used before they were entered: the error shows the `async with`."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest

from sse_trio import Hub, open_hub, open_runs

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["publish", "subscribe"])
def test_a_hub_in_a_global_variable(name: str) -> None:
    """What open_hub() returns has no method of a hub, and the error shows how to enter it, and where."""
    hub: Any = open_hub()
    advice = rf"entered before it has '{name}': write `async with open_hub\(...\) as hub:`, in the lifespan of the app"
    with pytest.raises(AttributeError, match=advice):
        getattr(hub, name)
    assert repr(hub) == "<open_hub(), not entered>"


async def test_runs_that_were_not_entered() -> None:
    """What open_runs() returns says the same of runs; and an unentered hub is no hub for them."""
    async with open_hub() as hub:
        with pytest.raises(AttributeError, match=r"write `async with open_runs\(...\) as runs:`"):
            open_runs(hub).start  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(TypeError, match=r"hub must be a Hub, from open_hub\(\); got <open_hub\(\), not entered>"):
        async with open_runs(open_hub()):  # type: ignore[arg-type]
            pass


async def test_it_is_an_ordinary_context_manager() -> None:
    """It has the signature and the name of its function, can be copied, and passes the exception of its block on."""
    assert inspect.signature(open_hub).parameters["name"].default == "hub"
    assert open_hub.__name__ == "open_hub"
    assert not hasattr(copy.copy(open_hub()), "publish")
    with pytest.raises(ValueError, match="of the block"):
        async with open_hub() as hub:
            assert isinstance(hub, Hub)
            raise ValueError("of the block")
