"""Damage in the log leaves older versions of pages: what they say must not double a reading or misdate it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.spool import Lane, Settlement, SpoolOptions, SpoolState, database
from sungrow_lib.spool.schema import PAGE_BYTES
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, FakeClock

FRAME: Final = 24 + PAGE_BYTES
BEHIND_S: Final = 5 * 3600
WAITING: Final = 60
OFFERED: Final = 30


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged log is looked at again after a pause, as another program may write it; here, none does.

    One after the other, thousands of logs are damaged: most of the time of these tests were such pauses.
    """
    monkeypatch.setattr(database, "_LOG_LOOK_S", 0)


def damaged(
    path: Path, log: bytes, file: bytes, options: SpoolOptions, clock: FakeClock
) -> Iterator[SpoolStore]:
    """Open what is left when each frame of the log in turn is damaged, and a recovery was needed."""
    for place in range(32, len(log), FRAME):
        for old in path.parent.glob(f"{path.name}*"):
            old.unlink()
        broken = bytearray(log)
        broken[place + 24 + 300] ^= 0xFF
        path.write_bytes(file)
        Path(f"{path}-wal").write_bytes(broken)
        with closing(SpoolStore(path, options, clock)) as store:
            if store.recovery is not None:
                yield store


def left(path: Path) -> tuple[bytes, bytes]:
    return Path(f"{path}-wal").read_bytes(), path.read_bytes()


def send(store: SpoolStore, server: dict[int, str]) -> None:
    """Deliver all there is, as a server takes it: each date once."""
    store.release()
    while batch := store.offer("roof", 500, Lane.BACKLOG) or store.offer("roof", 500, Lane.FRESH):
        server.update({entry.ts_ms: entry.content for entry in batch if entry.ts_ms not in server})
        store.settle("roof", Settlement(delivered=[entry.seq for entry in batch]))


def append(store: SpoolStore, clock: FakeClock, number: int) -> int:
    clock.pass_s(5)
    content = f'{{"pv_power_w":{number * 7},"load_power_w":{number * 13}}}'
    return store.append("roof", clock.wall_ms, content, boot=None, ts_is_final=False).seq


def test_readings_dated_meanwhile_are_neither_doubled_nor_misdated(path: Path, tmp_path: Path) -> None:
    clock = FakeClock(synchronised=False)
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        right = {append(store, clock, number): clock.wall_ms + BEHIND_S * 1000 for number in range(WAITING)}
    server: dict[int, str] = {}
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        clock.step_s(BEHIND_S)
        clock.synchronised = True
        store.release()
        server |= {entry.ts_ms: entry.content for entry in store.offer("roof", OFFERED, Lane.BACKLOG)}
        right |= {append(store, clock, WAITING + number): clock.wall_ms for number in range(3)}
        log, file = left(path)
    assert len(server) == OFFERED
    recoveries = doubtful = 0
    for recovered in damaged(tmp_path / "left.db", log, file, SpoolOptions(recover=True), clock):
        assert recovered.recovery is not None
        taken = dict(server)
        send(recovered, taken)
        assert len(set(taken.values())) == len(taken)
        assert set(taken) <= set(right.values())
        apart = [record for record in recovered.records(0, 1000) if record.code == "doubtful"]
        assert len(apart) == recovered.recovery.doubtful
        assert all(record.entry.state is SpoolState.CONFLICT for record in apart)
        assert len(taken) + len(apart) + recovered.recovery.lost >= len(right)
        assert recovered.faults() == []
        recoveries, doubtful = recoveries + 1, doubtful + len(apart)
    assert recoveries > 3
    assert doubtful


def test_readings_that_still_wait_go_on_waiting(path: Path, tmp_path: Path) -> None:
    clock = FakeClock(synchronised=False)
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        right = {append(store, clock, number): clock.wall_ms + BEHIND_S * 1000 for number in range(WAITING)}
        log, file = left(path)
    clock.step_s(BEHIND_S)
    recoveries = 0
    for recovered in damaged(tmp_path / "left.db", log, file, SpoolOptions(recover=True), clock):
        clock.synchronised = True
        recovered.release()
        waited = [record.entry for record in recovered.records(0, 1000) if record.code != "doubtful"]
        # A boot whose name is lost relates to nothing: its readings say that their date is an estimate.
        taken = {entry.ts_ms for entry in waited if entry.clock_source != "estimated"}
        assert taken <= set(right.values())
        if any(record.stamp.boot_id.startswith("lost") for record in recovered.records(0, 1000)):
            continue
        assert recovered.recovery is not None
        assert recovered.recovery.doubtful == 0
        assert len(taken) == recovered.recovery.saved
        recoveries += 1
    assert recoveries > 3


def test_readings_merged_away_do_not_come_back_beside_the_merged_one(path: Path, tmp_path: Path) -> None:
    clock, number = FakeClock(), 0
    options = SpoolOptions(max_bytes=100_000, merge_when_full=True)
    quarter = NOON_MS - NOON_MS % 900_000
    with closing(SpoolStore(path, options, clock)) as store:
        while store.counts().merged < 1 or number % 20:
            content = json.dumps({"pv_power_w": number * 7919 % 9973, "sample_count": 1, "interval_s": 5.0})
            store.append("roof", quarter + number * 5000, content, boot=None, ts_is_final=True)
            number += 1
        log, file = left(path)
    recoveries = 0
    recovering = SpoolOptions(max_bytes=100_000, merge_when_full=True, recover=True)
    for recovered in damaged(tmp_path / "left.db", log, file, recovering, clock):
        records = [record for record in recovered.records(0, 10_000) if record.code != "doubtful"]
        contents = [json.loads(record.entry.content) for record in records]
        for record, content in zip(records, contents, strict=True):
            if (count := content["sample_count"]) > 1:
                inside = range(record.entry.seq - count + 1, record.entry.seq)
                assert not [other for other in records if other.entry.seq in inside]
        recoveries += 1
    assert recoveries > 3


@pytest.mark.parametrize("interval_s", [5.0, 5.02, 20.0])
def test_what_was_offered_is_no_part_of_a_merged_row(path: Path, interval_s: float) -> None:
    """The first page is lost, so which pages are in use is not known; what was offered was never merged."""
    clock, number = FakeClock(), 0
    options = SpoolOptions(max_bytes=100_000, merge_when_full=True)
    with closing(SpoolStore(path, options, clock)) as store:
        while store.counts().merged < 100:
            clock.pass_s(5)
            content = json.dumps(
                {"pv_power_w": number * 7919 % 9973, "sample_count": 1, "interval_s": interval_s}
            )
            store.append("roof", clock.wall_ms, content, boot=clock.stamp(), ts_is_final=True)
            number += 1
        send(store, {})
        after: int | None = 0
        while after is not None:
            after, _ = store.reoffer("roof", SpoolState.DELIVERED, after)
        rows = len(store.records(0, 10_000))
    file = path.read_bytes()
    path.write_bytes(bytes(PAGE_BYTES) + file[PAGE_BYTES:])
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock)) as store:
        assert store.recovery is not None
        assert (store.recovery.saved, store.recovery.doubtful) == (rows, 0)
        server: dict[int, str] = {}
        send(store, server)
        assert sum(json.loads(content)["sample_count"] for content in server.values()) == number


def test_what_was_offered_again_is_not_called_delivered_because_an_older_page_says_so(
    path: Path, tmp_path: Path
) -> None:
    """The server lost all, said so, and then a page was damaged that says what is offered again."""
    clock = FakeClock()
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        contents = {append(store, clock, number) for number in range(WAITING)}
        send(store, {})
        after: int | None = 0
        while after is not None:
            after, _ = store.reoffer("roof", SpoolState.DELIVERED, after)
        for number in range(2):  # the very last commit may as well have been cut off by the power
            append(store, clock, WAITING + number)
        log, file = left(path)
    recoveries = 0
    for recovered in damaged(tmp_path / "left.db", log, file, SpoolOptions(recover=True), clock):
        assert recovered.recovery is not None
        server: dict[int, str] = {}
        send(recovered, server)
        assert len(server) + recovered.recovery.lost >= len(contents)
        recoveries += 1
    assert recoveries > 3
