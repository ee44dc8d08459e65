"""Reads this machine's clocks; never sets one."""

from __future__ import annotations

import ctypes
import time
import uuid
from pathlib import Path
from typing import Final, Protocol

from sungrow_lib.spool.clock import BootStamp, ClockReading

_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC_FILE: Final = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR: Final = 5
"""What adjtimex(2) returns while the clock is not synchronised."""
_HOLDS_MS: Final = 1_000
"""What the kernel says of the clock is asked once a second at most: a burst of readings goes faster."""
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
        self._said, self._asked_ms = False, -_HOLDS_MS
        self._timex = ctypes.create_string_buffer(_TIMEX_BYTES)

    def read(self) -> ClockReading:
        """Read both clocks now."""
        stamp = self.stamp()
        return ClockReading(time.time_ns() // 1_000_000, stamp, self._is_synchronised(stamp.boot_ms))

    def stamp(self) -> BootStamp:
        """Read the boot-time clock now: what a poller notes beside the wall time of a reading."""
        return BootStamp(self._boot_id, time.clock_gettime_ns(self._boot_clock) // 1_000_000)

    def _is_synchronised(self, boot_ms: int) -> bool:
        if not 0 <= boot_ms - self._asked_ms < _HOLDS_MS:
            self._said, self._asked_ms = self._ask_kernel(), boot_ms
        return self._said

    def _ask_kernel(self) -> bool:
        if self._adjtimex is not None:
            # What it wrote last time says nothing of what to do: `modes`, the first field, stays as it was.
            state = int(self._adjtimex(self._timex))
            if 0 <= state < _TIME_ERROR:
                return True
        return _TIMESYNC_FILE.exists()


def _read_boot_id() -> str:
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        # Elsewhere every process counts as a boot of its own: stamps then compare within it, which is safe.
        return str(uuid.uuid4())
