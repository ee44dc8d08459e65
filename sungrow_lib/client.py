"""`SungrowClient`: reads the server's API from a script, a notebook or another program.

:class:`~sungrow_lib.blocking.BlockingSungrowClient` does the same without ``await``.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import date, datetime, timedelta
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import httpx
from pydantic import BaseModel, ValidationError

from sungrow_lib._version import __version__
from sungrow_lib.errors import (
    CredentialsRefusedError,
    RequestRefusedError,
    ServerBusyError,
    ServerError,
    ServerUnreachableError,
    UnexpectedAnswerError,
    UsageError,
)
from sungrow_lib.sample import format_ts
from sungrow_lib.wire.answers import Device, DeviceList, Frame, Realtime, Series, SeriesBucket
from sungrow_lib.wire.buckets import PLANT_COLUMNS, Buckets, bucket_columns, raw_columns
from sungrow_lib.wire.live import StreamEvent, TextEvent, text_events
from sungrow_lib.wire.reports import (
    Completeness,
    Conflicts,
    CounterEvent,
    DayCompleteness,
    DeviceEvent,
    EdgeStatusList,
    EventList,
    KeptAside,
    Plant,
    PlantBucket,
    PlantList,
    PlantSeries,
    ReportedEdgeStatus,
)
from sungrow_lib.wording import shown

_TIMEOUT_S: Final = 30.0
_SILENCE_S: Final = 40.0
"""s without even a heartbeat after which a stream is taken for lost."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_HTTP_ERROR: Final = 400
_TRIES: Final = 3
_DETAIL_LIMIT: Final = 300
_PAGE: Final = {"raw": timedelta(days=1), "5m": timedelta(days=30), "15m": timedelta(days=90)}
_LONGEST_PAGE: Final = timedelta(days=366)
_TOKEN: Final = re.compile("[!-~]+")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})

Answer = TypeVar("Answer", bound=BaseModel)


class SungrowClient:
    """Asks a server for readings; an async context manager.

    >>> async with SungrowClient("https://sun.example.org", token) as client:
    ...     now = await client.realtime("roof-1")

    Args:
        base_url: where the server is. Only https is accepted, except from this machine to itself.
        token: with the scope `read`.
        ca: certificate of a private authority to trust, PEM.
        timeout_s: longest wait for an answer.
        tries: how often a question is asked while the server is busy or out of reach, with a pause of growing
            length, or of the length the server names, in between.

    Raises:
        UsageError: the address would carry the token in clear text, the token is none, or ``ca`` cannot be
            read.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        ca: str | PathLike[str] | None = None,
        timeout_s: float = _TIMEOUT_S,
        tries: int = _TRIES,
    ) -> None:
        address = httpx.URL(base_url)
        if address.scheme != "https" and address.host not in _LOCAL:
            raise UsageError(f"{base_url} would carry the token in clear text; use https://")
        if _TOKEN.fullmatch(token) is None:
            raise UsageError("the token is none: it is one word of ASCII characters")
        try:
            context = ssl.create_default_context(cafile=ca)
        except OSError as error:
            raise UsageError(f"cannot read the certificate {ca}: {error.strerror or error}") from None
        self._tries = max(1, tries)
        self._http = httpx.AsyncClient(
            base_url=address,
            headers={"Authorization": f"Bearer {token}", "User-Agent": f"sungrow_lib/{__version__}"},
            timeout=timeout_s,
            verify=context,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def devices(self) -> tuple[Device, ...]:
        """Return the devices this token may see.

        Raises:
            ServerError: no answer, or a refusal.
        """
        return tuple((await self._get("/v1/devices", {}, DeviceList)).devices)

    async def realtime(self, device_id: str | None = None) -> Realtime:
        """Return the latest reading of a device, completed with last known values.

        Args:
            device_id: may be left out when the token sees exactly one device.

        Raises:
            RequestRefusedError: status 404, there is no such device or no reading yet.
            ServerError: no answer, or another refusal.
        """
        return await self._get("/v1/realtime", {"device_id": device_id}, Realtime)

    async def series(
        self,
        device_id: str | None = None,
        *,
        frame: Frame | str = Frame.DAY,
        at: date | str | None = None,
        fields: Sequence[str] | None = None,
    ) -> Buckets[SeriesBucket]:
        """Return the buckets of a local day, month or year of the site, or of all time.

        Args:
            device_id: may be left out when the token sees exactly one device.
            frame: day = hours, month = days, year = months, all = every month.
            at: the local day the frame holds, such as 2026-01-31; today by default.
            fields: which fields to answer; None for the usual ones.

        Raises:
            ServerError: no answer, or a refusal.
        """
        query = {"device_id": device_id, "frame": str(frame), "at": None if at is None else str(at)}
        names = _names(fields)
        return await self._series(query, names, bucket_columns(names))

    async def range(
        self,
        device_id: str | None = None,
        *,
        begin: datetime,
        end: datetime,
        bucket: str,
        fields: Sequence[str] | None = None,
    ) -> Buckets[SeriesBucket]:
        """Return the buckets of any span of time.

        Args:
            device_id: may be left out when the token sees exactly one device.
            begin: aware; included.
            end: aware; not included.
            bucket: ``raw`` (each reading with its own fields), ``5m``, ``15m``, ``1h``, ``1d`` or ``1M``.
            fields: which fields to answer; None for the usual ones.

        Raises:
            UsageError: a time has no zone.
            ServerError: no answer, or a refusal.
        """
        query = {"device_id": device_id, "from": _moment(begin), "to": _moment(end), "bucket": bucket}
        names = _names(fields)
        columns = raw_columns(names) if bucket == "raw" else bucket_columns(names)
        return await self._series(query, names, columns)

    async def pages(
        self,
        device_id: str | None = None,
        *,
        begin: datetime,
        end: datetime,
        bucket: str,
        fields: Sequence[str] | None = None,
    ) -> AsyncGenerator[Buckets[SeriesBucket], None]:
        """Yield any span of time, a part at a time: years of raw readings never sit in memory at once.

        Args:
            device_id: may be left out when the token sees exactly one device.
            begin: aware; included.
            end: aware; not included.
            bucket: as in :meth:`range`; a part is a day of ``raw``, a month of ``5m``, else up to a year.
            fields: which fields to answer; None for the usual ones.

        Raises:
            UsageError: a time has no zone.
            ServerError: no answer, or a refusal.
        """
        _moment(begin), _moment(end)  # a time without a zone is named before anything is asked
        step = _PAGE.get(bucket, _LONGEST_PAGE)
        while begin < end:
            after = min(begin + step, end)
            yield await self.range(device_id, begin=begin, end=after, bucket=bucket, fields=fields)
            begin = after

    async def _series(
        self, query: Mapping[str, str | None], names: Sequence[str] | None, columns: Sequence[str]
    ) -> Buckets[SeriesBucket]:
        asked = {**query, "fields": None if names is None else ",".join(names)}
        found = await self._get("/v1/series", asked, Series)
        return Buckets(found.series, name=found.device_id, timezone=found.timezone, columns=columns)

    async def plants(self) -> tuple[Plant, ...]:
        """Return the plants of the devices this token may see, with what they do now.

        Raises:
            ServerError: no answer, or a refusal.
        """
        return tuple((await self._get("/v1/plants", {}, PlantList)).plants)

    async def plant_series(
        self, plant: str, *, frame: Frame | str = Frame.DAY, at: date | str | None = None
    ) -> Buckets[PlantBucket]:
        """Return the buckets of a plant's local day, month or year, or of all time: its devices together.

        Args:
            plant: which plant.
            frame: day = hours, month = days, year = months, all = every month.
            at: the local day the frame holds, such as 2026-01-31; today by default.

        Raises:
            RequestRefusedError: status 404, this token sees no device of such a plant.
            ServerError: no answer, or another refusal.
        """
        query = {"plant": plant, "frame": str(frame), "at": None if at is None else str(at)}
        return await self._plant_series(query)

    async def plant_range(
        self, plant: str, *, begin: datetime, end: datetime, bucket: str
    ) -> Buckets[PlantBucket]:
        """Return the buckets of any span of time of a plant: its devices together.

        Args:
            plant: which plant.
            begin: aware; included.
            end: aware; not included.
            bucket: ``5m``, ``15m``, ``1h``, ``1d`` or ``1M``.

        Raises:
            RequestRefusedError: status 404, this token sees no device of such a plant.
            ServerError: no answer, or another refusal.
        """
        span = {"from": _moment(begin), "to": _moment(end), "bucket": bucket}
        return await self._plant_series({"plant": plant} | span)

    async def _plant_series(self, query: Mapping[str, str | None]) -> Buckets[PlantBucket]:
        found = await self._get("/v1/plants/series", query, PlantSeries)
        return Buckets(found.series, name=found.plant, timezone=found.timezone, columns=PLANT_COLUMNS)

    async def events(
        self, device_id: str | None = None, *, begin: datetime | None = None, end: datetime | None = None
    ) -> list[DeviceEvent]:
        """Return alarms and faults in words, in the order in which they began.

        Args:
            device_id: may be left out when the token sees exactly one device.
            begin: aware; a week before ``end`` by default.
            end: aware, not included; now by default.

        Raises:
            ServerError: no answer, or a refusal.
        """
        return (await self._event_list(device_id, begin, end)).events

    async def counter_breaks(
        self, device_id: str | None = None, *, begin: datetime | None = None, end: datetime | None = None
    ) -> list[CounterEvent]:
        """Return where counters ran back or jumped, in the order of time; of that no energy is made.

        Args:
            device_id: may be left out when the token sees exactly one device.
            begin: aware; a week before ``end`` by default.
            end: aware, not included; now by default.

        Raises:
            ServerError: no answer, or a refusal.
        """
        return (await self._event_list(device_id, begin, end)).counter_breaks or []

    async def _event_list(
        self, device_id: str | None, begin: datetime | None, end: datetime | None
    ) -> EventList:
        query = {"device_id": device_id, "from": _time(begin), "to": _time(end)}
        return await self._get("/v1/events", query, EventList)

    async def completeness(
        self, device_id: str | None = None, *, begin: datetime, end: datetime
    ) -> list[DayCompleteness]:
        """Return how complete each local day of the site is.

        Args:
            device_id: may be left out when the token sees exactly one device.
            begin: aware; its day is the first.
            end: aware; not included.

        Raises:
            ServerError: no answer, or a refusal.
        """
        query = {"device_id": device_id, "from": _time(begin), "to": _time(end)}
        return (await self._get("/v1/completeness", query, Completeness)).days

    async def conflicts(
        self, device_id: str | None = None, *, reason: str | None = None
    ) -> AsyncGenerator[KeptAside, None]:
        """Yield what stands beside the stored readings, newest first.

        Args:
            device_id: may be left out when the token sees exactly one device.
            reason: only `conflict`, `rejected`, `additional` or `behind_horizon`; None for all.

        Raises:
            ServerError: no answer, or a refusal.
        """
        before = None
        while True:
            query = {"device_id": device_id, "reason": reason, "before": before}
            page = await self._get("/v1/conflicts", query, Conflicts)
            for entry in page.conflicts:
                yield entry
            if page.next_before is None:
                return
            before = str(page.next_before)

    async def edge_status(self, device_id: str | None = None) -> list[ReportedEdgeStatus]:
        """Return what the edges of a device said last of themselves, the latest first.

        Raises:
            ServerError: no answer, or a refusal.
        """
        return (await self._get("/v1/edge-status", {"device_id": device_id}, EdgeStatusList)).edges

    async def stream(
        self, device_id: str | None = None, *, after: datetime | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield what a device sends as it comes, for ever; a lost connection is taken up where it was.

        Yields:
            A :class:`SungrowSample` for each new reading, a :class:`StreamGap` for readings left out, a
            :class:`StreamBackfill` for late ones.

        Args:
            device_id: may be left out when the token sees exactly one device.
            after: time stamp of the last reading already known; None for new ones only.

        Raises:
            ServerError: the server refuses, also later, when the token was revoked.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with aclosing(self._events(device_id, after)) as events:
                    async for text_event in events:
                        pause_s = _FIRST_PAUSE_S
                        after = text_event.ts or after
                        yield text_event.parsed()
            except (ServerBusyError, ServerUnreachableError):
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            await anyio.sleep(pause_s)

    async def _events(self, device_id: str | None, after: datetime | None) -> AsyncGenerator[TextEvent, None]:
        self._require_open()
        query = {} if device_id is None else {"device_id": device_id}
        headers = {} if after is None else {"Last-Event-ID": _moment(after)}
        timeout = httpx.Timeout(_TIMEOUT_S, read=_SILENCE_S)
        try:
            async with self._http.stream(
                "GET", "/v1/stream", params=query, headers=headers, timeout=timeout
            ) as response:
                if response.status_code >= _HTTP_ERROR:
                    await response.aread()
                    raise _refusal(response)
                async for event in text_events(response.aiter_lines()):
                    yield event
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _require_open(self) -> None:
        if self._http.is_closed:
            raise UsageError("this client is closed; make another one")

    def _unreachable(self, error: httpx.HTTPError) -> ServerUnreachableError:
        reason = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            reason += "; of a private authority, give the certificate with ca="
        elif isinstance(error, httpx.ConnectError):
            reason += "; is the address right, and does the server run?"
        return ServerUnreachableError(f"{self._http.base_url}: {reason}")

    async def _get(self, path: str, query: Mapping[str, str | None], kind: type[Answer]) -> Answer:
        parameters = {name: value for name, value in query.items() if value is not None}
        pause_s = _FIRST_PAUSE_S
        for left in reversed(range(self._tries)):
            try:
                return _parsed(await self._asked(path, parameters), path, kind)
            except (ServerBusyError, ServerUnreachableError) as error:
                if not left:
                    raise
                await anyio.sleep(min(getattr(error, "retry_after_s", None) or pause_s, _LONGEST_PAUSE_S))
                pause_s *= 2
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def _asked(self, path: str, parameters: Mapping[str, str]) -> bytes:
        self._require_open()
        try:
            response = await self._http.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code >= _HTTP_ERROR:
            raise _refusal(response)
        return response.content


def _parsed(content: bytes, path: str, kind: type[Answer]) -> Answer:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise UnexpectedAnswerError(f"{path}: this is not a Sungrow server's answer") from error


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else _moment(instant)


def _moment(instant: datetime) -> str:
    if instant.tzinfo is None:
        raise UsageError(f"{instant} has no time zone; make it with one, such as datetime(..., tzinfo=UTC)")
    return format_ts(instant)


def _names(fields: Sequence[str] | None) -> list[str] | None:
    if isinstance(fields, str):  # one name, or several with commas between
        return [name.strip() for name in fields.split(",")]
    return None if fields is None else list(fields)


def _refusal(response: httpx.Response) -> ServerError:
    """Error for a refusal, with the server's own words where it has any."""
    status, detail = response.status_code, _detail(response)
    if status in {401, 403}:
        does_not_know = status == httpx.codes.UNAUTHORIZED
        advice = (
            "; whoever runs the server makes one with: sungrow-server token create" if does_not_know else ""
        )
        return CredentialsRefusedError(detail + advice, status=status)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        retry_after = response.headers.get("Retry-After", "")
        return ServerBusyError(
            detail, status=status, retry_after_s=float(retry_after) if retry_after.isdecimal() else None
        )
    return RequestRefusedError(detail, status=status)


def _detail(response: httpx.Response) -> str:
    try:
        problem: Any = response.json()
    except ValueError:
        problem = None
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return f"{response.status_code}: {shown(str(detail or response.reason_phrase), _DETAIL_LIMIT)}"
