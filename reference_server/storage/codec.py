"""Turns a reading into a row of `samples` and back, without losing a digit.

Numbers become integer counts of their resolution steps. What has no place in a column (fields only a newer
edge knows, implausible values) goes to ``extra`` as it came, and back from there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag
from functools import lru_cache
from operator import itemgetter
from sys import float_info
from typing import Any, Final, NamedTuple

from reference_server.storage.schema_sql import column_type, sample_columns
from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Quantity, QuantityKind
from sungrow_lib.sample import SungrowSample

VALUE_COLUMNS: Final = tuple(name for name, _ in sample_columns())
"""The quantity columns of `samples`, in order."""

COLUMNS: Final = ("ts", "device", *VALUE_COLUMNS, "flags", "extra")
"""All columns of `samples`, in order."""

COLUMN_TYPES: Final = dict(sample_columns()) | {
    "ts": "timestamptz",
    "device": "int4",
    "flags": "int2",
    "extra": "jsonb",
}
"""Their types, for binary COPY."""

_NONE: Final = -1
"""Place of the None that stands behind the values of a row: of what has no column."""

_WRAPPED: Final = "$json"
_NO_FRACTION: Final = 2.0**53
"""Floats from here on are whole numbers, and not every one that their digits tell."""


def columns_of(fields: Collection[str]) -> tuple[str, ...]:
    """Return the quantity columns that these fields are made of, in order."""
    wanted = {column for quantity in QUANTITIES if quantity.name in fields for column in quantity.columns()}
    return tuple(column for column in VALUE_COLUMNS if column in wanted)


class Flag(IntFlag):
    """Bits of `samples.flags`."""

    IMPLAUSIBLE = 1
    """A value lies outside its plausible range; it stands in `extra`, out of the totals."""
    IMPORTED = 2
    """Came from `sungrow-server import`."""
    CLOCK = 4
    """The time stamp is not from a trusted clock."""


class Row(NamedTuple):
    """One reading as `samples` holds it.

    Rows of one shape share one ``columns``, so that a batch of them can be written without looking at each.

    Attributes:
        device: key of the device.
        ts: when, UTC.
        columns: the quantity columns it knows, of :data:`VALUE_COLUMNS`; the others are unknown.
        values: one entry per column, None where unknown.
        flags: a :class:`Flag`.
        extra: fields without a column, in the wire's units.
    """

    device: int
    ts: datetime
    columns: tuple[str, ...]
    values: tuple[Any, ...]
    flags: int
    extra: dict[str, Any]

    @property
    def key(self) -> tuple[int, datetime]:
        """Primary key."""
        return self[:2]

    @classmethod
    def from_record(cls, record: Sequence[Any], columns: tuple[str, ...] = VALUE_COLUMNS) -> Row:
        """Row from the values of `ts`, `device`, the columns, `flags` and `extra`."""
        ts, device, *values, flags, extra = record
        return cls(device, ts, columns, tuple(values), flags, from_jsonb(extra) if extra else {})

    def known(self) -> dict[str, Any]:
        """Values that are known, by column."""
        pairs = zip(self.columns, self.values, strict=True)
        return {name: value for name, value in pairs if value is not None}


@dataclass(frozen=True, slots=True)
class _Slot:
    """The columns of a quantity, and what it takes to put a value there."""

    columns: tuple[str, ...]
    is_list: bool
    numeric: bool
    factor: int
    low: float
    high: float

    @classmethod
    def of(cls, quantity: Quantity) -> _Slot:
        is_list = quantity.length is not None and quantity.kind is not QuantityKind.CODES
        numeric = column_type(quantity) in {"int2", "int4"}
        columns = tuple(quantity.columns())
        return cls(columns, is_list, numeric, quantity.factor, quantity.low, quantity.high)

    def fits(self, value: Any) -> bool:
        """Whether ``value`` lies within the plausible range."""
        items = value if self.is_list else (value,)
        return all(item is None or self.low <= item <= self.high for item in items)

    def put(self, values: dict[str, Any], value: Any) -> bool:
        """Put ``value`` in its columns; False when it is implausible and has no place there."""
        if not self.numeric:
            values[self.columns[0]] = value
            return True
        if not self.fits(value):
            return False
        items = value if self.is_list else (value,)
        for column, item in zip(self.columns, items, strict=False):
            if item is not None:
                values[column] = round(item * self.factor)
        return True


_SLOTS: Final = {quantity.name: _Slot.of(quantity) for quantity in QUANTITIES}


def encode(device: int, sample: SungrowSample, unknown: Mapping[str, Any], flags: int = 0) -> Row:
    """Row of a reading; ``unknown`` are the fields that only a newer edge knows."""
    values: dict[str, Any] = {}
    extra = {name: value for name, value in unknown.items() if value is not None}
    for name, value in sample.__dict__.items():
        slot = _SLOTS.get(name)
        if slot is not None and value is not None and not slot.put(values, value):
            extra[name] = value
            flags |= Flag.IMPLAUSIBLE
    if sample.clock_source is not None:
        flags |= Flag.CLOCK
    return Row(device, sample.ts, tuple(values), tuple(values.values()), int(flags), extra)


def decode(row: Row) -> dict[str, Any]:
    """Fields of a row that hold a value, in the wire's units and order."""
    values = (*row.values, None)
    known: dict[str, Any] = {}
    for name, pick, factor, is_list in _places(row.columns):
        value = pick(values)
        if is_list:
            if value.count(None) < len(value):
                known[name] = _items(value, factor)
        elif value is not None:
            known[name] = value / factor if factor > 1 else value
    return known | row.extra


@lru_cache(maxsize=256)
def _places(columns: tuple[str, ...]) -> Sequence[tuple[str, Callable[[tuple[Any, ...]], Any], int, bool]]:
    """How to pick each quantity from a row of these columns after which a None stands; its factor; if a list.

    Found out once for all rows of a shape: tens of thousands of them are decoded while somebody waits.
    """
    place_of = {column: place for place, column in enumerate(columns)}
    found = []
    for name, slot in _SLOTS.items():
        if not place_of.keys().isdisjoint(slot.columns):
            places = [place_of.get(column, _NONE) for column in slot.columns]
            # With the None behind it a list is picked as several values, however short it is.
            pick = itemgetter(*places, _NONE) if slot.is_list else itemgetter(*places)
            found.append((name, pick, slot.factor, slot.is_list))
    return found


def _items(values: tuple[Any, ...], factor: int) -> list[Any]:
    """A list in the wire's unit: it ends with what is known, and holds something."""
    items = [value / factor if factor > 1 and value is not None else value for value in values]
    while items[-1] is None:
        items.pop()
    return items


def shown(row: Row) -> dict[str, Any]:
    """The same for an answer, which every parser of JSON can take."""
    return decode(row) if not row.extra else decode(row._replace(extra=sayable(row.extra)))


def implausible(fields: Mapping[str, Any]) -> list[str]:
    """Names of the fields, in the wire's units, whose value lies outside its plausible range."""
    slots = ((name, value, _SLOTS.get(name)) for name, value in fields.items())
    return [name for name, value, slot in slots if slot and slot.numeric and not slot.fits(value)]


def _facts(row: Row) -> dict[str, Any]:
    """What a row says, item by item, however it is stored."""
    facts = row.known()
    for name, value in row.extra.items():
        quantity = QUANTITY_BY_NAME.get(name)
        if quantity is None or not _SLOTS[name].numeric:
            facts[name] = value
            continue
        items = value if _SLOTS[name].is_list else [value]
        steps = (None if item is None else quantity.to_steps(item) for item in items)
        facts |= {c: step for c, step in zip(quantity.columns(), steps, strict=False) if step is not None}
    return facts


def differing(standing: Row, other: Row) -> list[str]:
    """Columns in which two readings of one key say different things; null on one side is no difference."""
    facts = _facts(standing)
    return [name for name, value in _facts(other).items() if name in facts and facts[name] != value]


def additional(standing: Row, other: Row) -> dict[str, Any]:
    """Fields of ``other``, in the wire's units, that say something ``standing`` does not."""
    known = _facts(standing).keys()
    new = _facts(other).keys() - known
    return {
        name: value
        for name, value in decode(other).items()
        if name in new or any(c in new for c in (QUANTITY_BY_NAME[name].columns() if name in _SLOTS else ()))
    }


class EndlessNumber(float):
    """A number beyond any float, with how it was written."""

    def __init__(self, text: str) -> None:
        self.text = text


def as_written(value: Any) -> Any:
    """What was sent, with numbers beyond any float as their text: JSON has no other word for them."""
    if isinstance(value, EndlessNumber):
        return value.text
    if isinstance(value, Mapping):
        return {name: as_written(inner) for name, inner in value.items()}
    return [as_written(inner) for inner in value] if isinstance(value, list) else value


def endless_field(fields: Mapping[str, Any]) -> str | None:
    """Name of a field that holds a number beyond any float; None when there is none."""
    return next((name for name, value in fields.items() if _is_endless(value)), None)


def _is_endless(value: Any) -> bool:
    if isinstance(value, int | float):
        return not abs(value) <= float_info.max
    if isinstance(value, Mapping):
        return any(map(_is_endless, value.values()))
    return isinstance(value, list) and any(map(_is_endless, value))


def to_jsonb(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Object PostgreSQL takes: what `jsonb` cannot hold is wrapped as text.

    That is NUL, surrogates, infinity, and floats that would come back as another number: as an integer.
    """
    return dict(fields) if _fits_jsonb(fields) else {_WRAPPED: json.dumps(fields)}


def from_jsonb(fields: dict[str, Any]) -> dict[str, Any]:
    """Undo :func:`to_jsonb`."""
    if fields.keys() == {_WRAPPED} and isinstance(fields[_WRAPPED], str):
        unwrapped: dict[str, Any] = json.loads(fields[_WRAPPED], parse_constant=str)  # of older servers
        return unwrapped
    return fields


def sayable(value: Any) -> Any:
    r"""A value as it can be told: half of a pair of surrogates is no text, it is spelled out (``\ud800``).

    Parsers of JSON differ about what they make of one, and ours refuses it. A name that is spelled like one
    beside it has backslashes in front. A number beyond any float, which only stands beside the readings, is
    null.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        names = _told_names(value)
        return {names[name]: sayable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return list(map(sayable, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _told_names(names: Iterable[str]) -> dict[str, str]:
    """How names of one object are told, each in a way of its own: texts as they are."""
    told = {name: sayable(name) for name in names}
    taken = {name for name, spelled in told.items() if name == spelled}
    for name in sorted(told.keys() - taken):
        while told[name] in taken:
            told[name] = "\\" + told[name]
        taken.add(told[name])
    return told


def _fits_jsonb(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return abs(value) < _NO_FRACTION
    if isinstance(value, Mapping):
        return _WRAPPED not in value and all(_fits_jsonb(k) and _fits_jsonb(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_fits_jsonb, value))
    return True


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
