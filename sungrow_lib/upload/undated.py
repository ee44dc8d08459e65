"""Why readings wait for a date, in words."""

from __future__ import annotations

from typing import Final

from sungrow_lib.spool import ClockState

_UNITS: Final = ((172_800.0, 86_400.0, "days"), (7_200.0, 3_600.0, "h"), (120.0, 60.0, "min"))
"""From so many seconds on, so many of them are one of what."""


def undated_words(waiting: int, clock: ClockState) -> str:
    """Say why readings wait for a trusted clock, and what to do.

    Args:
        waiting: how many wait.
        clock: what is known of the clock.
    """
    number = "1 reading waits" if waiting == 1 else f"{waiting} readings wait"
    return f"{number} for a trusted clock: {_cause(clock)}"


def _cause(clock: ClockState) -> str:
    if clock.is_vouched:
        if not clock.behind_s:
            return "there is one now, and they are being dated."
        device_id, behind_s = max(clock.behind_s.items(), key=lambda item: item[1])
        return (
            f"this machine's is {_span(behind_s)} behind the date of the last reading of {device_id}. If it "
            "is right now, it ran ahead then: they are dated once it has passed that date, or after a day by "
            "the server's. If it is wrong, see to it that NTP sets it (timedatectl)."
        )
    if clock.offset_s is None:
        return (
            "this machine's is not synchronised, and the server's date is not known; start NTP "
            "(timedatectl), or see why the server is not reached."
        )
    direction = "behind" if clock.offset_s < 0 else "ahead of"
    return (
        f"this machine's is not synchronised, and {_span(abs(clock.offset_s))} {direction} the server's; "
        "start NTP, or set it (timedatectl). After a day the server's date is taken."
    )


def _span(seconds: float) -> str:
    for least, unit_s, name in _UNITS:
        if seconds >= least:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{seconds:.0f} s"
