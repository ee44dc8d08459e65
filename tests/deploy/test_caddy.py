"""A real Caddy with deploy/Caddyfile before a real server: TLS, headers, streams, limits, what is private."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Final

import aiohttp
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from yarl import URL

from reference_server.storage.migrations import migrate
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from sungrow_lib.sample import format_ts
from tests.conftest import Need
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

CADDYFILE: Final = Path(__file__).resolve().parents[2] / "deploy" / "Caddyfile"
TOKEN: Final = "edge-token-0123456789"
MOST_OF_CADDY: Final = 2_000_000
MOST_OF_SERVER: Final = 1_000_000


@dataclass(frozen=True)
class Front:
    """Where Caddy answers, and what stands behind it."""

    url: str
    http_port: int
    metrics_port: int
    log: Path


@pytest.fixture(scope="module")
def caddy(need: Need) -> Path:
    return need("caddy", purpose="the server behind a proxy (Debian: caddy)")


@pytest.fixture(scope="module")
def front(
    caddy: Path, postgres_dsn: str, tls_files: CertificateFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("caddy")
    https, http, server_port, metrics = free_ports(4)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE behind_caddy TEMPLATE template0 ENCODING 'UTF8'")
    dsn = make_conninfo(postgres_dsn, dbname="behind_caddy")
    migrate(dsn)
    server_environment = clean_environment() | {
        "DATABASE_URL": dsn,
        "DEVICE_TOKENS": f"{TOKEN}:roof",
        "LISTEN_PORT": str(server_port),
        "TRUSTED_PROXIES": "127.0.0.1",
        "MAX_REQUEST_BYTES": str(MOST_OF_SERVER),
        "FAILED_LOGINS_PER_MINUTE": "3",
        "METRICS_PORT": str(metrics),
    }
    caddy_environment = clean_environment() | {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "CADDY_ADMIN": "off",
        "HTTP_PORT": str(http),
        "SITE_ADDRESS": f"https://localhost:{https}",
        "SITE_TLS": "files",
        "SITE_CERT_FILE": str(tls_files.cert),
        "SITE_KEY_FILE": str(tls_files.key),
        "UPSTREAM": f"127.0.0.1:{server_port}",
        "MAX_BODY": str(MOST_OF_CADDY),
    }
    log = folder / "caddy.log"
    command = [str(caddy), "run", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
    children = [
        Child(
            "the server", python("reference_server", "run"), folder / "log", environment=server_environment
        ),
        Child("Caddy", command, log, environment=caddy_environment),
    ]
    try:
        for port in (server_port, https, http):
            wait_until("both", lambda port=port: is_listening(port), timeout_s=PATIENCE_S, watched=children)  # type: ignore[misc]
        yield Front(f"https://localhost:{https}", http, metrics, log)
    finally:
        for child in reversed(children):
            child.stop(60.0)


@pytest.fixture
async def visitor(front: Front, tls_files: CertificateFiles) -> AsyncIterator[aiohttp.ClientSession]:
    """Trusts the private authority alone, and sends no token."""
    trust = ssl.create_default_context(cafile=str(tls_files.ca))
    async with aiohttp.ClientSession(front.url, connector=aiohttp.TCPConnector(ssl=trust)) as session:
        yield session


SIGNED_IN: Final = {"Authorization": f"Bearer {TOKEN}"}


def batch(ts: datetime) -> dict[str, object]:
    return {"samples": [{"device_id": "roof", "ts": format_ts(ts), "pv_power_w": 4200}]}


@pytest.mark.parametrize("mode", ["automatic", "files", "internal"])
def test_caddy_understands_the_file(
    caddy: Path, tls_files: CertificateFiles, tmp_path: Path, mode: str
) -> None:
    environment = clean_environment() | {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "SITE_ADDRESS": "solar.example.org",
        "SITE_TLS": mode,
        "SITE_CERT_FILE": str(tls_files.cert),
        "SITE_KEY_FILE": str(tls_files.key),
    }
    command = [str(caddy), "validate", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr


async def test_a_batch_and_its_reading_pass(visitor: aiohttp.ClientSession) -> None:
    async with visitor.post("/v1/ingest", json=batch(datetime.now(UTC)), headers=SIGNED_IN) as answer:
        assert answer.status == 200
        assert (await answer.json())["received"] == 1
    async with visitor.get("/v1/realtime", headers=SIGNED_IN) as answer:
        assert (await answer.json())["pv_power_w"] == 4200


async def test_the_answers_carry_the_headers_of_both(visitor: aiohttp.ClientSession) -> None:
    async with visitor.get("/") as answer:
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_plain_http_leads_to_https(front: Front) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://localhost:{front.http_port}/", allow_redirects=False) as answer,
    ):
        assert answer.status == 308
        assert answer.headers["Location"].startswith("https://localhost")


async def test_old_tls_is_refused(front: Front) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=old)) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(front.url)


@pytest.mark.parametrize(
    "path",
    ["/health", "/metrics", "/health/", "/HEALTH", "/%68ealth", "//metrics", "/metrics?a=b", "/./metrics"],
)
async def test_health_and_metrics_are_nobodys_business(
    front: Front, visitor: aiohttp.ClientSession, path: str
) -> None:
    for headers in ({}, SIGNED_IN):
        url = URL(front.url + path, encoded=True)  # exactly as it is written
        async with visitor.get(url, headers=headers) as answer:
            assert answer.status == 404
            assert "Date" in answer.headers  # all that an edge wants of it
            assert b"ok" not in await answer.read()


async def test_an_event_goes_out_at_once_and_an_end_is_noticed(
    front: Front, visitor: aiohttp.ClientSession
) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=30)
    headers = SIGNED_IN | {"Accept-Encoding": "zstd, gzip"}
    async with visitor.get("/v1/stream?device_id=roof", headers=headers) as stream:
        assert stream.status == 200
        assert "Content-Encoding" not in stream.headers
        assert await open_streams(front) == 1
        async with visitor.post("/v1/ingest", json=batch(moment), headers=SIGNED_IN) as answer:
            assert (await answer.json())["inserted"] == 1
        async for line in stream.content:  # buffered, it would never come, and the test's time run out
            if line.startswith(b"data:") and json.loads(line[5:]).get("ts") == format_ts(moment):
                break
        stream.close()
    while await open_streams(front):  # the next event finds nobody there
        moment += timedelta(seconds=1)
        async with visitor.post("/v1/ingest", json=batch(moment), headers=SIGNED_IN) as answer:
            assert answer.status == 200


async def open_streams(front: Front) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{front.metrics_port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    [count] = [line for line in lines if not line.startswith("#") and "streams" in line]
    return int(float(count.split()[-1]))


async def test_a_large_answer_is_compressed(visitor: aiohttp.ClientSession) -> None:
    async with visitor.get("/openapi.json", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert (await answer.json())["openapi"].startswith("3.1")


async def test_the_server_refuses_a_large_body_and_caddy_a_huge_one(visitor: aiohttp.ClientSession) -> None:
    headers = SIGNED_IN | {"Content-Type": "application/json"}
    async with visitor.post("/v1/ingest", data=BytesIO(bytes(MOST_OF_SERVER + 1)), headers=headers) as answer:
        assert answer.status == 413
        assert answer.content_type == "application/problem+json"
    async with visitor.post("/v1/ingest", data=BytesIO(bytes(MOST_OF_CADDY * 2)), headers=headers) as answer:
        assert answer.status in {413, 502}  # 502 with Debian's Caddy 2.6; an edge sends less after either


async def test_nobody_hides_behind_an_address_he_made_up(visitor: aiohttp.ClientSession) -> None:
    """Each wrong token claims to come from elsewhere; they are counted for the one address they come from."""
    statuses = []
    for number in range(6):
        headers = {"Authorization": "Bearer wrong-token-0123456789", "X-Forwarded-For": f"203.0.113.{number}"}
        async with visitor.get("/v1/devices", headers=headers) as answer:
            statuses.append(answer.status)
    assert statuses[0] == 401
    assert statuses[-1] == 429


async def test_no_token_is_in_the_log_of_caddy(front: Front, visitor: aiohttp.ClientSession) -> None:
    async with visitor.get("/v1/devices", headers=SIGNED_IN) as answer:
        assert answer.status == 200
    log = front.log.read_text()
    assert "/v1/devices" in log
    assert TOKEN not in log
