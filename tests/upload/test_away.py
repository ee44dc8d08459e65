"""A server that is busy, slow or away, or not the right one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from aiohttp import web

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, Lane, SpoolEntry
from sungrow_lib.upload import ConnectionState, UploadSettings
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_obeyed(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, code: int
) -> None:
    await fill(spool, 20)
    server.script.append(play.status(code, **{"Retry-After": "1"}))
    async with running(spool, replace(settings, backlog_workers=1)):
        await counted(spool, delivered=20)
    assert server.seen[3].at - server.seen[0].at >= 1.0  # two lanes may have asked at the same moment


async def test_a_backlog_that_has_to_wait_holds_up_no_fresh_reading(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(spool, 40)

    async def enough(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        is_old = all(row["pv_power_w"] <= 40 for row in batch["samples"])
        behave = play.status(429, **{"Retry-After": "3600"}) if is_old else play.answer
        return await behave(server, request, batch)

    server.rule = enough
    turns = []
    offer = spool.offer

    async def counting(device_id: str, limit: int, lane: Lane, **how: Any) -> list[SpoolEntry]:
        turns.append(lane)
        return await offer(device_id, limit, lane, **how)

    monkeypatch.setattr(spool, "offer", counting)
    async with running(spool, replace(settings, backlog_workers=2)):
        await until(lambda: turns.count(Lane.FRESH) >= 3)
        for number in range(41, 46):
            ts = datetime.now(UTC).replace(microsecond=number * 1000)
            sample = SungrowSample(device_id="inv", ts=ts, pv_power_w=number)
            await spool.append(sample, ts_is_final=True)
            await until(lambda number=number: number in server.seqs_stored())  # type: ignore[misc]
        assert (await spool.counts()).pending > 20
        # Each lane may have been on its way when the first was told; then all of the backlog waits.
        assert sum(all(row["pv_power_w"] <= 40 for row in seen.batch["samples"]) for seen in server.seen) <= 3


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(play.cut_before_answer, id="cut before the answer"),
        pytest.param(play.cut_in_answer, id="cut in the answer"),
    ],
)
async def test_a_lost_answer_doubles_nothing(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, behaviour: play.Behaviour
) -> None:
    await fill(spool, 4)
    server.script.extend([behaviour] * 3)
    async with running(spool, settings):
        await counted(spool, delivered=4, conflicts=0)
    assert sorted(row["__seq"] for row in server.stored.values()) == [1, 2, 3, 4]
    assert len(server.seen) >= 4


async def test_a_server_that_drips_is_given_up(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 2)
    server.script.append(play.drip)
    async with running(spool, replace(settings, request_timeout_s=0.5)) as uploader:
        await until(lambda: uploader.status.connection is ConnectionState.UNREACHABLE)
        assert "within 0.5 s" in str(uploader.status.last_error)
        await counted(spool, delivered=2)


async def test_no_server_is_no_end(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 2)
    async with running(spool, replace(settings, server_url="https://localhost:1")) as uploader:
        await until(lambda: uploader.status.connection is ConnectionState.UNREACHABLE)
        await anyio.sleep(0.2)
    assert (await spool.counts()).pending == 2
    del server


async def test_another_authority_is_refused_and_nothing_sent(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, tmp_path: Path
) -> None:
    await fill(spool, 2)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    for ca_file in (other, None):
        async with running(spool, replace(settings, ca_file=ca_file)) as uploader:
            await until(lambda: uploader.status.connection is ConnectionState.UNREACHABLE)
            assert "certificate is not trusted" in str(uploader.status.last_error)
    assert server.seen == []
    assert (await spool.counts()).pending == 2


async def test_another_host_name_is_refused(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 1)
    url = server.url.replace("localhost", "127.0.0.2")
    async with running(spool, replace(settings, server_url=url)) as uploader:
        await until(lambda: uploader.status.connection is ConnectionState.UNREACHABLE)
    assert server.seen == []


async def test_a_full_spool_does_not_end_the_uploader(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 2)
    log = anyio.Path(f"{spool._store._database.path}-wal")
    async with running(spool, settings) as uploader:
        await counted(spool, delivered=2)
        moved = await log.rename(f"{log}-moved")
        await until(lambda: any(alarm.code == "spool" for alarm in uploader.status.alarms))
        await moved.rename(log)
        await fill(spool, 2)
        await counted(spool, delivered=4)
        await until(lambda: uploader.status.alarms == ())
    assert len(server.stored) == 4


async def test_a_server_that_came_back_is_found_within_a_minute(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was away: the wait of the fresh lane is drawn from 300 s, and cut."""
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 10_000.0)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 10_000.0)
    monkeypatch.setattr("sungrow_lib.upload.lanes.BACK_WITHIN_S", 0.05)
    await fill(spool, 3)
    server.script.extend([play.cut_before_answer] * 6)
    async with running(spool, settings):
        await counted(spool, delivered=3)
