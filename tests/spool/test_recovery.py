# ruff: noqa: ASYNC240 - nothing else runs on these loops
"""Real files, really damaged: what is readable is kept, the damaged file is set aside, and work goes on."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sungrow_lib.errors import SpoolCorruptError, SpoolFullError, SpoolUnavailableError
from sungrow_lib.spool import DurableSpool, Judged, Settlement, SpoolOptions, SpoolRecord, SpoolState
from sungrow_lib.spool.packing import pack
from sungrow_lib.spool.schema import PAGE_BYTES
from tests.spool.helpers import FakeClock, reading

pytestmark = pytest.mark.anyio

RECOVERING: Final = SpoolOptions(recover=True)
BATCH: Final = 5
READINGS: Final = 400
MOST_PER_PAGE: Final = 12
"""Readings a page of the file can hold, by far."""


class Made(NamedTuple):
    files: dict[str, bytes]
    records: list[SpoolRecord]
    clock: FakeClock


MADE: Final[dict[bool, Made]] = {}
"""Spools made once for all tests: with and without a log left behind."""


async def build(path: Path, clock: FakeClock, *, leave_log: bool = False) -> list[SpoolRecord]:
    """Make a spool with readings of all sizes in all states; return them."""
    if leave_log not in MADE:
        records = await build_new(path, clock, leave_log=leave_log)
        files = {suffix: Path(f"{path}{suffix}") for suffix in ("", "-wal")}
        content = {suffix: file.read_bytes() for suffix, file in files.items() if file.exists()}
        MADE[leave_log] = Made(content, records, replace(clock))
    made = MADE[leave_log]
    for suffix, content_of_file in made.files.items():
        Path(f"{path}{suffix}").write_bytes(content_of_file)
    vars(clock).update(vars(made.clock))
    return made.records


async def build_new(path: Path, clock: FakeClock, *, leave_log: bool) -> list[SpoolRecord]:
    draw = random.Random(7)
    async with DurableSpool.open(path, clock=clock) as spool:
        for number in range(READINGS):
            clock.pass_s(5)
            sample = reading("roof" if number % 4 else "garage", clock.now(), pv_power_w=number)
            codes = [draw.randrange(65_536) for _ in range(draw.choice([0, 3, 64]))]
            many = [codes[:64], codes[:64], [float(code) for code in codes[:32]]]
            values = {"alarm_codes": many[0], "fault_codes": many[1], "string_current_a": many[2] or None}
            await spool.append(sample.model_copy(update=values))
        await spool.offer("roof", READINGS)
        mine = [record.entry.seq async for record in spool.records() if record.entry.device_id == "roof"]
        for first in range(0, 95, BATCH):
            await spool.ack("roof", mine[first : first + BATCH])
            clock.pass_s(1)
        settlement = Settlement(
            delivered=mine[95:100],
            rejected=[Judged(mine[101], "invalid", "why")],
            conflicts=[Judged(mine[102], "different_value", "why")],
            deferred=[Judged(mine[103], "future", "why")],
        )
        await spool.settle("roof", settlement)
        records = [record async for record in spool.records()]
        assert max(len(record.entry.content) for record in records) > PAGE_BYTES
        if leave_log:  # as after a kill: copied while in use
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{path}.copy{suffix}")
    if leave_log:
        for suffix in ("", "-wal"):
            Path(f"{path}.copy{suffix}").rename(f"{path}{suffix}")
    return records


async def recovered(path: Path, clock: FakeClock) -> tuple[list[SpoolRecord], Path]:
    """Open a damaged spool; return what is in the new one, which works, and where the old one is."""
    damaged = path.read_bytes()
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert spool.recovery is not None
        records = [record async for record in spool.records()]
        assert spool.recovery.saved == len(records)
        assert await spool.faults() == []
        clock.pass_s(5)
        entry = await spool.append(reading("roof", clock.now(), pv_power_w=1))
        assert entry.ts == clock.now()
        assert entry.seq > max((record.entry.seq for record in records), default=0)
        assert entry in await spool.offer("roof", 10)
        recovery = spool.recovery
    aside = Path(recovery.set_aside)
    assert aside.read_bytes() == damaged
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert spool.recovery == recovery  # once is enough
    return records, aside


def assert_unaltered(found: list[SpoolRecord], original: list[SpoolRecord]) -> None:
    """What was saved is what was accepted; where it stands may be forgotten, and then it is offered again."""
    known = {record.entry.seq: record for record in original}
    for record in found:
        before = known[record.entry.seq]
        assert record.entry.content == before.entry.content
        assert record.entry.ts_ms == before.entry.ts_ms
        names = {record.entry.device_id, before.entry.device_id}
        assert len(names) == 1 or f"lost-device-{1 if before.entry.device_id == 'garage' else 2}" in names
        assert record.entry.state in {before.entry.state, SpoolState.PENDING}
    assert len({record.entry.seq for record in found}) == len(found)


def overwrite(path: Path, pages: list[int], content: Callable[[], bytes]) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE_BYTES)
            file.write(content())


@pytest.mark.parametrize("seed", range(12))
async def test_random_pages(path: Path, seed: int) -> None:
    clock, draw = FakeClock(), random.Random(seed)
    original = await build(path, clock)
    count = path.stat().st_size // PAGE_BYTES
    pages = draw.sample(range(count), draw.choice([1, 3, 10]))
    fill = draw.choice([bytes(PAGE_BYTES), b"\xaa" * PAGE_BYTES, draw.randbytes(PAGE_BYTES)])
    overwrite(path, pages, lambda: fill)
    try:
        async with DurableSpool.open(path, clock=clock):
            pass
    except SpoolCorruptError:
        found, _ = await recovered(path, clock)
        assert len(found) >= len(original) - MOST_PER_PAGE * len(pages)
    else:  # only pages in use count
        async with DurableSpool.open(path, clock=clock) as spool:
            found = [record async for record in spool.records()]
        assert len(found) == len(original)
    assert_unaltered(found, original)


@pytest.mark.parametrize("is_packed", [True, False])
async def test_a_damaged_content_on_a_sound_page_is_not_taken_for_a_reading(
    path: Path, *, is_packed: bool
) -> None:
    """Its checksum says so; earlier versions kept it as plain text, which has to be whole."""
    clock = FakeClock()
    original = await build(path, clock)
    with closing(sqlite3.connect(path)) as connection, connection:
        content = pack('{"pv_power_w":17,"running_state":"running"}') if is_packed else '{"pv_power_w":17}'
        connection.execute("UPDATE reading SET content = ? WHERE seq = 300", (content[:-1],))
    overwrite(path, [0], lambda: bytes(PAGE_BYTES))
    found, _ = await recovered(path, clock)
    assert_unaltered(found, original)
    assert {record.entry.seq for record in original} - {record.entry.seq for record in found} == {300}


@pytest.mark.parametrize("page", range(12))
async def test_each_of_the_first_pages(path: Path, page: int) -> None:
    """The header, the tables' descriptions, and the roots of all tables are there."""
    clock = FakeClock()
    original = await build(path, clock)
    overwrite(path, [page], lambda: random.Random(page).randbytes(PAGE_BYTES))
    found, _ = await recovered(path, clock)
    assert len(found) >= len(original) - MOST_PER_PAGE
    assert_unaltered(found, original)
    assert {record.entry.device_id for record in found} == {"garage", "roof"}


@pytest.mark.parametrize("place", [0, 16, 18, 20, 21, 28, 44, 56, 68, 100, 103, 105])
async def test_a_few_bytes_of_the_header(path: Path, place: int) -> None:
    clock = FakeClock()
    original = await build(path, clock)
    content = bytearray(path.read_bytes())
    content[place : place + 2] = b"\xee\xee"
    path.write_bytes(bytes(content))
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        found = [record async for record in spool.records()]
    assert_unaltered(found, original)
    assert len(found) == len(original)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
async def test_a_truncated_file(path: Path, part: float) -> None:
    clock = FakeClock()
    original = await build(path, clock)
    size = round(path.stat().st_size * part) or 700
    with path.open("r+b") as file:
        file.truncate(size)
    found, _ = await recovered(path, clock)
    assert_unaltered(found, original)
    assert len(found) >= len(original) * (part - 0.1)


@pytest.mark.parametrize("content", [bytes(200_000), b"my diary " * 1000, random.Random(1).randbytes(70_000)])
async def test_nothing_to_save(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.with_name("spool.db-reserve").touch()  # a daemon kept its spool here, whatever became of it
    found, aside = await recovered(path, FakeClock())
    assert found == []
    assert aside.name.startswith("spool.db.damaged-20")


@pytest.mark.parametrize("part", ["header", "one frame", "three frames"])
async def test_a_damaged_log(path: Path, part: str) -> None:
    """SQLite itself reads a log up to the first fault, and does not mention the rest."""
    clock = FakeClock()
    original = await build(path, clock, leave_log=True)
    log = path.with_name("spool.db-wal")
    frames = (log.stat().st_size - 32) // (24 + PAGE_BYTES)
    assert frames > READINGS
    draw = random.Random(5)
    content = bytearray(log.read_bytes())
    if part == "header":
        content[:24] = draw.randbytes(24)
    else:
        for frame in draw.sample(range(frames // 2), 1 if part == "one frame" else 3):
            place = 32 + frame * (24 + PAGE_BYTES)
            content[place + 100 : place + 200] = b"\xee" * 100
    log.write_bytes(bytes(content))
    with pytest.raises(SpoolCorruptError, match="log"):
        async with DurableSpool.open(path, clock=clock):
            pass
    found, aside = await recovered(path, clock)
    assert_unaltered(found, original)
    assert len(found) >= len(original) - 3 * MOST_PER_PAGE
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == content


@pytest.mark.parametrize("check", [True, False])
async def test_a_log_without_its_file(path: Path, caplog: pytest.LogCaptureFixture, *, check: bool) -> None:
    """SQLite would make the file anew and delete the log, with accepted readings in it."""
    clock, log, memory = FakeClock(), Path(f"{path}-wal"), Path(f"{path}-shm")
    async with DurableSpool.open(path, clock=clock) as spool:
        for number in range(50):
            clock.pass_s(5)
            await spool.append(reading("roof", clock.now(), pv_power_w=number))
        left = {file: file.read_bytes() for file in (log, memory)}
    path.unlink()
    for file, content in left.items():
        file.write_bytes(content)
    with pytest.raises(SpoolCorruptError, match="is missing, though its log is there"):
        async with DurableSpool.open(path, clock=clock, options=SpoolOptions(check=check)):
            pass
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == left

    options = SpoolOptions(recover=True, check=check)
    async with DurableSpool.open(path, clock=clock, options=options) as spool:
        assert spool.recovery is not None
        assert (spool.recovery.saved, spool.recovery.lost) == (50, 0)
        assert "is missing" in spool.recovery.reason
        assert (await spool.counts()).pending == 50
        assert await spool.faults() == []
        aside = spool.recovery.set_aside
    assert [Path(f"{aside}{suffix}").read_bytes() for suffix in ("", "-wal", "-shm")] == [b"", *left.values()]
    assert "damaged spool set aside" in caplog.text


async def test_a_damaged_log_without_its_file(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        for number in range(50):
            clock.pass_s(5)
            await spool.append(reading("roof", clock.now(), pv_power_w=number))
        content = bytearray(Path(f"{path}-wal").read_bytes())
    path.unlink()
    content[len(content) // 2] ^= 0xFF
    Path(f"{path}-wal").write_bytes(content)
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert spool.recovery is not None
        assert spool.recovery.saved >= 50 - MOST_PER_PAGE


@pytest.mark.parametrize("log", [None, b"", b"cut off"])
async def test_nothing_in_a_log_without_its_file(path: Path, log: bytes | None) -> None:
    """As a crash leaves it that came before the spool was made."""
    if log is not None:
        Path(f"{path}-wal").write_bytes(log)
    async with DurableSpool.open(path, options=RECOVERING) as spool:
        assert spool.recovery is None
        assert (await spool.append(reading())).seq == 1


async def test_a_log_torn_at_its_end_is_no_damage(path: Path) -> None:
    """So it looks after a power cut in the middle of a commit: nobody was told that it was accepted."""
    clock = FakeClock()
    original = await build(path, clock, leave_log=True)
    log = path.with_name("spool.db-wal")
    log.write_bytes(log.read_bytes()[:-500])
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert spool.recovery is None
        assert [record.entry.seq async for record in spool.records()] == [r.entry.seq for r in original]


async def test_a_sound_spool_is_left_as_it_is(path: Path) -> None:
    clock = FakeClock()
    original = await build(path, clock, leave_log=True)
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert spool.recovery is None
        assert [record async for record in spool.records()] == original
        identity = spool.identity
    async with DurableSpool.open(path, clock=clock) as spool:
        assert spool.identity == identity


async def test_edge_id_stays_generation_changes(path: Path) -> None:
    clock = FakeClock()
    await build(path, clock)
    async with DurableSpool.open(path, clock=clock) as spool:
        before = spool.identity
    overwrite(path, [0], lambda: bytes(PAGE_BYTES))
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert spool.identity.edge_id == before.edge_id
        assert spool.identity.generation != before.generation


async def test_the_server_is_still_told_what_should_be_there(path: Path) -> None:
    clock = FakeClock()
    records = await build(path, clock)
    overwrite(path, [0], lambda: bytes(PAGE_BYTES))
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        named = await spool.last_delivered("roof")
    delivered = [record.entry.ts for record in records if record.entry.state is SpoolState.DELIVERED]
    assert named == delivered[::-BATCH][:16]  # the last one of each batch


@pytest.mark.parametrize("step", range(5))
async def test_cut_off_in_the_middle(path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    original = await build(path, clock, leave_log=True)
    overwrite(path, [0], lambda: b"\xaa" * PAGE_BYTES)
    log = path.with_name("spool.db-wal")
    content = bytearray(log.read_bytes())
    content[2000:2100] = b"\xee" * 100
    log.write_bytes(bytes(content))
    rename, done = Path.rename, 0

    def fail_at_step(self: Path, target: str | Path) -> Path:
        nonlocal done
        if done == step:
            raise KeyboardInterrupt
        done += 1
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_at_step)
        try:
            async with DurableSpool.open(path, clock=clock, options=RECOVERING):
                pass
        except KeyboardInterrupt:
            pass
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert spool.recovery is not None
        found = [record async for record in spool.records()]
    assert_unaltered(found, original)
    assert len(found) >= len(original) - 2 * MOST_PER_PAGE


async def test_no_room_for_the_new_file_leaves_everything(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    await build(path, clock)
    overwrite(path, [3], lambda: b"\xaa" * PAGE_BYTES)
    damaged = path.read_bytes()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sungrow_lib.spool.salvage._fill", no_room)
        with pytest.raises((SpoolUnavailableError, SpoolFullError), match="No space"):
            async with DurableSpool.open(path, clock=clock, options=RECOVERING):
                pass
    assert path.read_bytes() == damaged
    assert (await recovered(path, clock))[0]


async def test_another_programs_database_is_left_alone_when_recovering(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE diary (entry TEXT)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(SpoolUnavailableError, match="not a spool"):
        async with DurableSpool.open(path, options=RECOVERING):
            pass
    assert path.read_bytes() == before
