"""The demo for real: processes, TLS, PostgreSQL, and a proof that must fail when the database is doctored."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from sungrow_lib.demo.account import prove_run
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.live import EdgeStatus
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.proof import Proof
from sungrow_lib.demo.setup import ServerCommands
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.journal import read_journal
from tests.patience import PATIENCE_S

DEMO = [sys.executable, "-m", "sungrow_lib.cli", "demo"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def processes_of(folder: Path) -> list[int]:
    """Ids of running programs that name the folder in their command line or environment."""
    return [process for process, text in everything_running() if str(folder) in text]


def everything_running() -> Iterator[tuple[int, str]]:
    if not Path("/proc/self/environ").exists():  # not Linux: there ps is part of the system
        listing = subprocess.run(
            ["ps", "-A", "-E", "-o", "pid,command"], capture_output=True, text=True, check=True
        )
        for line in listing.stdout.splitlines()[1:]:
            number, text = line.split(None, 1)
            yield int(number), text
        return
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            yield int(process.name), words.decode(errors="replace")


def until(what: str, is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert process.poll() is None, f"the demo ended before {what}"
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A demo that runs until stopped, already past its set-up; nobody asks for its past, so that is short."""
    folder = tmp_path / "demo"
    output = tmp_path / "output"
    with output.open("w") as stream:
        process = subprocess.Popen(
            [*DEMO, "--history", "1", "--data-dir", str(folder)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        until("it was ready", lambda: "Ctrl-C stops everything" in output.read_text(), process)
        yield process, folder
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A demo that ran for 20 seconds, with a past of two days."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    done = subprocess.run(
        [*DEMO, "--history", "2", "--for", "20s", "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done, folder


def test_it_ends_by_itself_with_an_account_in_which_nothing_is_missing(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, folder = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    account = json.loads(done.stdout.splitlines()[-1])
    assert list(account) == [
        "polled",
        "not_accepted",
        "accepted",
        "uploaded",
        "stored",
        "lost",
        "doubled",
        "altered",
        "quarantined",
    ]
    assert account["lost"] == account["doubled"] == account["altered"] == account["quarantined"] == 0
    assert account["stored"] == account["uploaded"] == account["accepted"] >= 6
    assert account["polled"] == account["accepted"] + account["not_accepted"]
    assert processes_of(folder) == []


def test_it_says_where_the_dashboard_is_and_counts_aloud(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    output = finished[0].stdout
    assert re.search(r"dashboard +https://localhost:\d+\n", output)
    assert re.search(r"sign in +\S{20,}\n", output)
    assert re.search(r"polled \d+ · spooled \d+ · uploaded \d+ · stored \d+\n", output)


def test_both_inverters_answered_polls(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    for device in DEVICES:
        entries = list(read_journal(finished[1] / f"{device.device_id}.journal"))
        assert len(entries) > 6


class Kept:
    """The folder of a finished demo, its database running again."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres) -> None:
        first = next(read_journal(folder / f"{DEVICES[0].device_id}.journal"))
        self.first_answer = first.answered_at
        self.site = DemoSite.in_folder(folder, self.first_answer)
        tls = CertificateFiles(*(folder / "tls" / name for name in ("ca.pem", "server.pem", "server.key")))
        self.commands = ServerCommands(self.site, postgres.dsn, tls, 1)
        self.postgres = postgres
        self.spool: Mapping[str, int] = EdgeStatus(self.site.edge_config).ask()

    def proof(self) -> Proof:
        rows = [SungrowSample.model_validate_json(line) for line in self.commands.export()]
        return prove_run(self.site, rows, self.spool)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.dsn) as connection:
            return connection.execute(statement.encode()).fetchall()

    def doctor(self, statement: str) -> None:
        with psycopg.connect(self.postgres.dsn) as connection:
            assert connection.execute(statement.encode()).rowcount == 1


@pytest.fixture
def kept(finished: tuple[subprocess.CompletedProcess[str], Path]) -> Iterator[Kept]:
    folder = finished[1]
    with EmbeddedPostgres(folder / "postgres") as postgres:
        yield Kept(folder, postgres)


def test_the_proof_fails_when_the_database_is_doctored(kept: Kept) -> None:
    assert kept.proof().holds
    newest = "SELECT device, ts FROM samples ORDER BY ts DESC"
    kept.doctor(f"UPDATE samples SET pv_power_w = pv_power_w + 1 WHERE (device, ts) IN ({newest} LIMIT 1)")
    altered = kept.proof()
    assert (altered.lost, altered.doubled, altered.altered) == (0, 0, 1)
    assert "pv_power_w was served as" in altered.findings[0]
    kept.doctor(f"DELETE FROM samples WHERE (device, ts) IN ({newest} OFFSET 2 LIMIT 1)")
    lost = kept.proof()
    assert (lost.lost, lost.doubled, lost.altered) == (1, 0, 1)
    assert not lost.holds


def test_the_past_is_filled_in_and_marked_as_simulated(kept: Kept) -> None:
    [(rows, source)] = set(kept.query("SELECT row_count, source FROM import_ranges"))
    assert source == "simulated"
    assert rows == 2 * 24 * 60  # lately by the minute
    configured = tomllib.loads(kept.site.edge_config.read_text())["devices"]
    [zone] = {device["timezone"] for device in configured}
    assert {name for (name,) in kept.query("SELECT DISTINCT timezone FROM devices")} == {zone}
    # Told by the demo's own first minute: the clock may have passed an hour or a quarter since it chose.
    first = kept.first_answer.astimezone(ZoneInfo(zone))
    assert abs(first.hour + first.minute / 60 - 10) <= 0.6


def test_ctrl_c_stops_everything_and_a_second_one_does_no_harm(
    started: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = started
    log = folder / "edge.log"
    until("the edge was at work", lambda: log.exists() and "identified" in log.read_text(), process)
    assert len(processes_of(folder)) >= 5  # the demo, two inverters, the server, the edge
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    assert processes_of(folder) == []
    assert '"event": "stopped"' in log.read_text()


def test_a_part_that_dies_ends_the_demo_with_the_end_of_its_log(
    started: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = started
    [simulator] = [
        number
        for number, text in everything_running()
        if str(folder / "demo-workshop.journal") in text and "simulate" in text
    ]
    os.kill(simulator, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 1
    output = (folder.parent / "output").read_text()
    assert "the inverter SG20RT ended early (signal 9)" in output
    assert "listening on 127.0.0.1" in output
    assert "Traceback" not in output
    assert processes_of(folder) == []
