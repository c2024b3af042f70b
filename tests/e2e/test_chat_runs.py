# The chat of examples/chat_runs in Chromium: reload, a second tab, stop, an error in the middle, a server and a worker
# that are killed. And with OpenAI's own client, and the Vercel AI SDK's.

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from sse_trio import EventDecoder

from ._browser import PATIENCE, PageServer
from ._servers import patience

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

NODE = Path(__file__).parent / "node"
EXAMPLE = Path(__file__).parents[2] / "examples" / "chat_runs"
COMMANDS = {
    "uvicorn": ("-m", "uvicorn", "--port", "{port}", "--workers", "2", "chat_app:app"),
    "hypercorn": (
        *("-m", "hypercorn", "--worker-class", "trio", "--workers", "2", "--bind", "127.0.0.1:{port}", "chat_app:app"),
    ),
}
READ_WITH_FETCH = """async url => {
  let text = "";
  const decoder = new TextDecoder();
  const reader = (await fetch(url)).body.getReader();
  for (let part; !(part = await reader.read()).done; ) text += decoder.decode(part.value, { stream: true });
  return text;
}"""
NOTHING_YET = "404"  # what Chromium notes of a page that asks whether there is an answer
SKY = "Light of short wavelengths is scattered most, and so the sky is blue. " * 5
TEXT = f"You asked: why. {SKY}"


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def chat(request, tmp_path_factory):
    """The chat on two workers, with a store of its own."""
    folder = tmp_path_factory.mktemp("chat")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CHAT_STORE", str(folder / "chat.sqlite"))
        # An answer takes two seconds, and is still being given when a page has reloaded.
        environment.setenv("CHAT_PAUSE", str(0.03 * patience()))
        with PageServer(*COMMANDS[request.param], cwd=EXAMPLE, log=folder / "chat.log") as server:
            server.replaces_workers = request.param == "uvicorn"
            yield server


def ask(page, prompt):
    page.locator("#prompt").fill(prompt)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text("You asked", timeout=PATIENCE)


def expect_state(page, state):
    expect(page.locator("#state")).to_have_text(state, timeout=PATIENCE)


def test_an_answer_survives_a_reload(chat, open_page):
    """After a reload the whole answer is there and goes on; a second tab sees the same, also after the end."""
    page = open_page(chat, "#one", expected=[NOTHING_YET])
    ask(page, "why")
    page.reload()
    expect(page.locator("#answer")).to_contain_text("Light", timeout=PATIENCE)
    second = open_page(chat, "#one", expected=[NOTHING_YET])
    for tab in (page, second):
        expect_state(tab, "completed")
        assert tab.locator("#answer").inner_text().strip() == TEXT.strip()
    second.reload()
    expect_state(second, "completed")
    assert second.locator("#answer").inner_text().strip() == TEXT.strip()
    *words, end = EventDecoder().feed(second.evaluate(READ_WITH_FETCH, f"{chat.url}chats/one").encode())
    assert "".join(word.json() for word in words) == TEXT
    assert end.json() == {"state": "completed"}


def test_stop_and_an_error(chat, open_page):
    """The button ends the answer, on whichever worker; an error in the middle is told, and nothing of its cause."""
    page = open_page(chat, "#two", expected=[NOTHING_YET])
    ask(page, "why")
    page.get_by_role("button", name="Stop").click()
    expect_state(page, "stopped")
    ask(page, "error")
    expect_state(page, "failed")
    assert "breath" not in page.content()
    assert "the model is out of breath" in chat.log


def test_a_server_that_is_killed(chat, open_page):
    """A page whose server is killed and started again keeps what it has, and is told that the answer is cut off."""
    page = open_page(chat, "#three", expected=[NOTHING_YET])
    ask(page, "why")
    chat.kill()
    chat.start()
    expect_state(page, "interrupted")
    text = page.locator("#answer").inner_text().strip()
    assert TEXT.startswith(text)
    page.reload()
    expect_state(page, "interrupted")
    assert page.locator("#answer").inner_text().strip() == text


def test_a_worker_that_is_killed(chat, open_page):
    """A page is told of an answer whose worker is killed, and has the next one from a worker that is alive."""
    worker = httpx.post(f"{chat.url}chats/four", json={"prompt": "why"}).raise_for_status().json()["worker"]
    page = open_page(chat, "#four", expected=[NOTHING_YET])
    expect(page.locator("#answer")).to_contain_text("You asked", timeout=PATIENCE)
    os.kill(worker, signal.SIGKILL)
    if not chat.replaces_workers:  # hypercorn ends with it; its supervisor starts it again
        chat.wait_gone()
        chat.start()
    expect_state(page, "interrupted")
    page.locator("#prompt").fill("now")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text("You asked: now", timeout=PATIENCE)
    page.get_by_role("button", name="Stop").click()
    expect_state(page, "stopped")


def test_openais_client(chat):
    """OpenAI's own client streams an answer, and raises its own error for one that fails in the middle."""
    openai = pytest.importorskip("openai", reason="openai is not installed")
    with openai.OpenAI(base_url=f"{chat.url}v1", api_key="-", max_retries=0) as client:

        def ask_model(prompt):
            messages = [{"role": "user", "content": prompt}]
            for chunk in client.chat.completions.create(model="parrot", messages=messages, stream=True):
                yield chunk.choices[0].delta.content or ""

        assert "".join(ask_model("why")) == TEXT
        words = []
        with pytest.raises(openai.APIError, match="the answer was cut off: failed"):
            words.extend(ask_model("error"))


def test_the_ai_sdk(chat):
    """Its chat reads an answer, resumes it whole after it was left, and is told of an end, an error and a stop."""
    if shutil.which("node") is None or not (NODE / "node_modules" / "ai").exists():
        pytest.skip("needs `npm ci` in tests/e2e/node")
    command = ["node", NODE / "ai_chat.mjs", chat.url]
    done = subprocess.run(command, check=False, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    results = json.loads(done.stdout)
    assert results.pop("protocols") == ["v1"] * 4
    assert TEXT.startswith(results.pop("left"))
    status, message, part = results.pop("error")
    assert (status, message) == ("error", "the answer was cut off: failed")
    assert f"You asked: error. {SKY}".startswith(part)
    status, part = results.pop("stopped")
    assert status == "ready"
    again = f"You asked: again. {SKY}"
    assert again.startswith(part)
    assert part != again
    assert results == {"resumed": TEXT, "messages": 1, "over": None, "unknown": None}
