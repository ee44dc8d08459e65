"""Register images of real inverters, brought to life by a modelled house.

An image is what a real device answered; the house's values are written onto it. Whatever the device left
as a hole (0xFFFF) stays a hole, and what it refused stays refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.words import WORD_MAX, RegisterWords, Space
from sungrow_lib.simulator import images_sg, images_sh
from sungrow_lib.simulator.equipment import HouseKind
from sungrow_lib.simulator.house import HISTORY_STEP, LIVE_STEP, QUARTER, House, HouseState, settled_house

_WATCHED: Final = timedelta(hours=1)
"""A time longer ago, in which nobody looked, is caught up with in larger steps."""
_TENTH_KWH: Final = 360_000
"""Watt-seconds in 0.1 kWh, the step of the inverter's energy counters."""
_YEARS_KEPT: Final = range(2015, 2030)
"""In the capture of January 2024 the tenth year holds what that month holds; fifteen are filled."""
_YEARS_UNUSED: Final = 5
_RUNNING: Final = 0x0040
_SH_STANDBY: Final = 0x0008
_SG_RUN: Final = 0x0000
_SG_STANDBY: Final = 0x1400
_CO2_KG_PER_KWH: Final = 0.7


@dataclass(frozen=True, slots=True)
class RegisterImage:
    """What one real inverter answered.

    Attributes:
        model: its name.
        family: whose register table it speaks.
        kind: the house it belongs to.
        words: every register it answers, holes as 0xFFFF; what is missing is refused.
        living: the values a house writes onto it, by register name.
        states: raw words of its state registers, by document number.
        diary: name of the registers that keep a history, by energy: of today, the month, the year and
            the years.
    """

    model: str
    family: Family
    kind: HouseKind
    words: Mapping[tuple[Space, int], int]
    living: Callable[[HouseState], Mapping[str, float]]
    states: Callable[[HouseState], Mapping[int, int]]
    diary: Mapping[str, tuple[str, str, str, str]] = field(default_factory=dict)


class LivingInverter:
    """An inverter in a living house: its registers at any moment.

    Args:
        house: the house; it is advanced as time passes.
        image: the device whose registers it fills.
        clock: returns the present moment, aware; replaced in tests.
    """

    def __init__(
        self, house: House, image: RegisterImage, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._house = house
        self._image = image
        self._clock = clock or (lambda: datetime.now(UTC))
        self._map = RegisterMap.for_family(image.family)
        self._words: tuple[datetime, RegisterWords] | None = None
        self._memory: tuple[float, dict[tuple[Space, int], int]] | None = None

    @property
    def model(self) -> str:
        """Name of the inverter's model."""
        return self._image.model

    @property
    def family(self) -> Family:
        """Whose register table it speaks."""
        return self._image.family

    def words(self) -> RegisterWords:
        """All registers as they are now."""
        return self.words_at(self._clock())

    def words_at(self, moment: datetime) -> RegisterWords:
        """All registers at ``moment`` (aware). Time does not run backwards: the past answers as now."""
        self._house.advance(moment - _WATCHED, HISTORY_STEP)
        self._house.advance(moment, LIVE_STEP)
        if self._words is None or self._words[0] != self._house.now:
            self._words = (self._house.now, self._fill(self._house.state))
        return self._words[1]

    def _fill(self, state: HouseState) -> RegisterWords:
        filled = dict(self._image.words)
        filled.update(self._encoded(self._image.living(state)))
        filled.update(self._memory_at(state.ts))
        for number, word in self._image.states(state).items():
            filled[Space.INPUT, number] = word
        filled.update(_inverter_clock(state.local))
        return RegisterWords(filled)

    def _encoded(self, values: Mapping[str, Value]) -> dict[tuple[Space, int], int]:
        words = {}
        for name, value in values.items():
            register = self._map.by_name(name)
            for number, word in zip(register.block.numbers, register.encode(value), strict=True):
                words[register.space, number] = word
        return words

    def _memory_at(self, moment: datetime) -> dict[tuple[Space, int], int]:
        """The inverter's history; it writes it down at the end of each quarter of an hour."""
        quarter = moment.timestamp() // QUARTER.total_seconds()
        if self._memory is None or self._memory[0] != quarter:
            self._memory = (quarter, self._encoded(self._remembered()))
        return self._memory[1]

    def _remembered(self) -> dict[str, Value]:
        """The registers in which the inverter keeps its history."""
        values: dict[str, Value] = {}
        for energy, (today, by_day, by_month, by_year) in self._image.diary.items():
            page = self._house.diary.pages[energy]
            years = (page.years.get(year, 0) for year in _YEARS_KEPT)
            values[today] = _array(page.quarters)
            values[by_day] = _array(map(kwh, page.days))
            values[by_month] = _array(map(kwh, page.months))
            values[by_year] = _array((*map(kwh, years), *[None] * _YEARS_UNUSED))
        return values


def kwh(watt_seconds: int) -> float:
    """An energy as the inverter's counters show it: whole tenths of a kWh, rounded down."""
    return watt_seconds // _TENTH_KWH / 10


def sh_values(state: HouseState) -> dict[str, float]:
    """Everything an SH hybrid knows of the house, by register name, in its units."""
    return _common(state) | _sh_powers(state) | _sh_energies(state) | _sh_battery(state)


def sg_values(state: HouseState) -> dict[str, float]:
    """What a string inverter without a meter knows of the house, by register name, in its units."""
    values = _common(state)
    values |= {f"phase_{phase}_current": current for phase, current in _phase_currents(state)}
    return values | {
        "daily_power_yields": kwh(state.today.output),
        "total_power_yields": state.total.output // (10 * _TENTH_KWH),
        "total_power_yields_high_resolution": kwh(state.total.output),
        "monthly_power_yields": kwh(state.month_output),
        "total_running_time": state.total.running_s // 3600,
        "daily_running_time": state.today.running_s // 60,
        # This device's firmware carries hundredths of a hertz in a register documented as tenths.
        "grid_frequency": state.frequency_hz * 10,
        "grid_frequency_high_resolution": state.frequency_hz,
        "bus_voltage": _bus_voltage(state),
        "total_active_power": max(0, state.flows.ac_w),
        "total_reactive_power": 0,
    }


def _common(state: HouseState) -> dict[str, float]:
    """What both families call by the same name."""
    values: dict[str, float] = {
        "internal_temperature": state.inverter_temp_c,
        "total_apparent_power": abs(state.flows.ac_w),
        "total_dc_power": state.flows.pv_w,
        "power_factor": 1 if state.is_running else 0,
    }
    for tracker, (voltage, current) in enumerate(
        zip(state.tracker_voltage_v, state.tracker_current_a, strict=True), 1
    ):
        values[f"mppt_{tracker}_voltage"] = voltage
        values[f"mppt_{tracker}_current"] = current
    for phase, voltage in zip("abc", state.phase_voltage_v, strict=True):
        values[f"phase_{phase}_voltage"] = voltage
    return values


def _sh_powers(state: HouseState) -> dict[str, float]:
    flows = state.flows
    export_w = flows.export_w - flows.import_w
    values: dict[str, float] = {
        "reactive_power": 0,
        "grid_frequency": state.frequency_hz,
        "grid_frequency_alt": state.frequency_hz,
        "grid_frequency_high_resolution": state.frequency_hz,
        "bus_voltage": _bus_voltage(state),
        "bus_voltage_mirror": _bus_voltage(state),
        "internal_temperature_mirror": state.inverter_temp_c,
        "power_factor_mirror": 1 if state.is_running else 0,
        "total_dc_power_mirror": flows.pv_w,
        "total_active_power": flows.ac_w,
        "total_active_power_mirror": flows.ac_w,
        "load_power": flows.load_w,
        "load_power_alt": flows.load_w,
        "export_power": export_w,
        "grid_export_power_alt": export_w,
        "meter_active_power": -export_w,
    }
    for phase, power in zip("abc", state.phase_import_w, strict=True):
        values[f"meter_phase_{phase}_active_power"] = power
    for phase, current in _phase_currents(state):
        values[f"phase_{phase}_current"] = values[f"phase_{phase}_current_mirror"] = current
    for phase, voltage in zip("abc", state.phase_voltage_v, strict=True):
        values[f"phase_{phase}_voltage_mirror"] = voltage
    for tracker, (voltage, current) in enumerate(
        zip(state.tracker_voltage_v, state.tracker_current_a, strict=True), 1
    ):
        values[f"mppt_{tracker}_voltage_mirror"] = voltage
        values[f"mppt_{tracker}_current_mirror"] = current
    return values


def _sh_energies(state: HouseState) -> dict[str, float]:
    today, total = state.today, state.total
    used_pct = 100 * (today.pv - today.exported) / today.pv if today.pv else 100
    return {
        "daily_output_energy": kwh(today.output),
        "total_output_energy": kwh(total.output),
        "daily_pv_generation": kwh(today.pv),
        "total_pv_generation": kwh(total.pv),
        "daily_export_from_pv": kwh(today.exported),
        "total_export_from_pv": kwh(total.exported),
        "daily_battery_charge_from_pv": kwh(today.charge),
        "total_battery_charge_from_pv": kwh(total.charge),
        "co2_reduction": kwh(total.pv) * _CO2_KG_PER_KWH,
        "daily_direct_consumption": kwh(today.direct),
        "total_direct_consumption": kwh(total.direct),
        "daily_direct_consumption_mirror": kwh(today.direct),
        "total_direct_consumption_mirror": kwh(total.direct),
        "daily_battery_charge": kwh(today.charge),
        "total_battery_charge": kwh(total.charge),
        "daily_battery_discharge": kwh(today.discharge),
        "total_battery_discharge": kwh(total.discharge),
        "self_consumption_today": min(100.0, max(0.0, used_pct)),
        "daily_import_energy": kwh(today.imported),
        "total_import_energy": kwh(total.imported),
        "daily_import_energy_mirror": kwh(today.imported),
        "total_import_energy_mirror": kwh(total.imported),
        "daily_export_energy": kwh(today.exported),
        "total_export_energy": kwh(total.exported),
        "total_export_energy_mirror": kwh(total.exported),
    }


def _sh_battery(state: HouseState) -> dict[str, float]:
    """Battery registers; on this firmware 13021 and 13022 are magnitudes and 13001 tells the direction."""
    battery = state.battery
    if battery is None:
        return {}
    charging_w = state.flows.charge_w - state.flows.discharge_w
    return {
        "battery_power": abs(charging_w),
        "battery_power_signed": -charging_w,
        "battery_current": abs(battery.current_a),
        "battery_current_signed": -battery.current_a,
        "battery_voltage": battery.voltage_v,
        "battery_voltage_mirror": battery.voltage_v,
        "battery_soc": battery.soc_pct,
        "battery_soc_mirror": battery.soc_pct,
        "battery_temperature": battery.temp_c,
        "battery_temperature_mirror": battery.temp_c,
    }


def _sh_states(state: HouseState) -> dict[int, int]:
    flows = state.flows
    seen = (
        flows.pv_w,
        flows.charge_w,
        flows.discharge_w,
        flows.load_w,
        flows.export_w,
        flows.import_w,
    )
    return {
        13000: _RUNNING if state.is_running else _SH_STANDBY,
        13001: sum(1 << bit for bit, power in enumerate(seen) if power > 0),
    }


def _sg_states(state: HouseState) -> dict[int, int]:
    return {5038: _SG_RUN if state.is_running else _SG_STANDBY}


def _phase_currents(state: HouseState) -> list[tuple[str, float]]:
    """A per phase, + out of the inverter, which feeds all three alike."""
    return [
        (phase, state.flows.ac_w / 3 / voltage)
        for phase, voltage in zip("abc", state.phase_voltage_v, strict=True)
    ]


def _bus_voltage(state: HouseState) -> float:
    """V between the converters: above the highest tracker and the peak of the grid."""
    return max(600.0, *state.tracker_voltage_v) + 18.0 * math.tanh(state.flows.ac_w / 4000)


def _array(items: Iterable[float | None]) -> Value:
    numbers: list[int | float | None] = [*items]
    return numbers


def _inverter_clock(local: datetime) -> dict[tuple[Space, int], int]:
    parts = (local.year, local.month, local.day, local.hour, local.minute, local.second)
    return {(Space.HOLDING, number): part for number, part in enumerate(parts, 5000)}


def _expand(
    space: Space, answered: Iterable[tuple[int, int]], runs: Mapping[int, str]
) -> dict[tuple[Space, int], int]:
    """Words of a restated image: holes first, then what the device said."""
    words = {(space, number): WORD_MAX for first, last in answered for number in range(first, last + 1)}
    for first, text in runs.items():
        for number, word in enumerate(text.split(), first):
            words[space, number] = int(word, 16)
    return words


SH80RT20: Final = RegisterImage(
    model=images_sh.MODEL,
    family=Family.SH,
    kind=HouseKind.HYBRID,
    words=_expand(Space.INPUT, images_sh.ANSWERED_INPUT, images_sh.INPUT)
    | _expand(Space.HOLDING, images_sh.ANSWERED_HOLDING, images_sh.HOLDING),
    living=sh_values,
    states=_sh_states,
    diary={
        "pv": (
            "pv_power_today_15min",
            "pv_energy_by_day_of_month",
            "pv_energy_by_month",
            "pv_energy_by_year",
        ),
        "direct": (
            "direct_consumption_power_today_15min",
            "direct_consumption_by_day",
            "direct_consumption_by_month",
            "direct_consumption_by_year",
        ),
        "exported": (
            "export_power_from_pv_today_15min",
            "export_from_pv_by_day",
            "export_from_pv_by_month",
            "export_from_pv_by_year",
        ),
        "charge": (
            "battery_charge_power_today_15min",
            "battery_charge_from_pv_by_day",
            "battery_charge_from_pv_by_month",
            "battery_charge_from_pv_by_year",
        ),
    },
)
"""A hybrid with a battery of 9.6 kWh, on its LAN port."""

SG20RT: Final = RegisterImage(
    model=images_sg.MODEL,
    family=Family.SG,
    kind=HouseKind.STRING,
    words=_expand(Space.INPUT, images_sg.ANSWERED_INPUT, images_sg.INPUT)
    | _expand(Space.HOLDING, images_sg.ANSWERED_HOLDING, images_sg.HOLDING),
    living=sg_values,
    states=_sg_states,
)
"""A string inverter without a meter, behind a WiNet-S."""

IMAGES: Final[Mapping[str, RegisterImage]] = {image.model: image for image in (SH80RT20, SG20RT)}
"""The images by model."""


def image_named(model: str) -> RegisterImage:
    """Return the image of ``model``, whatever its case.

    Raises:
        UsageError: there is none; the message names those there are.
    """
    for name, image in IMAGES.items():
        if name.casefold() == model.casefold():
            return image
    raise UsageError(f"there is no modelled {model}; choose one of {', '.join(IMAGES)}")


def living_inverter(
    model: str,
    *,
    zone: ZoneInfo,
    seed: int,
    start: datetime,
    days: int = 365,
    clock: Callable[[], datetime] | None = None,
) -> LivingInverter:
    """Make an inverter of ``model`` in a house that has stood for a while when live operation begins.

    Args:
        model: one of :data:`IMAGES`.
        zone: the site's time zone; the inverter's clock runs on it.
        seed: which weather and household; equal seeds give equal readings.
        start: when live operation begins (aware).
        days: how many days it has stood by then, which are replayed first: a year takes seconds.
        clock: returns the present moment, aware; the system's clock by default.

    Raises:
        UsageError: there is no such model, or ``start`` has no offset.
    """
    image = image_named(model)
    house = settled_house(seed, zone, kind=image.kind, until=start, days=days)
    return LivingInverter(house, image, clock=clock)
