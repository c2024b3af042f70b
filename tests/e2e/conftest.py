# One process of each set-up for all tests that leave it alive.

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from ._servers import SETUPS, Server, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Return the server of a set-up, which is started when it is first asked for."""
    servers: dict[str, Server] = {}
    with ExitStack() as stack:

        def server_of(setup: str) -> Server:
            if setup not in servers:
                servers[setup] = stack.enter_context(serve(setup, tmp_path_factory.mktemp(setup)))
            return servers[setup]

        yield server_of


@pytest.fixture(scope="module", params=SETUPS)
def setup(request: pytest.FixtureRequest) -> str:
    """Each of the set-ups."""
    return str(request.param)


@pytest.fixture
def server(setup: str, server_of: Callable[[str], Server]) -> Server:
    """The server of the set-up, behind ServerBridge, shared with other tests."""
    return server_of(setup)
