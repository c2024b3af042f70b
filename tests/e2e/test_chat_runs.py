# The chat of examples/chat_runs in Chromium: reload, a second tab, stop, an error in the middle, a server that is
# killed. And with OpenAI's own client.

from __future__ import annotations

from pathlib import Path

import pytest

from ._browser import PATIENCE, PageServer

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat_runs"
COMMANDS = {
    "uvicorn": ("-m", "uvicorn", "--port", "{port}", "--workers", "2", "chat_app:app"),
    "hypercorn": (
        *("-m", "hypercorn", "--worker-class", "trio", "--workers", "2", "--bind", "127.0.0.1:{port}", "chat_app:app"),
    ),
}
NOTHING_YET = "404"  # what Chromium notes of a page that asks whether there is an answer
TEXT = "You asked: why. " + "Light of short wavelengths is scattered most, and so the sky is blue. " * 5


@pytest.fixture(params=sorted(COMMANDS))
def chat(request, tmp_path, monkeypatch):
    """The chat on two workers, with a store of its own."""
    monkeypatch.setenv("CHAT_STORE", str(tmp_path / "chat.sqlite"))
    monkeypatch.setenv("CHAT_PAUSE", "0.05")
    with PageServer(*COMMANDS[request.param], cwd=EXAMPLE, log=tmp_path / "chat.log") as server:
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
