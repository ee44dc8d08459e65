"""Batches that do not pass as a whole: the readings that spoil them are found, the others go on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import anyio
import pytest
from aiohttp import web

from sungrow_lib.spool import DurableSpool, SpoolState
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.verdicts import UNFIT_ADVICE
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.helpers import counted, fill, is_number, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_a_reading_that_spoils_its_batch_is_found_and_set_aside(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, code: int
) -> None:
    await fill(spool, 8)
    server.rule = play.failing_on(code, is_number(3))
    async with running(spool, replace(settings, batch_size=8)):
        await counted(spool, delivered=7)
        await fill(spool, 1)
        await counted(spool, delivered=8, deferred=1)
        await fill(spool, 4)
        await counted(spool, delivered=12, deferred=1)
    (record,) = [r async for r in spool.records(SpoolState.DEFERRED)]
    assert (record.entry.seq, record.code) == (3, f"http_{code}")
    assert record.at is not None
    assert 86_000 < (record.at - datetime.now(UTC)).total_seconds() <= 86_400


async def test_where_many_readings_spoil_a_batch_the_others_do_not_wait_for_all_of_them(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    spoilt = range(5, 321, 10)
    refused: list[int] = []  # how often before each that passed

    async def picky(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        reply = await play.failing_on(400, is_number(*spoilt))(server, request, batch)
        if reply.status == 200:
            refused.append(len(server.seen) - 1 - len(refused))
        return reply

    server.rule = picky
    await fill(spool, 320)
    async with running(spool, replace(settings, batch_size=320, backlog_workers=1)):
        await counted(spool, delivered=320 - len(spoilt), deferred=len(spoilt))
    assert refused[0] < 10
    assert all(later - before < 20 for before, later in pairwise(refused[: 320 // 10]))


async def test_a_batch_too_large_is_halved_until_it_fits(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    async def small(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if len(batch["samples"]) > 3:
            return await play.status(413)(server, request, batch)
        return await play.answer(server, request, batch)

    server.rule = small
    await fill(spool, 50)
    async with running(spool, replace(settings, batch_size=20)):
        await counted(spool, delivered=50, deferred=0)


async def test_a_limit_is_learned_once_not_anew_by_each_part_of_a_batch(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    refused: list[int] = []

    async def small(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if len(batch["samples"]) > 3:
            refused.append(len(batch["samples"]))
            return await play.status(413)(server, request, batch)
        return await play.answer(server, request, batch)

    server.rule = small
    await fill(spool, 60)
    async with running(spool, replace(settings, batch_size=32, backlog_workers=1)):
        await counted(spool, delivered=60, deferred=0)
    # 32, 16, 8 and 4 by either of two lanes; then after 20 that passed one of twice as many.
    assert len(refused) <= 2 * 4 + 2


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_where_even_single_readings_are_refused_each_costs_a_pause(
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    monkeypatch.setattr("sungrow_lib.upload.backoff.Backoff.next_s", lambda *_: 600.0)
    await fill(spool, 400)
    server.rule = play.status(code)
    async with running(spool, replace(settings, batch_size=100, backlog_workers=2)):
        await until(lambda: any(len(seen.seqs) == 1 for seen in server.seen))
        await anyio.sleep(1)
        # Three lanes find that one of their readings is refused alone; each of these is tried once more.
        assert sum(len(seen.seqs) == 1 for seen in server.seen) <= 2 * 3
        assert len(server.seen) <= 3 * 5 + 2 * 3
    assert (await spool.counts()).pending == 400


async def test_a_lone_reading_is_never_set_aside(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3)
    server.rule = play.status(422)
    async with running(spool, settings):
        await until(lambda: len(server.seen) > 20)
        assert (await spool.counts()).pending == 3  # no other sample passed: the server is at fault
        server.rule = None
        await counted(spool, delivered=3)


@pytest.mark.parametrize("code", [400, 422])
async def test_a_server_that_takes_no_reading_at_all_is_an_alarm_until_it_takes_one(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, code: int
) -> None:
    await fill(spool, 1)
    server.rule = play.status(code)
    async with running(spool, settings) as uploader:
        await until(lambda: [alarm.code for alarm in uploader.status.alarms] == [f"http_{code}"])
        [alarm] = uploader.status.alarms
        assert alarm.detail.startswith("No reading passes, not even one alone. The server refuses")
        assert alarm.detail.endswith(UNFIT_ADVICE)
        server.rule = None
        await counted(spool, delivered=1)
        await until(lambda: uploader.status.alarms == ())


async def test_a_server_that_refuses_everything_is_not_hammered(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by parting batch after batch of a long backlog, nor by trying each reading alone for ever."""
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 600.0)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 600.0)
    await fill(spool, 400)
    server.rule = play.status(400)
    async with running(spool, replace(settings, batch_size=100, backlog_workers=2)):
        await until(lambda: len(server.seen) >= 10)
        await anyio.sleep(0.5)
        assert len(server.seen) < 3 * 10
    assert (await spool.counts()).pending == 400


async def keep_reading_until_deferred(spool: DurableSpool, count: int) -> None:
    """Go on accepting readings, as an edge does, until so many are set aside."""
    with anyio.fail_after(PATIENCE_S):
        while (await spool.counts()).deferred < count:
            await fill(spool, 1)
            await anyio.sleep(0.02)


async def test_a_reading_that_breaks_the_server_is_found_and_set_aside(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3)
    server.rule = play.failing_on(500, is_number(2))
    async with running(spool, settings):
        await until(lambda: len(server.seen) >= 5)
        assert (await spool.counts()).deferred == 0
        await keep_reading_until_deferred(spool, 1)
        await counted(spool, deferred=1, pending=0)
    assert server.seqs_stored() == {1, *range(3, (await spool.counts()).accepted + 1)}


async def test_many_bad_readings_in_a_backlog(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 60)
    bad = (1, 2, 17, 30, 44, 58, 60)
    server.rule = play.failing_on(500, is_number(*bad))
    async with running(spool, settings):
        await keep_reading_until_deferred(spool, len(bad))
    aside = [record.entry.seq async for record in spool.records(SpoolState.DEFERRED)]
    assert aside == list(bad)


async def test_trouble_for_all_sets_nothing_aside(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 10)
    server.rule = play.status(500)
    async with running(spool, settings):
        await until(lambda: len(server.seen) > 40)
        counts = await spool.counts()
        assert (counts.pending, counts.deferred) == (10, 0)
        sizes = {len(seen.seqs) for seen in server.seen}
        assert 1 not in sizes  # nothing was halved either
        server.rule = None
        await counted(spool, delivered=10)
