"""Whether the kernel vouches for the machine's clock: what adjtimex says, and what it leaves unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sungrow_lib.spool import system_clock
from sungrow_lib.spool.system_clock import SystemClock

TIME_OK, TIME_ERROR, DENIED = 0, 5, -1


class Kernel:
    """Answers as adjtimex(2) does."""

    def __init__(self, state: int, maxerror_us: int) -> None:
        self.state, self.maxerror_us = state, maxerror_us

    def __call__(self, timex: Any) -> int:
        assert timex._obj.modes == 0, "it must only be asked, never set"
        timex._obj.maxerror = self.maxerror_us
        return self.state


@pytest.mark.parametrize(
    ("kernel", "timesyncd_did_once", "synchronised"),
    [
        pytest.param(Kernel(TIME_OK, 5_000), False, True, id="synchronised"),
        pytest.param(Kernel(TIME_ERROR, 16_000_000), False, False, id="after the start"),
        pytest.param(Kernel(TIME_ERROR, 16_000_000), True, False, id="set by hand since"),
        pytest.param(Kernel(TIME_ERROR, 20_000), True, True, id="an RTC in local time"),
        pytest.param(Kernel(DENIED, 0), True, True, id="must not be asked, timesyncd says so"),
        pytest.param(Kernel(DENIED, 0), False, False, id="must not be asked, nobody says so"),
        pytest.param(None, False, False, id="another system"),
    ],
)
def test_who_calls_the_clock_synchronised(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kernel: Kernel | None,
    *,
    timesyncd_did_once: bool,
    synchronised: bool,
) -> None:
    file = tmp_path / "synchronized"
    if timesyncd_did_once:
        file.touch()
    monkeypatch.setattr(system_clock, "_TIMESYNC_FILE", file)
    clock = SystemClock()
    monkeypatch.setattr(clock, "_adjtimex", kernel)
    assert clock.read().synchronised is synchronised


def test_clocks_of_one_process_share_a_boot_where_the_system_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the uploader's stamps would never be of the boot that the spool knows."""
    monkeypatch.setattr(system_clock, "_BOOT_ID_FILE", tmp_path / "none")
    system_clock._read_boot_id.cache_clear()
    try:
        assert SystemClock().stamp().boot_id == SystemClock().stamp().boot_id != ""
    finally:
        system_clock._read_boot_id.cache_clear()
