"""A server in this process on a real PostgreSQL, and a client that speaks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import psycopg
import pytest
from aiohttp import web

from reference_server.app import make_runner
from reference_server.config import ServerSettings
from reference_server.server import Server
from reference_server.storage import absence
from reference_server.storage.rollups import REPAIR
from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S

TOKEN = "edge-token-0123456789"
OTHER_TOKEN = "other-token-0123456789"
NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """The time the server believes in."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


def sample(offset_s: float = 0, device_id: str = "sh-1", **fields: Any) -> dict[str, Any]:
    """Make a sample ``offset_s`` seconds after a minute before NOW."""
    ts = format_ts(NOW - timedelta(minutes=1) + timedelta(seconds=offset_s))
    return {"device_id": device_id, "ts": ts} | fields


@dataclass
class Api:
    """Talks to a server."""

    url: str
    session: aiohttp.ClientSession
    server: Server
    clock: Clock
    dsn: str
    token: str = TOKEN

    def headers(self, token: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token or self.token}"}

    async def get(self, path: str, *, token: str | None = None, **query: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, params=query, headers=self.headers(token)) as answer:
            return answer.status, await answer.json(content_type=None)

    async def send(
        self, *samples: Any, token: str | None = None, **envelope: Any
    ) -> tuple[int, dict[str, Any]]:
        body = {"samples": list(samples)} | envelope
        async with self.session.post(
            self.url + "/v1/ingest", json=body, headers=self.headers(token)
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def ingest(self, *samples: Any, **envelope: Any) -> dict[str, Any]:
        """Send a batch that must be answered with 200, and check the sum rule."""
        status, answer = await self.send(*samples, **envelope)
        assert status == 200, answer
        listed = [v["index"] for kind in ("conflicts", "rejected", "deferred") for v in answer[kind]]
        assert answer["received"] == len(samples)
        assert answer["inserted"] + answer["duplicates"] + len(listed) == len(samples)
        assert len(set(listed)) == len(listed)
        return answer

    async def post_raw(
        self, body: bytes, *, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        sent = self.headers() | {"Content-Type": content_type} | headers
        async with self.session.post(self.url + "/v1/ingest", data=body, headers=sent) as answer:
            assert answer.status == 200 or answer.content_type == "application/problem+json"
            return answer.status, await answer.json(content_type=None)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Look into the database."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql.encode()).fetchall()


async def nothing_to_repair(api: Api) -> None:
    """Wait until a server that was just started has written so down."""
    async with asyncio.timeout(PATIENCE_S):
        while not api.rows(f"SELECT FROM schema_history WHERE name = '{REPAIR}'"):  # noqa: ASYNC110 - the database tells of no event
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests may answer late: that alone makes no database be away."""
    monkeypatch.setattr(absence, "_PATIENCE_S", 30.0)


StartServer = Callable[..., AbstractAsyncContextManager[Api]]


@asynccontextmanager
async def serving(dsn: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Api]:
    """A server on a migrated database."""
    clock = clock or Clock()
    given: dict[str, Any] = {
        "database_url": dsn,
        "device_tokens": f"{TOKEN}:sh-1,{TOKEN}:sh-2,{OTHER_TOKEN}:other",
        "refresh_interval_s": 60.0,
    }
    server = Server.from_settings(ServerSettings(**(given | settings)), clock)
    runner = make_runner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession(auto_decompress=True) as session:
            yield Api(url, session, server, clock, dsn)
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)


@pytest.fixture
def start_server(migrated: str) -> StartServer:
    """Start servers with settings of the test's choice."""

    def start(*, dsn: str = migrated, clock: Clock | None = None, **settings: Any) -> Any:
        return serving(dsn, clock, **settings)

    return start


@pytest.fixture
async def api(start_server: StartServer) -> AsyncIterator[Api]:
    async with start_server() as running:
        async with asyncio.timeout(PATIENCE_S):
            while not running.server.database.pool()["idle"]:  # noqa: ASYNC110 - a pool has no event
                await asyncio.sleep(0.01)
        yield running
