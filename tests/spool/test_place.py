"""An open spool looks at its folder only, as long as nothing changes there; whatever changes is seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool import SpoolOptions, SystemClock, place as module
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, until_quiet

_SECOND = 10**9


@pytest.fixture
def store(path: Path) -> Iterator[SpoolStore]:
    with closing(SpoolStore(path, SpoolOptions(), SystemClock())) as opened:
        append(opened, 0)
        yield opened


def append(store: SpoolStore, number: int) -> None:
    store.append("inv", NOON_MS + 5_000 * number, "{}", boot=None, ts_is_final=True)


class Times:
    """The folder's time, and the clock's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changed_ns = self.now_ns = 1_000 * _SECOND + 1
        monkeypatch.setattr(module, "_os_stat", self._stat)
        monkeypatch.setattr(module, "time", SimpleNamespace(time_ns=lambda: self.now_ns))
        self.folder = module._Folder("folder")

    def _stat(self, _name: str) -> SimpleNamespace:
        return SimpleNamespace(st_mtime_ns=self.changed_ns, st_ctime_ns=self.changed_ns, st_ino=1, st_dev=1)

    def is_trusted(self, age_ns: int) -> bool:
        self.now_ns = self.changed_ns + age_ns
        self.folder.see(self.folder.look())
        return self.folder.is_as_seen()


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def test_a_folder_is_trusted_only_when_another_change_would_have_another_time(times: Times) -> None:
    assert not times.is_trusted(_SECOND // 100)
    assert not times.is_trusted(-_SECOND)  # the clock was set back
    assert times.is_trusted(_SECOND // 10)
    times.changed_ns += 1
    assert not times.folder.is_as_seen()


def test_a_folder_on_a_disk_that_knows_no_parts_of_a_second_is_trusted_later(times: Times) -> None:
    times.changed_ns = 1_000 * _SECOND
    assert not times.is_trusted(2 * _SECOND)
    assert times.is_trusted(4 * _SECOND)


def test_while_nothing_changes_only_the_folder_is_looked_at(
    store: SpoolStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_quiet(store)
    asked: list[str] = []

    def stat(name: str) -> os.stat_result:
        asked.append(name)
        return Path(name).stat()

    monkeypatch.setattr(module, "_os_stat", stat)
    append(store, 1)
    assert asked == [str(path.parent)]
    path.with_name("other").touch()
    append(store, 2)
    assert f"{path}-wal" in asked


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_is_replaced_long_after_is_seen_before_the_next_reading(
    store: SpoolStore, path: Path, suffix: str
) -> None:
    until_quiet(store)
    other = path.with_name("other")
    other.touch()
    other.rename(f"{path}{suffix}")
    with pytest.raises(SpoolUnavailableError, match="removed or replaced"):
        append(store, 1)


def test_a_closed_spool_holds_nothing_open(path: Path) -> None:
    for is_daemons in (False, True):
        store = SpoolStore(path, SpoolOptions(recover=is_daemons), SystemClock())
        held = store._database._place._held
        assert os.fstat(held._number)
        number = held._number
        store.close()
        assert held._number < 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
