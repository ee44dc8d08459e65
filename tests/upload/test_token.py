# ruff: noqa: ASYNC240 - small local files
"""A token that is missing or refused is an alarm as long as that is so, and no longer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from tests.upload.server import IngestServer
from tests.upload.test_uploader import counted, fill, running, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "token"


@pytest.mark.parametrize("before", [None, "wrong-token"])
async def test_the_alarm_ends_with_another_token_though_nothing_is_left_to_deliver(
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    token_file: Path,
    before: str | None,
) -> None:
    if before is not None:
        token_file.write_text(before)
    await fill(spool, 2)
    async with running(spool, replace(settings, token=None, token_file=token_file)) as uploader:
        await until(lambda: uploader.status.paused == ("inv",))
        await spool.ack("inv", [1, 2])  # as another program
        token_file.write_text(server.token)
        await until(lambda: uploader.status.paused == () and uploader.status.alarms == ())
        await fill(spool, 1)
        await counted(spool, delivered=3)


async def test_it_ends_where_nothing_ever_was_to_be_delivered(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, token_file: Path
) -> None:
    async with running(spool, replace(settings, token=None, token_file=token_file)) as uploader:
        await until(lambda: [alarm.code for alarm in uploader.status.alarms] == ["token"])
        token_file.write_text(server.token)
        await until(lambda: uploader.status.alarms == ())


async def test_who_waits_for_a_token_hears_of_it_whoever_found_it(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, token_file: Path
) -> None:
    await fill(spool, 2)
    seldom = replace(settings, token=None, token_file=token_file, upload_interval_s=3.0)
    async with running(spool, seldom) as uploader:
        await until(lambda: uploader.status.paused == ("inv",))
        token_file.write_text(server.token)
        assert await uploader._link.token() == server.token  # as a report of the edge's state asks for it
        await counted(spool, within_s=60.0, delivered=2)
