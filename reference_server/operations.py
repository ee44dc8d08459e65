"""The one list of operations: routes, scopes, validation and the OpenAPI document all follow from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ValidationError

from reference_server import examples, handlers, queries, report_handlers
from reference_server.auth import Principal, Scope
from reference_server.handlers import Call
from reference_server.limits import Visitor
from reference_server.metrics import CONTENT_TYPE
from reference_server.openapi import document
from reference_server.operation import Op
from reference_server.parquet import PARQUET
from reference_server.problems import Problem
from reference_server.server import NOBODY, SERVER, Server
from reference_server.tables import CSV
from sungrow_lib.wire import DeviceList, Health, IngestAnswer, IngestRequest, Realtime, Series, reports
from sungrow_lib.wire.live import EVENT_STREAM


async def _openapi(server: Server, call: Call[queries.NoQuery]) -> dict[str, Any]:
    """Show the OpenAPI document, which lists this handler's operation, too."""
    del server, call
    return document(OPERATIONS)


OPERATIONS: Final[tuple[Op, ...]] = (
    Op(
        method="POST",
        path="/v1/ingest",
        name="ingest_samples",
        tag="edge",
        summary="Store a batch of readings; the verdicts are sent after the commit",
        handler=handlers.ingest,
        scope=Scope.INGEST,
        is_counted_by_body=True,
        body=IngestRequest,
        body_example=examples.INGEST,
        answer=IngestAnswer,
        example=examples.INGEST_ANSWER,
        problems=(400, 413, 415, 422),
    ),
    Op(
        method="GET",
        path="/v1/realtime",
        name="get_realtime",
        tag="readings",
        summary="The latest reading of a device, completed with last known values",
        handler=handlers.realtime,
        scope=Scope.READ,
        query=queries.DeviceQuery,
        query_example=examples.DEVICE_QUERY,
        answer=Realtime,
        example=examples.REALTIME,
        problems=(404, 422),
    ),
    Op(
        method="GET",
        path="/v1/series",
        name="get_series",
        tag="readings",
        summary="Power and energy over a local day, month or year, all time, or any range",
        handler=handlers.series,
        scope=Scope.READ,
        query=queries.SeriesQuery,
        query_example=examples.SERIES_QUERY,
        answer=Series,
        also=(CSV, PARQUET),
        has_etag=True,
        example=examples.SERIES,
        problems=(404, 422),
    ),
    Op(
        method="GET",
        path="/v1/stream",
        name="stream_readings",
        tag="readings",
        summary="New readings of a device within a second of being stored, as server-sent events",
        handler=handlers.stream,
        scope=Scope.READ,
        query=queries.DeviceQuery,
        headers={"Last-Event-ID": "Id of the last event that was seen: what was missed since comes first."},
        query_example=examples.DEVICE_QUERY,
        answer=None,
        media=EVENT_STREAM,
        example=examples.STREAM,
        problems=(404, 422),
    ),
    Op(
        method="GET",
        path="/v1/devices",
        name="list_devices",
        tag="devices",
        summary="The devices this token may see",
        handler=handlers.devices,
        scope=Scope.READ,
        answer=DeviceList,
        example=examples.DEVICES,
    ),
    Op(
        method="GET",
        path="/v1/plants",
        name="list_plants",
        tag="devices",
        summary="The plants of this token's devices, with what they do together now",
        handler=report_handlers.plants,
        scope=Scope.READ,
        answer=reports.PlantList,
        example=examples.PLANTS,
    ),
    Op(
        method="GET",
        path="/v1/plants/series",
        name="get_plant_series",
        tag="readings",
        summary="Power and energy of a plant: its devices together, their shared meter once",
        handler=report_handlers.plant_series,
        scope=Scope.READ,
        query=queries.PlantSeriesQuery,
        query_example=examples.PLANT_SERIES_QUERY,
        answer=reports.PlantSeries,
        also=(CSV, PARQUET),
        has_etag=True,
        example=examples.PLANT_SERIES,
        problems=(404, 422),
    ),
    Op(
        method="GET",
        path="/v1/events",
        name="list_events",
        tag="readings",
        summary="Alarms and faults of a device in words, with begin and end",
        handler=report_handlers.events,
        scope=Scope.READ,
        query=queries.EventsQuery,
        query_example=examples.RANGE_QUERY,
        answer=reports.EventList,
        example=examples.EVENTS,
        problems=(404, 422),
    ),
    Op(
        method="GET",
        path="/v1/completeness",
        name="get_completeness",
        tag="readings",
        summary="How many readings of each local day were expected and stored, and why the others lack",
        handler=report_handlers.completeness,
        scope=Scope.READ,
        query=queries.RangeQuery,
        query_example=examples.RANGE_QUERY,
        answer=reports.Completeness,
        example=examples.COMPLETENESS,
        problems=(404, 422),
    ),
    Op(
        method="GET",
        path="/v1/conflicts",
        name="list_conflicts",
        tag="readings",
        summary="Readings kept aside: other values for a stored one, invalid ones, late ones",
        handler=report_handlers.conflicts,
        scope=Scope.READ,
        query=queries.ConflictsQuery,
        query_example=examples.DEVICE_QUERY,
        answer=reports.Conflicts,
        example=examples.CONFLICTS,
        problems=(404, 422),
    ),
    Op(
        method="POST",
        path="/v1/edge-status",
        name="report_edge_status",
        tag="edge",
        summary="Keep what an edge says of itself for a device",
        handler=report_handlers.put_edge_status,
        scope=Scope.INGEST,
        body=reports.EdgeStatus,
        body_example=examples.EDGE_STATUS,
        answer=reports.EdgeStatusTaken,
        example=examples.EDGE_STATUS_TAKEN,
        problems=(400, 404, 413, 415, 422),
    ),
    Op(
        method="GET",
        path="/v1/edge-status",
        name="get_edge_status",
        tag="edge",
        summary="What the edges of a device said last of themselves",
        handler=report_handlers.edge_status,
        scope=Scope.READ,
        query=queries.DeviceQuery,
        query_example=examples.DEVICE_QUERY,
        answer=reports.EdgeStatusList,
        example=examples.EDGE_STATUS_LIST,
        problems=(404, 422),
    ),
    Op(
        method="GET",
        path="/health",
        name="get_health",
        tag="service",
        summary="Whether the server can store readings now",
        handler=handlers.health,
        answer=Health,
        example=examples.HEALTH,
        problems=(503,),
    ),
    Op(
        method="GET",
        path="/metrics",
        name="get_metrics",
        tag="service",
        summary="What this server did, for Prometheus",
        handler=handlers.metrics,
        scope=Scope.READ,
        answer=None,
        media=CONTENT_TYPE,
        example=examples.METRICS,
    ),
    Op(
        method="GET",
        path="/openapi.json",
        name="get_openapi",
        tag="service",
        summary="This document",
        handler=_openapi,
        answer=None,
    ),
)


_MOST_CHECKED: Final = 256
_CHECKED: Final[dict[tuple[type[BaseModel], str], BaseModel]] = {}


def route(op: Op) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Make the aiohttp handler of an operation: who asks, what they ask, the answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        server = request.app[SERVER]
        visitor = handlers.visitor_of(server, request)
        principal = await _authorized(server, visitor, op)
        call = Call(request, visitor, principal, _query(op, request))
        answer = await op.handler(server, call)
        if isinstance(answer, web.StreamResponse):
            return answer
        return handlers.json_response(answer)

    return handle


async def _authorized(server: Server, visitor: Visitor, op: Op) -> Principal:
    if op.scope is None:
        return NOBODY
    principal = await handlers.login(server, visitor)
    if op.is_counted_by_body:
        server.guard.body(visitor)
    else:
        server.guard.request(visitor)
    if op.scope.value not in principal.scopes:
        raise Problem(403, f"this token lacks the scope {op.scope.value}")
    return principal


def _query(op: Op, request: web.Request) -> BaseModel:
    """Check a query; the same one is asked again and again, and models of queries do not change."""
    key = op.query, request.rel_url.raw_query_string
    known = _CHECKED.get(key)
    if known is not None:
        return known
    try:
        query = op.query.model_validate(dict(request.query))
    except ValidationError as error:
        raise Problem.wrong_content(error) from None
    if len(_CHECKED) >= _MOST_CHECKED:
        _CHECKED.clear()
    _CHECKED[key] = query
    return query
