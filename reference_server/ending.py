"""Ends work at the right moment: for certain, at once, or only when it is whole."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
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


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do short work that must not be broken off half way; a cancellation counts after it."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):  # an error is no reason to go on
            await task
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C, and what stands for it, interrupt a part of a coroutine that waits without the event loop.

    The loop would see it at its next turn, and who waits for a pipe has none. Nowhere else may it break into
    a coroutine: a driver that is at a statement has to be cancelled by its own means.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # ignored, as a shell starts jobs in the background
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise KeyboardInterrupt  # it came a moment before, and the loop had no turn since
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
