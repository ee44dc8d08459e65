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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import compress, zip_longest
from struct import Struct, error as StructError  # noqa: N812 - a class, whatever it is called
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
    text = "".join(stamps)
    if set(map(len, stamps)) != {_TS_LENGTH} or _TS.fullmatch(text) is None:
        raise UnusualError
    without_z = np.frombuffer(text.encode(), f"S{_TS_LENGTH}").astype(f"S{_TS_LENGTH - 1}")
    return without_z.astype("datetime64[us]").astype(np.int64)


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
    columns = dict(_singles(lists, numbers, count))
    names, values = tuple(columns), _as_floats(columns.values(), count)
    unknown = np.isnan(values)
    filled = np.count_nonzero(unknown, axis=1) < count
    if not filled.all():
        names = tuple(compress(names, filled))
        values, unknown = values[filled], unknown[filled]
    factors, lows, highs = _limits_of(names)
    with np.errstate(over="ignore"):
        steps = np.rint(values * factors)
    if not ((steps >= lows) & (steps <= highs) | unknown).all():
        raise UnusualError
    return names, steps


def _singles(
    lists: Sequence[Column], numbers: Sequence[Column], count: int
) -> Iterator[tuple[str, Iterable[float | None]]]:
    """Columns of single numbers, each item of a list one of its own; without most that hold none.

    No poll reads all quantities; of those that are there, the first value tells so.
    """
    for quantity, column in zip(NUMBERS, numbers, strict=True):
        if column[0] is not UNKNOWN or column.count(UNKNOWN) < count:
            yield quantity.name, column
    for quantity, column in zip(LISTS, lists, strict=True):
        if any(column):
            given = column if all(column) else [items or () for items in column]
            yield from zip(quantity.columns(), zip_longest(*given), strict=False)


def _as_floats(columns: Collection[Iterable[float | None]], count: int) -> NDArray[np.float64]:
    """All values as the machine holds them, a row for each column, NaN for None."""
    if not columns:
        return np.empty((0, count))
    # Several times as quick as numpy, which looks at each number twice, and as one tuple of all numbers.
    pack = Struct(f"{count}d").pack
    return np.frombuffer(b"".join([_packed(pack, column) for column in columns])).reshape(-1, count)


def _packed(pack: Callable[..., bytes], column: Iterable[float | None]) -> bytes:
    try:
        return pack(*column)
    except StructError:  # it does not take None
        return np.array(column, np.float64).tobytes()


class _Limits(NamedTuple):
    """How numbers of columns are counted, and which are plausible."""

    factors: NDArray[np.float64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]


@lru_cache(maxsize=1024)
def _limits_of(names: tuple[str, ...]) -> _Limits:
    """Those of columns."""
    by_row = np.array([_LIMITS[name] for name in names], np.float64).reshape(len(names), 3)
    return _Limits(*(by_row[:, [number]] for number in range(3)))


def _limits(quantity: Quantity) -> tuple[int, int, int]:
    """Factor of a quantity, and its plausible range in steps; META: the model knows of 0."""
    low = 1 if quantity.kind is QuantityKind.META else round(quantity.low * quantity.factor)
    return quantity.factor, low, round(quantity.high * quantity.factor)


_LIMITS: Final = {name: _limits(quantity) for quantity in QUANTITIES for name in quantity.columns()}
