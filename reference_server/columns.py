"""Turns what many readings say, field by field, into the columns of `samples`, all numbers at once.

This is the one place where speed comes before plainness: a batch holds tens of thousands of numbers, and to
look at each in Python costs more than everything else the server does with them. So the numbers of a batch
become one matrix, and each step (to the resolution, rounded, within the plausible range) is one operation on
all. That values have the right types is known before; whether they are usual is found out here.
What comes out is what :func:`~reference_server.storage.codec.encode` makes of the same readings, or an
:class:`UnusualError` where that would need a thought.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, zip_longest
from struct import error as StructError, pack  # noqa: N812 - a class, whatever it is called
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_server.storage.blocks import Block, Cells, Column
from reference_server.storage.codec import Flag
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind

_TEXT_LIMIT: Final = 128
_CODES_LIMIT: Final = 64
_CODE_LIMIT: Final = 65_535
_TS: Final = re.compile(r"(?:(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)*", re.ASCII)
_TS_LENGTH: Final = len("2026-01-31T10:00:00.000Z")


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


def to_block(stamps: Column, given: Iterable[tuple[str, Column]]) -> Block:
    """Readings of a device whose key is still to be found out.

    Args:
        stamps: their `ts`.
        given: the other fields, each with a value for each reading, of the type its quantity has in JSON.

    Raises:
        UnusualError: the model has to judge one of the readings.
        OverflowError: the same, because of a number no float can hold.
    """
    found = _Found(len(stamps))
    for name, column in given:
        if column[0] is not None or column.count(None) < len(column):
            _TAKERS[name](found, column)
    flags = [0 if source is None else Flag.CLOCK for source in found.rest.get("clock_source", ())]
    return Block(
        device=0,
        stamps=_moments(stamps),
        cells=Cells(tuple(found.names), found.steps(), found.rest),
        flags=np.array(flags or [0] * len(stamps), np.int16),
    )


def _moments(stamps: Column) -> NDArray[np.int64]:
    """Microseconds since 1970."""
    if set(map(len, stamps)) != {_TS_LENGTH} or _TS.fullmatch("".join(stamps)) is None:
        raise UnusualError
    return np.array([ts[:-1] for ts in stamps], "datetime64[us]").astype(np.int64)


@dataclass(slots=True)
class _Found:
    """Columns of a batch so far: those of numbers, and the others as they stand.

    Attributes:
        count: how many readings there are.
        names: names of the columns of numbers.
        numbers: their numbers.
        rest: the other columns.
    """

    count: int
    names: list[str] = field(default_factory=list)
    numbers: list[Column] = field(default_factory=list)
    rest: dict[str, Column] = field(default_factory=dict)

    def add(self, name: str, column: Column) -> None:
        """Add a column of numbers; it holds one at least."""
        self.names.append(name)
        self.numbers.append(column)

    def steps(self) -> NDArray[np.float64]:
        """All numbers in resolution steps, NaN where unknown."""
        given, unknown = self._given()
        factors, lows, highs = _limits(tuple(self.names))
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.rint(given * factors)
        plausible = (steps >= lows) & (steps <= highs)  # what is unknown is not
        if np.count_nonzero(plausible) + unknown != steps.size:
            raise UnusualError
        return steps

    def _given(self) -> tuple[NDArray[np.float64], int]:
        """All numbers as the machine holds them, NaN where unknown, and how many are."""
        shape = len(self.names), self.count
        try:
            # Several times as quick as numpy, which looks at each number twice; it does not take None.
            data = pack(f"{len(self.names) * self.count}d", *chain.from_iterable(self.numbers))
        except StructError:
            unknown = sum(column.count(None) for column in self.numbers)
            return np.array(self.numbers, np.float64).reshape(shape), unknown
        return np.frombuffer(data).reshape(shape), 0


@lru_cache(maxsize=1024)
def _limits(names: tuple[str, ...]) -> tuple[NDArray[np.float64], ...]:
    """Factors and plausible ranges of columns, each one column of a matrix."""
    by_row = np.array([_STEPS[name] for name in names], dtype=np.float64).reshape(len(names), 3)
    return tuple(by_row[:, [number]] for number in range(3))


def _number(quantity: Quantity) -> Callable[[_Found, Column], None]:
    def take(found: _Found, column: Column) -> None:
        found.add(quantity.name, column)

    return take


def _list(quantity: Quantity) -> Callable[[_Found, Column], None]:
    """Make what spreads lists over their columns."""
    names = tuple(quantity.columns())

    def take(found: _Found, column: Column) -> None:
        lists = [items or () for items in column]
        if max(map(len, lists)) > len(names):
            raise UnusualError
        for name, items in zip(names, zip_longest(*lists), strict=False):
            if items[0] is not None or items.count(None) < len(items):
                found.add(name, items)

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
