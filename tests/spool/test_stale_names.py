"""Damage in the log leaves older versions of pages: a name that was given up there sends nothing again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.spool import BootStamp, HeldWhy, Lane, Settlement, database, holding, renaming
from sungrow_lib.spool.schema import PAGE_BYTES
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS
from tests.spool.test_holding import append, opened

FRAME: Final = 24 + PAGE_BYTES
LEAF_TABLE: Final = 0x0D
OLD: Final = ("lost-device-1", "roof.aaaaaaaa")


def renamed(path: Path, old: str) -> tuple[bytes, bytes]:
    """Return log and file of a spool whose device was renamed, and some of its readings delivered."""
    with closing(opened(path)) as store:
        append(store, old, *range(1, 41))
        store.change(lambda c: holding.hold(c, old, HeldWhy.LOST))
    with closing(opened(path)) as store:
        store.change(lambda c: renaming.rename(c, old, "roof"))
        stamp = BootStamp("a boot", 1)
        rows = [
            ("roof", NOON_MS + 5_000 * number, f'{{"pv_power_w":{number}}}', stamp)
            for number in range(100, 150)
        ]
        store.append_many(rows)
        batch = store.offer("roof", 30, Lane.BACKLOG)
        store.settle("roof", Settlement(delivered=[entry.seq for entry in batch]))
        return Path(f"{path}-wal").read_bytes(), path.read_bytes()


def damaged(path: Path, log: bytes, file: bytes, *places: int) -> SpoolStore:
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    broken = bytearray(log)
    for place in places:
        broken[place + 24 + 200 : place + 24 + 700] = b"\xaa" * 500
    path.write_bytes(file)
    Path(f"{path}-wal").write_bytes(broken)
    return opened(path)


def sendable(store: SpoolStore) -> Iterator[tuple[str, str]]:
    """Every reading that is sent as things stand, and the name it is sent under."""
    for device_id in store.devices():
        for entry in store.offer(device_id, 1_000, Lane.FRESH):
            yield device_id, entry.content


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes the log, so it need not be looked at again later."""
    monkeypatch.setattr(database, "_LOG_LOOK_S", 0)


@pytest.mark.parametrize("old", OLD)
def test_a_reading_that_was_renamed_is_not_sent_under_its_old_name(
    path: Path, tmp_path: Path, old: str
) -> None:
    log, file = renamed(path, old)
    recoveries = 0
    for place in range(32, len(log), FRAME):
        with closing(damaged(tmp_path / "left.db", log, file, place)) as store:
            assert old not in {name for name, _ in sendable(store)}
            assert store.faults() == []
            recoveries += store.recovery is not None
    assert recoveries > 3


def test_nor_where_the_page_that_says_whose_it_is_is_damaged_too(path: Path, tmp_path: Path) -> None:
    log, file = renamed(path, OLD[1])
    frames = range(32, len(log), FRAME)
    readings = [place for place in frames if log[place + 24] == LEAF_TABLE][:4]
    back = 0
    for places in product(readings, [place for place in frames if log[place + 24] != LEAF_TABLE]):
        with closing(damaged(tmp_path / "left.db", log, file, *places)) as store:
            assert OLD[1] not in {name for name, _ in sendable(store)}
            assert store.faults() == []
            assert OLD[1] not in store.devices() or OLD[1] in store.look(holding.read_held)
            back += OLD[1] in store.devices()
    assert back


def test_a_device_that_has_that_name_for_itself_is_held_for_readings_of_before_only(path: Path) -> None:
    with closing(opened(path)) as store:
        append(store, "lost-device-1", 1, 2)
        store.change(lambda c: holding.hold(c, "lost-device-1", HeldWhy.LOST))
        store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
        append(store, "lost-device-1", 3)
    with closing(opened(path, damage="as a test says")) as store:
        assert store.recovery is not None
        assert {name for name, _ in sendable(store)} == {"roof", "lost-device-1"}
        store.change(lambda c: c.execute("UPDATE reading SET device = 1 WHERE seq = 2"))
        store.change(lambda c: c.execute("UPDATE standing SET device = 1 WHERE seq = 2"))
    with closing(opened(path, damage="as a test says")) as store:
        assert {name for name, _ in sendable(store)} == {"roof"}
        store.change(lambda c: renaming.rename(c, "lost-device-1", "lost-device-1"))
    with closing(opened(path, damage="as a test says")) as store:
        assert {name for name, _ in sendable(store)} == {"roof", "lost-device-1"}


def test_a_reading_comes_back_as_the_device_it_is_where_its_place_is_known(
    path: Path, tmp_path: Path
) -> None:
    """The page of the reading is damaged, and the one that says where it stands is not."""
    log, file = renamed(path, "lost-device-1")
    for place in range(32, len(log), FRAME):
        if log[place + 24] != LEAF_TABLE:
            continue
        with closing(damaged(tmp_path / "left.db", log, file, place)) as store:
            assert store.look(holding.read_held) == {}
            assert {name for name, _ in sendable(store)} == {"roof"}
