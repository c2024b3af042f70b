# What docs/ shows in other languages is parsed, and run where Node can run it.
#
# Rule: what needs a server of its own (the clients of docs/publishing.md, nginx and HAProxy) is run in e2e/.

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ._pages import DOCS, namespace_of

ROOT = DOCS.parent
KUBERNETES = ROOT / "examples" / "kubernetes"


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


PARSER = """
export class EventSourceParserStream extends TransformStream {
  constructor() { super({ transform: (text, out) => text.match(/.+/g).forEach((data) => out.enqueue({ data })) }); }
}
"""
ASK = """
import { events, post } from "./post.mjs";

const asked = [], seen = [];
let cancelled = 0;
globalThis.fetch = async (url, options) => {
  asked.push([url, options]);
  const start = (controller) => controller.enqueue(new TextEncoder().encode("one\\ntwo\\n"));
  return new Response(new ReadableStream({ start, cancel: () => { cancelled += 1; } }));
};
const headers = { authorization: "Bearer t" };
for await (const event of events("/inbox", { headers })) if (seen.push(event.data) === 2) break;
for await (const event of post("/search", { words: "tea" }, { headers })) if (seen.push(event.data) === 3) break;
await new Promise(setImmediate);
console.log(JSON.stringify([asked, seen, cancelled]));
"""


def test_post_js(tmp_path: Path) -> None:
    """The file of post.md asks with GET or posts JSON, with the caller's headers, and closes when its loop is left."""
    parser = tmp_path / "node_modules" / "eventsource-parser"
    parser.mkdir(parents=True)
    exports = {"./stream": "./stream.js"}
    (parser / "package.json").write_text(json.dumps({"name": parser.name, "type": "module", "exports": exports}))
    (parser / "stream.js").write_text(PARSER)
    shutil.copy(ROOT / "examples" / "post.js", tmp_path / "post.mjs")
    (tmp_path / "main.mjs").write_text(ASK)
    asked, seen, cancelled = json.loads(node(str(tmp_path / "main.mjs")))
    headers = {"accept": "text/event-stream", "authorization": "Bearer t"}
    json_headers = headers | {"content-type": "application/json"}
    assert asked == [
        ["/inbox", {"headers": headers}],
        ["/search", {"method": "POST", "headers": json_headers, "body": '{"words":"tea"}'}],
    ]
    assert (seen, cancelled) == (["one", "two", "one"], 2)


TICKETS = """
let token = "t", answers = [() => Promise.reject(new TypeError("no server")), () => ({ ok: false }), ok, ok];
function ok() { return { ok: true, json: () => ({ ticket: answers.length }) }; }
const urls = [], shown = [], show = (data) => shown.push(data);
let source, again, finish;
globalThis.fetch = async () => answers.shift()();
globalThis.setTimeout = (callback) => { again = callback; finish?.(); };
globalThis.EventSource = class {
  constructor(url) { source = this; urls.push(url); finish?.(); }
  close() { this.closed = true; }
};
const next = (start) => new Promise((resolve) => { finish = resolve; start?.(); });
PAGE
await next();                          // no server
await next(again);                     // a 401
await next(again);                     // a ticket
source.onmessage({ data: "hello", lastEventId: "e-7" });
source.onerror();                      // the ticket has been used
await next(again);
console.log(JSON.stringify([urls, shown, answers.length]));
"""


def test_a_page_with_tickets_comes_back(tmp_path: Path) -> None:
    """The page of authentication.md tries again when it gets no answer, and when it gets no ticket; then it resumes."""
    page = (DOCS / "authentication.md").read_text(encoding="utf-8")
    (block,) = (block for block in BLOCK.findall(page) if "function connect" in block)
    (tmp_path / "page.mjs").write_text(TICKETS.replace("PAGE", block))
    urls, shown, left = json.loads(node(str(tmp_path / "page.mjs")))
    path = "/inbox-with-ticket?ticket="
    assert (urls, shown, left) == ([f"{path}1&lastEventId=", f"{path}0&lastEventId=e-7"], ["hello"], 0)


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
