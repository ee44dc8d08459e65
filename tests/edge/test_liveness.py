"""A daemon whose health file nobody can write or read is not called dead: it has its spool's lock."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reference_edge.health import health_lines
from reference_edge.liveness import daemon_health
from reference_edge.lock import sole_user
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.sample import format_ts
from tests.edge.test_health import daemon, edge, environment, report, said
from tests.edge.test_lock import file_only

__all__ = ["file_only"]

LONG_AGO = format_ts(datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "health"
    folder.mkdir()
    return folder / "health.json"


def test_a_daemon_whose_health_folder_is_gone_runs(tmp_path: Path, tls_files: CertificateFiles) -> None:
    health = tmp_path / "run" / "health.json"
    health.parent.mkdir()
    variables = environment(tmp_path, tls_files.ca, HEALTH_FILE=str(health))
    with daemon(tmp_path, variables) as child:
        wait_until("the daemon", health.exists, timeout_s=120, watched=[child])
        shutil.rmtree(health.parent)
        wait_until(
            "a failed write",
            lambda: any("HEALTH_FILE" in entry["event"] for entry in said(tmp_path, "warning")),
            timeout_s=120,
            watched=[child],
        )
        alive, status, as_json = (
            edge(variables, "status", *words) for words in ([], ["--alive"], ["--json"])
        )
    for done in (status, alive):
        assert done.returncode == 0
        assert (
            f"the daemon runs (process {child.pid}), but its health cannot be read: the folder "
            f"{health.parent} does not exist; make it (HEALTH_FILE)\n"
        ) in done.stdout
        assert "not running" not in done.stdout
    told = json.loads(as_json.stdout)["daemon"]
    assert told["running"]
    assert told["pid"] == child.pid
    assert edge(variables, "status", "--alive").returncode == 1


def test_a_folder_in_the_files_place_is_named(spool: Path, file: Path) -> None:
    file.mkdir()
    with sole_user(spool):
        health = daemon_health(file, spool)
    assert health["running"]
    assert health["trouble"] == f"{file} is a folder; remove it, or choose another file (HEALTH_FILE)"


@pytest.mark.parametrize("content", [None, "", json.dumps(report(pid=2**22 + 1, written_at=LONG_AGO))])
def test_a_daemon_that_said_nothing_yet_runs(spool: Path, file: Path, content: str | None) -> None:
    if content is not None:
        file.write_text(content)
    with sole_user(spool):
        health = daemon_health(file, spool)
        [line] = health_lines(health)
    assert health["running"]
    assert f"process {os.getpid()}" in line
    assert "the same HEALTH_FILE" in line
    assert not daemon_health(file, spool)["running"]


def test_a_daemon_that_could_write_its_health_and_does_not_hangs(spool: Path, file: Path) -> None:
    file.write_text(json.dumps(report(written_at=LONG_AGO)))
    with sole_user(spool):
        health = daemon_health(file, spool)
    assert not health["running"]
    first, second, *_ = health_lines(health)
    assert "it hangs; look at its log" in first
    assert "what it said last, 36" in second


def test_one_whose_file_is_old_because_nothing_can_be_written_there_runs(spool: Path, file: Path) -> None:
    file.write_text(json.dumps(report(written_at=LONG_AGO)))
    kept = file.with_name("kept")
    file.rename(kept)
    file.parent.rename(file.parent.with_name("moved"))
    file.parent.symlink_to("/proc/self/fdinfo")  # a folder that takes no files
    with sole_user(spool):
        health = daemon_health(file, spool)
    assert health["running"]
    assert "no file can be made in" in health["trouble"]


def test_what_only_the_file_says_counts_where_the_lock_tells_nobody(spool: Path, file: Path) -> None:
    assert daemon_health(file, spool) == {"running": False, "age_s": None}
    file.write_text(json.dumps(report()))
    assert daemon_health(file, spool)["running"]
    assert "trouble" not in daemon_health(file, spool)


@pytest.mark.usefixtures("file_only")
def test_a_lock_that_is_a_file_alone_is_not_asked(spool: Path, file: Path) -> None:
    with sole_user(spool):
        assert not daemon_health(file, spool)["running"]
