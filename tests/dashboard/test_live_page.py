"""The first page in a real browser, over real TLS, on a real database."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, Job, python, run_jobs, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from sungrow_lib.sample import format_ts
from tests.conftest import Need

TOKEN = "page-token-0123456789"
CHROMIUM_OPTIONS = [
    "--no-sandbox",  # the tests may run as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


class Server:
    """`sungrow-server run` as a process, and a voice that sends it readings."""

    def __init__(self, dsn: str, certificates: CertificateFiles, folder: Path) -> None:
        [self.port] = free_ports(1)
        self._log = folder / "server.log"
        self._trust = ssl.create_default_context(cafile=str(certificates.ca))
        self._environment = clean_environment() | {
            "DATABASE_URL": dsn,
            "DEVICE_TOKENS": f"{TOKEN}:house",
            "LISTEN_HOST": "127.0.0.1",
            "LISTEN_PORT": str(self.port),
            "TLS_CERT_FILE": str(certificates.cert),
            "TLS_KEY_FILE": str(certificates.key),
        }
        run_jobs(Job("migrate", python("reference_server.cli", "migrate"), self._environment))
        self.start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/"

    def start(self) -> None:
        self.process = Child(
            "the server", python("reference_server.cli", "run"), self._log, environment=self._environment
        )
        wait_until("the server", lambda: is_listening(self.port), timeout_s=30, watched=[self.process])

    def ingest(self, ago_s: float = 0.0, **fields: Any) -> None:
        ts = format_ts(datetime.now(UTC) - timedelta(seconds=ago_s))
        body = json.dumps({"samples": [{"device_id": "house", "ts": ts} | fields]})
        connection = http.client.HTTPSConnection("localhost", self.port, context=self._trust, timeout=10)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/ingest", body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert json.loads(answer.read())["inserted"] == 1
        connection.close()


@pytest.fixture
def server(database: str, tls_files: CertificateFiles, tmp_path: Path) -> Iterator[Server]:
    server = Server(database, tls_files, tmp_path)
    yield server
    server.process.stop(10)


@pytest.fixture(scope="module")
def browser(need: Need) -> Iterator[Browser]:
    chromium = need("chromium", "chromium-browser", purpose="the live page in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages that must stay without complaint: no console error, no request to another origin."""
    complaints: list[str] = []
    contexts = []

    def open_page(server: Server, *, allow_errors: bool = False, **options: Any) -> Page:
        # The certificate is of the test's own authority, which the browser does not know.
        context = browser.new_context(ignore_https_errors=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if not allow_errors:
            page.on("console", lambda note: complaints.append(note.text) if note.type == "error" else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith(server.url) else complaints.append(request.url),
        )
        page.goto(server.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(page: Page, token: str = TOKEN) -> None:
    page.get_by_label("Read token").fill(token)
    page.get_by_label("Read token").press("Enter")


def test_live_values_change_by_themselves(server: Server, open_page: Callable[..., Page]) -> None:
    server.ingest(
        5, pv_power_w=3210, load_power_w=900, battery_power_w=1500, battery_soc_pct=64.5, export_power_w=810
    )
    page = open_page(server)
    sign_in(page)
    house = page.get_by_role("article")
    expect(house.get_by_role("heading")).to_have_text("house")
    expect(house.get_by_role("img")).to_contain_text("3.21 kW")
    expect(house.locator('[data-part="flow-title"]')).to_have_text(
        "Sun 3.21 kW, house 900 W, battery charging 1.50 kW, grid selling 810 W"
    )
    server.ingest(pv_power_w=4560, load_power_w=900, battery_power_w=-250, export_power_w=-30)
    expect(house.locator('[data-part="flow-title"]')).to_have_text(
        "Sun 4.56 kW, house 900 W, battery discharging 250 W, grid buying 30 W"
    )
    expect(house).to_have_attribute("data-state", "live")


def test_what_is_unknown_is_not_shown_as_zero(server: Server, open_page: Callable[..., Page]) -> None:
    server.ingest(pv_power_w=0, active_power_w=0)
    page = open_page(server)
    sign_in(page)
    expect(page.locator('[data-part="sun"]')).to_have_text("0 W")
    for unknown in ("battery", "house"):
        expect(page.locator(f'[data-node="{unknown}"]')).to_be_hidden()
    expect(page.get_by_role("article")).not_to_contain_text("Sold today")


def test_old_values_turn_stale(server: Server, open_page: Callable[..., Page]) -> None:
    server.ingest(3600, pv_power_w=100)
    page = open_page(server)
    sign_in(page)
    expect(page.get_by_role("article")).to_have_attribute("data-state", "stale")
    expect(page.locator('[data-part="state-text"]')).to_have_text("stale, 60 min ago")


def test_a_server_that_goes_and_comes_back(server: Server, open_page: Callable[..., Page]) -> None:
    server.ingest(pv_power_w=1234)
    page = open_page(server, allow_errors=True)  # the browser reports refused connections
    sign_in(page)
    house = page.get_by_role("article")
    expect(house).to_have_attribute("data-state", "live")
    server.process.stop(10)
    expect(house).to_have_attribute("data-state", "offline")
    expect(page.locator('[data-part="sun"]')).to_have_text("1.23 kW")
    expect(page.get_by_role("status")).to_contain_text("cannot be reached")
    server.start()
    server.ingest(pv_power_w=2345)
    expect(page.locator('[data-part="sun"]')).to_have_text("2.35 kW")


def test_a_wrong_token_and_signing_out(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(server, allow_errors=True)  # the browser reports the 401
    sign_in(page, "not-the-token-0123456789")
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    sign_in(page)
    expect(page.get_by_text("No device has sent a reading yet")).to_be_visible()
    server.ingest(pv_power_w=50)
    expect(page.get_by_role("article")).to_be_visible()
    page.reload()
    expect(page.get_by_role("article")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Read token")).to_be_focused()
    expect(page.get_by_role("article")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(server: Server, open_page: Callable[..., Page], tmp_path: Path, scheme: str) -> None:
    server.ingest(pv_power_w=3210, load_power_w=900, battery_power_w=1500, export_power_w=810)
    page = open_page(server, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    sign_in(page)
    expect(page.get_by_role("article")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert len(page.screenshot(path=tmp_path / f"{scheme}.png")) > 10_000
