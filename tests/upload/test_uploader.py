"""Delivery against a real HTTPS server: each reading once, fresh ones first, and what is left at the end."""

from __future__ import annotations

import json
from dataclasses import replace

import anyio
import pytest
from aiohttp import web

from sungrow_lib.spool import DurableSpool, SpoolState
from sungrow_lib.upload import BatchUploader, ConnectionState, UploadSettings
from sungrow_lib.wire import DeviceInfo
from tests.upload import server as play
from tests.upload.helpers import counted, fill, is_number, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
async def test_all_is_delivered_exactly_once_as_accepted(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, compression: str
) -> None:
    await fill(spool, 20)
    accepted = {r.entry.seq: json.loads(r.entry.to_json()) async for r in spool.records()}
    settings = replace(settings, compression=compression)  # type: ignore[arg-type]  # checked at run time
    async with running(spool, settings) as uploader:
        await counted(spool, delivered=20, pending=0)
        assert uploader.status.connection is ConnectionState.CONNECTED
        assert uploader.status.delivered >= 20
        assert uploader.status.server_version == "1.0"
        assert uploader.status.alarms == ()
    assert {
        row["__seq"]: {k: v for k, v in row.items() if k != "__seq"} for row in server.stored.values()
    } == accepted
    assert {seen.encoding for seen in server.seen} == {"" if compression == "none" else compression}


async def test_the_envelope_says_who_sends_what(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 9)
    info = DeviceInfo(timezone="Europe/Berlin", poll_interval_s=5)
    settings = replace(settings, devices={"inv": info}, backlog_workers=1)
    async with running(spool, settings) as uploader:
        await counted(spool, delivered=9)
        uploader.set_device_info("inv", DeviceInfo(model="SH10RT"))
        await fill(spool, 1)
        await counted(spool, delivered=10)
    batches = [seen.batch for seen in server.seen]
    assert len({batch["batch_id"] for batch in batches}) == len(batches)
    assert {batch["edge_id"] for batch in batches} == {spool.identity.edge_id}
    assert {batch["generation"] for batch in batches} == {spool.identity.generation}
    assert batches[0]["device"] == {"timezone": "Europe/Berlin", "poll_interval_s": 5.0}
    assert batches[-1]["device"] == {"model": "SH10RT"}
    assert batches[0]["last_delivered"] == []
    assert len(batches[-1]["last_delivered"]) == len(batches) - 1
    assert all(len({sample["device_id"] for sample in batch["samples"]}) == 1 for batch in batches)


async def test_fresh_readings_do_not_wait_for_the_backlog(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 200)
    may_drain, drained = anyio.Event(), 0

    async def slowly(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        nonlocal drained
        if 201 not in batch["seq"]:
            drained += 1
            if drained > 20:  # slower than any machine
                await may_drain.wait()
        return await play.answer(server, request, batch)

    server.rule = slowly
    async with running(spool, replace(settings, request_timeout_s=60.0)):
        await until(lambda: drained > 3)
        await fill(spool, 1)
        await until(lambda: 201 in server.seqs_stored())
        assert (await spool.counts()).pending > 50
        assert len(server.seen) - len(server.stored) / 4 < 15
        may_drain.set()
        await counted(spool, delivered=201)


async def test_no_reading_is_in_two_requests_at_a_time(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    on_their_way: set[int] = set()

    async def watch(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        assert on_their_way.isdisjoint(batch["seq"])
        on_their_way.update(batch["seq"])
        await anyio.sleep(0.01)
        on_their_way.difference_update(batch["seq"])
        return await play.answer(server, request, batch)

    server.rule = watch
    await fill(spool, 100)
    async with running(spool, settings):
        await counted(spool, delivered=100)


async def test_flush_delivers_what_is_left(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 30)
    await fill(spool, 3, "other")
    async with BatchUploader(spool, settings) as uploader:
        assert await uploader.flush(10)
    assert server.seqs_stored() == set(range(1, 34))


async def test_flush_delivers_what_its_first_answer_lets_be_asked_for(
    spool: DurableSpool, settings: UploadSettings
) -> None:
    """Once after each start a reading of each other device is offered again: the server may lack it."""
    await fill(spool, 3)
    await fill(spool, 3, "other")
    async with BatchUploader(spool, settings) as uploader:
        assert await uploader.flush(60)
    await fill(spool, 3)
    async with BatchUploader(spool, settings) as uploader:
        assert await uploader.flush(60)
    assert (await spool.counts()).delivered == 9


async def test_flush_says_that_deferred_readings_are_left(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3)
    server.rule = play.verdicts("deferred", "future", is_number(3))
    async with BatchUploader(spool, settings) as uploader:
        assert not await uploader.flush(30)
    counts = await spool.counts()
    assert (counts.pending, counts.deferred, counts.delivered) == (0, 1, 2)


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_flush_halves_what_is_refused_as_a_whole(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, code: int
) -> None:
    await fill(spool, 30)
    server.rule = play.failing_on(code, is_number(7))
    async with BatchUploader(spool, settings) as uploader:
        await uploader.flush(30)
    assert server.seqs_stored() == set(range(1, 31)) - {7}
    [poison] = [record async for record in spool.records(SpoolState.DEFERRED)]
    assert poison.entry.seq == 7


async def test_flush_gives_up_when_everything_is_refused(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 300)
    server.rule = play.status(422)
    async with BatchUploader(spool, settings) as uploader:
        assert not await uploader.flush(60)
    assert (await spool.counts()).pending == 300
    assert len(server.seen) < 60


async def test_flush_keeps_its_deadline(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3)
    server.rule = play.drip
    async with BatchUploader(spool, settings) as uploader:
        with anyio.fail_after(20):  # the answer would take half a minute
            assert not await uploader.flush(0.3)
    assert (await spool.counts()).pending == 3
