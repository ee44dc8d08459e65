"""The spool's disk is pulled out under the running daemon, and put back in."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import pytest

from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.proof import read_events
from sungrow_lib.spool import DurableSpool
from tests.edge.test_failing_disk import QUICK, alarms, polling, polls, until
from tests.spool.test_disk_full import CAN_MOUNT, IN_OWN_MOUNT

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no user mount a disk of its own"),
]
BESIDE: Final = """
import pathlib, signal, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
point = folder / "card"
orders = {"in": ["mount", "--bind", folder / "disk", point], "out": ["umount", "-l", point]}
subprocess.run(orders["in"], check=True)
daemon = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
signal.signal(signal.SIGTERM, lambda *_: daemon.terminate())
while daemon.poll() is None:
    for name, words in orders.items():
        if (folder / name).exists():
            subprocess.run(words, check=True)
            (folder / name).unlink()
    time.sleep(0.05)
sys.exit(daemon.returncode)
"""
"""The daemon beside somebody who pulls the disk out and puts it in when a file of that name asks for it."""
IN_ITS_PLACE: Final = """
import os, sys
os.execvp({command!r}, {words!r})
"""


def program(folder: Path) -> str:
    words = [*IN_OWN_MOUNT, sys.executable, "-c", BESIDE, str(folder), QUICK]
    return IN_ITS_PLACE.format(command=words[0], words=words)


def in_memory(folder: Path) -> int:
    number: int = json.loads((folder / "health.json").read_text())["in_memory"]
    return number


def has_accepted(folder: Path, number: int) -> bool:
    return len(polls(folder, "accepted")) >= number


def require_no_spool_in(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} <= {"sungrow-state"}


@pytest.mark.parametrize("is_back_in_the_end", [True, False])
async def test_readings_wait_in_memory_until_it_is_back_and_nothing_is_written_below(
    tmp_path: Path,
    tls_files: CertificateFiles,
    is_back_in_the_end: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    disk, card = tmp_path / "disk", tmp_path / "card"
    disk.mkdir()
    async with polling(tmp_path, tls_files.ca, program(tmp_path)) as child:
        for _ in range(2):
            enough = len(polls(tmp_path, "accepted")) + 2
            await until("readings", partial(has_accepted, tmp_path, enough), child)
            (tmp_path / "out").touch()
            await until("readings in memory", lambda: in_memory(tmp_path) > 1, child)
            assert f"No disk is mounted at {card} any more" in alarms(tmp_path)["spool"]
            require_no_spool_in(card)
            (tmp_path / "in").touch()
            await until("the alarm's end", lambda: "spool" not in alarms(tmp_path), child)
        if not is_back_in_the_end:
            (tmp_path / "out").touch()
            await until("readings in memory", lambda: in_memory(tmp_path) > 1, child)
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    require_no_spool_in(card)
    accepted, stopped = polls(tmp_path, "accepted"), polls(tmp_path, "stopped")
    events = [*read_events(tmp_path / "edge.log")]
    assert len(accepted) + len(stopped) == len([e for e in events if e["event"] == "poll"])
    said = [event for event in events if event["event"] == "readings could not be saved"]
    assert [line["readings"] for line in said] == ([] if is_back_in_the_end else [len(stopped)])
    async with DurableSpool.open(disk / "spool.sqlite") as spool:
        assert await spool.faults() == []
        assert (await spool.counts()).undelivered == len(accepted)
