"""All lanes of a device wait for another token together, and go on together."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.attempts import Link
from sungrow_lib.upload.http import IngestTransport
from sungrow_lib.upload.lanes import DeviceLanes

pytestmark = pytest.mark.anyio


async def test_lanes_that_look_for_a_token_at_once_end_the_pause_together(
    spool: DurableSpool, settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sungrow_lib.upload.lanes._SAME_TOKEN_S", 0.0)
    link = Link(spool, settings, IngestTransport(settings))
    lanes = DeviceLanes(link, "inv", None)
    lanes.attempts.refused_token = link.tokens.version
    monkeypatch.setattr(link.tokens, "refresh", anyio.lowlevel.checkpoint)
    lanes._pause()
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(lanes._wait_while_paused)
    assert lanes._paused_at is None
