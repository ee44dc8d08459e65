"""A device gets its name by command while the edge goes on appending: every reading keeps its own device."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sungrow_lib.spool import BootStamp, HeldDevice, HeldWhy, Lane, Settlement, holding, renaming
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS
from tests.spool.test_holding import append, offered, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def edge(path: Path) -> Iterator[SpoolStore]:
    """What appends, and knows the numbers of its devices: the held one's is the highest."""
    store = opened(path)
    append(store, "roof", *range(5))
    append(store, "shed", *range(20, 25))
    store.change(lambda c: holding.hold(c, "shed", HeldWhy.LOST))
    append(store, "shed", 25)
    yield store
    store.close()


@pytest.fixture
def command(path: Path) -> Iterator[SpoolStore]:
    store = opened(path)
    yield store
    store.close()


def whose(store: SpoolStore) -> dict[str, list[int]]:
    """Numbers of the readings of each device."""
    found: dict[str, list[int]] = {}
    for record in store.records(0, 1_000):
        entry = record.entry
        found.setdefault(entry.device_id, []).append((entry.ts_ms - NOON_MS) // 5_000)
    return found


def test_what_is_appended_under_the_old_name_stays_that_devices(
    edge: SpoolStore, command: SpoolStore
) -> None:
    command.change(lambda c: renaming.rename(c, "shed", "roof"))
    assert command.devices() == ["roof"]
    append(edge, "shed", 40)
    append(command, "new", 50)
    append(edge, "shed", 41)
    expected = {"roof": [*range(5), *range(20, 26)], "shed": [40, 41], "new": [50]}
    assert whose(edge) == whose(command) == expected
    assert edge.faults() == []
    assert {name: offered(edge, name) for name in expected} == expected


def test_a_number_is_not_used_again_for_another_device(edge: SpoolStore, command: SpoolStore) -> None:
    command.change(lambda c: renaming.rename(c, "shed", "roof"))
    append(command, "new", 50)
    with edge._database.read() as connection:
        numbers = dict(connection.execute("SELECT name, id FROM device").fetchall())
    assert numbers == {"roof": 1, "shed": 2, "new": 3}


def test_a_number_that_is_another_devices_by_now_is_asked_for_anew(edge: SpoolStore, path: Path) -> None:
    """As an earlier version left it: the row went, and the next device got its number."""
    edge.append("roof", NOON_MS + 150_000, "{}", boot=BootStamp("a boot", 1), ts_is_final=True)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE device SET name = 'other' WHERE name = 'shed'")
        other.execute("UPDATE boot SET name = 'another boot' WHERE name = 'a boot'")
    append(edge, "shed", 40)
    edge.append("roof", NOON_MS + 250_000, "{}", boot=BootStamp("a boot", 2), ts_is_final=True)
    assert whose(edge) == {"roof": [*range(5), 30, 50], "other": [*range(20, 26)], "shed": [40]}
    boots = [record.stamp.boot_id for record in edge.records(0, 1_000) if record.entry.device_id == "roof"]
    assert boots[-2:] == ["another boot", "a boot"]
    assert edge.faults() == []


def test_an_answer_that_waits_is_written_for_the_device_it_is_of(edge: SpoolStore, path: Path) -> None:
    [entry] = edge.offer("roof", 1, Lane.FRESH)
    edge.settle_later("roof", Settlement(delivered=[entry.seq]))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO device (id, name) VALUES (9, 'x')")
        other.execute("UPDATE reading SET device = 9 WHERE device = 1")
        other.execute("UPDATE standing SET device = 9 WHERE device = 1")
        other.execute("DELETE FROM device WHERE id = 1")
        other.execute("UPDATE device SET name = 'roof' WHERE id = 9")
    append(edge, "roof", 30)
    assert edge.counts("roof").delivered == 1
    assert edge.faults() == []


def test_a_renaming_of_ones_own_is_known_at_once(edge: SpoolStore) -> None:
    edge.change(lambda c: renaming.rename(c, "shed", "roof"))
    append(edge, "shed", 40)
    assert whose(edge) == {"roof": [*range(5), *range(20, 26)], "shed": [40]}
    assert edge.faults() == []


def test_a_renaming_is_taken_back_though_its_device_has_no_reading_left(
    edge: SpoolStore, command: SpoolStore
) -> None:
    command.change(lambda c: renaming.rename(c, "shed", "roof"))
    append(edge, "roof", 30)
    command.change(lambda c: renaming.undo(c, "shed"))
    assert edge.look(holding.read_held) == {"shed": HeldDevice(HeldWhy.LOST, 6)}
    append(edge, "shed", 40)
    append(edge, "roof", 31)
    assert whose(edge) == {"roof": [*range(5), 30, 31], "shed": [*range(20, 26), 40]}
    assert edge.faults() == []
