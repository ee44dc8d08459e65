"""The demo's proof that nothing was lost, doubled or altered: every stored row against the words served.

The simulators keep a journal of every read they answered. From those words each reading is derived once
more, and compared, value by value, with what came out of the server's database.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sungrow_lib.quantities import Family
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import Block, RegisterWords
from sungrow_lib.sample import SungrowSample, format_ts
from sungrow_lib.simulator.journal import JournalEntry

LONGEST_READ: Final = timedelta(seconds=6)
"""Longest time from the simulator's answer to the reading's date; beyond, they do not belong together."""

_ROUNDING: Final = timedelta(milliseconds=3)
"""So much earlier than its poll a reading may be dated: either date, when the machine started and the time
since then are each cut to whole milliseconds."""

_DATING: Final = {Family.SH: "export_power", Family.SG: "total_active_power"}
_NOT_FROM_WORDS: Final = frozenset({"interval_s", "clock_source"})
"""Fields the edge knows from its clocks alone."""


@dataclass(slots=True)
class ServedPoll:
    """One poll as the simulator saw it: the read that dates it and those that followed.

    Attributes:
        device_id: which device.
        answered_at: when the dating read was answered, aware UTC.
        words: everything answered.
    """

    device_id: str
    answered_at: datetime
    words: RegisterWords


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeAccount:
    """What the edge says of itself.

    Attributes:
        accepted: readings its spool accepted.
        uploaded: readings the server confirmed.
        quarantined: readings set apart with the server's reason.
        pending: readings still waiting in the spool: safe, but not delivered yet.
        failures: polls that brought no accepted reading, by the reason logged.
    """

    accepted: int
    uploaded: int
    quarantined: int
    pending: int
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The account of a run. All is well when nothing was lost, doubled or altered.

    Attributes:
        polled: polls the simulators answered, and those the edge logged as unanswered.
        not_accepted: polls without an accepted reading.
        accepted: readings accepted by the spool.
        uploaded: readings confirmed by the server.
        stored: rows in the database.
        lost: accepted readings neither stored, nor in quarantine, nor waiting; and answered polls of which
            the edge says nothing.
        doubled: rows beyond the first of one poll.
        altered: rows that differ from what was served, or that nobody served.
        quarantined: readings set apart.
        findings: one line for everything that is not as it should be.
    """

    polled: int
    not_accepted: int
    accepted: int
    uploaded: int
    stored: int
    lost: int
    doubled: int
    altered: int
    quarantined: int
    findings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or altered."""
        return self.lost == self.doubled == self.altered == 0

    def to_json(self) -> str:
        """Return the account as one line of JSON."""
        names = (
            "polled",
            "not_accepted",
            "accepted",
            "uploaded",
            "stored",
            "lost",
            "doubled",
            "altered",
            "quarantined",
        )
        return json.dumps({name: getattr(self, name) for name in names})


Derive = Callable[[ServedPoll], SungrowSample]
"""Derives a poll's reading, with the firmware, from the words served."""


def served_polls(device_id: str, entries: Iterable[JournalEntry], dating: Block) -> list[ServedPoll]:
    """Group a simulator's answers into polls.

    Args:
        device_id: which device it is.
        entries: its journal.
        dating: the registers whose read begins a poll and dates it.
    """
    polls: list[ServedPoll] = []
    for entry in entries:
        words = RegisterWords.from_block(entry.block, entry.words)
        if covers(entry.block, dating):
            polls.append(ServedPoll(device_id, entry.answered_at, words))
        elif polls and entry.fault is None:
            polls[-1].words |= words
    return polls


def poll_at(times: Sequence[datetime], moment: datetime) -> int | None:
    """Return which poll a reading of this date came from, None if none was answered then.

    Args:
        times: when each poll was answered, in order.
        moment: the reading's date.
    """
    index = bisect_right(times, moment + _ROUNDING) - 1
    return index if index >= 0 and moment - times[index] <= LONGEST_READ else None


def prove(
    polls: Mapping[str, Sequence[ServedPoll]],
    derive: Derive,
    stored: Sequence[SungrowSample],
    account: EdgeAccount,
) -> Proof:
    """Compare what was served, accepted and stored.

    Args:
        polls: of each device, in order.
        derive: makes the reading of a poll.
        stored: the rows of the database, of these devices and this run.
        account: what the edge says of itself.
    """
    comparison = _Comparison()
    for device_id, served in polls.items():
        comparison.compare(served, derive, [row for row in stored if row.device_id == device_id])
    for row in stored:
        if row.device_id not in polls:
            comparison.alter(row, "no simulator is this device")
    answered = sum(len(served) for served in polls.values())
    failures = sum(account.failures.values())
    silent = max(0, failures - max(0, answered - account.accepted))
    unexplained = max(0, answered - account.accepted - failures)
    missing = max(0, account.accepted - comparison.matched - account.quarantined - account.pending)
    if unexplained:
        comparison.findings.append(f"{unexplained} answered polls have no reason in the edge's log")
    if missing:
        comparison.findings.append(f"{missing} accepted readings are neither stored nor in quarantine")
    if account.pending:
        comparison.findings.append(f"{account.pending} readings still wait in the spool")
    return Proof(
        polled=answered + silent,
        not_accepted=answered + silent - account.accepted,
        accepted=account.accepted,
        uploaded=account.uploaded,
        stored=len(stored),
        lost=missing + unexplained,
        doubled=comparison.doubled,
        altered=comparison.altered,
        quarantined=account.quarantined,
        findings=tuple(comparison.findings),
    )


@dataclass(slots=True)
class _Comparison:
    """Rows held against polls."""

    matched: int = 0
    doubled: int = 0
    altered: int = 0
    findings: list[str] = field(default_factory=list)

    def compare(self, served: Sequence[ServedPoll], derive: Derive, rows: list[SungrowSample]) -> None:
        """Find the poll of each row of one device, and compare their values."""
        times = [poll.answered_at for poll in served]
        taken: set[int] = set()
        for row in sorted(rows, key=lambda row: row.ts):
            index = poll_at(times, row.ts)
            if index is None:
                self.alter(row, "no poll was answered then")
            elif index in taken:
                self.doubled += 1
                self.findings.append(f"{_name(row)}: a second row of the same poll")
            else:
                taken.add(index)
                if differences := list(_differences(derive(served[index]), row)):
                    self.alter(row, "; ".join(differences))
        self.matched += len(taken)

    def alter(self, row: SungrowSample, why: str) -> None:
        """Note a row that is not what was served."""
        self.altered += 1
        self.findings.append(f"{_name(row)}: {why}")


def _differences(expected: SungrowSample, row: SungrowSample) -> Iterator[str]:
    served, found = expected.content(), row.content()
    if row.firmware is None:
        served.pop("firmware", None)  # read now and then, reported when it changed
    for name in sorted((served.keys() | found.keys()) - _NOT_FROM_WORDS):
        if served.get(name) != found.get(name):
            yield f"{name} was served as {served.get(name)} and stored as {found.get(name)}"


def _name(row: SungrowSample) -> str:
    return f"{row.device_id} {format_ts(row.ts)}"


def covers(outer: Block, inner: Block) -> bool:
    """Whether reading ``outer`` brings all of ``inner``."""
    return outer.space is inner.space and set(inner.numbers) <= set(outer.numbers)


def dating_block(family: Family) -> Block:
    """The registers whose read begins a poll and dates it."""
    return RegisterMap.for_family(family).by_name(_DATING[family]).block


def read_failures(log: Path) -> Counter[str]:
    """Count, in the edge's log, the polls that brought no accepted reading, by reason."""
    failures: Counter[str] = Counter()
    for event in read_events(log):
        if event.get("event") == "poll" and event.get("outcome") != "accepted":
            failures[str(event.get("outcome"))] += int(event.get("polls", 1))  # one line may stand for many
    return failures


def read_events(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a log, skipping lines that are none."""
    with log.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.startswith("{"):
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                yield event
