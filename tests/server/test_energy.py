"""Energy of days, hours and months: counters that reset late, jump back and are replaced; else from power."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from reference_server.administration import set_device
from reference_server.storage.schema_sql import COUNTERS
from reference_server.zones import local_day, start_of_day
from tests.server.conftest import Api, Clock, StartServer
from tests.server.test_rollups import as_sample, days_of, expected, plain_rollup, stored_rollup

pytestmark = pytest.mark.anyio

STEP: Final = timedelta(minutes=5)
HOURS: Final = STEP / timedelta(hours=1)
COUNTER_OF: Final = {
    "pv": "pv_total_kwh",
    "import": "import_total_kwh",
    "export": "export_total_kwh",
    "charge": "battery_charge_total_kwh",
    "discharge": "battery_discharge_total_kwh",
}
ENERGIES: Final = (*COUNTER_OF, "load")
A_STEP_KWH: Final = 6.0 * HOURS
"""Most energy between two readings: what a reset or a replacement may cost."""


@dataclass(frozen=True)
class Site:
    """A house on the day in question, the day before and the day after."""

    zone: str
    day: date

    @property
    def begin(self) -> datetime:
        return start_of_day(self.day - timedelta(days=1), self.info)

    @property
    def end(self) -> datetime:
        return start_of_day(self.day + timedelta(days=2), self.info)

    @property
    def info(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    def at(self, hours: float, days: int = 0) -> datetime:
        """Moment so many hours after the beginning of the day, or of another."""
        return start_of_day(self.day + timedelta(days=days), self.info) + timedelta(hours=hours)


def powers(site: Site, at: datetime) -> dict[str, float]:
    """What happens at a moment, in kW."""
    local = at.astimezone(site.info)
    hour = local.hour + local.minute / 60
    pv = max(0.0, 6 * math.sin(math.pi * (hour - 6) / 12))
    load = 0.4 + 1.1 * (18 <= hour < 22)
    battery = 1.5 if 9 <= hour < 12 else -0.9 if hour >= 19 or hour < 2 else 0.0
    export = pv - load - battery
    return {
        "pv": pv, "load": load, "export": max(0.0, export), "import": max(0.0, -export),
        "charge": max(0.0, battery), "discharge": max(0.0, -battery),
    }  # fmt: skip


def rows_of(site: Site) -> tuple[list[dict[str, Any]], dict[datetime, dict[str, float]]]:
    """Readings with all that goes wrong with counters, and the energies of the time each stands for."""
    rows: list[dict[str, Any]] = []
    truth: dict[datetime, dict[str, float]] = {}
    total = dict.fromkeys(ENERGIES, 5000.04)
    daily, at = 0.0, site.begin - timedelta(hours=1)
    replaced, set_back = site.at(12.5), site.at(15, -1)
    while at < site.end:
        power = powers(site, at)
        is_heard = not site.at(4) <= at < site.at(5.5)
        if at == replaced:
            total = dict.fromkeys(ENERGIES, 7.77)
        if at == set_back:
            total["pv"] -= 0.5  # the inverter lost what it had not saved
        for name in ENERGIES:
            total[name] += power[name] * HOURS
        # The inverter's own midnight: ten minutes late, and its clock does not know of summer time.
        daily = 0.0 if at == site.at(0, local_offset(site, at)) + 2 * STEP else daily + power["pv"] * HOURS
        if is_heard:
            truth[at] = {name: power[name] * HOURS for name in ENERGIES}
            rows.append(_row(site, at, power, total, daily))
        at += STEP
    return rows, truth


def local_offset(site: Site, at: datetime) -> int:
    """Number of the local day, 0 for the day in question."""
    return (local_day(at, site.info) - site.day).days


def _row(
    site: Site, at: datetime, power: dict[str, float], total: dict[str, float], daily: float
) -> dict[str, Any]:
    watts = {name: round(1000 * kw) for name, kw in power.items()}
    row: dict[str, Any] = {
        "at": at,
        "interval_s": STEP.total_seconds(),
        "pv_power_w": watts["pv"],
        "load_power_w": watts["load"],
        "export_power_w": watts["export"] - watts["import"],
        "battery_power_w": watts["charge"] - watts["discharge"],
        "pv_daily_kwh": math.floor(10 * daily) / 10,
    }
    counters = {counter: math.floor(10 * total[name]) / 10 for name, counter in COUNTER_OF.items()}
    if at == site.at(10, -1):
        counters = dict.fromkeys(counters, 0.0)  # a restart: zero for a moment
    if at == site.at(16):
        counters["pv_total_kwh"] = round(counters["pv_total_kwh"] + 6553.6, 1)  # a damaged high word
    if at == site.at(0) or at == site.at(0, 1):
        counters["export_total_kwh"] -= 0.1  # back by one digit, just at midnight
    if site.at(18, -1) <= at < site.at(20, -1):
        del counters["battery_discharge_total_kwh"]
    if site.at(0, 1) <= at:
        del counters["import_total_kwh"]  # the new inverter's meter is not set up for it
    return row | {name: round(value, 1) for name, value in counters.items()}


SITES: Final = [
    Site("Europe/Amsterdam", date(2026, 3, 29)),  # 23 hours
    Site("Europe/Amsterdam", date(2025, 10, 26)),  # 25 hours
    Site("Asia/Kathmandu", date(2026, 6, 14)),  # 5:45 before UTC
    Site("Australia/Lord_Howe", date(2026, 4, 5)),  # 24 1/2 hours
]


async def _series(api: Api, **query: str) -> list[dict[str, Any]]:
    status, answer = await api.get("/v1/series", device_id="sh-1", **query)
    assert status == 200, answer
    buckets: list[dict[str, Any]] = answer["series"]
    return buckets


async def _loaded(api: Api, site: Site) -> tuple[list[dict[str, Any]], dict[datetime, dict[str, float]]]:
    await set_device(api.dsn, "sh-1", name=None, plant=None, timezone=site.zone, poll_interval_s=300)
    rows, truth = rows_of(site)
    late = [row for number, row in enumerate(rows) if number % 7 == 3]  # they come after younger ones
    await api.ingest(*(as_sample(row) for row in rows if row not in late))
    await api.server.refresher.refresh_all()
    await api.ingest(*map(as_sample, late))
    return rows, truth


def _by_day(site: Site, truth: dict[datetime, dict[str, float]]) -> dict[date, dict[str, float]]:
    days: dict[date, dict[str, float]] = defaultdict(lambda: dict.fromkeys(ENERGIES, 0.0))
    for at, energies in truth.items():
        for name, kwh in energies.items():
            days[local_day(at, site.info)][name] += kwh
    return days


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"{site.zone.rpartition('/')[2]} {site.day}")
async def test_energies_of_days_are_right_whatever_counters_do(start_server: StartServer, site: Site) -> None:
    async with start_server(clock=Clock(site.end)) as api:
        rows, truth = await _loaded(api, site)
        days: dict[str, dict[str, Any]] = {}
        for month in {f"{day:%Y-%m}-01" for day in _by_day(site, truth)}:
            days |= {b["bucket"][:10]: b for b in await _series(api, frame="month", at=month)}
        plain = plain_rollup(rows, poll_ms=300_000)
        assert stored_rollup(api, "rollup_15m", "bucket") == expected(plain)
        assert stored_rollup(api, "rollup_day", "day") == expected(days_of(plain, site.info))
    for day, energies in _by_day(site, truth).items():
        if not site.day - timedelta(days=1) <= day <= site.day + timedelta(days=1):
            continue  # the hour before: of that day not more is known
        told = days[day.isoformat()]
        for name, kwh in energies.items():
            assert told[f"{name}_kwh"] >= 0
            lost = 3 if name == "pv" else 1  # by the replacement; and by nonsense at its begin and at its end
            assert told[f"{name}_kwh"] == pytest.approx(kwh, abs=0.2 + lost * A_STEP_KWH), (day, name)
        assert told["energy_source"]["load"] == "integral"
        assert told["energy_source"]["pv"] == "counter"
        assert told["residual_kwh"] == pytest.approx(told["pv_kwh"] - energies["pv"], abs=0.01)
        assert told["self_consumption_pct"] == pytest.approx(
            100 * (told["pv_kwh"] - told["export_kwh"]) / told["pv_kwh"], abs=0.01
        )
        assert told["autarky_pct"] == pytest.approx(
            100 * (told["load_kwh"] - told["import_kwh"]) / told["load_kwh"], abs=0.01
        )
    before, after = ((site.day + timedelta(days=n)).isoformat() for n in (-1, 1))
    assert (
        days[before]["energy_source"]["discharge"] == "counter"
    )  # it was silent for two hours and came back
    assert days[site.day.isoformat()]["energy_source"]["import"] == "counter"
    assert days[after]["energy_source"]["import"] == "integral"
    assert abs(days[site.day.isoformat()]["residual_kwh"]) > 0.1  # what the replacement has cost is shown


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"{site.zone.rpartition('/')[2]} {site.day}")
async def test_hours_add_up_to_the_day_and_none_is_negative(start_server: StartServer, site: Site) -> None:
    async with start_server(clock=Clock(site.end)) as api:
        await _loaded(api, site)
        hours = await _series(api, frame="day", at=site.day.isoformat())
        month = await _series(api, frame="month", at=site.day.isoformat())
        [day] = [b for b in month if b["bucket"].startswith(site.day.isoformat())]
        years = await _series(api, frame="all")
        month_total = [b for b in years if b["bucket"].startswith(f"{site.day:%Y-%m}")]
        increases = ", ".join(f"min({counter.name}_increase)" for counter in COUNTERS)
        [least] = api.rows(f"SELECT {increases} FROM rollup_15m")
    assert min(value for value in least if value is not None) == 0
    assert len(hours) == math.ceil((site.at(0, 1) - site.at(0)) / timedelta(hours=1))
    for name in ENERGIES:
        known = [hour[f"{name}_kwh"] for hour in hours if hour[f"{name}_kwh"] is not None]
        assert min(known) >= 0, name
        assert sum(known) == pytest.approx(day[f"{name}_kwh"], abs=0.01), name
        of_days = sum(b[f"{name}_kwh"] or 0 for b in month)
        assert month_total[0][f"{name}_kwh"] == pytest.approx(of_days, abs=0.01), name
    gap = [hour for hour in hours if hour["coverage"] == 0]
    assert [hour["bucket"] for hour in gap] == [site.at(4).astimezone(site.info).isoformat()]
    assert {gap[0][f"{name}_kwh"] for name in ENERGIES} == {None}
    assert gap[0]["energy_source"] is None


@pytest.mark.parametrize("total", [{"pv_total_kwh": 900.0}, {}], ids=["with a total", "without"])
async def test_the_counter_of_the_inverters_day_may_reset_when_it_likes(
    api: Api, total: dict[str, float]
) -> None:
    midnight = datetime(2026, 6, 14, 22, 0, tzinfo=UTC)
    await set_device(api.dsn, "sh-1", name=None, plant=None, timezone="Europe/Amsterdam", poll_interval_s=300)
    for offset, daily in ((-10, 31.4), (-5, 31.4), (0, 31.4), (5, 31.4), (10, 0.0), (15, 0.0), (20, 0.1)):
        at = midnight + timedelta(minutes=offset)
        row = {"at": at, "interval_s": 300.0, "pv_daily_kwh": daily, "pv_power_w": 0} | total
        await api.ingest(as_sample(row))
    month = await _series(api, frame="month", at="2026-06-14")
    assert [(b["bucket"][:10], b["pv_kwh"]) for b in month if b["sample_count"]] == [
        ("2026-06-14", 0),
        ("2026-06-15", 0),
    ]
