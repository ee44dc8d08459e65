"""A server that lost readings gets them again."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.backoff import Backoff
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


async def restored(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Ask as a real server does: when it lacks what was delivered."""
    del request
    missing = play.lacks(server, batch)
    return web.json_response(play.judge(server, batch) | {"resend": missing})


async def test_a_server_that_lost_readings_gets_them_again(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    server.rule = restored
    await fill(spool, 30)
    async with running(spool, settings):
        await counted(spool, delivered=30)
        server.stored.clear()
        await fill(spool, 1)
        await until(lambda: len(server.stored) == 31)
        await counted(spool, delivered=31, pending=0)
        requests = len(server.seen)
        await fill(spool, 1)
        await counted(spool, delivered=32)
        assert len(server.seen) - requests <= 2  # it is over


async def test_a_server_that_lost_readings_gets_those_of_silent_devices_too(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """Of an inverter that was taken down nothing comes any more by which the server could ask."""
    server.rule = restored
    await fill(spool, 30, "taken-down")
    await fill(spool, 30)
    async with running(spool, settings):
        await counted(spool, delivered=60)
        server.stored.clear()
        await fill(spool, 1)
        await until(lambda: len(server.stored) == 61)
        await counted(spool, delivered=61, pending=0)


async def test_a_server_that_asks_for_everything_again_and_again_is_given_a_rest(
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "sungrow_lib.upload")  # else it is said once in a while
    monkeypatch.setattr("sungrow_lib.upload.attempts.Backoff", lambda: Backoff(lambda: 1.0))
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.1)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 60.0)

    async def forgetful(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del request
        return web.json_response(play.judge(server, batch) | {"resend": True})

    def all_again() -> list[float]:
        return [record.created for record in caplog.records if "offering all again" in record.message]

    server.rule = forgetful
    await fill(spool, 30)
    async with running(spool, settings):
        await until(lambda: len(all_again()) >= 5)
    assert all_again()[4] - all_again()[0] >= 0.1 + 0.2 + 0.4 + 0.8


async def test_resend_by_hand(spool: DurableSpool, settings: UploadSettings, server: IngestServer) -> None:
    await fill(spool, 5)
    async with running(spool, settings) as uploader:
        await counted(spool, delivered=5)
        server.stored.clear()
        await uploader.resend("inv")
        await until(lambda: len(server.stored) == 5)
