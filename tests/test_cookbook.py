# The pages of docs/cookbook.md work: what a reader copies serves a stream, and the tests on the page pass.
#
# Rule 1: a page's own tests run here, on the loops that the page is for; in virtual time unless it starts processes.
# Rule 2: code in other languages is in test_other_languages.py.

from __future__ import annotations

import inspect
import os
import re
import select
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from sse_trio import EventSourceResponse, ServerSentEvent
from sse_trio.testing import StreamingASGITransport, open_test_stream, virtual_backend

from ._pages import DOCS, namespace_of

ASYNCIO, TRIO, BOTH = ("asyncio",), ("trio",), ("asyncio", "trio")
PAGES = {
    # a page: what it needs beside the package, the loops that it is for, and whether its clock is real
    "llm": ("openai", ASYNCIO, False),
    "runs": ("anyio", BOTH, False),
    "subprocess": ("anyio", BOTH, True),
    "post": ("fastapi", BOTH, False),
    "react": ("fastapi", BOTH, False),
    "authentication": ("jwt itsdangerous", BOTH, False),
    "containers": ("anyio", BOTH, False),
}
ON_EACH_LOOP = [(page, loop) for page, (_, loops, _) in PAGES.items() for loop in loops]


@pytest.fixture
def names(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the blocks of a page define, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for needed in PAGES[page][0].split():
        pytest.importorskip(needed)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return namespace_of(page)


@pytest.mark.parametrize(("page", "loop"), ON_EACH_LOOP)
def test_the_tests_of_a_page_pass(page: str, loop: Any, names: dict[str, Any]) -> None:
    """The tests on a page pass on each loop that the page is for."""
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        backend, options = (loop, {}) if PAGES[page][2] else virtual_backend(loop)
        with pytest.MonkeyPatch.context() as monkeypatch:
            arguments = {name: {"monkeypatch": monkeypatch}[name] for name in inspect.signature(test).parameters}
            anyio.run(lambda: test(**arguments), backend=backend, backend_options=options)  # noqa: B023


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="not applicable: Linux tells when a process has ended")
@pytest.mark.parametrize("page", ["subprocess"])
@pytest.mark.parametrize("loop", BOTH)
def test_what_a_program_has_started_ends_with_it(loop: str, names: dict[str, Any]) -> None:
    """When the client leaves, the children of its program are stopped too, those that ignore SIGTERM as well."""
    command = ("sh", "-c", "(trap '' TERM; exec sleep 600) & echo $!; wait")

    async def main() -> int:
        response = EventSourceResponse(names["program_output"], command)
        async with open_test_stream(response) as stream:
            child = os.pidfd_open(int((await stream.receive()).data))
            assert not select.select([child], [], [], 0)[0]
            stream.disconnect()
            await stream.wait_closed()
        return child

    child = anyio.run(main, backend=loop)
    assert select.select([child], [], [], 30)[0], "it still runs"
    os.close(child)


async def chunks(send_channel: Any) -> None:
    for token in ("It ", "scatters."):
        delta = [{"index": 0, "delta": {"content": token}}]
        chunk = {"id": "1", "created": 0, "model": "m", "object": "chat.completion.chunk", "choices": delta}
        await send_channel.send(ServerSentEvent.json(chunk))
    await send_channel.send("[DONE]")


async def completions(request: Any) -> EventSourceResponse:
    return EventSourceResponse(chunks)


TOKENS = ['{"token":"It "}', '{"token":"scatters."}']


@pytest.mark.parametrize("page", ["llm"])
@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/answers", {"text": "Why?"}, [*TOKENS, "done"]),
        ("/v1/chat/completions", {"model": "m", "messages": []}, ["It ", "scatters.", "[DONE]"]),
    ],
)
def test_tokens_pass_through_openais_client(path: str, body: Any, expected: list[str], names: dict[str, Any]) -> None:
    """What OpenAI's own client reads from a model is what the page's stream sends."""
    openai = pytest.importorskip("openai")
    model = Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])

    async def main() -> list[str]:
        async with httpx.AsyncClient(transport=StreamingASGITransport(model)) as http_client:
            names["client"] = openai.AsyncOpenAI(api_key="none", base_url="http://model/v1", http_client=http_client)
            async with open_test_stream(names["app"], path, method="POST", json=body) as stream:
                return [event.data async for event in stream]

    received = anyio.run(main)
    assert len(received) == len(expected)
    assert all(part in data for part, data in zip(expected, received, strict=True))


REFUSED = [Route("/v1/chat/completions", lambda request: JSONResponse({"error": {}}, 401), methods=["POST"])]


@pytest.mark.parametrize("page", ["llm"])
@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([Route("/v1/chat/completions", completions, methods=["POST"])], [*TOKENS, "done"]),
        (REFUSED, ['{"error":"The answer was cut off."}']),
    ],
    ids=["answered", "refused"],
)
@pytest.mark.usefixtures("real_clock")
def test_an_answer_as_a_run(routes: Any, expected: list[str], names: dict[str, Any]) -> None:
    """The answer of the page's second program is there for a client that comes later, and has one end."""
    openai = pytest.importorskip("openai")

    async def main() -> list[list[str]]:
        received = []
        async with httpx.AsyncClient(transport=StreamingASGITransport(Starlette(routes=routes))) as http_client:
            names["client"] = openai.AsyncOpenAI(api_key="none", base_url="http://model/v1", http_client=http_client)
            app = names["chats"]
            async with app.router.lifespan_context(app) as state:
                for method, body in (("POST", {"json": {"text": "Why?"}}), ("GET", {})):
                    async with open_test_stream(app, "/chats/42", method=method, state=state, **body) as stream:
                        assert stream.status_code == 200
                        received.append([event.data async for event in stream])
        return received

    assert anyio.run(main) == [expected, expected]


@pytest.mark.parametrize("page", ["llm"])
@pytest.mark.parametrize(
    ("seconds", "options", "answer"),
    [(0.4, {}, [500]), (1, {}, [200, "failed"]), (20, {"commit_within": 30}, [500])],
    ids=["soon", "late", "waited for"],
)
def test_a_model_that_refuses(seconds: float, options: Any, answer: Any, names: dict[str, Any]) -> None:
    """A refusal within `commit_within` is a status, without a ping before it; a later one is `on_error`'s event."""
    openai = pytest.importorskip("openai")

    async def refuse(**_: Any) -> None:
        await anyio.sleep(seconds)
        raise openai.APIConnectionError(request=httpx.Request("POST", "http://model/"))

    seen = []

    async def main() -> None:
        names["client"] = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=refuse)))
        names["EventSourceResponse"] = partial(EventSourceResponse, **options)
        async with open_test_stream(names["app"], "/answers", method="POST", json={"text": "Why?"}) as stream:
            seen.append(stream.status_code)
            async for event in stream:
                seen.append(event.event)  # noqa: PERF401 -- the stream raises the error at its end

    backend, backend_options = virtual_backend("asyncio")
    with pytest.raises(openai.APIConnectionError):
        anyio.run(main, backend=backend, backend_options=backend_options)
    assert seen == answer


@pytest.mark.parametrize("loop", BOTH)
def test_the_first_tab_of_the_hub(loop: str) -> None:
    """The application for FastAPI on the hub's page publishes and streams."""
    pytest.importorskip("fastapi")
    document = Document.parse(str(DOCS / "hub.md"), PythonCodeBlockParser())
    next(iter(document.examples())).evaluate()
    app = document.namespace["app"]

    async def main() -> None:
        async with app.router.lifespan_context(app) as state, open_test_stream(app, "/prices", state=state) as stream:
            async with open_test_stream(app, "/prices", method="POST", json={"eur": 1.08}, state=state) as published:
                assert published.status_code == 204
            event = await stream.receive()
            assert (event.event, event.json()) == ("price", {"eur": 1.08})

    anyio.run(main, backend=loop)


FRONT = [example.parsed for example in Document.parse(str(DOCS / "index.md"), PythonCodeBlockParser()).examples()]


@pytest.mark.parametrize(
    ("program", "loop"),
    [(program, loop) for program in FRONT for loop in BOTH if loop == "trio" or "trio.sleep" not in program],
)
def test_the_programs_of_the_front_page(program: str, loop: str) -> None:
    """Each tab of the front page is a program that streams, on the loops that its functions are for."""
    if "fastapi" in program:
        pytest.importorskip("fastapi")
    names: dict[str, Any] = {}
    exec(compile(program, "main.py", "exec"), names)

    async def main() -> None:
        async with open_test_stream(names["app"], "/clock") as stream:
            assert [(await stream.receive()).data for _ in range(2)] == ["tick 0", "tick 1"]

    backend, options = virtual_backend(loop)
    anyio.run(main, backend=backend, backend_options=options)


# --- pytest-asyncio

FILE = re.compile(r"^```python\n# (\w+)\.py\n(.*?)^```", re.DOTALL | re.MULTILINE)
INI = re.compile(r"^```ini\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_files_of_the_page_on_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """The tests on the page pass under pytest-asyncio."""
    pytest.importorskip("pytest_asyncio")
    page = (DOCS / "pytest-asyncio.md").read_text(encoding="utf-8")
    pytester.makepyfile(**dict(FILE.findall(page)))
    pytester.makefile(".ini", pytest=INI.findall(page)[0])
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=50)
    result.assert_outcomes(passed=3)
