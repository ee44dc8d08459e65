"""What became of every poll of `sungrow-edge`: journals, spool and database held together."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from sungrow_lib.demo.proof import LONGEST_READ, covers, dating_block, read_events, served_polls
from sungrow_lib.demo.site import DEVICES, DemoDevice, DemoSite
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.registers.identity import identify
from sungrow_lib.registers.words import Block, RegisterWords
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.journal import JournalEntry, read_journal
from sungrow_lib.spool import SpoolEntry
from tests.crash.account import Account, spool_records
from tests.crash.chain import Edge

_LONGEST_S: Final = 60.0
"""Longest time from the read that dates a poll to the line in the edge's log that says it failed."""
_SKEW_S: Final = 0.1
_NOT_FROM_WORDS: Final = frozenset({"interval_s", "clock_source", "device_id", "ts", "firmware"})


class _Device:
    """One device's polls, and what the edge says of them."""

    def __init__(self, device: DemoDevice, site: DemoSite, events: list[dict[str, Any]]) -> None:
        entries = list(read_journal(site.journal(device)))
        dating = dating_block(device.family)
        self.polls = served_polls(device.device_id, entries, dating)
        self._answers = list(_answers(entries, dating))
        self._times = [poll.answered_at for poll in self.polls]
        words = RegisterWords()
        for entry in entries:
            words |= RegisterWords.from_block(entry.block, entry.words)
        self._normalizer = Normalizer(device.device_id, identify(words, family=device.family))
        mine = [e for e in events if e.get("event") == "poll" and e.get("device_id") == device.device_id]
        self.missing = {e["seq"]: e["missing"] for e in mine if e["outcome"] == "accepted"}
        self.failures = [e for e in mine if e["outcome"] != "accepted"]

    def poll_of(self, ts: datetime) -> int | None:
        """Return which poll a reading of this date came from."""
        index = bisect_right(self._times, ts) - 1
        return index if index >= 0 and ts - self._times[index] <= LONGEST_READ else None

    def differences(self, index: int, seq: int, row: dict[str, Any]) -> list[str]:
        """What of a row is not as it was served, less the blocks whose answer did not arrive."""
        missing = self.missing.get(seq)
        words = _without(self._answers[index], missing or [])
        expected = self._normalizer.normalize(words, ts=self.polls[index].answered_at).content()
        found = SungrowSample.model_validate_json(json.dumps(row)).content()
        names = sorted((expected.keys() | found.keys()) - _NOT_FROM_WORDS)
        # Killed before it could say which blocks were missing: then a value may be absent, but not another.
        wrong = [n for n in names if expected.get(n) != found.get(n) and (missing is not None or n in found)]
        return [f"{name} was served as {expected.get(name)}, stored as {found.get(name)}" for name in wrong]


def _answers(entries: list[JournalEntry], dating: Block) -> Iterator[list[JournalEntry]]:
    """Group answers by poll, as `served_polls` does."""
    poll: list[JournalEntry] | None = None
    for entry in entries:
        if covers(entry.block, dating):
            if poll is not None:
                yield poll
            poll = [entry]
        elif poll is not None and entry.fault is None:
            poll.append(entry)
    if poll is not None:
        yield poll


def _without(answers: list[JournalEntry], missing: list[str]) -> RegisterWords:
    """Words of the answers, less the blocks that did not arrive; blocks overlap."""
    words = RegisterWords()
    for entry in answers:
        block = entry.block
        if f"{block.space.name.lower()} {block.first}..{block.first + block.count - 1}" not in missing:
            words |= RegisterWords.from_block(block, entry.words)
    return words


def judge_polled(account: Account, site: DemoSite, edge: Edge, stored: list[dict[str, Any]]) -> None:
    """Hold what `sungrow-edge` polled, accepted and delivered against journals and database."""
    events = list(read_events(site.log("edge")))
    shown = [datetime.fromisoformat(event["time"]).timestamp() for event in events]
    for event, moment in zip(events, edge.true_times(shown), strict=True):
        event["true_time"] = moment
    records = spool_records(edge.spool.parent)
    rows = {(row["device_id"], row["ts"]): row for row in stored}
    account.stored += len(stored)
    account.accepted += len(records)
    if len(rows) < len(stored):
        account.doubled.append(f"{len(stored) - len(rows)} rows of sungrow-edge")
    for device in DEVICES:
        mine = _Device(device, site, events)
        for seq in mine.missing.keys() - {record.entry.seq for record in records}:
            account.lost.append(
                f"{device.device_id}: reading {seq}, accepted by the log, is not in the spool"
            )
        taken = Counter[int]()
        for record in records:
            if record.entry.device_id == device.device_id:
                taken.update(_judge_record(account, mine, record.entry, rows))
        for index, count in taken.items():
            if count > 1:
                account.doubled.append(f"the poll of {device.device_id} at {mine.polls[index].answered_at}")
        _explain(account, mine, set(taken), edge)
    for device_id, ts in rows:
        account.altered.append(f"{device_id} {ts}: stored, but never accepted")


def _judge_record(
    account: Account, device: _Device, entry: SpoolEntry, rows: dict[tuple[str, str], dict[str, Any]]
) -> list[int]:
    """Compare one accepted reading with its row and its poll; return the poll's number."""
    sample = json.loads(entry.to_json())
    name = f"{entry.device_id} {sample['ts']}"
    row = rows.pop((sample["device_id"], sample["ts"]), None)
    index = device.poll_of(entry.ts)
    if row is None:
        account.lost.append(name)
    elif row != sample:
        account.altered.append(f"{name}: accepted as {sample}, stored as {row}")
    elif index is None:
        account.altered.append(f"{name}: no poll was answered then")
    else:
        for difference in device.differences(index, entry.seq, row):
            account.altered.append(f"{name}: {difference}")
    return [] if index is None else [index]


def _explain(account: Account, device: _Device, taken: set[int], edge: Edge) -> None:
    """Every poll without a reading has a reason: a line of the log, or a kill before the next one."""
    account.polled += len(device.polls)
    failures = [(e["true_time"], e["outcome"]) for e in device.failures]
    begins = [poll.answered_at.timestamp() - _SKEW_S for poll in device.polls]
    for index, (poll, begin, next_one) in enumerate(
        zip(device.polls, begins, [*begins[1:], math.inf], strict=True)
    ):
        if index in taken:
            continue
        failure = next((f for f in failures if begin <= f[0] <= begin + _LONGEST_S), None)
        if failure is not None:
            failures.remove(failure)
            account.not_accepted[failure[1]] += 1
        elif any(begin <= moment <= min(next_one + _SKEW_S, begin + _LONGEST_S) for moment in edge.killed_at):
            account.not_accepted["killed in between"] += 1
        else:
            account.lost.append(f"a poll answered at {poll.answered_at} has neither reading nor reason")
    for _, outcome in failures:  # silent polls: no read that would date them was answered
        account.polled += 1
        account.not_accepted[outcome] += 1
