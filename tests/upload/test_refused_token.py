"""A token that is refused, or missing: all is kept, and another one goes on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refused_token_pauses_and_a_new_file_goes_on(
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    tmp_path: Path,
    code: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token_file = tmp_path / "token"
    token_file.write_text("wrong-token\n")
    await fill(spool, 10)
    await fill(spool, 2, "other")

    async def check(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if request.headers["Authorization"] != "Bearer right-token":
            return await play.status(code)(server, request, batch)
        return await play.answer(server, request, batch)

    server.rule = check
    async with running(spool, replace(settings, token=None, token_file=token_file)) as uploader:
        await until(lambda: set(uploader.status.paused) == {"inv", "other"})
        assert {alarm.code for alarm in uploader.status.alarms} == {f"http_{code}"}
        with anyio.fail_after(PATIENCE_S):  # what was on its way may take a while to arrive
            requests = -1
            while len(server.seen) != requests:
                requests = len(server.seen)
                await anyio.sleep(0.4)  # paused, not hammering
        assert (await spool.counts()).pending == 12
        token_file.write_text("right-token")
        await counted(spool, delivered=12)
        assert uploader.status.paused == ()
        assert uploader.status.alarms == ()
    again = [record for record in caplog.records if record.getMessage() == "the server takes the token again"]
    assert sorted(vars(record)["device_id"] for record in again) == ["inv", "other"]
    assert "wrong-token" not in caplog.text
    assert "right-token" not in caplog.text
    assert "right-token" not in repr(settings)


async def test_one_refused_device_leaves_the_others_alone(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 5, "forbidden")
    await fill(spool, 5, "inv")
    server.rule = play.failing_on(403, lambda sample: sample["device_id"] == "forbidden")
    async with running(spool, settings) as uploader:
        await counted(spool, delivered=5)
        assert uploader.status.paused == ("forbidden",)
        await fill(spool, 5, "inv")
        await counted(spool, delivered=10, pending=5)


async def test_a_missing_token_file_is_an_alarm_not_an_end(
    spool: DurableSpool, settings: UploadSettings, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    await fill(spool, 1)
    async with running(spool, replace(settings, token=None, token_file=token_file)) as uploader:
        await until(lambda: bool(uploader.status.alarms))
        assert str(token_file) in uploader.status.alarms[0].detail
        token_file.write_text("right-token")
        await counted(spool, delivered=1)
