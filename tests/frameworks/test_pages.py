"""The page of each framework: what a reader copies from it serves a stream, and its tests pass."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient

from .._pages import namespace_of

PAGES = {
    # a page: what it needs, and the loop that it is for
    "fastapi": ("fastapi", "asyncio"),
    "starlette": ("starlette", "trio"),
    "litestar": ("litestar", "asyncio"),
    "quart": ("quart_trio", "trio"),
    "django": ("django", "asyncio"),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_of_a_page_pass(page: str) -> None:
    """The tests on the page pass, on the loop that the page is for."""
    needs, backend = PAGES[page]
    pytest.importorskip(needs)
    namespace = namespace_of(page)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        anyio.run(test, backend=backend)


@pytest.mark.parametrize("page", ["fastapi"])
def test_the_schema_of_a_page(page: str) -> None:
    """FastAPI describes all path operations of its page, those of a subclass of the response among them."""
    pytest.importorskip(page)
    paths = TestClient(namespace_of(page)["app"]).get("/openapi.json").json()["paths"]
    for path in ("/clock", "/fast-clock"):
        assert "text/event-stream" in paths[path]["get"]["responses"]["200"]["content"]


@pytest.mark.skipif(
    tuple(map(int, version("starlette").split(".")[:2])) < (1, 9),
    reason="not applicable: Starlette's TestClient reads a stream as it comes since 1.9, which needs Python 3.11",
)
@pytest.mark.parametrize("page", ["fastapi", "starlette"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_with_starlettes_client(page: str, backend: Any) -> None:
    """Starlette's TestClient reads a few events of an endless stream, and leaves it at once."""
    pytest.importorskip(PAGES[page][0])
    with (
        TestClient(namespace_of(page)["app"], backend=backend) as client,
        client.stream("GET", "/clock") as response,
    ):
        assert response.status_code == 200
        lines = response.iter_lines()
        assert re.fullmatch(r"data: .*0.*", next(lines))
