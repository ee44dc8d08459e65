"""An open spool is removed, replaced, overwritten, or parted from its log: nothing accepted is lost."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from sungrow_lib.errors import SpoolCorruptError, SpoolUnavailableError
from sungrow_lib.spool import (
    DurableSpool,
    Lane,
    Settlement,
    SpoolOptions,
    SystemClock,
    place as module,
    returning,
    taking_in,
)
from sungrow_lib.spool.database import Database
from sungrow_lib.spool.returning import found_aside
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON, NOON_MS, reading, until_quiet

pytestmark = pytest.mark.anyio
OPTIONS = SpoolOptions(recover=True)
FIRST, MORE = 40, 10


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    monkeypatch.setattr(taking_in, "_SETTLED_S", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "spool.db"


@pytest.fixture
def store(path: Path) -> Iterator[SpoolStore]:
    opened = SpoolStore(path, OPTIONS, SystemClock())
    append(opened, FIRST)
    opened.settle("inv", Settlement(delivered=range(1, 11)))
    yield opened
    opened.close()


def append(store: SpoolStore, count: int, *, before: int = 0) -> None:
    for number in range(before, before + count):
        content = f'{{"pv_power_w":{number}}}'
        store.append("inv", NOON_MS + 5_000 * number, content, boot=None, ts_is_final=True)


def moments(path: Path) -> list[int]:
    """Read what a program finds that starts now: numbers of the readings there, undelivered or not."""
    found = SpoolStore(path, SpoolOptions(), SystemClock())
    try:
        assert found.faults() == []
        return [(record.entry.ts_ms - NOON_MS) // 5_000 for record in found.records(0, 100_000)]
    finally:
        found.close()


def as_killed(path: Path) -> list[int]:
    """Read what a kill leaves: what is under the file's name and those of its companions, nothing else."""
    copy = path.with_name("killed")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copy(f"{path}{suffix}", copy / f"{path.name}{suffix}")
    return moments(copy / path.name)


def remove(path: Path) -> None:
    path.unlink()


def remove_all(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def remove_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def remove_index(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def replace_by_text(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("no spool")
    other.rename(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_log(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"no log" * 1_000)
    other.rename(f"{path}-wal")


@pytest.mark.parametrize("is_quiet", [False, True], ids=["at_once", "long_after"])
@pytest.mark.parametrize(
    "happens",
    [
        remove,
        remove_all,
        move,
        remove_folder,
        move_folder,
        remove_log,
        remove_index,
        replace_by_text,
        replace_by_folder,
        replace_log,
    ],
    ids=lambda happens: happens.__name__,
)
def test_what_was_accepted_before_and_after_is_there_at_the_next_start(
    store: SpoolStore, path: Path, happens: Callable[[Path], None], *, is_quiet: bool
) -> None:
    if is_quiet:
        until_quiet(store)
    happens(path)
    with suppress(SpoolUnavailableError):  # the first look
        store.keep_place()
    append(store, MORE, before=FIRST)
    assert as_killed(path) == list(range(FIRST + MORE))
    assert [entry.seq for entry in store.offer("inv", 100, Lane.FRESH)] == list(range(11, 51))
    store.close()
    assert moments(path) == list(range(FIRST + MORE))


@pytest.mark.parametrize("moment", ["folded", "closed", "opened"])
@pytest.mark.parametrize("closes", [False, True], ids=["append", "close"])
def test_who_deletes_the_log_first_may_come_to_the_file_at_any_moment(
    store: SpoolStore, path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, *, closes: bool
) -> None:
    owner, name = {
        "folded": (returning, "fold"),
        "closed": (Database, "give_up"),
        "opened": (Database, "_connect"),
    }[moment]
    left = [Path(f"{path}-shm"), path]
    original = getattr(owner, name)

    def raced(*arguments: object) -> object:
        done = original(*arguments)
        while left:
            left.pop().unlink(missing_ok=True)
        return done

    monkeypatch.setattr(owner, name, raced)
    remove_log(path)
    if not closes:
        with suppress(SpoolUnavailableError):
            store.keep_place()
        append(store, MORE, before=FIRST)
        assert as_killed(path) == list(range(FIRST + MORE))
    store.close()
    assert left == []
    assert moments(path) == list(range(FIRST if closes else FIRST + MORE))
    assert not path.with_name(f"{path.name}.returning").exists()


def test_a_file_deleted_while_it_is_opened_is_back_though_opening_fails(
    store: SpoolStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Database) -> None:
        monkeypatch.undo()
        path.unlink()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Database, "_note_files", fails)
    remove_log(path)
    with pytest.raises(SpoolUnavailableError):
        store.keep_place()
    append(store, MORE, before=FIRST)
    assert as_killed(path) == list(range(FIRST + MORE))


def test_a_kill_while_the_file_has_its_second_name_leaves_it_its_log(store: SpoolStore, path: Path) -> None:
    append(store, MORE, before=FIRST)
    copy = path.with_name("killed")
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", copy / f"{path.name}{suffix}")
    os.link(copy / path.name, copy / f"{path.name}.returning")
    found = SpoolStore(copy / path.name, OPTIONS, SystemClock())
    assert found.counts().accepted == FIRST + MORE
    found.close()
    assert {file.name for file in copy.iterdir()} == {path.name}


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def overwrite_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def overwrite_with_text(path: Path) -> None:
    path.write_text("no spool at all\n" * 2_000)


def cut_log(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"")


def overwrite_with_another(path: Path) -> None:
    shutil.copy(another(path.with_name("another")), path)


def overwrite_with_earlier(path: Path) -> None:
    shutil.copy(path.with_name("earlier"), path)


def another(path: Path, first: int = 1_000, count: int = 30) -> Path:
    """Make a spool of readings later than all others."""
    path.mkdir()
    made = SpoolStore(path / "spool.db", SpoolOptions(), SystemClock())
    append(made, count, before=first)
    made.close()
    return path / "spool.db"


@pytest.mark.parametrize("folded", [False, True], ids=["log", "no log"])
@pytest.mark.parametrize(
    "happens",
    [
        truncate,
        overwrite_with_zeros,
        overwrite_with_text,
        cut_log,
        overwrite_with_another,
        overwrite_with_earlier,
    ],
    ids=lambda happens: happens.__name__,
)
def test_a_file_that_is_overwritten_is_noticed_and_what_is_in_memory_saves_it(
    store: SpoolStore,
    path: Path,
    happens: Callable[[Path], None],
    folded: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    store._database.fold_log()
    shutil.copy(path, path.with_name("earlier"))
    append(store, MORE, before=FIRST)
    if folded:
        store._database.fold_log()
    happens(path)
    append(store, MORE, before=FIRST + MORE)
    assert as_killed(path) == list(range(FIRST + 2 * MORE))


@pytest.mark.parametrize(
    "happens",
    [truncate, overwrite_with_zeros, overwrite_with_text, overwrite_with_another],
    ids=lambda happens: happens.__name__,
)
def test_a_large_file_that_is_overwritten_is_damage_and_neither_it_nor_its_log_is_touched(
    path: Path, happens: Callable[[Path], None]
) -> None:
    store = SpoolStore(path, OPTIONS, SystemClock())
    append(store, 8_000)  # more than memory keeps
    store._database.fold_log()
    append(store, MORE, before=8_000)
    happens(path)
    left = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    for _ in range(2):
        with pytest.raises(SpoolCorruptError, match="overwritten while in use"):
            append(store, 1, before=9_000)
    store.close()
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == left
    again = SpoolStore(path, OPTIONS, SystemClock(), "it was overwritten")
    found = {(record.entry.ts_ms - NOON_MS) // 5_000 for record in again.records(0, 100_000)}
    again.close()
    assert found >= set(range(8_000, 8_000 + MORE))


def test_a_log_that_is_cut_is_damage_and_no_failing_disk(path: Path) -> None:
    """What stood there is asked for in vain, which SQLite calls an I/O error."""
    store, draw = SpoolStore(path, OPTIONS, SystemClock()), random.Random(1)
    for number in range(1_500):  # more than memory keeps, all of it in the log
        content = f'{{"running_state":"{draw.randbytes(400).hex()}"}}'
        store.append("inv", NOON_MS + 5_000 * number, content, boot=None, ts_is_final=True)
    log = Path(f"{path}-wal")
    os.truncate(log, log.stat().st_size // 3)
    for _ in range(2):
        with pytest.raises(SpoolCorruptError, match="overwritten while in use"):
            append(store, 1, before=2_000)
    store.close()
    again = SpoolStore(path, OPTIONS, SystemClock(), "its log was cut")
    append(again, 1, before=2_000)
    found = {(record.entry.ts_ms - NOON_MS) // 5_000 for record in again.records(0, 100_000)}
    again.close()
    assert found >= {*range(300), 2_000}


def test_another_program_that_folds_the_log_changes_nothing(store: SpoolStore, path: Path) -> None:
    other = SpoolStore(path, SpoolOptions(), SystemClock())
    other.requeue([1])
    other._database.fold_log()
    other.close()
    append(store, MORE, before=FIRST)
    assert not list(path.parent.glob("*replaced*"))
    assert as_killed(path) == list(range(FIRST + MORE))


def test_a_spool_that_does_not_stay_says_so(path: Path) -> None:
    store = SpoolStore(path, SpoolOptions(), SystemClock())
    append(store, 1)
    path.unlink()
    with pytest.raises(SpoolUnavailableError, match="removed or replaced"):
        append(store, 1, before=1)
    store.close()
    assert not path.exists()


def test_what_is_removed_during_a_commit_is_put_back_before_it_is_called_accepted(
    store: SpoolStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = store._add

    def add_and_lose(*args: object, **options: object) -> object:
        entry = add(*args, **options)  # type: ignore[arg-type]  # handed on as they came
        remove_log(path)
        replace_by_text(path)  # which needs no second look
        return entry

    store._database.fold_log()
    with monkeypatch.context() as patch:
        patch.setattr(store, "_add", add_and_lose)
        append(store, 1, before=FIRST)
    assert as_killed(path) == list(range(FIRST + 1))


def test_while_it_cannot_go_back_readings_are_refused_and_then_it_does(
    store: SpoolStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.0)
    folder, moved = path.parent, path.parent.with_name("moved")
    folder.rename(moved)
    folder.write_text("a file where the folder was")
    for _ in range(3):
        with pytest.raises(SpoolUnavailableError):
            append(store, 1, before=FIRST)
    folder.unlink()
    append(store, MORE, before=FIRST)
    assert as_killed(path) == list(range(FIRST + MORE))
    assert path.parent.stat().st_mode == moved.stat().st_mode


def test_it_goes_back_at_the_latest_when_it_is_closed(store: SpoolStore, path: Path) -> None:
    path.unlink()
    store.close()
    assert moments(path) == list(range(FIRST))


@pytest.mark.parametrize("happens", [remove_all, replace_by_text], ids=lambda h: h.__name__)
def test_what_another_program_has_the_place_of_goes_beside_it(
    store: SpoolStore, path: Path, happens: Callable[[Path], None]
) -> None:
    store.guard_place(lambda: False)
    append(store, MORE, before=FIRST)
    happens(path)
    append(store, MORE, before=FIRST + MORE)
    store.close()
    [aside] = path.parent.glob("*replaced*")
    assert moments(aside) == list(range(FIRST + 2 * MORE))
    assert not path.exists() or path.read_text() == "no spool"


@pytest.mark.parametrize(
    "happens", [remove, replace_by_text, overwrite_with_another], ids=lambda h: h.__name__
)
def test_a_kill_on_the_way_back_loses_nothing_that_was_written(
    path: Path, happens: Callable[[Path], None]
) -> None:
    """A process of its own ends at the first thing it does in the folder, then at the second, ..."""
    folder = path.parent
    for steps in range(1, 100):
        path = folder / f"killed-{steps}" / "spool.db"
        path.parent.mkdir()
        child = os.fork()
        if not child:
            be_killed(path, happens, steps)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in {0, KILLED}
        if steps >= FIRST_SYNC:
            SpoolStore(path, OPTIONS, SystemClock()).close()
            assert moments(path) == list(range(FIRST + MORE)), steps
        if status == 0:
            break
    assert steps > FIRST_SYNC + 2


FIRST_SYNC, KILLED = 5, 3
"""Four times it looks for what is left of an earlier attempt; before the copy is written there is none."""


def be_killed(path: Path, happens: Callable[[Path], None], steps: int) -> None:
    """Never returns."""
    with suppress(BaseException):
        store = SpoolStore(path, OPTIONS, SystemClock())
        append(store, FIRST)
        store._database.fold_log()
        shutil.copy(path, path.with_name("earlier"))
        append(store, MORE, before=FIRST)
        happens(path)
        for name in ("unlink", "rename", "link", "replace", "fsync"):
            setattr(os, name, fatal(getattr(os, name)))
        fatal.left = steps
        with suppress(SpoolUnavailableError):
            store.keep_place()
        store.keep_place()
        os._exit(0)
    os._exit(1)


class fatal:  # noqa: N801 - a decorator
    """Lets a function be called so many times, all of them together, and ends the process then."""

    left = 0

    def __init__(self, done: Callable[..., object]) -> None:
        self._done = done

    def __call__(self, *args: object, **options: object) -> object:
        fatal.left -= 1
        if not fatal.left:
            os._exit(KILLED)
        return self._done(*args, **options)


@pytest.mark.parametrize("there", [False, True], ids=["nothing there", "another there"])
def test_of_a_copy_that_was_cut_off_what_is_readable_is_taken_over(
    path: Path,
    there: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    whole = another(path.with_name("whole"), count=300)
    part = path.with_name("spool.db.returning-part")
    part.write_bytes(whole.read_bytes()[:-2_048])
    if there:
        another(path.with_name("there"), 0).rename(path)
    anyio.run(start, path)
    found = moments(path)
    assert set(range(1_000, 1_100)) <= set(found)
    assert not there or set(range(30)) <= set(found)


# --- what is found there ---------------------------------------------------------------------------------


async def start(path: Path) -> None:
    async with DurableSpool.open(path, options=OPTIONS) as spool:
        await spool.take_in_replaced()


async def test_a_spool_that_was_put_there_is_taken_in(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with DurableSpool.open(path, options=OPTIONS) as spool:
        await spool.append(reading(ts=NOON))
        edge_id = spool.identity.edge_id
        another(path.with_name("another")).rename(path)
        await spool.keep_place()
        assert spool.identity.edge_id == edge_id
        await spool.take_in_replaced()
        assert (await spool.counts()).undelivered == 31
        [aside] = path.parent.glob("spool.db.replaced-*.done")
        await spool.take_in_replaced()
    assert moments(aside) == list(range(1_000, 1_030))
    assert "what was found in the spool's place is taken in" in caplog.messages


async def test_what_is_damaged_of_it_is_no_damage_of_the_spool(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aside = another(path.with_name("another"))
    with closing(sqlite3.connect(aside)) as connection:
        connection.execute("UPDATE standing SET at = 1.5 WHERE seq = 7")
        connection.commit()
    async with DurableSpool.open(path, options=OPTIONS) as spool:
        await spool.append(reading(ts=NOON))
        aside.rename(path.with_name("spool.db.replaced-20260601T120000Z"))
        await spool.take_in_replaced()
        assert (await spool.counts()).undelivered == 30
    [said] = [record for record in caplog.records if "is taken in" in record.message]
    assert vars(said)["damaged"] == [7]


@pytest.mark.parametrize("content", [b"", b"no spool", b"SQLite format 3\0" + bytes(5_000)])
async def test_what_is_no_spool_is_left_as_it_is(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    aside = path.with_name("spool.db.replaced-20260601T120000Z")
    aside.write_bytes(content)
    await start(path)
    await start(path)
    assert aside.read_bytes() == content
    assert not list(path.parent.glob("*.done"))
    assert sum("is left to you" in message for message in caplog.messages) == 1


async def test_what_may_still_be_written_is_left_for_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_in, "_SETTLED_S", 1_000.0)
    aside = path.with_name("spool.db.replaced-20260601T120000Z")
    aside.write_bytes(b"")
    await start(path)
    assert aside.exists()


async def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "spool[1].db"
    another(tmp_path / "another").rename(path.with_name(f"{path.name}.replaced-20260601T120000Z"))
    async with DurableSpool.open(path, options=OPTIONS) as spool:
        await spool.take_in_replaced()
        assert (await spool.counts()).undelivered == 30


async def test_a_folder_that_cannot_be_looked_into_is_looked_into_later(path: Path) -> None:
    async with DurableSpool.open(path, options=OPTIONS) as spool:
        await spool.take_in_replaced()
    assert found_aside(path.with_name("gone") / "spool.db") == []


def test_a_wrong_bit_in_a_name_of_the_spool_does_not_keep_it_from_its_place(
    store: SpoolStore, path: Path
) -> None:
    with store._database.write() as connection:
        connection.execute("UPDATE meta SET value = CAST(x'ff' AS TEXT) WHERE key = 'edge_id'")
    path.unlink()
    with suppress(SpoolUnavailableError):  # the first look
        store.keep_place()
    append(store, MORE, before=FIRST)
    store.close()
    with closing(SpoolStore(path, OPTIONS, SystemClock())) as again:
        assert again.counts().accepted == FIRST + MORE


def test_a_copy_whose_tables_have_no_names_any_more_is_no_whole_one(path: Path) -> None:
    whole = another(path.with_name("whole"))
    part = path.with_name("spool.db.returning-part")
    content = whole.read_bytes()
    assert b"triggeragain_insert" in content
    content = content.replace(b"triggeragain_insert", b"triggeragain\xffinsert")
    part.write_bytes(content.replace(b"CREATE TRIGGER again_i", b"CREATE TRIGGEX again_i"))
    anyio.run(start, path)
    assert moments(path) == list(range(1_000, 1_030))


@pytest.mark.parametrize(
    ("error", "is_damage"),
    [
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'value' with text 'ÿ'"), True),
        (sqlite3.OperationalError("an error without a code"), False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), True),
        (sqlite3.DatabaseError("an error without a code"), True),
        (OSError(5, "an error of the disk"), False),
    ],
)
def test_an_error_without_a_code_is_damage_or_none(path: Path, error: Exception, *, is_damage: bool) -> None:
    assert returning._is_damage(error, module.Place(path)) is is_damage
    assert not returning._tells_nothing(error)
