"""Who is cancelled ends, also in the moment in which it gets the connection it waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from reference_server.storage.connection import Connection
from reference_server.storage.database import Database
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

STEPS = 8
"""More turns of the event loop than it takes to hand a connection over."""


@pytest.fixture
async def narrow(postgres_dsn: str) -> AsyncIterator[Database]:
    """A way to the database with one connection only, for which others wait."""
    database = Database(postgres_dsn, size=1)
    await database.open()
    await database.rows("engine")
    yield database
    await database.close()


@pytest.mark.parametrize("is_one_statement", [True, False])
@pytest.mark.parametrize("steps", range(STEPS))
async def test_a_cancellation_is_not_lost_as_a_connection_comes(
    narrow: Database, steps: int, *, is_one_statement: bool
) -> None:
    is_held, may_go = asyncio.Event(), asyncio.Event()

    async def hold(_: Connection) -> None:
        is_held.set()
        await may_go.wait()

    async def work_for_ever(_: Connection) -> None:
        await asyncio.Event().wait()

    holding = asyncio.create_task(narrow.run(hold, is_one_statement=True))
    await is_held.wait()
    waiting = asyncio.create_task(narrow.run(work_for_ever, is_one_statement=is_one_statement))
    while narrow.pool()["waiting"] == 0:  # noqa: ASYNC110 - the pool tells of no event
        await asyncio.sleep(0)
    may_go.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    waiting.cancel()
    ended, _ = await asyncio.wait([waiting], timeout=PATIENCE_S)
    waiting.cancel()
    assert ended, "it was cancelled and goes on"
    assert waiting.cancelled()
    await holding
    assert len(await narrow.rows("engine")) == 1, "the connection is lost"
