"""Files of a disk that cannot be read in places."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sungrow_lib.spool.bad_places import BadPlaces, CarefulFile, read_all

PAGES = 200


class Worn:
    """A file that is open; some of its kilobytes are out of reach."""

    def __init__(self, path: Path, content: bytes, bad: set[int]) -> None:
        self._content = content
        self._fd = os.open(path, os.O_RDONLY)
        self._place = 0
        self.bad = bad

    def seek(self, place: int) -> None:
        self._place = place

    def read(self, size: int) -> bytes:
        return self.pread(self._fd, size, self._place)

    def pread(self, _number: int, size: int, place: int) -> bytes:
        if self.bad & set(range(place // 1024, -(-(place + size) // 1024))):
            raise OSError(errno.EIO, "Input/output error")
        return self._content[place : place + size]

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


Wear = Callable[[set[int]], Worn]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"".join(bytes([1 + number % 250]) * 1024 for number in range(PAGES)))
    return path


@pytest.fixture
def wear(path: Path, monkeypatch: pytest.MonkeyPatch) -> Wear:
    def wear(bad: set[int]) -> Worn:
        content = path.read_bytes()
        worn = Worn(path, content, bad)

        def no_read(_: Path) -> bytes:
            return worn.pread(0, PAGES * 1024, 0)

        def open_worn(_: Path, mode: str) -> Worn:
            assert mode == "rb"
            return Worn(path, content, worn.bad)

        monkeypatch.setattr(Path, "read_bytes", no_read)
        monkeypatch.setattr(Path, "open", open_worn)
        monkeypatch.setattr(os, "pread", worn.pread)
        return worn

    return wear


def test_what_can_be_read_is_and_the_rest_is_zeros(path: Path, wear: Wear) -> None:
    content = path.read_bytes()
    wear({3, 4, PAGES - 1})
    found, is_whole = read_all(path)
    assert not is_whole
    assert len(found) == len(content)
    wrong = {place // 1024 for place in range(0, len(found), 1024) if found[place] != content[place]}
    assert wrong == {3, 4, PAGES - 1}
    assert not any(found[3 * 1024 : 5 * 1024])


def test_a_whole_file_is_whole(path: Path) -> None:
    assert read_all(path) == (path.read_bytes(), True)


@pytest.mark.parametrize(("later", "is_settled"), [({5}, True), (set(), False)], ids=["bad", "back"])
def test_what_is_only_away_for_a_moment_is_not_given_up(
    path: Path,
    wear: Wear,
    later: set[int],
    is_settled: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    worn = wear({5})
    file = CarefulFile(path)
    assert not any(file.at(5 * 1024, 1024))
    assert any(file.at(6 * 1024, 1024))
    worn.bad = later
    if is_settled:
        file.require_settled()
    else:
        with pytest.raises(OSError, match="Input/output error"):
            file.require_settled()
    file.close()


def test_a_disk_that_is_gone_is_not_given_up(path: Path, wear: Wear) -> None:
    wear(set(range(PAGES)))
    file = CarefulFile(path)
    file.at(0, 1024)
    with pytest.raises(OSError, match="Input/output error"):
        file.require_settled()
    assert not BadPlaces(path).are_behind(read_error())
    file.close()


def test_it_is_told_from_other_errors_and_not_looked_for_again_and_again(path: Path, wear: Wear) -> None:
    worn = wear({150})
    places = BadPlaces(path.with_name("none"), path)
    assert not places.are_behind(None)
    assert not places.are_behind(OSError(errno.EIO, ""))
    assert not places.are_behind(read_error(sqlite3.SQLITE_IOERR_WRITE))
    assert places.are_behind(read_error(sqlite3.SQLITE_IOERR_CORRUPTFS))
    assert not places.are_behind(read_error())  # not yet
    worn.bad = set()
    assert not BadPlaces(path).are_behind(read_error())


def read_error(code: int = sqlite3.SQLITE_IOERR_READ) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error
