"""What became of every poll of `sungrow-edge`: journals, log, spool, database and the harness's record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from sungrow_lib.demo.proof import LONGEST_READ, covers, read_events
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.registers.identity import identify
from sungrow_lib.registers.words import Block, RegisterWords
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.journal import JournalEntry
from sungrow_lib.spool import SpoolEntry, SpoolRecord
from tests.crash.account import SET_APART, Account, spool_records
from tests.crash.chain import Edge
from tests.crash.polls import POLLED, DevicePolls, taken_at
from tests.crash.readings import Key

_LONGEST_S: Final = 60.0
"""Longest time from the read that dates a poll to the line in the edge's log that says it failed."""
_SKEW_S: Final = 0.1
_ON_THE_WIRE_S: Final = 1.0
"""So long after a kill a busy inverter may answer what it was asked before. No new process polls as soon."""
_NO_ROOM_S: Final = 20.0
"""So long after there is room again, readings may still wait in memory."""
_NOT_FROM_WORDS: Final = frozenset({"interval_s", "clock_source", "device_id", "ts", "firmware"})
Row = dict[str, Any]


class _Device:
    """One device's polls, and what the edge says of them."""

    def __init__(self, polls: DevicePolls, events: list[dict[str, Any]]) -> None:
        self.device_id, self.served, self.polls = polls.device.device_id, polls, polls.polls
        self._answers = list(_answers(polls.entries, polls.dating))
        words = RegisterWords()
        for entry in polls.entries:
            words |= RegisterWords.from_block(entry.block, entry.words)
        self._normalizer = Normalizer(self.device_id, identify(words, family=polls.device.family))
        mine = [e for e in events if e.get("event") == "poll" and e.get("device_id") == self.device_id]
        self.missing = {self._poll_of(e): e["missing"] for e in mine if e["outcome"] == "accepted"}
        """The polls of which the log says that their reading was accepted, each with what it lacks."""
        self.failures = [e for e in mine if e["outcome"] != "accepted"]

    def _poll_of(self, event: dict[str, Any]) -> int:
        """Return which poll a line of the log is about."""
        wrong = timedelta(seconds=event["shown"] - event["true_time"])
        index = self.served.at(datetime.fromisoformat(event["ts"]) - wrong)
        if index is None:  # the clock jumped in between, or the date had to be after a later one
            index = self.served.before(datetime.fromisoformat(event["time"]) - wrong)
        return index

    def differences(self, index: int, row: Row) -> list[str]:
        """What of a row is not as it was served, less the blocks whose answer did not arrive."""
        missing = self.missing.get(index)
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


def judge_polled(account: Account, site: DemoSite, edge: Edge, stored: list[Row]) -> None:
    """Hold what `sungrow-edge` polled, accepted and delivered against journals and database."""
    events = list(read_events(site.log("edge")))
    shown = [datetime.fromisoformat(event["time"]).timestamp() for event in events]
    for event, seen, true in zip(events, shown, edge.true_times(shown), strict=True):
        event |= {"shown": seen, "true_time": true}
    records = spool_records(edge.spool.parent)
    account.stored += len(stored)
    edge.numbered.refresh()
    for device in DEVICES:
        judging = _Judging(account, _Device(edge.numbered.devices[device.device_id], events), edge)
        judging.judge(
            [record for record in records if record.entry.device_id == device.device_id],
            [row for row in stored if row["device_id"] == device.device_id],
        )


class _Judging:
    """The judgement on one device's readings."""

    def __init__(self, account: Account, device: _Device, edge: Edge) -> None:
        self._account, self._device, self._edge = account, device, edge
        self._in_spool: dict[int, SpoolEntry] = {}
        self._in_database = set[int]()
        taken = edge.card.taken
        self._taken = {key.number for key in taken if key.device_id == device.device_id}

    def judge(self, records: list[SpoolRecord], rows: list[Row]) -> None:
        """Compare every accepted reading with its row and its poll, and every poll with what came of it."""
        for record in records:
            self._note_record(record)
        numbers = {entry.to_json(): index for index, entry in self._in_spool.items()}
        dates = {json.loads(text)["ts"]: (index, json.loads(text)) for text, index in numbers.items()}
        for row in rows:
            self._compare(row, *dates.get(row["ts"], (None, row)))
        said = self._device.missing.keys()
        accepted = said | self._in_spool.keys() | self._taken
        self._account.accepted += len(accepted)
        for index in sorted(self._in_database - accepted):
            self._account.altered.append(f"{self._name(index)}: stored, but never accepted")
        for index in sorted(accepted - self._in_database):
            self._account_for(index)
        kept = self._in_spool.keys() | self._taken | (self._in_database if self._edge.disk else set())
        for index in sorted((said & self._in_database) - kept):
            self._account.lost.append(f"{self._name(index)}: accepted by the log, is not in the spool")
        self._explain(accepted)

    def _name(self, index: int) -> str:
        return str(self._key(index))

    def _key(self, index: int) -> Key:
        return Key(POLLED, self._device.device_id, index)

    def _note_record(self, record: SpoolRecord) -> None:
        entry, index = record.entry, self._device.served.at(taken_at(record))
        if index is None:
            self._account.altered.append(f"{entry.device_id} {entry.ts}: no poll was answered then")
        elif index in self._in_spool:
            self._account.doubled.append(f"{self._name(index)}: twice in the spool")
        else:
            self._in_spool[index] = entry
            if self._device.served.at(entry.ts) != index and record.code != "doubtful":
                self._account.altered.append(f"{self._name(index)}: dated {entry.ts}, of another poll")

    def _compare(self, row: Row, index: int | None, accepted: Row) -> None:
        """Hold a row against what the spool has of it, if it has it still, and against what was served."""
        if index is None:
            index = self._device.served.at(datetime.fromisoformat(row["ts"]))
        if index is None:
            self._account.altered.append(f"{row['device_id']} {row['ts']}: no poll was answered then")
            return
        if index in self._in_database:
            self._account.doubled.append(f"{self._name(index)}: two rows")
        self._in_database.add(index)
        if row != accepted:
            self._account.altered.append(f"{self._name(index)}: accepted as {accepted}, stored as {row}")
        for difference in self._device.differences(index, row):
            self._account.altered.append(f"{self._name(index)}: {difference}")

    def _account_for(self, index: int) -> None:
        """Find the reason why an accepted reading is not stored: there is none but what the harness did."""
        key, card = self._key(index), self._edge.card
        if key in self._edge.destroyed:
            self._account.destroyed[str(key)] = self._edge.destroyed[key]
        elif key in self._edge.set_apart and key in card.touched:
            self._account.doubtful[str(key)] = SET_APART
        elif key in self._edge.set_apart:
            self._account.lost.append(f"{key}: set apart by a recovery, and no page of it was damaged")
        else:
            self._account.lost.append(f"{key}: of {self._device.polls[index].answered_at}, nowhere")

    def _explain(self, taken: set[int]) -> None:
        """Every poll without a reading has a reason: a line of the log, or a kill before the next one."""
        account, polls = self._account, self._device.polls
        account.polled += len(polls)
        failures = [(e["true_time"], e["outcome"]) for e in self._device.failures]
        begins = [poll.answered_at.timestamp() - _SKEW_S for poll in polls]
        for index, (begin, next_one) in enumerate(zip(begins, [*begins, math.inf][1:], strict=True)):
            if index in taken:
                continue
            end, latest = min(next_one + _SKEW_S, begin + _LONGEST_S), begin + _LONGEST_S
            near = _first(failures, begin, end) or self._killed(begin, end)
            if reason := near or _first(failures, begin, latest):
                account.not_accepted[reason] += 1
            else:
                account.lost.append(
                    f"{self._name(index)}: of {polls[index].answered_at}, neither reading nor reason"
                )
        for _, outcome in failures:  # silent polls: no read that would date them was answered
            account.polled += 1
            account.not_accepted[outcome] += 1

    def _killed(self, begin: float, end: float) -> str | None:
        """Why a kill may have ended a poll that began then, by the harness's own record."""
        if any(begin - _ON_THE_WIRE_S <= moment <= end for moment in self._edge.killed_at):
            return "killed in between"
        read_s = LONGEST_READ.total_seconds()  # a poll that was dated just before is kept after
        spans = [
            (since, until + _NO_ROOM_S)
            for since, until in self._edge.no_room
            if since - read_s <= begin <= until
        ]
        if any(begin <= moment <= until for moment in self._edge.killed_at for _, until in spans):
            return "killed while it waited in memory: the disk was full, or failed"
        return None


def _first(failures: list[tuple[float, str]], begin: float, end: float) -> str | None:
    """Take the first failure of a span; return its reason."""
    found = next((failure for failure in failures if begin <= failure[0] <= end), None)
    if found is not None:
        failures.remove(found)
    return found[1] if found else None
