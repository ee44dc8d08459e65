"""Turns the JSON of many readings into rows at once: the short way beside `SungrowSample`.

Readings with the same fields are taken together, column by column, each with a converter made from
:data:`~sungrow_lib.quantities.QUANTITIES`. A converter takes only what is beyond doubt; at anything unusual
(another type, an implausible value, a time stamp spelled in a rarer way) it gives up, and the reading is left
to :class:`~sungrow_lib.sample.SungrowSample`, whose judgement counts. So this is fast or silent, never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import repeat, zip_longest
from typing import Any, Final, Self

from reference_server.storage.codec import Flag, Row
from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Quantity, QuantityKind

_TS: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_TEXT_LIMIT: Final = 128
_CODES_LIMIT: Final = 64
_CODE_LIMIT: Final = 65_535
_NUMBER_TYPES: Final = frozenset({int, float})
_NONE: Final = type(None)
_FIELDS: Final = QUANTITY_BY_NAME.keys() | {"device_id", "ts"}

Column = Sequence[Any]
Converter = Callable[[Column], list[Column]]
"""Makes the database's columns of a field's values, none when there is no value at all."""


class UnusualError(ValueError):
    """A value has to be judged by the model."""


def decode_batch(items: Sequence[dict[str, Any]], keys: Mapping[str, int]) -> list[Row | None]:
    """Rows of the readings, None for each that the model has to judge.

    Args:
        items: objects of JSON, each with a `device_id` among ``keys``.
        keys: the devices' keys in the fact tables, by name.
    """
    shapes: dict[tuple[str, ...], list[int]] = {}
    for index, item in enumerate(items):
        shapes.setdefault(tuple(item), []).append(index)
    found: list[Row | None] = [None] * len(items)
    for names, indices in shapes.items():
        shape = (_known_shape if _FIELDS.issuperset(names) else _Shape.of)(names)
        rows = _rows(shape, [items[index] for index in indices], keys)
        for index, row in zip(indices, rows, strict=True):
            found[index] = row
    return found


def _rows(shape: _Shape, items: list[dict[str, Any]], keys: Mapping[str, int]) -> Iterable[Row | None]:
    try:
        return shape.rows(items, keys)
    except (ValueError, TypeError, OverflowError, KeyError):
        if len(items) == 1:
            return [None]
    return [row for item in items for row in _rows(shape, [item], keys)]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What it takes to read objects with certain fields in a certain order.

    Attributes:
        names: the fields.
        known: those that have columns, each with its columns and its converter.
        unknown: those only a newer edge knows.
    """

    names: tuple[str, ...]
    known: tuple[tuple[str, tuple[str, ...], Converter], ...]
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, names: tuple[str, ...]) -> Self:
        known = [(name, *_CONVERTERS[name]) for name in names if name in _CONVERTERS]
        return cls(names, tuple(known), tuple(name for name in names if name not in _FIELDS))

    def rows(self, items: list[dict[str, Any]], keys: Mapping[str, int]) -> Iterable[Row]:
        """Rows of readings of this shape.

        Raises:
            ValueError, TypeError, OverflowError, KeyError: one of them has to be judged by the model.
        """
        given = dict(zip(self.names, zip(*map(dict.values, items), strict=True), strict=True))
        columns: list[str] = []
        values: list[Column] = []
        for name, its_columns, convert in self.known:
            made = convert(given[name])
            values += made
            columns += its_columns[: len(made)]
        return map(
            Row,
            map(keys.__getitem__, given["device_id"]),
            _stamps(given["ts"]),
            repeat(tuple(columns)),
            zip(*values, strict=True) if values else repeat(()),
            _flags(given.get("clock_source")),
            self._extras(items),
        )

    def _extras(self, items: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        if not self.unknown:
            return repeat({})
        return ({name: item[name] for name in self.unknown if item[name] is not None} for item in items)


_known_shape = lru_cache(maxsize=1024)(_Shape.of)


def _stamps(column: Column) -> list[datetime]:
    if not all(map(_TS.fullmatch, column)):
        raise UnusualError
    return list(map(datetime.fromisoformat, column))


def _flags(clock_source: Column | None) -> Iterable[int]:
    if clock_source is None:
        return repeat(0)
    return [0 if source is None else int(Flag.CLOCK) for source in clock_source]


def _converter(quantity: Quantity) -> Converter:
    if quantity.kind is QuantityKind.STATE:
        return _optional(_texts)
    if quantity.kind is QuantityKind.CODES:
        return _optional(_codes)
    numbers = _optional(_numbers(quantity))
    return numbers if quantity.length is None else _lists(numbers, quantity.length)


def _optional(convert: Callable[[Column, set[type]], Column]) -> Converter:
    """Convert what is there; unknown stays unknown."""

    def convert_known(column: Column) -> list[Column]:
        types = set(map(type, column))
        if _NONE not in types:
            return [convert(column, types)]
        known = [value for value in column if value is not None]
        if not known:
            return []
        values = iter(convert(known, types - {_NONE}))
        return [[None if value is None else next(values) for value in column]]

    return convert_known


def _numbers(quantity: Quantity) -> Callable[[Column, set[type]], Column]:
    """Make what turns numbers into resolution steps, and gives up at implausible ones."""
    factor = quantity.factor
    low, high = round(quantity.low * factor), round(quantity.high * factor)
    if quantity.kind is QuantityKind.META:
        low = 1  # the model knows whether there may be none

    def convert(column: Column, types: set[type]) -> Column:
        if types == {float}:
            steps: Column = list(map(float.__round__, [value * factor for value in column]))
        elif types <= _NUMBER_TYPES:
            steps = [round(value * factor) for value in column]
        else:
            raise UnusualError
        if min(steps) < low or max(steps) > high:
            raise UnusualError
        return steps

    return convert


def _lists(numbers: Converter, length: int) -> Converter:
    """Make what spreads lists over their columns."""

    def convert(column: Column) -> list[Column]:
        if set(map(type, column)) != {list}:
            if not set(map(type, column)) <= {list, _NONE}:
                raise UnusualError
            column = [items or () for items in column]
        widths = set(map(len, column))
        if max(widths) > length:
            raise UnusualError
        spread = zip(*column, strict=True) if len(widths) == 1 else zip_longest(*column)
        return [values for items in spread for values in numbers(items) or [items]]

    return convert


def _texts(column: Column, types: set[type]) -> Column:
    if types != {str}:
        raise UnusualError
    for text in set(column):
        if not (text.isascii() and text.isprintable() and 0 < len(text) <= _TEXT_LIMIT):
            raise UnusualError
    return column


def _codes(column: Column, types: set[type]) -> Column:
    if types != {list}:
        raise UnusualError
    for codes in column:
        if len(codes) > _CODES_LIMIT or not set(map(type, codes)) <= {int}:
            raise UnusualError
        if codes and not 0 <= min(codes) <= max(codes) <= _CODE_LIMIT:
            raise UnusualError
    return column


_CONVERTERS: Final[Mapping[str, tuple[tuple[str, ...], Converter]]] = {
    quantity.name: (tuple(quantity.columns()), _converter(quantity)) for quantity in QUANTITIES
}
