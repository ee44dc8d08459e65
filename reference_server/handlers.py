"""Answers the operations: from a checked request to the model that is sent."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel

from reference_server.answers import Answer
from reference_server.auth import Principal, bearer_hash
from reference_server.bodies import decompressed, read_body, require_json
from reference_server.connections import Connection
from reference_server.ingest import Batch
from reference_server.limits import X_FORWARDED_FOR, Visitor, client_address, household
from reference_server.metrics import METRICS_TEXT
from reference_server.problems import Problem, not_now
from reference_server.queries import DeviceQuery, NoQuery, SeriesQuery, SpanQuery, StreamQuery
from reference_server.room import Place, size_of
from reference_server.server import Server
from reference_server.storage.devices import KnownDevice
from reference_server.storage.errors import StorageError
from reference_server.storage.migrations import Engine
from reference_server.stream import StreamWriter
from reference_server.tables import RawSeries, series_response
from reference_server.tokens import Scope
from sungrow_lib._version import __version__
from sungrow_lib.sample import format_ts, whole_milliseconds
from sungrow_lib.wire import IngestAnswer
from sungrow_lib.wire.answers import DeviceList, Engine as EngineBody, Health

_MOST_BUCKETS: Final = 40_000
_STEP: Final = {
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "1M": timedelta(days=28),
}

Query = TypeVar("Query", bound=BaseModel)


class Call(NamedTuple, Generic[Query]):
    """One request.

    Attributes:
        request: as aiohttp has it.
        visitor: where it comes from.
        principal: who asks.
        query: its parameters, checked.
    """

    request: web.BaseRequest
    visitor: Visitor
    principal: Principal
    query: Query


async def ingest(server: Server, call: Call[NoQuery]) -> IngestAnswer:
    """Store a batch of readings."""
    async with server.room.place() as place:
        batch = await _batch(server, call, place)
        server.guard.batch(call.visitor, is_backlog=batch.is_backlog(server.clock()))
        taken = await server.ingest.take(batch, call.principal)
    server.metrics.ingested(taken.answer)
    if taken.arrivals:
        server.latest.arrived(batch.device for batch in taken.arrivals)
        server.live.arrived(taken.arrivals)
    return taken.answer


async def _batch(server: Server, call: Call[NoQuery], place: Place) -> Batch:
    """Read a batch once there is room for it; of its body nothing is left when it waits to be stored."""
    request, settings = call.request, server.settings
    require_json(request)
    arrival = server.slow_bodies.arrival(call.visitor.token)
    body = await read_body(request, arrival, lambda size: place.take(size_of(request, size)))
    # Nothing waits until it is decoded: however small bodies come, few are in memory decompressed.
    plain = decompressed(request, body, settings.max_decompressed_bytes)
    batch = await server.ingest.read(plain, max_samples=settings.max_samples_per_request)
    place.arrived()
    return batch


async def realtime(server: Server, call: Call[DeviceQuery]) -> Answer:
    """Show what a device shows now."""
    device = await requested_device(server, call)
    latest = await server.latest.json_of(device)
    if latest is None:
        raise Problem(404, f"{device.device_id} has sent no reading yet")
    return Answer(latest)


async def series(server: Server, call: Call[SeriesQuery]) -> web.StreamResponse:
    """Show a span of time."""
    query = call.query
    device = await requested_device(server, call)
    if query.bucket == "raw":
        assert query.from_ is not None
        assert query.to is not None
        raw = RawSeries(server.readers, device, query.from_, query.to, query.chosen_fields)
        return await raw.answer(call.request, server.parquet)
    if query.frame is not None:
        found = await server.series.frame(device, query.frame, query.at, query.chosen_fields)
    else:
        span = await range_of(server, query)
        found = await server.series.range(device, *span, query.chosen_fields)
    return await series_response(call.request, found, server.parquet)


async def range_of(server: Server, query: SpanQuery) -> tuple[datetime, datetime, str]:
    """Return the range a query asks for in place of a frame: from, to, bucket.

    Raises:
        Problem: 422, it has too many buckets, or ones there are no raw readings for.
    """
    assert query.from_ is not None
    assert query.to is not None
    assert query.bucket is not None
    if (query.to - query.from_) / _STEP[query.bucket] > _MOST_BUCKETS:
        errors = [{"field": "bucket", "message": f"this range has more than {_MOST_BUCKETS} buckets"}]
        raise Problem(422, f"ask for at most {_MOST_BUCKETS} buckets at once", errors=errors)
    if query.bucket == "5m" and query.from_ < (since := await _raw_since(server)):
        message = f"5m is made from raw readings, which are kept since {format_ts(since)}; ask for 15m"
        raise Problem(422, f"bucket: {message}", errors=[{"field": "bucket", "message": message}])
    return query.from_, query.to, query.bucket


async def _raw_since(server: Server) -> datetime:
    """The retention horizon, a full millisecond."""
    return whole_milliseconds(await server.horizon.lately(server.database))


async def stream(server: Server, call: Call[StreamQuery]) -> web.StreamResponse:
    """Send what a device sends, as it comes."""
    device = await requested_device(server, call)
    writer = StreamWriter(server.database, server.live, device, call.visitor.token)
    return await writer.answer(call.request, call.query.last_event_id)


async def devices(server: Server, call: Call[NoQuery]) -> DeviceList:
    """List the devices of a token."""
    listed = await server.devices.listed(call.principal.devices, server.clock())
    return DeviceList(devices=listed, raw_since=await _raw_since(server))


async def metrics(server: Server, call: Call[NoQuery]) -> Answer:
    """Show what this server did; of single devices only what the token may see."""
    text = await server.metrics.text(server.clock(), devices=call.principal.devices)
    return Answer(text, media=METRICS_TEXT)


async def health(server: Server, call: Call[NoQuery]) -> Health:
    """Say whether readings can be stored, and to an admin on what."""
    try:
        await server.database.check()
        if not await _is_admin(server, call):
            return Health(status="ok")
        return Health(
            status="ok",
            server_version=__version__,
            engine=described(await server.database.engine()),
            rollup_marks=(await server.database.rows("count_marks"))[0][0],
        )
    except StorageError as error:
        raise not_now(str(error)) from error


async def _is_admin(server: Server, call: Call[NoQuery]) -> bool:
    """Whether somebody asks who may see more; a bad token shows no more than none."""
    if not call.visitor.token:
        return False
    with suppress(Problem):
        principal = await login(server, call.visitor)
        server.guard.request(call.visitor)
        return Scope.ADMIN.value in principal.scopes
    return False


def visitor_of(server: Server, request: web.BaseRequest) -> Visitor:
    """Return where a request comes from; the next on a connection comes from the same, mostly."""
    connection, headers, trusted = request.protocol, request.headers, server.settings.trusted_proxies
    authorization = headers.get(hdrs.AUTHORIZATION)
    credentials = (authorization, headers.getall(X_FORWARDED_FOR, [])) if trusted else authorization
    assert isinstance(connection, Connection)
    if connection.visitor is None or connection.credentials != credentials:
        remote = client_address(request, trusted)
        connection.visitor = Visitor(household(remote), bearer_hash(authorization) or b"", remote)
        connection.credentials = credentials
    return connection.visitor


async def login(server: Server, visitor: Visitor) -> Principal:
    """Return who asks.

    Raises:
        Problem: 401 no or bad token, 429 too many wrong tokens came from the visitor's address.
        StorageUnavailableError: the database must be asked and cannot.
    """
    if visitor.token:
        server.guard.before_login(visitor)
    try:
        principal = await server.authenticator.principal(visitor.token)
    except Problem:
        if visitor.token:
            server.guard.failed(visitor)
        raise
    server.guard.logged_in(visitor)
    return principal


def described(engine: Engine) -> EngineBody:
    """Say what stores the readings, for people."""
    major, minor = divmod(engine.postgresql, 10_000)
    return EngineBody(
        postgresql=f"{major}.{minor}", timescaledb=engine.timescaledb, community=engine.community
    )


def requested_device(server: Server, call: Call[Any]) -> Awaitable[KnownDevice]:
    """Return the device a query is about.

    Raises:
        Problem: 403 another's device, 404 an unknown one, 422 none named and several to choose from.
    """
    return device_named(server, call.principal, call.query.device_id)


async def device_named(server: Server, principal: Principal, device_id: str | None) -> KnownDevice:
    """Return the device of this name, or without one the only device that may be seen.

    Raises:
        Problem: 403 another's device, 404 an unknown one, 422 none named and several to choose from.
    """
    name = device_id or _own_device(principal) or await _only_device(server, principal)
    if not principal.may_touch(name):
        raise Problem(403, f"this token may not touch {name}")
    device = server.devices.remembered(name) or (await server.devices.find([name])).get(name)
    if device is None or device.deleted:
        raise no_device(name)
    return device


def no_device(name: str) -> Problem:
    """Say that there is no such device, or none any more."""
    return Problem(404, f"there is no device {name}")


def _own_device(principal: Principal) -> str | None:
    """Return the only device that somebody may see, when the token says so."""
    return next(iter(principal.devices)) if principal.devices and len(principal.devices) == 1 else None


async def _only_device(server: Server, principal: Principal) -> str:
    names = principal.devices
    if names is None:
        names = frozenset(device.device_id for device in await server.devices.listed(None, server.clock()))
    if len(names) != 1:
        errors = [{"field": "device_id", "message": f"is needed: this token sees {len(names)} devices"}]
        raise Problem(422, "say which device_id", errors=errors)
    return next(iter(names))
