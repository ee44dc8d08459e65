"""`check_server`: says yes only when the token covers every device, and stores nothing."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from sungrow_lib.demo.setup import free_ports
from sungrow_lib.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    RequestRefusedError,
    ServerBusyError,
    ServerUnreachableError,
    UnexpectedAnswerError,
)
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import BatchUploader, UploadSettings
from sungrow_lib.upload.check import check_server
from sungrow_lib.wire import DeviceInfo
from tests.upload import server as play
from tests.upload.helpers import until
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def roof(settings: UploadSettings) -> UploadSettings:
    return replace(settings, devices={"roof": DeviceInfo(), "garage": DeviceInfo()})


def answering(code: str = "future", where: str = "deferred") -> play.Behaviour:
    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del request
        verdicts = [
            {"index": index, "code": code, "reason": "as the test wants"}
            for index, _ in enumerate(batch["samples"])
        ]
        reply = play.judge(server, {"batch_id": None, "samples": [], "seq": []})
        return web.json_response(reply | {"received": len(verdicts), where: verdicts})

    return behave


def forbidding(device_id: str) -> play.Behaviour:
    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if any(sample["device_id"] == device_id for sample in batch["samples"]):
            return await play.status(403)(server, request, batch)
        return await answering()(server, request, batch)

    return behave


async def test_every_device_is_asked_for(server: IngestServer, roof: UploadSettings) -> None:
    server.rule = answering()
    assert "version 1.0" in await check_server(roof)
    asked = [[sample["device_id"] for sample in seen.batch["samples"]] for seen in server.seen]
    assert asked == [[], ["roof"], ["garage"]]
    assert {sample["ts"] for seen in server.seen for sample in seen.batch["samples"]} == {
        "9999-12-31T00:00:00.000Z"
    }


async def test_a_device_the_token_does_not_cover_is_named(server: IngestServer, roof: UploadSettings) -> None:
    server.rule = forbidding("garage")
    with pytest.raises(CredentialsRefusedError, match=r"DEVICE_TOKEN.*the device garage"):
        await check_server(roof)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (play.status(401), CredentialsRefusedError),
        (play.status(403), CredentialsRefusedError),
        (play.status(429), ServerBusyError),
        (play.status(503), ServerBusyError),
        (play.status(413), RequestRefusedError),
        (play.status(422), RequestRefusedError),
        (play.status(404), UnexpectedAnswerError),
        (play.raw(b"<html>log in</html>"), UnexpectedAnswerError),
        (answering("device_forbidden"), CredentialsRefusedError),
        (answering("device_deleted"), RequestRefusedError),
        (answering("unknown_device", "rejected"), RequestRefusedError),
    ],
)
async def test_what_else_may_be_wrong(
    server: IngestServer, roof: UploadSettings, rule: play.Behaviour, error: type[Exception]
) -> None:
    server.rule = rule
    with pytest.raises(error):
        await check_server(roof)


@pytest.mark.parametrize("content", [None, "", "two words"])
async def test_a_useless_token_file_is_named(
    settings: UploadSettings, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"DEVICE_TOKEN_FILE {file}"):
        await check_server(replace(settings, token=None, token_file=file))


async def test_an_unreachable_server_is_said_with_what_to_check(settings: UploadSettings) -> None:
    [nobody] = free_ports(1)
    with pytest.raises(ServerUnreachableError, match="check SERVER_URL, the network"):
        await check_server(replace(settings, server_url=f"https://localhost:{nobody}"))


async def test_a_reason_is_said_once_and_the_end_too(
    spool: DurableSpool,
    server: IngestServer,
    settings: UploadSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [nobody] = free_ports(1)
    caplog.set_level(logging.INFO)
    uploader = BatchUploader(spool, replace(settings, server_url=f"https://localhost:{nobody}"))
    async with uploader, BatchUploader(spool, settings) as healthy:
        for _ in range(3):
            await uploader._ask_server_date()
        [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "SERVER_URL" in str(vars(warning)["reason"])
        uploader._link.transport = healthy._transport
        for _ in range(3):
            await uploader._ask_server_date()
    assert [record.message for record in caplog.records if "again" in record.message] == [
        "the server is reached again"
    ]
    assert server.health_asked == 3


async def test_a_missing_token_is_one_error_at_the_start_and_an_alarm(
    spool: DurableSpool,
    server: IngestServer,
    settings: UploadSettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "token"
    caplog.set_level(logging.INFO)
    del server
    async with BatchUploader(spool, replace(settings, token=None, token_file=file)) as uploader:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploader.run)
            await until(lambda: bool(uploader.status.alarms))
            await anyio.sleep(0.3)  # in which it asks for the token again
            tasks.cancel_scope.cancel()
        [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert f"DEVICE_TOKEN_FILE {file}" in str(vars(error)["reason"])
        assert [alarm.code for alarm in uploader.status.alarms] == ["token"]
