from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio.lowlevel

from sungrow_lib.modbus.settings import ConnectionSettings

SettingsFactory = Callable[..., ConnectionSettings]


class ManualClock:
    """Time passes only while somebody sleeps."""

    def __init__(self, boottime: float = 1000.0, boot_id: str = "boot-1") -> None:
        self.boot_id = boot_id
        self.now = boottime
        self.wall_offset = datetime(2026, 1, 31, 10, tzinfo=UTC) - timedelta(seconds=boottime)

    def boottime(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return self.wall_offset + timedelta(seconds=self.now)

    async def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-6)  # a real clock never stands still, however short the sleep
        await anyio.lowlevel.checkpoint()
