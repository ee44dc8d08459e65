"""One page over HTTP on loopback, for a reader or two: what Prometheus asks for, in very little memory.

Whoever connects can do no harm: at most four are attended to at a time, each for seconds, and none makes
the daemon hold more than a few kilobytes. A connection serves one request.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

_LOG: Final = logging.getLogger("sungrow_edge")
_AT_ONCE: Final = 4
"""Connections attended to; the kernel lets a few more wait for their turn."""
_WAITING: Final = 16
_ASK_S: Final = 1.0
"""Seconds for a client to ask: Prometheus waits ten, with all that may say nothing before it."""
_PATIENCE_S: Final = 5.0
"""Seconds for a client to take the answer."""
_REQUEST_BYTES: Final = 8192
"""The longest request; Prometheus sends some hundred bytes."""
_CHUNK_BYTES: Final = 2048
_LEFT_CHUNKS: Final = 32
"""As much is taken from a client that has been answered and still sends."""
_AGAIN_S: Final = 1.0
"""Seconds until connections are taken again when the system has no room for one."""
_END: Final = re.compile(rb"\r?\n\r?\n")
_ORIGIN: Final = re.compile(r"^https?://[^/?]*", re.IGNORECASE)
"""What a target may begin with: a proxy is asked so, and whoever is must understand it (RFC 9112, 3.2.2)."""
_REQUEST: Final = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.\d\r?\n")
_READING: Final = ("GET", "HEAD")


class Page:
    """What is answered, and where.

    Args:
        path: of the page.
        content_type: of it.
        write: writes it anew for each reader.
    """

    def __init__(self, path: str, content_type: str, write: Callable[[], bytes]) -> None:
        self._path = path
        self._content_type = content_type
        self._write = write

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects, until cancelled; ``listener`` is closed then."""
        free = anyio.Semaphore(_AT_ONCE)
        with listener:
            listener.settimeout(0)
            async with anyio.create_task_group() as clients:
                while True:
                    await free.acquire()
                    clients.start_soon(self._attend, await _next_client(listener), free)

    async def _attend(self, client: socket.socket, free: anyio.Semaphore) -> None:
        try:
            # An OSError is a client that went away: its right. So is what tells of one that takes too long.
            with client, suppress(OSError):
                client.settimeout(0)
                with anyio.fail_after(_ASK_S):
                    request = await _request(client)
                with anyio.fail_after(_PATIENCE_S):
                    await _end(client, self.answer(request))
        finally:
            free.release()

    def answer(self, request: bytes) -> bytes:
        """Return the whole answer to a request, of which nothing but the first line counts."""
        found = _REQUEST.match(request)
        if found is None or _END.search(request) is None:
            return _problem("400 Bad Request")
        method, target = found[1].decode(), found[2].decode()
        if _ORIGIN.sub("", target, count=1).partition("?")[0] != self._path:
            return _problem("404 Not Found", f"see {self._path}", method)
        if method not in _READING:
            return _problem("405 Method Not Allowed", headers=(f"Allow: {', '.join(_READING)}",))
        try:
            body = self._write()
        except Exception:  # noqa: BLE001 - whatever it is: it must not end what reads the inverters
            _LOG.exception("what Prometheus asked for cannot be written")
            return _problem("500 Internal Server Error", method=method)
        return _answer("200 OK", self._content_type, body, method)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on loopback alone.

    Raises:
        OSError: it cannot.
    """
    return socket.create_server(("127.0.0.1", port), backlog=_WAITING)


def _problem(status: str, words: str = "", method: str = "", headers: tuple[str, ...] = ()) -> bytes:
    body = f"{status}{words and ': '}{words}\n".encode()
    return _answer(status, "text/plain; charset=utf-8", body, method, headers)


def _answer(status: str, content_type: str, body: bytes, method: str, headers: tuple[str, ...] = ()) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
        "\r\n",
    )
    return "\r\n".join(lines).encode() + (b"" if method == "HEAD" else body)


async def _next_client(listener: socket.socket) -> socket.socket:
    while True:
        await anyio.wait_readable(listener)
        try:
            return listener.accept()[0]
        except BlockingIOError:  # it went away again
            continue
        except OSError:  # there are too many files, say, and this one waits on
            await anyio.sleep(_AGAIN_S)


async def _request(client: socket.socket) -> bytes:
    """Return what a client asks; something incomplete if it ends early or goes on too long."""
    request = bytearray()
    while len(request) < _REQUEST_BYTES and _END.search(request) is None:
        chunk = await _receive(client)
        if not chunk:
            break
        request += chunk
    return bytes(request)


async def _receive(client: socket.socket) -> bytes:
    await anyio.wait_readable(client)  # at each piece, so that one that pours lets others have their turn
    return client.recv(_CHUNK_BYTES)


async def _end(client: socket.socket, answer: bytes) -> None:
    await _send(client, answer)
    client.shutdown(socket.SHUT_WR)
    for _chunk in range(_LEFT_CHUNKS):  # closed with something unread, the answer would be lost
        if not await _receive(client):
            break


async def _send(client: socket.socket, answer: bytes) -> None:
    left = memoryview(answer)
    while left:
        await anyio.wait_writable(client)
        left = left[client.send(left) :]
