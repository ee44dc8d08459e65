"""Background work ends also where a cancellation is lost on the way."""

from __future__ import annotations

import asyncio

import pytest

from reference_server.ending import end
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio


async def test_a_lost_cancellation_is_repeated() -> None:
    lost = asyncio.Event()

    async def waits_for_a_database() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost.is_set():
                    raise
                lost.set()  # as a driver does that says "connection lost" instead

    stubborn = asyncio.create_task(waits_for_a_database())
    obedient = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await end([stubborn, obedient], again_s=0.01)
    assert lost.is_set()
    assert stubborn.cancelled()
    assert obedient.cancelled()


async def test_work_that_has_failed_already_ends_nothing() -> None:
    async def fails() -> None:
        raise ValueError("a bug")

    task = asyncio.create_task(fails())
    await asyncio.wait([task])
    await end([task])
    assert isinstance(task.exception(), ValueError)
