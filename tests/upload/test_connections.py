"""Connections are closed, however far they came."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace as changed

import anyio
import pytest

from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.http import IngestTransport

pytestmark = pytest.mark.anyio


async def test_a_stop_while_tls_begins_closes_the_connection(settings: UploadSettings) -> None:
    """Somebody listens to the greeting and says nothing, as a server does that has too much to do."""
    has_greeted, has_ended = anyio.Event(), anyio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        has_greeted.set()
        await reader.read()
        has_ended.set()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as listener:
        url = f"https://localhost:{listener.sockets[0].getsockname()[1]}"
        async with (
            IngestTransport(changed(settings, server_url=url)) as transport,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(transport.health)
            await has_greeted.wait()
            tasks.cancel_scope.cancel()
        gc.collect()  # what nobody closed warns now
        with anyio.fail_after(30):
            await has_ended.wait()
