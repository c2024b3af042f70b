# The pages of docs/cookbook.md work: what a reader copies serves a stream, and the tests on the page pass.
#
# Rule 1: a page's own tests run here, on the loops that the page is for; in virtual time unless it starts processes.
# Rule 2: code in other languages is at least parsed, and run where Node can run it.

from __future__ import annotations

import inspect
import json
import os
import re
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from sse_trio import EventSourceResponse, ServerSentEvent
from sse_trio.testing import StreamingASGITransport, open_test_stream, virtual_backend

from ._pages import DOCS, namespace_of

ROOT = DOCS.parent
KUBERNETES = ROOT / "examples" / "kubernetes"
ASYNCIO, TRIO, BOTH = ("asyncio",), ("trio",), ("asyncio", "trio")
PAGES = {
    # a page: what it needs beside the package, the loops that it is for, and whether its clock is real
    "llm": ("openai", ASYNCIO, False),
    "subprocess": ("anyio", BOTH, True),
    "post": ("fastapi", BOTH, False),
    "react": ("fastapi", BOTH, False),
    "authentication": ("jwt", BOTH, False),
    "containers": ("anyio", BOTH, False),
}
ON_EACH_LOOP = [(page, loop) for page, (_, loops, _) in PAGES.items() for loop in loops]


@pytest.fixture
def names(page: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the blocks of a page define."""
    pytest.importorskip(PAGES[page][0])
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


@pytest.mark.parametrize("page", ["llm"])
@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/answers", {"text": "Why?"}, ['{"token":"It "}', '{"token":"scatters."}', "done"]),
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


# --- other languages


def node(*arguments: str, source: str | None = None) -> str:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    done = subprocess.run(["node", *arguments], input=source, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


PARSE = """
const blocks = JSON.parse(require("fs").readFileSync(0, "utf8"));
for (const [name, source] of blocks) {
  try { new (require("vm").SourceTextModule)(source); } catch (error) { console.log(`${name}: ${error}`); }
}
"""
BLOCK = re.compile(r"^```javascript\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_javascript_parses() -> None:
    """Every block of JavaScript in README.md and docs/ parses as a module."""
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    blocks = [(page.name, block) for page in pages for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert len(blocks) > 10
    assert node("--no-warnings", "--experimental-vm-modules", "-e", PARSE, source=json.dumps(blocks)) == ""


REACT = """
const effects = [];
let state;
export const useRef = (current) => ({ current });
const setState = (next) => { state = next instanceof Function ? next(state) : next; };
export const useState = (initial) => [state ??= initial, setState];
export const useEffect = (effect) => { effects.push(effect); };
export const mount = () => effects.map((effect) => effect());
export const now = () => state;
"""
USE_IT = """
import { mount, now } from "react";
import { useEventSource } from "./useEventSource.mjs";

let source;
globalThis.EventSource = class {
  static CLOSED = 2;
  readyState = 0;
  listeners = {};
  constructor(url) { source = this; this.url = url; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  close() { this.readyState = 2; }
};
const seen = [];
useEventSource("/jobs/7", { onMessage: (data, id) => seen.push([data, id]) });
const cleanups = mount();
const steps = [now().status];
source.onopen(); steps.push(now().status);
source.onmessage({ data: '{"percent": 5}', lastEventId: "1" });
source.onerror(); steps.push(now().status);
source.listeners.end(); steps.push(now().status, source.readyState);
source.readyState = 0; cleanups.forEach((cleanup) => cleanup?.()); steps.push(source.readyState);
source.onerror(); steps.push(now().status);
console.log(JSON.stringify([source.url, steps, seen, now().data]));
"""


def test_the_react_hook(tmp_path: Path) -> None:
    """The hook opens the stream, keeps the latest message, says how the connection is, and closes it."""
    react = tmp_path / "node_modules" / "react"
    react.mkdir(parents=True)
    (react / "package.json").write_text('{"name": "react", "type": "module", "exports": "./index.js"}')
    (react / "index.js").write_text(REACT)
    shutil.copy(ROOT / "examples" / "react" / "useEventSource.js", tmp_path / "useEventSource.mjs")
    (tmp_path / "main.mjs").write_text(USE_IT)
    url, steps, seen, data = json.loads(node(str(tmp_path / "main.mjs")))
    assert url == "/jobs/7"
    assert steps == ["connecting", "open", "connecting", "ended", 2, 2, "failed"]
    assert seen == [[{"percent": 5}, "1"]]
    assert data == {"percent": 5}


def test_kubernetes_waits_for_the_streams() -> None:
    """The manifest parses; its probes are routes, and its grace is longer than what comes before the exit."""
    yaml = pytest.importorskip("yaml")
    deployment, service, ingress = yaml.safe_load_all((KUBERNETES / "deployment.yaml").read_text(encoding="utf-8"))
    assert [part["kind"] for part in (deployment, service, ingress)] == ["Deployment", "Service", "Ingress"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    names = namespace_of("containers")
    paths = {route.path for route in names["routes"]}
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} < paths
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pre_stop + names["SHUTDOWN_GRACE"] + 5
    annotations = ingress["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 15  # seconds between pings


def test_the_container_s_server_gets_the_signal() -> None:
    """The Dockerfile starts the server as a list, so that no shell keeps SIGTERM."""
    lines = (KUBERNETES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (command,) = (line for line in lines if line.startswith("CMD "))
    assert json.loads(command.removeprefix("CMD "))[0] == "uvicorn"


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
