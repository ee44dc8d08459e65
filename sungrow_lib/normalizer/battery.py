"""What a battery's own registers mean beyond the table: is there one, and are its cells known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_CELLS: Final = (
    "battery_cell_voltage_max_v",
    "battery_cell_voltage_min_v",
    "battery_module_temp_max_c",
    "battery_module_temp_min_c",
)


def battery_values(values: Mapping[str, Any]) -> dict[str, None]:
    """What is not known after all: dongles fill cells they do not forward with 0, which no cell has."""
    unknown: list[str] = []
    if values["battery_voltage_v"] == 0 and values["battery_soh_pct"] == 0:  # no battery is at both
        unknown += (name for name in values if name.startswith("battery_"))
    if not values["battery_cell_voltage_max_v"]:
        unknown += _CELLS
    return {name: None for name in unknown if values[name] == 0}
