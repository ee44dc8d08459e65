"""The clocks the poller lives by, behind one small protocol so that tests need not wait for minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import anyio

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What the poller asks about time."""

    @property
    def boot_id(self) -> str:
        """Identity of this boot of the machine; empty where the system has none."""
        ...

    def boottime(self) -> float:
        """Seconds since the machine started, sleep included; never jumps."""
        ...

    def wall(self) -> datetime:
        """Aware UTC time of day; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's own clocks."""

    @property
    def boot_id(self) -> str:
        """The kernel's boot id (Linux), else empty."""
        return _read_boot_id()

    def boottime(self) -> float:
        """``CLOCK_BOOTTIME`` where there is one: unlike the monotonic clock it counts suspended time."""
        return _boottime()

    def wall(self) -> datetime:
        """Aware UTC time of day."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)


if hasattr(time, "CLOCK_BOOTTIME"):  # asked dozens of times a poll
    _boottime: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
else:
    _boottime = time.monotonic


@cache
def _read_boot_id() -> str:
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""
