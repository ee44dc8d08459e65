"""Energies against what a house really did: nothing here knows by which rules the server counts.

A house makes known energy at a known pace. Its counter shows that, cut to its digit, whenever it is read;
what the server tells of all time must be that energy, whatever was silent, replaced, imported or forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from reference_server import history
from reference_server.history import import_csv
from reference_server.zones import quarter_of
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, Api, Clock, StartServer

pytestmark = pytest.mark.anyio

STEP: Final = timedelta(minutes=5)
KW: Final = 3.0
Reading = dict[str, Any]
Always = Callable[[datetime], bool]


def never(_at: datetime) -> bool:
    return False


def between(begin: datetime, end: datetime) -> Always:
    return lambda at: begin <= at < end


def house(
    begin: datetime,
    end: datetime,
    *,
    total: float = 500.0,
    silent: Always = never,
    away: Always = never,
    replaced: datetime | None = None,
) -> list[Reading]:
    """Readings of a house that makes 3 kW; those while it is away do not exist, its counter can be silent."""
    rows: list[Reading] = []
    at, made = begin, total
    while at < end:
        if at == replaced:
            made = 2.0
        if not away(at):
            row: Reading = {"at": at, "interval_s": STEP.total_seconds(), "pv_power_w": int(1000 * KW)}
            if not silent(at):
                row["pv_total_kwh"] = int(10 * made + 1e-6) / 10
            rows.append(row)
        at += STEP
        made += KW * (STEP / timedelta(hours=1))
    return rows


def kwh(begin: datetime, end: datetime) -> float:
    return KW * ((end - begin) / timedelta(hours=1))


def as_sent(row: Reading) -> dict[str, Any]:
    return {"device_id": "sh-1", "ts": format_ts(row["at"])} | {n: v for n, v in row.items() if n != "at"}


async def sent(api: Api, rows: Sequence[Reading], model: str | None = "SH10RT") -> None:
    for first in range(0, len(rows), 500):
        await api.ingest(*map(as_sent, rows[first : first + 500]), device={"model": model, "timezone": "UTC"})
    await api.server.refresher.refresh_all()


async def told(api: Api, begin: datetime, end: datetime, bucket: str = "1d") -> list[dict[str, Any]]:
    span = {"from": begin.isoformat(), "to": end.isoformat()}
    status, answer = await api.get("/v1/series", device_id="sh-1", bucket=bucket, **span)
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["series"]
    assert all((one["pv_kwh"] or 0) >= 0 for one in found)
    return found


async def total_of(api: Api, begin: datetime, end: datetime, bucket: str = "1d") -> float:
    return sum(one["pv_kwh"] or 0 for one in await told(api, begin, end, bucket))


async def parts_are_their_quarters(api: Api, begin: datetime, end: datetime) -> None:
    """Five minutes add up to their quarter of an hour, also where a range cuts it."""
    quarters = {one["bucket"]: one["pv_kwh"] or 0 for one in await told(api, begin, end, "15m")}
    for cut in range(1, 16):
        moment = quarter_of(begin) + timedelta(minutes=cut)
        bucket = "5m" if cut % 2 else "15m"
        parts = [*await told(api, begin, moment, bucket), *await told(api, moment, end, bucket)]
        found: dict[str, float] = dict.fromkeys(quarters, 0.0)
        for one in parts:
            start = quarter_of(datetime.fromisoformat(one["bucket"]))
            found[start.astimezone(UTC).isoformat()] += one["pv_kwh"] or 0
        assert found == pytest.approx(quarters, abs=0.002)  # each is rounded to a watt-hour


def show_zeros(rows: list[Reading], begin: datetime, count: int) -> None:
    """Let the counter show 0 for some readings."""
    for row in [row for row in rows if row["at"] >= begin][:count]:
        row["pv_total_kwh"] = 0.0


NEAR: Final = 0.8
"""A quarter of an hour at the first value of all, and a digit at each end."""


@pytest.mark.parametrize("zeros", [0, 1, 3])
async def test_a_silence_that_began_behind_the_horizon_counts_once(
    start_server: StartServer, zeros: int
) -> None:
    """Power was read all the time; half of the silence is frozen when the counter comes back, maybe as 0."""
    begin, horizon = NOW - timedelta(days=4), NOW - timedelta(days=2)
    back = NOW - timedelta(hours=3)
    rows = house(begin, NOW, silent=between(begin + timedelta(days=1), back))
    show_zeros(rows, back, zeros)
    clock = Clock(back - timedelta(days=2))
    async with start_server(clock=clock, raw_retention_days=2) as api:
        for moment in (back - timedelta(days=2), back):  # as they come, so that no row is too old
            clock.now = moment
            await sent(api, [row for row in rows if moment - timedelta(days=2) < row["at"] < moment])
        clock.now = NOW
        frozen = api.rows("SELECT * FROM rollup_15m WHERE bucket < now() ORDER BY bucket")
        first = min(row["at"] for row in rows)
        await sent(api, [row for row in rows if row["at"] >= back])
        for bucket in ("15m", "1h", "1d"):
            assert await total_of(api, begin, NOW, bucket) == pytest.approx(kwh(begin, NOW), abs=NEAR)
        await sent(api, [{"at": NOW - timedelta(hours=1, minutes=2), "pv_power_w": 3000}])  # makes it anew
        assert await total_of(api, begin, NOW) == pytest.approx(kwh(begin, NOW), abs=NEAR)
        await parts_are_their_quarters(api, back, NOW)
        after = api.rows("SELECT * FROM rollup_15m ORDER BY bucket")
        behind = sum(row["at"] < horizon and row["at"].minute % 15 == 0 for row in rows)
        assert after[: behind - 1] == frozen[: behind - 1]
        assert first == begin


async def test_a_replacement_within_a_silence_loses_no_energy(api: Api) -> None:
    """The counter falls silent in the evening; another inverter takes over at midnight, speaks at five."""
    begin, end = datetime(2026, 6, 13, tzinfo=UTC), datetime(2026, 6, 15, tzinfo=UTC)
    midnight = datetime(2026, 6, 14, tzinfo=UTC)
    hours = timedelta(hours=5)
    rows = house(begin, end, silent=between(midnight - hours, midnight + hours), replaced=midnight)
    dice = random.Random(3)
    await sent(api, rows[::2])
    late = rows[1::2]
    dice.shuffle(late)
    await sent(api, late[:100])
    await sent(api, late[100:])
    for bucket in ("1h", "1d"):
        assert await total_of(api, begin, end, bucket) == pytest.approx(kwh(begin, end), abs=NEAR)
    first, second = await told(api, begin, end)
    assert first["pv_kwh"] == pytest.approx(kwh(begin, midnight), abs=NEAR)
    assert second["pv_kwh"] == pytest.approx(kwh(midnight, end), abs=NEAR)


async def test_a_replacement_that_becomes_known_late_brings_the_silence_back(api: Api) -> None:
    """What looked like one long step was two inverters: a late value of the second one, far below, tells."""
    begin = NOW - timedelta(hours=30)
    rows = house(begin, NOW, silent=between(begin + timedelta(hours=8), begin + timedelta(hours=20)))
    await sent(api, rows)
    assert await total_of(api, begin, NOW) == pytest.approx(kwh(begin, NOW), abs=NEAR)
    other = begin + timedelta(hours=14, minutes=1)
    await sent(api, [{"at": other, "interval_s": 60.0, "pv_power_w": 3000, "pv_total_kwh": 2.0}])
    # From there to the old inverter's value no step can lead: the integral stands in on both sides, but not
    # in the quarters of an hour in which the two values were read.
    assert await total_of(api, begin, NOW) == pytest.approx(kwh(begin, NOW), abs=2 * NEAR)


@pytest.mark.parametrize("zeros", [1, 2, 3])
@pytest.mark.parametrize("early", [0, 5, 10])
async def test_a_zero_that_ends_a_silence_counts_it_once(api: Api, zeros: int, early: int) -> None:
    """Power was read all the time: either the integral stands in, or the step that follows covers it."""
    begin, gone = NOW - timedelta(hours=16), NOW - timedelta(hours=14)
    back = NOW - timedelta(hours=4, minutes=early)
    rows = house(begin, NOW, silent=between(gone, back))
    show_zeros(rows, back, zeros)
    await sent(api, [row for row in rows if row["at"] != back + timedelta(minutes=10)])
    for bucket in ("15m", "1h", "1d"):
        assert await total_of(api, begin, NOW, bucket) == pytest.approx(kwh(begin, NOW), abs=NEAR)
    await sent(api, rows)
    for bucket in ("15m", "1h", "1d"):
        assert await total_of(api, begin, NOW, bucket) == pytest.approx(kwh(begin, NOW), abs=NEAR)


@pytest.mark.parametrize("total", [2.0, 500.0])
@pytest.mark.parametrize("seconds", [10, 290])
async def test_a_zero_before_a_quarter_begins_loses_nothing_of_an_outage(
    api: Api, seconds: int, total: float
) -> None:
    """The first value after an outage is 0; the next one, right again, is of the next quarter of an hour."""
    begin, gone = NOW - timedelta(hours=20), NOW - timedelta(hours=10)
    back = NOW - timedelta(hours=4)
    rows = house(begin, NOW, away=between(gone, back), total=total)
    zero = {"at": back - timedelta(seconds=seconds), "interval_s": 60.0, "pv_power_w": 0, "pv_total_kwh": 0.0}
    await sent(api, rows[:100])
    await sent(api, [row for row in rows[100:] if row["at"] >= back])
    await sent(api, [zero])
    await sent(api, rows)  # and what is left of the time before the outage comes last
    for bucket in ("5m", "15m", "1d"):
        assert await total_of(api, begin, NOW, bucket) == pytest.approx(kwh(begin, NOW), abs=NEAR)


@pytest.mark.parametrize("total", [12.0, 105.0])
@pytest.mark.parametrize("order", ["as read", "zeros last"])
async def test_a_young_counter_that_shows_0_for_long_is_not_counted_anew(
    api: Api, total: float, order: str
) -> None:
    """Nobody knows the device's power; the largest inverter could have made all of it since the zeros."""
    begin = datetime(2026, 6, 15, tzinfo=UTC)
    rows = house(begin, NOW, total=total)
    show_zeros(rows, begin + timedelta(hours=2), 6)
    zeros = [row for row in rows if row["pv_total_kwh"] == 0]
    if order == "zeros last":
        await sent(api, [row for row in rows if row not in zeros], model=None)
    await sent(api, rows, model=None)
    lost = kwh(begin, begin + timedelta(minutes=35))
    for bucket in ("15m", "1h", "1d"):
        assert await total_of(api, begin, NOW, bucket) == pytest.approx(kwh(begin, NOW) - lost, abs=NEAR)


async def test_a_new_counter_of_an_unknown_device_counts_from_0_on(api: Api) -> None:
    begin = datetime(2026, 6, 15, tzinfo=UTC)
    gone = begin + timedelta(minutes=10)
    rows = house(begin, NOW, total=0.0, away=between(gone, gone + timedelta(hours=4)))
    show_zeros(rows, begin, 5)
    await sent(api, rows, model=None)
    for bucket in ("15m", "1h", "1d"):
        assert await total_of(api, begin, NOW, bucket) == pytest.approx(kwh(begin, NOW), abs=NEAR)


def as_csv(file: Path, rows: Sequence[Reading]) -> Path:
    lines = ["ts,interval_s,pv_power_w,pv_total_kwh"]
    for row in rows:
        value = row.get("pv_total_kwh")
        told = "" if value is None else value
        lines.append(f"{format_ts(row['at'])},{row['interval_s']},{row['pv_power_w']},{told}")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("silent_h", [0, 6], ids=["speaking", "silent at the seam"])
@pytest.mark.parametrize("known_before", [False, True], ids=["first history", "a hole"])
async def test_an_import_that_ends_at_frozen_rollups(
    start_server: StartServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    silent_h: int,
    *,
    known_before: bool,
) -> None:
    """The readings after the import are long dropped: the next value is known from the rollups alone."""
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 150)  # several parts, each of which meets what is frozen
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    begin, seam, end = now - timedelta(days=20), now - timedelta(days=17), now - timedelta(days=15)
    earlier = seam - timedelta(days=2)
    silent = between(seam - timedelta(hours=silent_h), seam + timedelta(hours=silent_h / 2))
    rows = house(begin, end, silent=silent)
    live = [row for row in rows if row["at"] >= seam or (known_before and row["at"] < earlier)]
    missing = [row for row in rows if row not in live]
    clock = Clock(end)
    async with start_server(clock=clock, raw_retention_days=10) as api:
        await sent(api, live)
        clock.now = now
        await api.server.retention.drop()
        assert not api.rows("SELECT FROM samples")
        half = len(missing) // 2
        for number, part in enumerate((missing[half:], missing[:half])):
            file = as_csv(tmp_path / f"{number}.csv", part)
            result = await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=10))
            assert result.inserted == len(part)
        for bucket in ("15m", "1h", "1d"):
            assert await total_of(api, begin, end, bucket) == pytest.approx(kwh(begin, end), abs=NEAR)
        days = await told(api, begin, end)
        longest = timedelta(days=1, hours=1.5 * silent_h)  # the silence counts on the day on which it ends
        assert max(day["pv_kwh"] for day in days) <= kwh(begin, begin + longest) * 1.3
