"""`GET /v1/stream`: server-sent events of one device."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import hdrs, web

from reference_server.answers import Stream
from reference_server.live import Event, Listener, LiveHub
from reference_server.problems import Problem
from reference_server.storage.arrivals import LateBatch
from reference_server.storage.codec import Row, shown
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.looks import newest_stamp, next_stamps, rows_after
from sungrow_lib.sample import format_ts, parse_ts
from sungrow_lib.wire.live import EVENT_STREAM, REPLAY_LIMIT, StreamEventKind

_HEARTBEAT_S: Final = 10.0
_HEARTBEAT: Final = b": alive\n\n"
_OPENING: Final = b"retry: 2000\n\n"
_SLOWEST_WRITE_S: Final = 20.0
_MS: Final = timedelta(milliseconds=1)
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_HEADER: Final = "Last-Event-ID"
_IN_QUERY: Final = "lastEventId"
_HEADERS: Final = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # proxies of the nginx family pass events on at once
}


class StreamWriter:
    """Sends the events of one device to one client.

    Args:
        database: where readings are.
        hub: brings new ones.
        device: which device.
        token: hash of the token the stream is opened with.
    """

    def __init__(self, database: Database, hub: LiveHub, device: KnownDevice, token: bytes) -> None:
        self._database = database
        self._hub = hub
        self._device = device
        self._token = token

    async def answer(self, request: web.BaseRequest, last_event_id: str | None) -> web.StreamResponse:
        """Send events until the client leaves, is too slow, or loses its right.

        Args:
            request: what is answered.
            last_event_id: of its query; the header of that name counts before it.

        Raises:
            Problem: 422, the id of the last event is no time stamp.
            StorageError: before the first byte only.
        """
        after, opening = await self._opening(_last_seen(request.headers.get(_HEADER), last_event_id))
        listener = Listener(self._device.key, after, self._token)
        response = Stream(headers=_HEADERS)
        if request.method == hdrs.METH_HEAD:
            return response
        async with self._hub.listening(listener):
            try:
                await response.prepare(request)
                await _write(response, opening)
                while await self._send_next(response, listener):
                    pass
            except (TimeoutError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()  # what is buffered for a client that does not read is dropped
        return response

    async def _send_next(self, response: web.StreamResponse, listener: Listener) -> bool:
        try:
            async with asyncio.timeout(_HEARTBEAT_S):
                event = await listener.queue.get()
        except TimeoutError:
            await _write(response, _HEARTBEAT)
            return True
        if event is not None:
            await _write(response, self._text(event))
        return event is not None

    async def _opening(self, last_seen: datetime | None) -> tuple[datetime, bytes]:
        """What to send at once, and after which moment the hub goes on."""
        newest = await newest_stamp(self._database, self._device.key)
        if last_seen is None or newest is None or newest <= last_seen:
            return newest or _BEGINNING, _OPENING
        rows = await rows_after(self._database, {self._device.key: last_seen}, REPLAY_LIMIT)
        parts = [_OPENING, *map(self._text, rows)]
        after = rows[-1].ts if rows else last_seen
        missed = await next_stamps(self._database, {self._device.key: after})
        if len(rows) < REPLAY_LIMIT or not missed:
            return after, b"".join(parts)
        newest = await newest_stamp(self._database, self._device.key) or newest
        parts.append(_event(StreamEventKind.GAP, _span(missed[self._device.key], newest), newest))
        return newest, b"".join(parts)

    def _text(self, event: Event) -> bytes:
        if isinstance(event, LateBatch):
            return _event(StreamEventKind.BACKFILL, _span(event.first, event.last) | {"count": event.count})
        return _event(StreamEventKind.SAMPLE, self._sample(event), event.ts)

    def _sample(self, row: Row) -> dict[str, Any]:
        return {"device_id": self._device.device_id, "ts": format_ts(row.ts)} | shown(row)


def _last_seen(of_header: str | None, of_query: str | None) -> datetime | None:
    """Time stamp of the last event that was seen, from the header if there is one."""
    name, text = (_IN_QUERY, of_query) if of_header is None else (_HEADER, of_header)
    if not text:
        return None
    try:
        return parse_ts(text)
    except ValueError:
        errors = [{"field": name, "message": "must be the id of an event: a time stamp"}]
        raise Problem(422, f"{name} must be the id of an event", errors=errors) from None


def _span(first: datetime, last: datetime) -> dict[str, Any]:
    return {"from": format_ts(first), "to": format_ts(last + _MS)}


def _event(kind: StreamEventKind, data: Mapping[str, Any], ts: datetime | None = None) -> bytes:
    head = f"id: {format_ts(ts)}\n" if ts is not None else ""
    return f"{head}event: {kind.value}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(_SLOWEST_WRITE_S):
        await response.write(data)
