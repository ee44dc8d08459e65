"""One declarative description per measured quantity.

Everything else that lists quantities follows from this table or is checked against it: the fields of
:class:`~sungrow_lib.sample.SungrowSample`, the decoder, the API schema, the database columns, the
documentation table and the metric names.

A value of a quantity is a multiple of its resolution, ``10 ** -decimals`` of its unit. It is rounded to
it once, before the spool; the database holds the integer number of resolution steps. So a value is the
same number in the spool, on the wire, in the database and in every answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """The register maps Sungrow uses; a device speaks one of them per Modbus unit."""

    SH = "sh"
    SG = "sg"
    BATTERY = "battery"
    IHM = "ihm"


class QuantityKind(StrEnum):
    """How values of a quantity behave over time, and so how they may be aggregated."""

    GAUGE = "gauge"
    """A momentary value: averaged over time, with minimum and maximum."""
    COUNTER = "counter"
    """Only ever grows until the device resets it: aggregated by its increase."""
    DAILY_COUNTER = "daily_counter"
    """A counter that the inverter resets at its own midnight; advisory, never summed."""
    STATE = "state"
    """A word from a fixed or open vocabulary."""
    CODES = "codes"
    """The set of codes active now; an empty list means read and none active."""
    META = "meta"
    """Says something about the reading itself."""


class Tier(StrEnum):
    """How often a quantity is read."""

    FAST = "fast"
    SLOW = "slow"
    IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Source:
    """A register that can supply a quantity.

    Attributes:
        register: its name in the family's register table.
        negate: whether the register's sign is opposite to the quantity's.
    """

    register: str
    negate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a value means, how finely it is known and where it comes from.

    Attributes:
        name: field name, ending in the unit where there is one.
        title: what a person calls it.
        unit: printed unit, empty for none.
        kind: behaviour over time.
        decimals: decimal digits of the resolution; 0 makes the values integers.
        low: least plausible value, in the unit.
        high: greatest plausible value; it also decides how many bytes a stored value takes.
        length: most items of a list quantity (trackers, phases, strings); None for a single value.
        tier: how often it is read.
        sign: what a positive value means, where that needs saying.
        sources: per family the registers that supply it, best first. For a list: one tuple per item.
    """

    name: str
    title: str
    unit: str
    kind: QuantityKind = QuantityKind.GAUGE
    decimals: int = 0
    low: float = 0.0
    high: float = 0.0
    length: int | None = None
    tier: Tier = Tier.FAST
    sign: str = ""
    sources: Mapping[Family, tuple[tuple[Source, ...], ...]] = field(default_factory=dict)

    @property
    def is_numeric(self) -> bool:
        """Whether values are numbers stored as integers of the resolution."""
        return self.kind not in {QuantityKind.STATE, QuantityKind.CODES} and bool(self.high)

    @property
    def is_signed(self) -> bool:
        """Whether negative values are meaningful."""
        return self.low < 0

    @property
    def factor(self) -> int:
        """Resolution steps per unit."""
        return int(10**self.decimals)

    @property
    def storage_bytes(self) -> int:
        """Bytes of the stored integer: 2 where the plausible range fits, else 4."""
        reach = max(abs(self.low), abs(self.high)) * self.factor
        return 2 if reach <= _INT2_MAX else 4

    @property
    def storage_limit(self) -> int:
        """Greatest magnitude, in resolution steps, the stored integer can hold."""
        return _INT2_MAX if self.storage_bytes == 2 else _INT4_MAX  # noqa: PLR2004 - bytes of an int2

    def to_steps(self, value: float) -> int:
        """Number of resolution steps nearest to ``value`` (in the unit)."""
        return round(value * self.factor)

    def from_steps(self, steps: int) -> float:
        """Value in the unit of a number of resolution steps: an int when there are no decimals."""
        return steps / self.factor if self.decimals else steps

    def is_plausible(self, value: float) -> bool:
        """Whether ``value`` (in the unit) lies in the plausible range."""
        return math.isfinite(value) and self.low <= value <= self.high

    def columns(self) -> Iterator[str]:
        """Names of the database columns that hold it: one, or one per list item (counted from 1)."""
        if self.length is None or self.kind is QuantityKind.CODES:
            yield self.name
            return
        for item in range(1, self.length + 1):
            yield f"{self.name}_{item}"


_INT2_MAX: Final = 2**15 - 1
_INT4_MAX: Final = 2**31 - 1

_GAUGE = QuantityKind.GAUGE
_COUNTER = QuantityKind.COUNTER
_DAILY = QuantityKind.DAILY_COUNTER
_SLOW = Tier.SLOW

_POWER_LIMIT: Final = 2_000_000.0
"""W; an order of magnitude above the largest string inverter (SG350HX)."""
_ENERGY_LIMIT: Final = 200_000_000.0
"""kWh; lifetime of the largest string inverter many times over."""
_DAY_LIMIT: Final = 10_000.0
"""kWh; 24 h of the largest string inverter."""


def _from(**families: str) -> dict[Family, tuple[tuple[Source, ...], ...]]:
    """Sources written ``sh="best, second"``; a leading minus negates; lists as ``item 1 | item 2``."""
    return {
        Family(family): tuple(
            tuple(Source(name.strip().lstrip("-"), name.strip().startswith("-")) for name in item.split(","))
            for item in text.split("|")
        )
        for family, text in families.items()
    }


def _numbered(pattern: str, count: int) -> str:
    return "|".join(pattern.format(number) for number in range(1, count + 1))


def _phases(pattern: str) -> str:
    return "|".join(pattern.format(phase) for phase in "abc")


_SH_ALARMS = "inverter_alarm|battery_alarm|bms_alarm|bms_alarm_2"
_SH_FAULTS = (
    "grid_side_fault|system_fault_1|system_fault_2|dc_side_fault|permanent_fault|bdc_side_fault|"
    "bdc_side_permanent_fault|battery_fault|bms_protection|bms_fault_1|bms_fault_2"
)

QUANTITIES: Final[tuple[Quantity, ...]] = (
    # --- sun -------------------------------------------------------------------------------------------
    Quantity(
        name="pv_power_w",
        title="PV power",
        unit="W",
        high=_POWER_LIMIT,
        sign=">= 0, DC production",
        sources=_from(sh="total_dc_power, total_dc_power_mirror", sg="total_dc_power"),
    ),
    Quantity(
        name="pv_daily_kwh",
        title="PV energy today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sign="counter of the inverter's day",
        sources=_from(sh="daily_pv_generation", sg="daily_power_yields"),
    ),
    Quantity(
        name="pv_total_kwh",
        title="PV energy, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_pv_generation", sg="total_power_yields_high_resolution, total_power_yields"),
    ),
    Quantity(
        name="mppt_voltage_v",
        title="Tracker voltage",
        unit="V",
        decimals=1,
        high=2000,
        length=16,
        sources=_from(sh=_numbered("mppt_{}_voltage", 10), sg=_numbered("mppt_{}_voltage", 16)),
    ),
    Quantity(
        name="mppt_current_a",
        title="Tracker current",
        unit="A",
        decimals=1,
        high=200,
        length=16,
        sources=_from(sh=_numbered("mppt_{}_current", 10), sg=_numbered("mppt_{}_current", 16)),
    ),
    Quantity(
        name="string_current_a",
        title="String current",
        unit="A",
        decimals=2,
        high=100,
        length=32,
        tier=_SLOW,
        sources=_from(sg=_numbered("string_{}_current", 32)),
    ),
    Quantity(
        name="insulation_resistance_kohm",
        title="Insulation resistance of the array",
        unit="kohm",
        high=65_535,
        tier=_SLOW,
        sources=_from(
            sh="array_insulation_resistance, array_insulation_resistance_lan",
            sg="array_insulation_resistance",
        ),
    ),
    # --- battery ---------------------------------------------------------------------------------------
    Quantity(
        name="battery_power_w",
        title="Battery power",
        unit="W",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        sign="+ charging, - discharging; null when the direction cannot be known",
        sources=_from(sh="-battery_power_signed, -battery_power", ihm="-battery_power"),
    ),
    Quantity(
        name="battery_current_a",
        title="Battery current",
        unit="A",
        decimals=1,
        low=-3000,
        high=3000,
        sign="+ charging, - discharging; null when the direction cannot be known",
        sources=_from(sh="-battery_current_signed, -battery_current"),
    ),
    Quantity(
        name="battery_voltage_v",
        title="Battery voltage",
        unit="V",
        decimals=1,
        high=2000,
        sources=_from(sh="battery_voltage, battery_voltage_mirror", battery="battery_unit_voltage"),
    ),
    Quantity(
        name="battery_soc_pct",
        title="Battery state of charge",
        unit="%",
        decimals=1,
        high=100,
        sources=_from(sh="battery_soc, battery_soc_mirror", battery="battery_unit_soc", ihm="battery_soc"),
    ),
    Quantity(
        name="battery_soh_pct",
        title="Battery state of health",
        unit="%",
        decimals=1,
        high=100,
        sources=_from(sh="battery_soh, battery_soh_mirror", battery="battery_unit_soh"),
    ),
    Quantity(
        name="battery_temp_c",
        title="Battery temperature",
        unit="°C",
        decimals=1,
        low=-40,
        high=100,
        sources=_from(
            sh="battery_temperature, battery_temperature_mirror", battery="battery_unit_temperature"
        ),
    ),
    Quantity(
        name="battery_capacity_kwh",
        title="Battery capacity",
        unit="kWh",
        decimals=2,
        high=10_000,
        tier=_SLOW,
        sources=_from(sh="battery_capacity_high_resolution, battery_capacity", ihm="total_battery_capacity"),
    ),
    Quantity(
        name="battery_charge_daily_kwh",
        title="Battery charge today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_battery_charge"),
    ),
    Quantity(
        name="battery_charge_total_kwh",
        title="Battery charge, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_battery_charge", battery="battery_unit_total_charge"),
    ),
    Quantity(
        name="battery_charge_from_pv_daily_kwh",
        title="Battery charge from PV today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_battery_charge_from_pv"),
    ),
    Quantity(
        name="battery_charge_from_pv_total_kwh",
        title="Battery charge from PV, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_battery_charge_from_pv"),
    ),
    Quantity(
        name="battery_discharge_daily_kwh",
        title="Battery discharge today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_battery_discharge"),
    ),
    Quantity(
        name="battery_discharge_total_kwh",
        title="Battery discharge, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_battery_discharge", battery="battery_unit_total_discharge"),
    ),
    Quantity(
        name="battery_cell_voltage_max_v",
        title="Highest cell voltage",
        unit="V",
        decimals=4,
        high=6,
        tier=_SLOW,
        sources=_from(battery="cell_voltage_max"),
    ),
    Quantity(
        name="battery_cell_voltage_min_v",
        title="Lowest cell voltage",
        unit="V",
        decimals=4,
        high=6,
        tier=_SLOW,
        sources=_from(battery="cell_voltage_min"),
    ),
    Quantity(
        name="battery_module_temp_max_c",
        title="Warmest battery module",
        unit="°C",
        decimals=1,
        low=-40,
        high=100,
        tier=_SLOW,
        sources=_from(battery="module_temperature_max"),
    ),
    Quantity(
        name="battery_module_temp_min_c",
        title="Coldest battery module",
        unit="°C",
        decimals=1,
        low=-40,
        high=100,
        tier=_SLOW,
        sources=_from(battery="module_temperature_min"),
    ),
    # --- house and grid --------------------------------------------------------------------------------
    Quantity(
        name="load_power_w",
        title="Household consumption",
        unit="W",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        sign="+ consuming; negative where another source feeds the house",
        sources=_from(
            sh="load_power, load_power_alt",
            sg="load_power, household_consumption_16",
            ihm="load_active_power",
        ),
    ),
    Quantity(
        name="export_power_w",
        title="Grid power",
        unit="W",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        sign="+ exporting, - importing",
        sources=_from(
            sh="export_power, -meter_active_power, grid_export_power_alt",
            sg="-meter_power",
            ihm="-grid_active_power",
        ),
    ),
    Quantity(
        name="export_daily_kwh",
        title="Exported energy today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_export_energy", sg="daily_export_energy"),
    ),
    Quantity(
        name="export_total_kwh",
        title="Exported energy, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(
            sh="total_export_energy, total_export_energy_mirror",
            sg="total_export_energy",
            ihm="grid_export_energy",
        ),
    ),
    Quantity(
        name="export_from_pv_daily_kwh",
        title="Exported PV energy today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_export_from_pv"),
    ),
    Quantity(
        name="export_from_pv_total_kwh",
        title="Exported PV energy, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_export_from_pv"),
    ),
    Quantity(
        name="import_daily_kwh",
        title="Imported energy today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_import_energy, daily_import_energy_mirror", sg="daily_import_energy"),
    ),
    Quantity(
        name="import_total_kwh",
        title="Imported energy, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(
            sh="total_import_energy, total_import_energy_mirror",
            sg="total_import_energy",
            ihm="grid_import_energy",
        ),
    ),
    Quantity(
        name="direct_use_daily_kwh",
        title="PV energy used directly today",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_direct_consumption", sg="daily_direct_consumption"),
    ),
    Quantity(
        name="direct_use_total_kwh",
        title="PV energy used directly, lifetime",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_direct_consumption", sg="total_direct_consumption"),
    ),
    Quantity(
        name="self_consumption_daily_pct",
        title="Self-consumption today, as the inverter reckons it",
        unit="%",
        decimals=1,
        high=100,
        sources=_from(sh="self_consumption_today"),
    ),
    Quantity(
        name="export_phase_power_w",
        title="Grid power per phase",
        unit="W",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        length=3,
        sign="+ exporting, - importing",
        sources=_from(
            sh=_phases("-meter_phase_{}_active_power"),
            sg=_phases("-meter_phase_{}_power"),
            ihm=_phases("-phase_{}_active_power"),
        ),
    ),
    # --- the inverter's AC side ------------------------------------------------------------------------
    Quantity(
        name="active_power_w",
        title="AC power of the inverter",
        unit="W",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        sign="+ out of the inverter",
        sources=_from(
            sh="total_active_power, total_active_power_mirror",
            sg="total_active_power",
            ihm="inverter_active_power",
        ),
    ),
    Quantity(
        name="reactive_power_var",
        title="Reactive power",
        unit="var",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        sources=_from(sh="reactive_power", sg="total_reactive_power"),
    ),
    Quantity(
        name="apparent_power_va",
        title="Apparent power",
        unit="VA",
        high=_POWER_LIMIT,
        sources=_from(sh="total_apparent_power", sg="total_apparent_power"),
    ),
    Quantity(
        name="power_factor",
        title="Power factor",
        unit="",
        decimals=3,
        low=-1,
        high=1,
        sign="> 0 leading, < 0 lagging",
        sources=_from(sh="power_factor, power_factor_mirror", sg="power_factor"),
    ),
    Quantity(
        name="grid_frequency_hz",
        title="Grid frequency",
        unit="Hz",
        decimals=2,
        high=100,
        sources=_from(
            sh="grid_frequency_high_resolution, grid_frequency_alt, grid_frequency",
            sg="grid_frequency_high_resolution, grid_frequency",
            ihm="grid_frequency",
        ),
    ),
    Quantity(
        name="phase_voltage_v",
        title="Grid voltage per phase",
        unit="V",
        decimals=1,
        high=2000,
        length=3,
        sources=_from(
            sh=_phases("phase_{}_voltage"), sg=_phases("phase_{}_voltage"), ihm=_phases("phase_{}_voltage")
        ),
    ),
    Quantity(
        name="phase_current_a",
        title="Inverter current per phase",
        unit="A",
        decimals=1,
        low=-1000,
        high=1000,
        length=3,
        sources=_from(
            sh="phase_a_current, phase_a_current_mirror|phase_b_current, phase_b_current_mirror|"
            "phase_c_current, phase_c_current_mirror",
            sg=_phases("phase_{}_current"),
        ),
    ),
    Quantity(
        name="output_daily_kwh",
        title="AC output today (PV and battery)",
        unit="kWh",
        kind=_DAILY,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_output_energy"),
    ),
    Quantity(
        name="output_total_kwh",
        title="AC output, lifetime (PV and battery)",
        unit="kWh",
        kind=_COUNTER,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_output_energy"),
    ),
    Quantity(
        name="inverter_temp_c",
        title="Inverter temperature",
        unit="°C",
        decimals=1,
        low=-60,
        high=150,
        sources=_from(sh="internal_temperature, internal_temperature_mirror", sg="internal_temperature"),
    ),
    Quantity(
        name="bus_voltage_v",
        title="DC bus voltage",
        unit="V",
        decimals=1,
        high=2000,
        tier=_SLOW,
        sources=_from(sh="bus_voltage, bus_voltage_mirror", sg="bus_voltage"),
    ),
    # --- backup output ---------------------------------------------------------------------------------
    Quantity(
        name="backup_power_w",
        title="Backup output power",
        unit="W",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        tier=_SLOW,
        sources=_from(sh="total_backup_power"),
    ),
    Quantity(
        name="backup_phase_power_w",
        title="Backup output power per phase",
        unit="W",
        low=-_POWER_LIMIT,
        high=_POWER_LIMIT,
        length=3,
        tier=_SLOW,
        sources=_from(sh=_phases("backup_phase_{}_power")),
    ),
    Quantity(
        name="backup_phase_voltage_v",
        title="Backup output voltage per phase",
        unit="V",
        decimals=1,
        high=2000,
        length=3,
        tier=_SLOW,
        sources=_from(sh=_phases("backup_phase_{}_voltage")),
    ),
    Quantity(
        name="backup_phase_current_a",
        title="Backup output current per phase",
        unit="A",
        decimals=1,
        low=-1000,
        high=1000,
        length=3,
        tier=_SLOW,
        sources=_from(sh=_phases("backup_phase_{}_current")),
    ),
    Quantity(
        name="backup_frequency_hz",
        title="Backup output frequency",
        unit="Hz",
        decimals=2,
        high=100,
        tier=_SLOW,
        sources=_from(sh="backup_frequency"),
    ),
    # --- condition -------------------------------------------------------------------------------------
    Quantity(
        name="running_time_total_h",
        title="Running time, lifetime",
        unit="h",
        kind=_COUNTER,
        high=10_000_000,
        sources=_from(sg="total_running_time"),
    ),
    Quantity(
        name="running_time_daily_min",
        title="Running time today",
        unit="min",
        kind=_DAILY,
        high=1500,
        tier=_SLOW,
        sources=_from(sg="daily_running_time"),
    ),
    Quantity(
        name="running_state",
        title="Running state",
        unit="",
        kind=QuantityKind.STATE,
        sources=_from(sh="running_state", sg="work_state_1"),
    ),
    Quantity(
        name="alarm_codes",
        title="Active alarms",
        unit="",
        kind=QuantityKind.CODES,
        length=512,
        tier=_SLOW,
        sources=_from(sh=_SH_ALARMS, sg="fault_code", battery="bms_alarm|bms_alarm_2"),
    ),
    Quantity(
        name="fault_codes",
        title="Active faults",
        unit="",
        kind=QuantityKind.CODES,
        length=512,
        tier=_SLOW,
        sources=_from(sh=_SH_FAULTS, sg="fault_code", battery="bms_protection|bms_fault_1|bms_fault_2"),
    ),
    Quantity(
        name="firmware",
        title="Firmware, when it changed",
        unit="",
        kind=QuantityKind.STATE,
        tier=Tier.IDENTITY,
        sources=_from(
            sh="inverter_firmware, firmware_part_1, arm_software_version",
            sg="arm_software_version",
            battery="battery_bcu_firmware",
            ihm="application_software_version",
        ),
    ),
    # --- about the reading -----------------------------------------------------------------------------
    Quantity(
        name="sample_count",
        title="Readings merged into this row",
        unit="",
        kind=QuantityKind.META,
        high=10_000_000,
        sign="1 for a raw reading",
    ),
    Quantity(
        name="interval_s",
        title="Time this reading stands for",
        unit="s",
        kind=QuantityKind.META,
        decimals=3,
        high=2_000_000,
        sign="monotonic time since the previous poll, at most three poll intervals; null on the first poll",
    ),
    Quantity(
        name="clock_source",
        title="Where the time stamp came from, when not from a trusted clock",
        unit="",
        kind=QuantityKind.STATE,
    ),
)

QUANTITY_BY_NAME: Final[Mapping[str, Quantity]] = {quantity.name: quantity for quantity in QUANTITIES}
"""The same table by field name."""
