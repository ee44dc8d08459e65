# ruff: noqa: ASYNC240 - small local files
"""A token that is missing or refused is an alarm as long as that is so, and no longer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import BatchUploader, UploadSettings
from sungrow_lib.upload.credentials import TokenSource
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import IngestServer

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
        await counted(spool, within_s=PATIENCE_S, delivered=2)


def _refused_since(uploader: BatchUploader) -> list[datetime]:
    return [alarm.since for alarm in uploader.status.alarms if alarm.code == "http_401"]


async def test_it_is_one_alarm_while_a_reading_that_fails_alone_waits_for_the_token(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch holds it any more, and it is all there is to be sent."""
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)
    monkeypatch.setattr("sungrow_lib.upload.lanes._SAME_TOKEN_S", 0.05)
    server.rule = play.status(422)
    await fill(spool, 1)
    async with running(spool, settings) as uploader:
        await until(lambda: len(server.seen) > 5)
        server.rule = play.status(401)
        await until(lambda: bool(_refused_since(uploader)))
        first, already = _refused_since(uploader), len(server.seen)
        await until(lambda: len(server.seen) > already + 10)
        assert _refused_since(uploader) == first
        server.rule = play.status(422)  # the token is taken now
        await until(lambda: uploader.status.paused == () and not _refused_since(uploader))
        server.rule = None
        await counted(spool, delivered=1)
        assert uploader.status.alarms == ()


async def test_a_token_is_another_one_than_none_whoever_reads_it_first(
    settings: UploadSettings, server: IngestServer, token_file: Path
) -> None:
    """It may come between two looks of one lane, while the others wait for a new one."""
    tokens = TokenSource(replace(settings, token=None, token_file=token_file))
    with pytest.raises(ConfigurationError):
        await tokens.current()
    refused = tokens.version
    token_file.write_text(server.token)
    assert await tokens.current() == server.token
    assert tokens.version != refused
