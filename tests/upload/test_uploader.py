"""Delivery against a real HTTPS server that plays every row of the delivery table."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from aiohttp import web

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, Lane, SpoolEntry, SpoolState, SystemClock
from sungrow_lib.spool.clock import ClockReading
from sungrow_lib.upload import BatchUploader, ConnectionState, UploadSettings, verdicts
from sungrow_lib.upload.backoff import Backoff
from sungrow_lib.upload.pace import BatchSize
from sungrow_lib.wire import DeviceInfo
from tests.upload import server as play
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off by milliseconds; test_backoff proves the real figures."""
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.01)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)


async def fill(spool: DurableSpool, count: int, device_id: str = "inv") -> None:
    """Accept readings; `pv_power_w` is their running number."""
    for _ in range(count):
        number = (await spool.counts()).accepted + 1
        sample = SungrowSample(
            device_id=device_id, ts=START + timedelta(seconds=number), pv_power_w=number, battery_soc_pct=55.5
        )
        assert (await spool.append(sample, ts_is_final=True)).seq == number


async def until(happens: Callable[[], bool], within_s: float = 90.0) -> None:
    with anyio.fail_after(within_s):
        while not happens():  # noqa: ASYNC110 - a test looks from outside
            await anyio.sleep(0.005)


async def counted(spool: DurableSpool, within_s: float = 90.0, **expected: int) -> None:
    """Wait until the spool counts what is expected."""
    with anyio.fail_after(within_s):
        while True:
            counts = await spool.counts()
            if all(getattr(counts, name) == number for name, number in expected.items()):
                return
            await anyio.sleep(0.01)


@asynccontextmanager
async def running(spool: DurableSpool, settings: UploadSettings) -> AsyncIterator[BatchUploader]:
    async with BatchUploader(spool, settings) as uploader, anyio.create_task_group() as tasks:
        tasks.start_soon(uploader.run)
        yield uploader
        tasks.cancel_scope.cancel()


def is_number(*numbers: int) -> Callable[[Batch], bool]:
    return lambda sample: sample["pv_power_w"] in numbers


# --- delivered -------------------------------------------------------------------------------------------


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


# --- verdicts on single readings -------------------------------------------------------------------------


async def test_conflicts_and_rejects_go_to_quarantine_with_their_reason(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 4)
    server.script.append(play.verdicts("conflicts", "different_value", is_number(2)))
    server.rule = play.verdicts("rejected", "invalid", is_number(5))
    async with running(spool, settings):
        await counted(spool, delivered=3, conflicts=1)
        await fill(spool, 2)
        await counted(spool, delivered=4, conflicts=1, rejected=1)
    (conflict,) = [r async for r in spool.records(SpoolState.CONFLICT)]
    assert (conflict.entry.seq, conflict.code, conflict.reason) == (2, "different_value", "as the test wants")


async def test_rejects_are_sent_again_to_a_new_server_version_only(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 2)
    server.rule = play.verdicts("rejected", "invalid", is_number(1))
    async with running(spool, settings):
        await counted(spool, delivered=1, rejected=1)
        server.rule = None
        await fill(spool, 1)
        await counted(spool, delivered=2, rejected=1)
        server.version = "2.0"
        await fill(spool, 1)
        await counted(spool, delivered=4, rejected=0)


async def test_deferred_readings_stay_and_hold_up_nobody(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3)
    server.rule = play.verdicts("deferred", "future", is_number(3))
    async with running(spool, settings):
        await counted(spool, delivered=2, deferred=1)
        await fill(spool, 3)
        await counted(spool, delivered=5, deferred=1)
    (record,) = [r async for r in spool.records(SpoolState.DEFERRED)]
    assert record.at is not None
    assert 290 < (record.at - datetime.now(UTC)).total_seconds() <= 300


async def test_due_readings_are_offered_again(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sungrow_lib.upload.verdicts.DEFERRED_RETRY_S", 0.2)
    await fill(spool, 3)
    server.script.append(play.verdicts("deferred", "device_deleted", is_number(1, 2, 3)))
    async with running(spool, settings):
        await counted(spool, deferred=3)
        await counted(spool, delivered=3, deferred=0)


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


# --- not an answer to this batch -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(play.altered(batch_id="another"), id="another batch"),
        pytest.param(play.altered(batch_id=None), id="no batch"),
        pytest.param(play.altered(inserted=0), id="wrong sum"),
        pytest.param(play.altered(received=99), id="wrong size"),
        pytest.param(play.raw(b"<html>log in</html>"), id="captive portal"),
        pytest.param(play.raw(b"", 200), id="empty"),
        pytest.param(play.raw(b"\x00\xff" * 100, 200, "application/json"), id="garbage"),
        pytest.param(play.raw(b"OK", 204), id="204"),
        pytest.param(play.status(302, Location="/v1/elsewhere"), id="redirect"),
        pytest.param(play.status(307, Location="/v1/elsewhere"), id="redirect with body"),
        pytest.param(play.status(404), id="404"),
        pytest.param(play.status(405), id="405"),
        pytest.param(play.status(415), id="415"),
        pytest.param(play.status(418), id="418"),
        pytest.param(play.flood, id="endless"),
    ],
)
async def test_what_is_no_answer_keeps_everything_and_raises_an_alarm(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, behaviour: play.Behaviour
) -> None:
    await fill(spool, 3)
    server.rule = behaviour
    async with running(spool, settings) as uploader:
        await until(lambda: len(server.seen) >= 3)
        await until(lambda: bool(uploader.status.alarms))
        counts = await spool.counts()
        assert (counts.pending, counts.delivered) == (3, 0)
        assert uploader.status.delivered == 0
        server.rule = None
        await counted(spool, delivered=3)
        assert uploader.status.alarms == ()


async def test_the_server_double_can_be_believed(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An uploader that skips the check of the batch id loses readings here, and this test sees it."""
    await fill(spool, 3)
    server.rule = play.altered(batch_id="another")
    monkeypatch.setattr(
        "sungrow_lib.upload.attempts.judge_reply",
        lambda reply, *, seqs, **_: verdicts.judge_reply(reply, batch_id="another", seqs=seqs),
    )
    async with running(spool, settings):
        await counted(spool, delivered=3)
    assert server.stored == {}


# --- the token -------------------------------------------------------------------------------------------


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
        with anyio.fail_after(120):  # what was on its way may take a while to arrive
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


# --- batches that do not pass as a whole -----------------------------------------------------------------


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
        await until(lambda: len(server.seen) >= 20)  # enough to find some that fail alone
        await anyio.sleep(0.5)
        assert len(server.seen) < 3 * 20
    assert (await spool.counts()).pending == 400


async def test_batches_grow_and_shrink_with_what_the_server_takes(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    async def small(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if len(batch["samples"]) > 25:
            return await play.status(413)(server, request, batch)
        return await play.answer(server, request, batch)

    server.rule = small
    await fill(spool, 800)
    async with running(spool, replace(settings, batch_size=100, backlog_workers=1)):
        await counted(spool, delivered=800, deferred=0)
    refused = sum(len(seen.seqs) > 25 for seen in server.seen)
    assert refused < len(server.seen) / 4


def test_batch_size_follows_size_limits_and_latency() -> None:
    size = BatchSize(500, slow_s=10.0)
    size.too_large(500)
    assert size.current == 250
    size.passed(250, 11.0)
    assert size.current == 125
    for _ in range(19):
        size.passed(125, 0.1)
    assert size.current == 125
    size.passed(125, 0.1)
    assert size.current == 250
    for _ in range(40):
        size.passed(250, 0.1)
    assert size.current == 500
    for _ in range(12):
        size.too_large(size.current)
    assert size.current == 1


def test_what_was_sent_before_a_batch_shrank_does_not_shrink_it_again() -> None:
    size = BatchSize(500, slow_s=10.0)
    for _ in range(6):  # all lanes had that many on their way
        size.too_large(500)
    assert size.current == 250


def test_few_readings_tell_nothing_of_how_many_a_batch_may_hold() -> None:
    size = BatchSize(500, slow_s=10.0)
    size.too_large(1)
    for _ in range(100):
        size.passed(1, 11.0)
    assert size.current == 500
    size.too_large(8)
    assert size.current == 4
    for _ in range(100):
        size.passed(1, 0.1)
    assert size.current == 4


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


async def keep_reading_until_deferred(spool: DurableSpool, count: int) -> None:
    """Go on accepting readings, as an edge does, until so many are set aside."""
    with anyio.fail_after(120):
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


# --- busy, slow, away ------------------------------------------------------------------------------------


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


# --- the clock -------------------------------------------------------------------------------------------


class UnsynchronisedClock(SystemClock):
    is_set = False

    def read(self) -> ClockReading:
        return super().read()._replace(synchronised=self.is_set)


async def test_the_server_is_asked_for_its_date_when_readings_wait(
    tmp_path: Path, settings: UploadSettings, server: IngestServer
) -> None:
    clock = UnsynchronisedClock()
    async with DurableSpool.open(tmp_path / "waiting.db", clock=clock) as spool:
        now = datetime.now(UTC)
        sample = SungrowSample(device_id="inv", ts=now.replace(microsecond=0), pv_power_w=1)
        assert (await spool.append(sample, boot=clock.stamp())).state is SpoolState.WAITING
        server.date = "Mon, 01 Jun 2020 12:00:00 GMT"
        async with running(spool, settings):
            await until(lambda: server.health_asked > 0)
            await anyio.sleep(0.1)
            assert server.seen == []  # the two clocks disagree: whose is right is not known yet
            assert (await spool.counts()).waiting == 1
            server.date = None
            await counted(spool, delivered=1)


async def let_wait(spool: DurableSpool, clock: SystemClock, count: int) -> None:
    """Accept readings while nobody knows the time."""
    for number in range(count):
        sample = SungrowSample(device_id="inv", ts=START + timedelta(seconds=number), pv_power_w=number)
        assert (await spool.append(sample, boot=clock.stamp())).state is SpoolState.WAITING


def draw_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever is drawn for a wait be hours."""
    monkeypatch.setattr("sungrow_lib.upload.backoff.Backoff.next_s", lambda *_: 10_000.0)


async def test_a_server_that_came_back_is_asked_for_its_date_within_a_minute(
    tmp_path: Path, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was away: until it says the date, nothing is delivered."""
    draw_long_waits(monkeypatch)
    monkeypatch.setattr("sungrow_lib.upload.uploader.BACK_WITHIN_S", 0.05)
    server.health_cut = 6
    clock = UnsynchronisedClock()
    async with DurableSpool.open(tmp_path / "waiting.db", clock=clock) as spool:
        await let_wait(spool, clock, 3)
        async with running(spool, settings) as uploader:
            await counted(spool, delivered=3)
            await until(lambda: uploader.status.alarms == ())
    assert server.health_asked >= 6


async def test_the_alarm_of_the_clock_ends_when_no_reading_waits(
    tmp_path: Path, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_long_waits(monkeypatch)
    server.date = "Mon, 01 Jun 2020 12:00:00 GMT"
    clock = UnsynchronisedClock()
    async with DurableSpool.open(tmp_path / "waiting.db", clock=clock) as spool:
        await let_wait(spool, clock, 3)
        async with running(spool, settings) as uploader:
            await until(lambda: [alarm.code for alarm in uploader.status.alarms] == ["clock"])
            await until(lambda: server.health_asked > 0)
            clock.is_set = True
            await until(lambda: uploader.status.alarms == ())
            await counted(spool, delivered=3)
        assert server.health_asked == 1  # what it says can be counted on from then on


async def test_the_alarm_of_the_clock_says_how_far_it_is_from_the_server(
    tmp_path: Path, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_long_waits(monkeypatch)
    server.date = "Mon, 01 Jun 2026 12:00:00 GMT"
    clock = SteppedClock()
    clock.wall_ms = int((datetime(2026, 6, 1, 11, 10, tzinfo=UTC)).timestamp() * 1000)
    async with DurableSpool.open(tmp_path / "waiting.db", clock=clock) as spool:
        await let_wait(spool, clock, 3)
        async with running(spool, settings) as uploader:
            await until(lambda: "50 min behind the server's" in alarm_of_the_clock(uploader))
            assert "not known" not in alarm_of_the_clock(uploader)
        state = await spool.clock()
        assert (state.is_trusted, state.is_vouched, state.behind_s) == (False, False, {})


async def test_the_alarm_of_the_clock_says_that_it_ran_ahead(
    tmp_path: Path, settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_long_waits(monkeypatch)
    clock = SteppedClock()
    clock.is_set = True
    clock.wall_ms = int((START + timedelta(hours=3)).timestamp() * 1000)
    async with DurableSpool.open(tmp_path / "waiting.db", clock=clock) as spool:
        ahead = SungrowSample(device_id="inv", ts=START + timedelta(hours=3), pv_power_w=1)
        assert (await spool.append(ahead, boot=clock.stamp())).state is SpoolState.PENDING
        other = SungrowSample(device_id="other", ts=START, pv_power_w=1)
        await spool.append(other, ts_is_final=True)
        clock.wall_ms = int(START.timestamp() * 1000)
        assert (await spool.clock()).is_trusted  # nothing waits yet
        await let_wait(spool, clock, 2)
        async with running(spool, settings) as uploader:
            await until(lambda: "3 h behind the date of the last" in alarm_of_the_clock(uploader))
            assert "last reading of inv." in alarm_of_the_clock(uploader)
            await counted(spool, delivered=2, waiting=2)  # the other device's is not held up
        state = await spool.clock()
        assert (state.is_trusted, state.is_vouched, state.server_serves) == (False, True, False)
        assert (state.dates("inv"), state.dates("other")) == (False, True)


class SteppedClock(UnsynchronisedClock):
    """One whose wall clock stands where it was put."""

    wall_ms = 0

    def read(self) -> ClockReading:
        return super().read()._replace(wall_ms=self.wall_ms)


def alarm_of_the_clock(uploader: BatchUploader) -> str:
    return "".join(alarm.detail for alarm in uploader.status.alarms if alarm.code == "clock")


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"server_url": "http://solar.example.org"}, "https://"),
        ({"server_url": "solar.example.org"}, "https://"),
        ({"server_url": "https://"}, "HOST"),
        ({"server_url": "https://me:secret@solar.example.org"}, "without user"),
        ({"server_url": "https://solar.example.org:port"}, "not an address"),
        ({"server_url": "https://bücher..example"}, "The host of server_url is no name"),
        ({"server_url": f"https://{'ü' * 70}.example"}, "The host of server_url is no name"),
        ({"server_url": "https://solar..example.org"}, "The host of server_url is no name"),
        ({"token": None}, "token_file"),
        ({"token": "a b"}, "token"),
        ({"token": "ä"}, "token"),
        ({"token": ""}, "token"),
        ({"batch_size": 0}, "batch_size"),
        ({"backlog_workers": 6}, "backlog_workers"),
        ({"upload_interval_s": 0}, "upload_interval_s"),
        ({"compression": "brotli"}, "compression"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"server_url": "https://solar.example.org", "token": "t"} | changes
    with pytest.raises(ConfigurationError, match=says):
        UploadSettings(**values)  # type: ignore[arg-type]  # wrong ones are the point


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_useless_ca_file_is_named(spool: DurableSpool, tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    settings = UploadSettings(server_url="https://localhost", token="t", ca_file=ca_file)
    with pytest.raises(ConfigurationError, match=str(ca_file)):
        BatchUploader(spool, settings)
