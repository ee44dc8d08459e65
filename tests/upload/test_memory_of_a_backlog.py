"""What batches of a backlog take while they wait for their answers, and later, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import anyio
import pytest
from aiohttp import web

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import SpoolOptions
from sungrow_lib.spool.store import SpoolStore
from tests.patience import PATIENCE_S
from tests.spool.helpers import FakeClock
from tests.upload import server as play
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio

_BATCH: Final = 500
_LANES: Final = 16
"""One batch of each device is in flight at a time."""
_MOST_KB: Final = 10_000
_LEFT_KB: Final = 4_000
_PEAK: Final = Path("/proc/self/clear_refs")
UPLOADER: Final = """
import ctypes, gc, sys, anyio
from pathlib import Path
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import BatchUploader, UploadSettings

def memory(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

async def main():
    first, rest, url, ca_file = sys.argv[1:]
    settings = UploadSettings(server_url=url, token="right-token", ca_file=Path(ca_file), batch_size=500)
    for path in (first, rest):  # the first reading brings what any upload needs
        async with DurableSpool.open(path) as spool, BatchUploader(spool, settings) as uploader:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the peak is that from now on
            before = memory("VmRSS")
            await uploader.flush(240)
            growth = memory("VmHWM") - before
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            left = memory("VmRSS") - before
    print(growth, left)

ctypes.CDLL(None).mallopt(-3, 64 * 1024)  # as the daemon does
anyio.run(main)
"""


@pytest.mark.skipif(not _PEAK.exists(), reason="needs Linux to tell the most memory since a moment")
async def test_batches_in_flight_take_little_memory(
    server: IngestServer, ca_file: Path, tmp_path: Path
) -> None:
    """Whole bodies, a window as large as one, or all contents as text: each is more than what is allowed.

    Readings as objects of their own leave more behind than is allowed.
    """
    first, rest = tmp_path / "first.db", tmp_path / "rest.db"
    _fill(first, ["other"], 1)
    _fill(rest, [f"inv-{number}" for number in range(_LANES)], _BATCH)
    are_all_in_flight = asyncio.Barrier(_LANES)

    async def together(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if len(batch["seq"]) == _BATCH:
            await are_all_in_flight.wait()
        return await play.answer(server, request, batch)

    server.rule = together
    command = [sys.executable, "-c", UPLOADER, str(first), str(rest), server.url, str(ca_file)]
    with anyio.fail_after(PATIENCE_S):
        said = await anyio.run_process(command, stderr=None)
    assert len(server.stored) == 1 + _LANES * _BATCH
    growth, left = map(int, said.stdout.split())
    assert growth <= _MOST_KB
    assert left <= _LEFT_KB


def _fill(path: Path, device_ids: list[str], count: int) -> None:
    clock, names = FakeClock(), [*SungrowSample.model_fields][2:47]
    readings = []
    for number in range(count):
        content = json.dumps({name: (number * 7 + place) % 9_973 for place, name in enumerate(names)})
        readings.append((clock.wall_ms, content, clock.stamp()))
        clock.pass_s(5)
    store = SpoolStore(path, SpoolOptions(), clock)
    for device_id in device_ids:
        store.append_many([(device_id, *reading) for reading in readings])
    store.close()
