"""The hybrids: SH-K, SH-RS, SH-RT, SH-T, SH-RL / MG-RL and SH-CX.

Numbers are those of Sungrow's documents: the first register is 1, the wire address is one less. The two
spaces overlap: 5000 is the type code among the input registers and the clock's year among the holding ones.
`battery.py` holds what the battery answers on a Modbus unit of its own.
"""

from __future__ import annotations

from typing import Final

from sungrow_lib.registers.applies import Applies
from sungrow_lib.registers.build import (
    ENABLE,
    START_STOP,
    bits,
    choice,
    each,
    energy16,
    energy32,
    s16,
    s32,
    settings,
    sourced,
    text,
    u16,
    u32,
)
from sungrow_lib.registers.common import COUNTRIES, MODELS, clock
from sungrow_lib.registers.faults import SH_FAULT_BITS
from sungrow_lib.registers.model import Register, Status

_K: Final = frozenset({"SH-K"})
_RS: Final = frozenset({"SH-RS"})
_RT: Final = frozenset({"SH-RT"})
_T: Final = frozenset({"SH-T"})
_RL: Final = frozenset({"SH-RL"})
_CX: Final = frozenset({"SH-CX"})

_THREE_PHASE: Final = Applies(three_phase=True)
_THREE_PHASE_METER: Final = Applies(three_phase_meter=True)
_ON_K: Final = Applies(lines=_K)
_ON_RT_T: Final = Applies(lines=_RT | _T)
_ON_T: Final = Applies(lines=_T)
_NOT_RL_CX: Final = Applies(not_lines=_RL | _CX)
_NOT_RS_RL_CX: Final = Applies(not_lines=_RS | _RL | _CX)
_DAILY_METER: Final = Applies(winet_zero_models=("SH10RS",))
"""Stays 0 on an SH10RS through WiNet-S."""
_ONE_DUMP: Final = Applies(models=("SH8.0RT-20",))
"""Seen in the answers of this model alone; SH-T fills some of these numbers with something else."""

_NEEDS_METER: Final = "needs a directly connected smart meter"

RUNNING_STATES: Final = {
    0x0000: "running on grid",
    0x0040: "running on grid",
    0x0014: "microgrid",
    0x0041: "off-grid charge",
    0x0001: "stop",
    0x8000: "stop",
    0x0002: "key stop",
    0x1300: "key stop",
    0x0004: "emergency stop",
    0x1500: "emergency stop",
    0x0008: "standby",
    0x1400: "standby",
    0x0010: "initial standby",
    0x1200: "initial standby",
    0x0020: "starting",
    0x1600: "starting",
    0x0080: "derating",
    0x8100: "derating",
    0x0100: "fault",
    0x5500: "fault",
    0x0200: "update failed",
    0x0400: "maintenance mode",
    0x0800: "forced (compulsory) mode",
    0x1000: "off grid",
    0x1111: "uninitialised",
    0x1700: "AFCI self-test shutdown",
    0x1800: "station building",
    0x1900: "safe mode",
    0x2000: "open loop",
    0x2500: "communication fault",
    0x2501: "restarting",
    0x4000: "external EMS",
    0x4001: "emergency charging",
    0x8200: "dispatch running",
    0x9100: "warn running",
}
"""Two code families, one-hot in old firmware and 0xNN00 in new; both occur."""

IDENTITY: Final = (
    *each(
        (
            text("firmware_part_1", 2582, 11),
            text("firmware_part_2", 2597, 11),
            text("firmware_part_3", 2613, 11),
            text("firmware_part_4_battery", 2629, 11),
        ),
        status=Status.UNDOCUMENTED,
        applies=Applies(certain=False),
        feature="firmware parts",
        notes="ARM, DSP, sub-controller, battery; SH-RT on the LAN port, often missing on WiNet-S",
    ),
    u32("protocol_number", 4950, notes="reserved since V1.1.7; an SH8.0RT-20 returns the letters AB0"),
    u32("protocol_version", 4952, notes="a byte per field, 0x01010700 = V1.1.7; not forwarded by a Logger"),
    text("arm_software_version", 4954, 15, notes="certified version, not the running build"),
    text("dsp_software_version", 4969, 15, notes="certified version, not the running build"),
    text("serial_number", 4990, 10),
    choice("device_type_code", 5000, MODELS),
    u16("nominal_output_power", 5001, 0.1, "kW"),
    choice(
        "output_type",
        5002,
        {0: "single phase", 1: "3P4L (three phase four wire)", 2: "3P3L (three phase three wire)"},
        notes="2: 5019..5021 are line voltages; else phase voltages",
    ),
    *each(
        (
            text("inverter_firmware", 13250, 15),
            text("communication_module_firmware", 13265, 15),
            text("battery_firmware", 13280, 15),
        ),
        applies=_ON_RT_T,
        feature="running firmware",
        notes="running build, such as SAPPHIRE-H_B001.V000.P019 or SBRBCU-S_22011.01.27",
    ),
)

AC_AND_PV: Final = (
    energy16("daily_output_energy", 5003, notes="AC output: PV and battery; PV alone is 13002"),
    energy32("total_output_energy", 5004, notes="1 kWh on SH-CX"),
    s16("internal_temperature", 5008, 0.1, "°C"),
    u32("total_apparent_power", 5009, 1, "VA", status=Status.UNDOCUMENTED),
    *(u16(f"mppt_{n}_voltage", 5009 + 2 * n, 0.1, "V") for n in (1, 2)),
    *(u16(f"mppt_{n}_current", 5010 + 2 * n, 0.1, "A") for n in (1, 2)),
    u16("mppt_3_voltage", 5015, 0.1, "V", applies=Applies(trackers=3)),
    u16("mppt_3_current", 5016, 0.1, "A", applies=Applies(trackers=3)),
    u32("total_dc_power", 5017, 1, "W", notes="PV power of this inverter"),
    u16("phase_a_voltage", 5019, 0.1, "V"),
    u16("phase_b_voltage", 5020, 0.1, "V", applies=_THREE_PHASE, notes="0 on single-phase models"),
    u16("phase_c_voltage", 5021, 0.1, "V", applies=_THREE_PHASE, notes="0 on single-phase models"),
    s32("reactive_power", 5033, 1, "var"),
    s16("power_factor", 5035, 0.001, sign="> 0 leading, < 0 lagging"),
    u16("grid_frequency", 5036, 0.1, "Hz", notes="old WiNet-S firmware sends 0.01 Hz; 5242 always does"),
    *each(
        (
            u16("nominal_reactive_power", 5049, 0.1, "kvar"),
            u16("array_insulation_resistance_lan", 5071, 1, "kohm"),
            choice("present_country", 5114, COUNTRIES),
            u16("bus_voltage", 5147, 0.1, "V"),
            u16("grid_frequency_alt", 5148, 0.01, "Hz"),
        ),
        status=Status.UNDOCUMENTED,
        notes="of the string inverters' map; filled on SH8.0RT-20",
    ),
    *(u16(f"mppt_{n}_voltage", 5107 + 2 * n, 0.1, "V", applies=Applies(trackers=n)) for n in range(4, 9)),
    *(u16(f"mppt_{n}_current", 5108 + 2 * n, 0.1, "A", applies=Applies(trackers=n)) for n in range(4, 9)),
    *(u16(f"mppt_{n}_voltage", 5112 + 2 * n, 0.1, "V", applies=Applies(trackers=n)) for n in (9, 10)),
    *(u16(f"mppt_{n}_current", 5113 + 2 * n, 0.1, "A", applies=Applies(trackers=n)) for n in (9, 10)),
    u16("grid_frequency_high_resolution", 5242, 0.01, "Hz"),
    u16("array_insulation_resistance", 5246, 1, "kohm", status=Status.UNDOCUMENTED),
)

SIGNED: Final = (
    s32(
        "battery_power_signed",
        5214,
        1,
        "W",
        sign="> 0 discharging, < 0 charging; the document gives no sign",
        notes="replaces 13022; missing on some models and older firmware",
    ),
    s32(
        "grid_export_power_alt",
        5216,
        1,
        "W",
        sign="> 0 export, < 0 import, as 13010",
        status=Status.UNDOCUMENTED,
    ),
    s32("load_power_alt", 5218, 1, "W", status=Status.UNDOCUMENTED, notes="as 13008"),
    s16(
        "battery_current_signed",
        5631,
        0.1,
        "A",
        sign="> 0 discharging, < 0 charging, as 5214",
        notes="replaces 13021",
    ),
)

MIRRORS: Final = each(
    (
        s32("total_active_power_mirror", 5232, 1, "W"),
        u32("total_dc_power_mirror", 5236, 1, "W"),
        s16("power_factor_mirror", 5241, 0.001),
        u16("bus_voltage_mirror", 5244, 0.1, "V"),
        s16("internal_temperature_mirror", 5245, 0.1, "°C"),
        *(u16(f"phase_{phase}_voltage_mirror", 5247 + n, 0.1, "V") for n, phase in enumerate("abc")),
        *(s16(f"phase_{phase}_current_mirror", 5250 + n, 0.1, "A") for n, phase in enumerate("abc")),
        *(u16(f"mppt_{n}_voltage_mirror", 5251 + 2 * n, 0.1, "V") for n in (1, 2)),
        *(u16(f"mppt_{n}_current_mirror", 5252 + 2 * n, 0.1, "A") for n in (1, 2)),
        energy32("total_export_energy_mirror", 5611),
        energy16("daily_import_energy_mirror", 5613),
        energy32("total_import_energy_mirror", 5615),
        energy16("daily_direct_consumption_mirror", 5617),
        energy32("total_direct_consumption_mirror", 5619),
        u16("battery_voltage_mirror", 5630, 0.1, "V"),
        s16("battery_temperature_mirror", 5632, 0.1, "°C"),
        u16("battery_soc_mirror", 5633, 0.1, "%"),
        u16("battery_soh_mirror", 5634, 0.1, "%"),
    ),
    status=Status.INFERRED,
    applies=_ONE_DUMP,
)

METER: Final = (
    s32(
        "meter_active_power",
        5601,
        1,
        "W",
        sign="> 0 buying, < 0 selling: opposite of 13010",
        notes=f"{_NEEDS_METER}; slaves answer 'not available'",
    ),
    *(
        s32(
            f"meter_phase_{phase}_active_power",
            5603 + 2 * n,
            1,
            "W",
            sign="> 0 buying, < 0 selling",
            applies=_THREE_PHASE_METER if n else Applies(),
            notes="needs a three-phase smart meter, whatever the phases of the inverter",
        )
        for n, phase in enumerate("abc")
    ),
    *each(
        (
            *(s16(f"meter_phase_{phase}_voltage", 5741 + n, 0.1, "V") for n, phase in enumerate("abc")),
            *(u16(f"meter_phase_{phase}_current", 5744 + n, 0.01, "A") for n, phase in enumerate("abc")),
        ),
        status=Status.UNDOCUMENTED,
        applies=Applies(lines=_RT, not_models=("SH10RT-20", "SH10RT-V112"), winet=False, certain=False),
        feature="voltages and currents of the meter",
        notes="some SH-RT firmware with a DTSU666; refused by the others",
    ),
    *each(
        (
            s32("meter_channel_2_active_power", 13200, 1, "W"),
            *(
                s32(f"meter_channel_2_phase_{phase}_active_power", 13202 + 2 * n, 1, "W")
                for n, phase in enumerate("abc")
            ),
        ),
        applies=_ON_RT_T,
        feature="second channel of the meter",
        notes="needs a dual-channel meter (DTSU666-20)",
    ),
)

LIMITS: Final = (
    u16("export_limit_min", 5622, 0.01, "kW"),
    u16("export_limit_max", 5623, 0.01, "kW", notes="on a master the sum of the cascade"),
    u16("bdc_rated_power", 5628, 0.1, "kW", notes="100 % of charge and discharge power"),
    u16("bms_max_charging_current", 5635, 1, "A"),
    u16("bms_max_discharging_current", 5636, 1, "A"),
    u16("battery_capacity_high_resolution", 5639, 0.01, "kWh"),
)

BACKUP: Final = (
    *(
        s16(f"backup_phase_{phase}_current", 5720 + n, 0.1, "A", applies=Applies(three_phase=n > 0))
        for n, phase in enumerate("abc")
    ),
    *(
        s16(
            f"backup_phase_{phase}_power",
            5723 + n,
            1,
            "W",
            applies=Applies(three_phase=n > 0),
            notes="0.01 kW on SH-CX",
        )
        for n, phase in enumerate("abc")
    ),
    s32("total_backup_power", 5726, 1, "W"),
    *(
        u16(f"backup_phase_{phase}_voltage", 5731 + n, 0.1, "V", applies=Applies(three_phase=n > 0))
        for n, phase in enumerate("abc")
    ),
    u16("backup_frequency", 5734, 0.01, "Hz"),
)

_HISTORIES: Final = (
    (6100, "pv_power_today_15min", "pv_energy"),
    (6290, "direct_consumption_power_today_15min", "direct_consumption"),
    (6469, "export_power_from_pv_today_15min", "export_from_pv"),
    (6648, "battery_charge_power_today_15min", "battery_charge_from_pv"),
)


def _history(first: int, day: str, energy: str) -> tuple[Register, ...]:
    by_day = f"{energy}_by_day_of_month" if energy == "pv_energy" else f"{energy}_by_day"
    # PV leaves eleven words between its months and its years; the other three leave none.
    by_year = first + 150 if energy == "pv_energy" else first + 139
    return (
        u16(day, first, 1, "W", items=96),
        energy16(by_day, first + 96, items=31),
        energy16(f"{energy}_by_month", first + 127, items=12, notes="January to December"),
        energy32(f"{energy}_by_year", by_year, items=20, notes="15 valid, the first seems to be 2015"),
    )


HISTORY: Final = each(
    (row for history in _HISTORIES for row in _history(*history)),
    applies=Applies(lines=_RT, models=("SH10RS",), winet=False, certain=False),
    feature="history",
)

ENERGY: Final = (
    choice("running_state", 13000, RUNNING_STATES, notes="old dongle firmware returns 0"),
    bits(
        "power_flow_status",
        13001,
        {
            0: "PV producing",
            1: "battery charging",
            2: "battery discharging",
            3: "load consuming",
            4: "feeding grid",
            5: "importing",
            6: "reserved",
            7: "load generating",
        },
        words=1,
        notes="stays 0 on several combinations of dongle and firmware",
    ),
    energy16("daily_pv_generation", 13002),
    energy32("total_pv_generation", 13003),
    energy16("daily_export_from_pv", 13005, notes=_NEEDS_METER),
    energy32("total_export_from_pv", 13006, notes=_NEEDS_METER),
    s32(
        "load_power",
        13008,
        1,
        "W",
        sign="> 0 consuming; < 0 where another source feeds the house",
        notes=_NEEDS_METER,
    ),
    s32(
        "export_power",
        13010,
        1,
        "W",
        sign="> 0 export, < 0 import: opposite of 5601",
        notes=f"{_NEEDS_METER}; an SH15T left it 0 while 5603.. were live",
    ),
    energy16("daily_battery_charge_from_pv", 13012),
    energy32("total_battery_charge_from_pv", 13013),
    u32("co2_reduction", 13015, 0.1, "kg", status=Status.LEGACY),
    energy16("daily_direct_consumption", 13017, notes=_NEEDS_METER),
    energy32("total_direct_consumption", 13018, notes=_NEEDS_METER),
    u16("battery_voltage", 13020, 0.1, "V"),
    u16(
        "battery_current",
        13021,
        0.1,
        "A",
        signed_by_firmware=True,
        sign="magnitude on old SH-RT firmware, direction in 13001; else > 0 discharging, < 0 charging",
    ),
    u16(
        "battery_power",
        13022,
        1,
        "W",
        signed_by_firmware=True,
        sign="as 13021",
        notes="signed on SH-RS, and on SH-RT and SH-T from late 2024",
    ),
    u16("battery_soc", 13023, 0.1, "%", notes="may differ from the battery's own 10744"),
    u16("battery_soh", 13024, 0.1, "%", notes="1 % on SH10RS through RS485"),
    s16("battery_temperature", 13025, 0.1, "°C"),
    energy16("daily_battery_discharge", 13026),
    energy32("total_battery_discharge", 13027),
    u16("self_consumption_today", 13029, 0.1, "%"),
    choice("grid_state", 13030, {0xAA: "off grid", 0x55: "on grid"}, status=Status.LEGACY, applies=_ON_K),
    s16("phase_a_current", 13031, 0.1, "A"),
    s16("phase_b_current", 13032, 0.1, "A", applies=_THREE_PHASE),
    s16("phase_c_current", 13033, 0.1, "A", applies=_THREE_PHASE),
    s32("total_active_power", 13034, 1, "W", sign="> 0 out of the inverter, < 0 charging from the grid"),
    energy16("daily_import_energy", 13036, applies=_DAILY_METER),
    energy32("total_import_energy", 13037),
    u16(
        "battery_capacity",
        13039,
        0.1,
        "kWh",
        applies=Applies(lines=_RT | _RS | _CX | _K),
        notes="lead-acid: 1 Ah per unit",
    ),
    energy16("daily_battery_charge", 13040),
    energy32("total_battery_charge", 13041),
    choice("drm_state", 13043, {n + 1: f"DRM{n}" for n in range(9)}, otherwise="invalid"),
    energy16("daily_export_energy", 13045, applies=_DAILY_METER, notes=_NEEDS_METER),
    energy32("total_export_energy", 13046, notes=_NEEDS_METER),
)

FAULTS: Final = tuple(
    bits(
        fault.register,
        fault.number,
        fault.texts,
        code_bases=fault.bases,
        applies=Applies(winet=not fault.register.startswith("bms")),
        notes="belongs to the battery's unit" if fault.register.startswith("bms") else "",
    )
    for fault in SH_FAULT_BITS
)

BMS_K: Final = each(
    (
        u16("bms_status", 13100),
        u16("bms_max_charging_current_k", 13101, 1, "A"),
        u16("bms_max_discharging_current_k", 13102, 1, "A"),
        bits("bms_warning_k", 13103, {}, words=1),
        bits("bms_protection_k", 13104, {}, words=1),
        bits("bms_fault_1_k", 13105, {}, words=1),
        bits("bms_fault_2_k", 13106, {}, words=1),
        u16("bms_soc_k", 13107, 1, "%"),
        u16("bms_soh_k", 13108, 1, "%"),
        u16("bms_current_k", 13109),
        u16("bms_voltage_k", 13110, 0.01, "V"),
        u16("bms_cycle_count_k", 13111),
        u16("bms_cell_voltage_avg_k", 13112),
        u16("bms_cell_voltage_max_k", 13113),
        u16("bms_cell_voltage_min_k", 13114),
        u16("bms_pack_voltage_k", 13115),
        s16("bms_cell_temp_avg_k", 13116),
        s16("bms_cell_temp_max_k", 13117),
        s16("bms_cell_temp_min_k", 13118),
    ),
    status=Status.LEGACY,
    applies=_ON_K,
    feature="BMS of SH-K",
)


def _span(prefix: str, first: int) -> tuple[Register, ...]:
    """Start and end of a period, as hours and minutes."""
    return tuple(
        u16(f"{prefix}_{edge}_{part}", first + n, 1, unit, valid_range=(0, most))
        for n, (edge, part, unit, most) in enumerate(
            (edge, *part) for edge in ("start", "end") for part in (("hour", "h", 23), ("minute", "min", 59))
        )
    )


OPERATION: Final = settings(
    *clock((2000, 2099)),
    *each(
        (
            choice("start_stop_sg_style", 5006, START_STOP),
            choice("power_limit_switch_sg_style", 5007, ENABLE),
            u16("power_limit_percent_sg_style", 5008, 0.1, "%"),
        ),
        status=Status.UNDOCUMENTED,
        notes="of the string inverters' map; filled on SH8.0RT-20",
    ),
    choice("start_stop", 13000, START_STOP, notes="a command; some firmware reads back a value"),
    choice(
        "do_configuration",
        13001,
        {0: "off", 1: "load control", 2: "grounding fault indication", 3: "micro grid"},
        applies=Applies(not_lines=_RS),
        notes="no micro grid on SH-CX; battery maintenance on SH-K",
    ),
    choice("load_control_mode", 13002, {0: "timing", 1: "on/off", 2: "power optimised", 3: "disabled"}),
    *_span("load_period_1", 13003),
    *_span("load_period_2", 13007),
    choice("load_on_off", 13011, {0xAA: "on", 0x55: "off"}),
    *_span("load_optimised", 13012),
    u16("load_optimised_power", 13016, 1, "W", valid_range=(0, 60_000), notes="5000 W at most on SH-K"),
    choice(
        "forced_startup_low_soc_standby",
        13017,
        {0xAA: "forced startup", 0x55: "disable"},
        applies=Applies(lines=_RT | _T, certain=False),
        notes="takes two minutes before a forced mode may be written; never verify it by reading back",
    ),
    choice("pv_power_limitation", 13018, {0xAA: "limit PV (cut)", 0x55: "allow PV"}, applies=_ON_T),
)

ENERGY_MANAGEMENT: Final = settings(
    choice(
        "ems_mode",
        13050,
        {
            0: "self consumption",
            2: "forced/compulsory",
            3: "external EMS",
            4: "VPP",
            8: "microgrid (seen, undocumented)",
        },
        notes="3 and 4 need the heartbeat 13080; only the master of a cascade takes it",
    ),
    choice(
        "charge_discharge_command",
        13051,
        {0xAA: "charge", 0xBB: "discharge", 0xCC: "stop"},
        notes="acts in EMS modes 2, 3 and 4; lost at power-down",
    ),
    u16(
        "charge_discharge_power", 13052, 1, "W", notes="0 makes a forced mode do nothing; lost at power-down"
    ),
    u16("max_soc", 13058, 0.1, "%", valid_range=(50, 100), notes="70 % at least on SH-K"),
    u16("min_soc", 13059, 0.1, "%", valid_range=(0, 50)),
    u16("export_limit_value", 13074, 1, "W", notes="above 65.5 kW use 31222; 13088 wins if both are set"),
    choice("off_grid_option", 13075, ENABLE, notes="backup mode"),
    u16(
        "external_ems_heartbeat",
        13080,
        1,
        "s",
        valid_range=(0, 1000),
        notes="rewrite at half the period; timeout falls back to self-consumption, stops old firmware",
    ),
    *each(
        (
            u16("start_charging_power", 13084, 1, "W", valid_range=(70, 10_000), notes="others: 33149"),
            u16("start_discharging_power", 13085, 1, "W", valid_range=(70, 3000), notes="others: 33150"),
        ),
        status=Status.LEGACY,
        applies=_ON_K,
    ),
    choice("meter_comm_detection", 13086, ENABLE),
    choice("export_limit_enable", 13087, ENABLE),
    *each(
        (
            u16("export_limit_ratio", 13088, 0.1, "%", valid_range=(0, 100), notes="wins over 13074"),
            choice(
                "active_power_limit_enable", 13089, ENABLE, notes="limits the AC port, not the grid point"
            ),
            u16("active_power_limit_ratio", 13090, 0.1, "%", valid_range=(0, 100)),
        ),
        applies=_NOT_RS_RL_CX,
    ),
    u16("reserved_soc_for_backup", 13100, 1, "%", valid_range=(0, 100), notes="1 %, unlike 13058 and 13059"),
    *each(
        (
            choice("global_mpp_scan", 30230, ENABLE),
            u16("power_decline_gradient", 31201, 1, "%", applies=_ON_T),
            u16("power_rising_gradient", 31202, 1, "%", applies=_ON_T),
            choice("active_power_limit_enable_rs", 31204, ENABLE, applies=Applies(lines=_RS | _T)),
            u16(
                "active_power_limit_ratio_rs",
                31205,
                0.1,
                "%",
                valid_range=(0, 100),
                applies=Applies(lines=_RS | _T),
            ),
            choice("apl_shutdown_at_zero", 31213, ENABLE),
            choice("export_limit_per_phase_mode", 31226, ENABLE, applies=_ON_T),
            u16("site_import_power_limit", 32998, 0.01, "kW", applies=_ON_T),
        ),
        status=Status.UNDOCUMENTED,
    ),
    u16("export_limit_value_wide", 31222, 0.01, "kW"),
    u16("charge_cutoff_voltage_wide", 33042, 0.1, "V"),
    u16("battery_max_charge_power", 33047, 0.01, "kW", notes="persists; 0.01 kW is the least accepted"),
    u16(
        "battery_max_discharge_power",
        33048,
        0.01,
        "kW",
        notes="persists; 0.01 kW blocks discharging until it is restored",
    ),
    u16("legacy_battery_capacity", 33049, 0.01, "kWh", status=Status.UNDOCUMENTED, notes="0 on SH8.0RT-20"),
    u16("charge_discharge_power_wide", 33148, 0.01, "kW", notes="not wire address 33148, which is 33149"),
    *each(
        (
            u16("battery_charging_start_power", 33149, 0.01, "kW"),
            u16("battery_discharging_start_power", 33150, 0.01, "kW"),
        ),
        status=Status.UNDOCUMENTED,
        applies=_ON_RT_T,
    ),
    *each(
        (
            choice("forced_charging_enable", 33208, ENABLE),
            choice("forced_charging_days", 33209, {0: "weekdays", 1: "every day"}),
            *_span("forced_charging_1", 33210),
            u16("forced_charging_1_target_soc", 33214, 1, "%", valid_range=(0, 100)),
            *_span("forced_charging_2", 33215),
            u16("forced_charging_2_target_soc", 33219, 1, "%", valid_range=(0, 100)),
        ),
        applies=_NOT_RL_CX,
        feature="forced charging",
    ),
    u16("load_rated_power", 33274, 0.01, "kW", valid_range=(0, 600)),
    *each(
        (
            choice("master_slave_mode", 33500, ENABLE),
            choice(
                "master_slave_role",
                33501,
                {0xA0: "master", **{0xA0 + n: f"slave {n}" for n in range(1, 5)}},
            ),
            u16(
                "slave_count",
                33502,
                notes="not available on a single inverter; a master with one slave read 2",
            ),
        ),
        status=Status.UNDOCUMENTED,
        feature="cascade",
    ),
)

BATTERY_K: Final = settings(
    *each(
        (
            choice(
                "battery_type_k",
                13055,
                {
                    0: "lead-acid Narada",
                    1: "Li Samsung",
                    2: "none",
                    3: "other lead-acid",
                    4: "US2000A",
                    5: "LG",
                    6: "US2000B",
                    7: "GCL",
                    8: "BlueSun",
                    9: "Sungrow",
                    10: "BYD",
                },
            ),
            u16("battery_nominal_voltage_k", 13056, 0.1, "V", valid_range=(30, 60)),
            u16("battery_capacity_k", 13057, 1, "Ah", valid_range=(10, 1000)),
            u16("battery_overvoltage_k", 13060, 0.1, "V", valid_range=(48, 70)),
            u16("battery_undervoltage_k", 13061, 0.1, "V", valid_range=(32, 48)),
            s16("battery_overtemperature_k", 13062, 0.1, "°C", valid_range=(20, 60)),
            s16("battery_undertemperature_k", 13063, 0.1, "°C", valid_range=(-30, 10)),
            u16("cv_charge_end_current_k", 13065, 0.001, "C", valid_range=(0.005, 0.05)),
            u16("max_discharge_current_k", 13066, 0.001, "C", valid_range=(0.1, 2)),
            u16("max_charge_current_k", 13067, 0.001, "C", valid_range=(0.05, 2)),
            u16("cv_voltage_k", 13068, 0.01, "V", valid_range=(40, 60)),
            u16("discharge_end_voltage_k", 13069, 0.001, "V", valid_range=(30, 50)),
            u16("emergency_charge_current_k", 13070, 0.001, "C", valid_range=(0.025, 2)),
            u16("full_charge_time_k", 13071, 1, "s", valid_range=(3, 10_800)),
            u16("full_charge_end_current_k", 13072, 0.001, "C", valid_range=(0.005, 0.05)),
            u16("cv_time_k", 13073, 1, "s", valid_range=(3, 10_000)),
            choice("external_signal_italy_k", 13083, {0: "signal 0", 1: "signal 1"}, otherwise="none"),
        ),
        status=Status.LEGACY,
        applies=_ON_K,
    )
)

WALLBOX: Final = settings(
    *each(
        (
            choice(
                "wallbox_charging_mode",
                33541,
                {0xA0: "fast", 0xA1: "PV surplus", 0xA2: "quantity/time", 0xA3: "user defined"},
            ),
            u16("wallbox_charging_quantity", 33542, 0.1, "kWh"),
            u32("wallbox_charging_duration", 33543, 1, "s"),
            u16("wallbox_user_current", 33545, 0.1, "A"),
            u32("wallbox_user_start", 33546),
            u32("wallbox_user_end", 33548),
            choice("wallbox_surplus_from_grid", 33550, ENABLE),
        ),
        status=Status.UNDOCUMENTED,
        applies=Applies(lines=_RT, certain=False),
        feature="wallbox",
        notes="needs a Sungrow wallbox on RS485; frozen while an iHomeManager manages it",
    )
)

SH_REGISTERS: Final[tuple[Register, ...]] = sourced(
    (
        *IDENTITY,
        *AC_AND_PV,
        *SIGNED,
        *MIRRORS,
        *METER,
        *LIMITS,
        *BACKUP,
        *HISTORY,
        *ENERGY,
        *FAULTS,
        *BMS_K,
        *OPERATION,
        *ENERGY_MANAGEMENT,
        *BATTERY_K,
        *WALLBOX,
    ),
    {
        Status.OFFICIAL: "hybrid protocol V1.1.16",
        Status.LEGACY: "hybrid protocol V1.0.20",
        Status.UNDOCUMENTED: "community projects",
        Status.INFERRED: "captures of SH8.0RT-20",
    },
)
"""The whole map of the hybrids' inverter unit."""
