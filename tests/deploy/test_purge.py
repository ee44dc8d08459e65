"""The installer's `--purge`: nothing that no server has goes, unless it is told so."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib import DurableSpool, SungrowSample
from sungrow_lib.spool import BootStamp, HeldWhy, Judged, Settlement
from tests.deploy.test_installer import installer

pytestmark = pytest.mark.anyio

NOW: Final = datetime.now(UTC).replace(microsecond=0)
ANOTHER_BOOT: Final = BootStamp("another-boot", 1_000)
State = Callable[[DurableSpool, int], Awaitable[None]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What `--uninstall` finds: the commands of this clone, and an edge without readings."""
    root = tmp_path / "root"
    for folder in ("opt/sungrow-edge/bin", "usr/local/bin", "etc/sungrow-edge", "var/lib/sungrow-edge"):
        (root / folder).mkdir(parents=True)
    (root / "opt/sungrow-edge/bin/python").symlink_to(sys.executable)
    command = root / "usr/local/bin/sungrow-edge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reference_edge "$@"\n')
    command.chmod(0o755)
    return root


def readings(root: Path) -> Path:
    return root / "var/lib/sungrow-edge"


async def fill(path: Path, *, settle: State | None = None) -> None:
    async with DurableSpool.open(path) as spool:
        sample = SungrowSample(device_id="roof", ts=NOW - timedelta(minutes=1), pv_power_w=1)
        entry = await spool.append(sample, ts_is_final=True)
        await spool.offer("roof", 10)
        if settle is not None:
            await settle(spool, entry.seq)


async def deliver(spool: DurableSpool, seq: int) -> None:
    await spool.settle("roof", Settlement(delivered=[seq]))


async def defer(spool: DurableSpool, seq: int) -> None:
    await spool.settle("roof", Settlement(deferred=[Judged(seq, "future", "-")], retry_in_s=300))


async def reject(spool: DurableSpool, seq: int) -> None:
    await spool.settle("roof", Settlement(rejected=[Judged(seq, "invalid", "-")]))


async def conflict(spool: DurableSpool, seq: int) -> None:
    await spool.settle("roof", Settlement(conflicts=[Judged(seq, "doubtful", "-")]))


async def hold(spool: DurableSpool, seq: int) -> None:
    assert seq
    await spool.hold_device("roof", HeldWhy.FOREIGN)


def purge(root: Path, *words: str) -> tuple[int, str]:
    done = installer(root, "--uninstall", "--purge", *words)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("settle", "named"),
    [
        (None, "1 pending"),
        (defer, "1 deferred"),
        (reject, "1 rejected"),
        (conflict, "1 conflict"),
        (hold, "1 pending"),
    ],
)
async def test_a_reading_no_server_has_is_not_purged(root: Path, settle: State | None, named: str) -> None:
    await fill(readings(root) / "spool.sqlite", settle=settle)
    status, said = purge(root)
    assert status == 1
    [line] = said.splitlines()
    assert f"spool.sqlite: {named}" in line
    assert "spool export" in line
    assert "--discard-readings" in line
    assert (readings(root) / "spool.sqlite").exists()
    assert (root / "usr/local/bin/sungrow-edge").exists()


async def test_a_reading_that_waits_for_a_trusted_clock_is_not_purged(root: Path) -> None:
    await fill(readings(root) / "spool.sqlite")
    async with DurableSpool.open(readings(root) / "spool.sqlite") as spool:
        await deliver(spool, 1)
        # Behind the last one by an hour: whoever vouches for the clock, it waits.
        ahead = SungrowSample(device_id="roof", ts=NOW + timedelta(hours=1), pv_power_w=1)
        entry = await spool.append(ahead, ts_is_final=True)
        await deliver(spool, entry.seq)
        sample = SungrowSample(device_id="roof", ts=NOW, pv_power_w=1)
        await spool.append(sample, boot=ANOTHER_BOOT)
    status, said = purge(root)
    assert status == 1
    assert "1 waiting" in said


@pytest.mark.parametrize(
    "name",
    [
        "spool.sqlite.damaged-20260101T000000Z",
        "spool.sqlite.damaged-20260101T000000Z-wal",
        "spool.sqlite.replaced-20260101T000000Z",
        "spool.sqlite.replaced-20260101T000000Z.done",
        "spool.sqlite.recovering",
        "spool.sqlite.returning",
        "spool.sqlite.returning-part",
        "spool.sqlite.leaving-part",
        "spool.sqlite.draft",
        "spool.sqlite.draft-wal",
        "usb.sqlite",
        "other.sqlite-wal",
    ],
)
async def test_a_file_that_may_hold_readings_is_not_purged(root: Path, name: str) -> None:
    await fill(readings(root) / "spool.sqlite", settle=deliver)
    (readings(root) / name).write_bytes(b"SQLite format 3\0" + b"damaged" * 1000)
    status, said = purge(root)
    assert status == 1
    assert f"{name}: " in said
    assert "spool.sqlite: " not in said
    assert (readings(root) / name).exists()


async def test_a_damaged_spool_is_not_taken_for_an_empty_one(root: Path) -> None:
    spool = readings(root) / "spool.sqlite"
    await fill(spool, settle=deliver)
    content = spool.read_bytes()
    spool.write_bytes(content[:4096] + b"\x55" * (len(content) - 4096))
    status, said = purge(root)
    assert status == 1
    assert "spool.sqlite: unreadable" in said


async def test_all_goes_once_all_is_delivered(root: Path) -> None:
    await fill(readings(root) / "spool.sqlite", settle=deliver)
    await fill(readings(root) / "spool.sqlite.replaced-20260101T000000Z.done")  # taken in: the spool has it
    (readings(root) / "spool.sqlite.replaced-20260102T000000Z").touch()  # an empty file
    for name in (".lock", "-reserve", "-shm", ".owner.json", ".owner.json.new", ".health.json"):
        (readings(root) / f"spool.sqlite{name}").write_text("{}")
    (readings(root) / "sungrow-state").mkdir()
    assert purge(root) == (0, "")
    assert not readings(root).exists()
    assert not (root / "etc/sungrow-edge").exists()


async def test_all_goes_where_there_never_was_a_reading(root: Path) -> None:
    assert purge(root) == (0, "")
    assert not readings(root).exists()


async def test_readings_go_when_it_is_told_so(root: Path) -> None:
    await fill(readings(root) / "spool.sqlite")
    (readings(root) / "spool.sqlite.damaged-20260101T000000Z").touch()
    assert purge(root, "--discard-readings") == (0, "")
    assert not readings(root).exists()


async def test_what_is_not_the_edges_stays(root: Path) -> None:
    """Such as the export that was to be taken along."""
    await fill(readings(root) / "spool.sqlite")
    export = readings(root) / "readings.ndjson"
    export.write_text("{}\n")
    status, said = purge(root, "--discard-readings")
    assert status == 1
    assert "readings.ndjson" in said
    assert export.exists()


@pytest.mark.parametrize(
    "name",
    [
        "spool.sqlite.bak",
        "spool.sqlite-2026-11-01",
        "spool.sqlite-wal.bak",
        "spool.sqlite.owner.json.bak",
        "copy of spool.sqlite.old",
        ".spool.sqlite.old",
        "..old",
    ],
)
@pytest.mark.parametrize("words", [(), ("--discard-readings",)])
async def test_a_copy_of_the_spool_under_a_name_of_somebodys_own_stays(
    root: Path, name: str, words: tuple[str, ...]
) -> None:
    await fill(readings(root) / "spool.sqlite", settle=deliver)
    await fill(readings(root) / name)
    status, said = purge(root, *words)
    assert status == 1
    assert name in said
    assert (readings(root) / name).exists()


async def test_without_the_programs_nobody_can_tell(root: Path) -> None:
    await fill(readings(root) / "spool.sqlite", settle=deliver)
    (root / "usr/local/bin/sungrow-edge").unlink()
    status, said = purge(root)
    assert status == 1
    assert "spool.sqlite: unreadable" in said
    assert (readings(root) / "spool.sqlite").exists()


@pytest.mark.parametrize("words", [["--purge"], []])
@pytest.mark.parametrize("where", ["settings", "drop-in", "our folder"])
async def test_a_spool_that_is_elsewhere_is_left_alone_and_named(
    root: Path, tmp_path: Path, where: str, words: list[str]
) -> None:
    folder = readings(root) if where == "our folder" else tmp_path / "usb"
    folder.mkdir(exist_ok=True)
    path = folder / "spool.sqlite"
    await fill(path, settle=deliver)
    if where == "drop-in":
        drop_in = root / "etc/systemd/system/sungrow-edge.service.d/usb.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(f'[Service]\nEnvironment="SPOOL_PATH={path}" LOG_LEVEL=INFO\n')
    else:
        (root / "etc/sungrow-edge/edge.toml").write_text(f'spool_path = "{path}"\n')
    done = installer(root, "--uninstall", *words)
    assert done.returncode == 0, done.stderr
    line = f"A spool is elsewhere (SPOOL_PATH), and was left alone: {path}"
    assert (line in done.stdout) is (where != "our folder")
    assert path.exists() is (where != "our folder" or not words)
