# The built site, as `nox -s docs` has left it in build/docs: it stands by itself, every page is found, and it reads
# well on a phone and a desktop, in the dark and in the light.
#
# Rule 1: it is looked at as files, without a server: what works so works everywhere.
# Rule 2: what can be decided without building is decided in tests/test_docs.py, which runs with the suite.

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

SITE = Path(__file__).parents[1] / "build" / "docs"
PAGES = sorted(SITE.glob("*.html"))
MADE_BY_SPHINX = {"404", "genindex", "py-modindex", "search"}
WRITTEN = [page for page in PAGES if page.stem not in MADE_BY_SPHINX]
CHROMIUM = Path("/usr/bin/chromium")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOADS = {"src", "srcset", "poster", "data"}  # attributes by which a page loads something, beside a <link>'s href


class Page(HTMLParser):
    """What a page loads, where it links to, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.ids = [], [], set()
        self.title, self.description = "", ""
        self._in_title = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.add(attributes.get("id"))
        self.loads += [value for name, value in attrs if name in LOADS]
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link":
            self.loads.append(attributes["href"])
        elif tag == "meta" and attributes.get("name") == "description":
            self.description = attributes["content"]
        self._in_title = tag == "title" and not self.title

    def handle_data(self, data):
        if self._in_title:
            self.title += data


@pytest.fixture(scope="module")
def read():
    """Each page, by its path."""
    assert WRITTEN, f"there is no site in {SITE}: run `nox -s docs`"
    return {path: Page(path) for path in PAGES}


def is_elsewhere(url):
    return re.match(r"(https?:)?//", url) is not None


def test_nothing_is_loaded_from_elsewhere(read):
    """No page and no style sheet loads anything from another host."""
    loads = {f"{path.name}: {url}" for path, page in read.items() for url in page.loads if is_elsewhere(url)}
    for sheet in SITE.rglob("*.css"):
        urls = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s;]+)", sheet.read_text(encoding="utf-8"))
        loads |= {f"{sheet.name}: {url}" for url in urls if is_elsewhere(url)}
    assert loads == set()


def test_links_lead_somewhere(read):
    """Every link inside of the site leads to a file, and to a place in it."""
    broken = []
    for path, page in read.items():
        for link in page.links:
            url, fragment = urldefrag(link)
            target = (path.parent / unquote(url)).resolve() if url else path
            if is_elsewhere(link) or link.startswith("mailto:"):
                continue
            if not target.exists() or (fragment and target in read and unquote(fragment) not in read[target].ids):
                broken.append(f"{path.name}: {link}")
    assert broken == []


def article_of(path):
    """What a page says, without what is around it."""
    return path.read_text(encoding="utf-8").partition("<article")[2].partition("</article")[0]


def test_every_page_is_found(read):
    """The list of the index, or that of the cookbook, links to each page; each has its own title and a description."""
    lists = "".join(article_of(SITE / name) for name in ("index.html", "cookbook.html"))
    assert [page.name for page in WRITTEN if page.stem != "index" and f'"{page.name}' not in lists] == []
    titles = [read[path].title for path in WRITTEN]
    assert len(set(titles)) == len(titles)
    assert [path.name for path in WRITTEN if len(read[path].description) < 40] == []


@pytest.fixture(scope="module")
def browser():
    """A Chromium."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("chromium is not installed")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open a file of the site; at the end, see what the pages complained of, and whom they asked."""
    complaints, contexts = [], []

    def open_page(name, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
        page.goto((SITE / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_is_wider_than_the_screen(viewport, open_page):
    """No page has to be pushed sideways: what is wide scrolls by itself."""
    page = open_page("index.html", viewport=viewport)
    too_wide = []
    for path in PAGES:
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            too_wide.append(path.name)
    assert too_wide == []


@pytest.mark.parametrize(("viewport", "width"), [(DESKTOP, 900), (PHONE, 700)], ids=["desktop", "phone"])
def test_plots_can_be_read(viewport, width, open_page):
    """A plot has room for its labels: it is as wide as code on a desktop, and on a phone it scrolls."""
    page = open_page("benchmarks.html", viewport=viewport)
    plots = page.locator("article img")
    widths = [plot.bounding_box()["width"] for plot in plots.all()]
    assert len(widths) >= 4
    assert min(widths) >= width
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_code_is_not_cut(open_page):
    """On a screen of 1280 pixels each line of code is seen to its end."""
    page = open_page("index.html", viewport=DESKTOP)
    cut = []
    for path in PAGES:
        page.goto(path.as_uri())
        wide = "[...document.querySelectorAll('.highlight pre')].filter(pre => pre.scrollWidth > pre.clientWidth + 1)"
        cut += [f"{path.name}: {text}" for text in page.evaluate(f"{wide}.map(pre => pre.innerText.slice(0, 80))")]
    assert cut == []


def test_code_can_be_copied(open_page):
    """Each block of code has a button that copies it."""
    page = open_page("fastapi.html", viewport=DESKTOP)
    page.wait_for_selector("button.copybtn")
    assert page.locator("button.copybtn").count() == page.locator("div.highlight pre").count() > 0


def test_the_front_page_has_a_tab_for_each_framework(open_page):
    """A reader sees one program at a time, chooses another by its tab, and finds the choice again on other pages."""
    page = open_page("index.html", viewport=PHONE)
    shown = page.locator(".sd-tab-content:visible")
    assert "from fastapi import" in shown.inner_text()
    for name, source in {"Starlette": "uvicorn main:app", "trio": "await trio.sleep(1)"}.items():
        page.click(f"label.sd-tab-label:text-is('{name}')")
        assert source in shown.inner_text()
    page.click("label.sd-tab-label:text-is('Starlette')")
    page.goto((SITE / "hub.html").as_uri())
    assert "Starlette(routes=" in page.locator(".sd-tab-content:visible").first.inner_text()


def test_examples_are_read_on_the_site():
    """The source of each example stands on the page that lists them."""
    page = article_of(SITE / "examples.html")
    programs = [path.name for path in (Path(__file__).parents[1] / "examples").glob("[!_]*.py")]
    assert [name for name in programs if f"<h2>{name}" not in page] == []
    assert page.count('class="highlight') >= len(programs) > 10


def test_a_page_can_be_edited(read):
    """Each page that was written leads to its source."""
    sources = {link for path in WRITTEN for link in read[path].links if "/docs/" in link and link.startswith("https:")}
    missing = [path.name for path in WRITTEN if not any(f"/docs/{path.stem}.md" in link for link in sources)]
    assert missing == []


def test_dark_and_light(open_page):
    """The page is as the reader's system is."""
    grounds = [
        open_page("index.html", color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("dark", "light")
    ]
    dark, light = (sum(map(int, re.findall(r"\d+", ground)[:3])) for ground in grounds)
    assert dark < 150
    assert light > 600


def test_search_works_offline(open_page):
    """What a reader types into the search is found, without a server."""
    page = open_page("index.html")
    page.fill("input[name=q]", "kernel buffers")
    page.press("input[name=q]", "Enter")
    page.wait_for_selector("#search-results a[href*='tuning.html']")
