"""Writes the parts of the SQL that list quantities, so that no column is ever typed by hand.

``python -m reference_server.storage.schema_sql`` rewrites the generated sections of the files in ``db/``;
``--check`` only says whether they are up to date (a test does the same). A generated section stands between
two marker lines::

    -- generated: samples
    -- end of generated

Migrations are history and are left alone: a new column needs a migration of its own, and a test holds that
all migrations lead to the same tables as ``schema.sql``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from reference_server.resources import db_folder
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind
from sungrow_lib.quantities.counters import STANDSTILL_S

GAUGES: Final = tuple(q for q in QUANTITIES if q.kind is QuantityKind.GAUGE and q.length is None)
"""Quantities rolled up by average, minimum and maximum."""

COUNTERS: Final = tuple(q for q in QUANTITIES if q.kind is QuantityKind.COUNTER)
"""Quantities rolled up by their increase."""

COUNTER_BITS: Final = tuple((q, 1 << number) for number, q in enumerate(COUNTERS))
"""Counters, each with the bit that stands for it where some are named in one number."""

BIT_OF: Final = {counter.name: bit for counter, bit in COUNTER_BITS}
"""The same by the counter's name."""

DAILY_COUNTERS: Final = tuple(q for q in QUANTITIES if q.kind is QuantityKind.DAILY_COUNTER)
"""Quantities that are only watched for breaks."""

_BUCKET_BEGINS: Final = 1_000_000
"""The time of a bucket's begin as `turn` has it; see `stepped_readings`."""

AROUND_MIDNIGHT_MS: Final = 10_800_000
"""So far from the site's midnight an inverter's own clock may be."""

POWER_OF: Final = {
    "pv_total_kwh": "pv_power_w_sum",
    "import_total_kwh": "export_power_w_neg",
    "export_total_kwh": "export_power_w_pos",
    "battery_charge_total_kwh": "battery_power_w_pos",
    "battery_discharge_total_kwh": "battery_power_w_neg",
}
"""Per energy counter the integral of power that stands in while the counter is silent."""

_SECTION: Final = re.compile(r"^-- generated: (\w+)\n.*?^-- end of generated$", re.MULTILINE | re.DOTALL)
_INT2_BYTES: Final = 2
_VALUE_BITS: Final = 2**32 - 1
"""Those of `turn` plus a counter's value that are the value; see `stepped_readings`."""
_LATE_MS: Final = 2**31
"""What `late_ms` has more than the time in `turn`, so that it is never negative."""


def column_type(quantity: Quantity) -> str:
    """SQL type of the column or columns of a quantity."""
    if quantity.kind is QuantityKind.STATE:
        return "text"
    if quantity.kind is QuantityKind.CODES:
        return "int4[]"
    return "int2" if quantity.storage_bytes == _INT2_BYTES else "int4"


def sample_columns() -> list[tuple[str, str]]:
    """Name and type of the quantity columns of `samples`, widest numbers first so that none is padded."""
    rank = ("int4", "int2", "text", "int4[]")
    columns = [(name, column_type(q)) for q in QUANTITIES for name in q.columns()]
    return sorted(columns, key=lambda column: rank.index(column[1]))


def gauge_columns(gauge: Quantity) -> list[tuple[str, str]]:
    """Name and type of a gauge's columns in a rollup."""
    name, type_ = gauge.name, column_type(gauge)
    columns = [(f"{name}_sum", "int8"), (f"{name}_ms", "int8")]
    if gauge.is_signed:
        columns += [(f"{name}_pos", "int8"), (f"{name}_neg", "int8")]
    return [*columns, (f"{name}_min", type_), (f"{name}_max", type_), (f"{name}_n", "int8")]


def counter_columns(counter: Quantity) -> list[tuple[str, str]]:
    """Name and type of a counter's columns in a rollup."""
    name = counter.name
    columns = [
        (f"{name}_first", "int4"),
        (f"{name}_last", "int4"),
        (f"{name}_first_ts", "timestamptz"),
        (f"{name}_last_ts", "timestamptz"),
        (f"{name}_increase", "int8"),
    ]
    return [*columns, (f"{name}_uncounted", "int8")] if name in POWER_OF else columns


def rollup_columns() -> list[tuple[str, str]]:
    """Name and type of the columns of a rollup after its key."""
    columns = [("sample_count", "int8"), ("covered_ms", "int8")]
    for gauge in GAUGES:
        columns += gauge_columns(gauge)
    for counter in COUNTERS:
        columns += counter_columns(counter)
    return columns


def _lines(items: Iterable[str], indent: str = "  ") -> str:
    return ",\n".join(indent + item for item in items)


def _names(columns: Iterable[tuple[str, str]]) -> list[str]:
    return [name for name, _ in columns]


def _samples() -> str:
    return _lines(f"{name} {type_}" for name, type_ in sample_columns()) + ","


def _rollup() -> str:
    return (
        _lines(
            f"{name} {type_}" + (" NOT NULL" if name in {"sample_count", "covered_ms"} else "")
            for name, type_ in rollup_columns()
        )
        + ","
    )


def _rollup_names() -> str:
    return _lines(_names(rollup_columns()))


def _watched() -> str:
    """Columns of the readings, and of each counter the last of its values before and the peak of them."""
    watched = (*COUNTERS, *DAILY_COUNTERS)
    columns = [q.name for q in (*GAUGES, *watched)]
    for name in (q.name for q in watched):
        columns.append(f"max(turn + {name}) OVER before AS {name}_before")
        columns.append(f"max(({name}::int8 << 32) + late_ms) OVER before AS {name}_peak")
    return _lines(columns, "    ")


def _stepped() -> str:
    """Columns of the readings, and what the counters are compared with."""
    watched = (*COUNTERS, *DAILY_COUNTERS)
    columns = [*(q.name for q in (*GAUGES, *watched)), *(column for q in watched for column in _compared(q))]
    return _lines(columns, "    ")


def _compared(counter: Quantity) -> Iterator[str]:
    """Difference of a counter to the value it is compared with, and the time since that one in ms.

    Both are null when there is none, as the comment of `stepped_readings` defines it.
    """
    now = counter.name
    last, peak = f"{now}_before", f"{now}_peak"
    is_peak = f"{now} >= {peak} >> 32"
    since = f"CASE WHEN {is_peak} THEN ({peak} & {_VALUE_BITS}) - {_LATE_MS} ELSE {last} >> 32 END"
    yield f"{now} - CASE WHEN {is_peak} THEN {peak} >> 32 ELSE {last} & {_VALUE_BITS} END AS {now}_rise"
    yield (
        f"(turn >> 32) - {since} "
        f"+ CASE WHEN {since} < {_BUCKET_BEGINS} THEN gap_ms - 1 ELSE 0 END AS {now}_ms_since"
    )


def _bits(counters: Iterable[tuple[Quantity, int]], column: str) -> str:
    return " + ".join(f"CASE WHEN {q.name}_{column} IS NULL THEN 0 ELSE {bit} END" for q, bit in counters)


def _held() -> str:
    """Bits of the counters that have a value."""
    return f"  {_bits(COUNTER_BITS, 'last_ts')} AS held"


def _held_and_shown() -> str:
    """The same, and bits of those for which the integral stands in."""
    shown = ((q, bit) for q, bit in COUNTER_BITS if q.name in POWER_OF)
    return f"{_held()},\n  {_bits(shown, 'uncounted')} AS shown"


def _firsts() -> str:
    """Bits of the counters whose one value is the first of all, where the integral may have to change."""
    return (
        "    "
        + " + ".join(
            f"CASE WHEN {q.name}_last_ts IS NOT NULL AND {q.name}_increase IS NULL "
            f"AND (m.has_break OR {q.name}_uncounted IS NOT NULL) THEN {bit} ELSE 0 END"
            for q, bit in COUNTER_BITS
            if q.name in POWER_OF
        )
        + " AS firsts"
    )


def _lacks() -> str:
    """Whether a counter has a value in the quarter that cannot be compared with any."""
    return "\n".join(
        f"    OR bool_or({q.name} IS NOT NULL AND {q.name}_rise IS NULL) OVER whole" for q in COUNTERS
    )


def _rolled() -> str:
    """Of the counters that have an integral whether it stands in, and what the rollup says."""
    columns = ((f"{name}_uncounted IS NOT NULL", f"{name}_increase") for name in POWER_OF)
    names = ((f"{name}_shown", f"{name}_told") for name in POWER_OF)
    return _aliased(zip(chain(*columns), chain(*names), strict=True)) + ","


def _steps() -> str:
    """Steps of the same."""
    counters = [q for q in COUNTERS if q.name in POWER_OF]
    return _aliased((_step(q), f"{q.name}_step") for q in counters) + ","


def _counted() -> str:
    """Their sums in the quarter: up to each reading, and in all."""
    counters = [q.name for q in COUNTERS if q.name in POWER_OF]
    return (
        _aliased(
            (f"sum({name}_step) OVER {window}", f"{name}_{window}")
            for name in counters
            for window in ("until", "whole")
        )
        + ","
    )


def _aliased(columns: Iterable[tuple[str, str]]) -> str:
    return _lines((f"{expression} AS {name}" for expression, name in columns), "    ")


def _part_of_step(name: str) -> str:
    """What is left of a step when the first ones of its quarter make up for what is told elsewhere."""
    elsewhere = f"CASE WHEN whole_count = rolled_count THEN {name}_whole - {name}_told END"
    return f"{name}_step - least({name}_step, greatest(0, {elsewhere} - ({name}_until - {name}_step)))"


def _most(counter: Quantity) -> str:
    """Resolution steps that a counter can rise at most, as :func:`most_steps` has it."""
    assert counter.pace is not None
    times, least = counter.pace.times, counter.pace.at_least
    kw = "kw"
    if counter.kind is not QuantityKind.DAILY_COUNTER:
        kw = f"CASE WHEN {counter.name}_rise = {counter.name} THEN from_zero_kw ELSE kw END"
    per_hour = f"greatest({times} * {kw}, {least})" if times else f"{least}"
    return f"{per_hour} * {counter.factor} * ({counter.name}_ms_since + {1000 * STANDSTILL_S}) / 3600000"


def _step(counter: Quantity) -> str:
    """Increase of a counter since its last known value."""
    rise = f"{counter.name}_rise"
    return f"CASE WHEN {rise} BETWEEN 0 AND {_most(counter)} THEN {rise} WHEN {rise} IS NOT NULL THEN 0 END"


def _is_broken(counter: Quantity) -> str:
    """Whether the step makes no energy; of a daily counter, whether it is no new day's begin either."""
    name, rise, most = counter.name, f"{counter.name}_rise", _most(counter)
    if counter.kind is not QuantityKind.DAILY_COUNTER:
        return f"{rise} NOT BETWEEN 0 AND {most}"
    resets = (
        f"CASE WHEN zone_ms IS NULL THEN {name} <= {most} "
        f"ELSE (at_ms + zone_ms + {AROUND_MIDNIGHT_MS}) / 86400000 "
        f"> (at_ms - {name}_ms_since + zone_ms - {AROUND_MIDNIGHT_MS}) / 86400000 END"
    )
    return f"({rise} > {most} OR ({rise} < 0 AND NOT {resets}))"


def _any_break() -> str:
    return "\n".join(f"    OR {_is_broken(q)}" for q in (*COUNTERS, *DAILY_COUNTERS)).replace("OR ", "   ", 1)


def _breaks() -> str:
    """Each counter with its value and its break, null where there is none."""
    watched = (*COUNTERS, *DAILY_COUNTERS)
    return _lines(
        f"('{q.name}', {q.name}, CASE WHEN {_is_broken(q)} THEN {q.name}_rise END)" for q in watched
    )


def _integral(name: str, part: str) -> str:
    """Value x time of a gauge, or of its positive or negative part."""
    if part == "sum":
        return f"sum({name}::int8 * dt)"
    function = "greatest" if part == "pos" else "least"
    return f"sum({function}({name}, 0)::int8 * dt) FILTER (WHERE {name} IS NOT NULL)"


def _aggregate_gauge(gauge: Quantity) -> Iterator[str]:
    name = gauge.name
    yield _integral(name, "sum")
    yield f"sum(dt) FILTER (WHERE {name} IS NOT NULL)"
    if gauge.is_signed:
        yield _integral(name, "pos")
        yield _integral(name, "neg")
    yield f"min({name})"
    yield f"max({name})"
    yield f"count({name})"


def _aggregate_counter(counter: Quantity, *, is_part: bool) -> Iterator[str]:
    name = counter.name
    yield f"min(turn + {name}) & {_VALUE_BITS}"
    yield f"max(turn + {name}) & {_VALUE_BITS}"
    yield f"min(ts) FILTER (WHERE {name} IS NOT NULL)"
    yield f"max(ts) FILTER (WHERE {name} IS NOT NULL)"
    step = _step(counter)
    yield f"sum({_part_of_step(name) if is_part and name in POWER_OF else step})"
    if name in POWER_OF:
        power, _, part = POWER_OF[name].rpartition("_")
        is_uncounted = f"bool_or({name}_shown)" if is_part else f"sum({step}) IS NULL"
        yield f"CASE WHEN {is_uncounted} THEN {_integral(power, part)} END"


def _aggregate(*, is_part: bool = False) -> str:
    """One bucket, or a part of one, from its readings, in the order of the rollup's columns."""
    items = ["sum(coalesce(sample_count, 1))", "sum(dt)"]
    for gauge in GAUGES:
        items += _aggregate_gauge(gauge)
    for counter in COUNTERS:
        items += _aggregate_counter(counter, is_part=is_part)
    return _lines(
        f"({item})::{type_} AS {name}" for item, (name, type_) in zip(items, rollup_columns(), strict=True)
    )


def _merge(
    first: Callable[[str], str],
    last: Callable[[str], str],
    add: Callable[[str], str] = lambda name: f"add_up({name})",
) -> str:
    """One bucket from smaller ones.

    ``first`` and ``last`` write how a counter's ends are picked, ``add`` how numbers of type int8 are added.
    """
    items = []
    for name, _ in rollup_columns():
        if name.endswith(("_min", "_first_ts")):
            expression = f"min({name})"
        elif name.endswith(("_max", "_last_ts")):
            expression = f"max({name})"
        elif name.endswith("_first"):
            expression = first(name)
        elif name.endswith("_last"):
            expression = last(name)
        else:
            expression = add(name)
        items.append(f"{expression} AS {name}")
    return _lines(items)


def _merge_buckets() -> str:
    return _merge(
        lambda name: f"first_known({name} ORDER BY bucket)",
        lambda name: f"last_known({name} ORDER BY bucket)",
    )


def _merge_days() -> str:
    return _merge(
        lambda name: f"first_known({name} ORDER BY r.day)", lambda name: f"last_known({name} ORDER BY r.day)"
    )


def _merge_timescale() -> str:
    """With TimescaleDB's own `first` and `last`, which continuous aggregates are known to take."""
    return _merge(
        lambda name: f"first({name}, bucket) FILTER (WHERE {name} IS NOT NULL)",
        lambda name: f"last({name}, bucket) FILTER (WHERE {name} IS NOT NULL)",
        lambda name: f"sum({name})::int8",
    )


def _counted_span() -> str:
    """When any counter was read first and last."""
    firsts, lasts = (", ".join(f"{q.name}_{end}_ts" for q in COUNTERS) for end in ("first", "last"))
    return f"    least({firsts}) AS counted_first,\n    greatest({lasts}) AS counted_last"


SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "samples": _samples,
    "rollup": _rollup,
    "rollup_names": _rollup_names,
    "watched": _watched,
    "stepped": _stepped,
    "any_break": _any_break,
    "breaks": _breaks,
    "held": _held,
    "held_and_shown": _held_and_shown,
    "firsts": _firsts,
    "lacks": _lacks,
    "rolled": _rolled,
    "steps": _steps,
    "counted": _counted,
    "counted_span": _counted_span,
    "aggregate": _aggregate,
    "aggregate_part": lambda: _aggregate(is_part=True),
    "merge_buckets": _merge_buckets,
    "merge_days": _merge_days,
    "merge_timescale": _merge_timescale,
}
"""What each generated section holds."""


def regenerated(text: str) -> str:
    """Return ``text`` with its generated sections written anew."""

    def section(match: re.Match[str]) -> str:
        name = match[1]
        return f"-- generated: {name}\n{SECTIONS[name]()}\n-- end of generated"

    return _SECTION.sub(section, text)


def outdated(folder: Path | None = None) -> list[Path]:
    """SQL files whose generated sections differ from what the quantities ask for."""
    files = sorted(
        path for path in (folder or db_folder()).rglob("*.sql") if path.parent.name != "migrations"
    )
    return [path for path in files if regenerated(path.read_text("utf-8")) != path.read_text("utf-8")]


def main(arguments: list[str]) -> int:
    """Rewrite, or with ``--check`` only name, the files that are out of date."""
    stale = outdated()
    for path in stale:
        sys.stdout.write(f"{path.name}\n")
        if "--check" not in arguments:
            path.write_text(regenerated(path.read_text("utf-8")), "utf-8")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
