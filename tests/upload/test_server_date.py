"""The server's date, for readings that wait for a clock to be trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, SpoolState, SystemClock
from sungrow_lib.spool.clock import ClockReading
from sungrow_lib.upload import BatchUploader, UploadSettings
from tests.upload.helpers import START, counted, running, until
from tests.upload.server import IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


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
