# One process of each set-up for all tests that leave it alive, and one certificate authority for all of TLS.

from __future__ import annotations

import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import trustme

from ._browser import open_browser, page_opener
from ._servers import SETUPS, Server, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who vouches for every server."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What a client trusts."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `key.pem`, `cert.pem` and `both.pem` of localhost."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    return folder


@pytest.fixture(scope="session")
def options(certificate: Path) -> list[str]:
    """What hypercorn is told of the certificate."""
    return [f"--keyfile={certificate / 'key.pem'}", f"--certfile={certificate / 'cert.pem'}"]


@pytest.fixture(scope="module")
def browser():
    """One Chromium for the module; each test opens contexts of its own in it."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Open a page in a context of its own; at the end, see what it complained of and whom it asked."""
    with page_opener(browser) as open_page:
        yield open_page
