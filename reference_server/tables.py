"""Series as they travel: JSON, CSV or Parquet by `Accept`, with an ETag; raw readings page by page."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web

from reference_server.answers import Answer, Stream
from reference_server.buckets import record_dict
from reference_server.parquet import PARQUET
from reference_server.parquet_process import ParquetFiles
from reference_server.problems import Problem
from reference_server.sheets import ENCODER, Page, Sheet
from reference_server.storage.codec import VALUE_COLUMNS, Row, columns_of, implausible, shown
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.errors import StorageError
from reference_server.storage.looks import ROWS_IN_ONE_GO, rows_between
from sungrow_lib.quantities import QUANTITIES
from sungrow_lib.wire.buckets import raw_columns

_LOG: Final = logging.getLogger(__name__)
_Item = TypeVar("_Item")

JSON: Final = "application/json"
CSV: Final = "text/csv"
MEDIA: Final = (JSON, CSV, PARQUET)
"""What a series may be sent as; the first is what a client gets that does not mind."""

RAW_FIELDS: Final = tuple(quantity.name for quantity in QUANTITIES)
"""Everything that `fields=` may ask for of raw readings."""

_EXTRA: Final = "extra"
"""Column of a table with all that has none: what only a newer edge knows, as JSON."""

_ROWS_AT_ONCE: Final = 1_000
_ROW_GROUP: Final = 10_000
_PIECE: Final = 2**16
_STALLED_S: Final = 60.0
"""s for so many bytes of a long answer: who takes less is asleep, or gone without a word."""
_AS_JSON: Final = (list, dict, bool)
_DELETE: Final = b"\x7f"
_CACHING: Final = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
_STREAMED: Final = {"Cache-Control": "private, no-store", "Vary": "Accept, Authorization"}
_MICROSECOND: Final = timedelta(microseconds=1)
_BYTE_ORDER: Final = "utf-8"


def media_of(request: web.BaseRequest) -> str:
    """Return which of :data:`MEDIA` the client likes best; JSON when it likes none of them."""
    accept = request.headers.get(hdrs.ACCEPT, "*/*")
    liked = {media: max(map(partial(_liking, media), accept.split(","))) for media in MEDIA}
    return max(MEDIA, key=liked.__getitem__)


def _liking(media: str, accepted: str) -> float:
    """How much a part of `Accept` likes a media type, 0 to 1; one that is named before one that is not."""
    name, *parameters = (part.strip() for part in accepted.lower().split(";"))
    exact = {media: 1.0, media.partition("/")[0] + "/*": 0.999, "*/*": 0.998}
    try:
        quality = next((float(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    except ValueError:
        return 0.0
    return exact.get(name, 0.0) * quality


async def series_response(request: web.BaseRequest, sheet: Sheet, files: ParquetFiles) -> web.StreamResponse:
    """Answer a series, or that the client has it already. One of several pages is sent as it is made.

    Args:
        request: may ask for another media type than JSON, and name what it has.
        sheet: what to send.
        files: make Parquet.

    Raises:
        StorageError: before the first byte only.
        Problem: Parquet cannot be made; before the first byte only.
    """
    media = media_of(request)
    ahead = [page async for page in _next(sheet.pages, 2)]
    chunks = _chunks(replace(sheet, pages=_chained(ahead, sheet.pages)), media, files)
    if len(ahead) > 1:
        return await _streamed(request, media, chunks)
    async with aclosing(chunks):
        body = b"".join([chunk async for chunk in chunks])
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    if etag in known:
        return Answer(status=304, media=None, headers=_CACHING | {"ETag": etag})
    return Answer(body, media=_content_type(media), headers=_CACHING | {"ETag": etag})


async def _next(pages: AsyncIterator[Page], count: int) -> AsyncIterator[Page]:
    while count and (page := await anext(pages, None)) is not None:
        yield page
        count -= 1


async def _chained(ahead: Iterable[Page], rest: AsyncIterator[Page]) -> AsyncIterator[Page]:
    for page in ahead:
        yield page
    async for page in rest:
        yield page


def _chunks(sheet: Sheet, media: str, files: ParquetFiles) -> AsyncGenerator[bytes, None]:
    if media == PARQUET:
        return _parquet(sheet, files)
    return _csv(sheet) if media == CSV else sheet.json()


async def _csv(sheet: Sheet) -> AsyncGenerator[bytes, None]:
    yield csv_lines([sheet.columns])
    async for page in sheet.pages:
        async for some in _few_by_few(page):
            rows = map(record_dict, some)
            yield csv_lines([row[name] for name in sheet.columns] for row in rows)


async def _parquet(sheet: Sheet, files: ParquetFiles) -> AsyncGenerator[bytes, None]:
    async with files.file(sheet.columns, sheet.timezone) as file:
        async for page in sheet.pages:
            async for some in _few_by_few(page):
                await file.add(list(map(record_dict, some)))
            yield await file.row_group()
        yield await file.end()


async def _few_by_few(page: Sequence[_Item]) -> AsyncIterator[Sequence[_Item]]:
    """So many of a page as are written in one go; between two of them others have their turns."""
    for start in range(0, len(page), ROWS_IN_ONE_GO):
        yield page[start : start + ROWS_IN_ONE_GO]
        await asyncio.sleep(0)


async def _streamed(
    request: web.BaseRequest, media: str, chunks: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send what is made while it is sent. What fails midway cuts the connection; a client may leave.

    Raises:
        StorageError: before the first byte only.
        Problem: before the first byte only.
    """
    async with aclosing(chunks):
        first = await anext(chunks)
        response = Stream(headers=_STREAMED | {"Content-Type": _content_type(media)})
        try:
            await response.prepare(request)
            if request.method == hdrs.METH_HEAD:  # aiohttp would send what is written
                return response
            await _write(response, first)
            async for chunk in chunks:
                await _write(response, chunk)
        except ConnectionError:
            _LOG.info("the client left before the end of its answer", extra={"path": request.path})
        except TimeoutError:
            _LOG.info("the client takes nothing more of its answer", extra={"path": request.path})
            if request.transport is not None:
                request.transport.abort()
        except (StorageError, Problem):
            if request.transport is not None:
                request.transport.abort()  # an answer that ends properly would pass for a whole one
        return response


async def _write(response: web.StreamResponse, chunk: bytes) -> None:
    """Send some of an answer; who takes nothing for long keeps others from theirs.

    Raises:
        TimeoutError: the client took hardly anything of it.
        ConnectionError: it has left.
    """
    for begin in range(0, len(chunk), _PIECE):
        async with asyncio.timeout(_STALLED_S):
            await response.write(chunk[begin : begin + _PIECE])


def _content_type(media: str) -> str:
    return media if media == PARQUET else f"{media}; charset={_BYTE_ORDER}"


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Lines of CSV; unknown is empty; lists, objects, true and false are JSON."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(
        [json.dumps(value) if isinstance(value, _AS_JSON) else value for value in row] for row in rows
    )
    return out.getvalue().encode(_BYTE_ORDER, "replace")


def _json_line(bucket: Mapping[str, Any], row: Row) -> bytes:
    """Write a raw reading as the standard library does; msgspec does that in a quarter of the time.

    Where the two differ the former has its way: in what is no ASCII, and in numbers that no column holds.
    """
    if not row.extra:
        line = ENCODER.encode(bucket)
        if line.isascii() and _DELETE not in line:
            return line
    return json.dumps(bucket, separators=(",", ":")).encode()


class RawSeries:
    """Raw readings of a device, each a bucket of its own, sent as they are read.

    Args:
        database: where they are.
        device: whose.
        begin: first moment.
        end: last moment, not included.
        fields: which fields; None for all.
    """

    def __init__(
        self,
        database: Database,
        device: KnownDevice,
        begin: datetime,
        end: datetime,
        fields: Sequence[str] | None,
    ) -> None:
        self._database = database
        self._device = device
        self._begin = begin
        self._end = end
        self._fields = fields
        self._names = raw_columns(fields)
        self._columns = (*self._names, _EXTRA) if fields is None else self._names
        self._named = frozenset(self._names)
        self._read = VALUE_COLUMNS if fields is None else columns_of({*fields, "sample_count"})

    async def answer(self, request: web.BaseRequest, files: ParquetFiles) -> web.StreamResponse:
        """Send them; a year never sits in memory.

        Args:
            request: may ask for another media type than JSON.
            files: make Parquet.

        Raises:
            StorageError: before the first byte only.
            Problem: Parquet cannot be made; before the first byte only.
        """
        media = media_of(request)
        return await _streamed(request, media, self._chunks(media, files))

    def _chunks(self, media: str, files: ParquetFiles) -> AsyncGenerator[bytes, None]:
        if media == PARQUET:
            return self._parquet(files)
        return self._csv() if media == CSV else self._json()

    async def _pages(self) -> AsyncIterator[list[Row]]:
        after = self._begin - _MICROSECOND
        while True:
            rows = await rows_between(
                self._database, self._device.key, after, self._end, _ROWS_AT_ONCE, self._read
            )
            yield rows
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = rows[-1].ts

    async def _few(self) -> AsyncIterator[Sequence[Row]]:
        async for page in self._pages():
            async for some in _few_by_few(page):
                yield some

    async def _json(self) -> AsyncGenerator[bytes, None]:
        head = json.dumps(
            {"device_id": self._device.device_id, "frame": None, "timezone": self._device.zone.key}
        )
        lead = f'{head[:-1]}, "series": ['.encode()
        async for rows in self._few():
            yield lead + b",\n".join(_json_line(self._bucket(row), row) for row in rows)
            lead = b",\n"
        yield b"]}" if lead == b",\n" else lead + b"]}"

    async def _csv(self) -> AsyncGenerator[bytes, None]:
        lead: list[Sequence[str]] = [self._columns]
        async for rows in self._few():
            records = map(self._record, rows)
            yield csv_lines([*lead, *([record.get(name) for name in self._columns] for record in records)])
            lead = []
        if lead:
            yield csv_lines(lead)

    async def _parquet(self, files: ParquetFiles) -> AsyncGenerator[bytes, None]:
        async with files.file(self._columns, self._device.zone.key) as file:
            async for rows in self._few():
                await file.add(list(map(self._record, rows)))
                if file.waiting >= _ROW_GROUP:
                    yield await file.row_group()
            yield await file.end()

    def _record(self, row: Row) -> Mapping[str, Any]:
        """Make a bucket for a table."""
        bucket = self._bucket(row)
        rest = {name: bucket[name] for name in bucket if name not in self._named} if row.extra else None
        return {**bucket, _EXTRA: json.dumps(rest) if rest else None}

    def _bucket(self, row: Row) -> Mapping[str, Any]:
        values = shown(row)
        chosen = values if self._fields is None else {name: values.get(name) for name in self._fields}
        start = row.ts.astimezone(self._device.zone).isoformat(timespec="milliseconds")
        facts = {"sample_count": values.get("sample_count", 1), "coverage": 1.0, "partial": False}
        # The start is said twice: it comes first, and no field of a newer edge takes its place.
        bucket = {"bucket": start, **chosen} | {"bucket": start, **facts}
        bucket.pop("implausible", None)
        if row.extra and (doubtful := [name for name in implausible(row.extra) if name in chosen]):
            bucket["implausible"] = doubtful
        return bucket
