"""Pages of different times, each sound by itself: noticed at the start, and if not then, when it matters."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sungrow_lib.errors import SpoolCorruptError
from sungrow_lib.spool import DurableSpool, Lane, Settlement, SpoolEntry, SpoolOptions, SpoolState
from sungrow_lib.spool.store import SpoolStore
from tests.crash.damage import Files
from tests.crash.readings import Key, key_of, values
from tests.spool.helpers import FakeClock, reading

READINGS = 300
RECOVERING = SpoolOptions(recover=True)


def settled(store: SpoolStore, number: int, lane: Lane) -> None:
    batch = store.offer("inv", number, lane)
    store.settle("inv", Settlement(delivered=[entry.seq for entry in batch]))


def lost_by_the_server(store: SpoolStore) -> None:
    after: int | None = 0
    while after is not None:
        after, _ = store.reoffer("inv", SpoolState.DELIVERED, after)


def mixed(path: Path, clock: FakeClock, batches: int) -> Files:
    """Return a spool beside which the log of an older copy was put: no reading is newer than that."""
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        for number in range(1, READINGS):
            clock.pass_s(5)
            date = datetime.fromtimestamp(clock.wall_ms / 1000, UTC)
            content = json.dumps(values(1, Key("edge", "inv", number), date))
            store.append("inv", clock.wall_ms, content, boot=None, ts_is_final=False)
        store._database.fold_log()
        settled(store, 60, Lane.FRESH)
        older = Files.read(path)
        for _ in range(batches):
            settled(store, 10, Lane.BACKLOG)
        lost_by_the_server(store)
        store._database.fold_log()
        return Files(Files.read(path).file, older.log)


@pytest.mark.parametrize("batches", [4, 9, 15])
def test_the_start_notices_and_recovers(path: Path, tmp_path: Path, batches: int) -> None:
    clock = FakeClock()
    files = mixed(path, clock, batches)
    left = tmp_path / "left.db"
    files.write(left)
    with pytest.raises(SpoolCorruptError):
        SpoolStore(left, SpoolOptions(), clock)
    untouched = Files.read(left)
    assert (untouched.file, untouched.log) == (files.file, files.log)
    with closing(SpoolStore(left, RECOVERING, clock)) as store:
        assert store.recovery is not None
        assert (store.recovery.lost, store.recovery.doubtful) == (0, 0)
        assert store.faults() == []
        records = store.records(0, 1000)
        keys = [key_of(json.loads(record.entry.content)) for record in records]
        assert sorted(key.number for key in keys if key is not None) == list(range(1, READINGS))
        assert {record.entry.state for record in records} == {SpoolState.PENDING}  # the server lost them all
        settled(store, READINGS, Lane.BACKLOG)


async def five(spool: DurableSpool, clock: FakeClock) -> list[SpoolEntry]:
    entries = []
    for _ in range(5):
        clock.pass_s(5)
        entries.append(await spool.append(reading("roof", ts=clock.now())))
    return entries


def at_odds(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO standing VALUES (1, 5, 1, 1, NULL, NULL, NULL)",
        "DELETE FROM standing WHERE seq = 2",
        "UPDATE standing SET seq = 9 WHERE seq = 2",
        "UPDATE standing SET device = 2 WHERE seq = 2",
    ],
)
@pytest.mark.anyio
async def test_tables_at_odds_are_noticed_at_the_start(path: Path, statement: str) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        accepted = await five(spool, clock)
    at_odds(path, statement)
    with pytest.raises(SpoolCorruptError, match="different times"):
        async with DurableSpool.open(path, clock=clock):
            pass
    async with DurableSpool.open(path, clock=clock, options=RECOVERING) as spool:
        assert await spool.faults() == []
        assert [entry.seq for entry in await spool.offer("roof", 10)] == [entry.seq for entry in accepted]


@pytest.mark.anyio
async def test_a_row_where_none_can_be_is_damage_and_recovered(path: Path) -> None:
    """A reading stands at two places: settling fails, and would each time. The check is left out."""
    clock = FakeClock()
    unchecked = SpoolOptions(recover=True, check=False)
    async with DurableSpool.open(path, clock=clock, options=unchecked) as spool:
        accepted = await five(spool, clock)
        at_odds(path, "INSERT INTO standing VALUES (1, 5, 3, 1, NULL, NULL, NULL)")
        with pytest.raises(SpoolCorruptError, match="UNIQUE"):
            await spool.ack("roof", [entry.seq for entry in accepted])
        await spool.wait_damaged()
        damage = spool.damage
    assert damage is not None
    async with DurableSpool.open(path, clock=clock, options=unchecked, damage=damage) as spool:
        assert spool.recovery is not None
        assert spool.recovery.reason == damage
        assert await spool.faults() == []
        assert await spool.offer("roof", 10) == accepted
        assert await spool.ack("roof", [entry.seq for entry in accepted]) == 5
        assert spool.damage is None
