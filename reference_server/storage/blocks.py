"""Readings of one device as matrices: what a batch is before, and mostly instead of, being rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
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

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """Make one of several of the same device, one after the other."""
        if len(blocks) == 1:
            return blocks[0]
        names, rest = all_names(blocks)
        cells = Cells(
            names, joined_steps(blocks, names), {name: joined_column(blocks, name) for name in rest}
        )
        stamps = np.concatenate([block.stamps for block in blocks])
        return cls(blocks[0].device, stamps, cells, np.concatenate([block.flags for block in blocks]))

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


def all_names(blocks: Iterable[Block]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All columns of numbers, and all others, that any of the blocks has, each once."""
    cells = [block.cells for block in blocks]
    return _union(some.names for some in cells), _union(tuple(some.rest) for some in cells)


def _union(shapes: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All names; blocks mostly share one shape."""
    return tuple(dict.fromkeys(chain.from_iterable(dict.fromkeys(shapes))))


def joined_steps(blocks: Sequence[Block], names: tuple[str, ...]) -> NDArray[np.float64]:
    """Numbers of all blocks, a row of the matrix for each name."""
    if all(block.cells.names == names for block in blocks):
        return np.concatenate([block.cells.steps for block in blocks], axis=1)
    place = {name: number for number, name in enumerate(names)}
    steps = np.full((len(names), sum(map(len, blocks))), np.nan)
    begin = 0
    for block in blocks:
        steps[[place[name] for name in block.cells.names], begin : begin + len(block)] = block.cells.steps
        begin += len(block)
    return steps


def joined_column(blocks: Iterable[Block], name: str) -> list[Any]:
    """A column other than of numbers, of all blocks."""
    return list(chain.from_iterable(block.cells.rest.get(name) or [None] * len(block) for block in blocks))


def moment(microseconds: int | np.int64) -> datetime:
    """Return the moment so many microseconds after 1970 began."""
    return _EPOCH + int(microseconds) * _MICROSECOND
