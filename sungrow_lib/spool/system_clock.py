"""Reads this machine's clocks; never sets one."""

from __future__ import annotations

import ctypes
import os
import time
import uuid
from pathlib import Path
from typing import Final, Protocol

from sungrow_lib.spool.clock import BootStamp, ClockReading

_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC_FILE: Final = "/run/systemd/timesync/synchronized"
_TIME_ERROR: Final = 5
"""What adjtimex(2) returns while the clock is not synchronised."""
_TIMEX_BYTES: Final = 512
"""More than `struct timex` takes on any platform; all zero means "only tell me"."""


class Clock(Protocol):
    """Where a spool gets the time from."""

    def read(self) -> ClockReading:
        """Read both clocks now."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()
        self._boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        # Absent elsewhere than on Linux: there only the server can vouch for the clock.
        self._adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
        self._timex = ctypes.create_string_buffer(_TIMEX_BYTES)

    def read(self) -> ClockReading:
        """Read both clocks now."""
        return ClockReading(time.time_ns() // 1_000_000, self.stamp(), self._is_synchronised())

    def stamp(self) -> BootStamp:
        """Read the boot-time clock now: what a poller notes beside the wall time of a reading."""
        return BootStamp(self._boot_id, time.clock_gettime_ns(self._boot_clock) // 1_000_000)

    def _is_synchronised(self) -> bool:
        if self._adjtimex is not None:
            # What it wrote last time says nothing of what to do: `modes`, the first field, stays as it was.
            state = int(self._adjtimex(self._timex))
            if 0 <= state < _TIME_ERROR:
                return True
        return os.path.exists(_TIMESYNC_FILE)  # noqa: PTH110 - called for every reading


def _read_boot_id() -> str:
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        # Elsewhere every process counts as a boot of its own: stamps then compare within it, which is safe.
        return str(uuid.uuid4())
