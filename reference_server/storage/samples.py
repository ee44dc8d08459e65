"""Stores batches of readings: each exactly once, whatever is sent again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple, Self

from psycopg import AsyncClientCursor

from reference_server.storage.blocks import Block, moment
from reference_server.storage.codec import COLUMN_TYPES, VALUE_COLUMNS, Row, as_written, decode, to_jsonb
from reference_server.storage.connection import Connection
from reference_server.storage.conversation import copied_out
from reference_server.storage.database import fetch
from reference_server.storage.devices import storable
from reference_server.storage.looks import reading_spans
from reference_server.storage.packing import SIGNATURE, pack
from reference_server.storage.queries import query, with_columns
from reference_server.zones import quarter_of
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.sample import format_ts

Key = tuple[int, datetime]


class Span(NamedTuple):
    """A span of time of a device, both ends included."""

    device: int
    first: datetime
    last: datetime

    @classmethod
    def of_block(cls, block: Block) -> Self:
        """The one a block takes."""
        return cls(block.device, block.first, block.last)

    @classmethod
    def of_rows(cls, rows: Iterable[Row]) -> list[Self]:
        """Those rows take, one for each device."""
        stamps: defaultdict[int, list[datetime]] = defaultdict(list)
        for row in rows:
            stamps[row[0]].append(row[1])
        return [cls(device, min(all_), max(all_)) for device, all_ in stamps.items()]


_KEY: Final = itemgetter(0, 1)
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_QUARTER: Final = timedelta(minutes=15)
_LARGEST_BODY: Final = 65_536
"""Characters of a rejected reading worth keeping."""


class AsideReason(StrEnum):
    """Why a reading stands beside the stored ones."""

    CONFLICT = "conflict"
    REJECTED = "rejected"
    ADDITIONAL = "additional"
    BEHIND_HORIZON = "behind_horizon"


@dataclass(frozen=True, slots=True)
class Aside:
    """Something to keep beside the stored readings.

    Attributes:
        device: key of the device.
        ts: the reading's time stamp, None when it has no valid one.
        reason: why it is not among the stored ones.
        detail: the same for people.
        body: JSON of the reading, or of what it has beyond the stored one.
    """

    device: int
    ts: datetime | None
    reason: AsideReason
    detail: str | None
    body: str

    @classmethod
    def of_row(cls, row: Row, reason: AsideReason, detail: str | None = None) -> Aside:
        """Keep a whole reading."""
        return cls(row.device, row.ts, reason, detail, row_json(row))

    @classmethod
    def of_rejected(cls, device: int, ts: datetime | None, detail: str, item: dict[str, Any]) -> Aside:
        """Keep what was sent, or that it was too large to keep."""
        body = json_body(as_written(item))
        if len(body) > _LARGEST_BODY:
            body = json_body({"too_large_to_keep": len(body)})
        return cls(device, ts, AsideReason.REJECTED, storable(detail), body)


def row_json(row: Row) -> str:
    """JSON of a row's content, for `jsonb`."""
    return json_body({"ts": format_ts(row.ts)} | decode(row))


def json_body(fields: Mapping[str, Any]) -> str:
    """JSON text that `jsonb` takes, whatever the fields hold."""
    return json.dumps(to_jsonb(fields))


async def standing_rows(connection: Connection, rows: Collection[Row]) -> dict[Key, Row]:
    """Rows that stand under the keys of ``rows``, with the columns those speak of.

    A first look only asks which devices have anything in the span at all: readings usually are new.
    """
    taken = await _taken(connection, Span.of_rows(rows))
    if not taken:
        return {}
    devices = {span.device for span in taken}
    asked = [row for row in rows if row.device in devices]
    implausible = (q for row in asked for name in row.extra if (q := QUANTITY_BY_NAME.get(name)))
    columns = dict.fromkeys((*_union(asked), *(column for q in implausible for column in q.columns())))
    return await stored_rows(connection, [row.key for row in asked], tuple(columns))


async def _taken(connection: Connection, spans: Sequence[Span]) -> list[Span]:
    """Those of the spans in which anything is stored."""
    if not spans:
        return []
    numbers = await fetch(connection, "spans_with_rows", **listed(spans))
    return [spans[number - 1] for (number,) in numbers]


def listed(spans: Sequence[Span]) -> dict[str, Any]:
    """Spans as parameters of a statement; one at least."""
    devices, firsts, lasts = zip(*spans, strict=True)
    bounds = {"lowest": min(firsts), "highest": max(lasts)}
    return {"devices": list(devices), "firsts": list(firsts), "lasts": list(lasts)} | bounds


def listed_keys(keys: Sequence[Key]) -> dict[str, Any]:
    """Keys as parameters of a statement; one at least. Their bounds spare a look at what lies beyond."""
    devices, stamps = zip(*keys, strict=True)
    return {
        "devices": list(devices),
        "stamps": list(stamps),
        "lowest": min(stamps),
        "highest": max(stamps),
    }


async def sorted_out(connection: Connection, blocks: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """Those of the blocks in whose span nothing is stored, and those that are stored exactly as they are.

    Args:
        connection: in a transaction.
        blocks: share no span with each other.
    """
    spans = {Span.of_block(block): block for block in blocks}
    taken = [spans[span] for span in await _taken(connection, list(spans))]
    repeated = await _repeated(connection, taken) if taken else []
    return [block for block in blocks if block not in set(taken)], repeated


async def _repeated(connection: Connection, blocks: Sequence[Block]) -> list[Block]:
    """Those of the blocks that are stored exactly as they are, as far as they stand before any other."""
    ours = pack(blocks)
    statement = with_columns("copy_spans", ours.columns)
    parameters = listed(list(map(Span.of_block, blocks)))
    statement = AsyncClientCursor(connection).mogrify(statement, parameters).encode()
    theirs = (await copied_out(connection, statement))[len(SIGNATURE) :]
    found = []
    for block, begin, end in zip(blocks, (0, *ours.ends), ours.ends, strict=False):
        if theirs[begin:end] != ours.body[begin:end]:
            break  # how long the stored one is, is not known: so where the next begins is not, either
        found.append(block)
    return found


async def copy_blocks(connection: Connection, blocks: Sequence[Block]) -> None:
    """Insert blocks whose keys are new, in the order of the key. The caller sees to the rollups.

    Raises:
        psycopg.errors.UniqueViolation: one of the keys was taken meanwhile; nothing is stored.
    """
    if not blocks:
        return
    packed = pack(blocks)
    statement = with_columns("copy_samples", packed.columns)
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for piece in packed.message():
            await copy.write(piece)


async def copy_rows(connection: Connection, rows: Iterable[Row]) -> None:
    """Insert rows whose keys are new, in the order of the key. The caller sees to the rollups.

    Raises:
        psycopg.errors.UniqueViolation: one of the keys was taken meanwhile; nothing is stored.
    """
    await _copy(connection, "copy_samples", sorted(rows, key=_KEY))


async def insert_rows(connection: Connection, rows: Sequence[Row]) -> set[Key]:
    """Insert the rows whose key is new; return the keys that were. The caller sees to the rollups.

    ``rows`` hold each key at most once.
    """
    if not rows:
        return set()
    await connection.require_incoming()
    await _copy(connection, "copy_incoming", rows)
    return set(await fetch(connection, "insert_incoming"))


async def _copy(connection: Connection, name: str, rows: Collection[Row]) -> None:
    if not rows:
        return
    columns = _union(rows)
    extra = ("extra",) if any(row.extra for row in rows) else ()
    written = ("ts", "device", *columns, "flags", *extra)
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None
    shape: tuple[str, ...] | None = columns
    async with connection.cursor() as cursor, cursor.copy(with_columns(name, written)) as copy:
        copy.set_types([COLUMN_TYPES[column] for column in written])
        for row in rows:
            if row.columns is not shape:
                shape, pick = row.columns, _picker(row.columns, columns)
            values = row.values if pick is None else pick(row.values)
            last = (to_jsonb(row.extra) if row.extra else None,) if extra else ()
            await copy.write_row((row.ts, row.device, *values, row.flags, *last))


def _union(rows: Iterable[Row]) -> tuple[str, ...]:
    """All columns of the rows, each once."""
    shapes = dict.fromkeys(row.columns for row in rows)
    return tuple(dict.fromkeys(column for columns in shapes for column in columns))


@lru_cache(maxsize=256)
def _picker(
    given: tuple[str, ...], wanted: tuple[str, ...]
) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """Make what brings values into another order of columns, None for unknown; None if that is the same."""
    if given == wanted:
        return None
    position = {name: number for number, name in enumerate(given)}
    positions = [position.get(name, -1) for name in wanted]

    def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
        padded = (*values, None)
        return tuple([padded[number] for number in positions])

    return pick


async def mark(connection: Connection, keys: Collection[Key], blocks: Iterable[Block] = ()) -> None:
    """Ask for the rollups of these readings' buckets to be recomputed."""
    buckets = [(block.device, moment(start)) for block in blocks for start in block.quarters()]
    end = _BEGINNING
    for device, ts in sorted(keys):
        if ts >= end or device != buckets[-1][0]:
            start = quarter_of(ts)
            buckets.append((device, start))
            end = start + _QUARTER
    if buckets:
        devices, starts = zip(*buckets, strict=True)
        await fetch(connection, "mark_buckets", marked=list(devices), buckets=list(starts))


async def stored_rows(
    connection: Connection, keys: Iterable[Key], columns: tuple[str, ...] = VALUE_COLUMNS
) -> dict[Key, Row]:
    """Rows that stand under the given keys, with the given columns."""
    wanted = list(keys)
    if not wanted:
        return {}
    statement = with_columns("stored_samples", ("ts", "device", *columns, "flags", "extra"))
    cursor = await connection.execute(statement, listed_keys(wanted))
    rows = [Row.from_record(record, columns) for record in await cursor.fetchall()]
    return {row.key: row for row in rows}


async def keep_aside(connection: Connection, asides: Sequence[Aside], edge_id: str | None) -> int:
    """Keep readings beside the stored ones; return how many were not kept before."""
    if not asides:
        return 0
    [(new,)] = await fetch(
        connection,
        "keep_aside",
        devices=[aside.device for aside in asides],
        stamps=[aside.ts for aside in asides],
        reasons=[aside.reason.value for aside in asides],
        details=[aside.detail for aside in asides],
        bodies=[aside.body for aside in asides],
        edge_id=storable(edge_id) if edge_id is not None else None,
    )
    return int(new)


async def missing_keys(connection: Connection, keys: Collection[Key]) -> set[Key]:
    """Those of the keys under which nothing is stored, nor kept aside."""
    if not keys:
        return set()
    asked = list(keys)
    numbers = await fetch(connection, "missing_keys", **listed_keys(asked))
    return {asked[number - 1] for (number,) in numbers}


async def stream_rows(
    connection: Connection, device: int, begin: datetime | None, end: datetime | None
) -> AsyncGenerator[Row, None]:
    """Rows of a device in a span of time, in order, without holding them all in memory.

    Each month is a transaction of its own.
    """
    async for start, stop in reading_spans(connection, device, begin, end):
        parameters = {"device": device, "from_ts": start, "to_ts": stop}
        async with connection.transaction(), connection.cursor(name="stream_rows") as cursor:
            await cursor.execute(query("export_samples"), parameters)
            async for record in cursor:
                yield Row.from_record(record)
