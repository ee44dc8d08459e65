"""Connections are opened one at a time, kept while they are of use, and closed, however far they came."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from dataclasses import replace as changed
from urllib.parse import urlsplit

import anyio
import pytest
from aiohttp import web

from sungrow_lib.errors import ServerUnreachableError
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.http import IngestTransport
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio
FAR_S = 0.3


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
        with anyio.fail_after(PATIENCE_S):
            await has_ended.wait()


async def test_tls_is_begun_with_one_connection_at_a_time_and_its_failure_counts_for_who_waits(
    settings: UploadSettings,
) -> None:
    """On a narrow line several at once take longer than any may: then none of them would come to an end."""
    greetings: list[int] = []
    errors: list[ServerUnreachableError] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greetings.append(len(await reader.read(1)))
        writer.transport.abort()

    async def ask(transport: IngestTransport) -> None:
        with pytest.raises(ServerUnreachableError) as caught:
            await transport.health()
        errors.append(caught.value)

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        url = f"https://localhost:{listener.sockets[0].getsockname()[1]}"
        async with IngestTransport(changed(settings, server_url=url)) as transport:
            for _ in range(2):
                async with anyio.create_task_group() as tasks:
                    for _ in range(4):
                        tasks.start_soon(ask, transport)
    assert sum(greetings) == 2  # one each time: who comes later tries anew
    assert len(errors) == 8
    assert not any(error.was_connected for error in errors)
    assert len({str(error) for error in errors}) == 1


async def test_requests_are_on_their_way_side_by_side_and_keep_their_connections(
    settings: UploadSettings, server: IngestServer
) -> None:
    """As those of two inverters with a backlog: one opened anew for every batch would cost more than that."""
    count = 8
    ports: list[int] = []
    all_came = anyio.Event()

    async def together(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        if len(ports) % count == 0:
            all_came.set()
        await all_came.wait()
        return await play.answer(server, request, batch)

    server.rule = together
    body = '{"batch_id":"b","samples":[],"seq":[]}'
    async with IngestTransport(settings) as transport:
        for _ in range(3):
            all_came = anyio.Event()
            with anyio.fail_after(PATIENCE_S):
                async with anyio.create_task_group() as tasks:
                    for _ in range(count):
                        tasks.start_soon(transport.ingest, [body], server.token)
    assert len(ports) == 3 * count
    assert len(set(ports)) == count


async def test_who_has_a_connection_does_not_wait_for_one_that_cannot_be_opened(
    settings: UploadSettings, server: IngestServer
) -> None:
    """A server, or what stands before it, that takes no further connection takes requests on those it has."""
    is_held, may_go, has_connection, has_greeted = (anyio.Event() for _ in range(4))
    body = '{"batch_id":"b","samples":[],"seq":[]}'
    takes_more = True

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if takes_more:
            port = int(server.url.rpartition(":")[2])
            behind, before = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pour(reader, before), _pour(behind, writer))
            return
        await reader.readexactly(1)
        has_greeted.set()
        await reader.read()
        writer.close()

    async def hold(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        is_held.set()
        await may_go.wait()
        return await play.answer(server, request, batch)

    async def ask_first() -> None:
        await transport.ingest([body], server.token)
        has_connection.set()

    async def ask_in_vain() -> None:
        with suppress(ServerUnreachableError):
            await transport.health()

    async with (
        await asyncio.start_server(pass_on, "127.0.0.1", 0) as listener,
        IngestTransport(
            changed(settings, server_url=f"https://localhost:{listener.sockets[0].getsockname()[1]}")
        ) as transport,
        anyio.create_task_group() as tasks,
    ):
        server.script.append(hold)
        tasks.start_soon(ask_first)
        await is_held.wait()
        takes_more = False
        tasks.start_soon(ask_in_vain)
        await has_greeted.wait()
        may_go.set()
        await has_connection.wait()
        for _ in range(3):
            await transport.ingest([body], server.token)  # who waits for the other one fails with it
        tasks.cancel_scope.cancel()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_the_time_a_request_takes_begins_when_it_is_sent(
    settings: UploadSettings, server: IngestServer
) -> None:
    """Names, TCP and TLS take long where the server is far, however few readings a batch holds."""
    server.rule = play.answer
    port = urlsplit(settings.server_url).port

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(FAR_S)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, other_writer), pass_on(other_reader, writer))

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as listener:
        url = f"https://localhost:{listener.sockets[0].getsockname()[1]}"
        async with IngestTransport(changed(settings, server_url=url)) as transport:
            begun = anyio.current_time()
            reply = await transport.ingest(['{"samples": []}'], "token")
            took_s = anyio.current_time() - begun
    assert 0.0 < reply.took_s <= took_s - FAR_S
