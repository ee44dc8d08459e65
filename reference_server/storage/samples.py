"""Stores batches of readings: each exactly once, whatever is sent again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from reference_server.storage.codec import COLUMN_TYPES, Row, decode, to_jsonb
from reference_server.storage.database import Connection, Database, fetch
from reference_server.storage.devices import storable
from reference_server.storage.queries import query
from reference_server.zones import quarter_of
from sungrow_lib.sample import format_ts

Key = tuple[int, datetime]

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
        body = json_body(item)
        if len(body) > _LARGEST_BODY:
            body = json_body({"too_large_to_keep": len(body)})
        return cls(device, ts, AsideReason.REJECTED, storable(detail), body)


def row_json(row: Row) -> str:
    """JSON of a row's content, for `jsonb`."""
    return json_body({"ts": format_ts(row.ts)} | decode(row))


def json_body(fields: Mapping[str, Any]) -> str:
    """JSON text that `jsonb` takes, whatever the fields hold."""
    return json.dumps(to_jsonb(fields))


async def insert_rows(connection: Connection, rows: Sequence[Row]) -> set[Key]:
    """Insert the rows whose key is new; return the keys that were. The caller sees to the rollups.

    ``rows`` hold each key at most once.
    """
    if not rows:
        return set()
    await connection.require_incoming()
    async with connection.cursor() as cursor:
        async with cursor.copy(query("copy_incoming")) as copy:
            copy.set_types(COLUMN_TYPES)
            for row in rows:
                await copy.write_row(row.record())
        await cursor.execute(query("insert_incoming"))
        return set(await cursor.fetchall())


async def mark(connection: Connection, keys: Collection[Key]) -> None:
    """Ask for the rollups of these readings' buckets to be recomputed."""
    marks = sorted({(device, quarter_of(ts)) for device, ts in keys})
    if marks:
        devices, buckets = zip(*marks, strict=True)
        await fetch(connection, "mark_buckets", devices=list(devices), buckets=list(buckets))


async def stored_rows(connection: Connection, keys: Iterable[Key]) -> dict[Key, Row]:
    """Rows that stand under the given keys."""
    wanted = list(keys)
    if not wanted:
        return {}
    devices, stamps = zip(*wanted, strict=True)
    records = await fetch(connection, "stored_samples", devices=list(devices), stamps=list(stamps))
    return {row.key: row for row in map(Row.from_record, records)}


async def keep_aside(
    connection: Connection, asides: Sequence[Aside], edge_id: str | None
) -> set[tuple[int, datetime | None, str]]:
    """Keep readings beside the stored ones; return device, ts and reason of those not kept before."""
    if not asides:
        return set()
    new = await fetch(
        connection,
        "keep_aside",
        devices=[aside.device for aside in asides],
        stamps=[aside.ts for aside in asides],
        reasons=[aside.reason.value for aside in asides],
        details=[aside.detail for aside in asides],
        bodies=[aside.body for aside in asides],
        edge_id=storable(edge_id) if edge_id is not None else None,
    )
    return {(device, ts, reason) for device, ts, reason in new}


async def missing_stamps(connection: Connection, device: int, stamps: list[datetime]) -> list[datetime]:
    """Those of the stamps that are neither stored nor kept aside."""
    rows = await fetch(connection, "missing_stamps", device=device, stamps=stamps)
    return [ts for (ts,) in rows]


async def newest_rows(database: Database, device: int, after: datetime, limit: int) -> list[Row]:
    """Newest readings of a device after a moment, newest first."""
    records = await database.rows("newest_samples", device=device, after=after, limit=limit)
    return list(map(Row.from_record, records))


async def stream_rows(
    connection: Connection, device: int, begin: datetime, end: datetime
) -> AsyncIterator[Row]:
    """Rows of a device in a span of time, in order, without holding them all in memory."""
    parameters = {"device": device, "from_ts": begin, "to_ts": end}
    async with connection.cursor(name="stream_rows") as cursor:
        await cursor.execute(query("export_samples"), parameters)
        async for record in cursor:
            yield Row.from_record(record)
