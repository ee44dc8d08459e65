"""A daemon whose health file nobody can write or read is not called dead: it has its spool's lock."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reference_edge.health import HealthReport, health_lines
from reference_edge.liveness import daemon_health
from reference_edge.lock import sole_user
from reference_edge.survey import Survey
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.demo.setup import free_ports
from sungrow_lib.sample import format_ts
from sungrow_lib.spool import SystemClock
from sungrow_lib.upload.status import StatusBoard
from tests.edge.test_health import daemon, edge, environment, report, said
from tests.edge.test_lock import file_only
from tests.patience import PATIENCE_S

__all__ = ["file_only"]

LONG_AGO = format_ts(datetime.now(UTC) - timedelta(hours=1))
AHEAD = format_ts(datetime.now(UTC) + timedelta(hours=1))
NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def seem_old(spool: Path) -> None:
    """Let the daemon have had the spool for an hour."""
    os.utime(f"{spool}.lock", (time.time() - 3600,) * 2)


@contextmanager
def user(uid: int) -> Iterator[None]:
    """Be somebody else."""
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder where everybody gets at, as no folder of pytest's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


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
        wait_until("the daemon", health.exists, timeout_s=PATIENCE_S, watched=[child])
        shutil.rmtree(health.parent)
        wait_until(
            "a failed write",
            lambda: any("HEALTH_FILE" in entry["event"] for entry in said(tmp_path, "warning")),
            timeout_s=PATIENCE_S,
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
        seem_old(spool)
        health = daemon_health(file, spool)
    assert not health["running"]
    first, second, *_ = health_lines(health)
    assert "it hangs; look at its log" in first
    assert health["age_s"] >= 3600
    assert f"what it said last, {health['age_s']:.0f} s ago" in second
    assert "the same HEALTH_FILE" not in first, "it has, for that is its own"


def test_one_that_never_wrote_there_may_have_another_file(spool: Path, file: Path) -> None:
    with sole_user(spool):
        seem_old(spool)
        health = daemon_health(file, spool)
    assert not health["running"]
    assert health["trouble"].endswith("; but see first whether the daemon has the same HEALTH_FILE")


def test_one_whose_file_is_old_because_nothing_can_be_written_there_runs(spool: Path, file: Path) -> None:
    file.write_text(json.dumps(report(written_at=LONG_AGO)))
    kept = file.with_name("kept")
    file.rename(kept)
    file.parent.rename(file.parent.with_name("moved"))
    file.parent.symlink_to("/proc/self/fdinfo")  # a folder that takes no files
    with sole_user(spool):
        seem_old(spool)
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


def test_a_daemon_whose_process_cannot_be_seen_from_here_runs(spool: Path, file: Path) -> None:
    unseen = 2**22 + 1  # its number in a container of its own
    file.write_text(json.dumps(report(pid=unseen)))
    with sole_user(spool):
        Path(f"{spool}.lock").write_text(f"{unseen}\n")
        seem_old(spool)
        health = daemon_health(file, spool)
    assert health["running"]
    assert "trouble" not in health


@pytest.mark.parametrize("written_at", [AHEAD, LONG_AGO], ids=["set back", "set forward"])
def test_a_clock_that_is_set_makes_no_daemon_hang(
    spool: Path, file: Path, tmp_path: Path, written_at: str
) -> None:
    writing = HealthReport(file, {}, Survey(tmp_path), StatusBoard().snapshot, lambda: 0)
    with sole_user(spool):
        seem_old(spool)
        writing._write(writing._report())
        content = json.loads(file.read_text()) | {"written_at": written_at}
        file.write_text(json.dumps(content))
        health = daemon_health(file, spool)
        assert health["running"]
        assert 0 <= health["age_s"] < 30
        content["boot_ms"] -= 40_000
        file.write_text(json.dumps(content))
        health = daemon_health(file, spool)
    assert not health["running"]
    assert 40 <= health["age_s"] < 70


def test_what_was_said_before_the_machine_started_is_as_old_as_it_says(spool: Path, file: Path) -> None:
    stamp = SystemClock().stamp()._replace(boot_id="another")
    file.write_text(json.dumps(report(written_at=LONG_AGO) | stamp._asdict()))
    with sole_user(spool):
        assert daemon_health(file, spool)["running"]  # it has just begun
        seem_old(spool)
        assert not daemon_health(file, spool)["running"]


def test_a_folder_in_the_drafts_place_is_named(spool: Path, file: Path) -> None:
    file.write_text(json.dumps(report(written_at=LONG_AGO)))
    draft = file.with_name("health.json.new")
    draft.mkdir()
    with sole_user(spool):
        seem_old(spool)
        health = daemon_health(file, spool)
    assert health["running"]
    assert health["trouble"] == f"{draft} is a folder; remove it, or choose another file (HEALTH_FILE)"


@AS_ROOT
def test_a_draft_of_somebody_elses_is_named(shared: Path) -> None:
    spool, file = shared / "spool.sqlite", shared / "health.json"
    draft = file.with_name("health.json.new")
    draft.touch(0o644)
    file.write_text(json.dumps(report(written_at=LONG_AGO)))
    os.chown(shared, NOBODY, NOBODY)
    with user(NOBODY), sole_user(spool):
        seem_old(spool)
        health = daemon_health(file, spool)
    assert health["running"]
    assert health["trouble"] == (
        f"{draft} is not this user's to write; remove it, or choose another file (HEALTH_FILE)"
    )


def hide_file(file: Path) -> None:
    file.chmod(0o600)


@AS_ROOT
@pytest.mark.parametrize(
    ("meddle", "running", "words"),
    [
        (lambda _: None, False, "it hangs, or may not write there; look at its log, and start it anew"),
        (hide_file, True, "{file} cannot be read: Permission denied"),
        (Path.unlink, False, "it hangs, or may not write there; look at its log, and start it anew"),
    ],
    ids=["old", "not to be read", "never written"],
)
def test_what_only_the_one_who_asks_may_not_says_nothing_of_the_daemon(
    shared: Path,
    meddle: Callable[[Path], None],
    running: bool,  # noqa: FBT001 - a parameter of the test
    words: str,
) -> None:
    spool, file = shared / "spool.sqlite", shared / "health.json"
    file.write_text(json.dumps(report(written_at=LONG_AGO)))
    meddle(file)
    with sole_user(spool):
        seem_old(spool)
        with user(NOBODY):
            health = daemon_health(file, spool)
    assert health["running"] is running
    root = pwd.getpwuid(0).pw_name
    assert words.format(file=file) in health["trouble"]
    assert health["trouble"].endswith(f"; the daemon's own user knows more: ask as {root}")
    assert "let this user" not in health["trouble"]


@AS_ROOT
def test_a_disk_that_takes_no_file_is_seen_by_whoever_asks(shared: Path) -> None:
    spool, file = shared / "spool.sqlite", shared / "none" / "health.json"
    os.chown(shared, NOBODY, NOBODY)
    with user(NOBODY), sole_user(spool):
        seem_old(spool)
        with user(0):
            health = daemon_health(file, spool)
    assert health["running"]
    assert f"the folder {file.parent} does not exist; make it (HEALTH_FILE)" in health["trouble"]


def test_a_daemon_that_hangs_before_its_first_word_hangs_and_can_be_told_to_end(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    [port] = free_ports(1)
    variables = environment(tmp_path, tls_files.ca, METRICS_PORT=str(port))
    os.mkfifo(tmp_path / "spool.sqlite.owner.json")  # nobody writes into it: to open it takes for ever

    def is_answered() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            return b"sungrow_edge_" in page.read()
        return False

    with daemon(tmp_path, variables) as child:
        wait_until("the metrics", is_answered, timeout_s=PATIENCE_S, watched=[child])
        alive = edge(variables, "status", "--alive")
        seem_old(tmp_path / "spool.sqlite")
        hung = edge(variables, "status", "--alive")
    assert alive.returncode == 0, alive.stdout
    assert hung.returncode == 1
    assert f"process {child.pid}" in hung.stdout
    assert "for 36" in hung.stdout
    assert "it hangs; look at its log" in hung.stdout
    assert child.exit_status == 0
