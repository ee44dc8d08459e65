"""Parts of the harness that could hide a loss, or invent one, if they were wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sungrow_lib.sample import format_ts
from sungrow_lib.spool import Lane, Settlement, SpoolEntry, SpoolOptions, foreign, salvage, salvage_schema
from sungrow_lib.spool.entries import from_ms
from sungrow_lib.spool.merging import merge_contents
from sungrow_lib.spool.store import SpoolStore
from tests.crash import broken
from tests.crash.account import Account, Fed, judge_fed, keys_in
from tests.crash.card import Card, Carried
from tests.crash.damage import (
    DAMAGES,
    Files,
    frames_overwritten,
    keys_in as keys_on,
    pages_overwritten,
    touched,
)
from tests.crash.machine import ClockHistory
from tests.crash.readings import Key, Tally, keys_of, values
from tests.spool.helpers import NOON_MS, FakeClock


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
        records = store.records(0, 1000)
    rows = [json.loads(record.entry.to_json()) for record in records if record.code != "doubtful"]
    apart = {key for r in records if r.code == "doubtful" for key in keys_of(json.loads(r.entry.content))}
    keys = {key for reading in touched(files, after) for key in keys_on(reading)}
    account = Account()
    judge_fed(account, Fed(tally, dict.fromkeys(gone, damage), apart, keys), rows, [])
    return account


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_costs_what_the_record_says_and_nothing_else(tmp_path: Path, damage: str) -> None:
    account = account_of(tmp_path, damage)
    assert account.holds, account.findings
    assert len(account.destroyed) + len(account.doubtful) + account.stored == account.accepted


@pytest.mark.parametrize("damage", ["spool damaged: header of the log zeroed", "spool damaged: file and log"])
def test_a_recovery_that_drops_rows_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(salvage, "as_reading", foreign.as_reading)  # put back in the end
    broken.apply("recovery that drops rows")
    assert account_of(tmp_path, damage).lost


def test_a_recovery_that_sets_readings_apart_without_need_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage_schema, "FINISH", salvage_schema.FINISH)  # put back in the end
    broken.apply("recovery that doubts everything")
    account = account_of(tmp_path, "spool damaged: pages of the file")
    assert account.doubtful, "no page of a reading was damaged"
    assert any("set apart by a recovery" in line for line in account.lost)


THREE = [Key("small", "inv", number) for number in (1, 2, 3)]


def judged(
    taken: Sequence[Key], rows: list[dict[str, Any]], aside: Sequence[dict[str, Any]] = (), **more: Any
) -> Account:
    """Judge what edges took, a reading every five seconds from noon on."""
    tally, account = Tally(), Account()
    for key in taken:
        tally.tried[key], tally.taken_at[key] = NOON_MS + key.number * 5000, 100.0
        tally.accepted.add(key)
    judge_fed(account, Fed(tally, **more), rows, list(aside))
    return account


def row_of(content: dict[str, Any], number: int) -> dict[str, Any]:
    date = format_ts(from_ms(NOON_MS + number * 5000))
    return {"device_id": "inv", "ts": date, **content}


def merged_row(**wrong: Any) -> dict[str, Any]:
    content = merge_contents([values(1, key, from_ms(NOON_MS)) for key in THREE]) | wrong
    return row_of({name: value for name, value in content.items() if value is not None}, 3)


def test_readings_may_be_merged_only_where_the_harness_took_the_room() -> None:
    account = judged(THREE, [merged_row()], no_room_until={"small": 101.0})
    assert account.holds, account.findings
    assert list(account.merged) == ["small/inv/1", "small/inv/2"]
    assert judged(THREE, [merged_row()]).altered
    assert judged(THREE, [merged_row()], no_room_until={"small": 99.0}).altered


@pytest.mark.parametrize("wrong", [{"sample_count": 2}, {"sample_count": None}, {"pv_power_w": 1}])
def test_a_merged_row_that_is_not_the_average_of_its_readings_is_caught(wrong: dict[str, Any]) -> None:
    assert judged(THREE, [merged_row(**wrong)], no_room_until={"small": 101.0}).altered


def test_a_reading_may_be_kept_aside_only_for_one_of_another_edge() -> None:
    mine, next_one, twin = THREE[0], THREE[1], Key("twin", "inv", 1)
    rows = {key: row_of(values(1, key, from_ms(NOON_MS)), 1) for key in (mine, next_one, twin)}
    account = judged([mine, twin], [rows[mine]], [rows[twin]], shared={"inv"})
    assert account.holds, account.findings
    assert account.kept_aside == {"twin/inv/1": "for small/inv/1"}
    assert judged([mine, twin], [rows[mine]], [rows[twin]]).lost
    assert judged([mine, next_one], [rows[mine]], [rows[next_one]], shared={"inv"}).lost
    assert judged([mine, twin], [], [rows[twin]], shared={"inv"}).lost


def test_a_reading_that_is_stored_twice_or_otherwise_is_caught() -> None:
    row = row_of(values(1, THREE[0], from_ms(NOON_MS)), 1)
    assert judged(THREE[:1], [row]).holds
    assert judged(THREE[:1], [row, row_of(values(1, THREE[0], from_ms(NOON_MS)), 2)]).doubled
    assert judged(THREE[:1], [row | {"battery_soc_pct": 1.5}]).altered
    assert judged(THREE[:1], [row_of(values(1, THREE[0], from_ms(NOON_MS)), 100)]).altered
    assert judged(THREE[:1], [row | {"device_id": "shed"}]).altered
    assert judged([], [row]).altered
    assert judged(THREE[:1], []).lost


# --- the record of what is taken from a spool ------------------------------------------------------------


def taken(store: SpoolStore, edge: str, number: int) -> SpoolEntry:
    ts = NOON_MS + number * 5000
    content = json.dumps(values(1, Key(edge, edge, number), from_ms(ts)))
    return store.append(edge, ts, content, boot=None, ts_is_final=True)


def card_of(folder: Path, edge: str, numbers: Sequence[int], *, delivered: Sequence[int] = ()) -> Card:
    """Make a spool, or add to one, that has taken readings of these numbers, five seconds apart."""
    (folder / edge).mkdir(exist_ok=True)
    card = Card(folder / edge, Carried(), lets_go=False)
    with closing(SpoolStore(card.path, SpoolOptions(), FakeClock())) as store:
        for number in numbers:
            entry = taken(store, edge, number)
            if number in delivered:
                store.offer(edge, 100, Lane.BACKLOG, skip=(), bound=0)
                store.settle(edge, Settlement(delivered=[entry.seq]))
    return card


def add_to(card: Card, edge: str, *numbers: int) -> None:
    card_of(card.folder.parent, edge, numbers)


def keys(edge: str, *numbers: int) -> set[Key]:
    return {Key(edge, edge, number) for number in numbers}


def test_a_spool_that_was_put_aside_for_another_has_lost_nothing(tmp_path: Path) -> None:
    mine, guest = card_of(tmp_path, "mine", [1, 2]), card_of(tmp_path, "guest", [1, 2], delivered=[1])
    mine.take_in(guest)
    assert mine.states().keys() == mine.others == keys("guest", 1, 2)
    assert not guest.states()
    add_to(mine, "mine", 3)  # of its own, into the other's spool
    assert mine.destroyed() == guest.destroyed() == {}
    mine.give_back()
    assert not mine.is_lent
    assert mine.states().keys() == keys("mine", 1, 2)
    assert mine.destroyed().keys() == keys("guest", 2) | keys("mine", 3)
    mine.note_server_restored(keys("guest", 1))
    assert mine.destroyed().keys() == keys("guest", 1, 2) | keys("mine", 3)


def test_what_went_from_the_server_is_not_called_delivered_in_another_edges_place(tmp_path: Path) -> None:
    mine, guest = card_of(tmp_path, "mine", []), card_of(tmp_path, "guest", [1, 2], delivered=[1, 2])
    guest.note_server_restored(keys("guest", 1))
    mine.take_in(guest)
    mine.give_back()
    assert mine.destroyed().keys() == keys("guest", 1)


def test_a_spool_of_an_earlier_life_brings_back_what_was_deleted(tmp_path: Path) -> None:
    card = card_of(tmp_path, "mine", [1, 2])
    card.copy()
    add_to(card, "mine", 3)
    card.begin_anew()
    assert card.destroyed().keys() == keys("mine", 1, 2, 3)
    add_to(card, "mine", 4)
    card.restore()
    assert card.states().keys() == keys("mine", 1, 2)
    assert card.destroyed().keys() == keys("mine", 3, 4)


@pytest.mark.parametrize("seed", range(12))
def test_what_goes_when_a_damaged_log_is_folded_is_taken_by_who_folds_it(tmp_path: Path, seed: int) -> None:
    """SQLite ends at the first frame that is damaged, and deletes the rest: the product never lets it."""
    card, draw = card_of(tmp_path, "mine", range(10), delivered=range(5)), random.Random(seed)
    with closing(SpoolStore(card.path, SpoolOptions(), FakeClock())) as store:
        for number in range(10, 20):
            taken(store, "mine", number)
        card.damage_in_use(frames_overwritten, draw)
        for number in range(20, 40):
            taken(store, "mine", number)
        files = Files.read(card.path)
    files.write(card.path)  # as a kill leaves it
    card.note_server_restored(keys("mine", 0))
    card.damage(pages_overwritten, draw)
    with closing(SpoolStore(card.path, SpoolOptions(recover=True), FakeClock())):
        pass
    assert card.states().keys() | card.taken.keys() == keys("mine", *range(40))
