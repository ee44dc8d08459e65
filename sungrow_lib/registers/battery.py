"""The battery (SBR, SBH), a Modbus unit of its own: 200, 201.. on the LAN port, a forwarded id on WiNet-S."""

from __future__ import annotations

from typing import Any, Final

from sungrow_lib.registers.applies import Applies
from sungrow_lib.registers.build import choice, each, energy32, s16, sourced, text, u16
from sungrow_lib.registers.devices import DEVICE_TYPES
from sungrow_lib.registers.model import Register, Status
from sungrow_lib.registers.sh import FAULTS

MODULES: Final = range(1, 9)
"""Modules in a stack."""

_CELLS: Final = Applies(winet=False, certain=False)
"""Answered by SBR stacks with new enough BCU firmware, and not forwarded by the dongle."""

_BELOW_ZERO: Final[dict[str, Any]] = {
    "signed_by_firmware": True,
    "notes": "unsigned as it was found out; no battery has what the upper half would be",
}

PACK: Final = each(
    (
        choice(
            "battery_device_type",
            10710,
            {device.code: device.model for device in DEVICE_TYPES if device.line == "battery"},
        ),
        text("battery_serial", 10711, 10),
        text("battery_bcu_firmware", 10721, 10),
        choice("battery_status", 10740, {0: "unplugged", 1: "standby", 2: "run"}),
        u16("battery_unit_voltage", 10741, 0.1, "V"),
        s16("battery_unit_current", 10742, 0.1, "A", sign="no source says"),
        u16("battery_unit_temperature", 10743, 0.1, "°C", **_BELOW_ZERO),
        u16("battery_unit_soc", 10744, 0.1, "%"),
        u16("battery_unit_soh", 10745, 1, "%", notes="1 %, unlike 13024"),
        energy32("battery_unit_total_charge", 10746),
        energy32("battery_unit_total_discharge", 10748),
    ),
    status=Status.UNDOCUMENTED,
)

CELLS: Final = each(
    (
        u16("cell_voltage_max", 10757, 0.0001, "V"),
        u16("cell_voltage_max_position", 10758, notes="module * 256 + cell"),
        u16("cell_voltage_min", 10759, 0.0001, "V"),
        u16("cell_voltage_min_position", 10760, notes="module * 256 + cell"),
        u16("module_temperature_max", 10761, 0.1, "°C", **_BELOW_ZERO),
        u16("module_temperature_max_position", 10762),
        u16("module_temperature_min", 10763, 0.1, "°C", **_BELOW_ZERO),
        u16("module_temperature_min_position", 10764),
        *(u16(f"module_{n}_cell_voltage_max", 10764 + n, 0.0001, "V") for n in MODULES),
        *(u16(f"module_{n}_cell_voltage_min", 10772 + n, 0.0001, "V") for n in MODULES),
        *(u16(f"module_{n}_cell_type", 10780 + n) for n in MODULES),
        u16("dc_switch_state", 10789, notes="2 seen when closed"),
        *(text(f"module_{n}_serial", 10813 + 9 * n, 9) for n in MODULES),
    ),
    status=Status.UNDOCUMENTED,
    applies=_CELLS,
    feature="cells",
)

BATTERY_REGISTERS: Final[tuple[Register, ...]] = sourced(
    (
        *PACK,
        *CELLS,
        *each((row for row in FAULTS if row.name.startswith("bms")), feature="alarms of the BMS"),
    ),
    {Status.OFFICIAL: "hybrid protocol V1.1.16", Status.UNDOCUMENTED: "community projects"},
)
"""The whole map of the battery's unit."""
