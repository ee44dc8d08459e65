"""A clock that does as told, and readings to spool."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool.clock import BootStamp, ClockReading
from sungrow_lib.spool.store import SpoolStore

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOON_MS = 1_780_315_200_000


@dataclass
class FakeClock:
    """Wall and boot-time clock, moved by hand."""

    wall_ms: int = NOON_MS
    boot_ms: int = 60_000
    boot_id: str = "boot-1"
    synchronised: bool = True

    def read(self) -> ClockReading:
        return ClockReading(self.wall_ms, self.stamp(), self.synchronised)

    def stamp(self) -> BootStamp:
        return BootStamp(self.boot_id, self.boot_ms)

    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.wall_ms)

    def pass_s(self, seconds: float) -> None:
        """Let time go by."""
        self.wall_ms += round(seconds * 1000)
        self.boot_ms += round(seconds * 1000)

    def step_s(self, seconds: float) -> None:
        """Set the wall clock; no time goes by."""
        self.wall_ms += round(seconds * 1000)

    def reboot(self, name: str, *, off_s: float = 0.0) -> None:
        """Start the machine again."""
        self.wall_ms += round(off_s * 1000)
        self.boot_id, self.boot_ms = name, 5_000


def reading(device_id: str = "inv", ts: datetime = NOON, **values: float) -> SungrowSample:
    return SungrowSample.model_validate({"device_id": device_id, "ts": ts, **(values or {"pv_power_w": 1})})


def until_quiet(store: SpoolStore) -> None:
    """Wait until the spool looks at its folder only, as it does for most readings."""
    while not store._database._place._folder.is_as_seen():
        time.sleep(0.01)
        store.keep_place()
