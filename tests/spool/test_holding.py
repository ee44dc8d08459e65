"""Devices whose names cannot be believed: kept, not sent, named by hand or set aside."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from sungrow_lib.errors import SpoolCorruptError, UsageError
from sungrow_lib.spool import (
    DurableSpool,
    HeldDevice,
    HeldWhy,
    Lane,
    Settlement,
    SpoolEntry,
    SpoolOptions,
    SpoolOwner,
    SpoolRenaming,
    SpoolState,
    SystemClock,
    holding,
    place as module,
    recovering,
    renaming,
    taking_in,
)
from sungrow_lib.spool.schema import PAGE_BYTES
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.transfer import head_line, read_lines, record_line
from tests.spool.helpers import NOON_MS, FakeClock

pytestmark = pytest.mark.anyio
RECOVER = SpoolOptions(recover=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "spool.db"


def append(store: SpoolStore, device_id: str, *numbers: int, value: int = 0) -> None:
    for number in numbers:
        content = f'{{"pv_power_w":{value or number}}}'
        store.append(device_id, NOON_MS + 5_000 * number, content, boot=None, ts_is_final=True)


def make(path: Path, *device_ids: str, count: int = 10) -> SpoolOwner:
    store = SpoolStore(path, RECOVER, SystemClock())
    for number in range(count):
        for device_id in device_ids:
            append(store, device_id, number)
    owner = store.look(holding.read_owner)
    store.close()
    return owner


def opened(path: Path, owner: SpoolOwner | None = None, damage: str | None = None) -> SpoolStore:
    return SpoolStore(path, SpoolOptions(recover=True, owner=owner), SystemClock(), damage)


def offered(store: SpoolStore, device_id: str) -> list[int]:
    """Number what an uploader would send."""
    found: list[SpoolEntry] = store.offer(device_id, 1_000, Lane.FRESH)
    return [(entry.ts_ms - NOON_MS) // 5_000 for entry in found]


def lose_names(path: Path, tables: tuple[str, ...] = ("device", "sqlite_autoindex_device_1")) -> None:
    """overwrite pages of tables and indexes, those that name devices if none are given."""
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema").fetchall())
    pages = [roots[name] - 1 for name in tables]
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE_BYTES)
            file.write(b"\xaa" * PAGE_BYTES)


# --- names that are lost ---------------------------------------------------------------------------------


def test_a_device_whose_name_is_lost_is_kept_and_not_sent_until_it_is_named(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    store = opened(path)
    assert store.devices() == ["lost-device-1"]
    assert store.look(holding.read_held) == {"lost-device-1": HeldDevice(HeldWhy.LOST, 10)}
    assert offered(store, "lost-device-1") == []
    append(store, "roof", 10, 11)
    assert offered(store, "roof") == [10, 11]
    done = store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
    assert done == SpoolRenaming(moved=10, left=0)
    assert store.look(holding.read_held) == {}
    assert store.devices() == ["roof"]
    assert offered(store, "roof") == list(range(12))
    assert store.faults() == []
    append(store, "roof", 12)
    assert store.faults() == []
    store.close()


def test_names_of_an_earlier_life_of_the_spool_are_not_this_ones(path: Path) -> None:
    """A spool begun anew is the same edge's; the number that stood for the roof stands for the shed there."""
    make(path, "roof", "shed")
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    owner = opened(path).look(holding.read_owner)
    path.unlink()
    opened(path, owner).close()
    owner = make(path, "shed", "roof")
    for tables, known in ((("device",), True), (("device", "sqlite_autoindex_device_1"), False)):
        for file in path.parent.glob("spool.db*"):
            file.unlink()
        shutil.copy(copy, path)
        lose_names(path, tables)
        store = opened(path, owner)
        if known:
            assert store.devices() == ["roof", "shed"]
            assert store.look(holding.read_held) == {}
            assert store.counts("roof").pending == 10
        else:
            assert store.devices() == ["lost-device-1", "lost-device-2"]
            assert set(store.look(holding.read_held)) == {"lost-device-1", "lost-device-2"}
        store.close()


def test_the_name_of_an_index_is_the_newest(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    store = opened(path)
    store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
    store.close()
    lose_names(path, ("device",))
    store = opened(path)
    assert store.devices() == ["roof"]
    store.close()


def test_it_stays_held_over_a_restart_and_a_second_damage(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    opened(path).close()
    store = opened(path, damage="found by somebody")
    assert store.look(holding.read_held) == {"lost-device-1": HeldDevice(HeldWhy.LOST, 10)}
    store.close()


def test_what_an_earlier_version_called_lost_is_held_too(path: Path) -> None:
    make(path, "lost-device-3")
    store = opened(path)
    store.change(lambda c: c.execute("DELETE FROM meta WHERE key = 'lost_names'"))
    assert len(offered(store, "lost-device-3")) == 10
    store.close()
    store = opened(path)
    assert offered(store, "lost-device-3") == []
    store.close()


def test_a_device_of_such_a_name_is_not_held_for_it(path: Path) -> None:
    """Nor after a recovery that found its name."""
    make(path, "lost-device-3")
    opened(path).close()
    for damage in (None, "found by somebody"):
        store = opened(path, damage=damage)
        assert store.look(holding.read_held) == {}
        assert len(offered(store, "lost-device-3")) == 10
        store.close()


def test_a_new_name_that_is_not_here_yet(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    store = opened(path)
    store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
    append(store, "roof", 10)
    assert offered(store, "roof") == list(range(11))
    assert store.faults() == []
    store.close()


def test_readings_of_the_same_times_stay_where_they_are(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    store = opened(path)
    append(store, "roof", 4, 5, 20, value=9)
    done = store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
    assert done == SpoolRenaming(moved=8, left=2)
    assert offered(store, "roof") == [0, 1, 2, 3, 6, 7, 8, 9, 4, 5, 20]  # in the order they were accepted
    assert store.look(holding.read_held) == {"lost-device-1": HeldDevice(HeldWhy.LOST, 2)}
    assert store.change(lambda c: holding.set_aside(c, "lost-device-1")) == SpoolRenaming(moved=2, left=0)
    assert store.look(holding.read_held) == {"lost-device-1": HeldDevice(HeldWhy.ASIDE, 0)}
    assert store.counts().conflicts == 2
    assert store.faults() == []
    store.close()


def test_what_is_set_aside_is_not_sent_even_when_it_is_requeued(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    store = opened(path)
    store.change(lambda c: holding.set_aside(c, "lost-device-1"))
    assert store.requeue(range(1, 11)) == 0
    assert store.reoffer("lost-device-1", SpoolState.CONFLICT, 0) == (None, 0)
    assert store.counts().conflicts == 10
    store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
    assert store.requeue(range(1, 11)) == 10
    assert len(offered(store, "roof")) == 10
    store.close()


def test_only_a_held_device_is_renamed(path: Path) -> None:
    make(path, "roof", "shed")
    store = opened(path)
    for job in (renaming.rename, holding.set_aside):
        with pytest.raises(UsageError, match="no device whose readings are held back"):
            store.change(lambda c, job=job: job(c, *(["roof", "x"] if job is renaming.rename else ["roof"])))  # type: ignore[misc]  # a default it is
    assert store.devices() == ["roof", "shed"]
    store.close()


# --- another edge's spool --------------------------------------------------------------------------------


def test_another_edges_spool_put_in_place_becomes_this_ones_and_its_devices_are_held(path: Path) -> None:
    owner = make(path, "roof")
    path.unlink()
    other = make(path, "shed", "roof")
    store = opened(path, owner)
    assert store.identity.edge_id == owner.edge_id != other.edge_id
    tail = other.edge_id[:8]
    assert store.look(holding.read_held) == {
        f"{name}.{tail}": HeldDevice(HeldWhy.FOREIGN, 10) for name in ("shed", "roof")
    }
    append(store, "roof", 100)
    assert offered(store, "roof") == [100]
    assert offered(store, "shed") == offered(store, f"roof.{tail}") == []
    store.close()
    store = opened(path, owner)
    assert offered(store, "roof") == [100]
    assert len(store.devices()) == 3
    store.close()


def test_a_new_spool_is_the_same_edges(path: Path) -> None:
    owner = make(path, "roof")
    generation = opened(path).identity.generation
    path.unlink()
    store = opened(path, owner)
    assert store.identity.edge_id == owner.edge_id
    assert store.identity.generation != generation
    store.close()


def test_an_earlier_copy_of_the_own_spool_is_believed(path: Path) -> None:
    make(path, "roof")
    shutil.copy(path, path.with_name("copy"))
    owner = make(path, "roof", "shed", count=20)
    shutil.move(path.with_name("copy"), path)
    store = opened(path, owner)
    assert store.look(holding.read_held) == {}
    assert len(offered(store, "roof")) == 10
    store.close()


@pytest.mark.parametrize("is_killed", [False, True], ids=["noticed", "killed"])
def test_a_large_spool_that_is_overwritten_by_another_edges_mixes_no_names(
    path: Path,
    is_killed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The number that stands for the roof here stands for the barn there."""
    another = path.with_name("another")
    other = make(another, "barn", "shed", count=3_000)
    store = opened(path)
    append(store, "roof", *range(8_000))  # more than memory keeps
    store._database.fold_log()
    append(store, "roof", *range(8_000, 8_050))
    owner = store.look(holding.read_owner)
    assert owner.spool_id != other.spool_id
    shutil.copyfile(another, path)
    if not is_killed:
        with pytest.raises(SpoolCorruptError):
            append(store, "roof", 9_000)
        store.close()
    else:
        log = Path(f"{path}-wal").read_bytes()
        with suppress(SpoolCorruptError):
            store.close()
        shutil.copyfile(another, path)
        Path(f"{path}-wal").write_bytes(log)
    store = opened(path, owner, damage=None if is_killed else "it was overwritten")
    assert store.identity.edge_id == owner.edge_id
    assert offered(store, "roof") == offered(store, "barn") == offered(store, "shed") == []
    ((name, device),) = store.look(holding.read_held).items()
    assert device.undelivered >= 50
    store.change(lambda c: renaming.rename(c, name, "roof"))
    assert set(range(8_000, 8_050)) <= set(offered(store, "roof"))
    store.close()
    assert list(path.parent.glob("*damaged*"))


async def test_what_is_taken_in_from_another_edges_spool_is_held(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    monkeypatch.setattr(taking_in, "_SETTLED_S", 0.0)
    make(path, "roof")
    other = make(path.with_name("another"), "roof")
    async with DurableSpool.open(path, options=RECOVER) as spool:
        path.with_name("another").rename(path)
        await spool.keep_place()
        await spool.take_in_replaced()
        name = f"roof.{other.edge_id[:8]}"
        assert await spool.held() == {name: HeldDevice(HeldWhy.FOREIGN, 10)}
        assert await spool.peek(name, 100) == []
        assert len(await spool.peek("roof", 100)) == 10
        assert await spool.rename_device(name, "hut") == SpoolRenaming(moved=10, left=0)
        assert len(await spool.peek("hut", 100)) == 10
        assert await spool.set_apart() == []


async def test_what_comes_back_by_way_of_another_edge_is_known(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an export, and as a file; what is here no longer is held under a name of its own."""
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    monkeypatch.setattr(taking_in, "_SETTLED_S", 0.0)
    store = opened(path)
    append(store, "lost-device-1", *range(10))
    append(store, "roof", 1, 2)
    store.change(lambda c: holding.hold(c, "lost-device-1", HeldWhy.LOST))
    lines = [head_line(store.identity), *map(record_line, store.records(0, 100))]
    store.change(lambda c: c.execute("DELETE FROM standing WHERE seq = 5"))
    store.change(lambda c: c.execute("DELETE FROM reading WHERE seq = 5"))
    own = store.look(holding.read_owner)
    store.close()
    another = path.with_name("another")
    async with DurableSpool.open(another) as there:
        await there.import_records(read_lines(lines, partial=True, here=await there.owner()))
        back = [head_line(there.identity), *[record_line(record) async for record in there.records()]]
        tail = there.identity.edge_id[:8]
    async with DurableSpool.open(path, options=RECOVER) as spool:
        done = await spool.import_records(read_lines(back, partial=True, here=own))
        assert (done.imported, done.known) == (1, 11)
        again = f"lost-device-1.{own.edge_id[:8]}.{tail}"
        expected = {
            "lost-device-1": HeldDevice(HeldWhy.LOST, 9),
            again: HeldDevice(HeldWhy.LOST, 1),
        }
        assert await spool.held() == expected
        another.rename(path)
        await spool.keep_place()
        await spool.take_in_replaced()
        assert [(name, device.undelivered) for name, device in (await spool.held()).items()] == [
            ("lost-device-1", 9),
            (again, 1),
            (f"roof.{tail}", 2),
        ]


def test_delivered_readings_go_with_the_name(path: Path) -> None:
    store = opened(path)
    append(store, "roof", *range(10))
    store.settle("roof", Settlement(delivered=range(1, 6)))
    store.close()
    lose_names(path)
    store = opened(path)
    append(store, "roof", 10)
    store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
    assert store.last_delivered("roof") == [NOON_MS + 5_000 * 4]
    assert offered(store, "roof") == list(range(5, 11))
    store.close()


def test_names_stay_within_what_a_device_id_may_be(path: Path) -> None:
    owner = make(path, "roof")
    path.unlink()
    long = "x" * 64
    make(path, long, "x" * 63 + "y")
    store = opened(path, owner)
    names = store.devices()
    assert len(set(names)) == 2
    assert all(len(name) <= 64 for name in names)
    store.close()


# --- pages that tell whose a spool is ---------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["meta", "again"])
def test_another_edges_spool_is_known_as_that_whichever_page_that_says_so_is_lost(
    path: Path, lost: str
) -> None:
    owner = make(path, "roof")
    path.unlink()
    other = make(path, "roof")
    lose_names(path, (lost,))
    store = opened(path, owner)
    assert store.identity.edge_id == owner.edge_id
    assert set(store.look(holding.read_held)) == {f"roof.{other.edge_id[:8]}"}
    store.close()


@pytest.mark.parametrize("lost", ["meta", "again"])
def test_the_own_spool_is_believed_whichever_page_that_says_so_is_lost(path: Path, lost: str) -> None:
    """Also where nothing is remembered: its edge is called as before."""
    owner = make(path, "roof")
    for remembered in (owner, None):
        lose_names(path, (lost,))
        store = opened(path, remembered)
        assert store.identity.edge_id == owner.edge_id
        assert store.look(holding.read_held) == {}
        assert len(offered(store, "roof")) == 10
        store.close()


@pytest.mark.parametrize("lost", ["meta", "again"])
def test_what_is_held_and_what_is_no_longer_outlast_the_loss_of_a_page(path: Path, lost: str) -> None:
    make(path, "roof.c3544d1e", "shed", "barn")
    store = opened(path)
    for name in ("roof.c3544d1e", "shed", "barn"):
        store.change(lambda c, name=name: holding.hold(c, name, HeldWhy.FOREIGN))  # type: ignore[misc]  # as above
    store.change(lambda c: renaming.rename(c, "shed", "hut"))
    store.change(lambda c: holding.set_aside(c, "barn"))
    store.close()
    lose_names(path, (lost,))
    store = opened(path)
    held = {name: device.why for name, device in store.look(holding.read_held).items()}
    assert held == {"roof.c3544d1e": HeldWhy.FOREIGN, "barn": HeldWhy.ASIDE}
    store.change(lambda c: renaming.undo(c, "shed"))
    store.close()


def test_a_spool_of_an_earlier_version_gets_the_second_page(path: Path) -> None:
    owner = make(path, "roof")
    with closing(sqlite3.connect(path)) as connection:
        for event in ("insert", "update", "delete"):
            connection.execute(f"DROP TRIGGER again_{event}")
        connection.execute("DROP TABLE again")
    opened(path).close()
    before = path.read_bytes()
    opened(path).close()
    assert path.read_bytes() == before  # nothing more to be written
    lose_names(path, ("meta",))
    store = opened(path)
    assert store.identity.edge_id == owner.edge_id
    store.close()


# --- on their way to another spool ------------------------------------------------------------------------


def _carry(store: SpoolStore, path: Path) -> SpoolStore:
    """Import an export's lines into a new spool."""
    lines = [head_line(store.identity), *map(record_line, store.records(0, 1_000))]
    there = opened(path)
    importer = there.importer()
    there.import_chunk(importer, read_lines(lines, partial=True))
    return there


def test_what_is_held_stays_so_in_another_spool(path: Path) -> None:
    make(path, "roof", "shed")
    lose_names(path)
    store = opened(path)
    store.change(lambda c: holding.hold(c, "lost-device-1", HeldWhy.LOST))
    store.change(lambda c: renaming.rename(c, "lost-device-2", "shed"))
    store.change(lambda c: c.execute("UPDATE device SET name = 'roof.c3544d1e' WHERE id = 1"))
    store.change(lambda c: holding.hold(c, "roof.c3544d1e", HeldWhy.FOREIGN))
    there = _carry(store, path.with_name("there"))
    assert there.look(holding.read_held) == {"roof.c3544d1e": HeldDevice(HeldWhy.FOREIGN, 10)}
    assert offered(there, "roof.c3544d1e") == []
    assert len(offered(there, "shed")) == 10
    there.close()
    store.close()


async def test_names_held_in_an_earlier_life_of_the_spool_are_not_those_held_here(path: Path) -> None:
    """Begun anew, the same edge's spool has lost the name of another device under the same number."""
    owner = make(path, "roof")
    lose_names(path)
    async with DurableSpool.open(path, options=RECOVER) as spool:
        id_there = (await spool.owner()).spool_id
        records = [record_line(record) async for record in spool.records()]
        lines = [head_line(spool.identity, id_there), *records]
        old = [head_line(spool.identity), *records]
    assert id_there is not None
    for file in path.parent.glob("spool.db*"):
        file.unlink()
    opened(path, owner).close()
    make(path, "shed")
    store = opened(path)
    store.change(lambda c: c.execute("UPDATE reading SET ts = ts + 1, boot_ms = boot_ms + 1"))
    store.close()
    lose_names(path)
    told_apart = f"lost-device-1.{id_there[:8]}"
    async with DurableSpool.open(path, options=RECOVER) as spool:
        for imported, known in ((10, 0), (0, 10)):
            done = await spool.import_records(read_lines(lines, partial=True, here=await spool.owner()))
            assert (done.imported, done.known, done.different) == (imported, known, ())
        lost = HeldDevice(HeldWhy.LOST, 10)
        assert await spool.held() == {"lost-device-1": lost, told_apart: lost}
        back = [head_line(spool.identity, (await spool.owner()).spool_id)]
        back += [record_line(record) async for record in spool.records()]
        # One of an earlier version does not say of which life it is.
        done = await spool.import_records(read_lines(old, partial=True, here=await spool.owner()))
        assert (done.imported, await spool.held()) == (
            10,
            {"lost-device-1": HeldDevice(HeldWhy.LOST, 20), told_apart: lost},
        )
    there = opened(path.with_name("there"), owner)
    there.change(lambda c: c.execute("UPDATE meta SET value = ? WHERE key = 'spool_id'", (id_there,)))
    here = there.look(holding.read_owner)
    for some in (lines, back):
        importer = there.importer()
        there.import_chunk(importer, read_lines(some, partial=True, here=here))
    assert sorted(device.undelivered for device in there.look(holding.read_held).values()) == [10, 10]
    there.close()


async def test_an_export_of_what_a_spool_was_before_it_was_recovered_is_known(path: Path) -> None:
    make(path, "roof")
    lose_names(path)
    async with DurableSpool.open(path, options=RECOVER) as spool:
        lines = [head_line(spool.identity, (await spool.owner()).spool_id)]
        lines += [record_line(record) async for record in spool.records()]
    lose_names(path, ("answered",))
    async with DurableSpool.open(path, options=RECOVER) as spool:
        held = await spool.held()
        done = await spool.import_records(read_lines(lines, partial=True, here=await spool.owner()))
        assert (done.imported, done.known, await spool.held()) == (0, 10, held)


async def test_what_another_edge_held_is_known_after_a_recovery_too(path: Path) -> None:
    """Its name says where it comes from, in every life of the spool."""
    make(path, "roof")
    here = SpoolOptions(recover=True, owner=SpoolOwner("11111111-2222-4333-8444-555555555555", None))
    async with DurableSpool.open(path, options=here) as spool:
        lines = [head_line(spool.identity, (await spool.owner()).spool_id)]
        lines += [record_line(record) async for record in spool.records()]
        held = await spool.held()
        assert [device.why for device in held.values()] == [HeldWhy.FOREIGN]
    lose_names(path, ("answered",))
    async with DurableSpool.open(path, options=here) as spool:
        done = await spool.import_records(read_lines(lines, partial=True, here=await spool.owner()))
        assert (done.imported, done.known, await spool.held()) == (0, 10, held)
    async with DurableSpool.open(path.with_name("anew"), options=here) as spool:
        done = await spool.import_records(read_lines(lines, partial=True, here=await spool.owner()))
        assert (done.imported, done.known, await spool.held()) == (10, 0, held)


def test_an_export_that_does_not_say_so_holds_lost_names(path: Path) -> None:
    """As one of an earlier version; ours says that a name is believed, too."""
    store = opened(path)
    append(store, "lost-device-4", 1)
    append(store, "lost-device-heater", 2)
    lines = [head_line(store.identity), *map(record_line, store.records(0, 10))]
    store.close()
    for name, of_version, held in (
        ("ours", lines, set()),
        ("earlier", [line.replace('"held":null,', "") for line in lines], {"lost-device-4"}),
    ):
        there = opened(path.with_name(name))
        importer = there.importer()
        there.import_chunk(importer, read_lines(of_version, partial=True))
        assert set(there.look(holding.read_held)) == held
        there.close()


@pytest.mark.parametrize("is_same_life", [True, False])
async def test_what_is_held_in_a_file_found_in_place_stays_so(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_same_life: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    monkeypatch.setattr(taking_in, "_SETTLED_S", 0.0)
    owner = make(path, "roof")
    found = path.with_name("found")
    if is_same_life:
        shutil.copy(path, found)
    else:
        opened(found, owner).close()
        make(found, "roof")
    lose_names(found)
    opened(found).close()
    if is_same_life:
        store = opened(found)
        statement = "UPDATE meta SET value = ? WHERE key = 'spool_id'"
        store.change(lambda c: c.execute(statement, (owner.spool_id,)))
        store.close()
    async with DurableSpool.open(path, options=RECOVER) as spool:
        found.rename(path)
        await spool.keep_place()
        await spool.take_in_replaced()
        (name,) = await spool.held()
        assert name.startswith("lost-device-1")
        assert (name == "lost-device-1") is is_same_life
        assert await spool.peek(name, 100) == []


def swapped(path: Path, edges: Sequence[str]) -> Iterator[SpoolStore]:
    """A card goes from one edge to the other and back; each names what it finds, and goes on."""
    for number, edge in enumerate(edges):
        store = opened(path, SpoolOwner(edge * 8, f"other file {number}"))
        for name in store.look(holding.read_held):
            store.change(partial(renaming.rename, old=name, new="roof"))
        append(store, "roof", 10 + number)
        yield store
        store.close()


def test_a_spool_that_goes_to_and_fro_between_two_edges_opens_each_time(path: Path) -> None:
    make(path, "roof")
    for number, store in enumerate(swapped(path, "abababa")):
        assert offered(store, "roof") == list(range(11 + number))
        assert store.recovery is None
        assert store.faults() == []


def test_a_renaming_is_not_taken_back_from_another_edges_device(path: Path) -> None:
    make(path, "roof")
    store = opened(path)
    store.change(lambda c: holding.hold(c, "roof", HeldWhy.LOST))
    store.change(lambda c: renaming.rename(c, "roof", "shed"))
    store.close()
    store = opened(path, SpoolOwner("b" * 8, "other file"))
    append(store, "shed", 20)
    [held] = store.look(holding.read_held)
    with pytest.raises(UsageError, match=f"became {held}"):
        store.change(lambda c: renaming.undo(c, "roof"))
    store.close()


def test_damage_that_comes_between_costs_no_reading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two attempts to make a spool one's own the second meets another damage than the first."""
    make(path, "roof")
    errors = iter([SpoolCorruptError("in a row"), SpoolCorruptError("in a page")])

    def fail(*_: object) -> bool:
        error = next(errors)
        raise error from (sqlite3.IntegrityError() if "row" in str(error) else sqlite3.DatabaseError())

    with monkeypatch.context() as patch:
        patch.setattr(recovering, "own", fail)
        with pytest.raises(SpoolCorruptError, match="in a page"):
            opened(path).close()
    store = opened(path)
    assert store.counts().pending == 10
    store.close()


def test_a_spool_that_cannot_be_made_ones_own_is_set_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: nothing would ever be accepted else."""
    make(path, "roof", "shed")
    monkeypatch.setattr(holding, "foreign_names", lambda *_: {"roof": "shed"})
    store = opened(path, SpoolOwner("b" * 8, "other file"))
    assert store.recovery is not None
    assert "UNIQUE" in store.recovery.reason
    assert (store.recovery.saved, store.recovery.lost) == (0, 20)
    append(store, "roof", 20)
    assert offered(store, "roof") == [20]
    assert store.identity.edge_id == "b" * 8
    store.close()
    aside = opened(Path(store.recovery.set_aside))
    assert aside.counts().pending == 20
    aside.close()


@pytest.mark.parametrize("lost", [("boot",), ("sqlite_autoindex_boot_1",)], ids=["its table", "its index"])
def test_readings_that_wait_for_a_date_keep_their_boot(path: Path, lost: tuple[str, ...]) -> None:
    """Without its name it would pass for an earlier one, and they would be dated before the present one."""
    boot_id = "4f9c2d10-1111-4222-8333-944455566677"
    clock = FakeClock(boot_id=boot_id, boot_ms=5 * 3_600_000, synchronised=False)
    store = SpoolStore(path, RECOVER, clock)
    dates = []
    for number in range(5):
        clock.pass_s(5)
        dates.append(clock.wall_ms)
        content = f'{{"pv_power_w":{number}}}'
        store.append("roof", clock.wall_ms, content, boot=clock.stamp(), ts_is_final=False)
    store.close()
    lose_names(path, lost)
    store = SpoolStore(path, RECOVER, clock)
    clock.pass_s(5)
    clock.synchronised = True
    while store.release() is None:
        pass
    saved = store.records(0, 10)
    assert [(record.entry.ts_ms, record.stamp.boot_id) for record in saved] == [(ts, boot_id) for ts in dates]
    assert {record.entry.clock_source for record in saved} == {None}
    store.close()
