"""Links and servers that take a few readings in the time a request may last, and none at all for weeks."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from aiohttp import web

from sungrow_lib.sample import SungrowSample, format_ts
from sungrow_lib.spool import DurableSpool, Lane, SpoolEntry
from sungrow_lib.spool.entries import from_ms
from sungrow_lib.upload import ConnectionState, UploadSettings
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio

_EACH_S = 0.1
_FRESH = timedelta(minutes=5)
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
    """A batch of thirty-two would take three seconds, and no request may take more than two."""
    server.rule = _slowly
    await fill(spool, 150)
    async with running(spool, changed(settings, batch_size=60, request_timeout_s=_LIMIT_S)):
        await counted(spool, delivered=150, pending=0)
    sizes = [len(seen.seqs) for seen in server.seen]
    assert max(sizes) == 32
    assert max(sizes[-3:]) <= _LIMIT_S / _EACH_S


async def test_no_time_is_lost_with_first_batches_that_do_not_pass(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """The backlog as one batch would take longer than a request may, and be sent in vain."""
    server.rule = _slowly
    await fill(spool, 250)
    async with running(spool, changed(settings, batch_size=500)):
        await counted(spool, delivered=250, pending=0)
    sent = [seq for seen in server.seen for seq in seen.seqs]
    assert sorted(sent) == sorted(set(sent))


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


async def test_nor_was_what_came_after_the_server_was_gone(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """Of inverters that were delivered until then: any of them may find out that it is gone, for all."""
    names = ("one", "two", "three")
    async with running(spool, settings) as uploader:
        for name in names:
            await fill(spool, 1, name)
        await counted(spool, delivered=3)
        for name in names:  # all lanes have seen that it takes them
            await fill(spool, 1, name)
        await counted(spool, delivered=6)
        await server.__aexit__()
        for _ in range(2):
            for name in names:
                await fill(spool, 1, name)
            await until(lambda: uploader.status.connection is ConnectionState.UNREACHABLE)
        await anyio.sleep(0.3)  # many turns of each lane
        await fill(spool, 20, "one")
        await fill(spool, 20, "two")
        await fill(spool, 20, "three")
    assert not set(range(13, 73)) & set(await _were_offered(spool))


async def test_nor_was_what_came_between_the_look_and_the_claim(
    spool: DurableSpool, settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane that found nothing to send asked nobody whether there is a way for what comes then."""
    await fill(spool, 1)
    await spool.ack("inv", [1])
    look, came = spool.peek, anyio.Event()

    async def peek(device_id: str, limit: int, lane: Lane, **choice: Any) -> list[SpoolEntry]:
        found = await look(device_id, limit, lane, **choice)
        if lane is Lane.FRESH and not (found or came.is_set()):
            came.set()
            await fill(spool, 1)
        return found

    monkeypatch.setattr(spool, "peek", peek)
    with _hanging_up() as (url, calls):
        async with running(spool, changed(settings, server_url=url)):
            await came.wait()
            await until(lambda: len(calls) > 20)
    assert 2 not in await _were_offered(spool)


async def test_what_was_claimed_while_a_server_hung_is_not_sent_one_by_one(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """It answers nothing until no batch may hold more than one reading; then all is well again."""

    async def hang(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        await asyncio.sleep(60)
        return await play.answer(server, request, batch)

    server.rule = hang
    await fill(spool, 600)
    async with running(spool, changed(settings, batch_size=100, request_timeout_s=0.5)) as uploader:
        await until(lambda: uploader._lanes("inv").attempts.size.current == 1)
        server.rule = None
        hung = len(server.seen)
        await counted(spool, delivered=600, pending=0)
    single = [seen for seen in server.seen[hung:] if len(seen.seqs) == 1]
    assert len(single) < 150


async def test_a_fresh_reading_waits_for_no_witness_that_is_old(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """What the server has is settled once an old one is asked for, which it may not want just now."""

    async def busy(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if is_old(batch):
            return web.json_response({"title": "later"}, status=429, headers={"Retry-After": "600"})
        reply = await play.answer(server, request, batch)
        if is_first.pop() if is_first else False:
            assert request.transport is not None
            request.transport.abort()
        return reply

    def is_old(batch: Batch) -> bool:
        newest: str = max(sample["ts"] for sample in batch["samples"])
        return newest < format_ts(datetime.now(UTC) - _FRESH)

    is_first = [True]
    await fill(spool, 40)
    async with running(spool, settings):
        await counted(spool, delivered=40)
        server.rule = busy
        await fill(spool, 8)
        await until(lambda: any(is_old(seen.batch) for seen in server.seen[10:]))
        for count in range(1, 6):
            now = from_ms(time.time_ns() // 1_000_000)
            await spool.append(SungrowSample(device_id="inv", ts=now, pv_power_w=count), ts_is_final=True)
            await until(lambda: len(server.stored) >= 40 + count)  # noqa: B023 - called at once


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


async def test_a_spool_that_works_again_is_no_alarm_though_the_server_is_away(
    spool: DurableSpool, settings: UploadSettings
) -> None:
    await fill(spool, 2)
    log = anyio.Path(f"{spool._store._database.path}-wal")
    with _hanging_up() as (url, calls):
        async with running(spool, changed(settings, server_url=url)) as uploader:
            await until(lambda: len(calls) > 5)
            moved = await log.rename(f"{log}-moved")
            await until(lambda: any(alarm.device_id == "inv" for alarm in uploader.status.alarms))
            await moved.rename(log)
            await until(lambda: uploader.status.alarms == ())
    assert (await spool.counts()).pending == 2


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
