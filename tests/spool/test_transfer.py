"""Readings carried from one spool to another arrive as they were, and once."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sungrow_lib.errors import UsageError
from sungrow_lib.spool import DurableSpool, Judged, Lane, Settlement, SpoolOptions, SpoolRecord, SpoolState
from sungrow_lib.spool.transfer import head_line, read_lines, record_line, tail_line
from tests.spool.helpers import FakeClock, reading

pytestmark = pytest.mark.anyio


async def fill_variously(spool: DurableSpool, clock: FakeClock) -> None:
    """Readings of two devices in every state there is."""
    for number in range(20):
        clock.pass_s(5)
        device_id = "roof" if number % 2 else "garage"
        sample = reading(device_id, clock.now(), pv_power_w=number, battery_soc_pct=number / 10)
        await spool.append(sample.model_copy(update={"running_state": "läuft", "alarm_codes": [number]}))
    await spool.offer("roof", 10)
    settlement = Settlement(
        delivered=[2, 4],
        conflicts=[Judged(6, "different_value", "another value is stored")],
        rejected=[Judged(8, "invalid", 'a "reason"\nof two lines')],
        deferred=[Judged(10, "future", "ahead"), Judged(12, "device_deleted", "gone")],
    )
    await spool.settle("roof", settlement)
    clock.reboot("boot-2")
    clock.synchronised = False
    clock.step_s(-3600)
    await spool.append(reading("roof", clock.now(), pv_power_w=99))


async def exported(spool: DurableSpool) -> list[str]:
    lines = [record_line(record) async for record in spool.records()]
    return [head_line(spool.identity), *lines, tail_line(len(lines))]


async def test_an_export_comes_back_exactly(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill_variously(spool, clock)
        records = [record async for record in spool.records()]
        lines = await exported(spool)
    assert {record.entry.state for record in records} == set(SpoolState)
    assert [json.loads(line)["content"] for line in lines[1:-1]] == [
        json.loads(record.entry.content) for record in records
    ]
    async with DurableSpool.open(path.with_name("other.db"), clock=clock) as other:
        before = other.identity
        done = await other.import_records(read_lines(lines))
        assert (done.imported, done.known, done.different) == (21, 0, ())
        assert [record async for record in other.records()] == records
        assert (await exported(other))[1:] == lines[1:]
        assert other.identity.generation not in {before.generation, json.loads(lines[0])["generation"]}
        assert other.identity.edge_id == before.edge_id
        assert await other.faults() == []


async def test_delivered_readings_that_came_are_named_to_the_server(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        for number in range(60):
            await spool.append(reading("roof" if number % 2 else "garage", clock.now(), pv_power_w=number))
            clock.pass_s(5)
        for first in range(2, 50, 4):
            await spool.ack("roof", [first + 2, first])
            clock.pass_s(1)
        await spool.ack("garage", [1, 3])
        lines = await exported(spool)
        named = {device: await spool.last_delivered(device) for device in ("roof", "garage")}
    assert [len(dates) for dates in named.values()] == [12, 1]
    async with DurableSpool.open(path.with_name("other.db"), clock=clock) as other:
        await other.import_records(read_lines(lines))
        assert {device: await other.last_delivered(device) for device in named} == named
        # Of its own batches those stay in the list that are among the latest.
        for seq in range(52, 61, 2):
            clock.pass_s(1)
            await other.ack("roof", [seq])
        latest = await other.last_delivered("roof")
        assert latest[5:] == named["roof"][:11]
        await other.import_records(read_lines(lines))
        assert await other.last_delivered("roof") == latest


async def test_readings_that_were_not_delivered_name_nothing(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await spool.append(reading(ts=clock.now()))
        lines = await exported(spool)
    async with DurableSpool.open(path.with_name("other.db"), clock=clock) as other:
        clock.pass_s(5)
        entry = await other.append(reading(ts=clock.now()))
        await other.ack("inv", [entry.seq])
        await other.import_records(read_lines(lines))
        assert await other.last_delivered("inv") == [clock.now()]


async def test_importing_again_changes_nothing(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill_variously(spool, clock)
        lines, identity = await exported(spool), spool.identity
        done = await spool.import_records(read_lines(lines))
        assert (done.imported, done.known) == (0, 21)
        assert await exported(spool) == lines
        assert spool.identity == identity


async def test_a_reading_dated_since_the_export_is_known_by_its_boot_clock(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill_variously(spool, clock)
        lines = await exported(spool)
        clock.step_s(7200)
        clock.synchronised = True
        assert await spool.release_waiting()
        dated = await exported(spool)
        assert dated != lines
        assert (await spool.import_records(read_lines(lines))).imported == 0
    other_path = path.with_name("other.db")
    clock.synchronised = False
    async with DurableSpool.open(other_path, clock=clock) as other:
        await other.import_records(read_lines(lines))  # waits there
        assert (await other.import_records(read_lines(dated))).imported == 0


async def test_an_older_copy_and_what_came_since_become_one(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill_variously(spool, clock)
        old = await exported(spool)
    async with DurableSpool.open(path.with_name("new.db"), clock=clock) as spool:
        clock.synchronised = True
        clock.step_s(7200)
        for number in range(5):
            clock.pass_s(5)
            await spool.append(reading("roof", clock.now(), pv_power_w=number))
        new = [record async for record in spool.records()]
        done = await spool.import_records(read_lines(old))
        assert done.imported == 21
        records = [record async for record in spool.records()]
        assert records[:5] == new
        assert [record.entry.seq for record in records] == list(range(1, 27))
        # The newest number belongs to an old reading now; dates go on after the newest date all the same.
        clock.step_s(-60)
        entry = await spool.append(reading("roof", clock.now()), ts_is_final=True)
        assert entry.ts_ms == max(record.entry.ts_ms for record in records if record.code != "future") + 1


async def test_another_value_of_the_same_moment_is_left_out_and_named(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        entry = await spool.append(reading(ts=clock.now(), pv_power_w=1))
        [record] = [record async for record in spool.records()]
        other = replace(record, entry=entry._replace(seq=7, kept='{"pv_power_w":2}'))
        done = await spool.import_records([other])
        assert (done.imported, done.known, done.different) == (0, 0, (7,))
        assert [record async for record in spool.records()] == [record]


async def test_a_spool_in_use_notices_the_new_generation(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool, DurableSpool.open(path, clock=clock) as beside:
        entry = await spool.append(reading(ts=clock.now()))
        [record] = [record async for record in spool.records()]
        later = replace(record, entry=entry._replace(ts_ms=entry.ts_ms + 5_000))
        assert (await beside.import_records([later])).imported == 1
        assert len(await spool.offer("inv", 10)) == 2
        assert spool.identity == beside.identity


async def test_many_chunks_and_appends_in_between(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sungrow_lib.spool.durable.CHUNK", 50)
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        for _ in range(500):
            clock.pass_s(5)
            await spool.append(reading(ts=clock.now(), pv_power_w=1))
        records = [record async for record in spool.records()]
    async with DurableSpool.open(path.with_name("other.db"), clock=clock) as other:

        async def append_the_same(record: SpoolRecord) -> None:
            """As if the reading had come another way while the import ran."""
            store = other._store
            store.append("inv", record.entry.ts_ms, record.entry.content, boot=record.stamp, ts_is_final=True)

        first = await other.import_records(records[:100])
        importer = await other._run(other._store.importer)
        await other._run(lambda: other._store.import_chunk(importer, records[100:150]))
        await append_the_same(records[150])
        second = await other._run(lambda: other._store.import_chunk(importer, records[149:200]))
        assert (first.imported, second.imported, second.known) == (100, 49, 2)
        assert (await other.import_records(records)).imported == 300
        kept = [record.entry.ts_ms async for record in other.records()]
        assert sorted(kept) == [record.entry.ts_ms for record in records]


LINE: dict[str, Any] = {
    "seq": 1,
    "device_id": "roof",
    "ts": "2026-06-01T12:00:00.000Z",
    "state": "pending",
    "boot_id": "b",
    "boot_ms": 1,
    "content": {"pv_power_w": 1},
}
HEAD = '{"spool_export":1,"edge_id":"e","generation":"g"}'


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seq": 0}, "line 2: .*seq"),
        ({"seq": 2**60}, "line 2: .*seq"),
        ({"device_id": "my roof"}, "line 2: .*device_id"),
        ({"ts": "yesterday"}, "line 2: .*ts"),
        ({"state": "lost"}, "line 2: .*must be one of pending, waiting"),
        ({"content": {"pv_power_w": "many"}}, "line 2: .*pv_power_w"),
        ({"content": {"pv_poker_w": 1}}, "line 2: .*pv_poker_w"),
        ({"colour": "red"}, "line 2: .*colour"),
    ],
)
def test_a_wrong_line_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(read_lines([HEAD, json.dumps(LINE | change), tail_line(1)]))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: is not the first line"),
        (["my diary"], "line 1: is not the first line"),
        ([HEAD], "not complete"),
        ([HEAD, json.dumps(LINE)], "not complete"),
        ([HEAD, json.dumps(LINE), tail_line(2)], "not complete"),
        ([HEAD, json.dumps(LINE)[:-9]], "ends in the middle of line 2: it was cut off; .*--partial"),
        ([HEAD, json.dumps(LINE), tail_line(1)[:-1]], "ends in the middle of line 3: it was cut off"),
        ([HEAD[:-9]], "ends in the middle of line 1: it was cut off; copy or export it anew$"),
        ([HEAD, json.dumps(LINE)[:-9] + "\n", tail_line(1)], "line 2: is not a reading"),
        ([HEAD, tail_line(0), json.dumps(LINE)], "line 3: comes after"),
    ],
)
def test_an_export_with_a_part_missing_is_refused(lines: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(read_lines(lines))


def test_a_part_that_is_meant_is_taken() -> None:
    assert len(list(read_lines([HEAD, json.dumps(LINE)], partial=True))) == 1


async def test_broken_rules_are_found(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill_variously(spool, clock)
        assert await spool.faults() == []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM standing WHERE seq = 3")
        connection.execute("INSERT INTO standing (device, state, seq) VALUES (1, 0, 777)")
        connection.execute("UPDATE reading SET content = '{' WHERE seq = 5")
        connection.execute("UPDATE reading SET ts = (SELECT ts FROM reading WHERE seq = 7) WHERE seq = 9")
        connection.commit()
    async with DurableSpool.open(path, clock=clock, options=SpoolOptions(check=False)) as spool:
        faults = await spool.faults()
    assert [fault.split(", the first is ")[1] for fault in faults] == ["3", "777", "5", "7"]


@pytest.mark.parametrize("is_trusted", [True, False])
@pytest.mark.parametrize("state", ["pending", "delivered", "rejected"])
async def test_a_reading_of_the_future_is_kept_apart_and_dates_no_other(
    path: Path, state: str, *, is_trusted: bool
) -> None:
    clock = FakeClock(synchronised=is_trusted)
    line = LINE | {"ts": "9999-12-31T23:59:59.999Z", "state": state, "at": "2026-06-01T12:00:00.000Z"}
    lines = [HEAD, json.dumps(line), tail_line(1)]
    async with DurableSpool.open(path, clock=clock) as spool:
        await spool.append(reading("roof", clock.now()), ts_is_final=True)
        done = await spool.import_records(read_lines(lines))
        assert (done.imported, done.ahead) == (1, 1)
        assert (await spool.import_records(read_lines(lines))).known == 1
        assert [(record.entry.state, record.code) async for record in spool.records()][1:] == [
            (SpoolState.DEFERRED, "future")
        ]
        assert "ahead" in str([record.reason async for record in spool.records()][1])
        clock.pass_s(5)
        clock.synchronised = True
        entry = await spool.append(reading("roof", clock.now()))
        assert (entry.state, entry.ts) == (SpoolState.PENDING, clock.now())
        assert [entry.seq for entry in await spool.offer("roof", 10, Lane.DUE)] == [2]
        assert await spool.faults() == []


async def test_a_reading_that_waits_with_a_date_of_the_future_gets_one_of_the_past(path: Path) -> None:
    clock = FakeClock()
    line = LINE | {"ts": "9999-12-31T23:59:59.999Z", "state": "waiting"}
    async with DurableSpool.open(path, clock=clock) as spool:
        await spool.import_records(read_lines([HEAD, json.dumps(line), tail_line(1)]))
        assert await spool.release_waiting()
        clock.pass_s(5)
        entry = await spool.append(reading("roof", clock.now()))
        assert (entry.state, entry.ts) == (SpoolState.PENDING, clock.now())
        [first, _] = [record.entry async for record in spool.records()]
        assert first.ts <= clock.now()


async def test_a_reading_a_little_ahead_is_as_any_other(path: Path) -> None:
    """The clock of the edge it comes from need not be this one's."""
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        line = LINE | {"ts": "2026-06-01T12:09:00.000Z"}
        done = await spool.import_records(read_lines([HEAD, json.dumps(line), tail_line(1)]))
        assert (done.imported, done.ahead) == (1, 0)
        assert [record.entry.state async for record in spool.records()] == [SpoolState.PENDING]


async def test_a_doubtful_reading_of_the_future_is_not_sent_for_its_date(path: Path) -> None:
    clock = FakeClock(synchronised=False)
    doubt = {"state": "conflict", "code": "doubtful", "reason": "its date may have changed"}
    line = LINE | doubt | {"ts": "2098-12-31T23:59:59.999Z", "at": "2026-06-01T12:00:00.000Z"}
    async with DurableSpool.open(path, clock=clock) as spool:
        await spool.import_records(read_lines([HEAD, json.dumps(line), tail_line(1)]))
        assert await spool.offer("roof", 10, Lane.DUE) == []
        [record] = [record async for record in spool.records()]
        assert (record.entry.state, record.code) == (SpoolState.CONFLICT, "doubtful")
        clock.pass_s(5)
        clock.synchronised = True
        entry = await spool.append(reading("roof", clock.now()))
        assert (entry.state, entry.ts) == (SpoolState.PENDING, clock.now())
