"""What stands between the parts and spoils what passes: unreliable lines and a lying HTTPS stage."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any, Final, Self, TypeVar

import aiohttp
from aiohttp import web

from reference_server.bodies import decompress
from sungrow_lib.demo.certificates import CertificateFiles
from tests.closing import abort_all, close

_Result = TypeVar("_Result")
_CHUNK: Final = 65_536
_PIECE: Final = 256
"""Bytes of one connection that a narrow line carries before those of another."""
_CONNECTED_S: Final = 10.0
_LARGEST: Final = 64 * 2**20
ABOUT_ONE: Final = "answer about a single reading lost"
_LATEST_S: Final = 6.0
"""A request or an answer comes so late at most: later than an edge waits."""


class FaultLoop:
    """An event loop in a thread of its own, on which lines and stage live."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run work on the loop and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await abort_all()


class _Way(Enum):
    """The two ways of a line."""

    THERE = "there"
    BACK = "back"


class Line:
    """A TCP line: passes bytes on until it is told to misbehave.

    Args:
        target: port of this machine, or path of a Unix socket.
        faults: where each fault is counted.
        name: of the line, in the counts.
        draw: decides where a fault strikes.
    """

    def __init__(self, target: int | str, faults: Counter[str], name: str, draw: random.Random) -> None:
        self._target, self._faults, self._name, self._draw = target, faults, name, draw
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._open = asyncio.Event()
        self.port = 0
        self.doubling = 0.0
        """How likely an answer is sent twice."""
        self.losing = 0.0
        """How likely an answer is swallowed."""
        self.kbit_s = 0.0
        """So much it carries each way, all connections together; 0 for no limit."""
        self._free_at = dict.fromkeys(_Way, 0.0)

    async def start(self, unix: str | None = None) -> None:
        """Listen on a free port, or on a Unix socket."""
        self._open.set()
        if unix is not None:
            self._server = await asyncio.start_unix_server(self._serve, unix)
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def is_in_use(self) -> bool:
        """Whether there is a connection to spoil."""
        return bool(self._pairs)

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for pair in list(self._pairs):
            for end in pair:
                end.transport.abort()

    async def cut(self) -> bool:
        """Cut every connection, in the middle of whatever it carries; return whether there was any."""
        pairs = list(self._pairs)
        for pair in pairs:
            self._faults[f"{self._name}: connection cut"] += 1
            for end in pair:
                end.transport.abort()
        return bool(pairs)

    async def mute(self, seconds: float) -> bool:
        """Leave every connection half open for a while: nothing passes, no end is told; return as `cut`."""
        has_struck = self.is_in_use
        self.fall_silent()
        await asyncio.sleep(seconds)
        await self.cut()
        self.come_back()
        return has_struck

    @contextmanager
    def narrow(self, kbit_s: float) -> Iterator[None]:
        """Let it carry so much only."""
        self._faults[f"{self._name}: narrow"] += 1
        self.kbit_s = kbit_s
        try:
            yield
        finally:
            self.kbit_s = 0.0

    def fall_silent(self) -> None:
        """Pass nothing on any more, and tell no end of it."""
        self._faults[f"{self._name}: connection half-open"] += len(self._pairs)
        self._open.clear()

    def come_back(self) -> None:
        """Pass on again."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._target, str):
                up_reader, up_writer = await asyncio.open_unix_connection(self._target)
            else:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, up_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass(reader, up_writer), self._answer(up_reader, writer))
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await self._carry(reader, _Way.THERE):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await self._carry(reader, _Way.BACK):
                for _ in range(self._copies()):
                    writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, way: _Way) -> bytes:
        """Return what comes next, once it may pass; nothing at the end.

        What was sent is carried also when nobody waits for it any more, as by any line.
        """
        data = await reader.read(_PIECE if self.kbit_s else _CHUNK)
        await self._open.wait()
        if self.kbit_s:
            now = asyncio.get_running_loop().time()
            self._free_at[way] = max(self._free_at[way], now) + len(data) * 8 / (self.kbit_s * 1000)
            await asyncio.sleep(self._free_at[way] - now)
        return data

    def _copies(self) -> int:
        if self.losing and self._draw.random() < self.losing:
            self._faults[f"{self._name}: answer lost"] += 1
            return 0
        if self.doubling and self._draw.random() < self.doubling:
            self._faults[f"{self._name}: answer doubled"] += 1
            return 2
        return 1


def await_use(line: Line) -> None:
    """Wait until a line carries something, for a while: nothing is spoiled where nothing passes."""
    deadline = time.monotonic() + _CONNECTED_S
    while not line.is_in_use and time.monotonic() < deadline:
        time.sleep(0.05)


Trick = Callable[["Stage", web.Request, bytes], Awaitable[web.StreamResponse]]


class Stage:
    """Ends the edge's TLS, passes requests on to the real server, and lies about it while there is a storm.

    Args:
        upstream: address of the real server.
        files: certificates of both.
        faults: where each fault is counted.
        draw: decides what strikes which request.
    """

    def __init__(
        self, upstream: str, files: CertificateFiles, faults: Counter[str], draw: random.Random
    ) -> None:
        self._upstream, self._files, self._faults, self._draw = upstream, files, faults, draw
        self._trust = ssl.create_default_context(cafile=str(files.ca))
        self._earlier: list[bytes] = []
        self.port = 0
        self.storm: tuple[str, ...] = ()
        """The tricks of the storm, by name; `status` needs a number behind it: `503`."""
        self.resends = 0
        """How often the real server has asked for everything."""
        self.statuses = Counter[int]()
        """How often the real server has answered a POST with which status."""
        self._late = set[asyncio.Task[None]]()
        self.force = 0.0
        """The part of the requests it strikes."""

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._files.cert, self._files.key)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = runner.addresses[0][1]
        timeout = aiohttp.ClientTimeout(total=30)
        self._client = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        self._runner = runner

    async def stop(self) -> None:
        """Close everything."""
        await self._client.close()
        await close(self._runner)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except OSError:  # the line before was cut
            return _abort(request)
        if not self.storm or request.method != "POST" or self._draw.random() >= self.force:
            return await self._honest(request, body)
        name = self._draw.choice(self.storm)
        if name == ABOUT_ONE and not _is_about_one(request, body):
            return await self._honest(request, body)
        self._faults[f"answer: {name}"] += 1
        return await _TRICKS[name](self, request, body) if name in _TRICKS else _status(int(name))

    async def forward(self, request: web.Request, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Ask the real server."""
        kept = ("Authorization", "Content-Type", "Content-Encoding", "Accept")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        async with self._client.request(
            request.method, self._upstream + request.path_qs, data=body, headers=headers, ssl=self._trust
        ) as answer:
            content = await answer.read()
            if request.method == "POST":
                self.statuses[answer.status] += 1
            if answer.status == 200 and request.method == "POST":
                self._earlier = [*self._earlier[-20:], content]
                self.resends += b'"resend":true' in content.replace(b" ", b"")
            names = ("Content-Type", "Retry-After", "Date")
            return answer.status, content, {n: answer.headers[n] for n in names if n in answer.headers}

    async def _honest(self, request: web.Request, body: bytes) -> web.StreamResponse:
        try:
            status, content, headers = await self.forward(request, body)
        except (aiohttp.ClientError, TimeoutError):
            return _abort(request)
        return web.Response(status=status, body=content, headers=headers)

    def forward_late(self, request: web.Request, body: bytes) -> None:
        """Ask the real server in a while; the answer goes nowhere."""

        async def forward() -> None:
            await asyncio.sleep(self._draw.uniform(0.5, _LATEST_S))
            with suppress(aiohttp.ClientError, TimeoutError):
                await self.forward(request, body)

        task = asyncio.get_running_loop().create_task(forward())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def settle(self) -> None:
        """Wait until nothing is under way any more."""
        await asyncio.gather(*self._late)

    def earlier(self) -> bytes:
        """An answer to another batch."""
        return self._draw.choice(self._earlier) if self._earlier else b"{}"


def _is_about_one(request: web.Request, body: bytes) -> bool:
    """Whether a request brings one reading: those that ask what the server lost do, and some fresh ones."""
    coding = request.headers.get("Content-Encoding", "")
    content = json.loads(decompress(body, coding, _LARGEST) if coding else body)
    return len(content.get("samples", ())) == 1


def _abort(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _status(status: int) -> web.StreamResponse:
    problem = {"type": "about:blank", "title": "storm", "status": status, "detail": "a storm of the harness"}
    headers = {"Retry-After": "1"} if status in {429, 503} else {}
    if status == 302:
        headers = {"Location": "https://localhost:1/"}
    return web.json_response(problem, status=status, headers=headers)


def _said(content: bytes) -> web.StreamResponse:
    return web.Response(body=content, content_type="application/json")


async def _lost_request(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    del stage, body
    return _abort(request)


async def _lost_answer(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    with suppress(aiohttp.ClientError, TimeoutError):
        await stage.forward(request, body)
    return _abort(request)


async def _half_answer(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    with suppress(aiohttp.ClientError, TimeoutError):
        _, content, _ = await stage.forward(request, body)
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
    return _abort(request)


async def _twice(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    with suppress(aiohttp.ClientError, TimeoutError):
        await asyncio.gather(stage.forward(request, body), stage.forward(request, body))
    return await stage._honest(request, body)


async def _foreign(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    del request, body
    return _said(stage.earlier())


async def _foreign_but_kept(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    other = stage.earlier()
    with suppress(aiohttp.ClientError, TimeoutError):
        await stage.forward(request, body)
    return _said(other)


async def _wrong_sum(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    with suppress(aiohttp.ClientError, TimeoutError, ValueError):
        _, content, _ = await stage.forward(request, body)
        answer = json.loads(content)
        if "received" in answer:
            return _said(json.dumps(answer | {"received": answer["received"] + 1}).encode())
    return _abort(request)


async def _portal(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    del stage, request, body
    return web.Response(text="<html>Welcome to the hotel, please log in</html>", content_type="text/html")


async def _slow(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    await asyncio.sleep(1)
    return await stage._honest(request, body)


async def _late_request(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    stage.forward_late(request, body)
    return _abort(request)


async def _late_answer(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    response = await stage._honest(request, body)
    await asyncio.sleep(stage._draw.uniform(0.2, _LATEST_S))
    return response


async def _silent(stage: Stage, request: web.Request, body: bytes) -> web.StreamResponse:
    with suppress(aiohttp.ClientError, TimeoutError):
        await stage.forward(request, body)
    await asyncio.sleep(5)
    return _abort(request)


_TRICKS: Final[dict[str, Trick]] = {
    "request lost": _lost_request,
    "answer lost": _lost_answer,
    ABOUT_ONE: _lost_answer,
    "answer cut off": _half_answer,
    "request doubled": _twice,
    "answer of another batch": _foreign,
    "answer of another batch, this one stored": _foreign_but_kept,
    "wrong sum": _wrong_sum,
    "captive portal": _portal,
    "slow answer": _slow,
    "no answer": _silent,
    "request late": _late_request,
    "answer late": _late_answer,
}
STORMS: Final[tuple[tuple[str, ...], ...]] = (
    ("request lost", "answer lost", "answer cut off"),
    ("request doubled", "slow answer"),
    ("answer of another batch", "answer of another batch, this one stored", "wrong sum", "captive portal"),
    ("500", "502", "503"),
    ("429",),
    ("413", "400", "422"),
    ("401", "403"),
    ("404", "405", "415", "302", "no answer"),
    ("request late", "answer late"),
)
