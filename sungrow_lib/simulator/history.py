"""The past of a modelled house, by the quarter and lately by the minute; its registers go on from there."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain, pairwise
from typing import Any, Final, TextIO

from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import Tier
from sungrow_lib.registers.identity import identify
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import SungrowSample, format_ts
from sungrow_lib.simulator.energies import Energies
from sungrow_lib.simulator.equipment import HouseKind
from sungrow_lib.simulator.house import MINUTE, QUARTER, House, HouseState, close_look, settle, spans
from sungrow_lib.simulator.images import LivingInverter, RegisterImage, kwh

_POLL_S: Final = 5
"""Seconds between the polls an edge would have merged."""


def modelled_past(
    device_id: str, house: House, image: RegisterImage, until: datetime, *, since: datetime | None = None
) -> Iterator[SungrowSample]:
    """Yield all that is known of a house from its birth to ``until``: quarters of an hour, then minutes.

    The last days are told by the minute, as the registers would have told them: with trackers, phases,
    states. A house of the same seed settled until the same moment stands where the last row was taken.

    Args:
        device_id: which device the rows are of.
        house: a house just born.
        image: the inverter in it.
        until: where to end (aware).
        since: leave out what ended before (aware); the house lives through it all the same.
    """
    if since is not None:
        settle(house, since, past_until=until)
    yield from modelled_history(device_id, house, close_look(until, house.zone))
    yield from modelled_readings(device_id, house, image, until)


def modelled_readings(
    device_id: str, house: House, image: RegisterImage, until: datetime, length: timedelta = MINUTE
) -> Iterator[SungrowSample]:
    """Yield a reading of the inverter's registers at the last second of each span that ends by ``until``.

    The registers are those an edge polls: the inverter's own history takes longer to decode than all else.
    """
    inverter = LivingInverter(house, image)
    identity = identify(inverter.words_at(house.now))
    normalizer = Normalizer(device_id, identity)
    plan = ReadPlan.for_quantities(identity.family, identity.context, tiers=tuple(Tier))
    polled = [(block.space, number) for block in plan.blocks for number in block.numbers]
    seconds = length.total_seconds()
    for moment in spans(house, until, length):
        served = inverter.words_at(moment).by_register
        words = RegisterWords({key: served[key] for key in polled if key in served})
        normalizer = normalizer.learning(words)
        reading = normalizer.normalize(words, ts=moment, interval_s=seconds)
        yield reading.model_copy(update={"sample_count": max(1, round(seconds / _POLL_S))})


def modelled_history(device_id: str, house: House, until: datetime) -> Iterator[SungrowSample]:
    """Yield what an edge would have merged into quarters of an hour, from the house's birth to ``until``.

    Powers are the exact means, counters the last readings, other gauges the mean of the row's two ends. A row
    is dated with the quarter's last second. The house is left where the last row was taken, so that its
    registers go on from there.

    Args:
        device_id: which device the rows are of.
        house: a house just born.
        until: where to end (aware); the quarter running then is left out.
    """
    describe = _hybrid_values if house.kind is HouseKind.HYBRID else _string_values
    lived = (house.state for _ in spans(house, until, QUARTER))
    for before, after in pairwise(chain((house.state,), lived)):
        seconds = (after.ts - before.ts).total_seconds()
        yield SungrowSample(
            device_id=device_id,
            ts=after.ts,
            interval_s=seconds,
            sample_count=max(1, round(seconds / _POLL_S)),
            **describe(before, after),
        )


def write_csv(samples: Iterable[SungrowSample], stream: TextIO) -> int:
    """Write samples as CSV with a column for each field that occurs; `sungrow-server import` reads it.

    An empty cell means unknown; a list is a JSON list.

    Returns:
        How many rows were written.
    """
    rows = [
        sample.content() | {"device_id": sample.device_id, "ts": format_ts(sample.ts)} for sample in samples
    ]
    used = set().union({"device_id", "ts"}, *rows)
    columns = [name for name in SungrowSample.model_fields if name in used]
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return len(rows)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _hybrid_values(before: HouseState, after: HouseState) -> dict[str, Any]:
    """What an SH hybrid tells of a quarter, by quantity."""
    mean, today, total = _Means(before, after), after.today, after.total
    values = _common_values(before, after) | {
        "pv_daily_kwh": kwh(today.pv),
        "pv_total_kwh": kwh(total.pv),
        "battery_power_w": mean.power("charge") - mean.power("discharge"),
        "battery_charge_daily_kwh": kwh(today.charge),
        "battery_charge_total_kwh": kwh(total.charge),
        "battery_charge_from_pv_daily_kwh": kwh(today.charge),
        "battery_charge_from_pv_total_kwh": kwh(total.charge),
        "battery_discharge_daily_kwh": kwh(today.discharge),
        "battery_discharge_total_kwh": kwh(total.discharge),
        "load_power_w": mean.power("load"),
        "export_power_w": mean.power("exported") - mean.power("imported"),
        "export_daily_kwh": kwh(today.exported),
        "export_total_kwh": kwh(total.exported),
        "export_from_pv_daily_kwh": kwh(today.exported),
        "export_from_pv_total_kwh": kwh(total.exported),
        "import_daily_kwh": kwh(today.imported),
        "import_total_kwh": kwh(total.imported),
        "direct_use_daily_kwh": kwh(today.direct),
        "direct_use_total_kwh": kwh(total.direct),
        "output_daily_kwh": kwh(today.output),
        "output_total_kwh": kwh(total.output),
    }
    if before.battery is not None and after.battery is not None:
        values["battery_soc_pct"] = (before.battery.soc_pct + after.battery.soc_pct) / 2
        values["battery_voltage_v"] = (before.battery.voltage_v + after.battery.voltage_v) / 2
        values["battery_temp_c"] = (before.battery.temp_c + after.battery.temp_c) / 2
    return values


def _string_values(before: HouseState, after: HouseState) -> dict[str, Any]:
    """What a string inverter without a meter tells of a quarter, by quantity."""
    return _common_values(before, after) | {
        "pv_daily_kwh": kwh(after.today.output),
        "pv_total_kwh": kwh(after.total.output),
        "running_time_total_h": after.total.running_s // 3600,
        "running_time_daily_min": after.today.running_s // 60,
    }


def _common_values(before: HouseState, after: HouseState) -> dict[str, Any]:
    mean = _Means(before, after)
    return {
        "pv_power_w": mean.power("pv"),
        "active_power_w": mean.power("output"),
        "inverter_temp_c": (before.inverter_temp_c + after.inverter_temp_c) / 2,
        "grid_frequency_hz": (before.frequency_hz + after.frequency_hz) / 2,
        "phase_voltage_v": [
            (one + other) / 2
            for one, other in zip(before.phase_voltage_v, after.phase_voltage_v, strict=True)
        ],
    }


class _Means:
    """Mean powers between two states, from the exact energies."""

    def __init__(self, before: HouseState, after: HouseState) -> None:
        self._before: Energies = before.total
        self._after: Energies = after.total
        self._seconds = (after.ts - before.ts).total_seconds()

    def power(self, energy: str) -> float:
        """W over the span of one of the counters of :class:`Energies`."""
        return float((getattr(self._after, energy) - getattr(self._before, energy)) / self._seconds)
