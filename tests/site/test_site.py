"""The built site in a browser: no dead link, no console error, no request to another host.

It is built by `make site`; where it was not, these tests are left out.
"""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.conftest import Need

BUILT: Final = Path(__file__).resolve().parents[2] / "website" / "build"
CHROMIUM_OPTIONS: Final = ["--no-sandbox", "--disable-background-networking", "--no-first-run"]
_LINKS: Final = "() => Array.from(document.querySelectorAll('a[href]'), link => link.href)"
_NAMES: Final = "() => Array.from(document.querySelectorAll('[id], a[name]'), it => it.id || it.name)"
_HYDRATED: Final = "() => document.documentElement.dataset.hasHydrated !== 'false'"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """Say nothing."""


@pytest.fixture(scope="module")
def site(leave_out: Callable[[str, str], NoReturn]) -> Iterator[str]:
    if not (BUILT / "index.html").is_file():
        leave_out("the built site", "its pages in a browser (make site)")
    serve = functools.partial(_Quiet, directory=str(BUILT))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(need: Need) -> Iterator[Browser]:
    chromium = need("chromium", "chromium-browser", purpose="the site in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


class Crawl:
    """What is found by following every link from the first page.

    Attributes:
        pages: every page visited, with the names its links may point at.
        wanted: every link of the site's own, with the page it stands on.
        faults: console errors, pages that are missing, requests to other hosts.
    """

    def __init__(self, site: str, page: Page) -> None:
        self.pages: dict[str, set[str]] = {}
        self.wanted: dict[str, str] = {}
        self.faults: list[str] = []
        self._site = site
        self._page = page
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("request", self._requested)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"{self._page.url}: {message.text}")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self._site, "data:", "blob:")):
            self.faults.append(f"{self._page.url}: {request.url}")

    def run(self) -> None:
        waiting = [self._site]
        while waiting:
            address = waiting.pop()
            if address not in self.pages:
                waiting += self._visit(address)

    def _visit(self, address: str) -> Iterator[str]:
        answer = self._page.goto(address)
        self.pages[address] = set()
        if answer is None or not answer.ok:
            self.faults.append(f"{self.wanted.get(address)} -> {address} is not there")
            return
        self._page.wait_for_function(_HYDRATED)
        self.pages[address] = set(self._page.evaluate(_NAMES))
        for link in self._page.evaluate(_LINKS):
            if link.startswith(self._site):
                self.wanted.setdefault(link, address)
                if not urlsplit(link).path.endswith((".json", ".svg", ".png", ".ipynb")):
                    yield urldefrag(link).url


@pytest.fixture(scope="module")
def crawl(site: str, browser: Browser) -> Crawl:
    page = browser.new_page()
    crawl = Crawl(site, page)
    crawl.run()
    page.close()
    return crawl


def test_no_page_is_missing_asks_elsewhere_or_complains(crawl: Crawl) -> None:
    assert crawl.faults == []
    assert len(crawl.pages) > 60


def test_every_link_into_a_page_finds_its_place(crawl: Crawl) -> None:
    lost = [
        f"{page} -> {link}"
        for link, page in crawl.wanted.items()
        for address, name in [urldefrag(link)]
        if name and address in crawl.pages and name not in crawl.pages[address]
    ]
    assert lost == []


def test_the_crawl_reaches_every_page(crawl: Crawl, site: str) -> None:
    built = {
        urljoin(site, path.relative_to(BUILT).as_posix().removesuffix("index.html"))
        for path in BUILT.glob("docs/**/*.html")
    }
    assert built <= crawl.pages.keys()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    yield page
    page.close()


def test_the_search_finds_a_setting_a_field_and_a_register(page: Page, site: str) -> None:
    for word in ("RAW_RETENTION_DAYS", "battery_power_w", "13023"):
        page.goto(f"{site}search/?q={word}")
        expect(page.get_by_role("article").first).to_be_visible()


def test_the_register_table_finds_by_number_and_by_meaning(page: Page, site: str) -> None:
    page.goto(f"{site}docs/reference/registers/sh/")
    page.wait_for_function(_HYDRATED)
    table = page.locator("table").first
    page.get_by_label("Space").select_option("in")
    page.get_by_role("searchbox", name="Search the registers").fill("13011")
    expect(table.locator("tbody tr")).to_have_count(1)  # the second word of 13010-13011
    expect(table).to_contain_text("export_power")
    page.get_by_role("searchbox", name="Search the registers").fill("battery temperature")
    expect(table).to_contain_text("battery_temperature")


def test_no_page_is_wider_than_a_phone(page: Page, site: str, crawl: Crawl) -> None:
    wide = []
    for address in crawl.pages:
        page.goto(address)
        page.wait_for_function(_HYDRATED)
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(address.removeprefix(site))
    assert wide == []


def test_the_api_reference_shows_requests_and_answers(page: Page, site: str) -> None:
    document = json.loads((BUILT / "openapi.json").read_text())
    for methods in document["paths"].values():
        for operation in methods.values():
            assert (
                BUILT / "docs" / "api" / re.sub("_", "-", operation["operationId"]) / "index.html"
            ).is_file()
    page.goto(f"{site}docs/api/ingest-samples/")
    expect(page.locator("main")).to_contain_text("last_delivered")
    page.goto(f"{site}docs/api/get-series/")
    expect(page.locator("main")).to_contain_text("/v1/series?device_id=roof&frame=day&at=2026-06-15")
