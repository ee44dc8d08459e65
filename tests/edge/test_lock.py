"""One daemon for one spool, also when somebody takes its files away while it runs."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest

from reference_edge import lock as module
from reference_edge.lock import SpoolLock, sole_user
from sungrow_lib import DurableSpool, InverterSimulator
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.errors import SpoolUnavailableError
from tests.edge.test_health import edge, environment
from tests.living import living_inverter
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "spool.sqlite"


@pytest.fixture
def file_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for two containers that share a folder and no network: they see the same files, nothing else."""
    monkeypatch.setattr(module, "_take_name", lambda _: None)


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink(missing_ok=True)  # a daemon may be closing it


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.mkdir()


@contextmanager
def other_holder(path: Path) -> Iterator[None]:
    """Another daemon's locked file, put into its place at one stroke."""
    draft = path.with_name("draft")
    with draft.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write("4711\n")
        file.flush()
        draft.rename(f"{path}.lock")
        yield


@pytest.mark.parametrize("deed", [remove, move_folder])
def test_whoever_takes_the_lock_file_away_lets_no_second_daemon_in(
    tmp_path: Path, path: Path, tls_files: CertificateFiles, deed: Callable[[Path], None]
) -> None:
    variables = environment(tmp_path, tls_files.ca, SPOOL_PATH=str(path))
    log = tmp_path / "edge.log"
    child = Child("the edge", python("reference_edge", "run"), log, environment=variables)
    try:
        wait_until("the daemon", lambda: "started" in log.read_text(), timeout_s=PATIENCE_S, watched=[child])
        deed(path)
        second = edge(variables, "run")
        assert second.returncode == 1
        [line] = second.stderr.splitlines()
        assert f"works on {path} already" in line
        wait_until("the lock", Path(f"{path}.lock").exists, timeout_s=PATIENCE_S, watched=[child])
        wait_until("the spool", path.exists, timeout_s=PATIENCE_S, watched=[child])
        child.require_running()
    finally:
        child.stop(60.0)
    assert child.exit_status == 0


async def test_a_daemon_whose_lock_another_one_got_leaves_it_the_place_and_what_it_has(
    path: Path, tmp_path: Path, tls_files: CertificateFiles
) -> None:
    log = tmp_path / "edge.log"

    def accepted() -> int:
        return sum(e["event"] == "poll" and e["outcome"] == "accepted" for e in read_events(log))

    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}) as simulator:
        variables = environment(tmp_path, tls_files.ca, SPOOL_PATH=str(path), LOG_LEVEL="DEBUG")
        child = Child(
            "the edge",
            python("reference_edge", "run"),
            log,
            environment=variables | {"SUNGROW_PORT": str(simulator.port)},
        )
        with ExitStack() as stack:
            stack.callback(child.stop, 60.0)
            await anyio.to_thread.run_sync(
                lambda: wait_until("a reading", lambda: accepted() > 0, timeout_s=PATIENCE_S, watched=[child])
            )
            other = path.with_name("other")
            async with DurableSpool.open(other):
                pass
            os.kill(child.pid, signal.SIGSTOP)  # all of it happens between two of its looks
            stack.enter_context(other_holder(path))
            for name in ("spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"):
                path.with_name(name).unlink()
            other.rename(path)
            os.kill(child.pid, signal.SIGCONT)
            await anyio.to_thread.run_sync(
                lambda: wait_until("its end", lambda: child.exit_status is not None, timeout_s=PATIENCE_S)
            )
    assert child.exit_status == 1
    said = log.read_text().splitlines()
    assert said[-1] == (
        f"sungrow-edge: process 4711 works on {path} already; stop it, or give this daemon another spool "
        "(SPOOL_PATH)"
    )
    [aside] = path.parent.glob("spool.sqlite.replaced-*")
    async with DurableSpool.open(aside) as left, DurableSpool.open(path) as there:
        assert (await left.counts()).accepted == accepted() > 0
        assert (await there.counts()).accepted == 0


@pytest.mark.usefixtures("file_only")
def test_a_lock_file_that_is_gone_is_made_again(path: Path) -> None:
    with sole_user(path) as lock:
        remove(path)
        lock.keep()
        with pytest.raises(SpoolUnavailableError, match=f"process {os.getpid()} works on"):
            SpoolLock(path)
        shutil.rmtree(path.parent)
        lock.keep()  # later
        path.parent.mkdir()
        lock.keep()
        with pytest.raises(SpoolUnavailableError, match="already"):
            SpoolLock(path)
        remove(path)
        with other_holder(path), pytest.raises(SpoolUnavailableError, match="process 4711 works on"):
            lock.keep()
    SpoolLock(path).close()


@pytest.mark.usefixtures("file_only")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_no_daemon_from_its_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(*_args: object) -> int:
        raise OSError(code, os.strerror(code))

    Path(f"{path}.lock").write_text("4711\n")
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with sole_user(path) as lock:
            assert lock.holds()
            lock.require()
            assert Path(f"{path}.lock").read_text() == ""
            with pytest.raises(SpoolUnavailableError, match="process of unknown number works on"):
                SpoolLock(path)
    with sole_user(path):
        assert Path(f"{path}.lock").read_text() == f"{os.getpid()}\n"


def test_two_names_of_one_spool_are_one(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    with sole_user(link):
        remove(path)
        with pytest.raises(SpoolUnavailableError, match="already"):
            SpoolLock(path)
    SpoolLock(path).close()


def test_spools_of_one_name_in_different_folders_are_two(path: Path, tmp_path: Path) -> None:
    with sole_user(path), sole_user(tmp_path / path.name):
        pass
