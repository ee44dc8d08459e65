from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sungrow_lib.demo.proof import EdgeAccount, Proof, ServedPoll, prove, read_failures, served_polls
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import Family
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.words import Block, Space
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.house import House
from sungrow_lib.simulator.images import SH80RT20, LivingInverter
from sungrow_lib.simulator.journal import Journal, JournalEntry, read_journal

START = datetime(2026, 6, 10, 9, tzinfo=UTC)
FAST = Block(Space.INPUT, 13000, 48)
REST = Block(Space.INPUT, 5003, 34)
DATING = Block(Space.INPUT, 13010, 2)
NORMALIZER = Normalizer("demo-house", Identity(family=Family.SH))


def derive(poll: ServedPoll) -> SungrowSample:
    return NORMALIZER.normalize(poll.words, ts=poll.answered_at, firmware=True)


@pytest.fixture(scope="module")
def entries() -> list[JournalEntry]:
    """Twelve polls of a living inverter, five seconds apart, after a probe that asked something else."""
    inverter = LivingInverter(House(3, ZoneInfo("Etc/GMT-2"), born=START), SH80RT20)
    answered = [_entry(inverter, 1, START - timedelta(seconds=2), Block(Space.INPUT, 5000, 1))]
    for poll in range(12):
        at = START + timedelta(seconds=5 * poll, milliseconds=poll)
        answered.append(_entry(inverter, 2 * poll + 2, at, FAST))
        answered.append(_entry(inverter, 2 * poll + 3, at + timedelta(milliseconds=40), REST))
    return answered


def _entry(inverter: LivingInverter, number: int, at: datetime, block: Block) -> JournalEntry:
    words = inverter.words_at(at)
    return JournalEntry(number, at, 1, block, tuple(words[block.space, n] for n in block.numbers))


@pytest.fixture
def polls(entries: list[JournalEntry]) -> list[ServedPoll]:
    return served_polls("demo-house", entries, DATING)


@pytest.fixture
def rows(polls: list[ServedPoll]) -> list[SungrowSample]:
    """What an honest edge and server make of it: dated a little later, with the time each stands for."""
    return [
        NORMALIZER.normalize(
            poll.words, ts=poll.answered_at + timedelta(milliseconds=3), interval_s=5.001 if number else None
        )
        for number, poll in enumerate(polls)
    ]


def account(accepted: int, *, quarantined: int = 0, pending: int = 0, **failures: int) -> EdgeAccount:
    return EdgeAccount(
        accepted=accepted,
        uploaded=accepted - quarantined - pending,
        quarantined=quarantined,
        pending=pending,
        failures=failures,
    )


def proof(polls: list[ServedPoll], rows: list[SungrowSample], edge: EdgeAccount) -> Proof:
    return prove({"demo-house": polls}, derive, rows, edge)


def changed(row: SungrowSample, **fields: Any) -> SungrowSample:
    return SungrowSample.model_validate(row.model_dump() | fields)


def test_polls_begin_with_the_read_that_dates_them(polls: list[ServedPoll]) -> None:
    assert len(polls) == 12
    for poll in polls:
        assert set(poll.words) == {(b.space, n) for b in (FAST, REST) for n in b.numbers}
    assert [poll.answered_at for poll in polls] == sorted(poll.answered_at for poll in polls)


def test_an_honest_run_holds(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    result = proof(polls, rows, account(12))
    assert result.holds
    assert result.findings == ()
    assert json.loads(result.to_json()) == {
        "polled": 12,
        "not_accepted": 0,
        "accepted": 12,
        "uploaded": 12,
        "stored": 12,
        "lost": 0,
        "doubled": 0,
        "altered": 0,
        "quarantined": 0,
    }


def test_rows_may_come_in_any_order(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    assert proof(polls, rows[::-1], account(12)).holds


def test_a_date_that_was_rounded_down_is_of_its_own_poll(
    polls: list[ServedPoll], rows: list[SungrowSample]
) -> None:
    early = [
        changed(row, ts=poll.answered_at - timedelta(milliseconds=2))
        for poll, row in zip(polls, rows, strict=True)
    ]
    assert proof(polls, early, account(len(polls))).holds


def test_a_dropped_row_is_lost(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    result = proof(polls, rows[:4] + rows[5:], account(12))
    assert (result.lost, result.doubled, result.altered) == (1, 0, 0)
    assert not result.holds
    assert "neither stored nor in quarantine" in result.findings[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pv_power_w", 1),
        ("battery_power_w", None),
        ("phase_voltage_v", [230.0, 230.0]),
        ("backup_power_w", 0),
        ("sample_count", 2),
        ("running_state", "fault"),
        ("firmware", "SAPPHIRE-H_03011.95.03"),
    ],
)
def test_any_altered_value_is_found_and_named(
    polls: list[ServedPoll], rows: list[SungrowSample], field: str, value: object
) -> None:
    assert getattr(rows[7], field) != value
    result = proof(polls, [*rows[:7], changed(rows[7], **{field: value}), *rows[8:]], account(12))
    assert (result.lost, result.doubled, result.altered) == (0, 0, 1)
    assert field in result.findings[0]


def test_the_smallest_difference_is_a_difference(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    soc = rows[3].battery_soc_pct
    assert soc is not None
    result = proof(polls, [*rows[:3], changed(rows[3], battery_soc_pct=soc + 0.1), *rows[4:]], account(12))
    assert result.altered == 1


def test_a_second_row_of_one_poll_is_doubled(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    again = changed(rows[5], ts=rows[5].ts + timedelta(seconds=1))
    result = proof(polls, [*rows, again], account(12))
    assert (result.lost, result.doubled, result.altered) == (0, 1, 0)
    assert proof(polls, [*rows, rows[5]], account(12)).doubled == 1


@pytest.mark.parametrize("moved", [timedelta(seconds=-30), timedelta(seconds=90)])
def test_a_row_nobody_served_is_altered(
    polls: list[ServedPoll], rows: list[SungrowSample], moved: timedelta
) -> None:
    which = 0 if moved < timedelta(0) else 11
    stray = changed(rows[which], ts=rows[which].ts + moved)
    result = proof(polls, [*rows, stray], account(12))
    assert (result.doubled, result.altered) == (0, 1)
    assert "no poll was answered then" in result.findings[0]


def test_a_row_of_a_stranger_is_altered(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    result = proof(polls, [*rows, changed(rows[0], device_id="other")], account(12))
    assert result.altered == 1


def test_quarantined_readings_are_not_lost(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    result = proof(polls, rows[1:], account(12, quarantined=1))
    assert (result.lost, result.quarantined, result.stored) == (0, 1, 11)


def test_readings_still_waiting_are_not_lost_but_named(
    polls: list[ServedPoll], rows: list[SungrowSample]
) -> None:
    result = proof(polls, rows[:-2], account(12, pending=2))
    assert (result.lost, result.uploaded, result.stored) == (0, 10, 10)
    assert result.findings == ("2 readings still wait in the spool",)


def test_silent_polls_count_as_polled(polls: list[ServedPoll], rows: list[SungrowSample]) -> None:
    result = proof(polls, rows, account(12, silent=3))
    assert (result.polled, result.not_accepted, result.lost) == (15, 3, 0)


def test_an_answered_poll_that_was_not_accepted_needs_a_reason(
    polls: list[ServedPoll], rows: list[SungrowSample]
) -> None:
    with_reason = proof(polls, rows[:-1], account(11, damaged=1))
    assert (with_reason.polled, with_reason.not_accepted, with_reason.lost) == (12, 1, 0)
    without = proof(polls, rows[:-1], account(11))
    assert (without.polled, without.not_accepted, without.lost) == (12, 1, 1)
    assert "no reason in the edge's log" in without.findings[0]


def test_reasons_are_read_from_the_edges_log(tmp_path: Path) -> None:
    log = tmp_path / "edge.log"
    events = [
        {"event": "poll", "outcome": "accepted", "device_id": "a"},
        {"event": "poll", "outcome": "silent", "device_id": "a"},
        {"event": "poll", "outcome": "silent", "device_id": "b"},
        {"event": "poll", "outcome": "damaged", "device_id": "a"},
        {"event": "connected"},
    ]
    lines = [json.dumps(event) for event in events]
    log.write_text("\n".join(["Traceback", "{half an obj", *lines]) + "\n", encoding="utf-8")
    assert read_failures(log) == {"silent": 2, "damaged": 1}


def test_a_journal_on_disk_proves_the_same(
    tmp_path: Path, entries: list[JournalEntry], rows: list[SungrowSample]
) -> None:
    path = tmp_path / "journal"
    with Journal(path):
        path.write_text("".join(f"{entry.to_json()}\n" for entry in entries), encoding="utf-8")
    read: Iterator[JournalEntry] = read_journal(path)
    assert proof(served_polls("demo-house", read, DATING), rows, account(12)).holds
