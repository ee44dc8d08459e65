"""What a battery's own registers mean beyond the table: are the cells known."""

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
    are_known = values["battery_cell_voltage_max_v"]
    return {name: None for name in _CELLS if not are_known and values[name] == 0}
