"""A damaged file and the log beside it: of one spool, or of two."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sungrow_lib.spool import (
    Lane,
    SpoolOptions,
    SpoolOwner,
    SystemClock,
    database,
    holding,
)
from sungrow_lib.spool.schema import PAGE_BYTES
from sungrow_lib.spool.store import SpoolStore
from tests.spool.test_holding import append, make, offered, opened

COUNT = 40
ON_ONE_PAGE = 30
"""More than a page has of readings: what one bad page costs at most."""

MORE = {"appended": 5, "appended more": 60}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "spool.db"


def photograph(path: Path, copy: Path) -> None:
    """Copy what a kill would leave now."""
    copy.mkdir()
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copy(f"{path}{suffix}", copy / f"{path.name}{suffix}")


def each_page_damaged(folder: Path, path: Path) -> Iterator[int]:
    """Put what is in a folder in place again and again, each time with another bad page in the file."""
    for page in range((folder / path.name).stat().st_size // PAGE_BYTES):
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        for suffix in ("", "-wal"):
            if (folder / f"{path.name}{suffix}").exists():
                shutil.copy(folder / f"{path.name}{suffix}", f"{path}{suffix}")
        with path.open("r+b") as damaged:
            damaged.seek(page * PAGE_BYTES)
            damaged.write(bytes(PAGE_BYTES))
        yield page


def pages_of_meta(file: Path) -> set[int]:
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name IN ('sqlite_schema', 'meta')"
        return {0, *(root - 1 for (root,) in connection.execute(query))}


def kept(store: SpoolStore) -> int:
    """So many are sent or set apart: where all standings were on a bad page, nobody vouches for a date."""
    counts = store.counts()
    return counts.pending + counts.conflicts


@pytest.mark.parametrize(
    ("moment", "is_remembered"),
    [
        ("opening", False),
        ("folding", False),
        ("folded", False),
        ("appended", False),
        ("appended", True),
        ("appended more", False),
    ],
)
def test_a_kill_while_another_edges_spool_becomes_this_ones_and_one_bad_page(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    is_remembered: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    owner = make(path, "roof")
    path.unlink()
    other = make(path, "shed", "roof", count=COUNT // 2)
    copy = path.parent.parent / "copy"
    store = SpoolStore(path, SpoolOptions(), SystemClock())  # so that there is a log
    if moment == "opening":
        append(store, "shed", 500)
        photograph(path, copy)
    store.close()
    fold = database.Database.fold_log

    def photograph_first(self: database.Database) -> None:
        if moment == "folding":
            photograph(path, copy)
        fold(self)

    monkeypatch.setattr(database.Database, "fold_log", photograph_first)
    store = opened(path, owner)
    monkeypatch.undo()
    if moment == "folded":
        photograph(path, copy)
    append(store, "roof", *range(900, 900 + MORE.get(moment, 0)))
    now = store.look(holding.read_owner)
    if moment.startswith("appended"):
        photograph(path, copy)
    store.close()
    all_readings = COUNT + (MORE[moment] if moment.startswith("appended") else 0)
    for page in each_page_damaged(copy, path):
        if moment == "opening" and page in pages_of_meta(copy / path.name):
            continue  # nothing tells whose it is, then
        store = opened(path, now if is_remembered else owner)
        assert store.identity.edge_id == owner.edge_id
        assert kept(store) >= all_readings - ON_ONE_PAGE, page
        assert offered(store, "shed") == []
        assert [number for number in offered(store, "roof") if number < 900] == []
        held = store.look(holding.read_held)
        assert all(name.startswith("lost-device-") or name.endswith(other.edge_id[:8]) for name in held)
        store.close()


@pytest.mark.parametrize("is_known", [False, True], ids=["nothing remembered", "remembered"])
def test_an_earlier_life_over_the_log_of_the_present_one(
    path: Path,
    is_known: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Both are the same edge's: only what names the file from its making on tells them apart."""
    owner = make(path, "roof", "shed", count=200)
    shutil.copy(path, path.with_name("earlier"))
    path.unlink()
    store = opened(path, owner)
    for number in range(300, 500):
        append(store, "shed", number)
        append(store, "roof", number)
    store._database.fold_log()
    if not is_known:
        store.renew_generation()
    append(store, "shed", *range(500, 520), value=77)
    now = store.look(holding.read_owner)
    log = Path(f"{path}-wal").read_bytes()
    store.close()
    shutil.copy(path.with_name("earlier"), path)
    Path(f"{path}-wal").write_bytes(log)
    store = opened(path, now if is_known else None, damage="it was overwritten")
    shed = {entry.content for entry in store.offer("roof", 1_000, Lane.FRESH)}
    assert '{"pv_power_w":77}' not in shed
    held = store.look(holding.read_held)
    assert sum(device.undelivered for device in held.values()) + len(offered(store, "shed")) >= 20
    store.close()


def test_a_log_of_another_spool_beside_the_remembered_one(path: Path) -> None:
    another = path.with_name("another")
    make(another, "barn", "roof")
    store = opened(another)
    append(store, "barn", *range(50))
    log = Path(f"{another}-wal").read_bytes()
    store.close()
    owner = make(path, "roof", count=40)
    Path(f"{path}-wal").write_bytes(log)
    store = opened(path, owner, damage="a log that is not its own")
    assert offered(store, "roof") == list(range(40))
    assert store.devices() == ["roof"]
    store.close()


@pytest.mark.parametrize("job", ["disowned", "renewed"])
def test_a_spool_of_an_earlier_version_gets_its_name_with_nothing_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    make(path, "roof", count=COUNT)
    store = opened(path)
    store.change(lambda c: c.execute("DELETE FROM meta WHERE key = 'spool_id'"))
    store.close()
    owner = SpoolOwner("another", "another") if job == "disowned" else None
    monkeypatch.setattr(database.Database, "fold_log", lambda _: None)
    store = opened(path, owner)
    if job == "renewed":
        store.renew_generation()
    photograph(path, path.parent.parent / "copy")
    store.close()
    monkeypatch.undo()
    for page in each_page_damaged(path.parent.parent / "copy", path):
        store = opened(path, owner)
        assert kept(store) >= COUNT - ON_ONE_PAGE, page
        store.close()


def test_what_names_the_file_stays(path: Path) -> None:
    owner = make(path, "roof")
    store = opened(path)
    store.renew_generation()
    assert store.look(holding.read_owner) == owner
    store.close()
    path.unlink()
    store = opened(path, owner)
    now = store.look(holding.read_owner)
    assert now.edge_id == owner.edge_id
    assert now.spool_id not in {None, owner.spool_id}
    store.close()
