"""Answers: their JSON, the headers that each of them has, and how they are sent."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any, Final

from aiohttp import HttpVersion, HttpVersion10, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from pydantic import BaseModel

from sungrow_lib._version import __version__
from sungrow_lib.logs import CONTEXT
from sungrow_lib.wire.answers import Health

JSON: Final = "application/json; charset=utf-8"
IS_LAST: Final = web.RequestKey("is_last", bool)
"""Where a request keeps that its connection ends with the answer; nothing where that is not known."""
X_REQUEST_ID: Final = "X-Request-ID"
_NOT_MODIFIED: Final = 304
_SMALL: Final = 2**16
"""Bytes of a body that takes less time to copy behind the head than to send by itself."""
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": f"sungrow-server/{__version__}",
}


class Answer(web.StreamResponse):
    """An answer that is made; head and body leave at once.

    aiohttp's own takes several times as long for what no answer of ours needs: cookies, compression, unknown
    lengths, headers that are looked at anew for each answer though they are always the same.

    Args:
        body: what to send.
        status: HTTP status.
        media: the body's type; None when there is no body.
        headers: beside those of every answer.
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        media: str | None = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status=status, headers=headers)
        self.body: Final = body
        self._media = media
        self._head = b""
        self._writer: AbstractStreamWriter | None = None
        self._stays_open = False
        self._is_head_only = False

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection may bring another request."""
        return self._stays_open

    @property
    def body_length(self) -> int:
        """Bytes sent."""
        return self._writer.output_size if self._writer is not None else 0

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Make its head."""
        is_unchanged = self.status == _NOT_MODIFIED
        lines = _beginning(request.version, self.status, self._media) + _date(int(time()))
        if (name := _request_id()) is not None:
            lines += f"{X_REQUEST_ID}: {name}\r\n"
        if self.headers:
            lines += _lines(self.headers)
        if not is_unchanged:
            lines += f"Content-Length: {len(self.body)}\r\n"
        self._stays_open = request.keep_alive and super().keep_alive is None
        if not self._stays_open:
            lines += "Connection: close\r\n"
        elif request.version == HttpVersion10:
            lines += "Connection: keep-alive\r\n"
        self._head = f"{lines}\r\n".encode()
        self._is_head_only = is_unchanged or request.method == hdrs.METH_HEAD
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it."""
        assert self._writer is not None
        assert not data
        body = b"" if self._is_head_only else self.body
        if len(body) <= _SMALL:
            await self._writer.write(self._head + body)
        else:
            await self._writer.write(self._head)
            await self._writer.write(body)
        await self._writer.drain()  # who takes no answers gets no more, and has no more made


@lru_cache
def _beginning(version: HttpVersion, status: int, media: str | None) -> str:
    """The first lines of every answer of a kind."""
    kind = {} if media is None else {hdrs.CONTENT_TYPE: media}
    status_line = f"HTTP/{version.major}.{version.minor} {status} {HTTPStatus(status).phrase}\r\n"
    return status_line + _lines(_HEADERS | kind)


def _lines(headers: Mapping[str, str]) -> str:
    """Headers as they are sent.

    Raises:
        ValueError: one would end before its end.
    """
    for value in headers.values():
        if "\r" in value or "\n" in value:
            raise ValueError("a header is one line")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _request_id() -> str | None:
    """The id of the request that is being answered; None for what is no request."""
    name = CONTEXT.get().get("request_id")
    return name if isinstance(name, str) else None


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    """The line that says when."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n"


class Stream(web.StreamResponse):
    """An answer that is sent while it is made, with the headers of every answer."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin to send it."""
        if (name := _request_id()) is not None:
            self.headers[X_REQUEST_ID] = name
        if IS_LAST in request:
            self.force_close()
        self.headers.update(_HEADERS)
        return await super().prepare(request)


class _Lasting(Stream):
    """What may be kept for good, as long as it is sent as it is."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin to send it; its status is known by now."""
        if self.status == HTTPStatus.OK:
            self.headers.setdefault(hdrs.CACHE_CONTROL, "public, max-age=31536000, immutable")
        return await super().prepare(request)


class File(web.FileResponse, Stream):
    """A file as an answer."""


class LastingFile(web.FileResponse, _Lasting):
    """A file whose name holds the digest of its content: what is under this name never changes."""


def json_bytes(answer: BaseModel | Mapping[str, Any], *, exclude: Collection[str] = ()) -> bytes:
    """JSON of an answer; of health, fields that were not set stay away."""
    if not isinstance(answer, BaseModel):
        return json.dumps(answer).encode()
    return answer.model_dump_json(exclude_unset=isinstance(answer, Health), exclude=set(exclude)).encode()
