"""The harness's narrow line carries no more than it says, and a backlog drains through it all the same."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from sungrow_lib.spool import DurableSpool, SystemClock
from sungrow_lib.upload import UploadSettings, backoff
from tests.crash.deeds import NARROW_KBIT_S
from tests.crash.fed import EDGES, NARROWED
from tests.crash.gate import Line
from tests.crash.readings import Key, reading
from tests.patience import PATIENCE_S
from tests.upload.conftest import anyio_backend, authority, ca_file, server, settings, spool
from tests.upload.helpers import counted, running
from tests.upload.server import IngestServer

__all__ = ["anyio_backend", "authority", "ca_file", "server", "settings", "spool"]
pytestmark = pytest.mark.anyio
KIND: Final = next(kind for kind in EDGES if kind.name == NARROWED)
START: Final = datetime(2026, 6, 1, tzinfo=UTC)


@asynccontextmanager
async def a_line(target: int) -> AsyncIterator[Line]:
    line = Line(target, Counter(), "a line", random.Random(1))
    await line.start()
    try:
        yield line
    finally:
        await line.stop()


async def test_a_narrow_line_carries_no_more_than_it_says() -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(2_000))
        writer.close()

    there = await asyncio.start_server(take, "127.0.0.1", 0)
    async with there, a_line(there.sockets[0].getsockname()[1]) as line:
        with line.narrow(32.0):
            began = time.monotonic()
            ends = [await asyncio.open_connection("127.0.0.1", line.port) for _ in range(2)]
            for _, writer in ends:
                writer.write(bytes(2_000))
            for reader, writer in ends:
                assert await reader.read() == bytes(2_000)
                writer.close()
            # Two times 16,000 bits; what comes back has a way of its own.
            assert time.monotonic() - began >= 1.0


@pytest.mark.slow
async def test_a_backlog_drains_through_a_line_too_narrow_for_a_batch(
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in `make crash`, where an edge whose batches stay as they are would never get one through."""
    monkeypatch.setattr(backoff, "LIMIT_S", 1.0)
    [device_id] = KIND.devices
    count, stamp = KIND.batch_size * 3 // 2, SystemClock().stamp()
    readings = [
        (reading(1, Key(KIND.name, device_id, number), START + timedelta(seconds=number)), stamp)
        for number in range(count)
    ]
    await spool.append_many(readings)
    async with a_line(int(settings.server_url.rpartition(":")[2])) as line:
        url = f"https://localhost:{line.port}"
        narrow = replace(
            settings, server_url=url, batch_size=KIND.batch_size, request_timeout_s=KIND.answer_s
        )
        with line.narrow(max(NARROW_KBIT_S)):
            async with running(spool, narrow):
                await counted(spool, within_s=PATIENCE_S, delivered=count)
    assert min(len(seen.seqs) for seen in server.seen) <= KIND.batch_size // 4
