"""The string inverters: SG-RS, SG-RT, SG-CX, SG-HX, SG-KTL and their relatives.

The same numbers as on the hybrids often mean something else here: 5004 counts whole kWh, not tenths.
"""

from __future__ import annotations

from dataclasses import replace
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
from sungrow_lib.registers.model import Register, Status

_RS: Final = frozenset({"SG-RS"})
_RT: Final = frozenset({"SG-RT"})
_HX: Final = frozenset({"SG-HX"})
_KTL_M: Final = ("SG*KTL-M*",)
_JP: Final = ("SG5.5RS-JP",)

_V1_1_53: Final = "string protocol V1.1.53"
"""The last document that has some registers."""

_NOT_JP: Final = Applies(not_models=_JP)
_THREE_PHASE: Final = Applies(three_phase=True)
_ON_HX: Final = Applies(lines=_HX)
_WITH_METER: Final = Applies(lines=_RS | _RT, models=_KTL_M)
"""SG-RS and SG-RT with a feed-in meter; the old documents also name KTL-M and KTL-MT set to Europe."""
_WITH_THREE_PHASE_METER: Final = replace(_WITH_METER, three_phase_meter=True)

WORK_STATES: Final = {
    0x0000: "run",
    0x8000: "stop",
    0x1300: "key stop",
    0x1500: "emergency stop",
    0x1400: "standby",
    0x1200: "initial standby",
    0x1600: "starting",
    0x9100: "alarm run",
    0x8100: "derating run",
    0x8200: "dispatch run",
    0x5500: "fault",
    0x2500: "communication fault",
    0x1111: "uninitialised",
}

IDENTITY: Final = (
    u32("protocol_number", 4950),
    u32("protocol_version", 4952, notes="a byte per field"),
    text("arm_software_version", 4954, 15),
    text("dsp_software_version", 4969, 15),
    text("serial_number", 4990, 10),
    choice("device_type_code", 5000, MODELS),
    u16("nominal_active_power", 5001, 0.1, "kW"),
    choice("output_type", 5002, {0: "single/two phase", 1: "3P4L", 2: "3P3L"}),
)

TRACKERS: Final = (
    *(u16(f"mppt_{n}_voltage", 5009 + 2 * n, 0.1, "V", applies=Applies(trackers=n)) for n in (1, 2, 3)),
    *(u16(f"mppt_{n}_current", 5010 + 2 * n, 0.1, "A", applies=Applies(trackers=n)) for n in (1, 2, 3)),
    *(
        row
        for first, trackers in ((5115, range(4, 9)), (5130, range(9, 13)))
        for n in trackers
        for row in each(
            (
                u16(f"mppt_{n}_voltage", first + 2 * (n - trackers[0]), 0.1, "V"),
                u16(f"mppt_{n}_current", first + 2 * (n - trackers[0]) + 1, 0.1, "A"),
            ),
            applies=Applies(trackers=n, not_models=_JP),
        )
    ),
    *each(
        (
            row
            for n in range(13, 17)
            for row in (
                u16(f"mppt_{n}_voltage", 5160 + 2 * n, 0.1, "V"),
                u16(f"mppt_{n}_current", 5161 + 2 * n, 0.1, "A"),
            )
        ),
        applies=_ON_HX,
        notes="only in V1.1.53",
        source=_V1_1_53,
    ),
    *(
        u16(
            f"string_{n}_current",
            7012 + n,
            0.01,
            "A",
            feature="currents of the strings",
            applies=Applies(strings=n, lines=_HX if n > 24 else frozenset()),  # noqa: PLR2004 - by document
            notes="0.01 A, unlike the trackers' 0.1 A",
            source=_V1_1_53 if n > 24 else "",  # noqa: PLR2004 - by document
        )
        for n in range(1, 33)
    ),
)

OUTPUT: Final = (
    energy16("daily_power_yields", 5003),
    energy32("total_power_yields", 5004, 1, notes="whole kWh; 5144 has tenths"),
    u32("total_running_time", 5006, 1, "h"),
    s16("internal_temperature", 5008, 0.1, "°C"),
    u32("total_apparent_power", 5009, 1, "VA"),
    u32("total_dc_power", 5017, 1, "W"),
    u16("phase_a_voltage", 5019, 0.1, "V", notes="line voltage for output type 3P3L"),
    u16("phase_b_voltage", 5020, 0.1, "V", applies=_THREE_PHASE, notes="line voltage for output type 3P3L"),
    u16("phase_c_voltage", 5021, 0.1, "V", applies=_THREE_PHASE, notes="line voltage for output type 3P3L"),
    *(
        u16(
            f"phase_{phase}_current",
            5022 + n,
            0.1,
            "A",
            applies=_THREE_PHASE if n else Applies(),
            signed_by_firmware=True,
            notes="unsigned by document; negative values were seen",
        )
        for n, phase in enumerate("abc")
    ),
    s32("total_active_power", 5031, 1, "W", notes="U32 in documents up to V1.1.53"),
    s32("total_reactive_power", 5033, 1, "var"),
    s16("power_factor", 5035, 0.001, sign="> 0 leading, < 0 lagging"),
    u16("grid_frequency", 5036, 0.1, "Hz", notes="old WiNet-S firmware sends 0.01 Hz; 5148 always does"),
    u16("nominal_reactive_power", 5049, 0.1, "kvar"),
    u16("array_insulation_resistance", 5071, 1, "kohm", valid_range=(1, 20_000)),
    u32("active_power_setpoint", 5077, 1, "W"),
    s32("reactive_power_setpoint", 5079, 1, "var"),
    u16("daily_running_time", 5113, 1, "min"),
    choice("present_country", 5114, COUNTRIES),
    s16("power_factor_setpoint", 5125, 0.001, applies=_NOT_JP),
    energy32("monthly_power_yields", 5128, applies=_NOT_JP),
    u16("heart_beat", 5143, notes="from V1.1.50", source=_V1_1_53),
    energy32("total_power_yields_high_resolution", 5144, applies=_NOT_JP),
    s16("negative_voltage_to_ground", 5146, 0.1, "V", valid_range=(-1500, 1500)),
    u16("bus_voltage", 5147, 0.1, "V", valid_range=(0, 1500)),
    u16("grid_frequency_high_resolution", 5148, 0.01, "Hz"),
)

CONDITION: Final = (
    choice("work_state_1", 5038, WORK_STATES, notes="0 is 'run': never take a failed read for it"),
    *(
        u16(
            f"fault_time_{part}",
            5039 + n,
            applies=Applies(certain=False),
            feature="time of the fault",
            notes="valid only while 5038 says fault or alarm run; not on SG-RS",
        )
        for n, part in enumerate(("year", "month", "day", "hour", "minute", "second"))
    ),
    u16("fault_code", 5045, notes="valid only while 5038 says fault or alarm run"),
    bits(
        "work_state_2",
        5081,
        {
            0: "run",
            1: "stop",
            2: "initial standby",
            3: "key stop",
            4: "standby",
            5: "emergency stop",
            6: "starting",
            9: "fault",
            10: "alarm run",
            11: "derating",
            12: "dispatch",
            13: "communication fault",
            17: "total run",
            18: "total fault",
        },
        applies=_NOT_JP,
    ),
    *each(
        (
            choice(
                "work_status_xinjiang_1",
                5140,
                {
                    0: "standby",
                    1: "running",
                    2: "derating",
                    3: "quota",
                    4: "scheduled outage",
                    5: "limit outage",
                    6: "error outage",
                },
            ),
            choice(
                "work_status_xinjiang_2", 5141, {1: "running", 2: "shut down", 3: "overhaul", 4: "standby"}
            ),
        ),
        applies=Applies(lines=frozenset({"SG-CX", "SG-HX", "SG-KTL", "SG-RT"}), certain=False),
        feature="work status Xinjiang",
        source=_V1_1_53,
    ),
    choice("pid_work_state", 5150, {2: "recovery", 4: "anti-PID", 8: "abnormal"}),
    choice("pid_alarm_code", 5151, {432: "impedance", 433: "function", 434: "overvoltage/overcurrent"}),
)

METER: Final = (
    *each(
        (
            s32("meter_power", 5083, 1, "W", sign="> 0 importing as evcc reads it; the document is silent"),
            s32("meter_phase_a_power", 5085, 1, "W"),
            s32("load_power", 5091, 1, "W"),
            energy32("daily_export_energy", 5093),
            energy32("total_export_energy", 5095),
            energy32("daily_import_energy", 5097),
            energy32("total_import_energy", 5099),
        ),
        applies=_WITH_METER,
        feature="feed-in meter",
        notes="needs a feed-in meter",
    ),
    *each(
        (s32("meter_phase_b_power", 5087, 1, "W"), s32("meter_phase_c_power", 5089, 1, "W")),
        applies=_WITH_THREE_PHASE_METER,
        feature="feed-in meter",
        notes="needs a feed-in meter of three phases, whatever the phases of the inverter",
    ),
    *each(
        (energy32("daily_direct_consumption", 5101), energy32("total_direct_consumption", 5103)),
        applies=Applies(models=_KTL_M),
        feature="direct consumption",
        notes="reserved in V1.1.80",
        source=_V1_1_53,
    ),
    *each(
        (
            s16("export_power_meter_16", 5216, 1, "W", sign="projects contradict each other"),
            u16("export_power_meter_high_word", 5217, notes="seems to be the high word of a 32-bit 5216"),
            s16("household_consumption_16", 5218, 1, "W", sign="projects contradict each other"),
        ),
        status=Status.UNDOCUMENTED,
        applies=Applies(lines=_RS | _RT),
        feature="undocumented meter",
    ),
)

OPERATION: Final = settings(
    *clock(None),
    choice("start_stop", 5006, START_STOP),
    choice("power_limit_switch", 5007, ENABLE),
    u16("power_limit_percent", 5008, 0.1, "%", valid_range=(0, 100), notes="volatile; some models: 110 %"),
    *each(
        (
            choice("export_limit_enable", 5010, ENABLE),
            u16("export_limit_value", 5011, 0.01, "kW"),
            u16("export_limit_ratio", 5015, 0.1, "%", valid_range=(0, 100)),
        ),
        applies=_WITH_METER,
        notes="needs a feed-in meter",
    ),
    *each(
        (
            u16("ct_output_current", 5012, 1, "A", valid_range=(1, 100)),
            u16("ct_range", 5013, 1, "A", valid_range=(1, 10_000)),
            choice("ct_type", 5014, {0: "internal", 1: "external"}),
        ),
        applies=Applies(models=_KTL_M),
        source=_V1_1_53,
    ),
    u16("installed_pv_power", 5016, 0.01, "kW", valid_range=(0, 300), source=_V1_1_53),
    s16(
        "power_factor_setting",
        5019,
        0.001,
        valid_range=(-1, 1),
        applies=Applies(certain=False),
        sign="> 0 leading, < 0 lagging",
        notes="needs reactive_mode 'power factor'; never between -0.8 and 0.8, so -0.001 is a hole",
    ),
    s16("reactive_percent", 5037, 0.1, "%", valid_range=(-100, 100), feature="reactive power"),
    choice(
        "reactive_mode",
        5036,
        {0x55: "off", 0xA1: "power factor", 0xA2: "reactive percentage", 0xA3: "Q(P)", 0xA4: "Q(U)"},
        feature="reactive power",
    ),
    *each(
        (
            choice("active_power_overload", 5020, ENABLE),
            s16(
                "night_reactive_ratio",
                5033,
                0.1,
                "%",
                valid_range=(-100, 100),
                feature="reactive power at night",
            ),
            choice(
                "local_remote_control",
                5034,
                {1: "remote only", 2: "local only", 3: "both"},
                notes="'local only' blocks every other write",
            ),
            choice("night_svg_switch", 5035, ENABLE, feature="reactive power at night"),
            u16("power_limit_value", 5039, 0.1, "kW"),
            s16("reactive_value", 5040, 0.1, "kvar", feature="reactive power"),
            choice("pid_recovery", 5041, ENABLE),
        ),
        applies=_NOT_JP,
    ),
    choice("anti_pid", 5042, ENABLE, applies=Applies(lines=_HX, models=("SG136TX", "SG*HV*"))),
    choice("full_day_pid_suppression", 5043, ENABLE, applies=_ON_HX, source=_V1_1_53),
    *each(
        (
            u16("qp_curve_1", 5048, items=30, feature="old curves", notes="phased-out models"),
            u16("qu_curve_1", 5078, items=38, feature="old curves", notes="phased-out models"),
            u16("qp_curve_2", 5116, items=19, feature="curves", notes="models on sale"),
            u16("qu_curve_2", 5135, items=20, feature="curves", notes="models on sale"),
        ),
        applies=Applies(certain=False),
    ),
    *each(
        (
            choice("quick_grid_dispatch", 32569, ENABLE),
            choice("swift_grid_dispatch", 32570, ENABLE),
        ),
        applies=Applies(models=("SG285HX*", "SG320HX*", "SG333HX*", "SG350HX*")),
        source=_V1_1_53,
    ),
)

SG_REGISTERS: Final[tuple[Register, ...]] = sourced(
    (
        *IDENTITY,
        *OUTPUT,
        *TRACKERS,
        *CONDITION,
        *METER,
        *OPERATION,
    ),
    {Status.OFFICIAL: "string protocol V1.1.80", Status.UNDOCUMENTED: "community projects"},
)
"""The whole map of the string inverters."""
