"""A reading that nobody filled: a dongle serves its empty copy while the inverter behind it sleeps."""

from __future__ import annotations

from typing import Final

from sungrow_lib.normalizer.values import Values
from sungrow_lib.quantities import Family
from sungrow_lib.registers.words import RegisterWords, Space

_COUNTED: Final = {
    Family.SH: (
        "total_output_energy",
        "total_pv_generation",
        "total_import_energy",
        "total_export_energy",
        "total_battery_charge",
        "total_battery_discharge",
    ),
    Family.SG: ("total_power_yields", "total_power_yields_high_resolution", "total_running_time"),
}
"""Lifetime counters, which are all 0 only on a new inverter, ..."""

_MEASURED: Final = ("grid_frequency", "grid_frequency_high_resolution", "phase_a_voltage")
"""... what only a sleeping one lacks, ..."""

_OTHERS: Final = ("internal_temperature", "bus_voltage", "battery_voltage", "total_dc_power", "battery_soc")
"""... and what is 0 on both, but hardly all of it."""

_FEWEST: Final = 3
"""So many of them must have been read to tell."""

_WHAT_IT_IS: Final = range(4949, 5003)
"""What a dongle knows of a sleeping inverter: serial number, type, nominal power, number of phases."""
_FEWEST_WORDS: Final = 30
"""So many others must have been read, all of them 0, where a request of the poll was lost: few may well be 0,
as some fields that are read alone."""


def filled(family: Family, registers: Values, words: RegisterWords) -> RegisterWords:
    """Return the words that mean something: all, or without the zeros of a reading that nobody filled."""
    counted = [name for name in _COUNTED.get(family, ()) if name in registers]
    measured = [name for name in _MEASURED if name in registers]
    told = (*counted, *measured, *(name for name in _OTHERS if name in registers))
    if any(registers[name] for name in told):
        return words
    is_told = counted and measured and len(told) >= _FEWEST
    if not (is_told or ((counted or measured) and _is_empty(words))):
        return words
    return RegisterWords({key: word for key, word in words.items() if word or key[0] is Space.HOLDING})


def _is_empty(words: RegisterWords) -> bool:
    """Whether all that was read is 0, but what the device is."""
    read = [
        word for (space, number), word in words.items() if space is Space.INPUT and number not in _WHAT_IT_IS
    ]
    return len(read) >= _FEWEST_WORDS and not any(read)
