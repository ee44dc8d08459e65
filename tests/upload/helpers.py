"""A spool to deliver from, an uploader at work, and waiting for what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import BatchUploader, UploadSettings
from tests.patience import PATIENCE_S
from tests.upload.server import Batch

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


async def fill(spool: DurableSpool, count: int, device_id: str = "inv") -> None:
    """Accept readings; `pv_power_w` is their running number."""
    for _ in range(count):
        number = (await spool.counts()).accepted + 1
        sample = SungrowSample(
            device_id=device_id, ts=START + timedelta(seconds=number), pv_power_w=number, battery_soc_pct=55.5
        )
        assert (await spool.append(sample, ts_is_final=True)).seq == number


async def until(happens: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    with anyio.fail_after(within_s):
        while not happens():  # noqa: ASYNC110 - a test looks from outside
            await anyio.sleep(0.005)


async def counted(spool: DurableSpool, within_s: float = PATIENCE_S, **expected: int) -> None:
    """Wait until the spool counts what is expected."""
    with anyio.fail_after(within_s):
        while True:
            counts = await spool.counts()
            if all(getattr(counts, name) == number for name, number in expected.items()):
                return
            await anyio.sleep(0.01)


@asynccontextmanager
async def running(spool: DurableSpool, settings: UploadSettings) -> AsyncIterator[BatchUploader]:
    async with BatchUploader(spool, settings) as uploader, anyio.create_task_group() as tasks:
        tasks.start_soon(uploader.run)
        yield uploader
        tasks.cancel_scope.cancel()


def is_number(*numbers: int) -> Callable[[Batch], bool]:
    return lambda sample: sample["pv_power_w"] in numbers
