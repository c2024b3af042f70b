# A real browser, Debian's Chromium, on the demo and on an app that says no: what the whole is for.
#
# Rule 1: each server is a process of its own, started and ended as a person does it: by its command and by Ctrl+C.
# Rule 2: a test waits for what the page shows, never for an amount of time.
# Rule 3: what the server was told is read from its log or from itself, not from the page.
# Rule 4: a page in a test asks nobody but its server, and writes no error to its console that the test doesn't expect.

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest

from ._browser import AT_ONCE, CUT_OFF, DESKTOP, GROUND, NARROW, PATIENCE, PHONE, PageServer, shoot, wait_true

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"
SERVERS = ("hypercorn", "uvicorn")

# How many pixels of a plot have the colour that its key says, for each entry of the key.
COUNT_PIXELS = """card => {
  const canvas = card.querySelector("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [...card.querySelectorAll(".swatch")].map(swatch => {
    const [red, green, blue] = getComputedStyle(swatch).backgroundColor.match(/\\d+/g).map(Number);
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
      if (Math.abs(data[i] - red) + Math.abs(data[i + 1] - green) + Math.abs(data[i + 2] - blue) < 24) count += 1;
    return count;
  });
}"""

A_NUMBER = re.compile(r"\d")
LAST_EVENT_ID = "Number(document.getElementById('last-event-id').textContent)"

# --- servers --------------------------------------------------------------------------------------------------------


def demo_on(name, folder):
    command = (ROOT / "examples/demo", "--server", name, "--port", "{port}", "--alone")
    return PageServer(*command, cwd=folder, log=folder / "demo.log")


@pytest.fixture(params=SERVERS)
def demo(request, tmp_path):
    """The demo, on each server, of a test that ends it."""
    with demo_on(request.param, tmp_path) as server:
        yield server


@pytest.fixture(scope="module", params=SERVERS)
def lasting_demo(request, tmp_path_factory):
    """The demo, on each server, of all tests that leave it alive."""
    with demo_on(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


# For what is the page's business alone.
one_server = pytest.mark.parametrize("lasting_demo", SERVERS[:1], indirect=True)

RETRY_COMMANDS = {
    "hypercorn": ("-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}", "retry_app:app"),
    "uvicorn": ("-m", "uvicorn", "--port", "{port}", "retry_app:app"),
}


@pytest.fixture(params=SERVERS)
def retry_app(request, tmp_path):
    """The app that ends two streams and then says 204, on each server."""
    with PageServer(*RETRY_COMMANDS[request.param], cwd=APPS, log=tmp_path / "retry_app.log") as server:
        yield server


# --- the page -------------------------------------------------------------------------------------------------------


def wait_state(page, state):
    """Wait until the page shows this as the state of its connection: what a reader sees, not an attribute."""
    expect(page.locator("#state")).to_contain_text(state, timeout=PATIENCE)


def wait_samples(page, samples):
    """Wait until this many samples have come, four events each after the `hello`."""
    wait_true(page, f"Number(document.getElementById('received').textContent.replace(',', '')) >= {1 + 4 * samples}")


def last_event_id(page) -> int:
    return int(page.locator("#last-event-id").inner_text())


def is_id_after(line, last) -> bool:
    return line.startswith("id: ") and int(line.removeprefix("id: ")) > last


# --- the demo -------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_every_plot_has_data(lasting_demo, open_page):
    """Each named event of the stream is drawn in its plot, in the colours of the key, and told in numbers."""
    page = open_page(lasting_demo)
    wait_state(page, "Live")
    wait_samples(page, 4)
    for name in ("cpu", "memory", "network", "load"):
        card = page.locator(f"#{name}")
        expect(card.locator(".headline")).to_have_text(A_NUMBER)
        for value in card.locator(".key .value").all():
            expect(value).to_have_text(A_NUMBER)
        # Lines may cover each other, as those of two idle cores do; the one that is drawn last shows.
        assert max(card.evaluate(COUNT_PIXELS)) > 10
    expect(page.locator("#rate")).to_have_text(re.compile("^[345]\\."), timeout=PATIENCE)
    assert last_event_id(page) > 0


@pytest.mark.browser
def test_reconnects_with_its_last_event_id_after_a_restart(demo, open_page):
    """A server that is stopped and started again gets the page back, with the id of the last sample it has."""
    page = open_page(demo)
    wait_samples(page, 3)
    page.get_by_text("The stream as it arrives").click()

    assert demo.interrupt() < AT_ONCE
    assert demo.returncode == 0
    wait_state(page, "Reconnecting")
    last = last_event_id(page)

    demo.start()
    wait_state(page, "Live")
    expect(page.locator("#reconnects")).to_have_text("1")
    expect(page.locator("#lines")).to_contain_text(f'event: gap\ndata: {{"after":{last}}}')
    assert f"Last-Event-ID: {last}\n" in demo.log
    wait_true(page, f"{LAST_EVENT_ID} > {last}")
    shoot(page, "demo-restarted")


@pytest.mark.browser
def test_what_was_missed_while_disconnected_is_sent(lasting_demo, open_page):
    """A page that connects again in the server's lifetime gets the samples in between, and no gap."""
    page, witness = open_page(lasting_demo), open_page(lasting_demo)
    for each in (page, witness):
        each.get_by_text("The stream as it arrives").click()
    wait_samples(page, 1)
    page.get_by_role("button", name="Disconnect").click()
    wait_state(page, "Disconnected")
    last = last_event_id(page)
    wait_true(witness, f"{LAST_EVENT_ID} > {last + 1500}")
    missed = [line for line in witness.locator("#lines").inner_text().splitlines() if is_id_after(line, last)]

    page.get_by_role("button", name="Connect", exact=True).click()
    wait_state(page, "Live")
    for line in missed:
        expect(page.locator("#lines")).to_contain_text(line)
    assert f"Last-Event-ID: {last}\n" in lasting_demo.log
    expect(page.locator("#lines")).not_to_contain_text("event: gap")


@pytest.mark.browser
@one_server
def test_an_answer_of_204_ends_it_until_the_visitor_connects(lasting_demo, open_page):
    """The page doesn't ask again after a 204, says so, and offers to connect."""
    page = open_page(lasting_demo)
    wait_samples(page, 1)
    page.get_by_role("button", name="Disconnect").click()
    page.route("**/events*", lambda route: route.fulfill(status=204))
    page.get_by_role("button", name="Connect", exact=True).click()
    wait_state(page, "Ended by the server")
    expect(page.get_by_role("status")).to_have_text("Ended by the server")
    page.unroute("**/events*")
    page.get_by_role("button", name="Connect", exact=True).click()
    wait_state(page, "Live")


@pytest.mark.browser
@one_server
@pytest.mark.parametrize(("name", "viewport"), [("desktop", DESKTOP), ("phone", PHONE), ("narrow", NARROW)])
def test_fits_the_screen(lasting_demo, open_page, name, viewport):
    """Nothing is cut off or scrolls sideways, from a desktop's to the narrowest phone's screen, light and dark."""
    page = open_page(lasting_demo, viewport=viewport, color_scheme="light", device_scale_factor=2)
    wait_samples(page, 3)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        assert page.evaluate(CUT_OFF) == []
        shoot(page, f"demo-{name}-{scheme}")


@pytest.mark.browser
@one_server
def test_the_chosen_theme_is_kept(lasting_demo, open_page):
    """The theme is the system's until the visitor chooses, and the choice outlives a reload."""
    page = open_page(lasting_demo, color_scheme="light")
    button = page.get_by_role("button", name="Dark theme")
    expect(button).to_have_attribute("aria-pressed", "false")
    light = page.evaluate(GROUND)
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(GROUND) != light


def test_ctrl_c_ends_it_at_once_with_200_streams_open(demo):
    """However many pages are open, each gets a goodbye and a complete body, and the process exits."""
    with ExitStack() as stack:
        streams = [stack.enter_context(urlopen(demo.url + "events", timeout=20)) for _ in range(200)]
        for stream in streams:
            assert b"retry: " in stream.readline()
        assert demo.interrupt() < AT_ONCE
        assert demo.returncode == 0
        for stream in streams:  # urlopen raises IncompleteRead for a body that was cut off
            assert b"event: farewell\n" in stream.read()
    assert "Traceback" not in demo.log
    assert demo.log.count("stream closed: shutdown") == 200


# --- the panel ------------------------------------------------------------------------------------------------------


def figure(name) -> str:
    """The JavaScript that reads a figure of the panel."""
    return (
        f"Number([...document.querySelectorAll('#figures dt')].find(term => term.textContent === '{name}')"
        ".nextSibling.textContent.replaceAll(',', '').split(' ')[0])"
    )


@pytest.mark.browser
@pytest.mark.parametrize("demo", SERVERS[:1], indirect=True)
def test_no_event_is_lost(demo, open_page):
    """50 clients, of which some stall and some are kicked, get every number once, across a restart of the server."""
    page = open_page(demo)
    wait_state(page, "Live")
    page.get_by_role("button", name="Open 50 clients").click()
    expect(page.locator("#verdict")).to_contain_text("events to 50 clients: 0 lost, 0 twice.", timeout=PATIENCE)
    wait_true(page, f"{figure('Producers started')} >= 50")
    page.get_by_role("button", name="Kick 5").click()
    wait_true(page, f"{figure('Cleaned up')} >= 5 && {figure('Producers started')} >= 55")
    page.get_by_role("button", name="Stall 5").click()
    expect(page.locator("#figures")).to_contain_text("5 stalled", timeout=PATIENCE)

    page.get_by_role("button", name="Restart the server").click()
    wait_true(page, f"{figure('Cleaned up')} >= 55 && {figure('Producers started')} >= 100")
    wait_true(page, f"{figure('Stopped in')} > 0")
    seen = page.evaluate(figure("Events"))
    wait_true(page, f"{figure('Events')} > {seen}")
    expect(page.locator("#verdict")).to_contain_text(": 0 lost, 0 twice.")
    assert page.evaluate(figure("Never cleaned up")) == 0
    assert page.evaluate(CUT_OFF) == []
    shoot(page, "demo-panel")


@pytest.mark.browser
@one_server
def test_the_sixth_tab_waits_and_says_so(lasting_demo, open_page):
    """A browser opens six connections to a server: a tab that would take the last says so, until another is closed."""
    page = open_page(lasting_demo)
    wait_state(page, "Live")
    tabs = [page.context.new_page() for _ in range(5)]
    for tab in tabs:
        tab.goto(lasting_demo.url)
    for tab in tabs[:4]:
        wait_state(tab, "Live")
    wait_state(tabs[4], "Six connections are open: close a tab")
    page.close()
    wait_state(tabs[4], "Live")


# --- between streams ------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_browser_waits_as_told_and_stops_on_204(retry_app, open_page):
    """`retry` is the time between two streams, the id comes back each time, and after a 204 the page stops asking."""
    page = open_page(retry_app)
    expect(page.locator("ol")).to_have_text("event 1 event 2", timeout=PATIENCE)
    wait_true(page, "document.body.dataset.readyState == EventSource.CLOSED")
    visits = json.load(urlopen(retry_app.url + "visits", timeout=20))
    assert [visit["last_event_id"] for visit in visits] == [None, "1", "2"]
    for before, after in pairwise(visit["at"] for visit in visits):
        assert 0.45 < after - before < 2.5  # told: 0.5 s; Chromium's own: 3 s
