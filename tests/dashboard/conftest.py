"""A real server with a modelled week of two inverters, and a browser that must stay without complaint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import secrets
import ssl
import subprocess
import urllib.parse
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from psycopg.conninfo import make_conninfo

from reference_server.administration import create_token, list_tokens, revoke_token, set_device
from reference_server.storage.migrations import migrate
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, Job, python, run_jobs, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from sungrow_lib.demo.site import morning_zone
from sungrow_lib.sample import format_ts
from sungrow_lib.simulator.history import modelled_history, modelled_readings, write_csv
from sungrow_lib.simulator.house import House, birth
from sungrow_lib.simulator.images import image_named
from tests.conftest import Need
from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]
TOKEN: Final = "page-token-0123456789"
EMPTY_TOKEN: Final = "empty-token-0123456789"
PLANT: Final = "Farm"
SEEDS: Final = {"house": ("SH8.0RT-20", 7), "barn": ("SG20RT", 11)}
CLOSE: Final = {"house"}
"""Yesterday and today are there by the minute, all else by the quarter of an hour."""
DAYS: Final = 8
RAW_DAYS: Final = 6
"""The first two days are behind the horizon."""
NAMES: Final = {
    "house": "House",
    "barn": "Barn",
    "lonely": "Lonely",
    "new": "New",
    "lively": "Lively",
    "sleepy": "Sleepy",
}
CHROMIUM_OPTIONS: Final = [
    "--no-sandbox",  # the tests may run as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS: Final = PATIENCE_S * 1000
"""Of every look at a page: on a loaded machine all of it takes longer."""

T = TypeVar("T")
OpenPage = Callable[..., Page]


class DashboardServer:
    """`sungrow-server run` as a process, and a voice that speaks to it."""

    def __init__(self, dsn: str, certificates: CertificateFiles, folder: Path) -> None:
        self.port = 0
        self.dsn = dsn
        self.folder = folder
        self.pictures = folder / "pictures"
        self.now = datetime.now(UTC)
        self.zone: ZoneInfo = morning_zone(self.now)
        self._trust = ssl.create_default_context(cafile=str(certificates.ca))
        known = ",".join([*(f"{TOKEN}:{device}" for device in NAMES), f"{EMPTY_TOKEN}:nothing"])
        self._environment = clean_environment() | {
            "DATABASE_URL": dsn,
            "DEVICE_TOKENS": known,
            "LISTEN_HOST": "127.0.0.1",
            "TLS_CERT_FILE": str(certificates.cert),
            "TLS_KEY_FILE": str(certificates.key),
        }

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/"

    @property
    def today(self) -> str:
        """The site's date."""
        return self.now.astimezone(self.zone).date().isoformat()

    def new_token(self, label: str, device: str) -> str:
        """As `sungrow-server token create` makes it."""
        return _apart(create_token(self.dsn, label, ["read"], [device], None))

    def revoke(self, label: str) -> None:
        """As `sungrow-server token revoke` does."""
        listed = _apart(list_tokens(self.dsn))
        [token] = [entry["token"] for entry in listed if entry["label"] == label]
        _apart(revoke_token(self.dsn, token))

    def start(self) -> None:
        """Start it, again at the same address; a free port is looked for only when it is needed."""
        [self.port] = [self.port] if self.port else free_ports(1)
        self.process = Child(
            "the server",
            python("reference_server", "run"),
            self.folder / "server.log",
            environment=self._environment
            | {"LISTEN_PORT": str(self.port), "RAW_RETENTION_DAYS": str(RAW_DAYS)},
        )
        wait_until(
            "the server", lambda: is_listening(self.port), timeout_s=PATIENCE_S, watched=[self.process]
        )

    def ask(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> Any:
        connection = http.client.HTTPSConnection(
            "localhost", self.port, context=self._trust, timeout=PATIENCE_S
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == 200, content
        return json.loads(content)

    def get(self, path: str, **query: str) -> Any:
        return self.ask("GET", f"{path}?{urllib.parse.urlencode(query)}")

    def ingest(self, device: str = "lively", ago_s: float = 0.0, **fields: Any) -> None:
        ts = format_ts(datetime.now(UTC) - timedelta(seconds=ago_s))
        answer = self.ask("POST", "/v1/ingest", {"samples": [{"device_id": device, "ts": ts} | fields]})
        assert answer["inserted"] == 1, answer

    def fill(self) -> None:
        """Give house and barn a modelled week that ends now; `lively` and `lonely` have nothing."""
        self.pictures.mkdir()
        migrate(self.dsn)
        for device, (model, seed) in SEEDS.items():
            born = birth(self.now, self.zone, days=DAYS)
            image = image_named(model)
            house = House(seed, self.zone, kind=image.kind, born=born)
            with (self.folder / f"{device}.csv").open("w", encoding="utf-8", newline="") as file:
                coarse_until = birth(self.now, self.zone, days=1) if device in CLOSE else self.now
                past = modelled_history(device, house, coarse_until)
                close = modelled_readings(device, house, image, self.now) if device in CLOSE else ()
                write_csv(chain(past, close), file)
        asyncio.run(self._describe())
        run_jobs(*(self._job("import", str(self.folder / f"{d}.csv"), "--device", d) for d in SEEDS))

    async def _describe(self) -> None:
        """As `sungrow-server device set` does, without six processes."""
        for device, name in NAMES.items():
            plant = PLANT if device in SEEDS else None
            zone = _evening_zone(self.now) if device == "sleepy" else self.zone.key
            await set_device(self.dsn, device, name=name, plant=plant, timezone=zone, poll_interval_s=None)

    def _job(self, *arguments: str) -> Job:
        return Job(
            f"sungrow-server {arguments[0]}", python("reference_server", *arguments), self._environment
        )


def _apart(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a thread of its own: Playwright keeps an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _evening_zone(now: datetime) -> str:
    """A zone in which it is six in the evening, whenever the tests run."""
    ahead = (18 - now.astimezone(UTC).hour + 12) % 24 - 12
    return f"Etc/GMT{-ahead:+d}"  # their signs are those of POSIX


@pytest.fixture(scope="module")
def server(
    postgres_dsn: str, tls_files: CertificateFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DashboardServer]:
    """One server for all tests of the page; a test that stops it starts it again."""
    name = f"page_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())
    dsn = make_conninfo(postgres_dsn, dbname=name)
    server = DashboardServer(dsn, tls_files, tmp_path_factory.mktemp("dashboard"))
    server.fill()
    server.start()
    yield server
    server.process.stop(10)


@pytest.fixture(scope="session")
def built_page() -> None:
    """The page as its sources are now, also when pytest was not started by `make test`."""
    subprocess.run(python("tools.page"), cwd=ROOT, check=True)


def _trusted(certificates: CertificateFiles) -> str:
    """Make the browser trust the server's key, which the tests' own authority vouches for.

    Ignoring a bad certificate instead throws each request back once or more for each new connection; where
    that happens too often, Chromium gives up with ERR_TOO_MANY_RETRIES.
    """
    certificate = x509.load_pem_x509_certificate(certificates.cert.read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return f"--ignore-certificate-errors-spki-list={digest}"


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, in which no other test could
def browser(
    need: Need, built_page: None, server: DashboardServer, tls_files: CertificateFiles
) -> Iterator[Browser]:
    del built_page, server  # the server is filled before there is that loop
    chromium = need("chromium", "chromium-browser", purpose="the web page in a browser")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[*CHROMIUM_OPTIONS, _trusted(tls_files)]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, server: DashboardServer) -> Iterator[OpenPage]:
    """Opens pages that must stay without complaint: no console error, no request to another origin."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(
        route: str = "", *, token: str | None = TOKEN, allow_errors: bool = False, **options: Any
    ) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        if token is not None:
            # Also on the browser's own page of an error this runs, which has no storage.
            context.add_init_script(
                f"if (origin !== 'null') sessionStorage.setItem('sungrow-read-token', '{token}')"
            )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if not allow_errors:
            page.on("console", lambda note: complaints.append(note.text) if note.type == "error" else None)
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((server.url, "blob:")) else complaints.append(request.url)
            ),
        )
        page.goto(server.url + route)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
