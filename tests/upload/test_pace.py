"""How many readings a batch holds follows what server and line take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp import web

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.pace import BatchSize
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running
from tests.upload.server import Batch, IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


async def test_batches_grow_and_shrink_with_what_the_server_takes(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    async def small(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if len(batch["samples"]) > 25:
            return await play.status(413)(server, request, batch)
        return await play.answer(server, request, batch)

    server.rule = small
    await fill(spool, 800)
    async with running(spool, replace(settings, batch_size=100, backlog_workers=1)):
        await counted(spool, delivered=800, deferred=0)
    refused = sum(len(seen.seqs) > 25 for seen in server.seen)
    assert refused < len(server.seen) / 4


def grown(most: int = 500) -> BatchSize:
    """Return what has become of it on a line that takes as much as there is."""
    size = BatchSize(most, slow_s=10.0)
    while size.current < most:
        size.passed(size.current, 0.1)
    return size


def test_batch_size_begins_small_and_grows_with_each_answer_that_comes_soon() -> None:
    size = BatchSize(500, slow_s=10.0)
    sizes = []
    for _ in range(6):
        sizes.append(size.current)
        size.passed(size.current, 0.1)
    assert sizes == [32, 64, 128, 256, 500, 500]
    assert BatchSize(4, slow_s=10.0).current == 4
    narrow = BatchSize(500, slow_s=10.0)
    narrow.passed(32, 2.0)
    narrow.passed(64, 6.0)  # twice as many would take too long
    for _ in range(18):
        assert narrow.current == 64
        narrow.passed(64, 4.0)
    narrow.passed(64, 4.0)
    assert narrow.current == 128


def test_batch_size_follows_size_limits_and_latency() -> None:
    size = grown()
    size.too_large(500)
    assert size.current == 250
    size.passed(250, 11.0)
    assert size.current == 125
    for _ in range(19):
        size.passed(125, 0.1)
    assert size.current == 125
    size.passed(125, 0.1)
    assert size.current == 250
    for _ in range(40):
        size.passed(250, 0.1)
    assert size.current == 500
    for _ in range(12):
        size.too_large(size.current)
    assert size.current == 1


def test_what_was_sent_before_a_batch_shrank_does_not_shrink_it_again() -> None:
    size = grown()
    for _ in range(6):  # all lanes had that many on their way
        size.too_large(500)
    assert size.current == 250


def test_few_readings_tell_nothing_of_how_many_a_batch_may_hold() -> None:
    size = grown()
    size.too_large(1)
    for _ in range(100):
        size.passed(1, 11.0)
    assert size.current == 500
    size.too_large(8)
    assert size.current == 4
    for _ in range(100):
        size.passed(1, 0.1)
    assert size.current == 4
