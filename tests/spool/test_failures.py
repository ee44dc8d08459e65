# ruff: noqa: ASYNC221, ASYNC240 - nothing else runs on these loops
"""A spool that cannot work says so, and accepts nothing by halves."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sungrow_lib.errors import (
    NotASpoolError,
    SpoolCorruptError,
    SpoolError,
    SpoolFullError,
    SpoolUnavailableError,
)
from sungrow_lib.spool import DurableSpool, SpoolOptions, relief
from sungrow_lib.spool.errors import translate
from tests.spool.helpers import FakeClock, reading

pytestmark = pytest.mark.anyio


async def fill_until_refused(spool: DurableSpool, clock: FakeClock, most: int = 5000) -> list[int]:
    """Append until the spool refuses; return the numbers of what it accepted."""
    seqs: list[int] = []
    for _ in range(most):
        clock.pass_s(5)
        sample = reading(ts=clock.now()).model_copy(update={"running_state": "x" * 100})
        try:
            seqs.append((await spool.append(sample)).seq)
        except SpoolFullError:
            break
    return seqs


async def test_a_full_spool_refuses_and_keeps_what_it_accepted(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock, options=SpoolOptions(max_bytes=60_000)) as spool:
        seqs = await fill_until_refused(spool, clock)
        assert 10 < len(seqs) < 1000
        sample = reading(ts=clock.now()).model_copy(update={"running_state": "x" * 100})
        with pytest.raises(SpoolFullError, match=str(path)):
            await spool.append(sample)
        assert (await spool.counts()).pending == len(seqs)
    async with DurableSpool.open(path, clock=clock) as spool:
        assert [record.entry.seq async for record in spool.records()] == seqs


async def test_a_full_spool_lets_delivered_readings_go_first(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock, options=SpoolOptions(max_bytes=65_000)) as spool:
        seqs = await fill_until_refused(spool, clock)
        await spool.ack("inv", seqs[:50])
        more = await fill_until_refused(spool, clock)
        assert len(more) > 10
        left = [record.entry.seq async for record in spool.records()]
        assert left == [50, *seqs[50:], *more]


async def test_delivered_readings_go_until_a_limit_that_was_lowered_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than go at a time; what was unused of the file before is no room within the limit."""
    monkeypatch.setattr(relief, "CHUNK", 200)
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        seqs = await fill_until_refused(spool, clock, most=1_500)
        await spool.ack("inv", seqs)
    limit = SpoolOptions(max_bytes=path.stat().st_size // 2)
    async with DurableSpool.open(path, clock=clock, options=limit) as spool:
        accepted = [seq for _ in range(10) for seq in await fill_until_refused(spool, clock, most=5)]
        assert len(accepted) > 20
        assert 100 < (await spool.counts()).delivered < 1_000


async def test_a_disk_that_takes_no_more_costs_nothing_accepted(path: Path) -> None:
    """The kernel refuses to let any file grow: as on a full disk, in the middle of a write."""
    program = """
import os, resource, sys, anyio
from datetime import UTC, datetime
from sungrow_lib.errors import SpoolError
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool

async def main():
    async with DurableSpool.open(sys.argv[1]) as spool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_001, resource.RLIM_INFINITY))
        refused = 0
        for number in range(400):
            now = datetime.now(UTC)
            now = now.replace(microsecond=now.microsecond // 1000 * 1000)
            sample = SungrowSample(device_id="inv", ts=now, pv_power_w=number, running_state="x" * 100)
            try:
                entry = await spool.append(sample, ts_is_final=True)
                print(entry.seq, flush=True)
            except SpoolError as error:
                refused += 1
                if refused == 1:
                    print(type(error).__name__, str(error), file=sys.stderr)
                if refused == 5:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert refused == 5, refused
anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stderr
    accepted = [int(line) for line in done.stdout.split()]
    assert len(accepted) == 395  # it works again as soon as there is room
    async with DurableSpool.open(path) as spool:
        assert [record.entry.seq async for record in spool.records()] == accepted


@pytest.mark.parametrize("name", ["missing/spool.db", "."])
async def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpoolUnavailableError, match=str(tmp_path)):
        async with DurableSpool.open(tmp_path / name):
            pass


async def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnavailableError, match=r"file/spool\.db"):
        async with DurableSpool.open(tmp_path / "file" / "spool.db"):
            pass


async def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.write_bytes(b"my diary " * 1000)
    with pytest.raises(NotASpoolError, match=str(path)):
        async with DurableSpool.open(path):
            pass
    assert path.read_bytes() == b"my diary " * 1000


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE diary (entry TEXT)")
        connection.commit()
    with pytest.raises(SpoolUnavailableError, match="not a spool"):
        async with DurableSpool.open(path):
            pass
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema").fetchall()
        assert names == [("diary",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_a_newer_layout_is_left_alone(path: Path) -> None:
    async with DurableSpool.open(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
        connection.execute("UPDATE meta SET value = '3' WHERE key = 'layout'")
        connection.commit()
    before = path.read_bytes()
    for options in (SpoolOptions(), SpoolOptions(recover=True)):
        with pytest.raises(SpoolUnavailableError, match="newer version"):
            async with DurableSpool.open(path, options=options):
                pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 3, 66, 130, 2**31 - 1, -(2**31)])
async def test_a_wrong_bit_in_the_layout_is_damage(path: Path, version: int) -> None:
    """Or the spool would never be opened again: no newer program made it."""
    clock, options = FakeClock(), SpoolOptions(recover=True)
    async with DurableSpool.open(path, clock=clock) as spool:
        await spool.append(reading(ts=clock.now()))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(SpoolCorruptError, match="header"):
        async with DurableSpool.open(path, clock=clock):
            pass
    async with DurableSpool.open(path, clock=clock, options=options) as spool:
        assert spool.recovery is not None
        assert (spool.recovery.saved, spool.recovery.doubtful) == (1, 0)
        assert len(await spool.offer("inv", 10)) == 1
        assert await spool.faults() == []


async def test_damage_is_noticed_when_the_file_is_opened(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill_until_refused(spool, clock, most=300)
    content = bytearray(path.read_bytes())
    content[8 * 1024 : 40 * 1024] = b"\xaa" * (32 * 1024)
    path.write_bytes(bytes(content))
    with pytest.raises(SpoolCorruptError, match=str(path)):
        async with DurableSpool.open(path):
            pass


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_file_deleted_under_our_feet_is_noticed(path: Path, suffix: str) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await spool.append(reading(ts=clock.now()))
        Path(f"{path}{suffix}").unlink()
        clock.pass_s(5)
        with pytest.raises(SpoolUnavailableError, match="removed or replaced"):
            await spool.append(reading(ts=clock.now()))


async def test_a_failed_transaction_leaves_no_trace(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        with monkeypatch.context() as patch:
            patch.setattr("sungrow_lib.spool.schema.STAND", "INSERT INTO standing VALUES (1, 2, 3)")
            with pytest.raises(SpoolError):
                await spool.append(reading("new", ts=clock.now()))
        assert await spool.devices() == []
        entry = await spool.append(reading("new", ts=clock.now()))
        assert entry.seq == 1
        assert [e.seq for e in await spool.peek("new", 5)] == [1]


@pytest.mark.parametrize(
    ("code", "free", "said"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, 0, "is full (disk I/O error); delete other files there"),
        (sqlite3.SQLITE_CANTOPEN, 4096, "is full (disk I/O error); delete other files there"),
        (sqlite3.SQLITE_FULL, 0, "is full (disk I/O error); delete other files there"),
        (sqlite3.SQLITE_FULL, 10_000_000, "No room left for the spool"),
        (sqlite3.SQLITE_IOERR_WRITE, 10_000_000, "fails (disk I/O error); see the system's log"),
        # No room is made for what another fault kept from the disk: merged readings are not parted again.
        (sqlite3.SQLITE_IOERR_WRITE, 0, "fails (disk I/O error); see the system's log"),
        (sqlite3.SQLITE_IOERR_FSYNC, 0, "fails (disk I/O error); see the system's log"),
        (sqlite3.SQLITE_IOERR_DIR_FSYNC, 0, "fails (disk I/O error); see the system's log"),
        (sqlite3.SQLITE_IOERR_TRUNCATE, 0, "fails (disk I/O error); see the system's log"),
        (sqlite3.SQLITE_IOERR_READ, 0, "fails (disk I/O error); see the system's log"),  # needs no room
        (sqlite3.SQLITE_CANTOPEN, 10_000_000, "check that its folder exists and is writable"),
    ],
)
def test_a_full_disk_and_one_that_fails_are_told_apart(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, free: int, said: str
) -> None:
    disk = list(os.statvfs(path.parent))
    disk[1], disk[4] = 1, free  # f_frsize, f_bavail
    monkeypatch.setattr("os.statvfs", lambda _: os.statvfs_result(disk))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    told = translate(error, path)
    assert said in str(told)
    is_full = "is full" in said or "No room" in said
    assert isinstance(told, SpoolFullError if is_full else SpoolUnavailableError)


def test_the_system_may_say_that_the_disk_is_full(path: Path) -> None:
    told = translate(OSError(errno.ENOSPC, "No space left on device"), path)
    assert "is full (No space left on device); delete other files there" in str(told)
    told = translate(OSError(errno.EIO, "Input/output error"), path)
    assert str(told) == f"The spool {path} cannot be used: Input/output error."


@pytest.mark.parametrize("lacks", ["the folder", "the file"])
def test_where_a_right_is_missing_no_disk_is_called_full(
    path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    path.touch()
    disk = list(os.statvfs(path.parent))
    disk[1], disk[4] = 1, 0  # f_frsize, f_bavail
    monkeypatch.setattr("os.statvfs", lambda _: os.statvfs_result(disk))
    denied = path.parent if lacks == "the folder" else path
    monkeypatch.setattr("os.access", lambda asked, _mode: Path(asked) != denied)
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    assert not isinstance(translate(error, path), SpoolFullError)
