"""A held device gets its name; where that was wrong it is taken back, while nothing was sent under it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sungrow_lib.errors import UsageError
from sungrow_lib.spool import (
    BootStamp,
    DurableSpool,
    HeldDevice,
    HeldWhy,
    Lane,
    Settlement,
    SpoolRenaming,
    SpoolState,
    holding,
    renaming,
)
from sungrow_lib.spool.notes import note_renaming, read_renamings
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.transfer import head_line, read_lines, record_line
from tests.spool.helpers import NOON_MS, FakeClock, reading
from tests.spool.test_holding import RECOVER, append, lose_names, make, offered, opened

pytestmark = pytest.mark.anyio
ALL = list(range(10))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "spool.db"


def rename(store: SpoolStore, old: str, new: str) -> SpoolRenaming:
    return store.change(lambda c: renaming.rename(c, old, new))


def undo(store: SpoolStore, old: str) -> SpoolRenaming:
    return store.change(lambda c: renaming.undo(c, old))


def lost(path: Path, *device_ids: str) -> SpoolStore:
    """A spool whose devices' names are lost; a reading of each was sent before."""
    store = opened(path)
    for number in ALL:
        for place, device_id in enumerate(device_ids):
            append(store, device_id, number, value=1_000 * place + number)
    for device_id in device_ids:
        store.offer(device_id, 1, Lane.FRESH)
    store.close()
    lose_names(path)
    return opened(path)


def numbers(store: SpoolStore, device_id: str) -> list[int]:
    records = [record.entry for record in store.records(0, 1_000)]
    return [(entry.ts_ms - NOON_MS) // 5_000 for entry in records if entry.device_id == device_id]


def test_a_wrong_name_is_taken_back_whole_and_the_right_one_given(path: Path) -> None:
    store = lost(path, "roof")
    append(store, "shed", 3, 20)
    assert rename(store, "lost-device-1", "shed") == SpoolRenaming(moved=9, left=1)
    append(store, "shed", 21)
    assert undo(store, "lost-device-1") == SpoolRenaming(moved=9, left=0)
    assert store.look(holding.read_held) == {"lost-device-1": HeldDevice(HeldWhy.LOST, 10)}
    assert numbers(store, "lost-device-1") == ALL
    assert offered(store, "shed") == [3, 20, 21]
    assert offered(store, "lost-device-1") == []
    assert rename(store, "lost-device-1", "roof") == SpoolRenaming(moved=10, left=0)
    assert offered(store, "roof") == ALL
    assert store.faults() == []
    store.close()


def test_what_was_sent_under_the_name_keeps_it(path: Path) -> None:
    store = lost(path, "roof")
    rename(store, "lost-device-1", "shed")
    sent = store.offer("shed", 4, Lane.FRESH)
    store.settle("shed", Settlement(delivered=[sent[0].seq]))
    assert undo(store, "lost-device-1") == SpoolRenaming(moved=6, left=4)
    assert numbers(store, "lost-device-1") == ALL[:6]
    assert numbers(store, "shed") == ALL[6:]
    with pytest.raises(UsageError, match="no rename of lost-device-1"):
        undo(store, "lost-device-1")
    assert store.faults() == []
    store.close()


def test_what_was_sent_to_the_last_reading_is_not_taken_back(path: Path) -> None:
    store = lost(path, "roof")
    rename(store, "lost-device-1", "shed")
    assert offered(store, "shed") == ALL
    before = store.identity
    with pytest.raises(UsageError, match="were sent"):
        undo(store, "lost-device-1")
    assert store.identity == before
    assert store.look(holding.read_held) == {}
    store.close()


def test_of_two_devices_with_one_name_each_is_taken_back_by_itself(path: Path) -> None:
    """Their readings alternate, and those of the first are older than the ones it is put among."""
    store = lost(path, "roof", "barn")
    for name in ("lost-device-1", "lost-device-2"):
        append(store, "shed", *range(20, 23) if name == "lost-device-1" else range(23, 25))
    rename(store, "lost-device-1", "shed")
    store.change(lambda c: c.execute("UPDATE reading SET ts = ts + 1 WHERE device = 2"))
    assert rename(store, "lost-device-2", "shed") == SpoolRenaming(moved=10, left=0)
    assert undo(store, "lost-device-1") == SpoolRenaming(moved=10, left=0)
    assert numbers(store, "lost-device-1") == ALL
    assert numbers(store, "shed") == [*ALL, 20, 21, 22, 23, 24]
    assert undo(store, "lost-device-2") == SpoolRenaming(moved=10, left=0)
    assert offered(store, "shed") == [20, 21, 22, 23, 24]
    store.close()


def test_the_dates_of_the_one_do_not_stay_with_the_other(path: Path) -> None:
    """Else it would have no trusted clock until that time comes."""
    store = lost(path, "roof")
    append(store, "lost-device-1", 1_000_000)
    append(store, "shed", 20)
    rename(store, "lost-device-1", "shed")
    undo(store, "lost-device-1")
    append(store, "shed", 21)
    assert offered(store, "shed") == [20, 21]
    store.close()


def test_readings_that_wait_for_a_date_go_back_too(path: Path) -> None:
    store = lost(path, "roof")
    stamp = BootStamp("another boot", 5)
    store.append("lost-device-1", NOON_MS, '{"pv_power_w":1}', boot=stamp, ts_is_final=False)
    waiting = store.counts("lost-device-1").waiting
    rename(store, "lost-device-1", "shed")
    assert undo(store, "lost-device-1").left == 0
    assert store.counts("lost-device-1").waiting == waiting
    assert store.faults() == []
    store.close()


async def test_what_was_imported_before_it_had_a_date_is_not_there_twice(path: Path) -> None:
    """An export of before the damage brings readings under their name that are held here under none."""
    clock = FakeClock(synchronised=False)

    async def append_one(spool: DurableSpool, number: int) -> None:
        clock.pass_s(5)
        await spool.append(reading("roof", clock.now(), pv_power_w=number))

    async with DurableSpool.open(path, options=RECOVER, clock=clock) as spool:
        for number in ALL:
            await append_one(spool, number)
        records = [record_line(record) async for record in spool.records()]
        lines = [head_line(spool.identity, (await spool.owner()).spool_id), *records]
    lose_names(path)
    clock.reboot("boot-2", off_s=3_600)
    clock.synchronised = True
    async with DurableSpool.open(path, options=RECOVER, clock=clock) as spool:
        await append_one(spool, 10)
        done = await spool.import_records(read_lines(lines, partial=True, here=await spool.owner()))
        assert done.imported == 10
        await append_one(spool, 11)
        assert await spool.rename_device("lost-device-1", "roof") == SpoolRenaming(moved=0, left=10)
        await append_one(spool, 12)
        sent = [json.loads(entry.content)["pv_power_w"] for entry in await spool.peek("roof", 100)]
        assert sorted(sent) == [*ALL, 10, 11, 12]


def test_delivered_readings_go_back_and_are_no_witness_of_the_wrong_device(path: Path) -> None:
    store = opened(path)
    append(store, "roof", *ALL)
    seqs = [entry.seq for entry in store.offer("roof", 4, Lane.FRESH)]
    store.settle("roof", Settlement(delivered=seqs))
    store.close()
    lose_names(path)
    store = opened(path)
    rename(store, "lost-device-1", "shed")
    assert store.last_new("shed", 4) == []
    assert undo(store, "lost-device-1") == SpoolRenaming(moved=10, left=0)
    assert store.look(holding.read_held) == {"lost-device-1": HeldDevice(HeldWhy.LOST, 6, 4)}
    assert store.last_delivered("shed") == []
    rename(store, "lost-device-1", "roof")
    store.reoffer("roof", SpoolState.DELIVERED, 0)
    assert offered(store, "roof") == ALL
    with pytest.raises(UsageError, match="were sent"):
        undo(store, "lost-device-1")
    store.close()


def test_it_can_be_taken_back_after_a_recovery(path: Path) -> None:
    store = lost(path, "roof")
    append(store, "shed", 20)
    rename(store, "lost-device-1", "shed")
    store.offer("shed", 3, Lane.FRESH)
    store.close()
    store = opened(path, damage="found by somebody")
    assert undo(store, "lost-device-1") == SpoolRenaming(moved=8, left=2)
    assert store.faults() == []
    store.close()


async def test_the_library_takes_it_back(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    async with DurableSpool.open(path, options=RECOVER) as spool:
        await spool.rename_device("lost-device-1", "shed")
        assert await spool.undo_rename("lost-device-1") == SpoolRenaming(moved=10, left=0)
        assert set(await spool.held()) == {"lost-device-1"}
        with pytest.raises(UsageError):
            await spool.undo_rename("shed")


def test_what_was_set_aside_and_requeued_is_set_aside_again(path: Path) -> None:
    store = lost(path, "roof")
    store.change(lambda c: holding.set_aside(c, "lost-device-1"))
    rename(store, "lost-device-1", "shed")
    store.requeue([record.entry.seq for record in store.records(0, 1_000)])
    assert store.counts("shed").pending == 10
    assert undo(store, "lost-device-1") == SpoolRenaming(moved=10, left=0)
    assert store.look(holding.read_held) == {"lost-device-1": HeldDevice(HeldWhy.ASIDE, 0)}
    assert {record.code for record in store.records(0, 1_000)} == {"set_aside"}
    assert store.faults() == []
    store.close()


def test_a_renaming_taken_back_leaves_the_other_its_own_last_date(path: Path) -> None:
    """The reading of that date is deleted: a later one of the same time would be taken for it."""
    store = lost(path, "roof")
    append(store, "shed", 20)
    rename(store, "lost-device-1", "shed")
    append(store, "shed", 30)
    [newest] = store.offer("shed", 1, Lane.FRESH)
    store.settle("shed", Settlement(delivered=[newest.seq]))
    [record] = [record for record in store.records(0, 1_000) if record.entry.seq == newest.seq]
    earlier = newest._replace(ts_ms=NOON_MS + 25 * 5_000, state=SpoolState.DELIVERED)
    importer = store.importer()
    assert store.import_chunk(importer, [replace(record, entry=earlier)]).imported == 1
    store.relief.delete_delivered()
    assert newest.seq not in [record.entry.seq for record in store.records(0, 1_000)]
    assert undo(store, "lost-device-1").moved == 10
    assert store.append("shed", newest.ts_ms, "{}", boot=None, ts_is_final=True).ts_ms == newest.ts_ms + 1
    store.close()


def test_a_device_that_is_what_it_is_called_is_in_doubt_no_longer(path: Path) -> None:
    """One copy of a renaming's note had a wrong bit in the old name, and so that of a device there is."""
    store = lost(path, "roof")
    append(store, "shed-1", 20)
    append(store, "shed-3", 20)
    rename(store, "lost-device-1", "shed-1")
    (number, note), *_ = store.look(read_renamings).items()
    assert note is not None
    for doubted in (
        replace(note, also=("shed-3",)),
        replace(note, old="shed-3", also=("lost-device-1",)),
    ):
        store.change(lambda c, doubted=doubted: note_renaming(c, number, doubted))  # type: ignore[misc]
        store.change(lambda c: holding.hold(c, "shed-3", HeldWhy.LOST))
        rename(store, "shed-3", "shed-3")
        assert store.look(read_renamings) == {number: note}
    store.close()
