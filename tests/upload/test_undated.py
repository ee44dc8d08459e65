"""The alarm of the clock: it says why readings wait for a date, in each case."""

from __future__ import annotations

import pytest

from sungrow_lib.spool import ClockState
from sungrow_lib.upload.undated import undated_words


def state(
    *, vouched: bool = False, offset_s: float | None = None, behind: dict[str, float] | None = None
) -> ClockState:
    return ClockState(vouched and not behind, offset_s, vouched, server_serves=False, behind_s=behind or {})


@pytest.mark.parametrize(
    ("clock", "said", "unsaid"),
    [
        (state(), ["not synchronised", "server's date is not known"], ["After a day"]),
        (
            state(offset_s=-3_000.0),
            ["not synchronised", "50 min behind the server's", "After a day the server's date"],
            ["not known", "not reached"],
        ),
        (state(offset_s=86_400.0 * 3), ["3 days ahead of the server's"], ["not known"]),
        (state(offset_s=-130.0), ["2 min behind"], []),
        (
            state(vouched=True, offset_s=0.0, behind={"roof": 60.0, "garage": 10_800.0}),
            ["3 h behind the date of the last reading of garage", "ran ahead", "passed that date"],
            ["not synchronised", "not known", "start NTP"],
        ),
        (state(vouched=True), ["being dated"], ["not synchronised"]),
    ],
)
def test_the_cause_is_the_true_one(clock: ClockState, said: list[str], unsaid: list[str]) -> None:
    words = undated_words(7, clock)
    assert words.startswith("7 readings wait for a trusted clock: ")
    assert [part for part in said if part not in words] == []
    assert [part for part in unsaid if part in words] == []


def test_one_reading_is_one() -> None:
    assert undated_words(1, state()).startswith("1 reading waits ")
