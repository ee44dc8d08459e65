"""`sungrow-edge status` on real spools: what was set apart, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reference_edge.config import EdgeSettings
from reference_edge.status import read_status, status_lines
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, Judged, Settlement

pytestmark = pytest.mark.anyio
START = datetime(2026, 6, 1, 12, tzinfo=UTC)
COUNT = 40


async def status_after(folder: Path, settlement: Settlement) -> dict[str, Any]:
    """Return the status of an edge whose readings 1 to 40 got these verdicts."""
    path = folder / "spool.sqlite"
    async with DurableSpool.open(path) as spool:
        for number in range(COUNT):
            ts = START + timedelta(seconds=5 * number)
            sample = SungrowSample(device_id="roof", ts=ts, pv_power_w=number)
            await spool.append(sample, ts_is_final=True)
        await spool.offer("roof", COUNT)
        await spool.settle("roof", settlement)
    settings = EdgeSettings.model_validate(
        {
            "server_url": "https://localhost:1",
            "device_token": "edge-token-0123456789",
            "sungrow_host": "127.0.0.1",
            "device_id": "roof",
            "spool_path": path,
        }
    )
    return await read_status(settings)


async def test_what_was_set_apart_is_told_by_code_with_a_reason(tmp_path: Path) -> None:
    verdicts = Settlement(
        rejected=[
            Judged(1, "invalid", "grid_hz: 5 is too low"),
            Judged(2, "invalid", "grid_hz: 6 is too low"),
        ],
        conflicts=[Judged(3, "different_value", "pv_power_w is stored as 7")],
        deferred=[Judged(4, "future", "it lies ahead")],
    )
    status = await status_after(tmp_path, verdicts)
    assert status["set_apart"] == [
        {
            "device_id": "roof",
            "state": "deferred",
            "code": "future",
            "readings": 1,
            "reason": "it lies ahead",
        },
        {
            "device_id": "roof",
            "state": "rejected",
            "code": "invalid",
            "readings": 2,
            "reason": "grid_hz: 6 is too low",
        },
        {
            "device_id": "roof",
            "state": "conflict",
            "code": "different_value",
            "readings": 1,
            "reason": "pv_power_w is stored as 7",
        },
    ]
    assert status["set_apart_more"] == 0
    lines = list(status_lines(status))
    assert "roof: 2 rejected because of invalid, the latest: grid_hz: 6 is too low" in lines
    assert "roof: 1 conflict because of different_value, the latest: pv_power_w is stored as 7" in lines


async def test_nothing_set_apart_is_no_line(tmp_path: Path) -> None:
    status = await status_after(tmp_path, Settlement(delivered=[1]))
    assert status["set_apart"] == []
    assert not [line for line in status_lines(status) if "because of" in line]


async def test_what_a_server_calls_a_reason_is_short_harmless_and_not_without_end(tmp_path: Path) -> None:
    rejected = [
        Judged(number, f"code{number:02d}\x1b[2J", "\x1b]0;owned\x07\n" + "x" * 5000)
        for number in range(1, COUNT + 1)
    ]
    status = await status_after(tmp_path, Settlement(rejected=rejected))
    assert len(status["set_apart"]) == 10
    assert status["set_apart_more"] == 30
    lines = [line for line in status_lines(status) if "because of" in line or "more" in line]
    assert len(lines) == 11
    assert all(line.isprintable() and len(line) < 400 for line in lines)
    assert lines[-1] == "30 more codes or devices: sungrow-edge spool stats"
