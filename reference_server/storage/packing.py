"""Blocks of readings as binary COPY has them: a few operations make the bytes of all rows at once.

Each part of a row takes the same space in a matrix of bytes, whatever it holds; what a row has less than that
(an unknown number, a shorter text) is left out when the matrix becomes the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain
from struct import pack as struct_pack
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg.abc import Buffer

from reference_server.storage.blocks import Block, all_names, joined_column, joined_steps
from reference_server.storage.codec import COLUMN_TYPES

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""What comes before the rows."""

TRAILER: Final = b"\xff\xff"
"""What comes after them."""

PIECE: Final = 2**18
"""Bytes that are handed over at once."""

_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
_NULL: Final = b"\xff\xff\xff\xff"
_INT4_OID: Final = 23
_LENGTH_BYTES: Final = 4
_HEAD: Final = np.dtype(
    [
        ("columns", ">i2"),
        ("ts_length", ">i4"),
        ("ts", ">i8"),
        ("device_length", ">i4"),
        ("device", ">i4"),
        ("flags_length", ">i4"),
        ("flags", ">i2"),
    ]
)
_HEAD_COLUMNS: Final = ("ts", "device", "flags")
_NUMBERS: Final = {"int4": ">i4", "int2": ">i2"}


@dataclass(frozen=True, slots=True)
class Packed:
    """Blocks as binary COPY has them.

    Attributes:
        columns: columns of `samples`, in the order of the bytes.
        body: the rows, block after block.
        ends: where each block ends in ``body``.
    """

    columns: tuple[str, ...]
    body: bytes
    ends: list[int]

    def message(self) -> Iterator[Buffer]:
        """All that COPY takes, piece by piece."""
        yield SIGNATURE
        rows = memoryview(self.body)
        for begin in range(0, len(rows), PIECE):
            yield rows[begin : begin + PIECE]
        yield TRAILER


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of every row.

    Attributes:
        data: its bytes.
        sent: which of them are sent; None for all.
    """

    data: NDArray[np.uint8]
    sent: NDArray[np.bool_] | None = None


def pack(blocks: Sequence[Block]) -> Packed:
    """Pack blocks, with the columns of them all."""
    names, rest = all_names(blocks)
    steps = joined_steps(blocks, names)
    kinds = _by_type(names)
    parts = [_heads(blocks, len(_HEAD_COLUMNS) + len(names) + len(rest))]
    parts += [_numbers(steps[chosen], kind) for kind, chosen in kinds]
    parts += [_others(blocks, name) for name in rest]
    body, ends = _joined(parts)
    numbers = (names[place] for _, chosen in kinds for place in chosen)
    columns = (*_HEAD_COLUMNS, *numbers, *rest)
    return Packed(columns, body, [ends[rows] for rows in accumulate(map(len, blocks))])


@lru_cache(maxsize=1024)
def _by_type(names: tuple[str, ...]) -> list[tuple[str, NDArray[np.intp]]]:
    """Types of columns of numbers, each with the places of its columns among ``names``."""
    types = [COLUMN_TYPES[name] for name in names]
    places = {kind: [place for place, type_ in enumerate(types) if type_ == kind] for kind in _NUMBERS}
    return [(kind, np.array(found)) for kind, found in places.items() if found]


def _heads(blocks: Sequence[Block], columns: int) -> _Part:
    lengths = list(map(len, blocks))
    heads = np.empty(sum(lengths), _HEAD)
    heads["columns"] = columns
    heads["ts_length"], heads["device_length"], heads["flags_length"] = 8, 4, 2
    heads["ts"] = np.concatenate([block.stamps for block in blocks]) - _POSTGRES_EPOCH_US
    heads["device"] = np.repeat([block.device for block in blocks], lengths)
    heads["flags"] = np.concatenate([block.flags for block in blocks])
    return _Part(_bytes_of(heads))


def _numbers(steps: NDArray[np.float64], kind: str) -> _Part:
    """Columns of numbers of one type."""
    value = np.dtype(_NUMBERS[kind])
    cells = np.empty(steps.T.shape, np.dtype([("length", ">i4"), ("value", value)]))
    cells["length"] = value.itemsize
    unknown = np.isnan(steps.T)
    if not unknown.any():
        cells["value"] = steps.T
        return _Part(_bytes_of(cells))
    cells["length"][unknown] = -1
    cells["value"] = np.where(unknown, 0, steps.T)
    sent = np.ones((*cells.shape, cells.itemsize), np.bool_)
    sent[unknown, _LENGTH_BYTES:] = False
    return _Part(_bytes_of(cells), sent.reshape(len(cells), -1))


def _others(blocks: Sequence[Block], name: str) -> _Part:
    """A column of texts or lists."""
    given = joined_column(blocks, name)
    if COLUMN_TYPES[name] != "text":
        values = list(map(_codes, given))
    else:  # few words, each said often
        texts = {text: _text(text) for text in set(given)}
        if len(texts) == 1:
            [value] = texts.values()
            return _Part(np.broadcast_to(np.frombuffer(value, np.uint8), (len(given), len(value))))
        values = [texts[text] for text in given]
    lengths = np.array(list(map(len, values)))
    data = np.array(values, "S").view(np.uint8).reshape(len(values), -1)
    if (lengths == data.shape[1]).all():
        return _Part(data)
    return _Part(data, np.arange(data.shape[1]) < lengths[:, np.newaxis])


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    encoded = value.encode()
    return struct_pack(">i", len(encoded)) + encoded


def _codes(value: list[int] | None) -> bytes:
    if value is None:
        return _NULL
    if not value:
        return struct_pack(">4i", 12, 0, 0, _INT4_OID)
    items = chain.from_iterable((4, item) for item in value)
    array = struct_pack(f">5i{2 * len(value)}i", 1, 0, _INT4_OID, len(value), 1, *items)
    return struct_pack(">i", len(array)) + array


def _bytes_of(cells: NDArray[Any]) -> NDArray[np.uint8]:
    return cells.view(np.uint8).reshape(len(cells), -1)


def _joined(parts: Sequence[_Part]) -> tuple[bytes, list[int]]:
    """Bytes of all rows, and where each of them ends, after a 0."""
    matrix = np.concatenate([part.data for part in parts], axis=1)
    count, width = matrix.shape
    if all(part.sent is None for part in parts):
        return matrix.tobytes(), list(range(0, (count + 1) * width, width))
    sent = np.concatenate(
        [np.ones(part.data.shape, np.bool_) if part.sent is None else part.sent for part in parts], axis=1
    )
    return matrix[sent].tobytes(), [0, *np.cumsum(sent.sum(axis=1)).tolist()]
