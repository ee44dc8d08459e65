"""One bucket of a series from what rollups say of it: averages, energies and what follows from them.

Ten years of buckets are made while somebody waits, so this is plain arithmetic on the numbers of a row: which
number stands where is found out once for all rows of a statement, see :func:`maker`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from reference_server.storage.schema_sql import GAUGES, POWER_OF
from reference_server.zones import Span
from sungrow_lib.quantities import QUANTITY_BY_NAME

_MS: Final = timedelta(milliseconds=1)
_MS_PER_WH: Final = 3_600_000  # W x ms

COUNTER_OF: Final = {
    "pv": "pv_total_kwh",
    "import": "import_total_kwh",
    "export": "export_total_kwh",
    "charge": "battery_charge_total_kwh",
    "discharge": "battery_discharge_total_kwh",
}
"""Energies that have a counter; it comes first, the integral of power stands in where it is silent."""

Facts = Mapping[str, Any]
Sources = Mapping[str, str | None]
Energy = tuple[int | None, str | None]
"""In Wh, and where it comes from."""

_Number = float | None
Balance = tuple[
    _Number, _Number, _Number, _Number, _Number, _Number, Sources | None, _Number, _Number, _Number
]
"""What the fields :data:`ENERGIES` say."""


class Bucket(Struct, gc=False):
    """A bucket with the usual fields: :class:`~sungrow_lib.wire.answers.SeriesBucket` in its order.

    The model would take several times as long to make and to write.
    """

    bucket: str
    avg_pv_power_w: float | None = None
    max_pv_power_w: float | None = None
    avg_battery_power_w: float | None = None
    avg_battery_soc_pct: float | None = None
    avg_load_power_w: float | None = None
    avg_export_power_w: float | None = None
    pv_kwh: float | None = None
    load_kwh: float | None = None
    import_kwh: float | None = None
    export_kwh: float | None = None
    charge_kwh: float | None = None
    discharge_kwh: float | None = None
    energy_source: Sources | None = None
    residual_kwh: float | None = None
    self_consumption_pct: float | None = None
    autarky_pct: float | None = None
    sample_count: int = 0
    coverage: float = 0.0
    partial: bool = False


class PlantBucket(Struct, gc=False):
    """A bucket of a plant: :class:`~sungrow_lib.wire.reports.PlantBucket` in the order of its answers."""

    bucket: str
    avg_pv_power_w: float | None
    avg_battery_power_w: float | None
    avg_battery_soc_pct: float | None
    avg_load_power_w: float | None
    avg_export_power_w: float | None
    pv_kwh: float | None
    load_kwh: float | None
    import_kwh: float | None
    export_kwh: float | None
    charge_kwh: float | None
    discharge_kwh: float | None
    energy_source: Sources | None
    residual_kwh: float | None
    self_consumption_pct: float | None
    autarky_pct: float | None
    sample_count: int
    coverage: float
    partial: bool
    left_out: list[str]


Record = Bucket | PlantBucket | dict[str, Any]
"""A bucket: with the usual fields, of a plant, or with others."""

_FIELDS: Final = Bucket.__struct_fields__
_ALWAYS: Final = ("bucket", "sample_count", "coverage", "partial")
_STANDARD_GAUGES: Final = tuple(name for name in _FIELDS if name.startswith(("avg_", "max_")))
ENERGIES: Final = tuple(name for name in _FIELDS if name not in (*_ALWAYS, *_STANDARD_GAUGES))
"""Fields that :func:`balance_of` makes."""

GAUGE_FIELDS: Final = frozenset(f"{kind}_{gauge.name}" for kind in ("avg", "min", "max") for gauge in GAUGES)
"""Aggregates of gauges that `fields=` may ask for."""

SERIES_FIELDS: Final = GAUGE_FIELDS | frozenset(ENERGIES)
"""Everything that `fields=` may ask for."""

_BALANCE_COLUMNS: Final = (
    "load_power_w_sum",
    POWER_OF["pv_total_kwh"],
    *(f"{counter}_{part}" for counter in COUNTER_OF.values() for part in ("increase", "uncounted")),
)
"""Columns of the rollups that energies are made of."""


def _columns_of(field: str) -> tuple[str, ...]:
    """Columns an aggregate of a gauge is made of."""
    kind, _, name = field.partition("_")
    return (f"{name}_sum", f"{name}_ms") if kind == "avg" else (f"{name}_{kind}",)


_STANDARD_COLUMNS: Final = (
    "sample_count",
    "covered_ms",
    *(column for field in _STANDARD_GAUGES for column in _columns_of(field)),
    *_BALANCE_COLUMNS,
)


def needed_columns(fields: Sequence[str] | None) -> frozenset[str]:
    """Columns of the rollups that these fields are made of: reading all takes much longer."""
    return _needed_columns(None if fields is None else tuple(fields))


@lru_cache(maxsize=256)
def _needed_columns(fields: tuple[str, ...] | None) -> frozenset[str]:
    needed = {"sample_count", "covered_ms"}
    for field in (*_STANDARD_GAUGES, *ENERGIES) if fields is None else fields:
        needed.update(_columns_of(field) if field in GAUGE_FIELDS else _BALANCE_COLUMNS)
    return frozenset(needed)


# ------------------------------------------------------------------------------------------------ a bucket

Make = Callable[[str, tuple[Any, ...] | None, int, bool], Record]
"""From the text of its begin, the numbers of a row if any, its ms up to now, and whether it still runs."""


class Maker:
    """Makes the buckets of an answer.

    Args:
        fields: those wanted, None for the usual ones.
        names: columns of the rows that buckets are made of.
        zone: the site's.
        now: buckets that end later are still running.
    """

    def __init__(
        self, fields: Sequence[str] | None, names: Sequence[str], zone: ZoneInfo, now: datetime
    ) -> None:
        self._make = _make_of(None if fields is None else tuple(fields), tuple(names))
        self._zone = zone
        self._now = now

    def bucket(self, span: Span, values: tuple[Any, ...] | None) -> Record:
        """Return the bucket of a span; without a row all is unknown and uncovered."""
        begin, end = span.begin, span.end
        is_running = end > self._now
        elapsed_ms = ((self._now if is_running else end) - begin) // _MS
        return self._make(label(begin, self._zone), values, elapsed_ms, is_running)


@lru_cache(maxsize=8192)
def label(begin: datetime, zone: ZoneInfo) -> str:
    """Return a moment as text with the site's offset; the same ones are asked for all day."""
    return begin.astimezone(zone).isoformat()


@lru_cache(maxsize=256)
def _make_of(fields: tuple[str, ...] | None, names: tuple[str, ...]) -> Make:
    return _standard(names) if fields is None else _chosen(fields, names)


def _steps(field: str) -> int:
    return QUANTITY_BY_NAME[field.partition("_")[2]].factor


_PV, _, _BATTERY, _SOC, _LOAD, _EXPORT = map(_steps, _STANDARD_GAUGES)


def _standard(names: tuple[str, ...]) -> Make:
    pick = _picker(names, _STANDARD_COLUMNS)

    def make(begin: str, values: tuple[Any, ...] | None, elapsed_ms: int, is_running: bool) -> Bucket:  # noqa: FBT001 - for each of thousands
        if values is None:
            return Bucket(begin, partial=is_running)
        (
            count, covered_ms, pv, pv_ms, pv_max, battery, battery_ms, soc, soc_ms, load, load_ms, export,
            export_ms, *parts,
        ) = pick(values)  # fmt: skip
        return Bucket(
            begin,
            average(pv, pv_ms, _PV),
            None if pv_max is None else pv_max / _PV,
            average(battery, battery_ms, _BATTERY),
            average(soc, soc_ms, _SOC),
            average(load, load_ms, _LOAD),
            average(export, export_ms, _EXPORT),
            *_balance(parts),
            count,
            coverage(covered_ms, elapsed_ms),
            is_running,
        )

    return make


def _chosen(fields: tuple[str, ...], names: tuple[str, ...]) -> Make:
    """Make buckets of chosen fields: first the usual ones in their order, then the others as asked for."""
    taken = {name: _of_one(name, names) for name in fields if name in GAUGE_FIELDS}
    balance = None if set(fields).isdisjoint(ENERGIES) else _picker(names, _BALANCE_COLUMNS)
    usual = [name for name in _FIELDS if name in fields or name in _ALWAYS]
    order = (*usual, *(name for name in taken if name not in usual))
    ends = _picker(names, ("sample_count", "covered_ms"))

    def make(begin: str, values: tuple[Any, ...] | None, elapsed_ms: int, is_running: bool) -> dict[str, Any]:  # noqa: FBT001 - as above
        found: dict[str, Any] = {"bucket": begin, "partial": is_running}
        if values is None:
            found |= {"sample_count": 0, "coverage": 0.0}
        else:
            count, covered_ms = ends(values)
            found |= {"sample_count": count, "coverage": coverage(covered_ms, elapsed_ms)}
            found |= {name: take(values) for name, take in taken.items()}
            if balance is not None:
                found |= zip(ENERGIES, _balance(balance(values)), strict=True)
        return {name: found.get(name) for name in order}

    return make


def _of_one(field: str, names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], float | None]:
    """Make what takes an aggregate of a gauge from a row."""
    factor = _steps(field)
    places = [names.index(column) for column in _columns_of(field)]
    if len(places) > 1:
        total, time_ms = places
        return lambda values: average(values[total], values[time_ms], factor)
    [place] = places
    return lambda values: None if values[place] is None else values[place] / factor


def _picker(names: tuple[str, ...], wanted: Sequence[str]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    return cast(
        "Callable[[tuple[Any, ...]], tuple[Any, ...]]", itemgetter(*(names.index(name) for name in wanted))
    )


def record_dict(record: Record) -> dict[str, Any]:
    """Return a bucket by the names of its fields."""
    return record if isinstance(record, dict) else structs.asdict(record)


# ------------------------------------------------------------------------------------------------- numbers


def average(total: int | None, time_ms: int | None, factor: int) -> float | None:
    """Return an average to three digits from the integral of a gauge's resolution steps over its time.

    Whole numbers are rounded: exact, and in half the time it takes with floats.
    """
    if not time_ms or total is None:
        return None
    steps = time_ms * factor
    return (2000 * total + steps) // (2 * steps) / 1000


def coverage(covered_ms: int, elapsed_ms: int) -> float:
    """Return the share of the time that readings stand for, to four digits."""
    if covered_ms >= elapsed_ms:
        return 1.0 if covered_ms > 0 else 0.0
    return (20_000 * covered_ms + elapsed_ms) // (2 * elapsed_ms) / 10_000


def wh_of(integral: int | None) -> int | None:
    """Energy in Wh of power times time, in W x ms: below zero where more flowed back."""
    if integral is None:
        return None
    return _magnitude_wh(integral) if integral >= 0 else -_magnitude_wh(integral)


def _magnitude_wh(integral: int) -> int:
    return (abs(integral) + _MS_PER_WH // 2) // _MS_PER_WH


def _balance(columns: Sequence[int | None]) -> Balance:
    """Return the energies of a bucket and what follows from them, from :data:`_BALANCE_COLUMNS`."""
    (
        load, integral, pv, pv_silent, imported, import_silent, exported, export_silent,
        charged, charge_silent, discharged, discharge_silent,
    ) = columns  # fmt: skip
    return balance_of(
        _energy(pv, pv_silent, _WH[0]),
        (wh_of(load), None if load is None else "integral"),
        _energy(imported, import_silent, _WH[1]),
        _energy(exported, export_silent, _WH[2]),
        _energy(charged, charge_silent, _WH[3]),
        _energy(discharged, discharge_silent, _WH[4]),
        wh_of(integral),
    )


@cache
def _step_wh(counter: str) -> int:
    """Energy of a counter's resolution step, in Wh."""
    step, rest = divmod(1000, QUANTITY_BY_NAME[counter].factor)
    assert not rest
    return step


_WH: Final = tuple(map(_step_wh, COUNTER_OF.values()))


def balance_of(
    pv: Energy,
    load: Energy,
    imported: Energy,
    exported: Energy,
    charged: Energy,
    discharged: Energy,
    integral: int | None,
) -> Balance:
    """Return energies of a bucket and what follows from them, in the order of its fields.

    Args:
        pv: energy of the sun and where it comes from; and so on.
        load: of the house.
        imported: from the grid.
        exported: to the grid.
        charged: into the battery.
        discharged: out of it.
        integral: energy of the sun by its power, in Wh.
    """
    made, source = pv
    residual = None
    if made is not None and integral is not None and source == "counter":
        residual = (made - integral) / 1000
    return (
        _kwh(made),
        _kwh(load[0]),
        _kwh(imported[0]),
        _kwh(exported[0]),
        _kwh(charged[0]),
        _kwh(discharged[0]),
        _named_sources((source, load[1], imported[1], exported[1], charged[1], discharged[1])),
        residual,
        _share(made, exported[0]),
        _share(load[0], imported[0]),
    )


@cache  # there are some hundreds at most
def _named_sources(sources: tuple[str | None, ...]) -> Sources | None:
    names = ("pv", "load", "import", "export", "charge", "discharge")
    return dict(zip(names, sources, strict=True)) if any(sources) else None


def energy_of(facts: Facts, counter: str) -> Energy:
    """Energy and where it comes from: the counter, the integral of power, or both in turn."""
    increase, silent = facts.get(f"{counter}_increase"), facts.get(f"{counter}_uncounted")
    return _energy(increase, silent, _step_wh(counter))


def _energy(increase: int | None, silent: int | None, step_wh: int) -> Energy:
    if silent is None:
        return (None, None) if increase is None else (increase * step_wh, "counter")
    uncounted = _magnitude_wh(silent)  # of one direction, which is below zero for what comes in
    return (uncounted, "integral") if increase is None else (increase * step_wh + uncounted, "mixed")


def _kwh(energy: int | None) -> float | None:
    return None if energy is None else energy / 1000


def _share(whole: int | None, less: int | None) -> float | None:
    """Return the share of ``whole`` that is left without ``less``, in percent to two digits."""
    if whole is None or less is None or whole <= 0:
        return None
    left = whole - less
    if left <= 0:
        return 0.0
    return 100.0 if left >= whole else (20_000 * left + whole) // (2 * whole) / 100
