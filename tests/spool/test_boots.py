"""Where boots without any time are put: the rules, then random lives of a machine with the real spool."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from sungrow_lib.spool import (
    BootStamp,
    Judged,
    Lane,
    Settlement,
    SpoolOptions,
    SpoolState,
    database,
    dating,
    store,
)
from sungrow_lib.spool.boots import Limit, Span, place_boots
from sungrow_lib.spool.clock import ESTIMATED, FROM_SERVER
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, FakeClock

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
BOOT_ENDS_MS = 2 * HOUR_MS
LAST = NOON_MS
NEXT = Limit(start_ms=NOON_MS + 8 * HOUR_MS, first_ts=NOON_MS + 8 * HOUR_MS + 60_000)


def span(
    start_ms: int,
    *,
    source: str | None = ESTIMATED,
    boot_id: str = "b",
    after: int | None = LAST,
    first_ms: int = 0,
) -> Span:
    return Span(boot_id, first_ms or 30_000, BOOT_ENDS_MS, start_ms, source, after)


# --- the rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start_ms", "first_ts"),
    [
        pytest.param(NOON_MS + HOUR_MS, NOON_MS + HOUR_MS + 30_000, id="its own dates may be right"),
        pytest.param(NOON_MS - HOUR_MS, LAST + 30_000, id="woke in the past: once the last boot had ended"),
        pytest.param(0, LAST + 30_000, id="1970"),
        pytest.param(
            NOON_MS + DAY_MS, NEXT.start_ms - 1 - BOOT_ENDS_MS + 30_000, id="ahead: before the next boot"
        ),
    ],
)
def test_a_boot_without_time_keeps_its_pace_near_its_own_dates(start_ms: int, first_ts: int) -> None:
    lines, is_squeezed = place_boots([span(start_ms)], NEXT)
    assert not is_squeezed
    line = lines["b"]
    assert (line.date(30_000), line.date(BOOT_ENDS_MS)) == (first_ts, first_ts + BOOT_ENDS_MS - 30_000)
    assert line.source == ESTIMATED


def test_boots_without_time_follow_each_other() -> None:
    boots = [span(NOON_MS - HOUR_MS, boot_id="a"), span(NOON_MS - HOUR_MS, boot_id="b")]
    lines, is_squeezed = place_boots(boots, NEXT)
    assert not is_squeezed
    assert lines["b"].date(30_000) == lines["a"].date(BOOT_ENDS_MS) + 30_000


def test_boots_that_think_they_are_late_end_before_the_next_one() -> None:
    boots = [span(NOON_MS + 5 * HOUR_MS, boot_id="a"), span(NOON_MS - HOUR_MS, boot_id="b")]
    lines, is_squeezed = place_boots(boots, NEXT)
    assert not is_squeezed
    assert lines["b"].date(BOOT_ENDS_MS) == NEXT.start_ms - 1
    assert lines["a"].date(BOOT_ENDS_MS) == lines["b"].date(30_000) - 30_000


@pytest.mark.parametrize("source", [None, FROM_SERVER])
def test_a_boot_whose_time_is_known_stays_there_and_others_keep_clear(source: str | None) -> None:
    known = span(NOON_MS + 3 * HOUR_MS, source=source, boot_id="known")
    boots = [span(0, boot_id="a"), known, span(0, boot_id="b")]
    lines, is_squeezed = place_boots(boots, NEXT)
    assert not is_squeezed
    assert lines["known"].date(0) == known.start_ms
    assert lines["known"].source == source
    assert LAST < lines["a"].date(30_000) < lines["a"].date(BOOT_ENDS_MS) < known.start_ms
    assert known.last_ts < lines["b"].date(30_000) < lines["b"].date(BOOT_ENDS_MS) < NEXT.start_ms


@pytest.mark.parametrize("start_ms", [NOON_MS - DAY_MS, NOON_MS + DAY_MS])
@pytest.mark.parametrize("source", [None, FROM_SERVER])
def test_what_cannot_be_true_is_an_estimate(start_ms: int, source: str | None) -> None:
    lines, _ = place_boots([span(start_ms, source=source)], NEXT)
    assert LAST < lines["b"].date(30_000) < lines["b"].date(BOOT_ENDS_MS) < NEXT.start_ms
    assert lines["b"].source == ESTIMATED


def test_a_first_boot_of_all_that_wakes_in_1970_ends_before_the_next() -> None:
    lines, _ = place_boots([span(0, after=None)], NEXT)
    assert lines["b"].date(BOOT_ENDS_MS) == NEXT.start_ms - 1


def test_with_too_little_room_the_pauses_between_boots_go_first() -> None:
    limit = Limit(LAST + BOOT_ENDS_MS - 10_000, LAST + BOOT_ENDS_MS - 10_000)
    lines, is_squeezed = place_boots([span(0)], limit)
    assert not is_squeezed
    assert LAST < lines["b"].date(30_000) < LAST + 30_000


def test_with_less_room_still_all_are_drawn_together_alike() -> None:
    limit = Limit(LAST + HOUR_MS, LAST + HOUR_MS)
    boots = [span(0, boot_id="a"), span(0, boot_id="b")]
    lines, is_squeezed = place_boots(boots, limit)
    assert is_squeezed
    assert lines["a"].date(30_000) > LAST
    assert lines["a"].date(BOOT_ENDS_MS) < lines["b"].date(30_000)
    assert lines["b"].date(BOOT_ENDS_MS) < limit.first_ts
    steps = [
        lines[boot].date(at + 300_000) - lines[boot].date(at)
        for boot in "ab"
        for at in (30_000, BOOT_ENDS_MS // 2)
    ]
    assert max(steps) - min(steps) <= 1
    assert min(steps) > 300_000 * HOUR_MS // (2 * BOOT_ENDS_MS) - 2


def test_with_no_room_at_all_the_order_stays() -> None:
    lines, is_squeezed = place_boots([span(0, boot_id="a"), span(0, boot_id="b")], Limit(LAST - 5, LAST - 5))
    assert is_squeezed
    assert lines["a"].date(BOOT_ENDS_MS) <= lines["b"].date(30_000)


known_or_not = st.sampled_from([None, FROM_SERVER, ESTIMATED])
moments = st.integers(NOON_MS - DAY_MS, NOON_MS + 2 * DAY_MS) | st.just(0)


@given(
    boots=st.lists(
        st.tuples(st.integers(0, HOUR_MS), st.integers(0, 10 * HOUR_MS), moments, known_or_not),
        min_size=1,
        max_size=6,
    ),
    after=st.none() | moments,
    start_ms=st.integers(NOON_MS, NOON_MS + 2 * DAY_MS),
    lead_ms=st.integers(0, HOUR_MS),
)
def test_boots_are_in_order_within_their_limits(
    boots: list[tuple[int, int, int, str | None]], after: int | None, start_ms: int, lead_ms: int
) -> None:
    spans = [
        Span(str(number), first, first + length, start, source, after)
        for number, (first, length, start, source) in enumerate(boots)
        # A boot with a trusted reading may lie before the last date of a device: its rows say so themselves.
        if source is not None or after is None or start + first > after
    ]
    lines, is_squeezed = place_boots(spans, Limit(start_ms, start_ms + lead_ms))
    ends = [(lines[s.boot_id].date(s.first_ms), lines[s.boot_id].date(s.last_ms)) for s in spans]
    lengths = [last - first for first, last in ends]
    assert all(0 <= length <= s.length_ms for s, length in zip(spans, lengths, strict=True))
    assert is_squeezed == any(length < s.length_ms for s, length in zip(spans, lengths, strict=True))
    limits = [after or -DAY_MS * 100_000, *(date for pair in ends for date in pair)]
    if after is None or after + len(spans) < start_ms + lead_ms:
        assert limits == sorted(limits)
        assert limits[-1] < start_ms + lead_ms
    takes_ms = sum(s.last_ms + 1 for s in spans)
    if all(s.source == ESTIMATED for s in spans) and takes_ms < start_ms - (after or 0):
        assert not is_squeezed
        assert limits[-1] < start_ms


# --- through the real spool ------------------------------------------------------------------------------


class Machine:
    """Lives through boots in true time; its wall clock, kernel and server say what they are told to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "spool.db"
        self.clock = FakeClock()
        self.true_ms = NOON_MS
        self.stamps: dict[int, tuple[str, str, int]] = {}
        """Device, boot and boot-time stamp of each reading."""
        self.sent: dict[int, int] = {}
        """The date each reading has on the server."""
        self.boots = 1
        self.store = SpoolStore(self.path, SpoolOptions(), self.clock)

    def passes(self, ms: int) -> None:
        self.true_ms += ms
        self.clock.pass_s(ms / 1000)

    def take(self, devices: Sequence[str], *, together: bool = False) -> None:
        """Take a reading of each device, committed one by one or together."""
        rows: list[tuple[str, int, str, BootStamp]] = []
        for device in devices:
            content = json.dumps({"pv_power_w": len(self.stamps) + len(rows)})
            rows.append((device, self.clock.wall_ms, content, self.clock.stamp()))
            self.passes(40)
        if together:
            entries = self.store.append_many(rows)
        else:
            entries = [
                self.store.append(device, ts, content, boot=boot, ts_is_final=False)
                for device, ts, content, boot in rows
            ]
        for entry, (device, _, _, stamp) in zip(entries, rows, strict=True):
            self.stamps[entry.seq] = (device, *stamp)

    def server_says(self, off_ms: int) -> None:
        self.store.observe_server(self.true_ms + off_ms, self.clock.stamp())
        self.store.release()  # perhaps some of many

    def release(self) -> bool:
        """Date all that waits if a clock is trusted; return whether one is for each device."""
        while (is_trusted := self.store.release()) is None:
            pass
        return is_trusted

    def power_cut(self, off_ms: int, wakes_ms: int) -> None:
        self.store.close()
        self.boots += 1
        self.true_ms += off_ms
        self.clock.reboot(f"boot-{self.boots}")
        self.clock.wall_ms, self.clock.synchronised = wakes_ms, False
        self.store = SpoolStore(self.path, SpoolOptions(), self.clock)

    def set_right(self) -> None:
        self.clock.wall_ms, self.clock.synchronised = self.true_ms, True

    def send(self) -> None:
        """Offer everything; the server's clock is right, and it remembers what it was sent."""
        for device in {device for device, _, _ in self.stamps.values()}:
            for lane in (Lane.DUE, Lane.FRESH):
                entries = self.store.offer(device, 10_000, lane)
                future = [e for e in entries if e.ts_ms > self.true_ms + 300_000]
                taken = [e for e in entries if e not in future]
                for entry in taken:
                    assert self.sent.setdefault(entry.seq, entry.ts_ms) == entry.ts_ms
                self.store.settle(
                    device,
                    Settlement(
                        delivered=[e.seq for e in taken],
                        deferred=[Judged(e.seq, "future", "") for e in future],
                        retry_in_s=0,
                    ),
                )

    def rows(self) -> dict[int, tuple[int, SpoolState]]:
        return {r.entry.seq: (r.entry.ts_ms, r.entry.state) for r in self.store.records(0, 100_000)}

    def waiting(self) -> set[int]:
        return {seq for seq, (_, state) in self.rows().items() if state is SpoolState.WAITING}

    def dates_of(self, device: str) -> list[int]:
        return [ts for seq, (ts, _) in self.rows().items() if self.stamps[seq][0] == device]

    def shifts(self, boot_id: str, seqs: set[int]) -> set[int]:
        """How far dates of a boot are from its boot-time clock: one number, if its pace was kept."""
        rows = self.rows()
        return {rows[seq][0] - self.stamps[seq][2] for seq in seqs if self.stamps[seq][1] == boot_id}

    def check_keys(self) -> None:
        rows = self.rows()
        keys = [
            (self.stamps[seq][0], ts) for seq, (ts, state) in rows.items() if state is not SpoolState.WAITING
        ]
        assert len(keys) == len(set(keys))
        assert {seq: rows[seq][0] for seq in self.sent} == self.sent


connect = database.Database._connect


def connect_unsynced(self: database.Database) -> sqlite3.Connection:
    """Open the file so that nothing waits for the disk, which takes most of the time: none fails here."""
    connection = connect(self)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@contextmanager
def machine(part_rows: int) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "PART_ROWS", part_rows)
        patch.setattr(store, "FEW_ROWS", 0)  # no disk is full here
        patch.setattr(dating, "FEW_ROWS", part_rows)
        patch.setattr(database.Database, "_connect", connect_unsynced)
        made = Machine(Path(folder))
        try:
            yield made
        finally:
            made.store.close()


DEVICES = ("a", "b", "c")
some_devices = st.lists(st.sampled_from(DEVICES), min_size=1, max_size=3, unique=True)


@dataclass(frozen=True)
class Life:
    """One boot: how long the machine was off before, what its clock says, and what it does."""

    off_ms: int
    wakes_ms: int | None
    """Off the true time by so much; None for 1970."""
    deeds: Sequence[tuple[str, Any]] = field(default_factory=tuple)


def lives(
    offsets: st.SearchStrategy[int], server: st.SearchStrategy[int], trusted: st.SearchStrategy[int]
) -> Any:
    """Boots; the kernel vouches for a clock that is ``trusted`` wrong only."""
    untold = st.one_of(
        st.tuples(st.sampled_from(["take", "take together"]), some_devices),
        st.tuples(st.just("pass"), st.integers(100, 20_000) | st.integers(0, 5 * HOUR_MS)),
        st.tuples(st.just("step"), offsets),
        st.tuples(st.just("restart"), st.none()),
    )
    told = st.one_of(
        st.tuples(st.just("pass"), st.integers(DAY_MS, 2 * DAY_MS)),
        st.tuples(st.just("server"), server),
        st.tuples(st.just("kernel"), trusted),
        st.tuples(st.just("send"), st.none()),
    )
    taken = st.tuples(st.just("take"), some_devices)
    return st.lists(
        st.builds(
            Life,
            st.integers(6_000, 60_000) | st.integers(6_000, 3 * DAY_MS),
            st.none() | offsets,
            st.one_of(
                st.lists(taken | untold, min_size=2, max_size=8),
                st.lists(taken | untold | told, min_size=2, max_size=8),
            ),
        ),
        min_size=1,
        max_size=6,
    )


def do(edge: Machine, deed: str, value: Any) -> None:
    match deed:
        case "take" | "take together":
            edge.take(value, together=deed == "take together")
        case "pass":
            edge.passes(value)
        case "server":
            edge.server_says(value)
        case "step":
            edge.clock.wall_ms, edge.clock.synchronised = edge.true_ms + value, False
        case "kernel":
            edge.clock.wall_ms, edge.clock.synchronised = edge.true_ms + value, True
        case "send":
            edge.send()
        case "restart":
            edge.store.close()
            edge.store = SpoolStore(edge.path, SpoolOptions(), edge.clock)


def begin(edge: Machine, life: Life) -> None:
    true_ms = edge.true_ms + life.off_ms
    edge.power_cut(life.off_ms, 0 if life.wakes_ms is None else true_ms + life.wakes_ms)


WRONG = st.integers(-3 * HOUR_MS, -121_000) | st.integers(121_000, 30 * DAY_MS) | st.just(-400 * DAY_MS)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(boots=lives(WRONG, st.just(0), st.just(0)), part_rows=st.sampled_from([1, 2, 5, 500]))
@example(
    boots=[  # woken an hour in the past, twice, and nobody to ask
        Life(
            10_000,
            -HOUR_MS,
            [("take", "abc"), ("pass", 5_000), ("take", "ab"), ("pass", 5_000), ("take", "c")],
        ),
        Life(10_000, -HOUR_MS, [("take together", "cba"), ("pass", 7 * HOUR_MS), ("take together", "abc")]),
    ],
    part_rows=2,
)
@example(
    boots=[Life(10_000, DAY_MS, [("take", "abc"), ("pass", 5_000), ("take", "ab")])], part_rows=500
)  # a day ahead
def test_while_no_wrong_clock_is_trusted_every_boot_keeps_its_pace(boots: list[Life], part_rows: int) -> None:
    """Then the truth fits, so there is room: one shift for all devices of a boot, in order, never ahead."""
    with machine(part_rows) as edge:
        edge.take(DEVICES)
        untold: dict[str, set[int]] = {}
        for life in boots:
            begin(edge, life)
            for deed, value in life.deeds:
                do(edge, deed, value)
            name = edge.clock.boot_id
            seqs = {seq for seq, (_, boot_id, _) in edge.stamps.items() if boot_id == name}
            if seqs and seqs <= edge.waiting():
                untold[name] = seqs
        edge.power_cut(10_000, 0)
        edge.set_right()
        assert edge.release()
        assert edge.waiting() == set()
        for name, seqs in untold.items():
            assert len(edge.shifts(name, seqs)) == 1
        for device in DEVICES:
            dates = edge.dates_of(device)
            assert dates == sorted(set(dates))
            assert dates[-1] <= edge.true_ms
        edge.check_keys()
        assert edge.store.faults() == []


ANY = st.integers(-3 * DAY_MS, 3 * DAY_MS) | st.integers(-300_000, 300_000) | st.just(-400 * DAY_MS)


@FEW
@given(boots=lives(ANY, ANY, ANY), part_rows=st.sampled_from([1, 2, 5, 500]))
def test_whoever_lies_no_key_repeats_and_all_are_delivered_in_the_end(
    boots: list[Life], part_rows: int
) -> None:
    """Kernel and server vouch for anything: what was sent keeps its date, and nothing stays in the future."""
    with machine(part_rows) as edge:
        edge.take(DEVICES)
        for life in boots:
            begin(edge, life)
            for deed, value in life.deeds:
                do(edge, deed, value)
                edge.check_keys()
        edge.power_cut(10_000, 0)
        edge.set_right()
        edge.server_says(0)
        for _ in range(8):
            edge.send()
            edge.passes(12 * HOUR_MS)
            edge.take(DEVICES)
            edge.check_keys()
        edge.passes(HOUR_MS)
        edge.release()
        edge.send()
        assert set(edge.sent) == set(edge.stamps)
        rows = edge.rows()
        assert max(ts for ts, _ in rows.values()) <= edge.true_ms + 300_000
        assert edge.store.faults() == []
