"""The iHomeManager: unit 247 on ports 502, 503 and 504, one TCP client each. It forwards no inverter."""

from __future__ import annotations

from typing import Final

from sungrow_lib.registers.applies import Applies
from sungrow_lib.registers.build import (
    ENABLE,
    choice,
    each,
    energy32,
    s16,
    s32,
    settings,
    sourced,
    text,
    u16,
    u32,
)
from sungrow_lib.registers.devices import DEVICE_TYPES
from sungrow_lib.registers.model import Kind, Register, Status

MODELS: Final = {device.code: device.model for device in DEVICE_TYPES if device.line == "energy manager"}

IDENTITY: Final = (
    u16("device_type_code", 8000, choices=MODELS, kind=Kind.STATE),
    text("protocol_number", 8001, 2),
    u32("protocol_version", 8003),
    u16("devices_connected", 8005),
    u16("devices_in_fault", 8006),
    text("application_software_version", 8318, 15, notes="from V1.0.1"),
    choice("output_type", 8554, {0: "single", 1: "3P4L", 2: "3P3L"}),
)

PLANT: Final = (
    u32("total_rated_active_power", 8145, 0.1, "kW"),
    u32("total_battery_capacity", 8147, 0.1, "kWh"),
    u32("battery_power_upper_limit", 8149, 0.1, "kW"),
    u16("battery_max_charge_power", 8151, 0.1, "kW"),
    u16("battery_min_charge_power", 8152, 0.1, "kW"),
    u16("battery_max_discharge_power", 8153, 0.1, "kW"),
    u16("battery_min_discharge_power", 8154, 0.1, "kW"),
    s32("inverter_active_power", 8155, 0.01, "kW", sign="> 0 out of the inverters"),
    s32("grid_active_power", 8157, 0.01, "kW", sign="> 0 importing as evcc reads it"),
    s32("load_active_power", 8159, 0.01, "kW", sign="> 0 consuming"),
    s32("battery_power", 8161, 0.01, "kW", sign="> 0 discharging as evcc reads it"),
    u16("battery_soc", 8163, 0.1, "%"),
    energy32("grid_import_energy", 8176),
    energy32("grid_export_energy", 8178),
)

METER: Final = (
    *(
        u16(f"phase_{phase}_voltage", 8555 + n, 0.1, "V", applies=Applies(three_phase=n > 0))
        for n, phase in enumerate("abc")
    ),
    u16("grid_frequency", 8558, 0.1, "Hz"),
    *(
        s32(f"phase_{phase}_active_power", 8559 + 2 * n, 1, "W", applies=Applies(three_phase_meter=n > 0))
        for n, phase in enumerate("abc")
    ),
    *each(
        (
            u16("channel_2_grid_frequency", 8568, 0.1, "Hz"),
            *(
                s32(
                    f"channel_2_phase_{phase}_active_power",
                    8569 + 2 * n,
                    1,
                    "W",
                    applies=Applies(three_phase_meter=n > 0),
                )
                for n, phase in enumerate("abc")
            ),
        ),
        feature="second channel of the meter",
    ),
)

CHARGER: Final = (
    choice("charger_status", 8552, {1: "idle", 2: "standby plugged", 3: "charging", 6: "complete"}),
    *each(
        (
            s32("charger_active_power", 8594, 1, "W"),
            *(s32(f"charger_phase_{phase}_power", 8596 + 2 * n, 1, "W") for n, phase in enumerate("abc")),
        ),
        feature="charger",
        status=Status.UNDOCUMENTED,
    ),
)

OPERATION: Final = settings(
    choice(
        "ems_mode",
        8024,
        {0: "AI", 1: "self consumption", 2: "time plan", 4: "VPP", 5: "compulsory"},
        notes="other numbers than the inverter's 13050; 0 and 2 are undocumented",
    ),
    choice("charge_discharge_command", 8025, {0xAA: "charge", 0xBB: "discharge", 0xCC: "stop"}),
    u32(
        "charge_discharge_power",
        8026,
        0.1,
        "kW",
        notes="write both words with function 16; function 06 is ignored",
    ),
    choice(
        "feed_in_limit_enable",
        8028,
        {1: "on", 0: "off", 0xAA: "on", 0x55: "off"},
        notes="the document says 1 and 0, devices want 0xAA and 0x55",
    ),
    u32("feed_in_limit_value", 8029, 0.1, "kW", status=Status.UNDOCUMENTED),
    s16("feed_in_limit_ratio", 8031, 0.1, "%", valid_range=(0, 100), notes="S32 before V1.0.2"),
    u16("vpp_heartbeat", 8033, 1, "s", valid_range=(0, 1000)),
    choice("start_stop", 8047, {0xCF: "boot", 0xCE: "shutdown"}),
    choice("charger_mode", 8048, {0xA0: "fast", 0xA1: "eco"}, notes="up to 0xA7 seen, by region"),
    choice("charger_enable", 8049, ENABLE),
    choice("charger_grid_permission", 8050, ENABLE),
    choice("active_power_limit_enable", 8051, ENABLE),
    u16("active_power_limit_ratio", 8052, 0.1, "%", valid_range=(0, 100)),
)

IHM_REGISTERS: Final[tuple[Register, ...]] = sourced(
    (*IDENTITY, *PLANT, *METER, *CHARGER, *OPERATION),
    {Status.OFFICIAL: "iHomeManager protocol V1.0.2", Status.UNDOCUMENTED: "community projects"},
)
"""The whole map of the iHomeManager."""
