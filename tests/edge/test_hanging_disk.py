"""The spool's disk hangs under the daemon: told to stop, it ends in time and says what may be lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from sungrow_lib import DurableSpool
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child
from sungrow_lib.demo.proof import read_events
from tests.conftest import Need
from tests.crash.failing import FailingDisk, build_failing
from tests.edge.test_failing_disk import QUICK, polling, polls, until
from tests.edge.test_shutdown import LONGEST_S
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
SLOW_COPY: Final = """
import os, sys, time
from reference_edge.intake import Intake
from sungrow_lib.spool import returning
bring_back = returning.bring_back
def bring_back_slowly(*words):
    print("copying", file=sys.stderr, flush=True)
    while not os.path.exists(os.environ["GO_ON"]):
        time.sleep(0.05)
    return bring_back(*words)
returning.bring_back = bring_back_slowly
is_putting_back = Intake.is_putting_back
def asked(intake):
    print("asked", file=sys.stderr, flush=True)
    return is_putting_back.__get__(intake)
Intake.is_putting_back = property(asked)
"""
MUTE: Final = """
import logging, threading
from reference_edge import leaving
from reference_edge.intake import Intake
leaving.LONGEST_S = 0.0
logging.getLogger().addHandler(handler := logging.StreamHandler())
with handler.lock:
    leaving.LastResort(Intake({})).begin()
    threading.Event().wait()
"""


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


async def ends(child: Child) -> bool:
    """Tell it to stop; return whether it ended by itself. The machine may be busy with other tests."""
    return await anyio.to_thread.run_sync(child.stop, 2.0 * LONGEST_S)


@pytest.mark.parametrize("are_many", [False, True], ids=["one signal", "more signals"])
async def test_told_to_stop_while_a_write_hangs_it_ends_and_says_what_may_be_lost(
    tmp_path: Path,
    tls_files: CertificateFiles,
    library: Path,
    are_many: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    disk = FailingDisk(library, tmp_path / "card", tmp_path / "order")
    async with polling(tmp_path, tls_files.ca, IN_TIME, **disk.environment) as child:
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 1, child)
        disk.hangs()
        await until("a reading that is being written", lambda: in_memory(tmp_path) > 0, child)
        if are_many:
            for number, count in ((signal.SIGINT, 1), (signal.SIGTERM, 2)):
                os.kill(child.pid, number)
                await until("its word", partial(are_stopping, tmp_path, count), child)
        assert await ends(child)
        assert child.exit_status == 1
    [end] = events(tmp_path, "ended without waiting for what is under way")
    [told] = events(tmp_path, "readings may be lost")
    assert told["device_id"] == "roof"
    assert told["readings"] == end["in_memory"] > 0
    assert datetime.fromisoformat(told["from"]) <= datetime.fromisoformat(told["to"])
    assert "the disk hangs" in told["reason"]
    async with DurableSpool.open(tmp_path / "card" / "spool.sqlite") as spool:
        assert await spool.faults() == []
        more = (await spool.counts()).accepted - len(polls(tmp_path, "accepted"))
        assert 0 <= more <= told["readings"]


async def test_closing_the_spool_does_not_hold_up_the_end_either(
    tmp_path: Path, tls_files: CertificateFiles, library: Path
) -> None:
    disk = FailingDisk(library, tmp_path / "card", tmp_path / "order")
    async with polling(tmp_path, tls_files.ca, LATE + IN_TIME, **disk.environment) as child:
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 1, child)
        assert await ends(child)
        assert child.exit_status == 1
    assert events(tmp_path, "stopped")
    [end] = events(tmp_path, "ended without waiting for what is under way")
    assert end["in_memory"] == 0
    assert not events(tmp_path, "readings may be lost")
    async with DurableSpool.open(tmp_path / "card" / "spool.sqlite") as spool:
        assert await spool.faults() == []
        assert (await spool.counts()).accepted == len(polls(tmp_path, "accepted"))


async def test_a_spool_that_is_being_put_back_is_not_left_in_a_file_without_a_name(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    path, go_on, log = tmp_path / "card" / "spool.sqlite", tmp_path / "go on", tmp_path / "edge.log"
    program = SLOW_COPY + QUICK.replace("LONGEST_S = 60.0", "LONGEST_S = 0.1")
    async with polling(tmp_path, tls_files.ca, program, GO_ON=str(go_on)) as child:
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 1, child)
        path.unlink()
        await until("the copy", lambda: "copying" in log.read_text().splitlines(), child)
        os.kill(child.pid, signal.SIGTERM)
        await until("looks", lambda: log.read_text().splitlines().count("asked") > 1, child)
        go_on.touch()
        assert await anyio.to_thread.run_sync(child.stop, PATIENCE_S)
    async with DurableSpool.open(path) as spool:
        assert await spool.faults() == []
        assert (await spool.counts()).accepted >= len(polls(tmp_path, "accepted")) > 1


def test_a_log_that_takes_nothing_does_not_hold_up_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", MUTE], check=False, timeout=PATIENCE_S)
    assert done.returncode == 1
