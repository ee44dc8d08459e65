"""The judgement on `sungrow-edge`: journals, log, spool and database that are written by hand here."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from sungrow_lib.demo.proof import dating_block
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.registers.identity import identify
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import format_ts
from sungrow_lib.simulator.journal import JournalEntry
from sungrow_lib.spool import BootStamp, SpoolOptions
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
from tests.crash.account import Account
from tests.crash.card import Card
from tests.crash.chain import Edge
from tests.crash.damage import DAMAGES, Files
from tests.crash.polled import judge_polled
from tests.crash.polls import POLLED, Numbered

POLLS: Final = 12
DEVICE: Final = DEVICES[0]
BLOCK: Final = dating_block(DEVICE.family)
NORMALIZER: Final = Normalizer(DEVICE.device_id, identify(RegisterWords(), family=DEVICE.family))


class Told(Edge):
    """An edge that never ran: all that it did is written by hand."""

    def __init__(self, folder: Path) -> None:
        self.site = DemoSite.in_folder(folder, datetime.now(UTC))
        self.spool = folder / "spool" / "spool.sqlite"
        self.spool.parent.mkdir()
        self._clock = self.disk = self.failing = None
        self.killed_at, self.no_room = list[float](), list[tuple[float, float]]()
        self.lines, self.rows = list[dict[str, Any]](), list[dict[str, Any]]()
        begin = datetime.now(UTC) - timedelta(seconds=5 * POLLS + 10)
        self._begin = begin.replace(microsecond=0)
        for device in DEVICES:
            self.site.journal(device).touch()
        self.numbered = Numbered(self.site)
        self.card = Card(self.spool.parent, self.numbered, lets_go=False)

    def date(self, number: int) -> datetime:
        """When the poll of a number was answered."""
        return self._begin + timedelta(seconds=5 * number)

    def poll(self, numbers: range) -> None:
        """Let polls come to a reading in the spool, a line of the log and a row."""
        with closing(SpoolStore(self.spool, SpoolOptions(), SystemClock())) as store:
            for number in numbers:
                self._poll(store, number)
        self.numbered.refresh()  # they are polls of the past

    def _poll(self, store: SpoolStore, number: int) -> None:
        entry = JournalEntry(
            number + 1, self.date(number), 1, BLOCK, tuple(range(number, number + BLOCK.count))
        )
        with self.site.journal(DEVICE).open("a") as journal:
            journal.write(f"{entry.to_json()}\n")
        date = self.date(number) + timedelta(milliseconds=40)
        ago_s = (datetime.now(UTC) - date).total_seconds()
        boot = BootStamp("boot", int((time.clock_gettime(time.CLOCK_BOOTTIME) - ago_s) * 1000))
        sample = NORMALIZER.normalize(RegisterWords.from_block(BLOCK, entry.words), ts=date)
        content = json.loads(sample.model_dump_json(exclude_none=True, exclude={"device_id", "ts"}))
        ts_ms = round(date.timestamp() * 1000)
        kept = store.append(DEVICE.device_id, ts_ms, json.dumps(content), boot=boot, ts_is_final=True)
        self.rows.append(json.loads(kept.to_json()))
        self.lines.append(self.line(number, outcome="accepted", seq=kept.seq, missing=[]))

    def line(self, number: int, **more: Any) -> dict[str, Any]:
        """Say something of a poll."""
        shown = format_ts(self.date(number) + timedelta(milliseconds=500))
        ts = format_ts(self.date(number) + timedelta(milliseconds=40))
        return {"time": shown, "event": "poll", "device_id": DEVICE.device_id, "ts": ts, **more}

    def forget(self, number: int) -> None:
        """Let a poll have come to nothing, by the spool, the log and the database."""
        with closing(sqlite3.connect(self.spool, isolation_level=None)) as connection:
            connection.execute("DELETE FROM standing WHERE seq = ?", (number + 1,))
            connection.execute("DELETE FROM reading WHERE seq = ?", (number + 1,))
        del self.lines[number], self.rows[number]

    def judge(self) -> Account:
        """Judge it."""
        account = Account()
        self.site.log("edge").write_text("".join(f"{json.dumps(line)}\n" for line in self.lines))
        judge_polled(account, self.site, self, self.rows)
        return account


@pytest.fixture
def edge(tmp_path: Path) -> Told:
    told = Told(tmp_path)
    told.poll(range(POLLS))
    return told


def test_all_is_well(edge: Told) -> None:
    account = edge.judge()
    assert account.holds, account.findings
    assert (account.polled, account.accepted, account.stored) == (POLLS, POLLS, POLLS)


def lose_row(edge: Told) -> None:
    del edge.rows[4]


def double_row(edge: Told) -> None:
    edge.rows.append(edge.rows[4] | {"ts": format_ts(edge.date(4) + timedelta(milliseconds=90))})


def alter_row(edge: Told) -> None:
    edge.rows[4] |= {"export_power_w": -1}


def misdate_row(edge: Told) -> None:
    edge.rows[4] |= {"ts": format_ts(edge.date(0) - timedelta(hours=1))}


def alter_in_spool_and_database(edge: Told) -> None:
    """The inverter has answered something else."""
    journal = edge.site.journal(DEVICE)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[4]["words"] = [word + 1 for word in lines[4]["words"]]
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def lose_in_spool_and_database(edge: Told) -> None:
    line = edge.lines[4]
    edge.forget(4)
    edge.lines.insert(4, line)


def lose_in_spool(edge: Told) -> None:
    line, row = edge.lines[4], edge.rows[4]
    edge.forget(4)
    edge.lines.insert(4, line)
    edge.rows.insert(4, row)


def say_nothing(edge: Told) -> None:
    edge.forget(4)


def never_accept(edge: Told) -> None:
    row = edge.rows[4]
    edge.forget(4)
    edge.rows.insert(4, row)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lose_row, "lost"),
        (double_row, "doubled"),
        (alter_row, "altered"),
        (misdate_row, "lost"),
        (misdate_row, "altered"),
        (alter_in_spool_and_database, "altered"),
        (lose_in_spool_and_database, "lost"),
        (lose_in_spool, "lost"),
        (say_nothing, "lost"),
        (never_accept, "altered"),
    ],
)
def test_what_must_not_be_is_found(edge: Told, wrong: Callable[[Told], None], kind: str) -> None:
    wrong(edge)
    assert getattr(edge.judge(), kind)


def test_a_reading_whose_running_time_was_rounded_down_is_of_its_own_poll(edge: Told) -> None:
    polls = edge.numbered.devices[DEVICE.device_id]
    found = [polls.at(edge.date(number) - timedelta(milliseconds=0.6)) for number in range(POLLS)]
    assert found == list(range(POLLS))
    assert polls.at(edge.date(0) - timedelta(milliseconds=4)) is None


def test_a_poll_that_a_kill_or_the_log_explains_is_not_accepted(edge: Told) -> None:
    edge.forget(7)
    edge.forget(4)
    edge.killed_at.append(edge.date(4).timestamp() + 1)
    edge.lines.append(edge.line(7, outcome="damaged"))
    account = edge.judge()
    assert account.holds, account.findings
    assert account.not_accepted == {"killed in between": 1, "damaged": 1}


def test_what_was_asked_before_a_kill_may_be_answered_after_it(edge: Told) -> None:
    edge.forget(4)
    edge.killed_at.append(edge.date(4).timestamp() - 2)
    assert edge.judge().lost, "whoever asked that was another process"
    edge.killed_at.append(edge.date(4).timestamp() - 0.8)
    assert edge.judge().not_accepted == {"killed in between": 1}


def test_only_a_full_disk_of_the_harness_explains_a_later_kill(edge: Told) -> None:
    edge.forget(4)
    edge.killed_at.append(edge.date(9).timestamp() + 1)
    assert edge.judge().lost
    edge.no_room.append((edge.date(3).timestamp(), edge.date(8).timestamp()))
    assert edge.judge().holds


def test_also_of_a_poll_that_was_under_way_when_the_disk_failed(edge: Told) -> None:
    edge.forget(4)
    edge.killed_at.append(edge.date(7).timestamp() + 1)
    edge.no_room.append((edge.date(6).timestamp(), edge.date(8).timestamp()))
    assert edge.judge().lost, "that was two polls later"
    edge.no_room[:] = [(edge.date(4).timestamp() + 1, edge.date(8).timestamp())]
    assert edge.judge().holds


def rows_in(edge: Told) -> list[dict[str, Any]]:
    """Recover the spool and let all that it has then be stored."""
    with closing(SpoolStore(edge.spool, SpoolOptions(recover=True), SystemClock())) as store:
        records = store.records(0, 1000)
    return [json.loads(record.entry.to_json()) for record in records if record.code != "doubtful"]


def test_what_an_older_copy_takes_is_destroyed(tmp_path: Path) -> None:
    edge = Told(tmp_path)
    edge.poll(range(7))
    edge.card.copy()
    edge.poll(range(7, POLLS))
    edge.card.restore()
    edge.rows = rows_in(edge)
    account = edge.judge()
    assert account.holds, account.findings
    assert list(account.destroyed) == [f"{POLLED}/{DEVICE.device_id}/{n}" for n in range(7, POLLS)]


def test_what_is_gone_beyond_that_is_lost(tmp_path: Path) -> None:
    edge = Told(tmp_path)
    edge.poll(range(7))
    edge.card.copy()
    edge.poll(range(7, POLLS))
    edge.card.restore()
    edge.rows = rows_in(edge)[1:]
    assert [line.partition(":")[0] for line in edge.judge().lost] == [f"{POLLED}/{DEVICE.device_id}/0"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_takes_what_the_record_says(tmp_path: Path, damage: str, seed: int) -> None:
    edge = Told(tmp_path)
    edge.poll(range(7))
    edge.card.damage(nothing, random.Random(seed))  # the older copy
    edge.poll(range(7, POLLS))
    edge.card.damage(DAMAGES[damage], random.Random(seed))
    edge.rows = rows_in(edge)
    account = edge.judge()
    assert account.holds, account.findings
    assert len(account.destroyed) + len(account.doubtful) + account.stored == POLLS


def nothing(files: Files, older: Files, draw: random.Random) -> Files:
    del older, draw
    return files
