"""What an answer to a batch makes of its readings, and answers that are none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sungrow_lib.spool import DurableSpool, SpoolState
from sungrow_lib.upload import UploadSettings, verdicts
from tests.upload import server as play
from tests.upload.helpers import counted, fill, is_number, running, until
from tests.upload.server import IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


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
