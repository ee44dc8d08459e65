"""Ends background work for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


async def end(tasks: Collection[asyncio.Task[Any]], *, again_s: float = 1.0) -> None:
    """Cancel tasks until all of them have ended.

    Once is not enough: a driver that is cancelled while its connection breaks answers with an error of its
    own, and who waits for a database to come back goes on waiting.

    Args:
        tasks: what is to end.
        again_s: how long a cancelled task may tidy up before it is cancelled again.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=again_s)
