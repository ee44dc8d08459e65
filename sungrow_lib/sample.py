"""`SungrowSample`: one reading of one device at one moment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

DEVICE_ID_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}$"
"""What a device may be called."""

TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f]+$"
"""What a text may hold."""

_RFC3339: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_MILLISECOND_DIGITS: Final = 3
_NUMBER_LIMIT: Final = 1e11
"""Ten times what any register can hold; up to here every multiple of 0.0001 is told from its neighbours."""
_TEXT_LIMIT: Final = 128


def parse_ts(value: object) -> datetime:
    """Read the time stamp of a reading: RFC 3339 text or an aware datetime, to the millisecond.

    Returns:
        The same instant in UTC.

    Raises:
        PydanticCustomError: not a time stamp, without an offset, or finer than milliseconds.
    """
    if isinstance(value, str):
        value = _parse_rfc3339(value)
    if not isinstance(value, datetime):
        raise PydanticCustomError("ts_type", "ts must be RFC 3339 text such as 2026-01-31T10:00:00.000Z")
    if value.tzinfo is None:
        raise PydanticCustomError("ts_zone", "ts must carry its offset, such as Z or +01:00")
    if value.microsecond % 1000:
        raise PydanticCustomError("ts_resolution", "ts must not be finer than milliseconds")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("ts_range", "ts is out of range") from None


def _parse_rfc3339(text: str) -> datetime:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise PydanticCustomError("ts_format", "ts must be RFC 3339, such as 2026-01-31T10:00:00.000Z")
    date, time, fraction, offset = match.groups()
    fraction = (fraction or "").ljust(_MILLISECOND_DIGITS, "0")
    if fraction[_MILLISECOND_DIGITS:].strip("0"):
        raise PydanticCustomError("ts_resolution", "ts must not be finer than milliseconds")
    try:
        return datetime.fromisoformat(f"{date}T{time}.{fraction[:_MILLISECOND_DIGITS]}{offset.upper()}")
    except ValueError:
        raise PydanticCustomError("ts_format", "ts is not a date and time that exists") from None


def whole_milliseconds(moment: datetime) -> datetime:
    """Cut off what is finer than a time stamp can be."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def format_ts(ts: datetime) -> str:
    """Write a time stamp the one way it is spelled in JSON: ``2026-01-31T10:00:00.000Z``."""
    return ts.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"  # in place of +00:00


def _rounded_to(decimals: int) -> Callable[[object], float]:
    factor: int = 10**decimals

    def validate(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PydanticCustomError("number_type", "must be a number")
        if not abs(value) <= _NUMBER_LIMIT:  # so written, NaN and integers beyond any float fail, too
            raise PydanticCustomError("number_range", "must be a finite number of ordinary size")
        steps = round(value * factor)
        return steps / factor if decimals else steps

    return validate


def _trimmed(items: object) -> object:
    """End a list with a value: trailing trackers, phases or strings that supplied none are left off."""
    if not isinstance(items, list | tuple):
        return items
    kept = list(items)
    while kept and kept[-1] is None:
        kept.pop()
    return kept or None


Item = TypeVar("Item")
Whole = Annotated[int, BeforeValidator(_rounded_to(0))]
Tenth = Annotated[float, BeforeValidator(_rounded_to(1)), Field(json_schema_extra={"multipleOf": 0.1})]
Hundredth = Annotated[float, BeforeValidator(_rounded_to(2)), Field(json_schema_extra={"multipleOf": 0.01})]
Thousandth = Annotated[float, BeforeValidator(_rounded_to(3)), Field(json_schema_extra={"multipleOf": 0.001})]
TenThousandth = Annotated[
    float, BeforeValidator(_rounded_to(4)), Field(json_schema_extra={"multipleOf": 0.0001})
]
Trackers = Annotated[Annotated[list[Item | None], Field(max_length=16)] | None, BeforeValidator(_trimmed)]
Strings = Annotated[Annotated[list[Item | None], Field(max_length=32)] | None, BeforeValidator(_trimmed)]
Phases = Annotated[Annotated[list[Item | None], Field(max_length=3)] | None, BeforeValidator(_trimmed)]
Word = Annotated[str, Field(max_length=_TEXT_LIMIT, pattern=TEXT_PATTERN)]
Codes = Annotated[list[Annotated[int, Field(strict=True, ge=0, le=65_535)]], Field(max_length=512)]
Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_ts),
    PlainSerializer(format_ts, return_type=str, when_used="json"),
]
DeviceId = Annotated[str, Field(strict=True, pattern=DEVICE_ID_PATTERN)]


class SungrowSample(BaseModel):
    """One reading of one device at one moment: typed, in units, with fixed signs.

    A field is None when this poll did not read it or the device said "not available"; never 0 for
    unknown. Meaning, unit, sign, resolution and plausible range of each field stand in
    :data:`sungrow_lib.quantities.QUANTITIES`; numbers are rounded to that resolution here, once.
    Implausible values are allowed: judging them is the server's work, losing them is nobody's.

    Attributes:
        device_id: which device, ``[A-Za-z0-9._-]{1,64}``.
        ts: arrival of the poll's fast block, aware, UTC, exactly milliseconds.
        battery_power_w: W, + charging, - discharging.
        export_power_w: W, + exporting, - importing.

    Raises:
        pydantic.ValidationError: a wrong type, an unknown field, or a time stamp without an offset or
            finer than milliseconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    device_id: DeviceId
    ts: Timestamp
    pv_power_w: Whole | None = None
    pv_daily_kwh: Tenth | None = None
    pv_total_kwh: Tenth | None = None
    mppt_voltage_v: Trackers[Tenth] = None
    mppt_current_a: Trackers[Tenth] = None
    string_current_a: Strings[Hundredth] = None
    insulation_resistance_kohm: Whole | None = None
    battery_power_w: Whole | None = None
    battery_current_a: Tenth | None = None
    battery_voltage_v: Tenth | None = None
    battery_soc_pct: Tenth | None = None
    battery_soh_pct: Tenth | None = None
    battery_temp_c: Tenth | None = None
    battery_capacity_kwh: Hundredth | None = None
    battery_charge_daily_kwh: Tenth | None = None
    battery_charge_total_kwh: Tenth | None = None
    battery_charge_from_pv_daily_kwh: Tenth | None = None
    battery_charge_from_pv_total_kwh: Tenth | None = None
    battery_discharge_daily_kwh: Tenth | None = None
    battery_discharge_total_kwh: Tenth | None = None
    battery_cell_voltage_max_v: TenThousandth | None = None
    battery_cell_voltage_min_v: TenThousandth | None = None
    battery_module_temp_max_c: Tenth | None = None
    battery_module_temp_min_c: Tenth | None = None
    load_power_w: Whole | None = None
    export_power_w: Whole | None = None
    export_daily_kwh: Tenth | None = None
    export_total_kwh: Tenth | None = None
    export_from_pv_daily_kwh: Tenth | None = None
    export_from_pv_total_kwh: Tenth | None = None
    import_daily_kwh: Tenth | None = None
    import_total_kwh: Tenth | None = None
    direct_use_daily_kwh: Tenth | None = None
    direct_use_total_kwh: Tenth | None = None
    self_consumption_daily_pct: Tenth | None = None
    export_phase_power_w: Phases[Whole] = None
    active_power_w: Whole | None = None
    reactive_power_var: Whole | None = None
    apparent_power_va: Whole | None = None
    power_factor: Thousandth | None = None
    grid_frequency_hz: Hundredth | None = None
    phase_voltage_v: Phases[Tenth] = None
    line_voltage_v: Phases[Tenth] = None
    phase_current_a: Phases[Tenth] = None
    output_daily_kwh: Tenth | None = None
    output_total_kwh: Tenth | None = None
    inverter_temp_c: Tenth | None = None
    bus_voltage_v: Tenth | None = None
    backup_power_w: Whole | None = None
    backup_phase_power_w: Phases[Whole] = None
    backup_phase_voltage_v: Phases[Tenth] = None
    backup_phase_current_a: Phases[Tenth] = None
    backup_frequency_hz: Hundredth | None = None
    running_time_total_h: Whole | None = None
    running_time_daily_min: Whole | None = None
    running_state: Word | None = None
    alarm_codes: Codes | None = None
    fault_codes: Codes | None = None
    firmware: Word | None = None
    inverter_clock: Word | None = None
    sample_count: Annotated[Whole, Field(ge=1)] | None = None
    interval_s: Annotated[Thousandth, Field(ge=0)] | None = None
    clock_source: Word | None = None

    def content(self) -> dict[str, Any]:
        """Return the fields that hold a value, without `device_id` and `ts`, as JSON types."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"device_id", "ts"})

    def to_json(self) -> str:
        """Return compact JSON of the fields that hold a value; a missing field means null."""
        return self.model_dump_json(exclude_none=True)


def split_unknown(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part a JSON object into the fields `SungrowSample` knows and those only a newer version knows."""
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in fields.items():
        (known if name in SungrowSample.model_fields else unknown)[name] = value
    return known, unknown
