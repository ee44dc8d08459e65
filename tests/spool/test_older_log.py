"""A log that is older than its file, and rows that moved: what stands on any sound page is not lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.errors import SpoolCorruptError
from sungrow_lib.spool import Lane, Settlement, SpoolOptions, SpoolState
from sungrow_lib.spool.pages import read_log
from sungrow_lib.spool.store import SpoolStore
from tests.crash.damage import FRAME, PAGE, Files, frame_places
from tests.crash.readings import Key, key_of, values
from tests.spool.helpers import FakeClock

RECOVERING: Final = SpoolOptions(recover=True)


def append(store: SpoolStore, clock: FakeClock, numbers: range) -> None:
    for number in numbers:
        clock.pass_s(5)
        content = values(1, Key("edge", "inv", number), datetime.fromtimestamp(clock.wall_ms / 1000, UTC))
        store.append("inv", clock.wall_ms, json.dumps(content), boot=None, ts_is_final=False)


def numbers_in(store: SpoolStore) -> set[int]:
    keys = (key_of(json.loads(record.entry.content)) for record in store.records(0, 10_000))
    return {key.number for key in keys if key is not None}


def left(files: Files, path: Path, clock: FakeClock) -> set[int]:
    """Write files, look at them, then let them be recovered; return which readings are there then."""
    files.write(path)
    with pytest.raises(SpoolCorruptError, match="log"):
        SpoolStore(path, SpoolOptions(), clock)
    assert Files.read(path) == files
    with closing(SpoolStore(path, RECOVERING, clock)) as store:
        assert store.recovery is not None
        assert store.faults() == []
        assert all(record.entry.state is SpoolState.PENDING for record in store.records(0, 10_000))
        return numbers_in(store)


@pytest.mark.parametrize("later", [1, 40, 400])
def test_the_log_of_an_older_copy_hides_nothing(path: Path, tmp_path: Path, later: int) -> None:
    clock = FakeClock()
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        append(store, clock, range(1, 200))
        older = Files.read(path)
        append(store, clock, range(200, 200 + later))
        store._database.fold_log()
        newer = Files.read(path)
    found = left(Files(newer.file, older.log), tmp_path / "left.db", clock)
    assert found == set(range(1, 200 + later))


@pytest.mark.parametrize("part", [0.8, 0.9, 1.0])
def test_a_log_cut_short_while_it_was_being_folded_in_hides_nothing(
    path: Path, tmp_path: Path, part: float
) -> None:
    clock = FakeClock()
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        append(store, clock, range(1, 300))
        before = Files.read(path)
    assert before.log is not None
    (tmp_path / "x-wal").write_bytes(before.log)
    newest = read_log(tmp_path / "x-wal").frames
    file = bytearray(before.file.ljust(max(newest) * PAGE, b"\0"))
    for page in sorted(newest)[: round(len(newest) * part)]:  # SQLite folds in that order
        file[(page - 1) * PAGE : page * PAGE] = before.log[newest[page] : newest[page] + PAGE]
    cut = Files(bytes(file), before.log[: len(before.log) // 2])
    there = {key.number for key in cut.keys()}  # noqa: SIM118 - no mapping
    assert len(there) > 100
    assert left(cut, tmp_path / "left.db", clock) == there


def settled(store: SpoolStore, limit: int) -> None:
    batch = store.offer("inv", limit, Lane.BACKLOG)
    store.settle("inv", Settlement(delivered=[entry.seq for entry in batch]))


def damaged_frames(files: Files) -> Iterator[Files]:
    """Yield the files with each of the later frames in turn damaged."""
    assert files.log is not None
    places = frame_places(files.log)
    for place in places[len(places) * 3 // 4 :]:
        log = bytearray(files.log)
        log[place + FRAME - 200] ^= 0xFF
        yield Files(files.file, bytes(log))


def test_what_moved_to_a_damaged_page_is_found_where_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sungrow_lib.spool.database._LOG_LOOKS", 1)
    clock = FakeClock()
    with closing(SpoolStore(path, SpoolOptions(keep_delivered_s=60), clock)) as store:
        for turn in range(6):
            append(store, clock, range(turn * 10 + 1, turn * 10 + 11))
            settled(store, 9)
            store.prune()  # pages that get empty are joined or moved, and their rows with them
            store._database.shrink(5)
        records = [r for r in store.records(0, 10_000) if r.entry.state is SpoolState.PENDING]
        undelivered = {record.entry.seq for record in records}
        files = Files.read(path)
    assert undelivered
    for damaged in damaged_frames(files):
        there = {key.number for key in damaged.keys()}  # noqa: SIM118 - no mapping
        for old in tmp_path.glob("left.db*"):
            old.unlink()
        damaged.write(tmp_path / "left.db")
        with closing(SpoolStore(tmp_path / "left.db", RECOVERING, clock)) as store:
            assert store.faults() == []
            assert undelivered & there <= numbers_in(store)
