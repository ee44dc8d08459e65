"""The spool's disk hangs under the daemon: told to stop, it says in time what may be lost."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from sungrow_lib import DurableSpool
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.proof import read_events
from tests.conftest import Need
from tests.crash.failing import FailingDisk, build_failing
from tests.edge.test_failing_disk import QUICK, polling, polls, until
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
IN_TIME: Final = QUICK.replace("leaving.LONGEST_S = 60.0\n", "")
LATE: Final = """
import os, struct
from sungrow_lib.spool.store import SpoolStore
close = SpoolStore.close
def close_late(store):
    with open(os.environ["FAILING_FILE"], "r+b") as order:
        order.write(struct.pack("@2q", -1, 3))
    close(store)
SpoolStore.close = close_late
"""
"""The disk hangs from the moment on in which the spool is closed."""


_LOOKS: Final = 10
"""So many times the daemon's health is written, five times a second, while a write hangs."""


@pytest.fixture(scope="module")
def library(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = need("cc", "gcc", purpose="a disk that hangs, played by a small library of C")
    return build_failing(compiler, tmp_path_factory.mktemp("failing"))


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "edge.log") if event["event"] == name]


def in_memory(folder: Path) -> int:
    return int(json.loads((folder / "health.json").read_text())["in_memory"])


def are_stopping(folder: Path, count: int) -> bool:
    return len(events(folder, "stopping")) >= count


def _hangs(folder: Path, seen: set[tuple[str, int]]) -> bool:
    """Whether a reading has been in memory for long; one that was on its way when the disk stood is not."""
    look = (folder / "health.json").read_text(), len(polls(folder, "accepted"))
    if in_memory(folder) == 0 or any(accepted != look[1] for _, accepted in seen):
        seen.clear()
    seen.add(look)
    return len(seen) > _LOOKS


@pytest.mark.parametrize("are_many", [False, True], ids=["one signal", "more signals"])
async def test_told_to_stop_while_a_write_hangs_it_says_what_may_be_lost_and_waits(
    tmp_path: Path,
    tls_files: CertificateFiles,
    library: Path,
    are_many: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    disk = FailingDisk(library, tmp_path / "card", tmp_path / "order")
    async with polling(tmp_path, tls_files.ca, IN_TIME, **disk.environment) as child:
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 1, child)
        disk.hangs()
        await until("a reading whose write hangs", partial(_hangs, tmp_path, set()), child)
        for count, number in enumerate((signal.SIGTERM, signal.SIGINT)[: 1 + are_many], 1):
            os.kill(child.pid, number)
            await until("its word", partial(are_stopping, tmp_path, count), child)
        await until("what may be lost", lambda: bool(events(tmp_path, "readings may be lost")), child)
        disk.works()  # what was only slow has lost nothing
        assert await anyio.to_thread.run_sync(child.stop, PATIENCE_S)
        assert child.exit_status == 0
    [begun] = events(tmp_path, "stopping")[:1]
    [end] = events(tmp_path, "the end takes long")
    [told] = events(tmp_path, "readings may be lost")
    assert (datetime.fromisoformat(end["time"]) - datetime.fromisoformat(begun["time"])).total_seconds() > 9
    assert told["device_id"] == "roof"
    assert told["readings"] == end["in_memory"] > 0
    assert datetime.fromisoformat(told["from"]) <= datetime.fromisoformat(told["to"])
    assert "the disk hangs" in told["reason"]
    async with DurableSpool.open(tmp_path / "card" / "spool.sqlite") as spool:
        assert await spool.faults() == []
        assert (await spool.counts()).accepted == len(polls(tmp_path, "accepted"))


async def test_a_disk_that_hangs_as_the_spool_is_closed_is_told_of_too(
    tmp_path: Path, tls_files: CertificateFiles, library: Path
) -> None:
    disk = FailingDisk(library, tmp_path / "card", tmp_path / "order")
    async with polling(tmp_path, tls_files.ca, LATE + IN_TIME, **disk.environment) as child:
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 1, child)
        os.kill(child.pid, signal.SIGTERM)
        await until("its word", lambda: bool(events(tmp_path, "the end takes long")), child)
        assert not await anyio.to_thread.run_sync(child.stop, 0.5)  # it is killed, as by a supervisor
    assert events(tmp_path, "stopped")
    [end] = events(tmp_path, "the end takes long")
    assert end["in_memory"] == 0
    assert not events(tmp_path, "readings may be lost")
    async with DurableSpool.open(tmp_path / "card" / "spool.sqlite") as spool:
        assert await spool.faults() == []
        assert (await spool.counts()).accepted == len(polls(tmp_path, "accepted"))
