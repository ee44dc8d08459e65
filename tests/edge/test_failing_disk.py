"""The spool's disk fails under the daemon, as a card near its end does, and works again."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import anyio
import httpx
import pytest

from reference_edge.lock import SpoolLock, sole_user
from reference_edge.owner import OwnerFile
from sungrow_lib import BootStamp, DurableSpool, InverterSimulator, SungrowSample
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.demo.setup import free_ports
from sungrow_lib.errors import (
    NotASpoolError,
    SpoolCorruptError,
    SpoolError,
    SpoolFullError,
    SpoolUnavailableError,
)
from sungrow_lib.spool import SpoolOwner
from sungrow_lib.spool.disk import is_passing
from tests.conftest import Need
from tests.crash.failing import ERRORS, READS, WRITES, FailingDisk, build_failing
from tests.edge.test_health import daemon, environment
from tests.living import living_inverter
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
QUICK: Final = """
import sys
import anyio
from reference_edge import app, health, intake, leaving, survey
from sungrow_lib.inverter import InverterReader
from sungrow_lib.modbus import limiter
from sungrow_lib.modbus.poller import ModbusPoller
app._OPEN_AGAIN_S = 1.0
leaving.LONGEST_S = 60.0
survey._LOOK_S = survey._SECOND_LOOK_S = 1.0
health._LOOK_S = survey._JUDGE_S = 0.2
intake._RETRY_S = 1.0
limiter.MIN_POLL_INTERVAL_S, limiter.MIN_REST_S = 0.5, 0.1
async def wait_turn(_):
    await anyio.sleep(0.2)
InverterReader.wait_turn = ModbusPoller.wait_turn = wait_turn
from reference_edge.cli import main
sys.exit(main(["run"]))
"""
"""The daemon, but it does not let a test wait: it polls every second and looks at once at what changed.

Only its last words come later: the machine may be busy with other tests.

What becomes of each poll is told, not when there was one; that the pace is kept is proven in tests/modbus.
"""
ONCE: Final = QUICK.replace("_OPEN_AGAIN_S = 1.0", "_OPEN_AGAIN_S = 1e6")
"""It does not try to open the spool again, unless it is told to stop."""
CUT_OFF: Final = """
import sys
from sungrow_lib.errors import SpoolCorruptError
from sungrow_lib.spool.pages import Pages
from sungrow_lib.spool.store import SpoolStore
def meet_damage(store, readings):
    raise SpoolCorruptError("It was met by a test.")
SpoolStore.append_many = meet_damage
rows = Pages.rows
def rows_without_end(pages, **which):
    print("recovering", file=sys.stderr, flush=True)
    while True:
        yield from rows(pages, **which)
Pages.rows = rows_without_end
from reference_edge.cli import main
sys.exit(main(["run"]))
"""


@pytest.fixture(scope="module")
def library(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = need("cc", "gcc", purpose="a disk that fails, played by a small library of C")
    return build_failing(compiler, tmp_path_factory.mktemp("failing"))


@asynccontextmanager
async def polling(folder: Path, ca: Path, program: str, **more: str) -> AsyncIterator[Child]:
    """The daemon on a card of its own, with an inverter that answers."""
    for name in ("card", "locks"):
        (folder / name).mkdir(exist_ok=True)
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}) as simulator:
        variables = environment(
            folder,
            ca,
            SPOOL_PATH=str(folder / "card" / "spool.sqlite"),
            HEALTH_FILE=str(folder / "health.json"),
            SUNGROW_LOCK_DIR=str(folder / "locks"),
            LOG_LEVEL="DEBUG",
        )
        child = Child(
            "the edge",
            [sys.executable, "-c", program],
            folder / "edge.log",
            environment=variables | more | {"SUNGROW_PORT": str(simulator.port)},
        )
        try:
            yield child
        finally:
            await anyio.to_thread.run_sync(child.stop, 60.0)
        if child.exit_status == 0:
            require_balance(folder / "health.json")


def require_balance(file: Path) -> None:
    """The last health file says of every poll what became of it, whatever state the daemon was stopped in."""
    health = json.loads(file.read_text())
    for poll in health["polls"].values():
        assert poll["polled"] == poll["accepted"] + sum(poll["not_accepted"].values()), health
    assert health["in_memory"] == 0


def polls(folder: Path, outcome: str) -> list[dict[str, Any]]:
    return [
        event
        for event in read_events(folder / "edge.log")
        if event["event"] == "poll" and event["outcome"] == outcome
    ]


def alarms(folder: Path) -> dict[str, str]:
    file = folder / "health.json"
    health = json.loads(file.read_text()) if file.exists() else {"alarms": []}
    return {alarm["code"]: alarm["detail"] for alarm in health["alarms"]}


def waiting(folder: Path) -> int:
    """Return how many readings wait in memory, as the alarm says."""
    found = re.search(r"(\d+) of at most 720 wait in memory", alarms(folder).get("spool", ""))
    return int(found[1]) if found else 0


async def until(what: str, is_so: Callable[[], bool], child: Child) -> None:
    await anyio.to_thread.run_sync(lambda: wait_until(what, is_so, timeout_s=PATIENCE_S, watched=[child]))


@pytest.mark.parametrize(
    ("error", "what"),
    [("EIO", WRITES), ("EROFS", WRITES), ("EIO", READS | WRITES)],
    ids=["write errors", "read-only", "nothing works"],
)
async def test_a_disk_that_fails_for_a_while_costs_no_reading_and_no_restart(
    tmp_path: Path, tls_files: CertificateFiles, library: Path, error: str, what: int
) -> None:
    disk = FailingDisk(library, tmp_path / "card", tmp_path / "order")
    async with polling(tmp_path, tls_files.ca, QUICK, **disk.environment) as child:
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 1, child)
        disk.fails(ERRORS[error], what)
        await until("the alarm", lambda: waiting(tmp_path) > 1, child)
        before = len(polls(tmp_path, "accepted"))
        disk.works()
        await until("readings again", lambda: len(polls(tmp_path, "accepted")) > before + 3, child)
        await until("the alarm's end", lambda: "spool" not in alarms(tmp_path), child)
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    accepted = polls(tmp_path, "accepted")
    assert len(accepted) == len([e for e in read_events(tmp_path / "edge.log") if e["event"] == "poll"])
    async with DurableSpool.open(tmp_path / "card" / "spool.sqlite") as spool:
        assert await spool.faults() == []
        assert (await spool.counts()).undelivered == len(accepted)
        assert (await spool.devices()) == ["roof"]


@pytest.mark.parametrize("when", ["before the start", "while it runs"])
async def test_bad_places_of_a_card_are_left_behind(
    tmp_path: Path, tls_files: CertificateFiles, library: Path, when: str
) -> None:
    path = tmp_path / "card" / "spool.sqlite"
    path.parent.mkdir()
    async with DurableSpool.open(path) as spool:
        for first in range(0, OLD, 500):
            await spool.append_many([old_reading(number) for number in range(first, first + 500)])
    disk = FailingDisk(library, path.parent, tmp_path / "order")
    size = path.stat().st_size
    if when == "before the start":
        disk.loses(path, size // 2, size // 2 + 4_096)
    async with polling(tmp_path, tls_files.ca, QUICK, **disk.environment) as child:
        if when == "while it runs":
            await until("a reading", lambda: bool(polls(tmp_path, "accepted")), child)
            disk.loses(path, size // 5, size // 2)
        await until("the recovery", lambda: len(recoveries(tmp_path)) > 0, child)
        before = len(polls(tmp_path, "accepted"))
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > before, child)
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    [recovery] = recoveries(tmp_path)
    assert (await anyio.Path(recovery["set_aside"]).stat()).st_size >= size
    accepted = len(polls(tmp_path, "accepted"))
    async with DurableSpool.open(path) as spool:
        assert await spool.faults() == []
        left = (await spool.counts()).undelivered - accepted
        assert (await spool.devices()) == ["roof"]
    lost = OLD - left
    assert 0 < lost < (150 if when == "before the start" else OLD // 2)  # five pages of some twenty each


OLD: Final = 20_000


def old_reading(number: int) -> tuple[SungrowSample, BootStamp]:
    ts = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=5 * number)
    sample = SungrowSample(device_id="roof", ts=ts, pv_power_w=number)
    return sample, BootStamp("an earlier boot", 5_000 * number)


def recoveries(folder: Path) -> list[dict[str, Any]]:
    return [e for e in read_events(folder / "edge.log") if e["event"].startswith("damaged spool set aside")]


async def test_told_to_stop_while_it_cannot_open_the_spool_it_says_what_is_lost(
    tmp_path: Path, tls_files: CertificateFiles, library: Path
) -> None:
    disk = FailingDisk(library, tmp_path / "card", tmp_path / "order")
    async with polling(tmp_path, tls_files.ca, QUICK, **disk.environment) as child:
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 1, child)
        disk.fails(ERRORS["EIO"], READS | WRITES)
        await until("the alarm", lambda: waiting(tmp_path) > 1, child)
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status is not None
    lost = polls(tmp_path, "stopped")
    assert sum(event.get("polls", 1) for event in lost) >= 2
    assert "while the spool took nothing" in str(lost)


@pytest.mark.parametrize("is_new", [True, False], ids=["no spool yet", "an old spool"])
async def test_told_to_stop_when_the_disk_works_again_it_saves_what_waits_in_memory(
    tmp_path: Path,
    tls_files: CertificateFiles,
    library: Path,
    is_new: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    path = tmp_path / "card" / "spool.sqlite"
    path.parent.mkdir()
    if not is_new:
        await _old_spool(path)
    disk = FailingDisk(library, path.parent, tmp_path / "order")
    disk.fails(ERRORS["EROFS"], WRITES)
    async with polling(tmp_path, tls_files.ca, ONCE, **disk.environment) as child:
        await until("the alarm", lambda: waiting(tmp_path) > 1, child)
        disk.works()
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    accepted = polls(tmp_path, "accepted")
    assert len(accepted) > 1
    assert not polls(tmp_path, "stopped")
    async with DurableSpool.open(path) as spool:
        assert (await spool.counts()).undelivered == len(accepted) + (0 if is_new else 5)


async def test_told_to_stop_while_the_disk_hangs_it_does_not_wait_for_it(
    tmp_path: Path, tls_files: CertificateFiles, library: Path
) -> None:
    disk = FailingDisk(library, tmp_path / "card", tmp_path / "order")
    disk.fails(ERRORS["EROFS"], WRITES)
    async with polling(tmp_path, tls_files.ca, ONCE, **disk.environment) as child:
        await until("the alarm", lambda: waiting(tmp_path) > 1, child)
        disk.hangs()
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    assert sum(event.get("polls", 1) for event in polls(tmp_path, "stopped")) >= 2
    assert not polls(tmp_path, "accepted")


async def test_damage_is_remembered_when_its_recovery_is_cut_off(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    """Looking at the file would not find it, because a statement met it that no check makes."""
    path = tmp_path / "card" / "spool.sqlite"
    async with polling(tmp_path, tls_files.ca, CUT_OFF) as child:
        log = tmp_path / "edge.log"
        await until("the recovery", lambda: "recovering" in log.read_text().splitlines(), child)
        assert await anyio.to_thread.run_sync(child.stop, 60.0)
        assert child.exit_status == 0
    assert OwnerFile.read_at(path).damage == "It was met by a test."
    assert not list(path.parent.glob("*.damaged-*"))
    log.unlink()
    async with polling(tmp_path, tls_files.ca, QUICK) as child:
        await until("a reading", lambda: bool(polls(tmp_path, "accepted")), child)
    assert list(path.parent.glob("*.damaged-*"))
    assert OwnerFile.read_at(path).damage is None


def test_damage_of_a_file_that_is_no_longer_there_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_text("one")
    file = OwnerFile.read_at(path)
    file.remember(SpoolOwner("edge"))
    file.note_damage("broken")
    assert OwnerFile.read_at(path).damage == "broken"
    other = tmp_path / "other"
    other.write_text("two")
    other.rename(path)
    assert OwnerFile.read_at(path).damage is None
    assert OwnerFile.read_at(path).owner == SpoolOwner("edge")


# --- from the start on ------------------------------------------------------------------------------------


async def _old_spool(path: Path, count: int = 5) -> SpoolOwner:
    """A spool with some readings that wait to be sent."""
    async with DurableSpool.open(path) as spool:
        await spool.append_many([old_reading(number) for number in range(count)])
        return await spool.owner()


@pytest.mark.parametrize(
    ("error", "what", "is_new"),
    [("EIO", WRITES, True), ("EROFS", WRITES, False), ("EIO", READS | WRITES, False)],
    ids=["write errors, no spool yet", "read-only", "nothing works"],
)
async def test_a_disk_that_fails_from_the_start_is_waited_for_with_readings_in_memory(
    tmp_path: Path,
    tls_files: CertificateFiles,
    library: Path,
    error: str,
    what: int,
    is_new: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    path = tmp_path / "card" / "spool.sqlite"
    path.parent.mkdir()
    owner, old = SpoolOwner("what it was called before", "lost"), 0
    if not is_new:
        owner, old = await _old_spool(path), 5
    OwnerFile.read_at(path).remember(owner)
    disk = FailingDisk(library, path.parent, tmp_path / "order")
    disk.fails(ERRORS[error], what)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    [port] = free_ports(1)
    more = disk.environment | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "METRICS_PORT": str(port)}
    with closing(manager):
        async with polling(tmp_path, tls_files.ca, QUICK, **more) as child:
            await until("the alarm", lambda: waiting(tmp_path) > 1, child)
            manager.settimeout(PATIENCE_S)
            assert manager.recv(500).startswith(b"READY=1")
            assert not polls(tmp_path, "accepted")
            async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
                shown = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            assert 'sungrow_edge_alarm{code="spool",device_id=""} 1.0' in shown
            assert "\nsungrow_edge_memory_readings 0.0\n" not in shown
            disk.works()
            await until("readings", lambda: len(polls(tmp_path, "accepted")) > 3, child)
            await until("the alarm's end", lambda: "spool" not in alarms(tmp_path), child)
            assert await anyio.to_thread.run_sync(child.stop, 60.0)
            assert child.exit_status == 0
    accepted = polls(tmp_path, "accepted")
    assert len(accepted) == len([e for e in read_events(tmp_path / "edge.log") if e["event"] == "poll"])
    async with DurableSpool.open(path) as spool:
        assert await spool.faults() == []
        assert spool.identity.edge_id == owner.edge_id
        assert await spool.held() == {}
        dates = [record.entry.ts async for record in spool.records()]
        assert len(dates) == old + len(accepted)
        assert dates == sorted(set(dates))


async def test_whose_the_spool_is_is_known_before_it_is_opened_late(
    tmp_path: Path, tls_files: CertificateFiles, library: Path
) -> None:
    """Another edge's card: what says so cannot be read at the start either."""
    path = tmp_path / "card" / "spool.sqlite"
    path.parent.mkdir()
    other = await _old_spool(path)
    OwnerFile.read_at(path).remember(SpoolOwner("this edge"))
    disk = FailingDisk(library, path.parent, tmp_path / "order")
    disk.fails(ERRORS["EIO"], READS | WRITES)
    async with polling(tmp_path, tls_files.ca, QUICK, **disk.environment) as child:
        await until("the alarm", lambda: waiting(tmp_path) > 0, child)
        disk.works()
        await until("a reading", lambda: bool(polls(tmp_path, "accepted")), child)
    async with DurableSpool.open(path) as spool:
        assert spool.identity.edge_id == "this edge"
        assert [*await spool.held()] == [f"roof.{other.edge_id[:8]}"]


async def test_a_disk_that_is_not_mounted_yet_is_waited_for_with_readings_in_memory(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    """Its folder is missing; when it comes, with the spool in it, that is the one."""
    there, later = tmp_path / "usb" / "edge", tmp_path / "later"
    later.mkdir()
    owner = await _old_spool(later / "spool.sqlite")
    path = there / "spool.sqlite"
    async with polling(tmp_path, tls_files.ca, QUICK, SPOOL_PATH=str(path)) as child:
        await until("the alarm", lambda: waiting(tmp_path) > 1, child)
        assert f"the folder {there} does not exist" in alarms(tmp_path)["spool"]
        assert not there.parent.exists()
        there.parent.mkdir()
        later.rename(there)
        await until("readings", lambda: len(polls(tmp_path, "accepted")) > 3, child)
        await until("the alarm's end", lambda: "spool" not in alarms(tmp_path), child)
        assert await anyio.to_thread.run_sync(child.stop, 20.0)
        assert child.exit_status == 0
    accepted = polls(tmp_path, "accepted")
    assert len(accepted) == len([e for e in read_events(tmp_path / "edge.log") if e["event"] == "poll"])
    async with DurableSpool.open(path) as spool:
        assert await spool.owner() == owner
        assert (await spool.counts()).accepted == 5 + len(accepted)


def test_wrong_settings_end_a_start_also_while_the_disk_fails(
    tmp_path: Path, tls_files: CertificateFiles, library: Path
) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    disk = FailingDisk(library, folder, tmp_path / "order")
    disk.fails(ERRORS["EROFS"], WRITES)
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file" / "spool.sqlite"
    no_authority = tmp_path / "authority.pem"
    for ca, path, status, words in (
        (tls_files.ca, nowhere, 1, "Not a directory"),
        (no_authority, folder / "spool.sqlite", 2, "CA_FILE"),
    ):
        variables = environment(tmp_path, ca, SPOOL_PATH=str(path))
        with daemon(tmp_path, variables | disk.environment) as child:
            wait_until("its end", lambda: child.exit_status is not None, timeout_s=PATIENCE_S)
        assert child.exit_status == status
        [line] = (tmp_path / "edge.log").read_text().splitlines()
        assert words in line
        (tmp_path / "edge.log").unlink()


def test_what_is_remembered_is_read_again_when_the_disk_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_text("a spool")
    OwnerFile.read_at(path).remember(SpoolOwner("edge"))
    OwnerFile.read_at(path).note_damage("broken")
    failing: set[Path] = {path, Path(f"{path}.owner.json")}
    really = Path.open

    def open_some(file: Path, *words: Any, **more: Any) -> Any:
        if file in failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(file, *words, **more)

    monkeypatch.setattr(Path, "open", open_some)
    file = OwnerFile.read_at(path)
    with pytest.raises(SpoolUnavailableError, match="cannot be read"):
        file.read()
    failing.remove(path)
    file.read()  # a bad place of the card: this file alone is lost
    assert not file.owner
    failing.clear()
    file.read()
    assert (file.owner, file.damage) == (SpoolOwner("edge"), "broken")


def test_a_lock_file_is_made_when_the_disk_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spool.sqlite"
    really, failing = os.open, [errno.EROFS]

    def open_some(*words: Any, **more: Any) -> int:
        if failing:
            raise OSError(failing[0], os.strerror(failing[0]))
        return really(*words, **more)

    monkeypatch.setattr(os, "open", open_some)
    with sole_user(path) as lock:
        with pytest.raises(SpoolUnavailableError, match="Read-only file system"):
            lock.require()
        if sys.platform.startswith("linux"):
            with pytest.raises(SpoolUnavailableError, match="already"):
                SpoolLock(path)
        failing.clear()
        lock.require()
        with pytest.raises(SpoolUnavailableError, match=f"process {os.getpid()} works on"):
            SpoolLock(path)
    failing.append(errno.EACCES)
    with pytest.raises(SpoolUnavailableError, match="Permission denied"):
        SpoolLock(path)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SpoolFullError(), True),
        (SpoolCorruptError(), True),
        (NotASpoolError(), False),
        (SpoolUnavailableError("written by a newer version"), False),
        (OSError(errno.EIO, ""), True),
        (OSError(errno.EROFS, ""), True),
        (OSError(errno.ENOENT, ""), False),
        (OSError(errno.EACCES, ""), False),
        (sqlite3.SQLITE_IOERR_READ, True),
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_CANTOPEN, True),  # and the system finds nothing wrong now
    ],
)
def test_what_may_pass_is_told_from_what_does_not(tmp_path: Path, error: Any, expected: bool) -> None:  # noqa: FBT001
    path = tmp_path / "spool.sqlite"
    cause: Exception | None = error if isinstance(error, OSError) else None
    if isinstance(error, int):
        cause = sqlite3.OperationalError()
        cause.sqlite_errorcode = error
    failure = error if isinstance(error, SpoolError) else SpoolUnavailableError()
    failure.__cause__ = cause
    assert is_passing(failure, path) is expected
    if error == sqlite3.SQLITE_CANTOPEN:
        assert is_passing(failure, tmp_path / "nowhere" / "spool.sqlite")
        path.mkdir()
        assert not is_passing(failure, path)


async def test_a_value_of_another_type_ends_neither_the_daemon_nor_delivery(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    """No server is there: what is to be sent is looked up before it is asked for."""
    path = tmp_path / "card" / "spool.sqlite"
    path.parent.mkdir()
    await _old_spool(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE reading SET clock = x'0102' WHERE seq = 2")
        connection.execute("UPDATE standing SET state = 0")  # they have their dates
        connection.commit()
    async with polling(tmp_path, tls_files.ca, QUICK) as child:
        await until("the recovery", lambda: bool(recoveries(tmp_path)), child)
        before = len(polls(tmp_path, "accepted"))
        await until("a reading", lambda: len(polls(tmp_path, "accepted")) > before, child)
    [recovery] = recoveries(tmp_path)
    assert "a value that none can have" in recovery["reason"]
    async with DurableSpool.open(path) as spool:
        records = [record async for record in spool.records()]
    assert len(records) == 5 + len(polls(tmp_path, "accepted"))
    assert not any("lane failed" in event["event"] for event in read_events(tmp_path / "edge.log"))
