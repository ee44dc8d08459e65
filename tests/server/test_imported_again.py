"""History that is imported again, also where raw readings are gone meanwhile and only rollups are left."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from reference_server.history import import_csv
from sungrow_lib.sample import format_ts
from tests.server.conftest import Api, sample

pytestmark = pytest.mark.anyio

DAY: Final = datetime(2021, 7, 1, tzinfo=UTC)
STAMPS: Final = [DAY + timedelta(minutes=5 * n) for n in range(60)]


def _file(folder: Path, stamps: Iterable[datetime], watts: int = 1000) -> Path:
    file = folder / "old.csv"
    file.write_text("ts,pv_power_w\n" + "".join(f"{format_ts(ts)},{watts}\n" for ts in stamps))
    return file


async def _load(api: Api, file: Path) -> str:
    return str(await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=400)))


async def _day(api: Api) -> dict[str, Any]:
    span = {"from": "2021-07-01", "to": "2021-07-02"}
    _, answer = await api.get("/v1/completeness", device_id="sh-1", **span)
    [day] = answer["days"]
    return dict(day)


async def test_what_is_imported_again_behind_the_horizon_is_kept_aside_once(api: Api, tmp_path: Path) -> None:
    file = _file(tmp_path, STAMPS)
    passing = "of 60 only rollups will stay, so old they are (RAW_RETENTION_DAYS)"
    assert await _load(api, file) == f"imported 60, known 0, kept aside 0; {passing}; interval taken: 300 s"
    before, rollups = await _day(api), api.rows("SELECT * FROM rollup_15m ORDER BY bucket")
    await api.server.retention.drop()
    assert api.rows("SELECT count(*) FROM samples") == [(0,)]
    once = (
        "imported 0, known 0, kept aside 60 (60 behind the retention horizon, where rollups stay as they are)"
    )
    assert await _load(api, file) == once
    assert await _day(api) == before
    assert await _load(api, file) == "imported 0, known 60, kept aside 0"
    assert await _load(api, _file(tmp_path, STAMPS, 1001)) == once  # who knows which of them is right?
    assert api.rows("SELECT reason, count(*) FROM kept_aside GROUP BY 1") == [("behind_horizon", 120)]
    assert await _day(api) == before
    assert api.rows("SELECT * FROM rollup_15m ORDER BY bucket") == rollups


async def test_a_moment_that_no_rollup_holds_lacks_once(api: Api, tmp_path: Path) -> None:
    await _load(api, _file(tmp_path, STAMPS[:30]))
    await api.server.retention.drop()
    more = [{"device_id": "sh-1", "ts": format_ts(STAMPS[40]), "pv_power_w": watts} for watts in (1, 2)]
    beside = [ts + timedelta(seconds=seconds) for ts in STAMPS[:3] for seconds in (0, 60)]
    for watts in (1000, 1001):
        await _load(api, _file(tmp_path, beside, watts))  # six moments of a quarter that knows three
    assert (await api.ingest(*more))["inserted"] == 2
    day = await _day(api)
    assert (day["stored"], day["missing"]["behind_horizon"]) == (30, 4)
    assert sum(day["missing"].values()) == day["expected"] - day["stored"]


async def test_a_moment_whose_readings_are_all_rejected_lacks_once(api: Api) -> None:
    await api.ingest(sample(-100), device={"poll_interval_s": 1})
    for watts in ("x", "y"):
        await api.ingest(sample(-50, pv_power_w=watts))
    [day] = (await api.get("/v1/completeness", device_id="sh-1", **{"from": "2026-06-15"}))[1]["days"]
    assert (day["rejected"], day["missing"]["rejected"]) == (2, 1)
