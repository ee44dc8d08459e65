"""Where a reading stood is lost, and with it whether the date it has is its final one.

It is sent with that date only where somebody vouches for it. Else it waits on, where that is sure, or is kept
and listed: a date that is sent is there for good.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sungrow_lib.spool import Lane, Settlement, SpoolOptions, SpoolState, database
from sungrow_lib.spool.clock import BootStamp
from sungrow_lib.spool.schema import DOUBTFUL
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, FakeClock

RECOVER: Final = SpoolOptions(recover=True)
HOUR_S: Final = 3_600
Where = dict[int, tuple[SpoolState, int]]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else writes the log, so it need not be looked at again later."""
    monkeypatch.setattr(database, "_LOG_LOOK_S", 0)
    caplog.set_level(logging.CRITICAL)


def where(store: SpoolStore) -> Where:
    return {record.entry.seq: (record.entry.state, record.entry.ts_ms) for record in store.records(0, 10_000)}


def grow(path: Path, clock: FakeClock, count: int, device: str = "roof") -> None:
    """Append so many readings, one every five seconds."""
    with closing(SpoolStore(path, RECOVER, clock)) as store:
        for _ in range(count):
            clock.pass_s(5)
            store.append(device, clock.wall_ms, '{"pv_power_w":1}', boot=None, ts_is_final=False)


def lose(path: Path, condition: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"UPDATE standing SET offered = 1.5 WHERE {condition}").rowcount
        connection.commit()


def recovered(path: Path, clock: FakeClock) -> dict[int, SpoolState]:
    with closing(SpoolStore(path, RECOVER, clock, "as a test says")) as store:
        assert store.faults() == []
        apart = {r.entry.seq for r in store.records(0, 10_000) if r.entry.state is SpoolState.CONFLICT}
        assert apart == {r.entry.seq for r in store.records(0, 10_000) if r.code == DOUBTFUL}
        return {seq: state for seq, (state, _) in where(store).items()}


# --- every small history ----------------------------------------------------------------------------------


class Step(NamedTuple):
    """What is said of the clock when a reading is taken, and what happened to the machine before."""

    clock: str
    event: str = ""


_FIRST: Final = (Step("right"), Step("doubtful"))
_NEXT: Final = (
    *(Step("right"), Step("right", "reboot"), Step("doubtful"), Step("doubtful", "forward")),
    *(Step("doubtful", "back"), Step("doubtful", "reboot")),
)


class Story:
    """Three readings of a device, by a clock that may be wrong."""

    def __init__(self, path: Path, steps: Sequence[Step]) -> None:
        self.clock = FakeClock(wall_ms=NOON_MS, boot_ms=5_000, boot_id="boot-0", synchronised=False)
        self.true: dict[int, int] = {}
        self._now_ms, error_ms = NOON_MS, -HOUR_S * 1_000
        for number, (said, event) in enumerate(steps, start=1):
            is_right = said == "right"
            self._now_ms += 5_000
            self.clock.boot_ms += 5_000
            if event == "reboot":
                self._now_ms += 60_000
                self.clock.reboot(f"boot-{number}")
            error_ms += {"forward": HOUR_S, "back": -HOUR_S}.get(event, 0) * 1_000
            error_ms = 0 if is_right else error_ms
            self.clock.synchronised, self.clock.wall_ms = is_right, self._now_ms + error_ms
            with closing(SpoolStore(path, RECOVER, self.clock)) as store:
                entry = store.append(
                    "roof", self.clock.wall_ms, f'{{"pv_power_w":{number}}}', boot=None, ts_is_final=False
                )
                self.true[entry.seq] = self._now_ms
                self.before = where(store)

    def in_the_end(self, path: Path) -> tuple[Where, Where]:
        """Recover the spool; return what is there then, and once the clock is right."""
        clock = FakeClock(self.clock.wall_ms, self.clock.boot_ms, self.clock.boot_id, self.clock.synchronised)
        with closing(SpoolStore(path, RECOVER, clock, "as a test says")) as store:
            found = where(store)
            clock.boot_ms, clock.wall_ms, clock.synchronised = (
                clock.boot_ms + 60_000,
                self._now_ms + 60_000,
                True,
            )
            while store.release() is None:
                pass
            return found, where(store)


def subsets(numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(1, len(numbers) + 1):
        yield from itertools.combinations(numbers, count)


@pytest.mark.parametrize("first", _FIRST, ids="-".join)
@pytest.mark.parametrize("second", _NEXT, ids="-".join)
def test_no_date_is_sent_that_nobody_vouches_for(path: Path, first: Step, second: Step) -> None:
    kept = path.with_name("kept")
    for third in _NEXT:
        for old in path.parent.iterdir():
            old.unlink()
        story = Story(path, (first, second, third))
        shutil.copy(path, kept)
        for lost in subsets((1, 2, 3)):
            for old in path.parent.iterdir():
                if old != kept:
                    old.unlink()
            shutil.copy(kept, path)
            lose(path, f"seq IN ({','.join(map(str, lost))})")
            found, later = story.in_the_end(path)
            for seq, (was, ts) in story.before.items():
                case = f"{third} lost {lost}: reading {seq}"
                assert later[seq][0] in {SpoolState.PENDING, SpoolState.CONFLICT}, case
                if was is SpoolState.WAITING and found[seq][0] is SpoolState.PENDING:
                    assert abs(found[seq][1] - story.true[seq]) <= 1_000, case
                if was is SpoolState.PENDING:  # it may have been sent
                    assert later[seq][1] == ts, case
                if seq not in lost:
                    assert found[seq][0] is was, case


# --- who vouches for a date -------------------------------------------------------------------------------


def test_where_a_clock_of_its_boot_was_trusted_the_last_ones_are_sent(path: Path) -> None:
    clock = FakeClock()
    grow(path, clock, 9)
    lose(path, "seq IN (1, 4, 8, 9)")
    assert set(recovered(path, clock).values()) == {SpoolState.PENDING}


def test_a_reading_of_another_device_vouches_for_when_the_boot_began(path: Path) -> None:
    clock = FakeClock()
    grow(path, clock, 3)
    grow(path, clock, 1, "barn")
    lose(path, "seq = 4")
    assert recovered(path, clock)[4] is SpoolState.PENDING


def test_one_alone_in_its_boot_is_kept_and_not_sent(path: Path) -> None:
    clock = FakeClock()
    grow(path, clock, 3)
    clock.reboot("boot-2", off_s=60)
    clock.synchronised = False
    clock.wall_ms += HOUR_S * 1_000
    grow(path, clock, 1)
    lose(path, "seq = 4")
    assert recovered(path, clock)[4] is SpoolState.CONFLICT
    with closing(SpoolStore(path, RECOVER, clock)) as store:
        assert store.requeue([4]) == 1
        assert [entry.seq for entry in store.offer("roof", 99, Lane.FRESH)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("off_s", "state"), [(60, SpoolState.PENDING), (600, SpoolState.CONFLICT)])
def test_the_server_vouches_for_a_clock_that_agrees_with_it(
    path: Path, off_s: int, state: SpoolState
) -> None:
    clock = FakeClock(synchronised=False)
    with closing(SpoolStore(path, RECOVER, clock)) as store:
        store.observe_server(clock.wall_ms + off_s * 1_000, BootStamp(clock.boot_id, clock.boot_ms))
    grow(path, clock, 3)
    lose(path, "seq <= 3")
    assert set(recovered(path, clock).values()) == {state}


def test_what_the_server_answered_has_its_date(path: Path) -> None:
    clock = FakeClock()
    grow(path, clock, 6)
    with closing(SpoolStore(path, RECOVER, clock)) as store:
        sent = store.offer("roof", 3, Lane.FRESH)
        store.settle("roof", Settlement(delivered=[entry.seq for entry in sent]))
    lose(path, "seq <= 6")
    assert set(recovered(path, clock).values()) == {SpoolState.PENDING}


def test_no_reading_is_sent_before_one_that_waits_for_its_date(path: Path) -> None:
    """The other device's vouch for its date; those before it could not get their own any more."""
    clock = FakeClock()
    grow(path, clock, 2)
    clock.synchronised = False
    grow(path, clock, 3, "barn")
    lose(path, "seq = 4")
    assert recovered(path, clock)[4] is SpoolState.WAITING


@pytest.mark.parametrize("code", ["future", DOUBTFUL])
def test_a_date_that_counts_for_no_other_vouches_for_none(path: Path, code: str) -> None:
    clock = FakeClock()
    grow(path, clock, 3)
    with closing(sqlite3.connect(path)) as connection:
        state = SpoolState.DEFERRED if code == "future" else SpoolState.CONFLICT
        connection.execute("UPDATE standing SET state = ?, code = ?, offered = 1", (int(state), code))
        connection.commit()
    lose(path, "seq = 3")
    assert recovered(path, clock)[3] is SpoolState.CONFLICT
