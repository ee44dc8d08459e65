"""From the inverter's answers to dated rows, over boots that nobody told the time: their energy stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import anyio
import pytest

from reference_edge import station as station_module
from reference_edge.account import DeviceAccount
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_edge.intake import Intake, Taken
from reference_edge.station import Station
from sungrow_lib import BatchUploader, InverterSimulator
from sungrow_lib.spool import BootStamp, DurableSpool, SpoolState
from sungrow_lib.spool.clock import ESTIMATED, ClockReading
from sungrow_lib.wire import DeviceInfo
from tests.living import living_inverter
from tests.modbus.helpers import ManualClock
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine(ManualClock):
    """One boot: the poller and the spool look at the same clocks."""

    def __init__(self, boot_id: str, *, wakes: datetime, synchronised: bool) -> None:
        super().__init__(boottime=30.0, boot_id=boot_id)
        self.wall_offset = wakes - timedelta(seconds=self.now)
        self.synchronised = synchronised

    def read(self) -> ClockReading:
        wall_ms = (self.wall() - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        return ClockReading(wall_ms, BootStamp(self.boot_id, int(self.now * 1000)), self.synchronised)


class _Uploader:
    """Nobody to upload to."""

    def set_device_info(self, device_id: str, info: DeviceInfo) -> None:
        pass


class _UntilEnough(Intake):
    """Ends the polling after so many readings."""

    enough: int
    stopping: anyio.Event

    async def put(self, *readings: Taken) -> None:
        await super().put(*readings)
        if sum(account.polled for account in self.accounts.values()) >= self.enough:
            self.stopping.set()


async def live(
    folder: Path,
    port: int,
    clock: Machine,
    readings: int,
    monkeypatch: pytest.MonkeyPatch,
    commit_s: float = 0.0,
) -> None:
    """Run the edge's own parts through a boot."""
    monkeypatch.setattr(station_module, "SystemClock", lambda: clock)
    devices = [
        DeviceSettings(device_id=name, host="127.0.0.1", port=port, unit=unit) for unit, name in DEVICES
    ]
    settings = EdgeSettings.model_construct(
        server_url="https://localhost", sungrow_lock_dir=folder, spool_path=folder / "spool.sqlite"
    )
    accounts = {name: DeviceAccount(name, f"127.0.0.1:{port}") for _, name in DEVICES}
    intake = _UntilEnough(accounts, commit_interval_s=commit_s)
    intake.enough, intake.stopping = readings * len(DEVICES), anyio.Event()
    async with DurableSpool.open(settings.spool_path, clock=clock) as spool:
        intake.use(spool)
        with anyio.fail_after(PATIENCE_S):
            await Station(devices, settings, intake, cast("BatchUploader", _Uploader())).run(intake.stopping)
        await intake.flush()


DEVICES = ((1, "roof"), (2, "garage"))


async def test_boots_that_nobody_told_the_time_keep_their_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three power cuts; without an RTC the clock wakes an hour ago each time, and only the last has NTP."""
    zone = ZoneInfo("UTC")
    inverters = {unit: living_inverter("SH8.0RT-20", zone=zone, seed=unit) for unit, _ in DEVICES}
    boots = [
        Machine("boot-1", wakes=NOON, synchronised=True),
        Machine("boot-2", wakes=NOON - HOUR, synchronised=False),
        Machine("boot-3", wakes=NOON - HOUR, synchronised=False),
        Machine("boot-4", wakes=NOON + HOUR, synchronised=True),
    ]
    async with InverterSimulator(inverters) as simulator:
        for clock, commit_s in zip(boots, (0.0, 0.0, 60.0, 0.0), strict=True):
            await live(tmp_path, simulator.port, clock, 3, monkeypatch, commit_s)
    async with DurableSpool.open(tmp_path / "spool.sqlite", clock=boots[-1]) as spool:
        assert await spool.release_waiting()
        rows = [record async for record in spool.records()]
    assert {row.entry.state for row in rows} == {SpoolState.PENDING}
    assert len(rows) >= len(boots) * len(DEVICES) * 3
    shifts: dict[str, set[int]] = {}
    for _, name in DEVICES:
        own = [row for row in rows if row.entry.device_id == name]
        dates = [row.entry.ts_ms for row in own]
        assert dates == sorted(set(dates))
        assert dates[-1] <= boots[-1].read().wall_ms
        for boot_id, group in groupby(own, key=lambda row: row.stamp.boot_id):
            of_boot = list(group)
            if boot_id in {"boot-2", "boot-3"}:
                assert {row.entry.clock_source for row in of_boot} == {ESTIMATED}
                shifts.setdefault(boot_id, set()).update(
                    row.entry.ts_ms - row.stamp.boot_ms for row in of_boot
                )
            first, last = of_boot[0], of_boot[-1]
            span_ms = last.stamp.boot_ms - first.stamp.boot_ms
            assert span_ms > 1000
            assert abs(last.entry.ts_ms - first.entry.ts_ms - span_ms) <= 2
    assert {boot_id: len(found) for boot_id, found in shifts.items()} == {"boot-2": 1, "boot-3": 1}
