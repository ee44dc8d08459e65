"""However the daemon ends: what waits in memory is saved, or it is said what is lost."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from reference_edge.owner import OwnerFile
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.spool import DurableSpool
from tests.edge.test_failing_disk import QUICK, polling, polls, require_balance, until, waiting

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
MEET_DAMAGE: Final = """
from reference_edge import app
from sungrow_lib.errors import SpoolCorruptError
from sungrow_lib.spool.store import SpoolStore
app._ANEW_S = 1e6
append_many, calls = SpoolStore.append_many, []
def meet_damage(store, readings):
    calls.append(readings)
    if len(calls) == 3:
        raise SpoolCorruptError("It was met by a test.")
    return append_many(store, readings)
SpoolStore.append_many = meet_damage
"""
"""A commit meets damage, and the spool is not opened anew unless the daemon is told to stop."""
DEAD_DISK: Final = """
async def fails(_):
    return False
app.DiskProbe.may_work = fails
"""


def lost(folder: Path) -> list[dict[str, Any]]:
    return [e for e in read_events(folder / "edge.log") if e["event"] == "readings could not be saved"]


async def until_it_waits_to_open_it_anew(path: Path, child: Child) -> None:
    await until("the damage", lambda: OwnerFile.read_at(path).damage is not None, child)


async def test_told_to_stop_before_a_damaged_spool_is_opened_anew_it_saves_what_waits(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    path = tmp_path / "card" / "spool.sqlite"
    async with polling(tmp_path, tls_files.ca, MEET_DAMAGE + QUICK) as child:
        await until_it_waits_to_open_it_anew(path, child)
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    accepted = polls(tmp_path, "accepted")
    assert len(accepted) > 2
    assert not polls(tmp_path, "stopped")
    async with DurableSpool.open(path) as spool:
        assert (await spool.counts()).undelivered == len(accepted)


async def test_told_to_stop_before_a_damaged_spool_can_be_opened_it_says_what_is_lost(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    path = tmp_path / "card" / "spool.sqlite"
    async with polling(tmp_path, tls_files.ca, MEET_DAMAGE + DEAD_DISK + QUICK) as child:
        await until_it_waits_to_open_it_anew(path, child)
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    require_said(tmp_path)


async def test_a_disk_that_comes_with_no_spool_of_ours_costs_no_word(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    """It ends at once, since no waiting mends that."""
    there = tmp_path / "usb"
    async with polling(tmp_path, tls_files.ca, QUICK, SPOOL_PATH=str(there / "spool.sqlite")) as child:
        await until("the alarm", lambda: waiting(tmp_path) > 1, child)
        later = tmp_path / "later"
        later.mkdir()
        (later / "spool.sqlite").write_text("no spool, but somebody's file " * 100)
        later.rename(there)
        await anyio.to_thread.run_sync(
            lambda: wait_until("its end", lambda: child.exit_status is not None, timeout_s=90)
        )
        assert child.exit_status == 2
    require_said(tmp_path)
    require_balance(tmp_path / "health.json")


def require_said(folder: Path) -> None:
    """Each is counted, and one line says how many there are and from when to when."""
    [told] = lost(folder)
    assert told["level"] == "error"
    assert told["device_id"] == "roof"
    assert told["readings"] == sum(event.get("polls", 1) for event in polls(folder, "stopped")) > 0
    assert datetime.fromisoformat(told["from"]) <= datetime.fromisoformat(told["to"])
    assert told["reason"]
