"""A wrong bit in the header of a row makes another type of a value, and no page tells of it.

Whatever it is, all other readings are delivered as they were accepted, and the one it hit either as well or,
where it cannot be read any more, not at all; then it is in the file that was set aside, and counted.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from sungrow_lib.errors import SpoolCorruptError
from sungrow_lib.spool import Lane, SpoolOptions, SpoolState, database
from sungrow_lib.spool.packing import pack
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, FakeClock
from tests.spool.test_holding import append

HIT: Final = 3
NUMBERS: Final = range(1, 6)
DATES: Final = {seq: NOON_MS + 5_000 * seq for seq in NUMBERS}
Sent = dict[int, tuple[int, str]]
Use = Callable[[SpoolStore], object]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else writes the log, so it need not be looked at again later."""
    monkeypatch.setattr(database, "_LOG_LOOK_S", 0)
    caplog.set_level(logging.CRITICAL)


def opened(path: Path, damage: str | None = None, *, synchronised: bool = True) -> SpoolStore:
    clock = FakeClock(wall_ms=NOON_MS + 60_000, synchronised=synchronised)
    return SpoolStore(path, SpoolOptions(recover=True), clock, damage)


def made(path: Path) -> None:
    with closing(opened(path)) as store:
        append(store, "roof", *NUMBERS)
        store.change(lambda c: c.execute("UPDATE reading SET clock = 'server'"))


def offered(store: SpoolStore) -> Sent:
    """What an uploader would send, by number; it asks for these things with each batch."""
    sent: Sent = {}
    for device_id in store.devices():
        store.last_delivered(device_id)
        sent |= {e.seq: (e.ts_ms, e.to_json()) for e in store.offer(device_id, 1_000, Lane.FRESH)}
    return sent


def used(path: Path, use: Use) -> tuple[Any, bool]:
    """Use a spool as the daemon does: what a call finds, is said to the next opening; and whether it was."""
    try:
        with closing(opened(path)) as store:
            return use(store), store.recovery is not None
    except SpoolCorruptError as error:
        damage = str(error)
    with closing(opened(path, damage)) as store:
        result = use(store)
        assert store.recovery is not None
        assert Path(store.recovery.set_aside).exists()
        assert store.faults() == []
        return result, True


def as_accepted(seq: int, clock: str = ',"clock_source":"server"') -> tuple[int, str]:
    return DATES[seq], (
        f'{{"device_id":"roof","ts":"2026-06-01T12:00:{5 * seq:02}.000Z"{clock},"pv_power_w":{seq}}}'
    )


def is_whole(sent: Sent, *, may_miss: bool = True) -> bool:
    """Whether all is sent as it was accepted, but for what was hit: its clock may be lost, or all of it."""
    others = {seq: as_accepted(seq) for seq in NUMBERS if seq != HIT}
    hit = sent.pop(HIT, None)
    return sent == others and (hit in {as_accepted(HIT), as_accepted(HIT, "")} or (may_miss and hit is None))


def altered(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


CHANGES: Final = [
    *(("ts", value) for value in ("1.5", "'x'", "x'0102'", str(-(2**46)), str(2**50))),
    *(("boot_ms", value) for value in ("1.5", "'x'", "x'0102'")),
    *(("clock", value) for value in ("CAST(clock AS BLOB)", "NULL")),
    *(("content", value) for value in ("7", "1.5", "CAST(content AS TEXT)")),
]


@pytest.mark.parametrize(("column", "value"), CHANGES)
def test_a_value_of_another_type_holds_up_no_other_reading(path: Path, column: str, value: str) -> None:
    made(path)
    altered(path, f"UPDATE reading SET {column} = {value} WHERE seq = {HIT}")
    sent, _ = used(path, offered)
    assert is_whole(sent)
    with closing(opened(path)) as store:
        assert is_whole(offered(store))
        records, _ = used(path, lambda store: store.records(0, 100))
    assert {record.entry.seq for record in records} >= set(NUMBERS) - {HIT}


@pytest.mark.parametrize("value", ["1.5", "'x'", "x'0102'", str(-(2**46))])
@pytest.mark.parametrize("column", ["offered", "at", "code", "reason"])
def test_where_a_reading_stands_may_be_of_another_type(path: Path, column: str, value: str) -> None:
    made(path)
    altered(path, f"UPDATE standing SET {column} = {value} WHERE seq = {HIT}")
    records, _ = used(path, lambda store: store.records(0, 100))
    assert [record.entry.seq for record in records] == [*NUMBERS]
    sent, _ = used(path, offered)
    assert is_whole(sent, may_miss=False)


USES: Final[dict[str, Use]] = {
    "append": lambda store: append(store, "roof", 8),
    "counts": lambda store: store.counts("roof"),
    "clock": SpoolStore.clock,
    "last delivered": lambda store: store.last_delivered("roof"),
    "last new": lambda store: [entry.to_json() for entry in store.last_new("roof", 9)],
    "release": SpoolStore.release,
    "records": lambda store: store.records(0, 100),
}


@pytest.mark.parametrize("value", ["1500000000000000.5", "x'0102'"])
@pytest.mark.parametrize(
    "place",
    [
        "reading SET ts = {} WHERE seq = 1",
        "reading SET ts = {} WHERE seq = 5",
        "reading SET ts = {} WHERE seq = 9",
        "reading SET boot_ms = {} WHERE seq = 9",
        "reading SET boot = 77 WHERE seq = 9",
        "answered SET ts = {}",
        "device SET floor_ts = {}",
    ],
)
@pytest.mark.parametrize("what", USES)
def test_whatever_is_asked_a_wrong_type_is_found_and_gone(
    path: Path, what: str, place: str, value: str
) -> None:
    with closing(opened(path)) as store:
        append(store, "roof", *NUMBERS)
        store.change(lambda c: c.execute("UPDATE standing SET state = 5, at = 1 WHERE seq = 1"))
        store.change(lambda c: c.execute(f"INSERT INTO answered VALUES (1, 1, {NOON_MS})"))
    with closing(opened(path, synchronised=False)) as store:
        for seq in (8, 9, 10):
            store.append("roof", NOON_MS + 5_000 * seq, "{}", boot=None, ts_is_final=False)
    altered(path, "UPDATE " + place.format(value))
    used(path, USES[what])


def header_at(content: bytes) -> range:
    """Where the header of the record that was hit is: before its columns, of 6, 3 and 6 bytes."""
    begin = content.index(pack(f'{{"pv_power_w":{HIT}}}')) - 6 - 3 - 6 - 8
    assert content[begin : begin + 4] == bytes([8, 0, 9, 5])  # its length, a NULL, a 1, six bytes
    return range(begin, begin + 8)


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_of_a_header_holds_up_or_alters_another_reading(path: Path, bit: int) -> None:
    made(path)
    whole = path.read_bytes()
    for at in header_at(whole):
        for old in path.parent.iterdir():
            old.unlink()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        sent, _ = used(path, offered)
        assert is_whole(sent), f"byte {at - header_at(whole)[0]}"
        records, _ = used(path, lambda store: store.records(0, 100))
        assert {record.entry.seq for record in records} >= set(NUMBERS) - {HIT}


# --- what waits for a date --------------------------------------------------------------------------------

WRONG_CLOCK_MS: Final = NOON_MS - 40 * 86_400_000


def clock_of(boot: str, *, synchronised: bool) -> FakeClock:
    wall_ms = NOON_MS + 60_000 if synchronised else WRONG_CLOCK_MS
    return FakeClock(wall_ms=wall_ms, boot_ms=5_000, boot_id=boot, synchronised=synchronised)


def grown(path: Path, clock: FakeClock, count: int) -> None:
    """Append so many readings, one every five seconds."""
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock)) as store:
        for _ in range(count):
            clock.pass_s(5)
            store.append("roof", clock.wall_ms, '{"pv_power_w":1}', boot=None, ts_is_final=False)


def recovered_states(path: Path, clock: FakeClock) -> dict[int, SpoolState]:
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock, "as a test says")) as store:
        assert store.recovery is not None
        assert store.faults() == []
        return {record.entry.seq: record.entry.state for record in store.records(0, 100)}


@pytest.mark.parametrize("lost", [1, 4, 7])
def test_what_waits_for_a_date_waits_on_where_damage_took_that_it_does(path: Path, lost: int) -> None:
    """Sent with the date its clock gave it, it would be there under that date for good."""
    clock = clock_of("boot-1", synchronised=False)
    grown(path, clock, 7)
    altered(path, f"UPDATE standing SET offered = 1.5 WHERE seq = {lost}")
    assert set(recovered_states(path, clock).values()) == {SpoolState.WAITING}
    right_ms = NOON_MS + 3_600_000
    clock.wall_ms, clock.synchronised = right_ms, True
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock)) as store:
        store.release()
        dates = {entry.seq: entry.ts_ms for entry in store.offer("roof", 99, Lane.FRESH)}
    assert dates == {seq: right_ms - 5_000 * (7 - seq) for seq in range(1, 8)}


@pytest.mark.parametrize("lost", [2, 5])
def test_what_has_its_date_is_offered_with_it_though_others_wait(path: Path, lost: int) -> None:
    """In an earlier boot, and in the part of this one in which the clock was right still."""
    clock = clock_of("boot-1", synchronised=True)
    grown(path, clock, 3)
    clock.reboot("boot-2", off_s=60)
    grown(path, clock, 3)
    clock.synchronised = False
    grown(path, clock, 3)
    with closing(sqlite3.connect(path)) as connection:
        (date,) = connection.execute("SELECT ts FROM reading WHERE seq = ?", (lost,)).fetchone()
    altered(path, f"UPDATE standing SET offered = 1.5 WHERE seq = {lost}")
    states = recovered_states(path, clock)
    assert [seq for seq, state in states.items() if state is SpoolState.WAITING] == [7, 8, 9]
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock)) as store:
        assert (lost, date) in {(entry.seq, entry.ts_ms) for entry in store.offer("roof", 99, Lane.FRESH)}


@pytest.mark.parametrize("clock_source", ["NULL", "'server'"])
def test_what_was_dated_and_sent_before_the_clock_was_set_keeps_its_date(
    path: Path, clock_source: str
) -> None:
    """Damage takes where all dated readings of the boot stood; dated anew they would be there twice."""
    clock = clock_of("boot-1", synchronised=True)
    grown(path, clock, 3)
    clock.synchronised = False
    clock.wall_ms -= 240_000 if clock_source == "NULL" else 0  # set back
    grown(path, clock, 3)
    altered(path, f"UPDATE reading SET clock = {clock_source} WHERE seq <= 3")
    altered(path, "UPDATE standing SET offered = 1.5 WHERE seq <= 3")
    states = recovered_states(path, clock)
    assert [seq for seq, state in states.items() if state is SpoolState.WAITING] == [4, 5, 6]


def test_what_may_have_waited_before_the_clock_was_set_is_not_offered(path: Path) -> None:
    """The clock of a board without a battery is set by hand: before and after it nobody vouches for it."""
    clock = clock_of("boot-1", synchronised=False)
    grown(path, clock, 3)
    clock.wall_ms += 3_600_000
    grown(path, clock, 3)
    altered(path, "UPDATE standing SET offered = 1.5 WHERE seq <= 3")
    states = recovered_states(path, clock)
    assert [states[seq] for seq in (1, 2, 3)] == [SpoolState.CONFLICT] * 3
    assert [states[seq] for seq in (4, 5, 6)] == [SpoolState.WAITING] * 3


def dated(store: SpoolStore) -> None:
    while store.release() is None:
        pass


@pytest.mark.parametrize(("offset", "bit"), [(4, 0), (9, 2), (9, 3)])
def test_a_wrong_key_does_not_keep_readings_from_their_dates(path: Path, offset: int, bit: int) -> None:
    """Where a reading stands is found by its neighbours then, and not by its key: nothing would get on."""
    clock = clock_of("boot-1", synchronised=False)
    grown(path, clock, 120)
    content = bytearray(path.read_bytes())
    at = content.index(bytes([9, 8, 9, 9, 1, 8, 0, 0, 0, 4]))  # of reading 4: lengths, types, the number
    content[at + offset] ^= 1 << bit
    path.write_bytes(content)
    clock.wall_ms, clock.synchronised = NOON_MS, True
    with (
        closing(SpoolStore(path, SpoolOptions(recover=True, check=False), clock)) as store,
        pytest.raises(SpoolCorruptError, match="is damaged") as caught,
    ):
        dated(store)
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock, str(caught.value))) as store:
        assert store.release()
        assert store.counts().waiting == 0
        assert store.faults() == []


@pytest.mark.parametrize("change", ["boot_ms = 1.5", "boot_ms = x'0102'", "boot = NULL", "boot = 'x'"])
def test_a_reading_that_has_its_date_needs_no_stamp(path: Path, change: str) -> None:
    made(path)
    stamp_lost(path, change, HIT)
    with closing(opened(path, "as a test says")) as store:
        assert store.recovery is not None
        assert (store.recovery.saved, store.recovery.lost) == (len(NUMBERS), 0)
        assert is_whole(offered(store), may_miss=False)
        assert store.faults() == []
    with closing(opened(path, "as a test says, again")) as store:
        assert is_whole(offered(store), may_miss=False)


def stamp_lost(path: Path, change: str, seq: int) -> None:
    loose = "UPDATE sqlite_schema SET sql = replace(sql, 'boot INTEGER NOT NULL', 'boot')"
    altered(path, "PRAGMA writable_schema = ON", f"{loose} WHERE name = 'reading'")
    altered(path, f"UPDATE reading SET {change} WHERE seq = {seq}")


@pytest.mark.parametrize("lost", [1, 4, 7])
def test_one_that_waits_for_its_date_is_kept_and_not_sent_without_a_stamp(path: Path, lost: int) -> None:
    clock = clock_of("boot-1", synchronised=False)
    grown(path, clock, 7)
    stamp_lost(path, "boot_ms = 1.5", lost)
    states = recovered_states(path, clock)
    assert [seq for seq, state in states.items() if state is not SpoolState.WAITING] == [lost]
    assert states[lost] is SpoolState.CONFLICT
    clock.wall_ms, clock.synchronised = NOON_MS, True
    with closing(SpoolStore(path, SpoolOptions(recover=True), clock)) as store:
        store.release()
        dates = {entry.seq: entry.ts_ms for entry in store.offer("roof", 99, Lane.FRESH)}
    assert dates == {seq: NOON_MS - 5_000 * (7 - seq) for seq in range(1, 8) if seq != lost}
