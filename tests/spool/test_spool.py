"""What a spool promises, on real files."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import (
    DurableSpool,
    Judged,
    Lane,
    Settlement,
    SpoolOptions,
    SpoolState,
)
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON, NOON_MS, FakeClock, reading

pytestmark = pytest.mark.anyio


async def fill(spool: DurableSpool, clock: FakeClock, count: int, device_id: str = "inv") -> list[int]:
    seqs = []
    for number in range(count):
        clock.pass_s(5)
        sample = reading(device_id, clock.now(), pv_power_w=number)
        seqs.append((await spool.append(sample, boot=clock.stamp())).seq)
    return seqs


async def offered(spool: DurableSpool, limit: int, lane: Lane = Lane.FRESH, bound: int = 0) -> list[int]:
    return [entry.seq for entry in await spool.offer("inv", limit, lane, bound=bound)]


# --- accepting -------------------------------------------------------------------------------------------


async def test_content_comes_out_as_it_went_in(spool: DurableSpool) -> None:
    sample = reading(
        pv_power_w=4321, battery_power_w=-17, battery_soc_pct=55.5, grid_frequency_hz=49.98, interval_s=5.003
    ).model_copy(update={"mppt_voltage_v": [610.2, None, 588.0], "running_state": 'Läuft äöü " \\ </x>'})
    entry = await spool.append(sample)
    (back,) = await spool.offer("inv", 10)
    assert back == entry
    assert json.loads(back.content) == sample.content()
    assert SungrowSample.model_validate_json(back.to_json()) == sample


async def test_an_empty_reading_is_a_reading(spool: DurableSpool) -> None:
    sample = SungrowSample(device_id="inv", ts=NOON)
    entry = await spool.append(sample)
    assert SungrowSample.model_validate_json(entry.to_json()) == sample


async def test_dates_increase_strictly_per_device(spool: DurableSpool, clock: FakeClock) -> None:
    first = await spool.append(reading("a"), ts_is_final=True)
    second = await spool.append(reading("a"), ts_is_final=True)
    third = await spool.append(reading("a", NOON - timedelta(hours=1)), ts_is_final=True)
    other = await spool.append(reading("b"), ts_is_final=True)
    assert [entry.ts_ms for entry in (first, second, third, other)] == [
        NOON_MS,
        NOON_MS + 1,
        NOON_MS + 2,
        NOON_MS,
    ]
    del clock


async def test_dates_increase_strictly_after_everything_was_delivered_and_reopened(path: Path) -> None:
    async with DurableSpool.open(path, clock=FakeClock()) as spool:
        entry = await spool.append(reading(), ts_is_final=True)
        await spool.ack("inv", [entry.seq])
    async with DurableSpool.open(path, clock=FakeClock()) as spool:
        assert (await spool.append(reading(), ts_is_final=True)).ts_ms == NOON_MS + 1


async def test_a_number_is_never_used_twice(path: Path, clock: FakeClock) -> None:
    options = SpoolOptions(keep_delivered_s=0)
    seen: set[int] = set()
    for _ in range(3):
        async with DurableSpool.open(path, clock=clock, options=options) as spool:
            seqs = await fill(spool, clock, 4)
            assert seen.isdisjoint(seqs)
            seen.update(seqs)
            await spool.ack("inv", seqs)
            clock.pass_s(60)
            await spool.prune()
            assert (await spool.counts()).delivered == 1  # the last row stays, for its number and its date


async def test_the_file_itself_guards_the_highest_number(
    spool: DurableSpool, path: Path, clock: FakeClock
) -> None:
    await fill(spool, clock, 2)
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="must stay"):
        connection.execute("DELETE FROM reading")
    connection.close()


async def test_identity_lasts_and_a_restore_starts_a_generation(path: Path) -> None:
    async with DurableSpool.open(path) as spool:
        first = spool.identity
    async with DurableSpool.open(path) as spool:
        assert spool.identity == first
        renewed = await spool.renew_generation()
        assert spool.identity == renewed
    assert renewed.edge_id == first.edge_id
    assert renewed.generation != first.generation


async def test_commits_are_synced_and_small(spool: DurableSpool, path: Path, clock: FakeClock) -> None:
    connection = spool._store._database._connection
    assert connection is not None
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await fill(spool, clock, 20)
    log = path.with_name(path.name + "-wal")
    before = log.stat().st_size
    await fill(spool, clock, 100)
    assert (log.stat().st_size - before) / 100 < 6_000


# --- offering and settling -------------------------------------------------------------------------------


async def test_fresh_takes_the_newest_backlog_the_oldest(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 10)
    assert await offered(spool, 3) == [8, 9, 10]
    assert await offered(spool, 3, Lane.BACKLOG) == [1, 2, 3]
    assert [e.seq for e in await spool.offer("inv", 3, Lane.BACKLOG, skip={1, 2, 3})] == [4, 5, 6]
    assert [e.seq for e in await spool.offer("inv", 9, Lane.BACKLOG, skip={1})] == []
    assert await offered(spool, 10, Lane.BACKLOG) == []  # that would be the fresh lane's batch


async def test_backlog_and_fresh_share_every_reading_between_them(
    spool: DurableSpool, clock: FakeClock
) -> None:
    await fill(spool, clock, 7)
    fresh, backlog = await offered(spool, 3), await offered(spool, 3, Lane.BACKLOG)
    rest = [e.seq for e in await spool.offer("inv", 3, Lane.BACKLOG, skip=set(backlog))]
    assert sorted(fresh + backlog + rest) == list(range(1, 8))


async def test_a_bound_moves_readings_from_fresh_to_backlog(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 5)
    assert await offered(spool, 10, Lane.FRESH, bound=3) == [4, 5]
    assert await offered(spool, 10, Lane.BACKLOG, bound=3) == [1, 2, 3]


async def test_peek_changes_nothing_offer_is_durable(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 2)
    await spool.peek("inv", 1)
    assert [r.offered async for r in spool.records()] == [False, False]
    await spool.offer("inv", 1)
    assert [r.offered async for r in spool.records()] == [False, True]


async def test_settling_moves_each_reading_where_it_belongs(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 5)
    moved = await spool.settle(
        "inv",
        Settlement(
            delivered=[1, 2],
            conflicts=[Judged(3, "different_value", "3 is not 4")],
            rejected=[Judged(4, "invalid", "no")],
            deferred=[Judged(5, "device_deleted", "later")],
        ),
    )
    assert moved == 5
    counts = await spool.counts()
    assert (counts.delivered, counts.conflicts, counts.rejected, counts.deferred) == (2, 1, 1, 1)
    assert (counts.accepted, counts.pending, counts.quarantined) == (5, 0, 2)
    quarantined = [r async for r in spool.records(SpoolState.CONFLICT, SpoolState.REJECTED)]
    assert [(r.entry.seq, r.code, r.reason) for r in quarantined] == [
        (3, "different_value", "3 is not 4"),
        (4, "invalid", "no"),
    ]


async def test_a_settled_reading_does_not_move_again(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 1)
    assert await spool.ack("inv", [1]) == 1
    assert await spool.settle("inv", Settlement(rejected=[Judged(1, "invalid", "late answer")])) == 0
    assert (await spool.counts()).delivered == 1


async def test_one_device_never_settles_anothers(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 1, "a")
    assert await spool.ack("b", [1]) == 0
    assert (await spool.counts("a")).pending == 1


async def test_deferred_readings_are_due_after_their_time(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 2)
    await spool.settle("inv", Settlement(deferred=[Judged(1, "device_deleted", "")], retry_in_s=300))
    assert await offered(spool, 10) == [2]
    clock.pass_s(299)
    assert await offered(spool, 10, Lane.DUE) == []
    clock.pass_s(2)
    assert await offered(spool, 10, Lane.DUE) == [1]
    clock.step_s(-10 * 86_400)  # the clock was ahead by days: "in ten days" must not be taken at its word
    assert await offered(spool, 10, Lane.DUE) == [1]


@pytest.mark.parametrize("step_s", [-86_400, -250, -100, 100, 250, 86_400])
@pytest.mark.parametrize("before_s", [0, 200])
async def test_a_deferral_lasts_as_long_however_the_clock_is_set(
    spool: DurableSpool, clock: FakeClock, step_s: int, before_s: int
) -> None:
    await fill(spool, clock, 6)
    for seq in (1, 2):
        await spool.settle("inv", Settlement(deferred=[Judged(seq, "future", "")], retry_in_s=300))
        clock.step_s(-1)  # two of one date
        clock.pass_s(1)
    clock.pass_s(before_s)
    clock.step_s(step_s)
    await spool.release_waiting()
    clock.pass_s(297 - before_s)
    assert await spool.peek("inv", 10, Lane.DUE) == []
    clock.pass_s(1)
    assert [entry.seq for entry in await spool.peek("inv", 10, Lane.DUE)] == [1]
    clock.pass_s(1)
    assert [entry.seq for entry in await spool.peek("inv", 10, Lane.DUE)] == [1, 2]
    await spool.settle("inv", Settlement(deferred=[Judged(2, "future", "")], retry_in_s=300))
    assert await offered(spool, 10, Lane.DUE) == [1]


@pytest.mark.parametrize("step_s", [-86_400, -100, 0, 86_400])
async def test_a_deferral_ends_with_a_restart_at_the_latest(
    path: Path, clock: FakeClock, step_s: int
) -> None:
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill(spool, clock, 2)
        await spool.settle("inv", Settlement(deferred=[Judged(1, "future", "")], retry_in_s=300))
    clock.step_s(step_s)
    async with DurableSpool.open(path, clock=clock) as spool:
        assert await offered(spool, 10, Lane.DUE) == [1]


async def test_a_deferral_written_later_counts_from_its_answer(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 2)
    await spool.settle_later("inv", Settlement(deferred=[Judged(1, "future", "")], retry_in_s=300))
    clock.pass_s(100)
    clock.step_s(-86_400)
    assert (await spool.counts()).deferred == 1  # which writes it
    clock.pass_s(199)
    assert await spool.peek("inv", 10, Lane.DUE) == []
    clock.pass_s(1)
    assert await offered(spool, 10, Lane.DUE) == [1]


async def test_last_delivered_names_the_last_row_of_the_latest_batches(
    spool: DurableSpool, clock: FakeClock
) -> None:
    await fill(spool, clock, 40)
    for seq in range(1, 41, 2):
        await spool.ack("inv", [seq, seq + 1])
    latest = await spool.last_delivered("inv")
    assert len(latest) == 16
    assert latest[0] == clock.now()
    assert latest[-1] == clock.now() - timedelta(seconds=15 * 10)
    assert await spool.last_delivered("nobody") == []


async def test_a_batch_of_conflicts_alone_is_named_too(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 2)
    await spool.settle("inv", Settlement(conflicts=[Judged(2, "different_value", "")]))
    assert await spool.last_delivered("inv") == [clock.now()]  # the server keeps it aside, and may lose it


async def test_a_witness_is_named_behind_its_batch_and_stays_where_it_is(
    spool: DurableSpool, clock: FakeClock
) -> None:
    await fill(spool, clock, 6)
    await spool.ack("inv", [5, 6])
    assert [entry.seq for entry in await spool.last_new("inv", 1)] == [5, 6]
    assert await spool.last_new("nobody", 8) == []
    before = [record async for record in spool.records(SpoolState.DELIVERED)]
    assert await spool.settle("inv", Settlement(delivered=[1, 2], witness=5)) == 2
    dates = {record.entry.seq: record.entry.ts async for record in spool.records()}
    assert await spool.last_delivered("inv") == [dates[5], dates[2], dates[6]]
    assert [record async for record in spool.records(SpoolState.DELIVERED)][2:] == before


async def test_what_was_known_keeps_the_date_of_its_first_delivery(
    spool: DurableSpool, clock: FakeClock
) -> None:
    await fill(spool, clock, 6)

    async def order() -> list[int]:
        return [entry.seq for entry in await spool.last_new("inv", 2)]

    for seqs in ([1, 2], [5, 6], [3, 4]):
        await spool.ack("inv", seqs)
        clock.pass_s(60)
    assert await order() == [5, 6, 3, 4]
    await spool.reoffer("inv")
    assert await order() == []
    await spool.settle("inv", Settlement(delivered=[3, 4, 5], were_known=True))
    await spool.settle("inv", Settlement(delivered=[1, 2]))
    await spool.settle("inv", Settlement(delivered=[6], were_known=True))
    assert await order() == [3, 4, 1, 2]
    dates = {record.entry.seq: record.at async for record in spool.records()}
    assert dates[5] == dates[6] == clock.now() - timedelta(seconds=120)
    clock.pass_s(14 * 86_400 - 90)
    assert await spool.prune() == 1  # two weeks from when it was delivered; the newest one stays


async def test_a_deferred_reading_is_delivered_when_it_is_even_if_it_was_known(
    spool: DurableSpool, clock: FakeClock
) -> None:
    await fill(spool, clock, 1)
    await spool.settle("inv", Settlement(deferred=[Judged(1, "device_deleted", "")]))
    await spool.settle("inv", Settlement(delivered=[1], were_known=True))
    [record] = [record async for record in spool.records()]
    assert record.at == clock.now()


async def test_what_is_answered_while_all_is_offered_again_stays_named(
    spool: DurableSpool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(spool, clock, 2)
    await spool.ack("inv", [1])
    forget = SpoolStore.forget_answered

    def answered_before(store: SpoolStore, device_id: str, until: int) -> None:
        store.settle("inv", Settlement(delivered=[2]))  # said before the server lost what it had
        forget(store, device_id, until)

    monkeypatch.setattr(SpoolStore, "forget_answered", answered_before)
    assert await spool.reoffer("inv") == 1
    assert await spool.last_delivered("inv") == [clock.now()]


async def test_a_new_server_version_gets_the_rejects_once_more(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 4)

    async def answer(version: str, *, rejected: int, conflict: int | None = None) -> None:
        conflicts = [Judged(conflict, "different_value", "")] if conflict else []
        verdict = Settlement(
            rejected=[Judged(rejected, "invalid", "")], conflicts=conflicts, server_version=version
        )
        await spool.settle("inv", verdict)

    await answer("1.0", rejected=1, conflict=2)
    await answer("1.0", rejected=3)
    assert await offered(spool, 10) == [4]
    await answer("1.1", rejected=4)
    assert await offered(spool, 10) == [1, 3]  # neither the conflict nor what 1.1 itself rejected
    await answer("1.0", rejected=1)
    await answer("1.1", rejected=3)
    assert await offered(spool, 10) == []  # both versions were seen before


async def test_everything_kept_is_offered_again(spool: DurableSpool, clock: FakeClock) -> None:
    await fill(spool, clock, 5)
    verdict = Settlement(
        delivered=[1, 2], conflicts=[Judged(3, "different_value", "")], rejected=[Judged(4, "invalid", "")]
    )
    await spool.settle("inv", verdict)
    await fill(spool, clock, 1, "other")
    await spool.ack("other", [6])
    assert await spool.reoffer("inv") == 4
    assert await offered(spool, 10) == [1, 2, 3, 4, 5]
    assert await spool.last_delivered("inv") == []
    assert (await spool.counts("other")).delivered == 1


async def test_offering_again_works_through_many_chunks(
    spool: DurableSpool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sungrow_lib.spool.store.CHUNK", 3)
    seqs = await fill(spool, clock, 11)
    await spool.ack("inv", seqs)
    assert await spool.reoffer("inv") == 11
    assert await offered(spool, 20) == seqs


async def test_a_reading_that_comes_meanwhile_waits_for_one_chunk_alone(
    spool: DurableSpool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sungrow_lib.spool.store.CHUNK", 3)
    await spool.ack("inv", await fill(spool, clock, 30))
    came: list[str] = []

    async def offer_again() -> None:
        await spool.reoffer("inv")
        came.append("all offered")

    async def accept() -> None:
        for _ in range(3):
            await fill(spool, clock, 1)
            came.append("accepted")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(offer_again)
        tasks.start_soon(accept)
    assert came == ["accepted"] * 3 + ["all offered"]


async def test_requeue_takes_quarantined_and_deferred_ones_only(
    spool: DurableSpool, clock: FakeClock
) -> None:
    await fill(spool, clock, 4)
    await spool.settle(
        "inv",
        Settlement(delivered=[1], rejected=[Judged(2, "invalid", "")], deferred=[Judged(3, "future", "")]),
    )
    assert await spool.requeue([1, 2, 3, 4, 99]) == 2
    assert await offered(spool, 10) == [2, 3, 4]


# --- retention -------------------------------------------------------------------------------------------


async def test_delivered_readings_stay_two_weeks_undelivered_ones_for_good(
    spool: DurableSpool, clock: FakeClock
) -> None:
    seqs = await fill(spool, clock, 6)
    await spool.ack("inv", seqs[:3])
    clock.pass_s(14 * 86_400 - 60)
    assert await spool.prune() == 0
    clock.pass_s(120)
    assert await spool.prune() == 2  # all but the newest delivered one
    assert [record.entry.seq async for record in spool.records()] == [3, 4, 5, 6]
    clock.pass_s(400 * 86_400)
    assert await spool.prune() == 0
    assert (await spool.counts()).pending == 3


async def test_a_clock_nobody_vouches_for_deletes_nothing(spool: DurableSpool, clock: FakeClock) -> None:
    await spool.ack("inv", await fill(spool, clock, 3))
    clock.step_s(400 * 86_400)
    clock.synchronised = False
    assert await spool.prune() == 0
    clock.synchronised = True
    assert await spool.prune() == 2


@pytest.mark.parametrize("asked", [False, True], ids=["nobody knows the time", "the server says the time"])
@pytest.mark.parametrize("later", [False, True], ids=["settled at once", "settled later"])
async def test_two_weeks_are_kept_though_the_clock_was_behind_at_delivery(
    path: Path, clock: FakeClock, *, asked: bool, later: bool
) -> None:
    async with DurableSpool.open(path, clock=clock) as spool:
        seqs = await fill(spool, clock, 6)
    clock.reboot("boot-2")  # without a battery of its own, the clock goes on where it stopped
    clock.synchronised = False
    off = timedelta(days=20)
    async with DurableSpool.open(path, clock=clock) as spool:
        if asked:
            await spool.observe_server_date(clock.now() + off, clock.stamp())
        await spool.offer("inv", 6)
        outcome = Settlement(delivered=seqs[:4])
        await (spool.settle_later if later else spool.settle)("inv", outcome)
        assert await spool.prune() == 0
        clock.pass_s(60)
        clock.step_s(off.total_seconds())
        clock.synchronised = True
        assert await spool.prune() == 0
        dates = [record.at async for record in spool.records(SpoolState.DELIVERED)]
        assert dates == [clock.now() - timedelta(seconds=60 if asked else 0)] * 4
        clock.pass_s(14 * 86_400 - 120)
        assert await spool.prune() == 0
        clock.pass_s(180)
        assert await spool.prune() == 3  # and the newest one stays


async def test_batches_of_one_second_of_the_server_are_told_apart(
    spool: DurableSpool, clock: FakeClock
) -> None:
    seqs = await fill(spool, clock, 4)
    clock.synchronised = False
    clock.step_s(-86_400)
    second = clock.now() + timedelta(days=20)
    for seq in seqs[:3]:
        clock.pass_s(0.3)
        await spool.observe_server_date(second, clock.stamp())
        await spool.ack("inv", [seq])
    dates = [record.at async for record in spool.records(SpoolState.DELIVERED)]
    assert dates == [second + timedelta(milliseconds=number) for number in range(3)]


async def test_a_byte_budget_takes_the_oldest_delivered_first(path: Path, clock: FakeClock) -> None:
    options = SpoolOptions(keep_bytes=40_000)
    async with DurableSpool.open(path, clock=clock, options=options) as spool:
        seqs = await fill(spool, clock, 1000)
        await spool.ack("inv", seqs[:900])
        await spool.prune()
        kept = [record.entry.seq async for record in spool.records()]
    assert kept[-100:] == seqs[900:]
    assert len(kept) < 1000


# --- clocks ----------------------------------------------------------------------------------------------


async def test_without_a_trusted_clock_readings_wait_and_are_dated_afterwards(
    path: Path, clock: FakeClock
) -> None:
    clock.synchronised = False
    clock.step_s(-30 * 86_400)  # a box without a battery-backed clock
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill(spool, clock, 3)
        assert (await spool.counts()).waiting == 3
        assert await offered(spool, 10) == []
        assert not await spool.release_waiting()
    clock.step_s(30 * 86_400)
    clock.synchronised = True
    async with DurableSpool.open(path, clock=clock) as spool:
        assert await spool.release_waiting()
        entries = await spool.offer("inv", 10)
        assert [entry.ts_ms for entry in entries] == [
            clock.wall_ms - 10_000,
            clock.wall_ms - 5_000,
            clock.wall_ms,
        ]


async def test_a_reading_read_before_the_clock_was_set_is_dated_right(
    spool: DurableSpool, clock: FakeClock
) -> None:
    clock.step_s(-86_400)
    sample, stamp = reading(ts=clock.now()), clock.stamp()
    clock.pass_s(1)
    clock.step_s(86_400)
    entry = await spool.append(sample, boot=stamp)
    assert entry.ts_ms == clock.wall_ms - 1000
    assert entry.state is SpoolState.PENDING


async def test_the_servers_date_vouches_across_processes_of_one_boot(path: Path, clock: FakeClock) -> None:
    clock.synchronised = False
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill(spool, clock, 1)
        await spool.observe_server_date(clock.now() + timedelta(seconds=100), clock.stamp())
        assert await spool.release_waiting()
    async with DurableSpool.open(path, clock=clock) as spool:
        assert (await fill(spool, clock, 1)) == [2]
        assert (await spool.counts()).waiting == 0
    clock.reboot("boot-2")
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill(spool, clock, 1)
        assert (await spool.counts()).waiting == 1


async def test_after_a_day_the_servers_date_serves_and_the_row_says_so(
    spool: DurableSpool, clock: FakeClock
) -> None:
    clock.synchronised = False
    await fill(spool, clock, 1)
    await spool.observe_server_date(clock.now() + timedelta(days=3), clock.stamp())
    assert not await spool.release_waiting()
    clock.pass_s(86_400)
    assert await spool.release_waiting()
    (entry,) = await spool.offer("inv", 10)
    assert entry.clock_source == "server"
    assert entry.ts_ms == clock.wall_ms + 2 * 86_400_000
    assert json.loads(entry.to_json())["clock_source"] == "server"
    assert "clock_source" not in entry.content


async def test_waiting_readings_of_an_earlier_boot_come_before_this_one(path: Path, clock: FakeClock) -> None:
    clock.synchronised = False
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill(spool, clock, 2)
    clock.reboot("boot-2", off_s=600)
    async with DurableSpool.open(path, clock=clock) as spool:
        clock.synchronised = True
        await fill(spool, clock, 1)
        entries = await spool.offer("inv", 10)
    assert [entry.clock_source for entry in entries] == ["estimated", "estimated", None]
    assert [entry.ts_ms for entry in entries] == sorted({entry.ts_ms for entry in entries})


async def test_future_rows_hold_up_nobody_and_are_redated_when_the_clock_is_right(
    spool: DurableSpool, clock: FakeClock
) -> None:
    clock.step_s(86_400)  # trusted, and wrong by a day
    await fill(spool, clock, 2)
    await spool.offer("inv", 10)
    await spool.settle("inv", Settlement(deferred=[Judged(1, "future", ""), Judged(2, "future", "")]))
    clock.step_s(-86_400)
    await fill(spool, clock, 2)
    counts = await spool.counts()
    assert (counts.pending, counts.waiting, counts.deferred) == (2, 0, 2)
    rows = [record.entry.ts_ms async for record in spool.records()]
    assert rows == [clock.wall_ms - 15_000, clock.wall_ms - 10_000, clock.wall_ms - 5_000, clock.wall_ms]


async def test_a_redated_row_never_takes_anothers_date(spool: DurableSpool, clock: FakeClock) -> None:
    clock.step_s(86_400)
    await fill(spool, clock, 1)
    await spool.settle("inv", Settlement(deferred=[Judged(1, "future", "")]))
    clock.step_s(-86_400)
    other = await spool.append(reading(ts=clock.now()), ts_is_final=True)
    assert await spool.release_waiting()
    rows = [record.entry.ts_ms async for record in spool.records()]
    assert rows == [other.ts_ms + 1, other.ts_ms]
    clock.pass_s(0.001)
    await spool.append(reading(ts=clock.now()), boot=clock.stamp())
    rows = [record.entry.ts_ms async for record in spool.records()]
    assert len(set(rows)) == 3


async def test_offered_rows_are_never_redated(spool: DurableSpool, clock: FakeClock) -> None:
    clock.step_s(86_400)
    await fill(spool, clock, 2)
    before = [entry.ts_ms for entry in await spool.offer("inv", 10)]
    clock.step_s(-86_400)
    await spool.release_waiting()
    await spool.append(reading(ts=clock.now()), boot=clock.stamp())
    assert [entry.ts_ms for entry in await spool.offer("inv", 10)] == before
    assert (await spool.counts()).waiting == 1  # the clock is behind the last ts


async def test_a_row_on_its_way_keeps_its_date_until_the_server_has_answered(
    spool: DurableSpool, clock: FakeClock
) -> None:
    """Else the server stores the old date while the spool goes on with another: one reading, two rows."""
    clock.step_s(86_400)
    await fill(spool, clock, 1)
    (first,) = await spool.offer("inv", 10)
    future = Settlement(deferred=[Judged(1, "future", "")], retry_in_s=0)
    await spool.settle("inv", future)
    (again,) = await spool.offer("inv", 10, Lane.DUE)
    clock.step_s(-86_400)
    assert await spool.release_waiting()
    assert [record.entry.ts_ms async for record in spool.records()] == [first.ts_ms] == [again.ts_ms]
    await spool.settle("inv", future)
    assert await spool.release_waiting()
    assert [record.entry.ts_ms async for record in spool.records()] == [clock.wall_ms]
    (redated,) = await spool.offer("inv", 10, Lane.DUE)
    await spool.ack("inv", [1])
    clock.step_s(-86_400)
    await spool.release_waiting()
    assert [record.entry.ts_ms async for record in spool.records()] == [redated.ts_ms]


async def test_an_answer_that_was_lost_leaves_the_date_alone_across_a_restart(
    path: Path, clock: FakeClock
) -> None:
    clock.step_s(86_400)
    async with DurableSpool.open(path, clock=clock) as spool:
        await fill(spool, clock, 1)
        await spool.settle("inv", Settlement(deferred=[Judged(1, "future", "")], retry_in_s=0))
        (offered,) = await spool.offer("inv", 10, Lane.DUE)
    clock.step_s(-86_400)
    async with DurableSpool.open(path, clock=clock) as spool:
        await spool.release_waiting()
        assert [record.entry.ts_ms async for record in spool.records()] == [offered.ts_ms]


async def test_waiting_rows_dated_into_the_future_hold_up_nobody(
    spool: DurableSpool, clock: FakeClock
) -> None:
    clock.synchronised = False
    await fill(spool, clock, 2)
    clock.step_s(86_400)
    clock.synchronised = True  # somebody vouches for a clock that is wrong by a day
    assert await spool.release_waiting()
    entries = await spool.offer("inv", 10)
    clock.step_s(-86_400)
    clock.pass_s(5)
    assert (await spool.append(reading(ts=clock.now()), boot=clock.stamp())).state is SpoolState.WAITING
    await spool.settle("inv", Settlement(deferred=[Judged(entry.seq, "future", "") for entry in entries]))
    clock.pass_s(5)
    fresh = await spool.append(reading(ts=clock.now()), boot=clock.stamp())
    assert (fresh.state, fresh.ts_ms) == (SpoolState.PENDING, clock.wall_ms)
    assert (await spool.counts()).waiting == 0


async def test_a_date_of_a_future_row_is_not_given_twice(spool: DurableSpool, clock: FakeClock) -> None:
    far = await spool.append(reading(ts=NOON + timedelta(minutes=6)), ts_is_final=True)
    await spool.settle("inv", Settlement(deferred=[Judged(far.seq, "future", "")]))
    near = await spool.append(reading(ts=NOON + timedelta(minutes=6)), ts_is_final=True)
    assert near.ts_ms == far.ts_ms + 1
    del clock


# --- others at the same file -----------------------------------------------------------------------------


async def test_many_tasks_share_one_connection(spool: DurableSpool, clock: FakeClock) -> None:
    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(fill, spool, clock, 30, name)
    entries = [entry for name in ("a", "b", "c") for entry in await spool.offer(name, 100)]
    assert sorted(entry.seq for entry in entries) == list(range(1, 91))


async def test_two_spools_on_one_file_see_each_other(path: Path, clock: FakeClock) -> None:
    async with DurableSpool.open(path, clock=clock) as daemon, DurableSpool.open(path, clock=clock) as tool:
        await fill(daemon, clock, 3)
        assert (await tool.counts()).pending == 3
        await tool.ack("inv", [1])
        assert [entry.seq for entry in await daemon.offer("inv", 10)] == [2, 3]
