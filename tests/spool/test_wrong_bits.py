"""Wrong bits in what a spool says of itself: no page tells of them, and they keep no spool shut."""

from __future__ import annotations

import logging
import random
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.errors import SpoolCorruptError, SpoolError
from sungrow_lib.spool import (
    HeldWhy,
    SpoolOptions,
    SpoolOwner,
    SpoolRecovery,
    SystemClock,
    database,
    holding,
    renaming,
)
from sungrow_lib.spool.disk import is_passing
from sungrow_lib.spool.errors import is_no_text
from sungrow_lib.spool.meta import note_merged_renamed
from sungrow_lib.spool.notes import read_renamings, renaming_number
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS
from tests.spool.test_holding import append, opened
from tests.spool.test_stale_names import sendable

SEED: Final = 20_261_127
DAMAGES: Final = 12
SECTOR: Final = 512
NO_NOTES: Final = (b'"olx": "', b'"old"; "', b'"old": ["')
OLD: Final = "lost-device-1"
FAR: Final = f"[{2**62}, {2**62}, 1]"


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes the log, so it need not be looked at again later."""
    monkeypatch.setattr(database, "_LOG_LOOK_S", 0)


def renamed(path: Path) -> None:
    """A spool with a renaming, and no log beside it."""
    with closing(opened(path)) as store:
        append(store, OLD, 1, 2, 3)
        store.change(lambda c: holding.hold(c, OLD, HeldWhy.LOST))
        store.change(lambda c: renaming.rename(c, OLD, "roof"))


def altered(path: Path, was: bytes, now: bytes, copies: tuple[int, ...]) -> None:
    """Write another text over some copies of one, of the same length."""
    content = bytearray(path.read_bytes())
    places = [at for at in range(len(content)) if content.startswith(was, at)]
    assert len(places) == 2
    for copy in copies:
        content[places[copy] : places[copy] + len(was)] = now[: len(was)]
    path.write_bytes(content)


@pytest.mark.parametrize("now", NO_NOTES)
@pytest.mark.parametrize("copies", [(0,), (1,), (0, 1)])
def test_a_damaged_note_of_a_renaming_ends_no_recovery(
    path: Path, caplog: pytest.LogCaptureFixture, now: bytes, copies: tuple[int, ...]
) -> None:
    renamed(path)
    altered(path, b'"old": "', now, copies)
    with closing(opened(path, damage="as a test says")) as store:
        assert store.recovery is not None
        assert store.recovery.saved == 3
        assert {name for name, _ in sendable(store)} == {"roof"}
        told = "the notes of renamings are lost: they cannot be taken back"
        assert [record.message for record in caplog.records].count(told) == (len(copies) == 2)
        assert len(store.look(read_renamings)) == (len(copies) < 2)
    with closing(opened(path, damage="as a test says, again")) as store:
        assert store.faults() == []


@pytest.mark.parametrize("key", ["edge_id", "spool_id", "generation"])
@pytest.mark.parametrize("copies", [("meta",), ("meta", "again")], ids=["first copy", "both"])
def test_a_name_of_the_spool_that_is_no_text_any_more_keeps_it_open(
    path: Path, key: str, copies: tuple[str, ...]
) -> None:
    renamed(path)
    with closing(opened(path)) as store:
        known = store.look(holding.read_owner), store.identity
    with closing(sqlite3.connect(path)) as connection:  # one bit of the type before the text
        for event in ("insert", "update", "delete"):
            connection.execute(f"DROP TRIGGER again_{event}")
        for table in copies:
            connection.execute(f"UPDATE {table} SET value = CAST(value AS BLOB) WHERE key = ?", (key,))
        connection.commit()
    with closing(opened(path)) as store:
        owner = store.look(holding.read_owner)
        assert all(isinstance(name, str) for name in (owner.edge_id, store.identity.generation))
        assert "b'" not in str(owner.spool_id)
        assert {name for name, _ in sendable(store)} == {"roof"}
        kept = len(copies) == 1 and key != "generation"  # of which there is one copy
        assert ((owner, store.identity) == known) == kept
        assert store.recovery is None


def insert(connection: sqlite3.Connection, row: tuple[str, str]) -> None:
    connection.execute("INSERT INTO meta VALUES (?, ?)", row)


def test_what_a_note_gave_up_that_cannot_be_read_is_held(path: Path) -> None:
    old = "roof.aaaaaaaa"
    with closing(opened(path)) as store:
        for name in (old, OLD, "shed"):
            append(store, name, 1)
        for number, note in ((1, f'{{"old": "{old}", "new'), (2, '{"ol": 7}'), (3, '{"old": "nobody"')):
            row = (f"renamed:{number}", note)
            store.change(partial(insert, row=row))
        store.change(lambda c: c.execute("DELETE FROM meta WHERE key GLOB 'held:*'"))
    with closing(opened(path, damage="as a test says")) as store:
        assert set(store.look(holding.read_held)) == {old, OLD}
        assert {name for name, _ in sendable(store)} == {"shed"}


def test_a_damaged_note_is_in_nobodys_way(path: Path) -> None:
    renamed(path)
    altered(path, b'"old": "', b'"olx": "', (0, 1))
    with closing(opened(path)) as store:
        store.change(lambda c: note_merged_renamed(c, 1, 2))
        append(store, "lost-device-2", 1)
        store.change(lambda c: holding.hold(c, "lost-device-2", HeldWhy.LOST))
        store.change(lambda c: renaming.rename(c, "lost-device-2", "shed"))
        assert list(store.look(read_renamings)) == [1, 2]
        store.change(lambda c: holding.own(c, SpoolOwner("11111111-1111-4111-8111-111111111111", None)))
        assert {held.why for held in store.look(holding.read_held).values()} == {HeldWhy.FOREIGN}
        assert store.faults() == []


@pytest.mark.parametrize("copies", [(0,), (1,)])
def test_one_copy_is_enough_to_take_a_renaming_back(path: Path, copies: tuple[int, ...]) -> None:
    renamed(path)
    altered(path, b'"old": "', b'"olx": "', copies)
    with closing(opened(path)) as store:
        assert store.change(lambda c: renaming.undo(c, OLD)).moved == 3


def written(path: Path, table: str, *changes: tuple[str, str, str]) -> None:
    """Change one copy of the note of a renaming, and not the other."""
    with closing(sqlite3.connect(path)) as connection:
        for event in ("insert", "update", "delete"):
            connection.execute(f"DROP TRIGGER IF EXISTS again_{event}")
        for column, was, now in changes:
            query = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE key GLOB 'renamed:*'"
            assert connection.execute(query, (was, now)).rowcount == 1
        connection.commit()


@pytest.mark.parametrize("table", ["meta", "again"])
def test_of_copies_that_both_can_be_read_either_name_is_held(path: Path, table: str) -> None:
    other = "lost-device-3"
    with closing(opened(path)) as store:
        append(store, other, 7)
    renamed(path)
    written(path, table, ("value", f'"{OLD}"', f'"{other}"'), ("value", '"until": 4', '"until": 0'))
    with closing(opened(path)) as store:
        store.change(lambda c: c.execute("UPDATE reading SET device = 2 WHERE seq = 4"))
        store.change(lambda c: c.execute("UPDATE standing SET device = 2 WHERE seq = 4"))
        [note] = store.look(read_renamings).values()
        assert note is not None
        assert {note.old, *note.also} == {OLD, other}
        assert note.until == 4
        store.change(lambda c: c.execute("DELETE FROM meta WHERE key GLOB 'held:*'"))
    with closing(opened(path, damage="as a test says")) as store:
        assert set(store.look(holding.read_held)) == {OLD, other}
        assert {name for name, _ in sendable(store)} == {"roof"}


@pytest.mark.parametrize("table", ["meta", "again"])
@pytest.mark.parametrize(
    "change",
    [
        ("value", f'"{OLD}"', '"lost-devicd-1"'),
        ("value", '"roof"', '"rooF"'),
        ("value", '"until"', '"untim"'),
        ("value", '"is_undone"', '"is_undnne"'),
        ("key", "1", "3"),
        ("key", "1", "q"),
    ],
)
def test_of_two_copies_the_one_without_a_wrong_bit_is_believed(
    path: Path, table: str, change: tuple[str, str, str]
) -> None:
    renamed(path)
    written(path, table, change)
    with closing(opened(path)) as store:
        [(number, note)] = store.look(read_renamings).items()
        assert note is not None
        assert (number, note.old, note.new, note.until) == (1, OLD, "roof", 3)
        assert store.change(lambda c: renaming.undo(c, OLD)).moved == 3
    written(path, table, ("value", '"is_undone": true', '"is_undone": false'))
    with closing(opened(path)) as store:
        [note] = store.look(read_renamings).values()
        assert note is not None
        assert note.is_undone


def floors_of(store: SpoolStore) -> dict[str, int]:
    return dict(store.change(lambda c: c.execute("SELECT name, floor_ts FROM device").fetchall()))


@pytest.mark.parametrize("tables", [("meta",), ("again",), ("meta", "again")], ids="-".join)
@pytest.mark.parametrize("wrong", ["37803", "13803"], ids=["too high", "too low"])
def test_a_wrong_date_in_a_note_dates_no_new_reading(path: Path, wrong: str, tables: tuple[str, ...]) -> None:
    with closing(opened(path)) as store:
        append(store, "roof", 1, 2, 3)
        append(store, OLD, 10, 11, 12)
        store.change(lambda c: holding.hold(c, OLD, HeldWhy.LOST))
        dates = "SELECT max(ts) FROM reading WHERE reading.device = device.id"
        store.change(lambda c: c.execute(f"UPDATE device SET floor_ts = ({dates})"))
        before = floors_of(store)
        store.change(lambda c: renaming.rename(c, OLD, "roof"))
    for table in tables:
        written(path, table, ("value", "17803", wrong))
    with closing(opened(path)) as store:
        store.change(lambda c: renaming.undo(c, OLD))
        after = floors_of(store)
        assert all(before[name] <= after[name] <= max(before.values()) for name in before)
        append(store, "roof", 20)
        assert store.records(0, 10)[-1].entry.ts_ms == NOON_MS + 100_000


def test_the_number_of_a_renaming_is_one_that_can_be_read_back(path: Path) -> None:
    assert renaming_number("renamed:\N{ARABIC-INDIC DIGIT ONE}") is None
    renamed(path)
    with closing(opened(path)) as store:
        store.change(lambda c: c.execute(f"UPDATE standing SET offered = {2**62} WHERE seq = 2"))
        append(store, "lost-device-2", 7)
        store.change(lambda c: holding.hold(c, "lost-device-2", HeldWhy.LOST))
        store.change(lambda c: renaming.rename(c, "lost-device-2", "shed"))
        assert store.change(lambda c: renaming.undo(c, "lost-device-2")).moved == 1


def test_a_hold_whose_key_is_damaged_holds_by_its_copy(path: Path) -> None:
    with closing(opened(path)) as store:
        append(store, "roof", 1)
        store.change(lambda c: holding.hold(c, "roof", HeldWhy.FOREIGN))
        store.change(lambda c: c.execute("DROP TRIGGER again_update"))
        store.change(lambda c: c.execute("UPDATE meta SET key = 'helf:roof' WHERE key = 'held:roof'"))
    with closing(opened(path)) as store:
        assert list(sendable(store)) == []


def test_a_reason_that_is_none_holds_all_the_same(path: Path) -> None:
    with closing(opened(path)) as store:
        append(store, "roof", 1)
        store.change(lambda c: holding.hold(c, "roof", HeldWhy.FOREIGN))
        store.change(lambda c: c.execute("UPDATE meta SET value = 'foreigm' WHERE key GLOB 'held:*'"))
    for damage in (None, "as a test says"):
        with closing(opened(path, damage=damage)) as store:
            assert store.look(holding.read_held)["roof"].why is HeldWhy.LOST
            assert store.records(0, 10)[0].held is HeldWhy.LOST
            assert list(sendable(store)) == []


@pytest.mark.parametrize("key", ["server_date", "server_starts", "boot_lines", "recovery", "merging"])
@pytest.mark.parametrize(
    "value", [FAR, "{", "3", "[]", "[1]", '{"1": 1}', '[1, 2, "3"]', '"x"', "[" * 100_000]
)
def test_a_note_that_says_nothing_counts_as_never_made(path: Path, key: str, value: str) -> None:
    with closing(opened(path)) as store:
        append(store, "roof", 1)
        store.change(lambda c: c.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value)))
    with closing(opened(path)) as store:
        append(store, "roof", 2)
        assert store.recovery is None
        assert store.counts("roof").pending == 2
        assert store.faults() == []


def set_high_bit(path: Path, behind: bytes, offset: int = 0) -> None:
    content = bytearray(path.read_bytes())
    at = content.find(behind)
    assert at > 0
    content[at + len(behind) + offset] ^= 0x80
    path.write_bytes(content)


@pytest.mark.parametrize(
    "behind", [b"generation", b"CREATE TABLE s", b"CREATE TABLE m", b"CREATE TRIGGER ", b"spool_id", b"ro"]
)
def test_text_that_is_none_is_damage_and_the_spool_opens(path: Path, behind: bytes) -> None:
    renamed(path)
    set_high_bit(path, behind)
    damaged = path.read_bytes()
    with pytest.raises(SpoolError) as caught:
        SpoolStore(path, SpoolOptions(), SystemClock()).close()
    assert isinstance(caught.value, SpoolCorruptError)
    assert is_passing(caught.value, path)
    path.write_bytes(damaged)
    with closing(opened(path)) as store:
        assert store.recovery is not None
        assert Path(store.recovery.set_aside).exists()
        append(store, "shed", 9)
        assert store.counts(None).pending == 4
        assert store.faults() == []


@pytest.mark.parametrize("clock", [b"serv\xe5r", b"servdr", b""])
def test_a_reading_whose_clock_has_a_wrong_bit_is_kept(path: Path, clock: bytes) -> None:
    """No checksum has it, and nothing hangs on it."""
    with closing(opened(path)) as store:
        append(store, "roof", 1, 2)
        store.change(lambda c: c.execute("UPDATE reading SET clock = 'server'"))
        query = "UPDATE reading SET clock = CAST(? AS TEXT) WHERE seq = 1"
        store.change(lambda c: c.execute(query, (clock,)))
    with closing(opened(path, damage="as a test says")) as store:
        assert [record.entry.clock_source for record in store.records(0, 9)] == [None, "server"]
        assert [content for _, content in sendable(store)] == ['{"pv_power_w":1}', '{"pv_power_w":2}']


# --- many of them ----------------------------------------------------------------------------------------


def full_of_notes(path: Path) -> tuple[bytes, bytes]:
    """Return file and log of a spool with renamings, one taken back, holds, and a device set aside."""
    with closing(opened(path)) as store:
        for number in range(1, 6):
            name = f"lost-device-{number}"
            append(store, name, *range(20 * number, 20 * number + 15))
            store.change(partial(holding.hold, device_id=name, why=HeldWhy.LOST))
        store.change(lambda c: renaming.rename(c, "lost-device-1", "roof"))
    with closing(opened(path)) as store:
        store.change(lambda c: renaming.rename(c, "lost-device-2", "shed"))
        store.change(lambda c: renaming.rename(c, "lost-device-3", "roof"))
        store.change(lambda c: renaming.undo(c, "lost-device-3"))
        store.change(lambda c: holding.set_aside(c, "lost-device-4"))
        append(store, "roof", *range(200, 220))
        return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def flipped(chance: random.Random, content: bytes, kind: str) -> bytes:
    """Return it with wrong bits: some in one sector, or scattered."""
    bits = bytearray(content)
    begin, size = 0, len(bits)
    if kind == "sector":
        begin, size = SECTOR * chance.randrange(len(bits) // SECTOR), SECTOR
    for _ in range(20):
        bits[begin + chance.randrange(size)] ^= 1 << chance.randrange(8)
    return bytes(bits)


@pytest.mark.parametrize("kind", ["sector", "scattered"])
@pytest.mark.parametrize("where", ["file", "file alone", "log"])
def test_whatever_bits_are_wrong_the_spool_opens(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, where: str
) -> None:
    """As the daemon does it: what a call finds later, is said to the next opening."""
    caplog.set_level(logging.CRITICAL)
    file, log = full_of_notes(path)
    if where == "file alone":
        file, log = path.read_bytes(), b""
    chance = random.Random(f"{SEED} {kind} {where}")
    left = tmp_path / "left.db"
    recoveries = 0
    for number in range(DAMAGES):
        for old in tmp_path.glob("left.db*"):
            old.unlink()
        left.write_bytes(file if where == "log" else flipped(chance, file, kind))
        if log:
            Path(f"{left}-wal").write_bytes(flipped(chance, log, kind) if where == "log" else log)
        damage, recovery = used(left, None)
        if damage is not None:
            again, recovery = used(left, damage)
            assert again is None, f"number {number}: {damage}, then {again}"
            assert recovery is not None
        if recovery is not None:
            recoveries += 1
            assert Path(recovery.set_aside).exists()
    assert recoveries > 2


def used(path: Path, damage: str | None) -> tuple[str | None, SpoolRecovery | None]:
    """Open a spool, and use it; return what damage a call met, and what became of a damaged file."""
    try:
        with closing(opened(path, damage=damage)) as store:
            list(sendable(store))
            store.look(holding.read_held)
            store.counts(None)
            append(store, "shed", 900)
            # Whether a date, or what a reading says, is right, no check can tell.
            assert store.look(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
            return None, store.recovery
    except SpoolCorruptError as error:
        return str(error), None


def test_the_codes_of_the_errors_are_as_this_counts_on(path: Path) -> None:
    """A value that is no text has no code, and everything SQLite says has one."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x TEXT)")
        connection.execute("INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
        with pytest.raises(sqlite3.OperationalError) as none:
            connection.execute("SELECT x FROM t").fetchall()
        with pytest.raises(sqlite3.OperationalError) as some:
            connection.execute("SELECT y FROM t")
    assert is_no_text(none.value)
    assert not is_no_text(some.value)
    assert not is_no_text(sqlite3.OperationalError("disk I/O error"))  # then nobody knows
    assert some.value.sqlite_errorcode == sqlite3.SQLITE_ERROR
