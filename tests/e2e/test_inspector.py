# The inspector in a real browser, on real servers: the page, the kick, and a crowd of streams.

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from .._volume import volume
from ._browser import CUT_OFF, DESKTOP, GROUND, NARROW, PATIENCE, PHONE, PageServer, shoot, wait_true

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

APPS = Path(__file__).parent / "apps"
DEMO = Path(__file__).parents[2] / "examples" / "demo"
ADMIN = {"authorization": "Bearer admin"}
COMMANDS = {
    "hypercorn": ("-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}", "inspector_app:app"),
    "uvicorn": ("-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "inspector_app:app"),
}
OPEN_STREAMS = "Number(document.querySelector('#plot-open .headline').textContent.replaceAll(',', ''))"

# How many pixels of a plot have the colour of its line.
COUNT_PIXELS = """([id, colour]) => {
  const canvas = document.querySelector(`#${id} canvas`);
  const probe = document.body.appendChild(document.createElement("p"));
  probe.style.color = `var(--${colour})`;
  const [red, green, blue] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  const copy = new OffscreenCanvas(canvas.width || 1, canvas.height || 1);  // Chromium warns of reading one often
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4)
    if (Math.abs(data[i] - red) + Math.abs(data[i + 1] - green) + Math.abs(data[i + 2] - blue) < 24) count += 1;
  return count;
}"""


def app_on(name, folder):
    return PageServer(*COMMANDS[name], cwd=APPS, log=folder / "app.log")


@pytest.fixture(params=COMMANDS)
def app(request, tmp_path):
    """The application, on each server, of a test that counts its streams, fills it or ends it."""
    with app_on(request.param, tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def lasting_app(tmp_path_factory):
    """The application of all tests of what is the page's business, and that leave it as it was."""
    with app_on("hypercorn", tmp_path_factory.mktemp("app")) as server:
        yield server


one_server = pytest.mark.parametrize("app", ["hypercorn"], indirect=True)  # for what is the page's business alone


@pytest.fixture
def connect():
    """Open streams of an application, from clients that take nothing unless the test does."""
    with ExitStack() as stack:

        def connect(app, path, *headers):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(20)
            client.connect(("127.0.0.1", app.port))
            client.sendall("\r\n".join([f"GET /{path} HTTP/1.1", "Host: x", *headers, "", ""]).encode())
            client.recv(64)
            return client

        yield connect


def gather_crowd(app, streams):
    urlopen(Request(f"{app.url}crowd?streams={streams}", method="POST"), timeout=60).close()


def row_of(page, text):
    return page.locator("#streams tbody tr").filter(has_text=text)


def wait_line(page, plot, colour):
    """Wait until this plot has a line, for which it takes two samples."""
    deadline = time.monotonic() + PATIENCE / 1000
    while page.evaluate(COUNT_PIXELS, [plot, colour]) <= 10:
        assert time.monotonic() < deadline, f"{plot} has no line"
        page.wait_for_timeout(50)


def press(page, button, said):
    """Press the button until the page says what came of it: on a busy machine the second press may come too late."""
    deadline = time.monotonic() + 4 * PATIENCE / 1000
    while said not in page.locator("#alert").inner_text():
        assert time.monotonic() < deadline, "the button did nothing"
        button.click()
        with suppress(AssertionError):
            expect(page.locator("#alert")).to_contain_text(said, timeout=1000)


def read_to_end(client):
    while client.recv(65_536):
        pass


def test_nobody_is_let_in_without_the_word(lasting_app):
    """On a real server, too, `authorize` protects the page, its files and its stream."""
    for path in ("streams/", "streams/page.js", "streams/stream"):
        with pytest.raises(HTTPError) as caught:
            urlopen(lasting_app.url + path, timeout=20)
        caught.value.close()
        assert caught.value.code == 403


def test_what_it_shows(app, connect, open_page):
    """The page is live: plots run, a stream that stalls comes first and says so, topics have their figures."""
    connect(app, "prices?who=alice")
    connect(app, "job/export?who=bob&size=50000")
    page = open_page(app, "streams/", extra_http_headers=ADMIN)
    expect(page.locator("#state")).to_have_text("Live")
    expect(page.locator("h1")).to_have_text("Streams of the exchange")
    stalled = page.locator("#streams tbody tr").first
    expect(stalled).to_contain_text("/job/export", timeout=PATIENCE)
    expect(stalled.locator(".condition")).to_have_text(re.compile(r"stalled \d+ s"), timeout=PATIENCE)
    expect(page.locator("#stalled")).to_have_text("1")
    expect(row_of(page, "who=alice")).to_contain_text("/prices")
    expect(page.locator("#hub-subscribers")).to_have_text("1")
    expect(page.locator("#feeds tbody tr")).to_have_count(1)
    expect(page.locator("#plot-events .headline")).to_have_text(re.compile(r"[1-9].* /s"), timeout=PATIENCE)
    wait_true(page, "document.querySelectorAll('#streams tbody tr').length == 2")
    for plot, colour in (("plot-open", "series-1"), ("plot-events", "series-2"), ("plot-bytes", "series-3")):
        wait_line(page, plot, colour)


def test_kick(app, connect, open_page):
    """The button asks first; then the stream is ended, and the page says why."""
    client = connect(app, "prices?who=alice")
    page = open_page(app, "streams/", extra_http_headers=ADMIN)
    button = row_of(page, "who=alice").get_by_role("button")
    button.click()
    expect(button).to_have_text("Sure?")
    press(page, button, "was kicked")
    read_to_end(client)
    expect(row_of(page, "who=alice")).to_have_count(0)
    expect(page.locator("#closed tbody tr").first).to_contain_text("kicked")
    expect(page.locator("#reasons")).to_contain_text("kicked")


def test_a_button_stays_while_the_table_changes(lasting_app, connect, open_page):
    """Another order and another filter keep a row's button and its focus, so that no press of it is lost."""
    for who in ("dora", "ernst", "doris"):
        connect(lasting_app, f"prices?who={who}")
    page = open_page(lasting_app, "streams/", extra_http_headers=ADMIN)
    page.select_option("#sort", "age")
    expect(page.locator("#streams tbody tr")).to_have_count(3, timeout=PATIENCE)
    for who in ("doris", "dora"):  # the last row, which becomes the first
        first = page.locator("#streams tbody tr").first
        row_of(page, f"who={who}").get_by_role("button").evaluate(
            "button => { window.pressed = button; button.focus(); }"
        )
        page.evaluate("document.querySelector('#order').click()")
        expect(first).to_contain_text(f"who={who}", timeout=PATIENCE)
        assert page.evaluate("document.activeElement === window.pressed")
    page.evaluate(
        "const box = document.querySelector('#text'); box.value = 'who=do'; box.dispatchEvent(new Event('input'))"
    )
    expect(row_of(page, "who=ernst")).to_have_count(0, timeout=PATIENCE)
    assert page.evaluate("document.activeElement === window.pressed && window.pressed.isConnected")


def test_runs_and_their_stop(lasting_app, connect, open_page):
    """A run is a row, with its labels and watchers; the button asks first, and then the run ends for its watchers."""
    key = "chat/<42>?&"
    urlopen(Request(f"{lasting_app.url}run/{quote(key)}?who=alice", method="POST"), timeout=60).close()
    client = connect(lasting_app, f"run/{quote(key)}?who=bob")
    page = open_page(lasting_app, "streams/", extra_http_headers=ADMIN)
    row = page.locator("#runs tbody tr").filter(has_text="who=alice")
    expect(row.locator(".path")).to_have_text(key, timeout=PATIENCE)
    expect(row.locator("td").nth(4)).to_have_text("1", timeout=PATIENCE)
    expect(row.locator("td").nth(2)).to_have_text(re.compile(r"\d+ s"))
    press(page, row.get_by_role("button"), "was stopped")
    read_to_end(client)
    expect(page.locator("#runs tbody tr")).to_have_count(0, timeout=PATIENCE)
    expect(page.get_by_text("Nothing runs in this process.")).to_be_visible()


def test_a_kick_that_is_not_confirmed(lasting_app, connect, open_page):
    """A press without a second one does nothing, and is forgotten."""
    connect(lasting_app, "prices?who=alice")
    page = open_page(lasting_app, "streams/", extra_http_headers=ADMIN)
    button = row_of(page, "who=alice").get_by_role("button")
    button.click()
    expect(button).to_have_text("Sure?")
    expect(button).to_have_text("Kick", timeout=PATIENCE)
    expect(row_of(page, "who=alice")).to_have_count(1)


def test_a_kick_that_is_refused_is_said(lasting_app, connect, open_page):
    """If the server refuses, the page shows what it said."""
    connect(lasting_app, "prices?who=alice")
    page = open_page(lasting_app, "streams/", extra_http_headers=ADMIN, expected=["status of 404"])
    page.route("**/kick/*", lambda route: route.fulfill(status=404, body="no such stream is open"))
    press(page, row_of(page, "who=alice").get_by_role("button"), "no such stream is open")
    expect(page.get_by_role("alert")).to_be_visible()


@one_server
def test_filter_order_and_number_of_rows(app, open_page):
    """The server chooses the rows to show: by a text, by a figure, this many."""
    gather_crowd(app, 300)
    page = open_page(app, "streams/", extra_http_headers=ADMIN)
    rows = page.locator("#streams tbody tr")
    expect(rows).to_have_count(50)
    expect(page.locator("#of")).to_have_text("the first 50 of 300")
    page.select_option("#rows", "100")
    expect(rows).to_have_count(100)
    page.select_option("#sort", "age")
    oldest = rows.first.locator(".path").inner_text()
    page.get_by_role("button", name="Ascending").click()
    expect(rows.first.locator(".path")).not_to_have_text(oldest)
    page.get_by_role("searchbox").fill("WHO=user-29")
    expect(page.locator("#of")).to_have_text("11 that match")
    expect(rows).to_have_count(11)
    page.get_by_role("searchbox").fill("nobody at all")
    expect(page.get_by_text("No open stream matches.")).to_be_visible()


@one_server
def test_a_crowd_of_streams(app, connect, open_page):
    """With thousands of streams the page stays live, shows 50 rows, and can kick one of them."""
    client = connect(app, "prices?who=alice")
    crowd = volume(5000)
    gather_crowd(app, crowd)
    page = open_page(app, "streams/", extra_http_headers=ADMIN)
    wait_true(page, f"{OPEN_STREAMS} >= {crowd + 1}")
    expect(page.locator("#streams tbody tr")).to_have_count(50)
    expect(page.locator("#of")).to_have_text(f"the first 50 of {crowd + 1:,}")
    expect(page.locator("#hub-subscribers")).to_have_text(f"{crowd + 1:,}")
    expect(page.locator("#feeds tbody tr")).to_have_count(3)
    wait_true(page, "document.querySelector('#plot-events .headline').textContent.endsWith('/s')")
    wait_line(page, "plot-bytes", "series-3")
    shoot(page, "inspector-crowd")
    page.get_by_role("searchbox").fill("who=alice")
    expect(page.locator("#of")).to_have_text("1 that match", timeout=PATIENCE)
    press(page, row_of(page, "who=alice").get_by_role("button"), "was kicked")
    read_to_end(client)


def test_what_clients_send_is_text(lasting_app, connect, open_page):
    """Paths and labels are shown as they are, whatever they are; nothing of them runs or is fetched."""
    evil = "<img src=x onerror=alert(1)><script>alert(1)</script>"
    connect(lasting_app, f"job/{quote(evil)}?who={quote(evil)}")
    page = open_page(lasting_app, "streams/", extra_http_headers=ADMIN)
    row = row_of(page, "onerror")
    expect(row.locator(".path")).to_have_text(f"/job/{evil}")
    expect(row.locator(".tag")).to_have_text(f"who={evil}")
    assert page.locator("#streams img, #streams script").count() == 0


@one_server
def test_it_comes_back_after_a_restart(app, connect, open_page):
    """A page whose server was restarted forgets what it had, and goes on."""
    connect(app, "prices?who=alice")
    page = open_page(app, "streams/", extra_http_headers=ADMIN)
    expect(row_of(page, "who=alice")).to_have_count(1)
    app.interrupt()
    expect(page.locator("#state")).to_have_text("Reconnecting")
    app.start()
    expect(page.locator("#state")).to_have_text("Live", timeout=PATIENCE)
    expect(row_of(page, "who=alice")).to_have_count(0)


@one_server
def test_fits_the_screen(app, connect, open_page):
    """Nothing is cut off or scrolls sideways, from a desktop's to the narrowest phone's screen, light and dark."""
    for who in ("alice", "bob", "carol", "carol"):
        connect(app, f"prices?who={who}", f"Seat: {who}")
    connect(app, "job/reports/2026/november/export?who=dave&size=50000")
    connect(app, "prices?who=erin").close()
    witness = open_page(app, "streams/", extra_http_headers=ADMIN)
    expect(witness.locator("#closed tbody tr")).to_have_count(1, timeout=PATIENCE)
    expect(witness.locator("#stalled")).to_have_text("1", timeout=PATIENCE)
    expect(witness.locator("#limits")).to_have_text("max_streams_per1")
    wait_line(witness, "plot-bytes", "series-3")
    for name, viewport in (("desktop", DESKTOP), ("phone", PHONE), ("narrow", NARROW)):
        page = open_page(app, "streams/", viewport=viewport, device_scale_factor=2, extra_http_headers=ADMIN)
        expect(page.locator("#streams tbody tr").first).to_contain_text("stalled")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
            assert page.evaluate(CUT_OFF) == []
            shoot(page, f"inspector-{name}-{scheme}", full_page=True)
        page.close()


def test_the_chosen_theme_is_kept(lasting_app, open_page):
    """The theme is the system's until the visitor chooses, and the choice outlives a reload."""
    page = open_page(lasting_app, "streams/", color_scheme="light", extra_http_headers=ADMIN)
    button = page.get_by_role("button", name="Dark theme")
    light = page.evaluate(GROUND)
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(GROUND) != light


def test_the_demo_has_it(tmp_path, open_page):
    """The demo mounts the inspector, for who sits at the machine; a page of the demo is a stream there."""
    with PageServer(DEMO, "--port", "{port}", cwd=tmp_path, log=tmp_path / "demo.log") as server:
        page = open_page(server)
        page.get_by_role("link", name="see all that are open").click()
        expect(page.locator("h1")).to_have_text("Streams of the demo")
        other = open_page(server)
        expect(row_of(page, "browser=Chrome")).to_contain_text("/events")
        other.close()
