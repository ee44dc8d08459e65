"""The quarter of an hour at the retention horizon, made anew when the readings before it are dropped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest

from tests.server.conftest import NOW, Api, Clock, StartServer
from tests.server.test_energy_truth import (
    NEAR,
    Reading,
    between,
    house,
    kwh,
    never,
    parts_are_their_quarters,
    sent,
    show_zeros,
    told,
)

pytestmark = pytest.mark.anyio

KEPT: Final = timedelta(days=3)
BACK: Final = NOW - KEPT
"""The first reading after an outage of days, in the quarter of an hour that the horizon will cut."""
GONE: Final = BACK - timedelta(days=4)
PATTERNS: Final = (
    "speaking",
    "silent before",
    "silent after",
    "silent around",
    "zeros before",
    "a zero after",
    "zeros around",
)
BEGIN: Final = GONE - timedelta(days=1)


def _rows(pattern: str) -> list[Reading]:
    hours = timedelta(hours=3)
    silent = {
        "silent before": between(GONE - hours, GONE),
        "silent after": between(BACK, BACK + timedelta(minutes=40)),
        "silent around": between(GONE - hours, BACK + timedelta(minutes=40)),
    }
    away = between(GONE, BACK)
    rows = house(BEGIN, NOW, away=away, silent=silent.get(pattern, never))
    if pattern == "zeros before":
        show_zeros(rows, GONE - timedelta(minutes=10), 2)
    if pattern == "a zero after":
        show_zeros(rows, BACK, 1)
    if pattern == "zeros around":
        show_zeros(rows, GONE - timedelta(minutes=10), 3)
    return rows


async def _energies(api: Api) -> dict[str, list[Any]]:
    return {
        bucket: [one["pv_kwh"] for one in await told(api, BEGIN, NOW, bucket)]
        for bucket in ("15m", "1h", "1d")
    }


@pytest.mark.parametrize("shift", [0, 15], ids=["first quarter", "second quarter"])
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_what_is_made_anew_at_the_horizon_needs_no_readings_behind_it(
    start_server: StartServer, pattern: str, shift: int
) -> None:
    rows = _rows(pattern)
    clock = Clock(BEGIN)
    async with start_server(clock=clock, raw_retention_days=KEPT.days) as api:
        for day in range(9):  # as they come, so that no row is too old
            clock.now = min(BEGIN + timedelta(days=day), NOW)
            await sent(api, [row for row in rows if clock.now - timedelta(days=1) <= row["at"] < clock.now])
        before = await _energies(api)
        clock.now = NOW + timedelta(minutes=7 + shift)
        await api.server.retention.drop()
        assert api.rows(f"SELECT count(*) FROM samples WHERE ts < timestamptz '{GONE}'") == [(0,)]
        late = {"at": BACK + timedelta(minutes=shift + 12), "interval_s": 120.0, "pv_power_w": 3000}
        await sent(api, [late])
        assert await _energies(api) == before
        await parts_are_their_quarters(api, BACK + timedelta(minutes=15 + shift), BACK + timedelta(hours=1))
        for bucket in before.values():
            assert sum(filter(None, bucket)) == pytest.approx(kwh(BEGIN, NOW), abs=NEAR)
