"""Edges that offer batches to a server for as long as a test wants them to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import aiohttp
import psycopg

from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S
from tests.server.conftest import TOKEN

_EDGES: Final = 8
_PAUSE_S: Final = 0.005
"""s from an answer to the same edge's next batch: a test may have to wait long for what it is about."""
_CUT: Final = 0
"""Stands for a status where the connection ended without an answer."""


@asynccontextmanager
async def client(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
        yield session


def stored(dsn: str) -> tuple[int, int, int]:
    """Rows, different time stamps, and the sum of all readings."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT ts), sum(pv_power_w) FROM samples"
        ).fetchone()
    assert row is not None
    return row


def recent(offset_s: float = 0, **fields: Any) -> dict[str, Any]:
    """A reading ``offset_s`` seconds after a minute ago, for servers that go by the real time."""
    ts = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1) + timedelta(seconds=offset_s)
    return {"device_id": "sh-1", "ts": format_ts(ts)} | fields


async def post(session: aiohttp.ClientSession, *batch: dict[str, Any]) -> dict[str, Any]:
    """Send a batch, again while the server has no database yet."""
    while True:
        async with session.post("/v1/ingest", json={"samples": batch}) as answer:
            body: dict[str, Any] = await answer.json(content_type=None)
            if answer.status == 200:
                return body
            assert answer.status == 503, body
        await asyncio.sleep(0.02)


@dataclass
class Load:
    """What edges offer, and what they are answered.

    Attributes:
        port: where the server listens.
        size: readings in a batch.
        contradicted: whether another value of each batch's first reading is sent before it.
        statuses: how often each status was answered; `_CUT` for no answer.
        answers: what the server said of the batches it took.
    """

    port: int
    size: int = 20
    contradicted: bool = False
    statuses: Counter[int] = field(default_factory=Counter)
    answers: list[dict[str, Any]] = field(default_factory=list)
    _begin: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    _numbers: count[int] = field(default_factory=count)
    _sum: int = 0
    _is_enough: bool = False

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Offer batch after batch for as long as the context is open; then end, with every batch answered."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_EDGES):
                tasks.create_task(self._send())
            yield
            self._is_enough = True

    async def until_answered(self, more: int = 1) -> None:
        """Wait until so many more batches are stored."""
        wanted = len(self.answers) + more
        async with asyncio.timeout(PATIENCE_S):
            while len(self.answers) < wanted:  # noqa: ASYNC110 - what other processes do has no event here
                await asyncio.sleep(0.01)

    async def _send(self) -> None:
        async with client(self.port) as session:
            while not self._is_enough:
                batch = self._batch()
                if self.contradicted:
                    await self._offer(session, [batch[0] | {"pv_power_w": batch[0]["pv_power_w"] + 1}])
                    self._sum += 1
                self.answers.append(await self._offer(session, batch))
                await asyncio.sleep(_PAUSE_S)

    def _batch(self) -> list[dict[str, Any]]:
        first = next(self._numbers) * self.size
        numbers = range(first, first + self.size)
        batch = [
            {
                "device_id": "sh-1",
                "ts": format_ts(self._begin - timedelta(days=10) + number * timedelta(milliseconds=100)),
                "pv_power_w": number % 10_000,
            }
            for number in numbers
        ]
        self._sum += sum(number % 10_000 for number in numbers)
        return batch

    async def _offer(self, session: aiohttp.ClientSession, batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Offer a batch as an edge does: until the server has answered that it has it."""
        while True:
            try:
                async with session.post("/v1/ingest", json={"samples": batch, "edge_id": "box"}) as answer:
                    body: dict[str, Any] = await answer.json(content_type=None)
                    self.statuses[answer.status] += 1
                    if answer.status == 200:
                        return body
                    assert answer.status == 503, body
                    assert answer.headers["Retry-After"]
            except (aiohttp.ClientError, ConnectionError):
                self.statuses[_CUT] += 1
            await asyncio.sleep(0.02)

    def check(self, dsn: str) -> None:
        """Every reading that was answered is stored once with its own value, and nothing else is."""
        batches = next(self._numbers)
        assert len(self.answers) == batches
        for answer in self.answers:
            assert answer["inserted"] + answer["duplicates"] == self.size - self.contradicted
            assert [conflict["index"] for conflict in answer["conflicts"]] == [0] * self.contradicted
        assert stored(dsn) == (self.size * batches, self.size * batches, self._sum)
        with psycopg.connect(dsn) as connection:
            aside = connection.execute("SELECT reason, count(*) FROM kept_aside GROUP BY reason").fetchall()
        assert aside == [("conflict", batches)] * self.contradicted
