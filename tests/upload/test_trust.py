"""Authorities that this machine trusts, each in a file of its own: looked up when one is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace as changed
from errno import EACCES
from http import HTTPStatus
from pathlib import Path

import anyio
import certifi
import pytest
import trustme

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import ConnectionState, UploadSettings
from sungrow_lib.upload.http import IngestTransport
from sungrow_lib.upload.trust import tls_context
from tests.conftest import Need
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import IngestServer


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


@pytest.mark.anyio
@pytest.mark.usefixtures("folder")
async def test_a_server_whose_authority_is_younger_than_the_machine_is_trusted(
    settings: UploadSettings,
    server: IngestServer,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is among those that come with the program: of the next version of that list, say."""
    bundle = tmp_path / "bundle.pem"
    known = await anyio.Path(certifi.where()).read_bytes()
    bundle.write_bytes(known + authority.cert_pem.bytes())
    monkeypatch.setattr("certifi.where", lambda: str(bundle))
    async with IngestTransport(changed(settings, ca_file=None, server_url=server.url)) as transport:
        assert (await transport.health()).status == HTTPStatus.OK


def test_a_folder_of_links_to_nothing_is_not_believed_to_have_the_public_ones(folder: Path) -> None:
    for file in list(folder.iterdir()):
        file.unlink()
        file.symlink_to(folder / "gone.crt")
    assert tls_context(None).cert_store_stats()["x509_ca"] > 100


@pytest.mark.usefixtures("folder")
def test_a_folder_that_cannot_be_listed_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(
        folder: Path,
    ) -> Iterator[Path]:  # nothing is forbidden to root, who runs the tests here and there
        raise PermissionError(EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert tls_context(None).cert_store_stats()["x509_ca"] > 100


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
