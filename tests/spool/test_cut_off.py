"""A recovery that is cut off between its renamings: what it saved is finished, whatever it says of itself."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sungrow_lib.errors import NotASpoolError, SpoolError
from sungrow_lib.spool import SpoolOptions, SystemClock, database, returning
from sungrow_lib.spool.foreign import is_missing
from sungrow_lib.spool.store import SpoolStore
from tests.spool.test_holding import append, make, opened

NUMBERS = (1, 2, 3)
STEP = 29
"""Bytes of the note between two that are tried here; each of them was tried once."""


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes the log, so it need not be looked at again later."""
    monkeypatch.setattr(database, "_LOG_LOOK_S", 0)


def cut_off(path: Path, at: int, patch: pytest.MonkeyPatch) -> None:
    """Recover a spool that has a log beside it, and end before the renaming of that number."""
    with closing(opened(path)) as store:
        append(store, "roof", *NUMBERS)
        log = Path(f"{path}-wal").read_bytes()
        file = path.read_bytes()
    path.write_bytes(file)
    Path(f"{path}-wal").write_bytes(log)
    cut_off_now(path, at, patch)


def cut_off_now(path: Path, at: int, patch: pytest.MonkeyPatch) -> None:
    rename, done = Path.rename, 0

    def fail(self: Path, target: str | Path) -> Path:
        nonlocal done
        done += 1
        if done > at:
            raise KeyboardInterrupt
        return rename(self, target)

    with patch.context() as context:
        context.setattr(Path, "rename", fail)
        with pytest.raises(KeyboardInterrupt):
            opened(path, damage="as a test says").close()


def contents(store: SpoolStore) -> list[str]:
    assert store.faults() == []
    return [record.entry.content for record in store.records(0, 10) if record.entry.device_id == "roof"]


EXPECTED = [f'{{"pv_power_w":{number}}}' for number in NUMBERS]


@pytest.mark.parametrize("at", [2, 3])
def test_whatever_bit_of_its_note_is_wrong(path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    monkeypatch.chdir(path.parent)
    path = Path(path.name)  # it stands in the note, which with a long one lies on two pages
    cut_off(path, at, monkeypatch)
    left = path.with_name("left")
    path.parent.joinpath("kept").mkdir()
    kept = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    whole = kept["spool.db.recovering"]
    [log] = [content for name, content in kept.items() if name.endswith("-wal")]
    end = whole.index(b'"doubtful"') + len('"doubtful": 0}')
    begin = whole.rindex(b"recovery", 0, end) - 8
    assert end - begin < 250
    left.mkdir()
    for place in range(begin, end, STEP):
        for bit in range(8):
            shutil.rmtree(left)
            left.mkdir()
            wrong = bytearray(whole)
            wrong[place] ^= 1 << bit
            for name, content in kept.items():
                left.joinpath(name).write_bytes(wrong if name.endswith(".recovering") else content)
            with closing(opened(left / path.name)) as store:
                assert contents(store) == EXPECTED, (place - begin, bit)
                assert not list(left.glob("*.recovering"))
                assert log in [file.read_bytes() for file in left.glob("*.damaged-*-wal")]


def test_the_log_goes_to_its_file_and_over_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = path.with_name("spool.db.damaged-20990101T000000Z")
    for name in (other, Path(f"{other}-wal")):
        name.write_bytes(b"as it was")
    cut_off(path, 2, monkeypatch)
    log = Path(f"{path}-wal").read_bytes()
    moved = path.parent / "moved"
    moved.mkdir()
    for file in path.parent.glob("spool.db*"):
        file.rename(moved / file.name)
    with closing(opened(moved / path.name)) as store:
        assert contents(store) == EXPECTED
        assert store.recovery is not None
        aside = Path(store.recovery.set_aside).name
    assert (moved / f"{aside}-wal").read_bytes() == log
    assert (moved / f"{other.name}-wal").read_bytes() == b"as it was"


def test_a_new_spool_in_its_place_costs_nothing_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As an earlier version made one; and what the power cut left before the first renaming is redundant."""
    cut_off(path, 3, monkeypatch)
    saved = path.with_name("spool.db.recovering").read_bytes()
    with closing(opened(path.with_name("other.db"))) as store:
        append(store, "roof", 7)
    path.with_name("other.db").rename(path)
    with closing(opened(path, damage="as a test says, again")) as store:
        assert contents(store) == ['{"pv_power_w":7}']
    [aside] = path.parent.glob("spool.db.recovering-*")
    assert aside.read_bytes() == saved
    assert "what a recovery made is set aside" in caplog.text


@pytest.mark.parametrize("there", ["a spool", "a spool in use", "an empty file"])
def test_what_it_saved_takes_the_place_of_a_spool_without_readings(
    path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """As an earlier version made one; nothing else makes use of what was saved."""
    cut_off(path, 3, monkeypatch)
    if there == "an empty file":
        path.touch()
    else:
        other = path.with_name("other.db")
        with closing(opened(other)):
            logged = Path(f"{other}-wal").read_bytes()
        other.rename(path)
        if there == "a spool in use":
            Path(f"{path}-wal").write_bytes(logged)
    with pytest.raises(SpoolError, match="was cut off; `sungrow-edge run` completes it"):
        SpoolStore(path, SpoolOptions(), SystemClock()).close()
    with closing(opened(path, damage="as a test says, again")) as store:
        assert contents(store) == EXPECTED
    assert len(returning.found_aside(path)) == 1
    assert len(list(path.parent.glob("spool.db.damaged-*Z"))) == 1
    assert not list(path.parent.glob("*.recovering*"))


@pytest.mark.parametrize("is_begun_anew", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_damaged_file_is_called_as_the_note_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, at: int, is_begun_anew: bool
) -> None:
    """Also one without readings, which could be a new one in its place."""
    with closing(opened(path)):
        log = Path(f"{path}-wal").read_bytes()
        file = path.read_bytes()
    path.write_bytes(file)
    Path(f"{path}-wal").write_bytes(log)
    cut_off_now(path, at, monkeypatch)
    if is_begun_anew and not path.exists():
        path.touch()
    with closing(opened(path)) as store:
        assert store.recovery is not None
        aside = Path(store.recovery.set_aside)
    assert aside.read_bytes() == file
    is_new_there = is_begun_anew and at > 1
    assert len(list(path.parent.glob("spool.db.*"))) == 2 + is_new_there
    assert len(returning.found_aside(path)) == is_new_there


def test_what_is_no_spool_is_not_moved_for_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(path, 3, monkeypatch)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (what TEXT)")
    content = path.read_bytes()
    with pytest.raises(NotASpoolError):
        opened(path).close()
    assert path.read_bytes() == content


def test_what_does_not_recover_makes_no_new_spool(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(path, 3, monkeypatch)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert not is_missing(path)
    with pytest.raises(SpoolError, match="was cut off; `sungrow-edge run` completes it"):
        SpoolStore(path, SpoolOptions(), SystemClock()).close()
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_file_that_cannot_be_set_aside_leaves_no_copies(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(path, "roof", count=3)
    rename = Path.rename

    def refuse(self: Path, target: str | Path) -> Path:
        if self == path:
            raise PermissionError(1, "Operation not permitted")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        for _ in range(2):
            with pytest.raises(SpoolError, match="cannot be set aside"):
                opened(path, damage="as a test says").close()
    assert [file.name for file in path.parent.glob("*recovering*")] == []
    with closing(opened(path)) as store:
        assert len(contents(store)) == 3


@pytest.mark.parametrize("is_there", [False, True])
def test_a_copy_on_its_way_back_that_was_being_recovered(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    part = path.with_name("spool.db.returning-part")
    if is_there:
        make(path, "shed", count=1)
    cut_off(part, 3, monkeypatch)
    with closing(opened(path)) as store:
        assert contents(store) == ([] if is_there else EXPECTED)
    assert len(returning.found_aside(path)) == is_there
    assert not list(path.parent.glob("*.recovering"))
