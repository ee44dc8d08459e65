"""Links and servers that take a few readings in the time a request may last, and none at all for weeks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from pathlib import Path

import anyio
import pytest
import trustme
from aiohttp import web

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import ConnectionState, UploadSettings
from tests.upload import server as play
from tests.upload.server import Batch, IngestServer
from tests.upload.test_uploader import counted, fill, running, until

pytestmark = pytest.mark.anyio

_EACH_S = 0.1
_LIMIT_S = 2.0


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.01)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)


async def _slowly(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    await asyncio.sleep(_EACH_S * len(batch["samples"]))
    return await play.answer(server, request, batch)


async def test_a_backlog_drains_through_a_link_too_narrow_for_its_batches(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """A batch of sixty would take six seconds, and no request may take more than two."""
    server.rule = _slowly
    await fill(spool, 150)
    async with running(spool, changed(settings, batch_size=60, request_timeout_s=_LIMIT_S)):
        await counted(spool, delivered=150, pending=0)
    sizes = [len(seen.seqs) for seen in server.seen]
    assert max(sizes) == 60
    assert max(sizes[-3:]) <= _LIMIT_S / _EACH_S


async def _were_offered(spool: DurableSpool) -> list[int]:
    return [record.entry.seq async for record in spool.records() if record.offered]


@contextmanager
def _hanging_up() -> Iterator[tuple[str, list[int]]]:
    """Somebody who hangs up before a word is said; with a list of how often that was."""
    calls: list[int] = []

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(1)
        writer.transport.abort()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.ensure_future(asyncio.start_server(answer, sock=listener))
        try:
            yield f"https://localhost:{listener.getsockname()[1]}", calls
        finally:
            task.result().close()


async def test_what_never_left_was_never_offered(spool: DurableSpool, settings: UploadSettings) -> None:
    """While a server is away for weeks its readings may still have to be merged on a full disk."""
    await fill(spool, 30)
    with _hanging_up() as (url, calls):
        async with running(spool, changed(settings, server_url=url)) as uploader:
            await until(lambda: len(calls) > 20)
            await fill(spool, 3)
            already = len(calls)
            await until(lambda: len(calls) > already + 20)
            assert uploader.status.connection is ConnectionState.UNREACHABLE
            assert not await uploader.flush(1.0)
    assert await _were_offered(spool) == []


async def test_nor_was_it_for_want_of_trust_in_the_server(
    spool: DurableSpool, settings: UploadSettings, tmp_path: Path
) -> None:
    ca_file = tmp_path / "another.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    await fill(spool, 10)
    async with running(spool, changed(settings, ca_file=ca_file)) as uploader:
        await until(lambda: uploader.status.connection is ConnectionState.UNREACHABLE)
        assert "not trusted" in (uploader.status.last_error or "")
        await anyio.sleep(0.3)  # many turns of each lane
    assert await _were_offered(spool) == []
    async with running(spool, settings):
        await counted(spool, delivered=10)


async def test_nor_without_a_token(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    await fill(spool, 10)
    async with running(spool, changed(settings, token=None, token_file=token_file)) as uploader:
        await until(lambda: uploader.status.paused == ("inv",))
        await anyio.sleep(0.3)  # many turns of each lane
        assert await _were_offered(spool) == []
        token_file.write_text(server.token)
        await counted(spool, delivered=10)


async def test_who_answers_to_nothing_but_readings_gets_them(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """Something in between may know of no other way into the server."""
    server.health_cut = 1_000
    await fill(spool, 10)
    async with running(spool, settings):
        await counted(spool, delivered=10)


async def test_nobody_is_asked_when_there_is_nothing_to_send(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    async with running(spool, settings):
        await anyio.sleep(0.3)  # many turns of each lane
        assert (server.health_asked, server.seen) == (0, [])
        await fill(spool, 1)
        await counted(spool, delivered=1)
        await fill(spool, 1)
        await counted(spool, delivered=2)
    assert server.health_asked == 1
