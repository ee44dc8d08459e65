"""The table of quantities.

Whoever adds one finds the steps in ``docs/contributing/registers.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sungrow_lib.quantities.model import Family, Pace, Quantity, QuantityKind, Source, Tier

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

_THROUGH: Final = Pace(times=3, at_least=12)
"""kWh/h through the inverter: small ones take three times their nominal power, SH3.0RS 10 kW."""
_METERED: Final = Pace(times=3, at_least=100)
"""kWh/h through the meter, where others draw and feed, too: the connection of a house or small business."""
_HOURS: Final = Pace(times=0, at_least=4)
_MINUTES: Final = Pace(times=0, at_least=240)
"""So a step of a whole hour, all at once, is none too many."""


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


_GRID_VOLTAGES = _from(
    sh=_phases("phase_{}_voltage"), sg=_phases("phase_{}_voltage"), ihm=_phases("phase_{}_voltage")
)
_SH_ALARMS = "inverter_alarm|battery_alarm|bms_alarm|bms_alarm_2"
_SH_FAULTS = (
    "grid_side_fault|system_fault_1|system_fault_2|dc_side_fault|permanent_fault|bdc_side_fault|"
    "bdc_side_permanent_fault|battery_fault|bms_protection|bms_fault_1|bms_fault_2"
)

_CLOCK = "clock_year|clock_month|clock_day|clock_hour|clock_minute|clock_second"

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
        pace=_THROUGH,
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
        pace=_THROUGH,
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
        pace=_THROUGH,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_battery_charge"),
    ),
    Quantity(
        name="battery_charge_total_kwh",
        title="Battery charge, lifetime",
        unit="kWh",
        kind=_COUNTER,
        pace=_THROUGH,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_battery_charge", battery="battery_unit_total_charge"),
    ),
    Quantity(
        name="battery_charge_from_pv_daily_kwh",
        title="Battery charge from PV today",
        unit="kWh",
        kind=_DAILY,
        pace=_THROUGH,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_battery_charge_from_pv"),
    ),
    Quantity(
        name="battery_charge_from_pv_total_kwh",
        title="Battery charge from PV, lifetime",
        unit="kWh",
        kind=_COUNTER,
        pace=_THROUGH,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_battery_charge_from_pv"),
    ),
    Quantity(
        name="battery_discharge_daily_kwh",
        title="Battery discharge today",
        unit="kWh",
        kind=_DAILY,
        pace=_THROUGH,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_battery_discharge"),
    ),
    Quantity(
        name="battery_discharge_total_kwh",
        title="Battery discharge, lifetime",
        unit="kWh",
        kind=_COUNTER,
        pace=_THROUGH,
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
        pace=_METERED,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_export_energy", sg="daily_export_energy"),
    ),
    Quantity(
        name="export_total_kwh",
        title="Exported energy, lifetime",
        unit="kWh",
        kind=_COUNTER,
        pace=_METERED,
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
        pace=_THROUGH,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_export_from_pv"),
    ),
    Quantity(
        name="export_from_pv_total_kwh",
        title="Exported PV energy, lifetime",
        unit="kWh",
        kind=_COUNTER,
        pace=_THROUGH,
        decimals=1,
        high=_ENERGY_LIMIT,
        sources=_from(sh="total_export_from_pv"),
    ),
    Quantity(
        name="import_daily_kwh",
        title="Imported energy today",
        unit="kWh",
        kind=_DAILY,
        pace=_METERED,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_import_energy, daily_import_energy_mirror", sg="daily_import_energy"),
    ),
    Quantity(
        name="import_total_kwh",
        title="Imported energy, lifetime",
        unit="kWh",
        kind=_COUNTER,
        pace=_METERED,
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
        pace=_THROUGH,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_direct_consumption", sg="daily_direct_consumption"),
    ),
    Quantity(
        name="direct_use_total_kwh",
        title="PV energy used directly, lifetime",
        unit="kWh",
        kind=_COUNTER,
        pace=_THROUGH,
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
        sign="against the neutral",
        sources=_GRID_VOLTAGES,
    ),
    Quantity(
        name="line_voltage_v",
        title="Grid voltage between phases",
        unit="V",
        decimals=1,
        high=2000,
        length=3,
        sign="AB, BC, CA of an inverter that is wired without a neutral (3P3L), which tells no others",
        sources=_GRID_VOLTAGES,
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
        pace=_THROUGH,
        decimals=1,
        high=_DAY_LIMIT,
        sources=_from(sh="daily_output_energy"),
    ),
    Quantity(
        name="output_total_kwh",
        title="AC output, lifetime (PV and battery)",
        unit="kWh",
        kind=_COUNTER,
        pace=_THROUGH,
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
        pace=_HOURS,
        high=10_000_000,
        sources=_from(sg="total_running_time"),
    ),
    Quantity(
        name="running_time_daily_min",
        title="Running time today",
        unit="min",
        kind=_DAILY,
        pace=_MINUTES,
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
    Quantity(
        name="inverter_clock",
        title="The inverter's own date and time",
        unit="",
        kind=QuantityKind.STATE,
        tier=Tier.IDENTITY,
        sign="local time without a zone, such as 2026-01-31T11:00:03; its midnight resets the daily counters",
        sources=_from(sh=_CLOCK, sg=_CLOCK),
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
