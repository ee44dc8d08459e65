"""A power cut while a damaged spool is recovered: what was readable before is readable after."""

from __future__ import annotations

import random
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.spool import SpoolOptions
from sungrow_lib.spool.schema import PAGE_BYTES
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
from tests.crash.disk import Disk
from tests.crash.test_power_cut import SEED, SPOOL, cuts, record, recorder

__all__ = ["recorder"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

READINGS: Final = 400
RECOVERING: Final = SpoolOptions(recover=True)
PROGRAM: Final = """
import pathlib, sys, time
from sungrow_lib.spool import SpoolOptions, draft
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
folder = pathlib.Path(sys.argv[1])
draft._SYNC_S = 0.02
#BREAK#
store = SpoolStore(folder / "spool.sqlite", SpoolOptions(recover=True), SystemClock())
with (folder / "said").open("a") as said:
    said.write("recovered\\n")
time.sleep(600)
"""
NO_SYNC: Final = "draft.Draft.sync = lambda self: None"


def damaged_spool(folder: Path) -> set[tuple[int, int, str]]:
    """Make a spool with readings that are nowhere else, and damage it."""
    folder.mkdir()
    with closing(SpoolStore(folder / SPOOL, SpoolOptions(), SystemClock())) as store:
        for number in range(READINGS):
            content = f'{{"pv_power_w":{number},"running_state":"{number * 7919:040x}"}}'
            store.append("inv", 1_780_000_000_000 + number, content, boot=None, ts_is_final=True)
    sound = (folder / SPOOL).read_bytes()
    for page in count(len(sound) // PAGE_BYTES // 2):  # the first from there on that has readings
        damaged = bytearray(sound)
        for lost_page in (0, page):
            damaged[lost_page * PAGE_BYTES : (lost_page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
        trial = folder.with_name(f"trial-{page}")
        trial.mkdir()
        (trial / SPOOL).write_bytes(damaged)
        expected = readings(trial)
        if len(expected) < READINGS:
            break
    (folder / SPOOL).write_bytes(damaged)
    return expected


def readings(folder: Path) -> set[tuple[int, int, str]]:
    """Recover what is there."""
    with closing(SpoolStore(folder / SPOOL, RECOVERING, SystemClock())) as store:
        assert store.faults() == []
        return {(r.entry.seq, r.entry.ts_ms, r.entry.content) for r in store.records(0, 10_000)}


def lost(program: str, recorder: Path, tmp_path: Path) -> list[int]:
    """Return how many readings each of the cuts has cost."""
    folder = tmp_path / "disk"
    expected = damaged_spool(folder)
    assert READINGS - 20 < len(expected) < READINGS
    start = Disk(folder)
    changes = record(program, recorder, folder, tmp_path / "listing", lines=1)
    after = [readings(target) for _, target in cuts(folder, changes, start, random.Random(SEED))]
    return [len(expected - found) for found in after if found != expected]


def test_a_recovery_survives_a_power_cut_at_any_moment(recorder: Path, tmp_path: Path) -> None:
    assert lost(PROGRAM, recorder, tmp_path) == []


def test_a_recovery_that_does_not_sync_is_caught(recorder: Path, tmp_path: Path) -> None:
    assert lost(PROGRAM.replace("#BREAK#", NO_SYNC), recorder, tmp_path)
