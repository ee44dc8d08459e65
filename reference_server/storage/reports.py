"""Reads what is told about readings, and keeps what edges say of themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from reference_server.storage.codec import from_jsonb, sayable
from reference_server.storage.database import Database
from reference_server.zones import Span
from sungrow_lib.counters import CounterBreak
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.quantities.counters import BreakKind
from sungrow_lib.wire import EdgeStatus
from sungrow_lib.wire.reports import CounterEvent, KeptAside, ReportedEdgeStatus

_MOST_BREAKS: Final = 1_000


async def kept_aside(
    database: Database, device: int, *, before: int | None, reason: str | None, limit: int
) -> list[KeptAside]:
    """What stands beside the stored readings of a device, newest first."""
    rows = await database.rows("kept_aside", device=device, before=before, reason=reason, limit=limit)
    return [
        KeptAside(
            entry=entry,
            ts=ts,
            reason=why,
            detail=detail,
            edge_id=edge_id,
            received_at=received_at,
            reading=sayable(from_jsonb(body)),
        )
        for entry, ts, why, detail, edge_id, received_at, body in rows
    ]


async def stored_by_day(
    database: Database, device: int, first: date, last: date
) -> dict[date, tuple[int, timedelta]]:
    """How many readings each local day holds and the time they stand for, days without any left out."""
    rows = await database.rows("stored_by_day", device=device, first=first, last=last)
    return {day: (count, timedelta(milliseconds=covered_ms)) for day, count, covered_ms in rows}


class AsideCount(NamedTuple):
    """How many readings stand aside for one reason.

    Attributes:
        readings: all of them.
        moments: how many moments lack for that: several readings of one are one.
    """

    readings: int = 0
    moments: int = 0


async def kept_aside_by_span(
    database: Database, device: int, spans: Sequence[Span]
) -> dict[tuple[datetime, str], AsideCount]:
    """How many readings stand aside, by the begin of their span and the reason."""
    if not spans:
        return {}
    begins, ends = [span.begin for span in spans], [span.end for span in spans]
    bounds = {"lowest": min(begins), "until": max(ends)}
    rows = await database.rows("kept_aside_by_span", device=device, begins=begins, ends=ends, **bounds)
    return {(begin, reason): AsideCount(*counts) for begin, reason, *counts in rows}


async def counter_breaks_by_span(
    database: Database, device: int, spans: Sequence[Span]
) -> dict[datetime, int]:
    """How often counters ran back or jumped, by the begin of the span; spans without any left out."""
    begins, ends = [span.begin for span in spans], [span.end for span in spans]
    return dict(await database.rows("counter_breaks_by_span", device=device, begins=begins, ends=ends))


async def counter_breaks(
    database: Database, device: int, begin: datetime, end: datetime
) -> list[CounterEvent]:
    """Counters that ran back or jumped in a span of time, the first so many."""
    rows = await database.rows("counter_breaks", device=device, from_ts=begin, to_ts=end, limit=_MOST_BREAKS)
    return [_counter_event(*row) for row in rows]


def _counter_event(ts: datetime, counter: str, steps: int, steps_before: int) -> CounterEvent:
    quantity = QUANTITY_BY_NAME[counter]
    broken = CounterBreak(
        counter=counter,
        kind=BreakKind.RAN_BACK if steps < steps_before else BreakKind.JUMPED,
        ts=ts,
        value=quantity.from_steps(steps),
        before=quantity.from_steps(steps_before),
    )
    return CounterEvent(
        counter=counter, kind=broken.kind, text=str(broken), ts=ts, value=broken.value, before=broken.before
    )


async def put_edge_status(database: Database, device: int, status: EdgeStatus) -> datetime | None:
    """Keep what an edge says of itself; return when it was taken, None when the device is deleted."""
    body = status.model_dump_json(exclude={"device_id"}, exclude_none=True)
    taken = await database.rows("put_edge_status", device=device, edge_id=status.edge_id, body=body)
    return taken[0][0] if taken else None


async def edge_status(database: Database, device: int, device_id: str) -> list[ReportedEdgeStatus]:
    """What each edge said last, the latest first."""
    rows = await database.rows("edge_status", device=device)
    return [_reported(at, body | {"device_id": device_id}) for at, body in rows]


def _reported(at: datetime, body: dict[str, Any]) -> ReportedEdgeStatus:
    return ReportedEdgeStatus(reported_at=at, **EdgeStatus.model_validate_json(json.dumps(body)).model_dump())


async def code_changes(
    database: Database, device: int, begin: datetime, end: datetime
) -> list[tuple[datetime, str, list[int]]]:
    """Readings at which the active codes changed, in order; those before ``begin`` are the last word then."""
    rows = await database.rows("code_changes", device=device, from_ts=begin, to_ts=end)
    return [(ts, kind, codes) for ts, kind, codes in rows]


async def device_model(database: Database, device: int) -> str | None:
    """Model of a device, None while unknown."""
    [(model,)] = await database.rows("device_model", device=device)
    return model if isinstance(model, str) else None
