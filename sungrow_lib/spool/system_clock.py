"""Reads this machine's clocks; never sets one."""

from __future__ import annotations

import ctypes
import time
import uuid
from functools import cache
from pathlib import Path
from typing import ClassVar, Final, Protocol

from sungrow_lib.spool.clock import BootStamp, ClockReading

_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC_FILE: Final = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR: Final = 5
"""What adjtimex(2) returns while the clock is not synchronised."""
_MOST_ERROR_US: Final = 10_000_000
"""What a synchronised clock is wrong by at most, as the kernel reckons: where `timedatectl` draws the line.
After a start and whenever somebody has set the clock the kernel says 16 s."""
_HOLDS_MS: Final = 1_000
"""What the kernel says of the clock is asked once a second at most: a burst of readings goes faster."""


class _Timex(ctypes.Structure):
    """What adjtimex(2) fills, with more room than it takes on any platform; all zero means "only tell me"."""

    _fields_: ClassVar = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    ]


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
        self._timex = _Timex()

    def read(self) -> ClockReading:
        """Read both clocks now."""
        boot_ms = time.clock_gettime_ns(self._boot_clock) // 1_000_000
        if not 0 <= boot_ms - self._asked_ms < _HOLDS_MS:
            self._said, self._asked_ms = self._ask_kernel(), boot_ms
        return ClockReading(time.time_ns() // 1_000_000, BootStamp(self._boot_id, boot_ms), self._said)

    def stamp(self) -> BootStamp:
        """Read the boot-time clock now: what a poller notes beside the wall time of a reading."""
        return BootStamp(self._boot_id, time.clock_gettime_ns(self._boot_clock) // 1_000_000)

    def _ask_kernel(self) -> bool:
        if self._adjtimex is not None:
            # What it wrote last time says nothing of what to do: `modes`, the first field, stays as it was.
            state = int(self._adjtimex(ctypes.byref(self._timex)))
            if state >= 0:
                # An RTC in local time keeps the kernel from ever saying so itself, hence the error beside it.
                return state < _TIME_ERROR or self._timex.maxerror < _MOST_ERROR_US
        # Where it must not be asked. The file stays when somebody sets the clock, so it is not asked first.
        return _TIMESYNC_FILE.exists()


@cache
def _read_boot_id() -> str:
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        # Elsewhere every process counts as a boot of its own: stamps then compare within it, which is safe.
        return str(uuid.uuid4())
