"""Damage after a renaming was taken back: no older page sends a reading under the name it had meanwhile."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.errors import UsageError
from sungrow_lib.spool import (
    BootStamp,
    HeldWhy,
    Lane,
    Settlement,
    database,
    holding,
    renaming,
)
from sungrow_lib.spool.notes import read_renamings
from sungrow_lib.spool.schema import PAGE_BYTES
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS
from tests.spool.test_holding import append, opened
from tests.spool.test_stale_names import sendable

SEED: Final = 3
DAMAGES: Final = 15
FRAME: Final = 24 + PAGE_BYTES
OLD: Final = "lost-device-1"


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes the log, so it need not be looked at again later."""
    monkeypatch.setattr(database, "_LOG_LOOK_S", 0)


def deliver(store: SpoolStore, device_id: str, most: int) -> None:
    batch = store.offer(device_id, most, Lane.BACKLOG)
    store.settle(device_id, Settlement(delivered=[entry.seq for entry in batch]))


def append_many(store: SpoolStore, device_id: str, *numbers: int) -> None:
    stamp = BootStamp("a boot", 1)
    store.append_many(
        [(device_id, NOON_MS + 5_000 * number, f'{{"pv_power_w":{number}}}', stamp) for number in numbers]
    )


def taken_back(path: Path, last_name: str | None) -> tuple[bytes, bytes]:
    """Return file and log of a spool whose device got a wrong name, and then that name, if any."""
    with closing(opened(path)) as store:
        append(store, "roof", *range(100, 110))
        append(store, OLD, *range(1, 41))
        store.change(lambda c: holding.hold(c, OLD, HeldWhy.LOST))
        append(store, "roof", *range(110, 130))
    with closing(opened(path)) as store:
        store.change(lambda c: renaming.rename(c, OLD, "roof"))
        append_many(store, "roof", *range(130, 140))
        store.change(lambda c: renaming.undo(c, OLD))
        append_many(store, "roof", *range(140, 150))
        if last_name is not None:
            store.change(lambda c: renaming.rename(c, OLD, last_name))
            deliver(store, last_name, 20)
        deliver(store, "roof", 15)
        append_many(store, "roof", *range(150, 160))
        return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def without_devices(file: bytes, log: bytes) -> tuple[bytes, bytes]:
    """Overwrite every version of the page of the table of devices; their index has their names still."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(file[:18] + b"\1\1" + file[20:])  # as one without a log
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'device'"
        [[page]] = connection.execute(query).fetchall()
    lost, begin = b"\xaa" * PAGE_BYTES, (page - 1) * PAGE_BYTES
    frames = [log[at : at + FRAME] for at in range(32, len(log), FRAME)]
    kept = [frame[:24] + lost if int.from_bytes(frame[:4], "big") == page else frame for frame in frames]
    return file[:begin] + lost + file[begin + PAGE_BYTES :], log[:32] + b"".join(kept)


def damaged(path: Path, file: bytes, log: bytes, chance: random.Random) -> SpoolStore:
    """Damage a region of the log, or two."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    broken = bytearray(log)
    for _ in range(chance.choice((1, 1, 2))):
        begin = 32 + chance.randrange(len(log) - 32)
        size = chance.choice((200, FRAME, 4 * FRAME, 12 * FRAME))
        broken[begin : begin + size] = b"\xaa" * len(broken[begin : begin + size])
    path.write_bytes(file)
    Path(f"{path}-wal").write_bytes(broken)
    return opened(path)


def number_of(content: str) -> int:
    return int(content.split(":")[1].rstrip("}"))


@pytest.mark.parametrize("last_name", [None, "shed", "roof"])
@pytest.mark.parametrize("has_devices", [True, False])
def test_no_damaged_region_sends_a_reading_under_the_name_that_was_taken_back(
    path: Path, tmp_path: Path, last_name: str | None, *, has_devices: bool
) -> None:
    file, log = taken_back(path, last_name)
    if not has_devices:
        file, log = without_devices(file, log)
    chance = random.Random(f"{SEED} {last_name}")
    recoveries = kept = 0
    for turn in range(DAMAGES):
        with closing(damaged(tmp_path / "left.db", file, log, chance)) as store:
            if store.recovery is None:
                continue
            recoveries += 1
            for name, content in sendable(store):
                number = number_of(content)
                assert name == ("roof" if number >= 100 else last_name), f"turn {turn}: {number} as {name}"
            kept += len(store.records(0, 1_000))
            assert store.faults() == []
    assert recoveries > DAMAGES // 3
    assert kept > 80 * recoveries


def test_a_renaming_that_was_taken_back_and_was_right_after_all_is_one_again(path: Path) -> None:
    with closing(opened(path)) as store:
        append(store, OLD, 1, 2, 3)
        store.change(lambda c: holding.hold(c, OLD, HeldWhy.LOST))
        store.change(lambda c: renaming.rename(c, OLD, "roof"))
        store.change(lambda c: renaming.undo(c, OLD))
        assert [note.is_undone for note in store.look(read_renamings).values() if note] == [True]
        with pytest.raises(UsageError, match="no rename of"):
            store.change(lambda c: renaming.undo(c, OLD))
        store.change(lambda c: renaming.rename(c, OLD, "roof"))
        assert {key: note.is_undone for key, note in store.look(read_renamings).items() if note} == {2: False}
        assert store.change(lambda c: renaming.undo(c, OLD)).moved == 3
