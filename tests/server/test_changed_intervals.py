"""Readings that do not say what time they stand for stand for as much as the owner's poll interval tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reference_server.administration import set_device
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, Api, sample

pytestmark = pytest.mark.anyio

BEGIN = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
_ROUNDED = 72 * 0.0005
"""What 72 buckets may lose in their last digit, together."""
MARKS = "SELECT count(*) FROM rollup_marks"


def _row(minute: int, **fields: Any) -> dict[str, Any]:
    at = BEGIN + timedelta(minutes=minute)
    return sample((at - NOW).total_seconds(), pv_power_w=1000, **fields)


async def _set_interval(api: Api, seconds: float | None, name: str | None = None) -> None:
    await set_device(api.dsn, "sh-1", name=name, plant=None, timezone=None, poll_interval_s=seconds)


async def _kwh(api: Api, bucket: str) -> float:
    span = {"from": format_ts(BEGIN), "to": format_ts(BEGIN + timedelta(hours=6)), "bucket": bucket}
    _, answer = await api.get("/v1/series", device_id="sh-1", **span)
    return float(sum(part["pv_kwh"] or 0 for part in answer["series"]))


@pytest.mark.parametrize("seconds", [300, 60, 8])
async def test_an_interval_that_is_set_holds_for_what_is_stored(api: Api, seconds: int) -> None:
    await api.ingest(_row(0, interval_s=0), *(_row(5 * n) for n in range(1, 72)))
    assert await _kwh(api, "1h") == pytest.approx(71 * 15 / 3600, abs=_ROUNDED)
    await _set_interval(api, seconds)
    for bucket in ("1h", "5m", "15m"):
        kwh = await _kwh(api, bucket)
        assert kwh == pytest.approx(71 * min(300, 3 * seconds) / 3600, abs=_ROUNDED), bucket
    await api.ingest(_row(62, interval_s=1))
    assert await _kwh(api, "1h") == pytest.approx(await _kwh(api, "5m"), abs=_ROUNDED)


async def test_only_what_may_change_is_made_anew(api: Api) -> None:
    await api.ingest(*(_row(5 * n, interval_s=5) for n in range(60)), _row(2_000))
    await api.server.refresher.refresh_all()
    assert api.rows(MARKS) == [(0,)]
    await _set_interval(api, 5, name="Roof")  # it counted as 5 s before
    await _set_interval(api, None, name="Roof 2")
    assert api.rows(MARKS) == [(0,)]
    await _set_interval(api, 30)
    assert api.rows(MARKS) == [(1,)]
