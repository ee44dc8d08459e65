"""What the daemon does to stay small."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOW = """
import gc, weakref
from reference_edge.memory import stay_small


class Task:
    def __init__(self):
        self.itself = self


def look(times):
    for _ in range(times):
        [[] for _ in range(300)]  # so many new objects make Python look at them


stay_small()
gc.set_threshold(100, 5, 5)  # sooner, so that few objects are enough
under_way = [Task() for _ in range(1000)]
gone = weakref.ref(under_way[0])
look(20)  # they are old now
print(gone() is None)
under_way.clear()
look(60)
print(gone() is None)
"""
"""Objects that refer to themselves are old when they become garbage, as those of a slow request are."""


def test_garbage_does_not_wait_until_it_is_much_against_what_stays_for_good() -> None:
    run = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == ["False", "True"]


LEFT = """
from pathlib import Path
from reference_edge.memory import give_back, stay_small


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])


stay_small()
few = [bytes(2000) for _ in range(10_000)][::100]  # one here and there is in use yet
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(
    not (hasattr(ctypes.CDLL(None), "malloc_trim") and Path("/proc/self/statm").exists()),
    reason="needs Linux with GNU's library",
)
def test_pages_between_what_stays_go_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(run.stdout) > 1000
