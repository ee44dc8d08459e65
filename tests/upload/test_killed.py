"""An uploader killed in the middle of its work, with connections cut: none lost, none doubled."""

from __future__ import annotations

import json
import random
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import pytest
from aiohttp import web

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio

READINGS: Final = 300
UPLOADER: Final = """
import sys, anyio
from pathlib import Path
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import BatchUploader, UploadSettings

async def main():
    spool_file, url, ca_file = sys.argv[1:]
    settings = UploadSettings(server_url=url, token="right-token", ca_file=Path(ca_file),
                              batch_size=5, upload_interval_s=0.02)
    async with DurableSpool.open(spool_file) as spool, BatchUploader(spool, settings) as uploader:
        await uploader.run()
anyio.run(main)
"""


async def test_kills_and_cuts_cost_nothing(server: IngestServer, ca_file: Path, tmp_path: Path) -> None:
    spool_file = tmp_path / "spool.db"
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    draw = random.Random(20_260_601)
    async with DurableSpool.open(spool_file) as spool:
        for number in range(READINGS):
            ts = start + timedelta(seconds=number)
            await spool.append(SungrowSample(device_id="inv", ts=ts, pv_power_w=number), ts_is_final=True)
        accepted = {r.entry.seq: json.loads(r.entry.to_json()) async for r in spool.records()}

    async def unreliable(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        behaviour = draw.choice([play.answer] * 6 + [play.cut_before_answer, play.cut_in_answer])
        return await behaviour(server, request, batch)

    server.rule = unreliable
    command = [sys.executable, "-c", UPLOADER, str(spool_file), server.url, str(ca_file)]
    kills = 0
    with anyio.fail_after(PATIENCE_S):
        while len(server.stored) < READINGS:
            async with await anyio.open_process(command, stdout=None, stderr=None) as process:
                before = len(server.seen)
                goal = before + draw.randrange(3, 25)
                while len(server.seen) < goal and len(server.stored) < READINGS:  # noqa: ASYNC110 - from outside
                    await anyio.sleep(0.002)
                process.send_signal(signal.SIGKILL)
                assert await process.wait() == -signal.SIGKILL
                kills += 1
    assert kills > 2
    stored = {row["__seq"]: {k: v for k, v in row.items() if k != "__seq"} for row in server.stored.values()}
    assert stored == accepted
    async with DurableSpool.open(spool_file) as spool:
        counts = await spool.counts()
        assert (counts.accepted, counts.quarantined) == (READINGS, 0)
        assert counts.delivered + counts.pending == READINGS
