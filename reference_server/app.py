"""What listens, and what is done meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from reference_server import handlers
from reference_server.answers import Answer
from reference_server.connections import LOGGERS, Connections
from reference_server.ending import end
from reference_server.front import Front
from reference_server.metrics import METRICS_TEXT
from reference_server.server import Server
from reference_server.storage.errors import StorageUnavailableError

_LOG: Final = logging.getLogger(__name__)
_WATCH_S: Final = 5.0
_TIDY_S: Final = 10.0
"""More than the driver takes to give a statement up."""
_SHUTDOWN_S: Final = 10.0


@asynccontextmanager
async def _background(server: Server, *, is_keeper: bool) -> AsyncIterator[None]:
    """Open the database and do the background work for as long as requests are answered."""
    await server.database.open()
    shared = (server.refresher, server.retention, server.plant_keeper) if is_keeper else ()
    tasks = [asyncio.create_task(work.run()) for work in (server.live, *shared)]
    tasks.append(asyncio.create_task(_watch(server)))
    try:
        yield
    finally:
        await end(tasks, again_s=_TIDY_S)
        await server.database.close()
    for task in tasks:
        if not task.cancelled():
            task.result()  # it ended before its time: say why


async def _watch(server: Server) -> None:
    """Say what the database is once it answers, and keep the metrics of this process fresh."""
    engine = None
    while True:
        if engine is None:
            with suppress(StorageUnavailableError):
                engine = await server.database.engine()
                _LOG.info("database", extra=handlers.described(engine).model_dump())
        server.metrics.connections(server.database.pool())
        if server.refresher.refreshed_at is not None:
            server.metrics.refreshed(server.refresher.refreshed_at)
        await asyncio.sleep(_WATCH_S)


class _Runner(web.ServerRunner):
    """Answers requests, and does the background work meanwhile."""

    def __init__(self, server: Server, *, is_keeper: bool) -> None:
        largest, wanted = server.settings.max_request_bytes, server.settings.access_log
        connections = Connections(Front(server).answer, largest=largest, logger=LOGGERS[wanted])
        super().__init__(connections, shutdown_timeout=_SHUTDOWN_S)
        self._ours = server
        self._is_keeper = is_keeper
        self._open = AsyncExitStack()

    async def setup(self) -> None:
        """Open what is needed."""
        await self._open.enter_async_context(_background(self._ours, is_keeper=self._is_keeper))
        await super().setup()

    async def shutdown(self) -> None:
        """End what would not end by itself."""
        self._ours.stopping.set()
        self._ours.live.end_all()

    async def cleanup(self) -> None:
        """Finish the requests that were taken, and close everything."""
        async with self._open:
            await super().cleanup()


def make_runner(server: Server, *, is_keeper: bool = True) -> web.BaseRunner:
    """Make what answers requests, within a running event loop.

    Args:
        server: what does the work.
        is_keeper: whether it keeps the rollups fresh, sums of plants as well, and drops old readings:
            one process does it for all.
    """
    return _Runner(server, is_keeper=is_keeper)


def make_metrics_runner(server: Server) -> web.BaseRunner:
    """Make what shows `/metrics`, and nothing else, without a token."""

    async def show(_request: web.Request) -> web.StreamResponse:
        text = await server.metrics.text(server.clock())
        return Answer(text, media=METRICS_TEXT)

    app = web.Application()
    app.router.add_get("/metrics", show)
    return web.AppRunner(app, access_log=None, handle_signals=False)
