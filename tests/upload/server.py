"""An ingest server for tests: keeps the contract unless a test tells it how to break it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from tests.closing import close

Batch = dict[str, Any]
Behaviour = Callable[["IngestServer", web.Request, Batch], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """A request as it arrived."""

    batch: Batch
    authorization: str
    encoding: str
    at: float = field(default_factory=time.monotonic)

    @property
    def seqs(self) -> list[int]:
        return list(self.batch["seq"])


class IngestServer:
    """Stores samples by device and time; plays `script` first, then what `rule` says, then the contract."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._runner: web.AppRunner | None = None
        self.url = ""
        self.token = "right-token"
        self.version = "1.0"
        self.stored: dict[tuple[str, str], Batch] = {}
        self.seen: list[Seen] = []
        self.script: deque[Behaviour] = deque()
        self.rule: Behaviour | None = None
        self.health_asked = 0
        self.health_cut = 0
        self.date: str | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/v1/ingest", self._ingest)
        app.router.add_get("/health", self._health)
        app.on_response_prepare.append(self._set_date)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.url = f"https://localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._runner is not None
        await close(self._runner)

    async def _set_date(self, request: web.Request, response: web.StreamResponse) -> None:
        del request
        if self.date is not None:
            response.headers["Date"] = self.date

    async def _health(self, request: web.Request) -> web.Response:
        self.health_asked += 1
        if self.health_cut > 0:
            self.health_cut -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"status": "ok"})

    async def _ingest(self, request: web.Request) -> web.StreamResponse:
        encoding = request.headers.get("Content-Encoding", "")
        batch = json.loads(await request.read())  # unpacked by aiohttp
        self.seen.append(Seen(batch, request.headers.get("Authorization", ""), encoding))
        if self.script:
            return await self.script.popleft()(self, request, batch)
        if self.rule is not None:
            return await self.rule(self, request, batch)
        return await answer(self, request, batch)

    def seqs_stored(self) -> set[int]:
        return {sample["__seq"] for sample in self.stored.values()}


def judge(server: IngestServer, batch: Batch) -> Batch:
    """Store a batch and account for it, as the contract says."""
    inserted = duplicates = 0
    conflicts = []
    for index, (sample, seq) in enumerate(zip(batch["samples"], batch["seq"], strict=True)):
        key = (sample["device_id"], sample["ts"])
        row = sample | {"__seq": seq}
        if key not in server.stored:
            server.stored[key] = row
            inserted += 1
        elif server.stored[key] == row:
            duplicates += 1
        else:
            conflicts.append({"index": index, "code": "different_value", "reason": "differs"})
    return {
        "batch_id": batch["batch_id"],
        "received": len(batch["samples"]),
        "inserted": inserted,
        "duplicates": duplicates,
        "conflicts": conflicts,
        "rejected": [],
        "deferred": [],
        "resend": False,
        "server_version": server.version,
    }


def lacks(server: IngestServer, batch: Batch) -> bool:
    """Whether anything is missing that the edge believes delivered: a real server asks for all again then."""
    [device_id] = {sample["device_id"] for sample in batch["samples"]}
    return any((device_id, ts) not in server.stored for ts in batch["last_delivered"])


async def answer(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """The well-behaved server."""
    if request.headers.get("Authorization") != f"Bearer {server.token}":
        return web.json_response({"title": "no"}, status=401)
    return web.json_response(judge(server, batch))


def altered(**changes: object) -> Behaviour:
    """Store nothing and answer as if, with some members of the answer changed."""

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del request
        kept = dict(server.stored)
        reply = judge(server, batch) | changes
        server.stored = kept
        return web.json_response(reply)

    return behave


def status(code: int, **headers: str) -> Behaviour:
    """Answer with a status and a problem."""

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del server, request, batch
        problem = {"type": "about:blank", "title": "t", "status": code, "detail": "as the test wants"}
        return web.json_response(problem, status=code, headers=headers)

    return behave


def raw(body: bytes, code: int = 200, content_type: str = "text/html") -> Behaviour:
    """Answer with any bytes."""

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del server, request, batch
        return web.Response(body=body, status=code, content_type=content_type)

    return behave


def verdicts(name: str, code: str, chosen: Callable[[Batch], bool]) -> Behaviour:
    """Put the samples a test chooses into one of the lists; store the others."""

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del request
        apart = [i for i, sample in enumerate(batch["samples"]) if chosen(sample)]
        rest = [i for i in range(len(batch["samples"])) if i not in apart]
        reply = judge(server, batch | {k: [batch[k][i] for i in rest] for k in ("samples", "seq")})
        entries = [{"index": i, "code": code, "reason": "as the test wants"} for i in apart]
        return web.json_response(reply | {"received": len(batch["samples"]), name: entries})

    return behave


def failing_on(code: int, poison: Callable[[Batch], bool]) -> Behaviour:
    """Fail for every batch that holds a sample the test names."""

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if any(poison(sample) for sample in batch["samples"]):
            return await status(code)(server, request, batch)
        return await answer(server, request, batch)

    return behave


async def cut_before_answer(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Commit, then cut the connection: the edge never learns."""
    judge(server, batch)
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_in_answer(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Commit, and cut the connection in the middle of the answer."""
    body = json.dumps(judge(server, batch)).encode()
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


async def drip(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Answer a byte at a time, each in time, all of them never."""
    del server, batch
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await asyncio.sleep(0.05)
        try:
            await response.write(b" ")
        except ConnectionError:
            break
    return response


async def flood(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Answer without end."""
    del server, batch
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        for _ in range(64):
            await response.write(b" " * 1024 * 1024)
    except ConnectionError:
        pass
    return response
