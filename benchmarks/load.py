"""A client that costs little: what it takes comes off the two cores that do the work that is measured.

All requests are made before the clock runs, and sent as they are; of an answer only its status, its length
and whether it says what it ought to are looked at.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_NO_CONTENT: Final = b"204"


def request(url: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """Make the bytes of a request: a POST, or a GET without a body."""
    parts = urlsplit(url)
    lines = [f"{'GET' if body is None else 'POST'} {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


async def send(
    url: str, requests: Sequence[Iterable[bytes]], answer: bytes, limit_s: float
) -> tuple[list[int], float]:
    """Send, one request at a time on each connection, until the time is over or one connection has sent all.

    Args:
        url: where to.
        requests: for each connection, whole requests, as :func:`request` makes them.
        answer: what the body of each answer must hold.
        limit_s: when no more is sent.

    Returns:
        How many requests were answered, by connection, and the seconds to the last of the answers.
    """
    host, _, port = urlsplit(url).netloc.partition(":")
    loop = asyncio.get_running_loop()
    slice_ = _Slice(len(requests), answer)
    connections = [_Connection(slice_, prepared) for prepared in requests]
    for connection in connections:
        await loop.create_connection(partial(_itself, connection), host, int(port))
    try:
        with _no_garbage():
            begin = time.perf_counter()
            slice_.end = begin + limit_s
            for connection in connections:
                connection.send_next()
            await slice_.done
            took_s = time.perf_counter() - begin
    finally:
        for connection in connections:
            connection.close()
    return [connection.answered for connection in connections], took_s


def _itself(connection: _Connection) -> _Connection:
    return connection


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Look for no garbage while the clock runs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Slice:
    """What the connections have in common.

    Attributes:
        answer: what each answer must hold.
        end: when no more is sent.
        done: is set when all that was sent is answered, or something went wrong.
    """

    def __init__(self, connections: int, answer: bytes) -> None:
        self.answer = answer
        self.end = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sending = connections

    def finish(self) -> None:
        """Count a connection that sends no more; nor do the others then."""
        self.end = 0.0
        self._sending -= 1
        if not self._sending and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        """Give up."""
        if not self.done.done():
            self.done.set_exception(SystemExit(reason))


class _Connection(asyncio.Protocol):
    def __init__(self, slice_: _Slice, requests: Iterable[bytes]) -> None:
        self.answered = 0
        self._slice = slice_
        self._requests = iter(requests)
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is one, but not by its class

    def connection_lost(self, exc: Exception | None) -> None:
        self._slice.fail(f"a connection was lost: {exc}")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def send_next(self) -> None:
        following = next(self._requests, None) if time.perf_counter() < self._slice.end else None
        if following is None:
            self._slice.finish()
        else:
            assert self._transport is not None
            self._transport.write(following)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(_END_OF_HEAD)
        if not separator or len(body) < _length(head):
            return
        self._received = b""
        if head[9:10] != b"2" or self._slice.answer not in body:
            self._slice.fail(f"the readings were not taken: {head!r} {body[:500]!r}")
            return
        self.answered += 1
        self.send_next()


def _length(head: bytes) -> int:
    """Bytes of the body of an answer with this head."""
    if head[9:12] == _NO_CONTENT:
        return 0
    _, found, rest = head.lower().partition(_LENGTH)
    if not found:
        raise SystemExit(f"an answer without a length: {head!r}")
    return int(rest.partition(b"\r\n")[0])
