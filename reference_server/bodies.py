"""Request bodies: decompressed within a limit, then parsed as JSON."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from math import inf, isinf
from typing import Any, Final, NoReturn

from aiohttp import HttpVersion11, web
from pydantic_core import from_json

from reference_server.problems import Problem
from reference_server.slow_bodies import Arrival
from reference_server.storage.codec import EndlessNumber

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

_JSON: Final = "application/json"
_CONTINUE: Final = "100-continue"
_GZIP_WBITS: Final = 31
_DEPTH_LIMIT: Final = 200  # as deep as from_json goes
_DIGITS: Final = 400  # more than any float has before its point
_BEGINNING: Final = 2**16
"""Bytes of a body that are read before there is room for it."""
_MOST_PARTS: Final = 64
"""Of a compressed body: what follows a part is copied to find the next, so very many would take very long."""
_MUCH: Final = 4 * 2**20
"""Bytes of a body from which on it is looked at before it is parsed: less cannot become very much."""
_OBJECTS: Final = 8
_LISTS: Final = 32
"""So many objects and lists of JSON a sample may have on average, several times as many as any has."""
ENCODINGS: Final = ("gzip", "zstd")
"""Content codings a body may have."""


async def read_json(request: web.BaseRequest, arrival: Arrival, *, max_decompressed: int) -> Any:
    """Read the JSON body of a request.

    Raises:
        Problem: 400 not JSON, 413 too large, 415 not JSON by its header or an unknown coding, 503 too slow.
    """
    require_json(request)
    return parse_json(decompressed(request, await read_body(request, arrival), max_decompressed))


def require_json(request: web.BaseRequest) -> None:
    """Refuse a body that does not say it is JSON.

    Raises:
        Problem: 415, it does not.
    """
    # To take the header apart is left to whom it says more than that.
    if request.headers.get("Content-Type") != _JSON and request.content_type != _JSON:
        raise Problem(415, f"send Content-Type: {_JSON}", headers={"Accept": _JSON})


async def read_body(
    request: web.BaseRequest, arrival: Arrival, wait: Callable[[int | None], Awaitable[None]] | None = None
) -> bytes:
    """Read a body as it was sent; unlike with aiohttp's own way, the request does not keep it.

    Args:
        request: whose body.
        arrival: watches it.
        wait: waits until there is room for the body: once it is there, with its size, or with None before
            more than a beginning of it is read. Who sends no more than a head keeps no room from others.

    Raises:
        Problem: 400, the connection ended before it did; 503, it comes too slowly.
        web.HTTPRequestEntityTooLarge: it is too large.
    """
    if request.content.is_eof():  # all of it has come
        body = await _next_of(request, is_first=True)
    else:
        async with arrival.under_way():
            body, wait = await _read_on(request, arrival, wait)
    if len(body) > request.client_max_size:
        raise web.HTTPRequestEntityTooLarge(request.client_max_size)
    if wait is not None:
        await wait(len(body))
    return body


async def _read_on(
    request: web.BaseRequest, arrival: Arrival, wait: Callable[[int | None], Awaitable[None]] | None
) -> tuple[bytes, Callable[[int | None], Awaitable[None]] | None]:
    """Read what comes of a body; nobody waits for room any more who has done so."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await _next_of(request, is_first=not chunks):
        chunks.append(chunk)
        size += len(chunk)
        if size > request.client_max_size:
            break
        arrival.came(size)
        if size > _BEGINNING and wait is not None:
            with arrival.kept_waiting():
                await wait(None)
            wait = None
    return b"".join(chunks), wait


async def _next_of(request: web.BaseRequest, *, is_first: bool) -> bytes:
    """Return what has come of a body, nothing at its end."""
    expects = is_first and request.headers.get("Expect", "").lower() == _CONTINUE
    try:
        if expects and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer has not begun
        return await request.content.readany()
    except OSError:  # the line is cut, or dead: nobody reads the answer, it is for the log and the counts
        raise Problem(400, "the connection ended before the body did") from None


def decompressed(request: web.BaseRequest, body: bytes, limit: int) -> bytes:
    """Undo the content coding of a request's body.

    Raises:
        Problem: 400 damaged, 413 larger than ``limit``, 415 an unknown coding.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    return decompress(body, coding, limit)


def decompress(body: bytes, coding: str, limit: int) -> bytes:
    """Undo a content coding, to at most ``limit`` bytes.

    Raises:
        Problem: 400 damaged, 413 larger than ``limit``, 415 an unknown coding.
    """
    try:
        if coding == "gzip":
            plain = _gunzip(body, limit)
        elif coding == "zstd":
            plain = _unzstd(body, limit)
        elif coding == "identity":
            plain = body
        else:
            raise Problem(
                415, "the body may be gzip or zstd", headers={"Accept-Encoding": ", ".join(ENCODINGS)}
            )
    except (zlib.error, ZstdError, EOFError) as error:
        raise Problem(400, f"the body is not valid {coding}") from error
    if len(plain) > limit:
        raise Problem(413, f"the decompressed body is larger than {limit} bytes; send smaller batches")
    return plain


def _gunzip(body: bytes, limit: int) -> bytes:
    plain = b""
    for _ in range(_MOST_PARTS):  # a body may be several gzip members
        member = zlib.decompressobj(_GZIP_WBITS)
        plain += member.decompress(body, limit + 1 - len(plain))
        if not member.eof and len(plain) <= limit:
            raise EOFError
        body = member.unused_data
        if not body or len(plain) > limit:
            return plain
    raise EOFError


def _unzstd(body: bytes, limit: int) -> bytes:
    plain = b""
    for _ in range(_MOST_PARTS):  # or several zstd frames
        frame = ZstdDecompressor()
        plain += frame.decompress(body, limit + 1 - len(plain))
        if not frame.eof and len(plain) <= limit:
            raise EOFError
        body = frame.unused_data
        if not body or len(plain) > limit:
            return plain
    raise EOFError


def require_few_parts(plain: bytes, max_samples: int) -> None:
    """Refuse a batch that would take many times its size in memory, however small it was on its way.

    Raises:
        Problem: 413, far more parts than the most samples have.
    """
    if len(plain) <= _MUCH:
        return
    if plain.count(b"{") > _OBJECTS * max_samples or plain.count(b"[") > _LISTS * max_samples:
        raise Problem(
            413,
            f"a batch holds at most {max_samples} samples; this one has far more parts; send smaller batches",
        )


def parse_json(body: bytes) -> Any:
    """Parse JSON strictly: no NaN, no endless nesting.

    A lone surrogate in a string, or a number beyond any float, is JSON's business to allow; the sample that
    holds it is judged alone.

    Raises:
        Problem: 400, not JSON.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        if not any(word in str(error) for word in ("escape", "surrogate", "out of range")):
            raise Problem(400, f"the body is not JSON: {error}") from None
    else:
        if not any(inf in level or -inf in level for level in _levels(value)):
            return value  # else it is read once more, for how a number beyond any float was written
    try:
        value = json.loads(body, parse_constant=_refuse, parse_int=_integer, parse_float=_float)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None
    if any(depth > _DEPTH_LIMIT for depth, _ in enumerate(_levels(value), 1)):
        raise Problem(400, "the body is nested too deeply")
    return value


def _levels(value: Any) -> Iterator[list[Any]]:
    """A value, what it holds, what that holds, and so on."""
    level = [value]
    while level:
        yield level
        objects = [inner for inner in level if isinstance(inner, dict)]
        arrays = [inner for inner in level if isinstance(inner, list)]
        level = list(chain(*map(dict.values, objects), *arrays))


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else _float(digits)


def _float(text: str) -> float:
    number = float(text)
    return EndlessNumber(text) if isinf(number) else number


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
