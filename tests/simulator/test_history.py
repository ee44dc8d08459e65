from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from sungrow_lib.quantities import QUANTITIES, QuantityKind
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.equipment import HouseKind
from sungrow_lib.simulator.history import modelled_history, modelled_past, write_csv
from sungrow_lib.simulator.house import MINUTE, House, birth, close_look, settled_house, spans
from sungrow_lib.simulator.images import SG20RT, SH80RT20, LivingInverter, RegisterImage, image_named

ZONE = ZoneInfo("Etc/GMT+3")
UNTIL = datetime(2026, 9, 1, 13, 7, 12, tzinfo=UTC)
DAYS = 4


def history(kind: HouseKind = HouseKind.HYBRID) -> tuple[House, Iterator[SungrowSample]]:
    house = House(9, ZONE, kind=kind, born=birth(UNTIL, ZONE, days=DAYS))
    return house, modelled_history("roof", house, UNTIL)


@cache  # it takes a moment, and nobody changes it
def past(model: str) -> tuple[House, tuple[SungrowSample, ...]]:
    image = image_named(model)
    house = House(9, ZONE, kind=image.kind, born=birth(UNTIL, ZONE, days=DAYS))
    return house, tuple(modelled_past("roof", house, image, UNTIL))


@pytest.mark.parametrize("image", [SH80RT20, SG20RT], ids=["SH8.0RT-20", "SG20RT"])
def test_the_last_days_are_told_by_the_minute_with_everything_the_registers_tell(
    image: RegisterImage,
) -> None:
    _, rows = past(image.model)
    begin = close_look(UNTIL, ZONE)
    close = [row for row in rows if row.ts >= begin]
    assert len(rows) - len(close) == 96
    assert len(close) == 3 * 24 * 60 + 10 * 60 + 7
    assert close[-1].ts == datetime(2026, 9, 1, 13, 6, 59, tzinfo=UTC)
    for before, after in pairwise(rows):
        length = timedelta(minutes=1 if after.ts >= begin else 15)
        assert after.ts - before.ts == length
        assert after.interval_s == length.total_seconds()
    for row in close:
        assert row.sample_count == 12
        assert row.running_state
        assert None not in (row.inverter_temp_c, *(row.phase_voltage_v or [None]))
        assert row.mppt_voltage_v
        assert row.mppt_current_a
        assert any(row.mppt_current_a) or (row.pv_power_w or 0) < 100
    for name in ("pv_total_kwh", "pv_daily_kwh", "output_total_kwh"):
        counted = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        falls = sum(one > other for one, other in pairwise(counted))
        assert falls == (DAYS if "daily" in name else 0), name


@pytest.mark.parametrize(
    "since",
    [
        pytest.param(close_look(UNTIL, ZONE) - timedelta(hours=2, minutes=10), id="in a quarter"),
        pytest.param(UNTIL - timedelta(hours=1), id="in a minute"),
    ],
)
@pytest.mark.parametrize("image", [SH80RT20, SG20RT], ids=["SH8.0RT-20", "SG20RT"])
def test_a_past_told_from_a_moment_on_has_the_rows_from_there(image: RegisterImage, since: datetime) -> None:
    _, rows = past(image.model)
    house = House(9, ZONE, kind=image.kind, born=birth(UNTIL, ZONE, days=DAYS))
    told = islice(modelled_past("roof", house, image, UNTIL, since=since), 60)
    assert list(told) == [row for row in rows if row.ts >= since][:60]


@pytest.mark.parametrize("kind", HouseKind)
def test_every_quarter_has_one_row_dated_with_its_last_second(kind: HouseKind) -> None:
    rows = list(history(kind)[1])
    assert len(rows) == DAYS * 96 + 10 * 4  # it is 10:07 there
    assert rows[-1].ts == datetime(2026, 9, 1, 12, 59, 59, tzinfo=UTC)
    for before, after in pairwise(rows):
        assert after.ts - before.ts == timedelta(minutes=15)
        assert after.interval_s == 900
        assert after.sample_count == 180
    assert rows[0].interval_s == 899  # from the birth at midnight to the quarter's last second
    assert {row.device_id for row in rows} == {"roof"}


def test_counters_grow_by_what_the_mean_powers_say() -> None:
    rows = list(history()[1])
    step = 0.1 + 900 * 0.5 / 3.6e6  # a step of the counter, and half a watt for a quarter of an hour
    for before, after in pairwise(rows):
        for power, counter in (
            (max(0, after.pv_power_w or 0), "pv_total_kwh"),
            (after.active_power_w or 0, "output_total_kwh"),
        ):
            growth = getattr(after, counter) - getattr(before, counter)
            assert growth == pytest.approx(power * 900 / 3.6e6, abs=step)
    assert rows[-1].pv_total_kwh is not None
    assert rows[-1].pv_total_kwh > 20


def test_mean_powers_balance() -> None:
    for row in history()[1]:
        assert row.pv_power_w is not None
        assert row.battery_power_w is not None
        assert row.load_power_w is not None
        assert row.export_power_w is not None
        losses = row.pv_power_w - row.battery_power_w - row.load_power_w - row.export_power_w
        assert 10 <= losses <= 200


def test_values_are_plausible_and_counters_never_fall() -> None:
    last: dict[str, float] = {}
    for row in history()[1]:
        for quantity in QUANTITIES:
            value = getattr(row, quantity.name)
            if value is None or not quantity.is_numeric:
                continue
            for item in value if isinstance(value, list) else [value]:
                assert quantity.is_plausible(item), quantity.name
            if quantity.kind is QuantityKind.COUNTER:
                assert value >= last.get(quantity.name, 0.0)
                last[quantity.name] = value
    assert len(last) >= 8


@pytest.mark.parametrize("image", [SH80RT20, SG20RT], ids=["SH8.0RT-20", "SG20RT"])
def test_the_registers_go_on_where_the_history_ends(image: RegisterImage) -> None:
    house, rows = past(image.model)
    last = rows[-1]
    settled = settled_house(9, ZONE, kind=image.kind, until=UNTIL, days=DAYS)
    assert settled.state == house.state
    inverter = LivingInverter(settled, image)
    words = inverter.words_at(last.ts)
    values = RegisterMap.for_family(image.family).decode(words)
    if image is SH80RT20:
        assert values["total_pv_generation"] == last.pv_total_kwh
        assert values["total_import_energy"] == last.import_total_kwh
        assert values["daily_battery_charge"] == last.battery_charge_daily_kwh
        soc = values["battery_soc"]
        assert isinstance(soc, float)
        assert soc == pytest.approx(last.battery_soc_pct, abs=15)
    else:
        assert values["total_power_yields_high_resolution"] == last.pv_total_kwh
        assert values["daily_power_yields"] == last.pv_daily_kwh
        assert values["daily_running_time"] == last.running_time_daily_min
    later = RegisterMap.for_family(image.family).decode(inverter.words_at(UNTIL))
    assert later["clock_minute"] == 7


def test_a_house_settled_later_has_lived_on_from_where_the_history_ends() -> None:
    house = settled_house(9, ZONE, kind=HouseKind.HYBRID, until=UNTIL, days=DAYS)
    assert len(list(spans(house, UNTIL + timedelta(minutes=8), MINUTE))) == 8
    later = settled_house(9, ZONE, kind=HouseKind.HYBRID, until=UNTIL + timedelta(minutes=8), days=DAYS)
    assert later.now == datetime(2026, 9, 1, 13, 14, 59, tzinfo=UTC)
    assert house.state == later.state


def test_a_string_inverter_leaves_unknown_what_it_cannot_know() -> None:
    for row in history(HouseKind.STRING)[1]:
        assert row.load_power_w is row.export_power_w is row.battery_power_w is row.battery_soc_pct is None


def test_csv_has_a_column_for_what_occurs_and_reads_back_as_the_same_samples() -> None:
    rows = list(history()[1])
    stream = io.StringIO()
    assert write_csv(iter(rows), stream) == len(rows)
    stream.seek(0)
    read = list(csv.DictReader(stream))
    assert list(read[0])[:4] == ["device_id", "ts", "pv_power_w", "pv_daily_kwh"]
    assert "mppt_voltage_v" not in read[0]
    for row, line in zip(rows, read, strict=True):
        values: dict[str, object] = {
            name: text if name in {"device_id", "ts"} else json.loads(text) for name, text in line.items()
        }
        assert SungrowSample.model_validate(values) == row


def test_an_empty_history_is_an_empty_table() -> None:
    stream = io.StringIO()
    assert write_csv(iter(()), stream) == 0
    assert stream.getvalue() == "device_id,ts\n"
