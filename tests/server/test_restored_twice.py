"""A real server that goes back to a backup again while the edge still sends what it lost the first time."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from tests.server.conftest import TOKEN, Api, Clock, StartServer
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio

KEPT = 60
"""Readings the backup has."""
AGAIN_AFTER = 20
"""Requests since the first `resend` after which the server goes back again, in the midst of it."""


@dataclass
class Relay:
    """A rule for the server in front, which speaks TLS: what comes goes to the real one.

    Attributes:
        api: the real one.
        lose: so many answers about single readings are lost once it has gone back again.
        count: requests since it first asked for all again.
        resends: how often it asked.
    """

    api: Api
    lose: int
    count: int = 0
    resends: list[int] = field(default_factory=list)

    def go_back(self) -> None:
        self.api.rows(f"DELETE FROM samples WHERE pv_power_w > {KEPT} RETURNING 1")

    def numbers(self) -> set[int]:
        return {int(number) for (number,) in self.api.rows("SELECT pv_power_w FROM samples")}

    async def __call__(self, server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del server
        self.count += bool(self.resends)
        if self.count == AGAIN_AFTER:
            self.go_back()
        answer = await self.api.ingest(*batch.pop("samples"), **batch)
        if answer["resend"]:
            self.resends.append(self.count)
        if self.count > AGAIN_AFTER and self.lose and answer["received"] == 1:
            self.lose -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(answer)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.01)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)


@pytest.mark.parametrize("lost_answers", [0, 4])
async def test_it_gets_everything_again(start_server: StartServer, tmp_path: Path, lost_answers: int) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with (
        start_server(clock=Clock(datetime.now(UTC))) as api,
        IngestServer(context) as front,
        DurableSpool.open(tmp_path / "spool.db") as spool,
    ):
        front.rule = relay = Relay(api, lost_answers)
        settings = UploadSettings(
            server_url=front.url,
            token=TOKEN,
            ca_file=tmp_path / "ca.pem",
            batch_size=4,
            upload_interval_s=0.02,
        )
        async with running(spool, settings):
            await fill(spool, KEPT, "sh-1")
            await counted(spool, delivered=KEPT)
            await fill(spool, 3, "sh-1")
            await counted(spool, delivered=KEPT + 3)
            relay.go_back()
            await fill(spool, 1, "sh-1")
            await until(lambda: relay.count > AGAIN_AFTER)
            await fill(spool, 1, "sh-1")
            await counted(spool, delivered=KEPT + 5, pending=0)
            await until(lambda: relay.numbers() == set(range(1, KEPT + 6)))
    assert relay.resends
