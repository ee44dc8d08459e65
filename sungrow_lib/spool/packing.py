"""Readings as they are kept in the file: their JSON, small.

Most of a reading is the names of its fields, and those are known beforehand: with them as a dictionary zlib
makes a sixth of it. That spares the disk, for a commit writes whole pages. A checksum comes with it: a
reading that was damaged is noticed, and never sent as another one.
"""

from __future__ import annotations

import zlib
from typing import Final

_LEVEL: Final = 3
_WINDOW_BITS: Final = 12
_MEMORY_LEVEL: Final = 5
_UNREADABLE: Final = "?unreadable"
"""In place of a damaged content: no JSON, so nobody can take it for a reading."""
_KNOWN: Final = (
    b'"string_current_a":"battery_cell_voltage_max_v":"battery_cell_voltage_min_v":"battery_module_tem'
    b'p_max_c":"battery_module_temp_min_c":"backup_phase_voltage_v":"backup_phase_current_a":"backup_f'
    b'requency_hz":"firmware":"clock_source":{"pv_power_w":3396,"pv_daily_kwh":4.7,"pv_total_kwh":1589'
    b'8.1,"mppt_voltage_v":[608.4,583.5],"mppt_current_a":[2.9,2.8],"active_power_w":3327,"reactive_po'
    b'wer_var":0,"apparent_power_va":3327,"power_factor":1.0,"grid_frequency_hz":50.0,"phase_voltage_v'
    b'":[232.6,231.2,230.9],"phase_current_a":[4.8,4.8,4.8],"inverter_temp_c":30.5,"bus_voltage_v":620'
    b'.6,"running_time_total_h":4099,"running_time_daily_min":191,"running_state":"running","alarm_cod'
    b'es":[],"fault_codes":[],"inverter_clock":"2026-06-15T08:05:00","sample_count":1,"interval_s":5.0'
    b'03}{"pv_power_w":3369,"pv_daily_kwh":4.7,"pv_total_kwh":10203.8,"mppt_voltage_v":[450.0,394.9],"'
    b'mppt_current_a":[5.6,2.1],"insulation_resistance_kohm":691,"battery_power_w":3099,"battery_curre'
    b'nt_a":14.8,"battery_voltage_v":209.5,"battery_soc_pct":85.3,"battery_soh_pct":100.0,"battery_tem'
    b'p_c":22.6,"battery_capacity_kwh":9.6,"battery_charge_daily_kwh":3.4,"battery_charge_total_kwh":2'
    b'499.6,"battery_charge_from_pv_daily_kwh":3.4,"battery_charge_from_pv_total_kwh":2499.6,"battery_'
    b'discharge_daily_kwh":1.1,"battery_discharge_total_kwh":2370.3,"load_power_w":188,"export_power_w'
    b'":1,"export_daily_kwh":0.0,"export_total_kwh":4839.6,"export_from_pv_daily_kwh":0.0,"export_from'
    b'_pv_total_kwh":4839.6,"import_daily_kwh":0.0,"import_total_kwh":2309.2,"direct_use_daily_kwh":1.'
    b'1,"direct_use_total_kwh":2599.9,"self_consumption_daily_pct":99.7,"export_phase_power_w":[-5,12,'
    b'-6],"active_power_w":189,"reactive_power_var":0,"apparent_power_va":189,"power_factor":1.0,"grid'
    b'_frequency_hz":50.0,"phase_voltage_v":[231.2,229.9,229.9],"phase_current_a":[0.3,0.3,0.3],"outpu'
    b't_daily_kwh":2.2,"output_total_kwh":9731.1,"inverter_temp_c":31.5,"bus_voltage_v":600.8,"backup_'
    b'power_w":-87,"backup_phase_power_w":[-26,-31,-30],"running_state":"running","alarm_codes":[],"fa'
    b'ult_codes":[],"inverter_clock":"2026-06-15T08:05:00","sample_count":1,"interval_s":5.003}'
)
"""What readings look like: a string inverter's, a hybrid's, and before them the names of all other fields.

It is a part of the file's format: what was kept with it is readable with it alone, so it must never change.
"""


_PACKER: Final = zlib.compressobj(
    _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, _KNOWN
)
"""Has read the dictionary; a copy goes on from there."""


def pack(content: str) -> bytes:
    """Make a content small."""
    packer = _PACKER.copy()
    return packer.compress(content.encode()) + packer.flush()


def unpack(kept: str | bytes | float | None) -> str:
    """Return a content as it was; earlier versions kept it as plain text. A number is one damaged."""
    if isinstance(kept, str):
        return kept
    if not isinstance(kept, bytes):
        return _UNREADABLE
    unpacker = zlib.decompressobj(_WINDOW_BITS, _KNOWN)
    try:
        content = unpacker.decompress(kept).decode()
    except (zlib.error, ValueError):
        return _UNREADABLE
    return content if unpacker.eof else _UNREADABLE
