"""The rules of dating readings, one by one."""

from __future__ import annotations

import pytest

from sungrow_lib.spool.clock import (
    ESTIMATED,
    FROM_SERVER,
    BootStamp,
    ClockReading,
    Dated,
    Line,
    ServerDate,
    TrustedClock,
    Undated,
    date_waiting,
    is_far_ahead,
    judge_clock,
)
from sungrow_lib.spool.system_clock import SystemClock

BOOT = "boot-1"
WALL = 1_780_315_200_000
DAY_MS = 86_400_000


def now(wall_ms: int = WALL, *, synchronised: bool = False) -> ClockReading:
    return ClockReading(wall_ms, BootStamp(BOOT, 100_000), synchronised)


def server(ahead_ms: int, *, boot_id: str = BOOT) -> ServerDate:
    """Seen half a minute ago; its clock now differs by ``ahead_ms`` from WALL."""
    return ServerDate(WALL + ahead_ms - 30_000, BootStamp(boot_id, 70_000))


OWN_CLOCK = TrustedClock(BOOT, WALL - 100_000)


@pytest.mark.parametrize(
    ("synchronised", "seen", "last_ts", "waiting_ms", "expected"),
    [
        pytest.param(True, None, None, 0, OWN_CLOCK, id="kernel"),
        pytest.param(False, None, None, 0, None, id="nobody vouches"),
        pytest.param(False, server(0), None, 0, OWN_CLOCK, id="server agrees"),
        pytest.param(False, server(120_000), None, 0, OWN_CLOCK, id="two minutes still agree"),
        pytest.param(False, server(120_001), None, 0, None, id="ahead by more"),
        pytest.param(False, server(-120_001), None, 0, None, id="behind by more"),
        pytest.param(False, server(0, boot_id="boot-0"), None, 0, None, id="seen in another boot"),
        pytest.param(True, None, WALL, 0, OWN_CLOCK, id="as late as the last ts"),
        pytest.param(True, server(0), WALL + 1, 0, None, id="behind the last ts"),
        pytest.param(False, server(9 * DAY_MS), None, DAY_MS - 1, None, id="not a day yet"),
        pytest.param(False, None, None, 9 * DAY_MS, None, id="a day, but no server"),
        pytest.param(
            False,
            server(9 * DAY_MS),
            None,
            DAY_MS,
            TrustedClock(BOOT, WALL + 9 * DAY_MS - 100_000, FROM_SERVER),
            id="after a day the server's date serves",
        ),
        pytest.param(
            True,
            server(-5_000),
            WALL + 1,
            DAY_MS,
            TrustedClock(BOOT, WALL - 105_000, FROM_SERVER),
            id="a bogus last ts does not stop the spool for good",
        ),
    ],
)
def test_who_may_date(
    synchronised: bool,  # noqa: FBT001 - a parameter of the table above
    seen: ServerDate | None,
    last_ts: int | None,
    waiting_ms: int,
    expected: TrustedClock | None,
) -> None:
    reading = now(synchronised=synchronised)
    assert judge_clock(reading, server=seen, last_ts=last_ts, waiting_ms=waiting_ms) == expected


def undated(seq: int, ts: int, boot_ms: int, boot_id: str = BOOT) -> Undated:
    return Undated(seq, ts, BootStamp(boot_id, boot_ms))


def test_readings_of_this_boot_are_dated_by_the_boot_clock() -> None:
    rows = [undated(4, 0, 90_000), undated(5, 5_000, 95_000)]
    dated = date_waiting(rows, OWN_CLOCK, WALL, lines={}, last_ts=None)
    assert dated == [Dated(4, WALL - 10_000, None), Dated(5, WALL - 5_000, None)]


def test_a_server_dated_reading_says_so() -> None:
    clock = TrustedClock(BOOT, WALL - 100_000, FROM_SERVER)
    assert date_waiting([undated(4, 0, 90_000)], clock, WALL, lines={}, last_ts=None) == [
        Dated(4, WALL - 10_000, FROM_SERVER)
    ]


def test_an_earlier_boot_is_dated_along_its_line() -> None:
    rows = [undated(4, 0, 7_000, "boot-0"), undated(5, 0, 107_000, "boot-0")]
    line = Line(first_ms=7_000, first_ts=WALL - DAY_MS, length_ms=100_000, room_ms=100_000, source=ESTIMATED)
    dated = date_waiting(rows, OWN_CLOCK, WALL, lines={"boot-0": line}, last_ts=None)
    assert dated == [Dated(4, WALL - DAY_MS, ESTIMATED), Dated(5, WALL - DAY_MS + 100_000, ESTIMATED)]
    squeezed = line._replace(room_ms=50_000)
    dated = date_waiting(rows, OWN_CLOCK, WALL, lines={"boot-0": squeezed}, last_ts=None)
    assert [row.ts for row in dated] == [WALL - DAY_MS, WALL - DAY_MS + 50_000]


def test_dates_increase_strictly_after_the_last_one() -> None:
    rows = [undated(4, 0, 90_000), undated(5, 0, 90_000), undated(6, 0, 99_000)]
    dated = date_waiting(rows, OWN_CLOCK, WALL, lines={}, last_ts=WALL - 10_000)
    assert [row.ts for row in dated] == [WALL - 9_999, WALL - 9_998, WALL - 1_000]


@pytest.mark.parametrize("source", [None, FROM_SERVER])
def test_a_reading_that_had_to_be_moved_behind_later_ones_says_that_nobody_vouches_for_its_date(
    source: str | None,
) -> None:
    clock = OWN_CLOCK._replace(source=source)
    rows = [undated(4, 0, 90_000), undated(5, 0, 98_500), undated(6, 0, 99_800)]
    dated = date_waiting(rows, clock, WALL, lines={}, last_ts=WALL - 1_000)
    assert dated == [
        Dated(4, WALL - 999, ESTIMATED),
        Dated(5, WALL - 998, source),
        Dated(6, WALL - 200, source),
    ]
    line = Line(first_ms=0, first_ts=WALL - DAY_MS, length_ms=100_000, room_ms=100_000, source=source)
    [row] = date_waiting([undated(4, 0, 7_000, "boot-0")], clock, WALL, lines={"boot-0": line}, last_ts=WALL)
    assert row == Dated(4, WALL + 1, ESTIMATED)


def test_far_ahead_is_more_than_ten_minutes() -> None:
    assert is_far_ahead(WALL + 600_001, WALL)
    assert not is_far_ahead(WALL + 600_000, WALL)


def test_the_machine_has_clocks() -> None:
    clock = SystemClock()
    first, second = clock.read(), clock.read()
    assert first.stamp.boot_id == second.stamp.boot_id != ""
    assert 0 < first.stamp.boot_ms <= second.stamp.boot_ms
    assert abs(second.wall_ms - first.wall_ms) < 60_000


def test_a_waiting_reading_whose_own_date_was_right_keeps_it() -> None:
    """Both clocks are read in whole milliseconds, one after the other: they differ by one or two."""
    clock = TrustedClock("boot", started_ms=1_000_000)
    right = Undated(1, ts=1_050_002, stamp=BootStamp("boot", 50_000))
    wrong = Undated(2, ts=9_000_000, stamp=BootStamp("boot", 55_000))
    dated = date_waiting([right, wrong], clock, 1_060_000, lines={}, last_ts=None)
    assert [row.ts for row in dated] == [1_050_002, 1_055_000]


def test_a_waiting_reading_a_little_ahead_is_not_left_in_the_future() -> None:
    clock = TrustedClock("boot", started_ms=1_000_000)
    ahead = Undated(1, ts=1_050_900, stamp=BootStamp("boot", 50_000))
    [row] = date_waiting([ahead], clock, 1_050_100, lines={}, last_ts=None)
    assert row.ts == 1_050_000
