"""Damage takes the names of boots whose readings wait for a date: what is still known dates them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sungrow_lib.spool import SpoolOptions, SpoolState
from sungrow_lib.spool.clock import ESTIMATED, FROM_SERVER
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, FakeClock
from tests.spool.test_holding import lose_names

HOUR_S = 3_600
NAMES = ("boot", "sqlite_autoindex_boot_1")
BOOTS = [f"4f9c2d10-1111-4222-8333-{number:012}" for number in range(5)]


class Edge:
    """A spool on a machine of which the truth is known."""

    def __init__(self, path: Path, *, uptime_s: float = 5 * HOUR_S) -> None:
        self.path = path
        self.clock = FakeClock(boot_id=BOOTS[0], boot_ms=round(uptime_s * 1000), synchronised=False)
        self.true_ms = NOON_MS
        self.taken: list[int] = []
        self.store = self.opened()

    def opened(self) -> SpoolStore:
        return SpoolStore(self.path, SpoolOptions(recover=True), self.clock)

    def passes(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.true_ms += round(seconds * 1000)

    def take(self, count: int = 3, *, device: str = "roof", every_s: float = 5) -> None:
        for _ in range(count):
            self.passes(every_s)
            content = f'{{"pv_power_w":{len(self.taken)}}}'
            stamp = self.clock.stamp()
            self.store.append(device, self.clock.wall_ms, content, boot=stamp, ts_is_final=False)
            self.taken.append(self.true_ms)

    def loses_names(self, off_s: float = 20) -> None:
        """The pages that name the boots are damaged; the daemon goes on seconds later."""
        self.store.close()
        lose_names(self.path, NAMES)
        self.passes(off_s)
        self.store = self.opened()
        assert self.store.recovery is not None

    def reboots(self, number: int, *, off_s: float, up_s: float = 30, behind_s: float = HOUR_S) -> None:
        """The power was off; the clock wakes in the past."""
        self.store.close()
        self.clock.reboot(BOOTS[number], off_s=off_s)
        self.true_ms += round(off_s * 1000) + self.clock.boot_ms
        self.clock.synchronised = False
        self.clock.wall_ms = self.true_ms - round(behind_s * 1000)
        self.passes(up_s - self.clock.boot_ms / 1000)
        self.store = self.opened()

    def is_told(self) -> None:
        """Somebody vouches for the clock, and sets it right."""
        self.clock.wall_ms, self.clock.synchronised = self.true_ms, True
        while self.store.release() is None:
            pass

    def dates(self) -> list[int]:
        records = self.store.records(0, 1_000)
        assert {record.entry.state for record in records} == {SpoolState.PENDING}
        assert self.store.faults() == []
        return [record.entry.ts_ms for record in records]

    def sources(self) -> list[str | None]:
        return [record.entry.clock_source for record in self.store.records(0, 1_000)]


@pytest.mark.parametrize("more", [0, 3])
def test_the_present_boot_goes_on_under_its_name(path: Path, more: int) -> None:
    """Without one it would pass for an earlier boot, and be dated five hours back."""
    edge = Edge(path)
    edge.clock.step_s(-HOUR_S)
    edge.take()
    edge.loses_names()
    edge.take(more)
    edge.is_told()
    assert edge.dates() == edge.taken
    assert edge.sources() == [ESTIMATED] * 3 + [None] * more  # nobody can be sure
    edge.store.close()


def test_it_may_lose_its_name_again(path: Path) -> None:
    edge = Edge(path)
    for _ in range(3):
        edge.take()
        edge.loses_names()
    edge.take()
    edge.is_told()
    assert edge.dates() == edge.taken
    assert edge.sources() == [ESTIMATED] * 9 + [None] * 3
    edge.store.close()


def test_one_that_went_on_and_ended_before_anybody_told_the_time_is_one_boot(path: Path) -> None:
    edge = Edge(path)
    edge.take()
    edge.loses_names()
    edge.take()
    edge.reboots(1, off_s=HOUR_S)
    edge.take()
    edge.is_told()
    dates = edge.dates()
    assert [date - dates[0] for date in dates[:6]] == [date - edge.taken[0] for date in edge.taken[:6]]
    assert dates[5] < edge.taken[6] - 30_000
    assert dates[6:] == edge.taken[6:]
    assert edge.sources() == [ESTIMATED] * 6 + [None] * 3
    edge.store.close()


def test_one_that_went_on_and_heard_the_time_is_dated_by_that(path: Path) -> None:
    edge = Edge(path)
    edge.take()
    edge.loses_names()
    edge.take()
    edge.store.observe_server(edge.true_ms, edge.clock.stamp())
    edge.reboots(1, off_s=HOUR_S)
    edge.take()
    edge.is_told()
    assert edge.dates() == edge.taken
    assert edge.sources() == [ESTIMATED] * 3 + [FROM_SERVER] * 3 + [None] * 3
    edge.store.close()


def test_one_that_ran_longer_than_the_next_had_ended_before_it(path: Path) -> None:
    edge = Edge(path)
    edge.take()
    edge.reboots(1, off_s=HOUR_S)
    edge.loses_names()
    edge.take()
    edge.is_told()
    dates = edge.dates()
    assert [date - dates[0] for date in dates[:3]] == [0, 5_000, 10_000]
    assert dates[2] < edge.true_ms - edge.clock.boot_ms
    assert dates[3:] == edge.taken[3:]
    edge.store.close()


@pytest.mark.parametrize(
    ("uptime_s", "up_s", "silent_s"), [(1200, 30, HOUR_S), (300, 30, 900), (300, 900, 0)]
)
@pytest.mark.parametrize("more", [0, 3])
def test_one_that_had_ended_is_no_part_of_one_that_is_up_for_longer_by_now(
    path: Path, uptime_s: float, up_s: float, silent_s: float, more: int
) -> None:
    """Be it that the inverter is away for a while, or that the daemon starts late."""
    edge = Edge(path, uptime_s=uptime_s)
    edge.take()
    edge.reboots(1, off_s=3 * HOUR_S, up_s=5, behind_s=0)
    edge.store.close()
    edge.passes(up_s - 5)
    edge.loses_names(0)
    edge.passes(silent_s)
    edge.take(more)
    edge.is_told()
    assert edge.dates() == edge.taken
    assert edge.sources() == [ESTIMATED] * 3 + [None] * more
    edge.store.close()


def test_one_that_had_ended_stays_so_after_more_damage(path: Path) -> None:
    """The clock wakes where it was: what it says of the start cannot tell the two apart."""
    edge = Edge(path, uptime_s=300)
    edge.take()
    edge.reboots(1, off_s=3 * HOUR_S, behind_s=3 * HOUR_S + 340)
    edge.loses_names()
    edge.passes(900)
    edge.loses_names()
    edge.is_told()
    dates = edge.dates()
    assert dates[2] < edge.true_ms - edge.clock.boot_ms
    edge.store.close()


def test_the_server_may_have_dated_the_boot_before_it_lost_its_name(path: Path) -> None:
    edge = Edge(path)
    edge.take()
    edge.store.observe_server(edge.true_ms, edge.clock.stamp())
    edge.loses_names()
    edge.reboots(1, off_s=HOUR_S)
    edge.take()
    edge.is_told()
    assert edge.dates() == edge.taken
    edge.store.close()


def test_a_reading_of_it_that_has_a_date_dates_the_others(path: Path) -> None:
    edge = Edge(path)
    edge.is_told()
    edge.take()
    edge.clock.synchronised = False
    edge.clock.step_s(-HOUR_S)
    edge.take()
    edge.reboots(1, off_s=HOUR_S)
    edge.loses_names()
    edge.take()
    edge.is_told()
    assert edge.dates() == edge.taken
    assert edge.sources() == [None] * 9
    edge.store.close()


def test_what_the_server_said_of_boots_that_kept_their_names_is_known_after_damage(path: Path) -> None:
    edge = Edge(path)
    edge.clock.step_s(-HOUR_S)
    edge.take()
    edge.store.observe_server(edge.true_ms, edge.clock.stamp())
    edge.reboots(1, off_s=HOUR_S)
    edge.store.close()
    lose_names(path, ("answered",))
    edge.store = edge.opened()
    assert edge.store.recovery is not None
    edge.take()
    edge.is_told()
    assert edge.dates() == edge.taken
    assert edge.sources() == [FROM_SERVER] * 3 + [None] * 3
    edge.store.close()
