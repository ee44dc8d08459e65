"""Parts of the harness that could hide a loss, or invent one, if they were wrong."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path

import pytest

from sungrow_lib.spool import SpoolOptions, foreign, salvage
from sungrow_lib.spool.entries import from_ms
from sungrow_lib.spool.store import SpoolStore
from tests.crash import broken
from tests.crash.account import Account, Fed, judge_fed, keys_in
from tests.crash.damage import DAMAGES, Files
from tests.crash.machine import ClockHistory
from tests.crash.readings import Key, Tally, values
from tests.spool.helpers import FakeClock


def test_what_a_clock_showed_is_put_right_also_where_it_was_set_back() -> None:
    history = ClockHistory()
    for since, offset_s in ((1000, 0), (2000, -600), (2700, 0), (3000, 900), (3050, 0)):
        history.note(since, offset_s)
    true = [1500, 1999, 2001, 2100, 2650, 2701, 2990, 3010, 3049, 3060]
    shown = [1500, 1999, 1401, 1500, 2050, 2701, 2990, 3910, 3949, 3060]
    assert list(history.true_times(shown)) == true


def account_of(folder: Path, damage: str) -> Account:
    """Damage a spool of which nothing was sent, recover it, deliver what it has then, and judge."""
    path, clock, tally, older = folder / "spool.sqlite", FakeClock(), Tally(), Files(b"")
    with closing(SpoolStore(path, SpoolOptions(), clock)) as store:
        for number in range(1, 81):
            clock.pass_s(5)
            key = Key("damaged", "inv", number)
            content = json.dumps(values(1, key, from_ms(clock.wall_ms)))
            store.append("inv", clock.wall_ms, content, boot=None, ts_is_final=True)
            tally.tried[key] = clock.wall_ms
            tally.accepted.add(key)
            older = Files.read(path) if number == 40 else older
            if number == 60:
                store._database.fold_log()
        files = Files.read(path)
    files.write(path)
    before = keys_in(folder)
    assert before.keys() == tally.accepted <= files.keys()
    after = DAMAGES[damage](files, older, random.Random(4))
    after.write(path)
    gone = before.keys() & (files.keys() - after.keys())
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock)) as store:
        rows = [json.loads(record.entry.to_json()) for record in store.records(0, 1000)]
    account = Account()
    judge_fed(account, Fed(tally, dict.fromkeys(gone, damage), set(), 1), rows, [])
    return account


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_costs_what_the_record_says_and_nothing_else(tmp_path: Path, damage: str) -> None:
    account = account_of(tmp_path, damage)
    assert account.holds, account.findings
    assert len(account.destroyed) + account.stored == account.accepted


@pytest.mark.parametrize("damage", ["spool damaged: header of the log zeroed", "spool damaged: file and log"])
def test_a_recovery_that_drops_rows_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(salvage, "as_reading", foreign.as_reading)  # put back in the end
    broken.apply("recovery that drops rows")
    assert account_of(tmp_path, damage).lost
