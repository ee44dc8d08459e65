"""Authorities that this machine trusts, each in a file of its own: looked up when one is needed."""

from __future__ import annotations

import subprocess
from dataclasses import replace as changed
from pathlib import Path

import pytest
import trustme

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import ConnectionState, UploadSettings
from sungrow_lib.upload.trust import tls_context
from tests.conftest import Need
from tests.upload.server import IngestServer
from tests.upload.test_uploader import counted, fill, running, until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As a system keeps them that has the public ones."""
    folder = tmp_path / "certs"
    folder.mkdir()
    for number in range(140):
        (folder / f"{number:08x}.0").touch()
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    return folder


@pytest.mark.usefixtures("folder")
def test_none_is_in_memory_before_it_is_needed() -> None:
    assert tls_context(None).cert_store_stats()["x509_ca"] == 0


def _add(folder: Path, pem: bytes, need: Need) -> None:
    openssl = need("openssl", purpose="an authority's file is named by its hash")
    asked = [str(openssl), "x509", "-noout", "-hash"]
    name = subprocess.run(asked, input=pem, capture_output=True, check=True).stdout.decode().strip()
    (folder / f"{name}.0").write_bytes(pem)


@pytest.mark.anyio
async def test_a_server_is_trusted_by_one_that_is_there_and_by_none_other(
    folder: Path,
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    authority: trustme.CA,
    need: Need,
) -> None:
    settings = changed(settings, ca_file=None)
    await fill(spool, 1)
    async with running(spool, settings) as uploader:
        await until(lambda: uploader.status.connection is ConnectionState.UNREACHABLE)
        assert "not trusted" in (uploader.status.last_error or "")
    assert server.seen == []

    _add(folder, authority.cert_pem.bytes(), need)
    async with running(spool, settings):
        await counted(spool, delivered=1)


@pytest.mark.parametrize("count", [0, 3])
def test_a_machine_with_few_is_not_believed_to_have_the_public_ones(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(count):
        (tmp_path / f"{number:08x}.0").touch()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert tls_context(None).cert_store_stats()["x509_ca"] > 100


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_named_is_loaded(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert tls_context(None).cert_store_stats()["x509_ca"] > 100
