"""Answers the operations that tell about readings, devices and edges."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import ValidationError

from reference_server.bodies import read_json
from reference_server.completeness import completeness as complete_days
from reference_server.events import events_of
from reference_server.handlers import Call, device_named, no_device, range_of, requested_device
from reference_server.plants import plant_of
from reference_server.problems import Problem
from reference_server.queries import (
    ConflictsQuery,
    DaysQuery,
    DeviceQuery,
    EventsQuery,
    NoQuery,
    PlantSeriesQuery,
)
from reference_server.server import Server
from reference_server.storage import reports
from reference_server.tables import series_response
from reference_server.zones import start_of_day
from sungrow_lib.wire import EdgeStatus
from sungrow_lib.wire.answers import Device
from sungrow_lib.wire.reports import (
    Completeness,
    Conflicts,
    EdgeStatusList,
    EdgeStatusTaken,
    EventList,
    Plant,
    PlantList,
)

_STATUS_BYTES: Final = 2**20
"""Far more than an edge says of itself."""
_MOST_DAYS: Final = 800
_MOST_EVENT_DAYS: Final = 31
_USUAL_EVENT_SPAN: Final = timedelta(days=7)
_USUAL_DAYS: Final = timedelta(days=28)


async def conflicts(server: Server, call: Call[ConflictsQuery]) -> Conflicts:
    """Show what stands beside the stored readings."""
    query = call.query
    device = await requested_device(server, call)
    found = await reports.kept_aside(
        server.readers, device.key, before=query.before, reason=query.reason, limit=query.limit + 1
    )
    page = found[: query.limit]
    next_before = page[-1].entry if len(found) > query.limit else None
    return Conflicts(device_id=device.device_id, conflicts=page, next_before=next_before)


async def completeness(server: Server, call: Call[DaysQuery]) -> Completeness:
    """Show what became of the readings of each day."""
    device = await requested_device(server, call)
    now = server.clock()
    given_from, given_to = (_instant(value, device.zone) for value in (call.query.from_, call.query.to))
    end = given_to or max(now, given_from or now)
    begin = given_from or end - _USUAL_DAYS
    if end < begin:
        raise _wrong("to", "must not be before from", "the range ends before it begins")
    if end - begin > timedelta(days=_MOST_DAYS):
        raise _too_long("from", _MOST_DAYS)
    await server.refresher.refresh_device(device.key)
    return await complete_days(server.readers, device, begin, end, now)


def _instant(value: date | None, zone: ZoneInfo) -> datetime | None:
    """The moment a parameter means: of a day, its begin."""
    return value if value is None or isinstance(value, datetime) else start_of_day(value, zone)


async def events(server: Server, call: Call[EventsQuery]) -> EventList:
    """Show alarms and faults, and counters that ran back or jumped."""
    device = await requested_device(server, call)
    now = server.clock()
    end = call.query.to or max(now, call.query.from_ or now)
    begin = call.query.from_ or end - _USUAL_EVENT_SPAN
    if end - begin > timedelta(days=_MOST_EVENT_DAYS):
        raise _too_long("from", _MOST_EVENT_DAYS)
    await server.refresher.refresh_device(device.key)
    changes = await reports.code_changes(server.readers, device.key, begin, end)
    model = await reports.device_model(server.readers, device.key)
    return EventList(
        device_id=device.device_id,
        events=events_of(changes, begin, model),
        counter_breaks=await reports.counter_breaks(server.readers, device.key, begin, end),
    )


def _too_long(field: str, days: int) -> Problem:
    return _wrong(field, f"the range has more than {days} days", f"ask for at most {days} days at once")


def _wrong(field: str, message: str, detail: str) -> Problem:
    return Problem(422, detail, errors=[{"field": field, "message": message}])


async def plants(server: Server, call: Call[NoQuery]) -> PlantList:
    """Show the plants of a token's devices."""
    listed = await server.devices.listed(call.principal.devices, server.clock())
    members = sorted((device for device in listed if device.plant), key=_plant_name)
    by_plant = groupby(members, key=_plant_name)
    return PlantList(plants=[await _plant(server, name, list(devices)) for name, devices in by_plant])


def _plant_name(device: Device) -> str:
    return device.plant or ""


async def _plant(server: Server, name: str, devices: list[Device]) -> Plant:
    known = await server.devices.find([device.device_id for device in devices])
    shown = [
        (device, await server.latest.of(known[device.device_id]))
        for device in devices
        if device.device_id in known
    ]
    return plant_of(name, shown)


async def plant_series(server: Server, call: Call[PlantSeriesQuery]) -> web.StreamResponse:
    """Show what a plant did over a span of time."""
    query = call.query
    devices = await server.devices.of_plant(query.plant, call.principal.devices)
    if all(device.deleted for device in devices):
        raise Problem(404, "this token sees no device of such a plant")
    if query.frame is not None:
        found = await server.plant_series.frame(query.plant, devices, query.frame, query.at)
    else:
        span = await range_of(server, query)
        found = await server.plant_series.range(query.plant, devices, *span)
    return await series_response(call.request, found, server.parquet)


async def put_edge_status(server: Server, call: Call[NoQuery]) -> EdgeStatusTaken:
    """Keep what an edge says of itself."""
    limit = min(_STATUS_BYTES, server.settings.max_decompressed_bytes)
    arrival = server.slow_bodies.arrival(call.visitor.token)
    body = await read_json(call.request, arrival, max_decompressed=limit)
    try:
        status = EdgeStatus.model_validate(body)
    except ValidationError as error:
        raise Problem.wrong_content(error) from None
    own = call.principal.devices or ()
    name = status.device_id or (next(iter(own)) if len(own) == 1 else None)
    if name is not None and call.principal.may_touch(name):
        await server.devices.find_or_add([name])  # its first reading may still be on its way
    device = await device_named(server, call.principal, name)
    at = await reports.put_edge_status(server.database, device.key, status)
    if at is None:  # deleted in this moment
        raise no_device(device.device_id)
    return EdgeStatusTaken(device_id=device.device_id, reported_at=at)


async def edge_status(server: Server, call: Call[DeviceQuery]) -> EdgeStatusList:
    """Show what the edges of a device said last."""
    device = await requested_device(server, call)
    edges = await reports.edge_status(server.database, device.key, device.device_id)
    return EdgeStatusList(device_id=device.device_id, edges=edges)
