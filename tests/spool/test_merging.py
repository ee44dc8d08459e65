"""What becomes of the oldest readings when the disk is full and the server far away."""

from __future__ import annotations

import json
import logging
import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sungrow_lib.errors import SpoolFullError
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import Lane, Settlement, SpoolOptions, SpoolState
from sungrow_lib.spool.merging import merge_contents
from sungrow_lib.spool.relief import LEFT_ALONE
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON, NOON_MS, FakeClock

# --- the rule --------------------------------------------------------------------------------------------


def test_gauges_are_weighted_counters_are_the_last_codes_are_all() -> None:
    merged = merge_contents(
        [
            {
                "pv_power_w": 1000,
                "pv_daily_kwh": 1.0,
                "alarm_codes": [5],
                "running_state": "Run",
                "interval_s": 5,
            },
            {"pv_power_w": 2000, "pv_daily_kwh": 1.1, "alarm_codes": [7, 5], "interval_s": 15},
            {"pv_daily_kwh": 1.2, "running_state": "Off", "interval_s": 5.5, "sample_count": 3},
        ]
    )
    assert merged == {
        "pv_power_w": 1750,
        "pv_daily_kwh": 1.2,
        "alarm_codes": [5, 7],
        "running_state": "Off",
        "interval_s": 25.5,
        "sample_count": 5,
    }


@pytest.mark.parametrize("interval", [{}, {"interval_s": 5.0}])
def test_merging_in_several_goes_weighs_every_reading_alike(interval: dict[str, float]) -> None:
    readings = [{"pv_power_w": power} | interval for power in (1000, 2000, 3000, 8000)]
    three = merge_contents(readings[:3])
    assert merge_contents([three, readings[3]]) == merge_contents(readings)


def test_lists_are_averaged_item_by_item_and_unknown_stays_unknown() -> None:
    merged = merge_contents(
        [{"mppt_voltage_v": [100.0, None], "alarm_codes": []}, {"mppt_voltage_v": [200.0, None, 300.0]}]
    )
    assert merged == {"mppt_voltage_v": [150.0, None, 300.0], "alarm_codes": [], "sample_count": 2}
    assert merge_contents([{}, {}]) == {"sample_count": 2}


@given(
    st.lists(
        st.tuples(st.integers(0, 20_000), st.sampled_from([None, 0.0, 4.9, 5.0, 15.0])),
        min_size=1,
        max_size=30,
    )
)
def test_a_merged_reading_is_a_reading_within_what_it_was_made_of(
    values: list[tuple[int, float | None]],
) -> None:
    contents = [
        {"pv_power_w": power} | ({} if interval is None else {"interval_s": interval})
        for power, interval in values
    ]
    merged = merge_contents(contents)
    sample = SungrowSample.model_validate({"device_id": "inv", "ts": NOON, **merged})
    assert sample.content() == merged
    assert min(power for power, _ in values) <= merged["pv_power_w"] <= max(power for power, _ in values)
    assert merged["sample_count"] == len(values)


# --- in the spool ----------------------------------------------------------------------------------------


class Filler:
    """Appends readings of 5 s to a small spool until it refuses."""

    def __init__(self, path: Path, *, merge: bool, synchronised: bool = True) -> None:
        self.clock = FakeClock(synchronised=synchronised)
        options = SpoolOptions(max_bytes=150_000, merge_when_full=merge)
        self.store = SpoolStore(path, options, self.clock)
        self.power: dict[int, int] = {}

    def append_until_refused(self, *, every_s: float = 5, offer: bool = False) -> None:
        with suppress(SpoolFullError):
            for _ in range(10_000):
                self.clock.pass_s(every_s - 5)
                self.append()
                if offer:
                    self.store.offer("inv", 10, Lane.FRESH)
            pytest.fail("never refused")

    def append(self) -> int:
        self.clock.pass_s(5)
        number = len(self.power) + 1
        content = json.dumps({"pv_power_w": number, "running_state": "x" * 200, "interval_s": 5.0})
        entry = self.store.append(
            "inv", self.clock.wall_ms, content, boot=self.clock.stamp(), ts_is_final=False
        )
        self.power[entry.seq] = number
        return entry.seq


def test_a_full_spool_merges_its_oldest_readings_and_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    filler = Filler(path, merge=True)
    filler.append()
    offered = {entry.seq for entry in filler.store.offer("inv", 1, Lane.FRESH)}
    for _ in range(4_000):
        filler.append()
    records = filler.store.records(0, 10_000)
    contents = {record.entry.seq: json.loads(record.entry.content) for record in records}
    # Every reading is in exactly one row, in order, and each row says how many it stands for.
    before = 0
    for seq, content in contents.items():
        count = content.get("sample_count", 1)
        assert seq - before == count
        expected = math.fsum(filler.power[number] for number in range(before + 1, seq + 1)) / count
        assert content["pv_power_w"] == pytest.approx(expected, abs=0.5)
        assert content["interval_s"] == 5.0 * count
        before = seq
    assert before == 4_001
    assert filler.store.counts().merged == 4_001 - len(records) > 0
    assert not any("sample_count" in contents[seq] for seq in offered)
    assert not any("sample_count" in contents[record.entry.seq] for record in records[-LEFT_ALONE:])
    assert all(record.entry.ts_ms == NOON_MS + 5_000 * record.entry.seq for record in records)
    assert filler.store.faults() == []
    # ... and the log names them.
    said = [record.__dict__ for record in caplog.records if "were merged" in record.message]
    assert sum(entry["readings"] - entry["into"] for entry in said) == filler.store.counts().merged


def test_when_readings_were_merged_is_kept_and_times_far_apart_are_told_apart(path: Path) -> None:
    filler = Filler(path, merge=True)
    for _ in range(2_500):
        filler.append()
    first = filler.store.counts()
    assert first.merging is not None
    assert first.merging.readings == first.merged > 0
    assert NOON < first.merging.begin < first.merging.end <= filler.clock.now()
    filler.store.close()
    filler.store = SpoolStore(path, SpoolOptions(max_bytes=150_000, merge_when_full=True), filler.clock)
    assert filler.store.counts().merging == first.merging
    filler.clock.pass_s(3 * 86_400)
    later = filler.clock.now()
    for _ in range(1_500):
        filler.append()
    second = filler.store.counts()
    assert second.merging is not None
    assert second.merging.begin > later
    assert second.merging.readings == second.merged - first.merged > 0


def test_undated_readings_are_merged_too(path: Path) -> None:
    filler = Filler(path, merge=True, synchronised=False)
    for _ in range(2_000):
        filler.append()
    counts = filler.store.counts()
    assert counts.pending == 0
    assert 0 < counts.waiting == 2_000 - counts.merged < 2_000
    filler.clock.synchronised = True
    dates: list[int] = []
    while filler.store.counts().undelivered:  # a row takes more room when dated, so some wait for others
        filler.store.release()
        batch = filler.store.offer("inv", 500, Lane.BACKLOG, bound=10_000)
        filler.store.settle("inv", Settlement(delivered=[entry.seq for entry in batch]))
        dates += [entry.ts_ms for entry in batch]
    assert dates == sorted(set(dates))
    assert dates[-1] == filler.clock.wall_ms
    assert len(dates) == counts.waiting


def test_readings_that_were_offered_are_never_merged(path: Path) -> None:
    filler = Filler(path, merge=True)
    filler.append_until_refused(offer=True)
    counts = filler.store.counts()
    assert (counts.merged, counts.pending) == (0, len(filler.power))


def test_without_the_option_readings_are_refused_and_none_is_merged(path: Path) -> None:
    filler = Filler(path, merge=False)
    filler.append_until_refused()
    assert filler.store.counts().merged == 0


def test_merging_ends_where_nothing_is_left_to_merge(path: Path) -> None:
    filler = Filler(path, merge=True)
    filler.append_until_refused(every_s=3_600)  # a reading an hour: no two in one quarter
    records = filler.store.records(0, 10_000)
    assert {record.entry.state for record in records} == {SpoolState.PENDING}
    assert len(records) == len(filler.power)
