"""A real HTTPS server, a real spool, and an uploader between them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from tests.upload.server import IngestServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[IngestServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    async with IngestServer(context) as running:
        yield running


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[DurableSpool]:
    async with DurableSpool.open(tmp_path / "spool.db") as opened:
        yield opened


@pytest.fixture
def settings(server: IngestServer, ca_file: Path) -> UploadSettings:
    return UploadSettings(
        server_url=server.url,
        token=server.token,
        ca_file=ca_file,
        batch_size=4,
        upload_interval_s=0.02,
        request_timeout_s=20.0,
    )


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off by milliseconds; test_backoff proves the real figures."""
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.01)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)
