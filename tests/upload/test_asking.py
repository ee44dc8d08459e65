"""A server that lost readings is asked what it lacks of silent devices: once, with one reading."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from sungrow_lib.spool import DurableSpool, SpoolState
from sungrow_lib.upload import BatchUploader, UploadSettings
from sungrow_lib.upload.backoff import CALM_S, RETRY_AFTER_LIMIT_S, Asking
from tests.patience import PATIENCE_S
from tests.spool.helpers import NOON, FakeClock, reading
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, Behaviour, IngestServer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.01)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)


def whose(batch: Batch) -> str:
    [device_id] = {str(sample["device_id"]) for sample in batch["samples"]}
    return device_id


def lacking(forgets: Collection[str] = (), refuses: Collection[str] = ()) -> Behaviour:
    """A server that asks for what it lacks; it keeps nothing of some devices, and forbids others."""

    async def rule(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        device_id = whose(batch)
        if device_id in refuses:
            return await play.status(403)(server, request, batch)
        missing = play.lacks(server, batch)
        reply = play.judge(server, batch) | {"resend": missing}
        if device_id in forgets:
            server.stored = {key: row for key, row in server.stored.items() if key[0] != device_id}
        return web.json_response(reply)

    return rule


def sent(server: IngestServer, device_id: str) -> list[int]:
    """How many readings each batch of a device held."""
    return [len(seen.batch["samples"]) for seen in server.seen if whose(seen.batch) == device_id]


# --- when ------------------------------------------------------------------------------------------------


def test_the_others_are_asked_for_at_once_and_then_ever_more_seldom() -> None:
    asking, asked = Asking(), []
    for now in range(0, 40 * 86_400, 300):
        asking.lost("b", now)
        if asking.is_due(now):
            asking.begin(now)
            asking.end({"a"})
            asked.append(now)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert asked[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] >= RETRY_AFTER_LIMIT_S
    assert len(asked) < 60


def test_a_loss_that_was_only_found_by_asking_is_no_reason_to_ask() -> None:
    asking = Asking()
    asking.lost("b", 0)
    asking.begin(0)
    asking.end({"a", "c"})
    asking.lost("a", 100)
    assert not asking.is_due(1_000)
    asking.is_well("c")
    asking.lost("c", 200)
    assert asking.is_due(1_000)


def test_after_a_calm_it_is_another_loss() -> None:
    asking = Asking()
    asking.lost("b", 0)
    asking.begin(0)
    asking.end({"a"})
    asking.lost("a", 1 + CALM_S)
    assert asking.is_due(1 + CALM_S)


async def test_what_was_put_off_is_made_up_for_after_a_start(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """The server lost readings twice in a minute, and the edge was stopped before it could ask again."""
    server.rule = lacking()
    await fill(spool, 20, "silent")
    await fill(spool, 5)
    async with running(spool, settings):
        await counted(spool, delivered=25)
        for number in (6, 7):
            server.stored.clear()
            await fill(spool, 1)
            await until(lambda: len(server.stored) == (26 if number == 6 else number))  # noqa: B023 - at once
            await counted(spool, delivered=20 + number)
    async with running(spool, settings):
        await fill(spool, 1)
        await until(lambda: len(server.stored) == 28)


# --- what ------------------------------------------------------------------------------------------------


async def test_it_is_one_reading_though_the_newest_went_first(tmp_path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(tmp_path / "other.db", clock=clock) as spool:
        entries = []
        for n in range(40):
            clock.pass_s(5)
            entries.append(await spool.append(reading("quiet", NOON + timedelta(seconds=5 * n))))
        clock.pass_s(300)
        await spool.ack("quiet", [entry.seq for entry in entries[30:]])
        clock.pass_s(60)
        await spool.ack("quiet", [entry.seq for entry in entries[:30]])  # the backlog is answered last
        await spool.ask_last("quiet")
        assert [r.entry.seq async for r in spool.records(SpoolState.PENDING)] == [entries[29].seq]
        assert await spool.take_back("quiet", [entries[29].seq])
        assert (await spool.counts()).delivered == 40
        await spool.ask_refused("quiet")
        await spool.ack("quiet", [entries[29].seq])
        assert [r.code async for r in spool.records()] == [None] * 40
        assert await spool.faults() == []


async def test_a_device_the_server_keeps_nothing_of_does_not_trouble_the_healthy_one(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sungrow_lib.upload")  # else it is said once in a while

    def all_again() -> int:
        return sum("offering all again" in record.message for record in caplog.records)

    await fill(spool, 20, "healthy")
    server.rule = lacking(forgets={"bad"})
    async with running(spool, settings):
        await counted(spool, delivered=20)
        await fill(spool, 1, "bad")
        await counted(spool, delivered=21)
        for number in range(1, 12):
            await fill(spool, 1, "bad")
            await until(lambda: all_again() >= number)  # noqa: B023 - at once
            await counted(spool, delivered=21 + number)  # until there is another one
    assert sum(sent(server, "healthy")) <= 20 + 5


# --- a token that is refused -----------------------------------------------------------------------------


async def test_a_retired_device_whose_token_is_refused_is_neither_backlog_nor_alarm(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 20, "retired")
    await fill(spool, 5)
    async with running(spool, settings):
        await counted(spool, delivered=25)
    server.stored.clear()
    server.seen.clear()
    server.rule = lacking(refuses={"retired"})
    await fill(spool, 1)
    async with running(spool, settings) as uploader:
        await until(lambda: bool(sent(server, "retired")))
        await until(lambda: len(server.stored) == 6)
        await counted(spool, delivered=26, pending=0)
        assert uploader.status.alarms == ()
        assert uploader.status.paused == ()
    assert sent(server, "retired") == [1]
    # What the server lacks is sent once the token is taken, in this life of the edge or in the next.
    server.rule = lacking()
    async with running(spool, settings):
        await until(lambda: len(server.stored) == 26)
        await counted(spool, delivered=26, pending=0)
    assert {record.code async for record in spool.records()} == {None}


async def test_also_without_a_restart(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sungrow_lib.upload.uploader._PRUNE_S", 0.05)
    await fill(spool, 20, "retired")
    async with running(spool, settings):
        await counted(spool, delivered=20)
        server.stored.clear()
        server.seen.clear()
        server.rule = lacking(refuses={"retired"})
        await spool.ask_last("retired")
        await until(lambda: len(sent(server, "retired")) >= 3)
        server.rule = lacking()
        await until(lambda: len(server.stored) == 20)
        await counted(spool, delivered=20, pending=0)


async def test_what_waits_of_a_device_is_an_alarm_beside_what_is_asked_for(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3, "mine")
    await spool.ack("mine", [1, 2, 3])
    await spool.ask_last("mine")
    await fill(spool, 1, "mine")
    server.rule = lacking(refuses={"mine"})
    async with running(spool, settings) as uploader:
        await until(lambda: uploader.status.paused == ("mine",))
        assert [alarm.code for alarm in uploader.status.alarms] == ["http_403"]
    assert (await spool.counts("mine")).pending >= 1


@pytest.mark.parametrize("code", [401, 403])
async def test_flush_ends_at_once_when_the_token_is_refused(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, code: int
) -> None:
    """Also when that is found out with readings that were refused alone before."""
    await fill(spool, 2)
    refusal = play.status(422)
    server.script.extend([refusal, refusal, refusal])  # both, and each alone
    server.rule = play.status(code)
    async with BatchUploader(spool, settings) as uploader:
        with anyio.fail_after(PATIENCE_S):
            assert not await uploader.flush(600)
    assert len(server.seen) == 4
    assert (await spool.counts()).pending == 2
