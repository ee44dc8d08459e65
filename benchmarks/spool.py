"""The spool: one durable commit per reading, against a bare `sqlite3` insert with the same settings."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.measure import Figure, compare
from sungrow_lib import Normalizer, RegisterWords, SpoolOptions, living_inverter
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock

_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
_READINGS = 200


def run() -> Iterator[Figure]:
    """Yield the figures."""
    words = RegisterWords(living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1, start=_NOW).words())
    sample = Normalizer("roof").normalize(words, ts=_NOW)
    content = sample.model_dump_json(exclude_none=True, exclude={"device_id", "ts"})
    with tempfile.TemporaryDirectory() as folder:
        ours = _ours(Path(folder) / "spool.sqlite", content)
        bare = _bare(Path(folder) / "bare.sqlite", content)
        fields = len(SungrowSample.model_fields)
        yield compare(
            f"append {len(content)} B of {fields} fields / bare insert, WAL, FULL", ours, bare, jobs=_READINGS
        )


def _ours(path: Path, content: str) -> Callable[[], None]:
    store = SpoolStore(path, SpoolOptions(), SystemClock())
    clock = [1_780_000_000_000]

    def append() -> None:
        for _ in range(_READINGS):
            clock[0] += 5000
            store.append("roof", clock[0], content, boot=None, ts_is_final=True)

    return append


def _bare(path: Path, content: str) -> Callable[[], None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "CREATE TABLE reading (seq INTEGER PRIMARY KEY, device INTEGER, ts INTEGER, content TEXT)"
    )
    clock = [1_780_000_000_000]

    def insert() -> None:
        for _ in range(_READINGS):
            clock[0] += 5000
            connection.execute(
                "INSERT INTO reading (device, ts, content) VALUES (1, ?, ?)", (clock[0], content)
            )

    return insert
