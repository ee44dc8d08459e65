"""Readings that were given another name, and never sent, are merged on a full disk as others are."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from sungrow_lib.errors import SpoolFullError
from sungrow_lib.spool import (
    HeldWhy,
    Lane,
    SpoolOptions,
    SpoolRecord,
    SpoolRenaming,
    holding,
    relief,
    renaming,
)
from sungrow_lib.spool.meta import note_merged_renamed
from sungrow_lib.spool.relief import LEFT_ALONE
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, FakeClock
from tests.spool.test_stale_pages import FRAME, left

FULL = SpoolOptions(max_bytes=150_000, merge_when_full=True)
HALF = 250
"""So many readings of each of two devices leave little room in such a spool."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[SpoolStore]:
    """A spool of two held devices whose readings alternate, nearly full."""
    with closing(SpoolStore(path, FULL, clock)) as store:
        for _ in range(HALF):
            for device_id, power in (("cellar", 1_000), ("barn", 9_000)):
                append(store, clock, device_id, power)
        for device_id in ("cellar", "barn"):
            store.change(partial(holding.hold, device_id=device_id, why=HeldWhy.FOREIGN))
        yield store


def append(store: SpoolStore, clock: FakeClock, device_id: str, power: int) -> None:
    clock.pass_s(2.5)
    hard_to_pack = random.Random(clock.wall_ms).randbytes(90).hex()
    content = json.dumps({"pv_power_w": power, "running_state": hard_to_pack, "interval_s": 5.0})
    store.append(device_id, clock.wall_ms, content, boot=clock.stamp(), ts_is_final=False)


def rename(store: SpoolStore, old: str, new: str) -> SpoolRenaming:
    return store.change(lambda c: renaming.rename(c, old, new))


def undo(store: SpoolStore, old: str) -> SpoolRenaming:
    return store.change(lambda c: renaming.undo(c, old))


def append_offered(store: SpoolStore, clock: FakeClock, number: int) -> None:
    """Append what may not be merged: it is on its way to the server."""
    store.expect_offers("roof", are_expected=True)
    for _ in range(number):
        append(store, clock, "roof", 5_000)


def records_of(store: SpoolStore, device_id: str) -> list[SpoolRecord]:
    return [record for record in store.records(0, 10_000) if record.entry.device_id == device_id]


def contents_of(store: SpoolStore, device_id: str) -> list[dict[str, float]]:
    return [json.loads(record.entry.content) for record in records_of(store, device_id)]


def counted(contents: list[dict[str, float]]) -> float:
    """Readings that rows stand for."""
    return sum(content.get("sample_count", 1) for content in contents)


def test_a_renaming_is_noted_once_for_all_of_its_readings_that_are_merged_together(
    store: SpoolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []

    def note(connection: sqlite3.Connection, number: int, readings: int) -> None:
        noted.append(number)
        note_merged_renamed(connection, number, readings)

    monkeypatch.setattr(relief, "note_merged_renamed", note)
    monkeypatch.setattr(relief, "_MERGE_CHUNK", 10_000)
    for old in ("cellar", "barn"):
        rename(store, old, "roof")
    store.relief.make_room(settling=False)
    assert sorted(noted) == [1, 2]
    assert store.relief.merged == store.counts().merged > 20


def test_they_are_merged_under_their_new_name_each_with_its_own(store: SpoolStore, clock: FakeClock) -> None:
    rename(store, "cellar", "roof")
    rename(store, "barn", "roof")
    append_offered(store, clock, 400)
    assert store.counts().merged > 0
    contents = contents_of(store, "roof")
    assert {content["pv_power_w"] for content in contents} == {1_000, 5_000, 9_000}
    for power, number in ((1_000, HALF), (9_000, HALF), (5_000, 400)):
        rows = [content for content in contents if content["pv_power_w"] == power]
        assert counted(rows) == number
        assert (len(rows) < number) is (power != 5_000)
    dates = [record.entry.ts_ms for record in records_of(store, "roof")]
    assert len(set(dates)) == len(dates)
    assert store.faults() == []


def test_what_was_merged_goes_back_with_what_it_was_made_of(store: SpoolStore, clock: FakeClock) -> None:
    rename(store, "cellar", "roof")
    rename(store, "barn", "roof")
    append_offered(store, clock, 400)
    moved = {power: number_of(store, power) for power in (1_000, 9_000)}
    assert undo(store, "cellar") == SpoolRenaming(moved=moved[1_000], left=0)
    assert undo(store, "barn") == SpoolRenaming(moved=moved[9_000], left=0)
    assert counted(contents_of(store, "cellar")) == counted(contents_of(store, "barn")) == HALF
    assert counted(contents_of(store, "roof")) == 400
    assert store.faults() == []


def number_of(store: SpoolStore, power: int) -> int:
    return sum(content["pv_power_w"] == power for content in contents_of(store, "roof"))


def test_what_was_sent_under_a_name_before_is_never_merged(path: Path, clock: FakeClock) -> None:
    with closing(SpoolStore(path, FULL, clock)) as store:
        for _ in range(HALF):
            append(store, clock, "cellar", 1_000)
        sent = {entry.seq for entry in store.offer("cellar", LEFT_ALONE, Lane.BACKLOG)}
        store.change(lambda c: holding.hold(c, "cellar", HeldWhy.FOREIGN))
        rename(store, "cellar", "roof")
        with suppress(SpoolFullError):
            append_offered(store, clock, 1_000)
        assert store.counts().merged == HALF - LEFT_ALONE - 1
        whole = {
            record.entry.seq
            for record in records_of(store, "roof")
            if "sample_count" not in record.entry.content
        }
        assert sent <= whole


def test_none_of_them_comes_back_beside_the_row_it_is_part_of(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    """Where much of the log is damaged older pages count, and name the device it was for a while."""
    options = SpoolOptions(max_bytes=100_000, merge_when_full=True)
    with closing(SpoolStore(path, options, clock)) as store:
        clock.pass_s(900 - NOON_MS / 1000 % 900)
        for number in range(300):
            append_unlike(store, clock, "cellar", number)
        store.change(lambda c: holding.hold(c, "cellar", HeldWhy.FOREIGN))
        rename(store, "cellar", "roof")
        store.expect_offers("roof", are_expected=True)
        while not store.counts().merged:
            append_unlike(store, clock, "roof", int(clock.boot_ms))
        undo(store, "cellar")
        log, file = left(path)
    doubtful = 0
    for seed in range(15):
        doubtful += find_apart(tmp_path / "left.db", with_holes(log, seed), file, clock)
    assert doubtful


def test_what_was_taken_back_puts_no_other_devices_readings_in_doubt(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    """The note of it stays, but what it was about are readings of two devices, and of a while."""
    options = SpoolOptions(max_bytes=100_000, merge_when_full=True)
    with closing(SpoolStore(path, options, clock)) as store:
        append_unlike(store, clock, "cellar", 1)
        store.change(lambda c: holding.hold(c, "cellar", HeldWhy.FOREIGN))
        rename(store, "cellar", "roof")
        undo(store, "cellar")
        while store.counts().merged < 100:
            clock.pass_s(900 - clock.wall_ms / 1000 % 900)
            append_unlike(store, clock, "barn", int(clock.boot_ms))  # alone in its time: it is never merged
            for _ in range(10):
                append_unlike(store, clock, "roof", int(clock.boot_ms))
        log, file = left(path)
    for seed in range(8):
        with closing(recovered(tmp_path / "left.db", with_holes(log, seed), file, clock)) as again:
            found = records_of(again, "barn")
            assert found
            assert [record.code for record in found if record.code == "doubtful"] == []


def with_holes(log: bytes, seed: int) -> bytes:
    """A log of whose pages a fifth is damaged."""
    draw, broken = random.Random(seed), bytearray(log)
    for place in range(32, len(log), FRAME):
        if draw.random() < 0.2:
            broken[place + 24 + 300] ^= 0xFF
    return bytes(broken)


def recovered(path: Path, log: bytes, file: bytes, clock: FakeClock) -> SpoolStore:
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    path.write_bytes(file)
    Path(f"{path}-wal").write_bytes(log)
    return SpoolStore(path, SpoolOptions(max_bytes=400_000, merge_when_full=True, recover=True), clock)


def find_apart(path: Path, log: bytes, file: bytes, clock: FakeClock) -> int:
    """Recover a spool and look that nothing sent is part of a merged row; return how many are set apart."""
    with closing(recovered(path, log, file, clock)) as store:
        assert store.recovery is not None
        records = store.records(0, 10_000)
    sound = {record.entry.seq for record in records if record.code != "doubtful"}
    for record in records:
        count = json.loads(record.entry.content)["sample_count"]
        if record.code != "doubtful":
            assert not sound & set(range(record.entry.seq - count + 1, record.entry.seq))
    return store.recovery.doubtful


def append_unlike(store: SpoolStore, clock: FakeClock, device_id: str, number: int) -> None:
    clock.pass_s(5)
    content = json.dumps({"pv_power_w": number * 7919 % 9973, "sample_count": 1, "interval_s": 5.0})
    store.append(device_id, clock.wall_ms, content, boot=clock.stamp(), ts_is_final=True)
