"""Readings of one device as matrices: what a batch is before, and mostly instead of, being rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import lt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reference_server.storage.codec import Row

Column = Sequence[Any]
"""A value for each reading, None where it is unknown."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_QUARTER_US: Final = 900_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What readings say.

    Attributes:
        names: the columns of numbers.
        steps: for each of these columns the numbers, in resolution steps, NaN where unknown.
        rest: the other columns.
    """

    names: tuple[str, ...]
    steps: NDArray[np.float64]
    rest: Mapping[str, Column]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.names, *self.rest)

    def tuples(self) -> Iterable[tuple[Any, ...]]:
        """For each reading, its values; without end when there are no columns."""
        return zip(*self._numbers(), *self.rest.values(), strict=True) if self.columns else repeat(())

    def _numbers(self) -> list[list[Any]]:
        unknown = np.isnan(self.steps)
        cells = np.where(unknown, 0, self.steps).astype(np.int64).astype(object)
        cells[unknown] = None
        return cells.tolist()  # type: ignore[no-any-return]  # it has two dimensions


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Readings of one device.

    Attributes:
        device: its key.
        stamps: when, in microseconds since 1970.
        cells: what they say.
        flags: for each, its :class:`~reference_server.storage.codec.Flag`.
    """

    device: int
    stamps: NDArray[np.int64]
    cells: Cells
    flags: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def first(self) -> datetime:
        """Time stamp of the first."""
        return moment(self.stamps[0])

    @property
    def last(self) -> datetime:
        """Time stamp of the last."""
        return moment(self.stamps[-1])

    @property
    def newest(self) -> datetime:
        """The youngest time stamp, in whatever order they are."""
        return moment(self.stamps.max())

    @property
    def is_in_order(self) -> bool:
        """Whether each reading is younger than the one before."""
        stamps = self.stamps.tolist()
        return all(map(lt, stamps, stamps[1:]))

    def quarters(self) -> list[int]:
        """The quarters of an hour they lie in, each once, in microseconds since 1970."""
        return sorted({stamp // _QUARTER_US * _QUARTER_US for stamp in self.stamps.tolist()})

    def part(self, begin: int, end: int) -> Block:
        """Return some of them."""
        cells = self.cells
        rest = {name: column[begin:end] for name, column in cells.rest.items()}
        some = Cells(cells.names, cells.steps[:, begin:end], rest)
        return Block(self.device, self.stamps[begin:end], some, self.flags[begin:end])

    def rows(self) -> list[Row]:
        """The same, row by row."""
        stamps = self.stamps.astype("datetime64[us]").tolist()
        columns = self.cells.columns
        return [
            Row(self.device, stamp.replace(tzinfo=UTC), columns, values, flags, {})
            for stamp, flags, values in zip(stamps, self.flags.tolist(), self.cells.tuples(), strict=False)
        ]


def moment(microseconds: int | np.int64) -> datetime:
    """Return the moment so many microseconds after 1970 began."""
    return _EPOCH + int(microseconds) * _MICROSECOND
