"""One bucket of a series from what rollups say of it: averages, energies and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from reference_server.storage.rollups import Told
from reference_server.storage.schema_sql import GAUGES, POWER_OF
from reference_server.zones import Span
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.wire import SeriesBucket

_MS: Final = timedelta(milliseconds=1)
_REMEMBERED: Final = 2_000
"""Buckets; some 3 kB each."""
_MS_PER_KWH: Final = 3_600_000_000  # W x ms
_STANDARD_FIELDS: Final = (
    "avg_pv_power_w",
    "max_pv_power_w",
    "avg_battery_power_w",
    "avg_battery_soc_pct",
    "avg_load_power_w",
    "avg_export_power_w",
)
_ENERGY_FIELDS: Final = (
    "pv_kwh",
    "load_kwh",
    "import_kwh",
    "export_kwh",
    "charge_kwh",
    "discharge_kwh",
    "energy_source",
    "residual_kwh",
    "self_consumption_pct",
    "autarky_pct",
)
GAUGE_FIELDS: Final = frozenset(f"{kind}_{gauge.name}" for kind in ("avg", "min", "max") for gauge in GAUGES)
"""Aggregates of gauges that `fields=` may ask for."""

SERIES_FIELDS: Final = GAUGE_FIELDS | frozenset(_ENERGY_FIELDS)
"""Everything that `fields=` may ask for."""

_ENERGIES: Final = frozenset(_ENERGY_FIELDS)

_GaugeColumns = tuple[str, str, str | None, int]
"""An aggregate of a gauge, its column, the one it is divided by if any, and the gauge's steps."""


@cache
def _gauge_columns(field: str) -> _GaugeColumns:
    kind, _, name = field.partition("_")
    factor = QUANTITY_BY_NAME[name].factor
    if kind == "avg":
        return field, f"{name}_sum", f"{name}_ms", factor
    return field, f"{name}_{kind}", None, factor


_STANDARD_GAUGES: Final = tuple(map(_gauge_columns, _STANDARD_FIELDS))

_BLANK: Final = SeriesBucket.model_construct(
    _fields_set=set(SeriesBucket.model_fields), **dict[str, Any](dict.fromkeys(SeriesBucket.model_fields))
)
"""A bucket with all its fields: to copy it takes half the time of making one."""

Facts = Mapping[str, Any]

_NOTHING: Final[Told] = (), ()

COUNTER_OF: Final = {
    "pv": "pv_total_kwh",
    "import": "import_total_kwh",
    "export": "export_total_kwh",
    "charge": "battery_charge_total_kwh",
    "discharge": "battery_discharge_total_kwh",
}
"""Energies that have a counter; it comes first, the integral of power stands in where it is silent."""

_KWH: Final = {name: f"{name}_kwh" for name in (*COUNTER_OF, "load")}
_PV_INTEGRAL: Final = POWER_OF["pv_total_kwh"]
_ENERGY_COLUMNS: Final = frozenset(
    {"load_power_w_sum", POWER_OF["pv_total_kwh"]}
    | {f"{counter}_{part}" for counter in COUNTER_OF.values() for part in ("increase", "uncounted")}
)
"""Columns of the rollups that energies are made of."""


class Buckets:
    """Makes buckets, and remembers what it made of what lately.

    Who looks at a day or a year again asks of rollups that are the same but for the last one: they are read
    each time, and what follows from them is not reckoned anew. What is remembered never gets old, as it goes
    by everything that a bucket is made of.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], SeriesBucket] = {}

    def bucket(
        self, span: Span, told: Told | None, zone: ZoneInfo, now: datetime, fields: Sequence[str] | None
    ) -> SeriesBucket:
        """Return the bucket of a span, see :func:`make_bucket`; nobody may change it."""
        told = told or _NOTHING
        if span.end > now:
            return make_bucket(span, dict(zip(*told, strict=True)), zone, now, fields)
        key = (span.begin, span.end, zone.key, fields and tuple(fields), told)
        bucket = self._made.get(key)
        if bucket is None:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            bucket = make_bucket(span, dict(zip(*told, strict=True)), zone, now, fields)
            self._made[key] = bucket
        return bucket


def make_bucket(
    span: Span, facts: Facts, zone: ZoneInfo, now: datetime, fields: Sequence[str] | None = None
) -> SeriesBucket:
    """One bucket of an answer from the facts of a rollup; without facts all is unknown and uncovered."""
    end = min(span.end, now)
    values: dict[str, Any] = {
        "bucket": span.begin.astimezone(zone).isoformat(),
        "sample_count": facts.get("sample_count", 0),
        "coverage": round(min(1.0, facts.get("covered_ms", 0) * _MS / max(end - span.begin, _MS)), 4),
        "partial": span.end > now,
    }
    if fields is None:
        _add_gauges(values, facts, _STANDARD_GAUGES)
        values |= _energies(facts)
        bucket = copy(_BLANK)
        bucket.__dict__.update(values)
        return bucket
    _add_gauges(values, facts, [_gauge_columns(field) for field in fields if field in GAUGE_FIELDS])
    if not _ENERGIES.isdisjoint(fields):
        energies = _energies(facts)
        values |= {name: energies[name] for name in fields if name in energies}
    return SeriesBucket.model_construct(_fields_set=set(values), **values)


def needed_columns(fields: Sequence[str] | None) -> frozenset[str]:
    """Columns of the rollups that these fields are made of: reading all takes much longer."""
    return _needed_columns(None if fields is None else tuple(fields))


@lru_cache(maxsize=256)
def _needed_columns(fields: tuple[str, ...] | None) -> frozenset[str]:
    chosen = (*_STANDARD_FIELDS, *_ENERGY_FIELDS) if fields is None else fields
    needed = {"sample_count", "covered_ms"}
    for field in chosen:
        kind, _, name = field.partition("_")
        if field not in GAUGE_FIELDS:
            needed |= _ENERGY_COLUMNS
        elif kind == "avg":
            needed |= {f"{name}_sum", f"{name}_ms"}
        else:
            needed.add(f"{name}_{kind}")
    return frozenset(needed)


def _add_gauges(values: dict[str, Any], facts: Facts, gauges: Iterable[_GaugeColumns]) -> None:
    for field, column, divisor, factor in gauges:
        value = facts.get(column)
        if value is not None and divisor is not None:
            time_ms = facts.get(divisor)
            values[field] = round(value / time_ms / factor, 3) if time_ms else None
        else:
            values[field] = None if value is None else value / factor


def _energies(facts: Facts) -> dict[str, Any]:
    found = {name: energy_of(facts, counter) for name, counter in COUNTER_OF.items()}
    load = kwh_of(facts.get("load_power_w_sum"))
    found["load"] = (load, None if load is None else "integral")
    return balance_of(found, kwh_of(facts.get(_PV_INTEGRAL)))


def balance_of(
    found: Mapping[str, tuple[float | None, str | None]], integral: float | None
) -> dict[str, Any]:
    """Energies of a bucket, and what follows from them.

    Args:
        found: energy in kWh and where it comes from, by name.
        integral: energy of the sun by its power, in kWh.
    """
    values: dict[str, Any] = {_KWH[name]: value for name, (value, _) in found.items()}
    sources = {name: source for name, (_, source) in found.items()}
    pv = values["pv_kwh"]
    values["energy_source"] = sources if any(sources.values()) else None
    values["residual_kwh"] = _residual(pv, integral) if sources["pv"] == "counter" else None
    values["self_consumption_pct"] = _share(pv, values["export_kwh"])
    values["autarky_pct"] = _share(values["load_kwh"], values["import_kwh"])
    return values


def _residual(counted: float | None, integral: float | None) -> float | None:
    return None if counted is None or integral is None else round(counted - integral, 3)


@cache
def _counter_columns(counter: str) -> tuple[str, str, int]:
    return f"{counter}_increase", f"{counter}_uncounted", QUANTITY_BY_NAME[counter].factor


def energy_of(facts: Facts, counter: str) -> tuple[float | None, str | None]:
    """Energy in kWh and where it comes from: the counter, the integral of power, or both in turn."""
    increased, left_out, factor = _counter_columns(counter)
    increase: int | None = facts.get(increased)
    silent: int | None = facts.get(left_out)
    if increase is not None and silent is None:
        return increase / factor, "counter"
    uncounted = kwh_of(silent)
    if increase is None:
        return uncounted, None if uncounted is None else "integral"
    assert uncounted is not None
    return round(increase / factor + uncounted, 3), "mixed"


def kwh_of(integral: int | None) -> float | None:
    """Energy in kWh of power times time, in W x ms; of power that flows back, too."""
    return None if integral is None else round(abs(integral) / _MS_PER_KWH, 3)


def _share(whole: float | None, less: float | None) -> float | None:
    """Return the share of ``whole`` that is left without ``less``, in percent."""
    if whole is None or less is None or whole <= 0:
        return None
    return round(min(100.0, max(0.0, 100 * (whole - less) / whole)), 2)
