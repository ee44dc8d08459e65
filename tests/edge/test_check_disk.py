"""`sungrow-edge check` says how much room the spool's disk has, before the daemon finds out."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference_edge.check import check
from reference_edge.config import EdgeSettings

pytestmark = pytest.mark.anyio


async def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    settings = EdgeSettings.model_validate(
        {
            "server_url": "https://localhost:1",
            "device_token": "edge-token-0123456789",
            "sungrow_host": "127.0.0.1",
            "device_id": "roof",
            "spool_path": tmp_path / "spool.sqlite",
            "sungrow_lock_dir": tmp_path,
        }
    )
    status = await check(settings, is_offline=True)
    return status, [line for line in capsys.readouterr().out.splitlines() if "disk: " in line]


ADVICE = "free some, at least 200.0 MB, or name another disk (SPOOL_PATH)"
NO_RESERVE = "20.0 MB are free beside the spool; the reserve for a full disk is made from 32.0 MB on"


@pytest.mark.parametrize(
    ("free", "kept", "status", "said"),
    [
        (250_000_000, 0, 0, ["ok    disk: 250.0 MB are free beside the spool"]),
        (
            50_000_000,
            0,
            0,
            [
                f"NOTE  disk: 50.0 MB are free beside the spool; {ADVICE}",
                "ok    disk: 50.0 MB are free beside the spool",
            ],
        ),
        (20_000_000, 0, 0, [f"NOTE  disk: {NO_RESERVE}; {ADVICE}", f"ok    disk: {NO_RESERVE}"]),
        (
            200_000,
            0,
            1,
            [
                f"FAIL  disk: 200 kB are free beside the spool; a reading is taken from 4000 kB on; {ADVICE}",
            ],
        ),
        (
            200_000,
            8_000_000,
            0,
            [
                f"NOTE  disk: 200 kB are free beside the spool; {ADVICE}",
                "ok    disk: 200 kB are free beside the spool",
            ],
        ),
    ],
    ids=["room", "little", "no room for a reserve", "no room for a reading", "a reserve"],
)
async def test_room_is_told_with_figures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int,
    kept: int,
    status: int,
    said: list[str],
) -> None:
    (tmp_path / "spool.sqlite-reserve").write_bytes(bytes(kept))
    monkeypatch.setattr("reference_edge.check.free_bytes", lambda _: free)
    assert await told(tmp_path, capsys) == (status, said)


async def test_a_folder_that_is_not_there_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await told(tmp_path / "none", capsys) == (1, [])
