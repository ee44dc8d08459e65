"""What clocks do to an edge, as stories: power cuts without an RTC, steps both ways, a day without time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from sungrow_lib.errors import SpoolFullError
from sungrow_lib.spool import (
    BootStamp,
    DurableSpool,
    Judged,
    Lane,
    Settlement,
    SpoolEntry,
    SpoolOptions,
    SpoolState,
)
from tests.spool.helpers import NOON, NOON_MS, FakeClock, reading

pytestmark = pytest.mark.anyio
HOUR_S = 3_600
DAY_S = 24 * HOUR_S


class Edge:
    """Takes a reading every 5 s of true time, and keeps in mind when that truly was."""

    def __init__(self, spool: DurableSpool, clock: FakeClock) -> None:
        self.spool = spool
        self.clock = clock
        self.true_ms = NOON_MS
        self.truly: dict[int, int] = {}

    async def run(self, readings: int) -> None:
        for _ in range(readings):
            self.passes(5)
            sample = reading(ts=self.clock.now(), pv_power_w=len(self.truly))
            entry = await self.spool.append(sample, boot=self.clock.stamp())
            self.truly[entry.seq] = self.true_ms

    def passes(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.true_ms += round(seconds * 1000)

    def power_cut(self, name: str, *, off_s: float, wakes_ms: int) -> None:
        """The machine is off for a while, and wakes with a time of its own, which nobody vouches for."""
        self.true_ms += round(off_s * 1000)
        self.clock.reboot(name)
        self.clock.wall_ms = wakes_ms
        self.clock.synchronised = False

    def ntp(self) -> None:
        """Somebody sets the clock right."""
        self.clock.wall_ms, self.clock.synchronised = self.true_ms, True

    async def server_says(self, *, off_by_ms: int = 0) -> None:
        date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.true_ms + off_by_ms)
        await self.spool.observe_server_date(date, self.clock.stamp())

    async def dates(self) -> dict[int, tuple[int, SpoolState]]:
        return {r.entry.seq: (r.entry.ts_ms, r.entry.state) async for r in self.spool.records()}

    async def check(self, *, within_ms: int = 10, since: int = 0) -> None:
        """All have final dates that increase, and those of readings after number ``since`` are true."""
        rows = await self.dates()
        assert {state for _, state in rows.values()} == {SpoolState.PENDING}
        dates = [ts for ts, _ in rows.values()]
        assert dates == sorted(set(dates))
        wrong = {
            seq: ts - self.truly[seq]
            for seq, (ts, _) in rows.items()
            if seq > since and abs(ts - self.truly[seq]) > within_ms
        }
        assert not wrong


Story = Callable[[Edge], Awaitable[None]]


async def story(path: Path, tell: Story) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        await tell(Edge(spool, clock))


@pytest.mark.parametrize(
    "wakes",
    [
        pytest.param(lambda _: 0, id="1970"),
        pytest.param(lambda true: true - HOUR_S * 1000, id="an hour ago, as fake-hwclock has it"),
        pytest.param(lambda true: true - 60_000, id="a minute ago"),
        pytest.param(lambda true: true + 40 * DAY_S * 1000, id="a month ahead"),
    ],
)
async def test_no_rtc_after_a_power_cut(path: Path, wakes: Callable[[int], int]) -> None:
    async def tell(edge: Edge) -> None:
        await edge.run(3)
        edge.power_cut("boot-2", off_s=600, wakes_ms=wakes(edge.true_ms))
        await edge.run(3)
        rows = await edge.dates()
        assert [state for _, state in rows.values()] == [SpoolState.PENDING] * 3 + [SpoolState.WAITING] * 3
        edge.ntp()
        await edge.run(2)
        await edge.check()

    await story(path, tell)


async def test_the_server_vouches_for_a_clock_within_two_minutes_of_its_own(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        await edge.run(2)
        edge.power_cut("boot-2", off_s=60, wakes_ms=edge.true_ms + 60_000)
        await edge.run(2)
        await edge.server_says(off_by_ms=119_000)
        assert await edge.spool.release_waiting()
        await edge.check()

    await story(path, tell)


async def test_a_clock_further_from_the_servers_waits(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        await edge.run(2)
        edge.power_cut("boot-2", off_s=60, wakes_ms=edge.true_ms + 60_000)
        await edge.run(2)
        await edge.server_says(off_by_ms=121_000)
        assert not await edge.spool.release_waiting()
        edge.ntp()
        assert await edge.spool.release_waiting()
        await edge.check()

    await story(path, tell)


@pytest.mark.parametrize("step_s", [0.4, 90, HOUR_S, DAY_S])
async def test_ntp_steps_forward(path: Path, step_s: float) -> None:
    """The clock was slow and called synchronised; nothing dated before changes, all after is right."""

    async def tell(edge: Edge) -> None:
        edge.clock.step_s(-step_s)
        await edge.run(3)
        before = await edge.dates()
        edge.ntp()
        await edge.run(3)
        after = await edge.dates()
        assert {seq: after[seq] for seq in before} == before
        await edge.check(since=3)

    await story(path, tell)


@pytest.mark.parametrize("step_s", [0.4, 4, 30, 10 * 60])
async def test_ntp_steps_back(path: Path, step_s: float) -> None:
    """The clock was fast: until the true time has caught up with the last date, readings wait for it."""

    async def tell(edge: Edge) -> None:
        edge.clock.step_s(step_s)
        await edge.run(3)
        edge.ntp()
        await edge.run(int(step_s // 5) + 2)
        await edge.check(since=3 + int(step_s // 5) + 1)
        rows = await edge.dates()
        assert all(ts <= edge.true_ms + 10 for seq, (ts, _) in rows.items() if seq > 3 + int(step_s // 5) + 1)

    await story(path, tell)


async def test_a_day_ahead_and_back_poisons_nothing(path: Path) -> None:
    """Readings dated a day ahead are refused as future by the server, re-dated, and hold nobody up."""

    async def tell(edge: Edge) -> None:
        await edge.run(2)
        edge.clock.step_s(DAY_S)
        await edge.run(2)
        offered = await edge.spool.offer("inv", 10)
        edge.ntp()
        await edge.spool.settle(
            "inv",
            Settlement(
                delivered=[1, 2], deferred=[Judged(e.seq, "future", "") for e in offered[2:]], retry_in_s=0
            ),
        )
        await edge.run(2)
        rows = await edge.dates()
        assert max(ts for ts, _ in rows.values()) <= edge.true_ms
        assert {seq: ts - edge.truly[seq] for seq, (ts, _) in rows.items()} == dict.fromkeys(rows, 0)

    await story(path, tell)


async def test_a_day_without_any_source_of_time(path: Path) -> None:
    """Then the server's date serves, and each reading says so; before, they wait, whatever the clock says."""

    async def tell(edge: Edge) -> None:
        edge.power_cut("boot-2", off_s=60, wakes_ms=0)
        await edge.run(2)
        await edge.server_says()
        edge.passes(DAY_S - 60)
        assert not await edge.spool.release_waiting()
        edge.passes(120)
        assert await edge.spool.release_waiting()
        await edge.run(1)
        await edge.check(within_ms=1_000)
        sources = {r.entry.clock_source async for r in edge.spool.records()}
        assert sources == {"server"}

    await story(path, tell)


async def test_once_the_servers_date_serves_later_readings_do_not_wait_again(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        edge.power_cut("boot-2", off_s=60, wakes_ms=0)
        await edge.run(1)
        edge.passes(DAY_S)
        await edge.server_says()
        await edge.run(2)
        await edge.check(within_ms=1_000)
        async with DurableSpool.open(path, clock=edge.clock) as restarted:
            edge.spool = restarted
            await edge.run(2)
            await edge.check(within_ms=1_000)
            edge.power_cut("boot-3", off_s=60, wakes_ms=0)  # another boot starts from the beginning
            await edge.server_says()
            await edge.run(1)
            assert (await restarted.counts()).waiting == 1

    await story(path, tell)


async def test_weeks_without_any_time_lose_nothing_and_keep_the_order(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        for boot in range(2, 12):
            edge.power_cut(f"boot-{boot}", off_s=2 * DAY_S, wakes_ms=0)
            await edge.run(2)
        rows = await edge.dates()
        assert {state for _, state in rows.values()} == {SpoolState.WAITING}
        edge.ntp()
        await edge.run(1)
        last = len(edge.truly)
        await edge.check(since=last - 3)
        rows = await edge.dates()
        assert max(ts for seq, (ts, _) in rows.items() if seq <= last - 3) < rows[last - 2][0]

    await story(path, tell)


async def test_a_clock_that_runs_wild_never_repeats_a_key(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        for step_s in (5, -5, HOUR_S, -HOUR_S, 1, -1, DAY_S, -DAY_S, -2 * DAY_S, 3 * DAY_S, 0):
            edge.clock.step_s(step_s)
            edge.clock.synchronised = step_s % 2 == 1
            await edge.run(2)
        edge.ntp()
        edge.passes(4 * DAY_S)
        await edge.run(2)
        assert await edge.spool.release_waiting()
        await edge.check(since=len(edge.truly) - 2)

    await story(path, tell)


async def test_a_clock_corrected_between_the_read_and_the_commit(path: Path) -> None:
    """The date was read from a wrong clock, the boot-time stamp beside it is right."""

    async def tell(edge: Edge) -> None:
        wrong = NOON - timedelta(hours=1)
        stamp = BootStamp(edge.clock.boot_id, edge.clock.boot_ms)
        edge.passes(1)
        entry = await edge.spool.append(reading(ts=wrong), boot=stamp)
        assert entry.ts_ms == NOON_MS

    await story(path, tell)


# --- who tells the time, and lies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "says",
    [
        pytest.param(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), id="the end of the calendar"),
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), id="1970"),
        pytest.param(datetime(2100, 1, 1, tzinfo=UTC), id="2100"),
    ],
)
async def test_a_server_that_has_lost_its_own_clock_dates_nothing(path: Path, says: datetime) -> None:
    async def tell(edge: Edge) -> None:
        edge.power_cut("boot-2", off_s=60, wakes_ms=0)
        await edge.run(2)
        await edge.spool.observe_server_date(says, edge.clock.stamp())
        edge.passes(DAY_S)
        assert not await edge.spool.release_waiting()
        await edge.server_says()
        assert await edge.spool.release_waiting()
        await edge.check(within_ms=1_000)

    await story(path, tell)


async def test_two_clocks_that_both_began_in_1970_do_not_vouch_for_each_other(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        edge.power_cut("boot-2", off_s=60, wakes_ms=0)
        await edge.run(1)
        await edge.spool.observe_server_date(datetime(1970, 1, 1, 0, 1, tzinfo=UTC), edge.clock.stamp())
        assert not await edge.spool.release_waiting()
        edge.ntp()
        assert await edge.spool.release_waiting()
        await edge.check()

    await story(path, tell)


@pytest.mark.parametrize("off_by_s", [-HOUR_S, HOUR_S, -DAY_S, 40 * DAY_S])
async def test_a_wrong_server_does_not_outweigh_a_synchronised_clock(path: Path, off_by_s: int) -> None:
    async def tell(edge: Edge) -> None:
        await edge.server_says(off_by_ms=off_by_s * 1000)
        await edge.run(3)
        edge.passes(2 * DAY_S)
        await edge.server_says(off_by_ms=off_by_s * 1000)
        await edge.run(3)
        await edge.check()
        assert {r.entry.clock_source async for r in edge.spool.records()} == {None}

    await story(path, tell)


@pytest.mark.parametrize("off_by_s", [-HOUR_S, HOUR_S])
async def test_a_wrong_server_alone_is_believed_after_a_day_only(path: Path, off_by_s: int) -> None:
    async def tell(edge: Edge) -> None:
        edge.power_cut("boot-2", off_s=2 * DAY_S, wakes_ms=edge.true_ms)
        await edge.run(2)
        await edge.server_says(off_by_ms=off_by_s * 1000)
        edge.passes(DAY_S - 60)
        assert not await edge.spool.release_waiting()
        edge.ntp()  # just in time
        assert await edge.spool.release_waiting()
        await edge.check()

    await story(path, tell)


async def test_the_latest_word_of_the_server_counts_also_for_later_boots(path: Path) -> None:
    """The first answer was of a server whose clock was not set yet."""

    async def tell(edge: Edge) -> None:
        await edge.run(1)
        edge.power_cut("boot-2", off_s=5 * HOUR_S, wakes_ms=edge.true_ms - HOUR_S * 1000)
        await edge.server_says(off_by_ms=-3 * DAY_S * 1000)
        await edge.run(2)
        await edge.server_says()
        await edge.run(2)
        async with DurableSpool.open(path, clock=edge.clock) as restarted:
            edge.spool = restarted
            edge.power_cut("boot-3", off_s=HOUR_S, wakes_ms=0)
            edge.ntp()
            assert await restarted.release_waiting()
            await edge.check(within_ms=1_000)
            sources = [r.entry.clock_source async for r in restarted.records()]
            assert sources == [None, *["server"] * 4]

    await story(path, tell)


async def test_the_server_dates_each_of_many_boots_it_saw(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        await edge.run(1)
        for boot in range(2, 8):
            edge.power_cut(f"boot-{boot}", off_s=5 * HOUR_S, wakes_ms=edge.true_ms - HOUR_S * 1000)
            await edge.run(2)
            if boot != 5:
                await edge.server_says()
            async with DurableSpool.open(path, clock=edge.clock) as restarted:
                edge.spool = restarted
                await edge.run(1)
        async with DurableSpool.open(path, clock=edge.clock) as restarted:
            edge.spool = restarted
            edge.power_cut("boot-8", off_s=HOUR_S, wakes_ms=0)
            edge.ntp()
            assert await restarted.release_waiting()
            rows = {r.entry.seq: r async for r in restarted.records()}
            dated = {seq: r.entry.clock_source for seq, r in rows.items()}
            assert {dated[seq] for seq in rows if rows[seq].stamp.boot_id == "boot-5"} == {"estimated"}
            wrong = [seq for seq in rows if abs(rows[seq].entry.ts_ms - edge.truly[seq]) > 1_000]
            assert {rows[seq].stamp.boot_id for seq in wrong} == {"boot-5"}
            assert [r.entry.ts_ms for r in rows.values()] == sorted({r.entry.ts_ms for r in rows.values()})

    await story(path, tell)


async def test_sleep_of_the_machine_is_time_as_any_other(path: Path) -> None:
    """The boot-time clock goes on; the wall clock comes back from an RTC that is off, unsynchronised."""

    async def tell(edge: Edge) -> None:
        edge.power_cut("boot-2", off_s=60, wakes_ms=0)
        await edge.run(2)
        edge.passes(3 * HOUR_S)  # asleep
        edge.clock.step_s(-20 * 60)
        await edge.run(2)
        edge.ntp()
        await edge.run(1)
        await edge.check()

    await story(path, tell)


# --- rows the server called future ------------------------------------------------------------------------


async def sent_too_early(edge: Edge, ahead_s: float, readings: int) -> list[int]:
    """Readings dated by a clock that is ahead, and called future by a server whose clock is right."""
    edge.clock.step_s(ahead_s)
    await edge.run(readings)
    offered = await edge.spool.offer("inv", 100)
    early = [entry.seq for entry in offered if entry.ts_ms > edge.true_ms + 300_000]
    deferred = [Judged(seq, "future", "") for seq in early]
    delivered = [entry.seq for entry in offered if entry.seq not in early]
    await edge.spool.settle("inv", Settlement(delivered=delivered, deferred=deferred, retry_in_s=0))
    return early


@pytest.mark.parametrize("ahead_s", [550, HOUR_S])
async def test_only_rows_more_than_ten_minutes_ahead_get_another_date(path: Path, ahead_s: int) -> None:
    async def tell(edge: Edge) -> None:
        await edge.run(1)
        early = await sent_too_early(edge, ahead_s, 3)
        before = await edge.dates()
        edge.ntp()
        await edge.run(2)
        after = await edge.dates()
        assert len(early) == 3
        is_corrected = ahead_s > 600
        assert [after[seq][0] != before[seq][0] for seq in early] == [is_corrected] * 3
        assert [after[seq][0] == edge.truly[seq] for seq in early] == [is_corrected] * 3
        # Nobody waited for them, and they are no last date.
        newest = max(after)
        assert after[newest] == (edge.truly[newest], SpoolState.PENDING)
        assert len({ts for ts, _ in after.values()}) == len(after)

    await story(path, tell)


async def test_a_date_given_to_a_row_called_future_is_never_given_again(path: Path) -> None:
    async def tell(edge: Edge) -> None:
        await edge.run(1)
        early = await sent_too_early(edge, 550, 1)
        taken = (await edge.dates())[early[0]][0]
        edge.ntp()
        edge.passes((taken - edge.true_ms) / 1000)
        assert edge.clock.wall_ms == taken
        entry = await edge.spool.append(reading(ts=edge.clock.now()), boot=edge.clock.stamp())
        assert entry.ts_ms == taken + 1

    await story(path, tell)


@pytest.mark.parametrize("server_was_seen", [False, True])
async def test_a_boot_that_was_ahead_and_ended_is_corrected_if_it_is_known_how(
    path: Path, *, server_was_seen: bool
) -> None:
    """The clock was a year ahead, called synchronised; then came a power cut, and the right time."""

    async def tell(edge: Edge) -> None:
        edge.power_cut("boot-2", off_s=60, wakes_ms=edge.true_ms)
        edge.ntp()
        early = await sent_too_early(edge, 365 * DAY_S, 3)
        assert len(early) == 3
        if server_was_seen:
            await edge.server_says()
        async with DurableSpool.open(path, clock=edge.clock) as restarted:
            edge.spool = restarted
            edge.power_cut("boot-3", off_s=60, wakes_ms=0)
            edge.ntp()
            await edge.run(2)
            rows = await edge.dates()
            assert all(ts == edge.truly[seq] for seq, (ts, _) in rows.items() if seq not in early)
            wrong = [seq for seq in early if abs(rows[seq][0] - edge.truly[seq]) > 1_000]
            assert wrong == ([] if server_was_seen else early)
            sources = {r.entry.clock_source async for r in restarted.records() if r.entry.seq in early}
            assert sources == {"server" if server_was_seen else None}

    await story(path, tell)


# --- merged rows ------------------------------------------------------------------------------------------


async def test_rows_merged_while_they_waited_keep_their_pace_and_their_time(path: Path) -> None:
    """On a full disk the oldest waiting readings become one a minute; then they are dated as any others."""
    clock = FakeClock(boot_ms=0)
    options = SpoolOptions(max_bytes=130_000, merge_when_full=True)
    async with DurableSpool.open(path, options=options, clock=clock) as spool:
        edge = Edge(spool, clock)
        await edge.run(1)
        edge.power_cut("boot-2", off_s=60, wakes_ms=edge.true_ms - HOUR_S * 1000)
        while not (counts := await spool.counts()).merged:
            for _ in range(50):
                edge.passes(5)
                sample = reading(ts=edge.clock.now(), interval_s=5.0, pv_power_w=len(edge.truly))
                entry = await spool.append(sample, boot=edge.clock.stamp())
                edge.truly[entry.seq] = edge.true_ms
        assert counts.waiting == len(edge.truly) - 1 - counts.merged
        sent = await deliver_all(edge)
        stamps = {r.entry.seq: r.stamp.boot_ms async for r in spool.records()}
        kept = [entry for entry in sent if entry.seq in stamps and entry.seq > 1]
        assert len({entry.ts_ms - stamps[entry.seq] for entry in kept}) == 1
        contents = [json.loads(entry.content) for entry in sent]
        assert sum(content.get("sample_count", 1) for content in contents) == len(edge.truly)
        for (before, _), (entry, content) in pairwise(zip(sent[1:], contents[1:], strict=True)):
            assert entry.ts_ms - before.ts_ms == 1000 * content["interval_s"]


async def deliver_all(edge: Edge) -> list[SpoolEntry]:
    """Start anew with the right time, and deliver until nothing is left; return what was sent."""
    edge.power_cut("boot-3", off_s=60, wakes_ms=0)
    edge.ntp()
    sent: list[SpoolEntry] = []
    while (await edge.spool.counts()).undelivered:
        await edge.spool.release_waiting()
        batch = await edge.spool.offer("inv", 500, Lane.BACKLOG, bound=10**9)
        assert batch
        await edge.spool.ack("inv", [entry.seq for entry in batch])
        sent += batch
    return sent


async def test_readings_on_a_full_disk_get_their_dates(path: Path) -> None:
    """Nothing may be merged, and each of many rows takes more room once dated: some are, and make room."""
    clock = FakeClock(boot_ms=0)
    async with DurableSpool.open(path, options=SpoolOptions(max_bytes=130_000), clock=clock) as spool:
        edge = Edge(spool, clock)
        edge.power_cut("boot-2", off_s=60, wakes_ms=0)
        with pytest.raises(SpoolFullError):
            await edge.run(100_000)
        accepted = (await spool.counts()).waiting
        assert accepted == len(edge.truly) > 500
        sent = await deliver_all(edge)
        assert len(sent) == accepted
        assert {entry.clock_source for entry in sent} == {"estimated"}
        dates = [entry.ts_ms for entry in sent]
        assert {later - earlier for earlier, later in pairwise(dates)} == {5_000}
