"""What the daemon does all day makes no new names of files.

Python keeps the parts of paths in a table of names. One that comes and goes takes a place there each time;
when all are taken the table is made anew, twice as large: half a megabyte after an hour or a day.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reference_edge.health import HealthReport
from reference_edge.survey import Survey
from sungrow_lib.spool import SpoolOptions
from sungrow_lib.spool.returning import found_aside
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
from sungrow_lib.upload.status import StatusBoard


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names that Python was told to keep since the test last forgot them."""
    told: set[str] = set()
    keep = sys.intern

    def listening(name: str) -> str:
        told.add(name)
        return keep(name)

    monkeypatch.setattr(sys, "intern", listening)
    return told


def test_health(tmp_path: Path, names: set[str]) -> None:
    path = tmp_path / "health.json"
    health = HealthReport(path, {}, Survey(tmp_path), StatusBoard().snapshot, lambda: 0)
    health._replace({})
    names.clear()
    health._replace({})
    assert names <= set(path.parts)


def test_looks_at_the_spool(tmp_path: Path, names: set[str]) -> None:
    path = tmp_path / "spool.sqlite"
    store = SpoolStore(path, SpoolOptions(), SystemClock())
    names.clear()
    assert store.counts().bytes == sum(file.stat().st_size for file in (path, Path(f"{path}-wal")))
    names.clear()
    store.counts()
    assert found_aside(path) == []
    assert names == set()
    store.close()
