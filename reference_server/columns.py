"""Turns what many readings say, field by field, into the columns of `samples`, all numbers at once.

This is the one place where speed comes before plainness: a batch holds tens of thousands of numbers, and to
look at each in Python costs more than everything else the server does with them. So the numbers of a batch
become one matrix, and each step (to the resolution, rounded, within the plausible range) is one operation on
all. That values have the right types is known before; whether they are usual is found out here.
What comes out is what :func:`~reference_server.storage.codec.encode` makes of the same readings, or an
:class:`UnusualError` where that would need a thought.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, compress, zip_longest
from struct import error as StructError, pack  # noqa: N812 - a class, whatever it is called
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_server.storage.blocks import Block, Cells, Column
from reference_server.storage.codec import Flag
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind

UNKNOWN: Final = math.nan
"""What stands for a single number that a reading does not hold; JSON has no such number."""

TEXTS: Final = tuple(q for q in QUANTITIES if q.kind is QuantityKind.STATE)
CODES: Final = tuple(q for q in QUANTITIES if q.kind is QuantityKind.CODES)
LISTS: Final = tuple(q for q in QUANTITIES if q.length is not None and q.kind is not QuantityKind.CODES)
NUMBERS: Final = tuple(q for q in QUANTITIES if q not in (*TEXTS, *CODES, *LISTS))

FIELDS: Final = (*TEXTS, *CODES, *LISTS, *NUMBERS)
"""All quantities in the order in which :func:`to_block` takes their values."""

_TEXT_LIMIT: Final = 128
_TS: Final = re.compile(r"(?:(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)*", re.ASCII)
_TS_LENGTH: Final = len("2026-01-31T10:00:00.000Z")
_AFTER_TEXTS: Final = len(TEXTS)
_AFTER_CODES: Final = _AFTER_TEXTS + len(CODES)
_AFTER_LISTS: Final = _AFTER_CODES + len(LISTS)


class UnusualError(ValueError):
    """A value has to be judged by the model."""


def to_block(stamps: Column, given: Sequence[Column]) -> Block:
    """Readings of a device whose key is still to be found out.

    Args:
        stamps: their `ts`.
        given: for each of :data:`FIELDS` the values, one for each reading, of the type its quantity has in
            JSON; None or, for a single number, :data:`UNKNOWN` where it is not there.

    Raises:
        UnusualError: the model has to judge one of the readings.
    """
    count = len(stamps)
    names, steps = _steps(given[_AFTER_CODES:_AFTER_LISTS], given[_AFTER_LISTS:], count)
    rest = dict(_rest(given, count))
    clocks = rest.get("clock_source")
    flags = [0 if source is None else Flag.CLOCK for source in clocks] if clocks else [0] * count
    return Block(0, _moments(stamps), Cells(names, steps, rest), np.array(flags, np.int16))


def _moments(stamps: Column) -> NDArray[np.int64]:
    """Microseconds since 1970."""
    if set(map(len, stamps)) != {_TS_LENGTH} or _TS.fullmatch("".join(stamps)) is None:
        raise UnusualError
    return np.array([ts[:-1] for ts in stamps], "datetime64[us]").astype(np.int64)


def _rest(given: Sequence[Column], count: int) -> Iterator[tuple[str, Column]]:
    """Columns of texts and codes that hold anything."""
    for quantity, column in zip((*TEXTS, *CODES), given, strict=False):
        if column.count(None) == count:
            continue
        if quantity.kind is QuantityKind.STATE:
            for text in set(column) - {None}:
                if not (text.isascii() and text.isprintable() and 0 < len(text) <= _TEXT_LIMIT):
                    raise UnusualError
        yield quantity.name, column


def _steps(
    lists: Sequence[Column], numbers: Sequence[Column], count: int
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names of the columns that hold a number, and all numbers in resolution steps, NaN where unknown."""
    flat: list[Column] = []
    lengths = [_flatten(column, count, flat) for column in lists]
    values = _as_floats((*numbers, *flat), count * (len(numbers) + sum(lengths)))
    end = count * len(numbers)
    parts = [values[:end].reshape(-1, count)]
    for length in filter(None, lengths):
        begin, end = end, end + count * length
        parts.append(values[begin:end].reshape(count, length).T)  # reading by reading, not column by column
    given = np.concatenate(parts)
    unknown = np.isnan(given)
    filled = ~unknown.all(axis=1)
    names, factors, lows, highs = _columns(tuple(lengths), filled.tobytes())
    with np.errstate(over="ignore"):
        steps = np.rint(given[filled] * factors)
    plausible = (steps >= lows) & (steps <= highs)  # what is unknown is not
    if np.count_nonzero(plausible) + np.count_nonzero(unknown) != given.size:
        raise UnusualError
    return names, steps


def _flatten(column: Column, count: int, flat: list[Column]) -> int:
    """Add the items of lists, each filled up to the longest, to ``flat``; return how long that is."""
    missing = column.count(None)
    if missing == count:
        return 0
    if missing:
        column = [items or () for items in column]
    lengths = set(map(len, column))
    if len(lengths) > 1:
        column = list(zip(*zip_longest(*column), strict=True))
    flat += column
    return max(lengths)


def _as_floats(columns: Sequence[Column], size: int) -> NDArray[np.float64]:
    """All values as the machine holds them, NaN for None."""
    try:
        # Several times as quick as numpy, which looks at each number twice; it does not take None.
        return np.frombuffer(pack(f"{size}d", *chain.from_iterable(columns)))
    except StructError:
        return np.array(list(chain.from_iterable(columns)), np.float64)


class _Columns(NamedTuple):
    """Columns of numbers: what they are called, and for each how it is counted and which are plausible."""

    names: tuple[str, ...]
    factors: NDArray[np.float64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]


@lru_cache(maxsize=1024)
def _columns(lengths: tuple[int, ...], filled: bytes) -> _Columns:
    """Columns that hold a number.

    Args:
        lengths: how many columns each of :data:`LISTS` has.
        filled: which of them all do, a byte for each.
    """
    names = [quantity.name for quantity in NUMBERS]
    for quantity, length in zip(LISTS, lengths, strict=True):
        names += list(quantity.columns())[:length]
    chosen = tuple(compress(names, filled))
    by_row = np.array([_LIMITS[name] for name in chosen], np.float64).reshape(len(chosen), 3)
    return _Columns(chosen, *(by_row[:, [number]] for number in range(3)))


def _limits(quantity: Quantity) -> tuple[int, int, int]:
    """Factor of a quantity, and its plausible range in steps; META: the model knows of 0."""
    low = 1 if quantity.kind is QuantityKind.META else round(quantity.low * quantity.factor)
    return quantity.factor, low, round(quantity.high * quantity.factor)


_LIMITS: Final = {name: _limits(quantity) for quantity in QUANTITIES for name in quantity.columns()}
