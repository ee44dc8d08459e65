"""Builds a spool's store in a thread, and ends that soon where it is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
import anyio.to_thread

from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.store import SpoolStore

_END_S: Final = 0.05
"""Seconds between two requests to end."""


async def build_store(
    build: Callable[[], SpoolStore], opening: SpoolOpening, limiter: anyio.CapacityLimiter
) -> SpoolStore:
    """Build a store in a thread; cancelled, end that soon, and leave no store behind."""
    outcome: list[SpoolStore | BaseException] = []
    is_over = anyio.Event()

    def job() -> SpoolStore | BaseException:
        try:
            return build()
        except BaseException as error:  # noqa: BLE001 - raised below, as it is: a task group would wrap it
            return error

    async def work() -> None:
        try:
            outcome.append(await anyio.to_thread.run_sync(job, limiter=limiter))
        finally:
            is_over.set()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            try:
                await is_over.wait()
            finally:
                with anyio.CancelScope(shield=True):
                    while not is_over.is_set():
                        opening.end()
                        await anyio.sleep(_END_S)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            for made in outcome:
                if isinstance(made, SpoolStore):
                    await anyio.to_thread.run_sync(made.close, limiter=limiter)
        raise
    (made,) = outcome
    if isinstance(made, BaseException):
        raise made
    return made
