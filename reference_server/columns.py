"""Turns what many readings say, field by field, into the columns of `samples`, all numbers at once.

This is the one place where speed comes before plainness: a batch holds tens of thousands of numbers, and to
look at each in Python costs more than everything else the server does with them. So the numbers of a batch
become one matrix, and each step (to the resolution, rounded, within the plausible range) is one operation on
all. That values have the right types is known before; whether they are usual is found out here.
What comes out is what :func:`~reference_server.storage.codec.encode` makes of the same readings, or an
:class:`UnusualError` where that would need a thought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat, zip_longest
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind

Column = Sequence[Any]
"""A value for each reading, None where it is unknown."""

_TEXT_LIMIT: Final = 128
_CODES_LIMIT: Final = 64
_CODE_LIMIT: Final = 65_535


class UnusualError(ValueError):
    """A value has to be judged by the model."""


class _Steps(NamedTuple):
    """How the number of a column is counted, and which are plausible."""

    factor: int
    low: int
    high: int

    @classmethod
    def of(cls, quantity: Quantity) -> _Steps:
        low = 1 if quantity.kind is QuantityKind.META else round(quantity.low * quantity.factor)
        return cls(quantity.factor, low, round(quantity.high * quantity.factor))  # META: the model knows of 0


def to_columns(given: Iterable[tuple[str, Column]]) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
    """Columns that hold a value, and for each reading its values of these.

    Args:
        given: the fields, each with a value for each reading, of the type its quantity has in JSON.

    Raises:
        UnusualError: the model has to judge one of the readings.
        OverflowError: the same, because of a number no float can hold.
    """
    found = _Found()
    for name, column in given:
        if column.count(None) < len(column):
            _TAKERS[name](found, column)
    if not (found.names or found.rest):
        return (), repeat(())
    return (*found.names, *found.rest), zip(*found.steps(), *found.rest.values(), strict=True)


@dataclass(slots=True)
class _Found:
    """Columns of a batch so far: those of numbers, and the others as they stand."""

    names: list[str] = field(default_factory=list)
    numbers: list[Column] = field(default_factory=list)
    rest: dict[str, Column] = field(default_factory=dict)

    def steps(self) -> list[list[Any]]:
        """All numbers in resolution steps."""
        if not self.numbers:
            return []
        factors, lows, highs = _limits(tuple(self.names))
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.rint(np.array(self.numbers, dtype=np.float64) * factors)  # unknown is NaN here
        if (steps < lows).any() or (steps > highs).any():
            raise UnusualError
        unknown = np.isnan(steps)
        if not unknown.any():
            return steps.astype(np.int64).tolist()  # type: ignore[no-any-return]  # it has two dimensions
        if unknown.sum() != sum(column.count(None) for column in self.numbers):
            raise UnusualError
        steps[unknown] = 0
        cells = steps.astype(np.int64).astype(object)
        cells[unknown] = None
        return cells.tolist()  # type: ignore[no-any-return]  # as above


@lru_cache(maxsize=1024)
def _limits(names: tuple[str, ...]) -> tuple[NDArray[np.float64], ...]:
    """Factors and plausible ranges of columns, each one column of a matrix."""
    by_row = np.array([_STEPS[name] for name in names], dtype=np.float64)
    return tuple(by_row[:, [number]] for number in range(3))


def _number(quantity: Quantity) -> Callable[[_Found, Column], None]:
    def take(found: _Found, column: Column) -> None:
        found.names.append(quantity.name)
        found.numbers.append(column)

    return take


def _list(quantity: Quantity) -> Callable[[_Found, Column], None]:
    """Make what spreads lists over their columns."""
    names = tuple(quantity.columns())

    def take(found: _Found, column: Column) -> None:
        if None in column:
            column = [items or () for items in column]
        if max(map(len, column)) > len(names):
            raise UnusualError
        for name, items in zip(names, zip_longest(*column), strict=False):
            if items.count(None) < len(items):
                found.names.append(name)
                found.numbers.append(items)

    return take


def _texts(quantity: Quantity) -> Callable[[_Found, Column], None]:
    def take(found: _Found, column: Column) -> None:
        for text in set(column) - {None}:
            if not (text.isascii() and text.isprintable() and 0 < len(text) <= _TEXT_LIMIT):
                raise UnusualError
        found.rest[quantity.name] = column

    return take


def _codes(quantity: Quantity) -> Callable[[_Found, Column], None]:
    def take(found: _Found, column: Column) -> None:
        for codes in filter(None, column):
            if len(codes) > _CODES_LIMIT or min(codes) < 0 or max(codes) > _CODE_LIMIT:
                raise UnusualError
        found.rest[quantity.name] = column

    return take


def _taker(quantity: Quantity) -> Callable[[_Found, Column], None]:
    if quantity.kind is QuantityKind.STATE:
        return _texts(quantity)
    if quantity.kind is QuantityKind.CODES:
        return _codes(quantity)
    return _number(quantity) if quantity.length is None else _list(quantity)


_TAKERS: Final[Mapping[str, Callable[[_Found, Column], None]]] = {
    quantity.name: _taker(quantity) for quantity in QUANTITIES
}
_STEPS: Final = {column: _Steps.of(quantity) for quantity in QUANTITIES for column in quantity.columns()}
